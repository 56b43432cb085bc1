"""Point transforms that know their frames and refuse a wrong product.

A transform maps points *of* `from_frame` *to* `to_frame`: `moving_from_fixed.apply(points_in_fixed)`.
Resampling a moving image onto the fixed grid uses exactly that direction, which is also what ITK stores in
a file. All coordinates are RAS mm.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .errors import FrameMismatchError, InputError
from .itk import LPS_FROM_RAS, grid_from_sitk, lps_matrix, set_sitk_grid
from .volume import Grid

INVERSE_ITERATIONS = 30
INVERSE_TOLERANCE_MM = 1e-3


class Transform:
    """Base. Sub-classes give `apply` and `to_sitk`."""

    def __init__(self, to_frame: str, from_frame: str) -> None:
        self.to_frame, self.from_frame = to_frame, from_frame

    def apply(self, points_ras: np.ndarray) -> np.ndarray:
        """(n, 3) RAS mm in `from_frame` to (n, 3) RAS mm in `to_frame`."""
        raise NotImplementedError

    def to_sitk(self):
        """SimpleITK.Transform of the same point map in LPS."""
        raise NotImplementedError

    def inverse_apply(self, points_ras: np.ndarray) -> np.ndarray:
        """(n, 3) RAS mm in `to_frame` back to `from_frame`, by fixed-point iteration.

        Raises InputError where the iteration doesn't converge (the map folds there).
        """
        target = np.asarray(points_ras, float).reshape(-1, 3)
        guess = target.copy()
        for _ in range(INVERSE_ITERATIONS):
            residual = target - self.apply(guess)
            guess += residual
            if np.abs(residual).max(initial=0.0) < INVERSE_TOLERANCE_MM:
                return guess
        if np.abs(target - self.apply(guess)).max(initial=0.0) > 100 * INVERSE_TOLERANCE_MM:
            raise InputError(f"{self}: can't be inverted here; the deformation folds or is too strong")
        return guess

    def inverse(self) -> Transform:
        """The map the other way round; iterative unless linear (see `inverse_apply`)."""
        return InverseTransform(self)

    def __matmul__(self, other: Transform) -> Transform:
        """`c_from_b @ b_from_a` is `c_from_a`; raises FrameMismatchError when the middle differs."""
        if self.from_frame != other.to_frame:
            raise FrameMismatchError(f"{self} can't follow {other}: the frames in the middle differ")
        if isinstance(self, LinearTransform) and isinstance(other, LinearTransform):
            return LinearTransform(self.matrix @ other.matrix, self.to_frame, other.from_frame)
        return CompositeTransform([*_parts(self), *_parts(other)])

    def displacement_mm(self, grid: Grid) -> np.ndarray:
        """(k, j, i, 3) float32 `apply(x) - x` at the voxels of a grid, RAS mm."""
        out = np.empty((*grid.shape, 3), np.float32)
        for k in range(grid.shape[0]):
            points = grid.cropped_grid((k, 0, 0), (1, *grid.shape[1:])).all_points_ras()[0]
            out[k] = (self.apply(points.reshape(-1, 3)) - points.reshape(-1, 3)).reshape(points.shape)
        return out

    def __repr__(self) -> str:
        return f"{self.to_frame}_from_{self.from_frame}"


class LinearTransform(Transform):
    """A 4x4 matrix (rigid, similarity or affine), RAS mm."""

    def __init__(self, matrix: np.ndarray, to_frame: str, from_frame: str) -> None:
        super().__init__(to_frame, from_frame)
        self.matrix = np.array(matrix, np.float64)
        if self.matrix.shape != (4, 4) or not np.isfinite(self.matrix).all():
            raise InputError(f"{self}: a finite 4x4 matrix is needed")

    @classmethod
    def identity(cls, to_frame: str, from_frame: str) -> LinearTransform:
        return cls(np.eye(4), to_frame, from_frame)

    def apply(self, points_ras: np.ndarray) -> np.ndarray:
        return np.asarray(points_ras, float).reshape(-1, 3) @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def inverse(self) -> LinearTransform:
        return LinearTransform(np.linalg.inv(self.matrix), self.from_frame, self.to_frame)

    def inverse_apply(self, points_ras: np.ndarray) -> np.ndarray:
        return self.inverse().apply(points_ras)

    def to_sitk(self):
        import SimpleITK as sitk

        matrix = lps_matrix(self.matrix)
        transform = sitk.AffineTransform(3)
        transform.SetMatrix(matrix[:3, :3].ravel().tolist())
        transform.SetTranslation(matrix[:3, 3].tolist())
        return transform


class GridTransform(Transform):
    """A displacement field: `apply(x) = x + d(x)`, linear between voxels, zero outside its grid (as ITK).

    Attributes:
        grid: where the vectors are, in `from_frame`.
        displacement: (k, j, i, 3) float32, RAS mm.
    """

    def __init__(self, grid: Grid, displacement: np.ndarray, to_frame: str, from_frame: str) -> None:
        super().__init__(to_frame, from_frame)
        if displacement.shape != (*grid.shape, 3):
            raise InputError(f"{self}: displacement of shape {displacement.shape} on a grid of {grid.shape}")
        self.grid, self.displacement = grid, np.asarray(displacement, np.float32)

    def apply(self, points_ras: np.ndarray) -> np.ndarray:
        from scipy import ndimage

        points = np.asarray(points_ras, float).reshape(-1, 3)
        index = self.grid.indices_kji(points).T
        upper = np.array(self.grid.shape, float)[:, None] - 0.5
        inside = ((index >= -0.5) & (index <= upper)).all(axis=0)
        out = points.copy()
        for axis in range(3):
            out[inside, axis] += ndimage.map_coordinates(self.displacement[..., axis], index[:, inside],
                                                         order=1, mode="nearest")
        return out

    def to_sitk(self):
        import SimpleITK as sitk

        vectors = self.displacement.astype(np.float64) * np.diag(LPS_FROM_RAS)[:3]
        image = set_sitk_grid(sitk.GetImageFromArray(vectors, isVector=True), self.grid)
        return sitk.DisplacementFieldTransform(image)


class CompositeTransform(Transform):
    """A chain, first applied last in the list: `[c_from_b, b_from_a]` is `c_from_a`."""

    def __init__(self, parts: list[Transform]) -> None:
        if not parts:
            raise InputError("a composite transform needs at least one part")
        for left, right in pairwise(parts):
            if left.from_frame != right.to_frame:
                raise FrameMismatchError(f"{left} can't follow {right}: the frames in the middle differ")
        super().__init__(parts[0].to_frame, parts[-1].from_frame)
        self.parts = list(parts)

    def apply(self, points_ras: np.ndarray) -> np.ndarray:
        points = np.asarray(points_ras, float).reshape(-1, 3)
        for part in reversed(self.parts):
            points = part.apply(points)
        return points

    def inverse_apply(self, points_ras: np.ndarray) -> np.ndarray:
        points = np.asarray(points_ras, float).reshape(-1, 3)
        for part in self.parts:
            points = part.inverse_apply(points)
        return points

    def to_sitk(self):
        import SimpleITK as sitk

        return sitk.CompositeTransform([part.to_sitk() for part in self.parts])


class InverseTransform(Transform):
    """Another transform backwards, by fixed-point iteration at the points asked for."""

    def __init__(self, forward: Transform) -> None:
        super().__init__(forward.from_frame, forward.to_frame)
        self.forward = forward

    def apply(self, points_ras: np.ndarray) -> np.ndarray:
        return self.forward.inverse_apply(points_ras)

    def inverse_apply(self, points_ras: np.ndarray) -> np.ndarray:
        return self.forward.apply(points_ras)

    def inverse(self) -> Transform:
        return self.forward

    def to_sitk(self):
        raise InputError(f"{self}: an iterative inverse can't be written; write the forward transform")


def _parts(transform: Transform) -> list[Transform]:
    return transform.parts if isinstance(transform, CompositeTransform) else [transform]


def transform_from_sitk(transform, to_frame: str, from_frame: str) -> Transform:
    """SimpleITK transform (LPS) to ours (RAS).

    Linear kinds, displacement fields and composites of them are taken; anything else (a B-spline) raises
    InputError: sample it on a grid first (`sitk.TransformToDisplacementField`).
    """
    import SimpleITK as sitk

    transform = transform.Downcast() if hasattr(transform, "Downcast") else transform
    if isinstance(transform, sitk.CompositeTransform):
        count = transform.GetNumberOfTransforms()
        names = [to_frame, *[f"{to_frame}~{n}" for n in range(1, count)], from_frame]
        return CompositeTransform([
            transform_from_sitk(transform.GetNthTransform(n), names[n], names[n + 1]) for n in range(count)])
    if isinstance(transform, sitk.DisplacementFieldTransform):
        field = transform.GetDisplacementField()
        vectors = sitk.GetArrayFromImage(field) * np.diag(LPS_FROM_RAS)[:3]
        return GridTransform(grid_from_sitk(field), vectors, to_frame, from_frame)
    if not transform.IsLinear():
        raise InputError(f"{transform.GetName()} is not supported here; sample it to a displacement field")
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([np.array(transform.TransformPoint(tuple(e))) - origin for e in np.eye(3)], axis=1)
    matrix[:3, 3] = origin
    return LinearTransform(lps_matrix(matrix), to_frame, from_frame)
