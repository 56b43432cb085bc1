"""The patient in a CT: which voxels are body, and where its skin is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry import Grid, Mask, RefusedError, Surface, Volume

AIR_HU = -300.0
WORKING_MM = 3.0
SHEET_MM = 4.5
"""Half the thickness of what is taken for a table top, a blanket or a cable."""
SMALLEST_BODY_ML = 200.0
CUT_MM = 6.0
"""Skin nearer to the scan's border than that may be a cut through the body."""


@dataclass(frozen=True, eq=False)
class Skin:
    """The body on a coarse grid, and points on its skin.

    Attributes:
        body: holes (lung, bowel gas) filled; table and blanket removed; cells of about 3 mm.
        points_ras: (n, 3) on the skin, about one a cell; none where the scan cuts the body.
        normals: (n, 3) unit, outward.
        smooth: (k, j, i) the body softened, 0.5 on the skin.
    """

    body: Mask
    points_ras: np.ndarray
    normals: np.ndarray
    smooth: np.ndarray

    def surface(self) -> Surface:
        """Triangles of the skin for display, RAS mm (closed where the scan cuts the body)."""
        return _surface(self.smooth, self.body.grid)

    def inside(self, points_ras: np.ndarray) -> np.ndarray:
        """(n,) whether (n, 3) RAS mm lie in the body."""
        return self.body.sample(points_ras, order=0) > 0.5


def find_skin(ct: Volume) -> Skin:
    """Body and skin of a CT in HU.

    What is denser than -300 HU, without sheets thinner than 9 mm (table top), the largest piece, holes filled slice
    by slice. Arms stay when they touch the trunk, and are another piece when they don't.
    Raises: RefusedError when nothing of 0.2 litres is denser than air, or nothing is air (values that aren't HU).
    """
    from scipy import ndimage

    if min(ct.grid.shape) < 4:
        raise RefusedError(f"{ct.name or 'CT'}: of {ct.grid.shape} voxels is too thin to find skin in; give a volume")
    steps = np.maximum(1, np.floor(WORKING_MM / ct.grid.spacing_kji_mm + 0.25)).astype(int)
    grid = _strided(ct.grid, steps)
    dense = ct.array[:: steps[0], :: steps[1], :: steps[2]] > AIR_HU
    if dense.all():
        raise RefusedError(f"{ct.name or 'CT'}: nothing in it is as thin as air ({AIR_HU:g} HU), so no skin can be "
                           "found; give a CT in HU that reaches beyond the body")
    spacing = grid.spacing_kji_mm
    core = np.asarray(ndimage.binary_opening(np.pad(dense, 3, mode="edge"), _ball(SHEET_MM, spacing)))[3:-3, 3:-3, 3:-3]
    pieces, count = ndimage.label(core)  # type: ignore[misc]
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    if sizes.max() * grid.voxel_volume_ml < SMALLEST_BODY_ML:
        raise RefusedError(f"{ct.name or 'CT'}: no body denser than {AIR_HU:g} HU is in it; "
                           "give a CT in HU of a patient")
    core = pieces == sizes.argmax()
    body = np.asarray(ndimage.binary_propagation(core, mask=_grown(core, spacing) & dense))
    axis = int(np.abs(grid.directions[2, ::-1]).argmax())
    for n in range(body.shape[axis]):
        part = np.moveaxis(body, axis, 0)[n]
        part[...] = ndimage.binary_fill_holes(part)
    return _skin(Mask(body, grid, ct.name), axis)


def _skin(body: Mask, axis: int) -> Skin:
    from scipy import ndimage

    grid, spacing = body.grid, body.grid.spacing_kji_mm
    padded = np.pad(body.array.astype(np.float32), 2, mode="edge")
    smooth = ndimage.gaussian_filter(padded, 3.0 / spacing)[2:-2, 2:-2, 2:-2]
    slopes = np.stack([np.gradient(smooth, spacing[a], axis=a) for a in range(3)], axis=-1)
    edge = body.array & np.logical_not(ndimage.binary_erosion(body.array, border_value=1))
    index = np.argwhere(edge)
    slope = slopes[tuple(index.T)]
    steepness = np.linalg.norm(slope, axis=1)
    room = np.minimum(index, np.array(grid.shape) - 1 - index) * spacing
    keep = (steepness > 0.02) & (np.delete(room, axis, axis=1).min(axis=1) > CUT_MM)
    # at the first and last slice the cut face isn't skin, but the rim of it is
    keep &= (room[:, axis] > 0.0) | (np.abs(slope[:, axis]) < 0.3 * steepness)
    index, slope, steepness = index[keep], slope[keep], steepness[keep]
    outward = -slope / steepness[:, None]
    shift = np.clip((smooth[tuple(index.T)] - 0.5) / steepness, -WORKING_MM, WORKING_MM)
    points = grid.points_ras(index + outward * shift[:, None] / spacing)
    return Skin(body, points, outward @ grid.directions[:, ::-1].T, smooth)


def _strided(grid: Grid, steps: np.ndarray) -> Grid:
    matrix = grid.ras_from_ijk.copy()
    matrix[:3, :3] *= steps[::-1]
    k, j, i = (-(-n // int(s)) for n, s in zip(grid.shape, steps, strict=True))
    return Grid((k, j, i), matrix)


def _ball(radius_mm: float, spacing: np.ndarray) -> np.ndarray:
    reach = np.maximum(1, np.floor(radius_mm / spacing)).astype(int)
    axes = np.ogrid[tuple(slice(-r, r + 1) for r in reach)]
    square = np.asarray(sum((a * s) ** 2 for a, s in zip(axes, spacing, strict=True)))
    return square <= max(radius_mm, spacing.max()) ** 2 + 1e-6


def _grown(core: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    from ..geometry.distance import euclidean_distance_mm

    return euclidean_distance_mm(~core, spacing) <= 1.01 * spacing.max()


def _surface(smooth: np.ndarray, grid: Grid) -> Surface:
    import vtk
    from vtk.util import numpy_support

    padded = np.pad(smooth, 1).astype(np.float32)
    image = vtk.vtkImageData()
    image.SetDimensions(*padded.shape[::-1])
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(padded.ravel(), deep=1))
    cubes = vtk.vtkFlyingEdges3D()
    cubes.SetInputData(image)
    cubes.SetValue(0, 0.5)
    cubes.ComputeNormalsOff()
    cubes.Update()
    data = cubes.GetOutput()
    points = numpy_support.vtk_to_numpy(data.GetPoints().GetData()).astype(float) - 1.0
    triangles = numpy_support.vtk_to_numpy(data.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int64)
    surface = Surface(grid.points_ras(points[:, ::-1]), triangles)
    return surface if surface.volume_ml() >= 0 else Surface(surface.points, surface.triangles[:, ::-1])
