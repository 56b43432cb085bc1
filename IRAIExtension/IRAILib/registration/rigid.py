"""Rigid registration that finds its way from far off."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..geometry import InputError, LinearTransform, Mask, Volume
from ..geometry.itk import lps_matrix, to_sitk
from .inputs import Pair, crop_to, signed_distance_on, smoothed_onto, value_range

COARSE_MM, FINE_MM = 6.0, 3.0
COARSE_STEPS, FINE_STEPS = 60, 80
BINS = 32
MARGIN_MM = 30.0
RIM_MM = 12.0
LEAST_OVERLAP = 0.3


def register_rigid(pair: Pair, exclusion_mm: float | None, seed: int,
                   progress: Callable[[float, str], None], start: np.ndarray | None = None
                   ) -> tuple[LinearTransform, float, float]:
    """The best of several starts, refined.

    Starts: where the headers put the images, mask centroids, centres of mass, centres of the fields of view, and
    shifts along the body; or the (4, 4) `start` alone, from landmarks. Mattes mutual information over the organ's
    surroundings, excluded zones left out on both sides.
    Returns: moving_from_fixed; mutual information (nats, larger is better) at the headers' place and at the end.
    Raises InputError when the images can't be brought to overlap.
    """
    coarse = _Level(pair, COARSE_MM, exclusion_mm, seed)
    found = []
    starts = _starts(pair, coarse) if start is None else [start]
    for n, start in enumerate(starts):
        progress(0.7 * n / len(starts), "rigid registration: trying starts")
        if coarse.overlap(start) < LEAST_OVERLAP:
            continue
        matrix, _ = coarse.optimise(start, COARSE_STEPS, 4.0)
        found.append((coarse.score(matrix), matrix))
    if not found:
        raise InputError("the images can't be brought to overlap; check that both show the same organ, or give the "
                         "organ masks")
    found.sort(key=lambda item: -item[0])
    progress(0.7, "rigid registration: refining")
    fine = _Level(pair, FINE_MM, exclusion_mm, seed)
    refined = [fine.optimise(matrix, FINE_STEPS, 1.0)[0] for _, matrix in _distinct(found)[:2]]
    scores = [fine.score(matrix) for matrix in refined]
    best = refined[int(np.argmax(scores))]
    before = fine.information(np.eye(4)) if fine.overlap(np.eye(4)) >= LEAST_OVERLAP else 0.0
    progress(1.0, "rigid registration done")
    return LinearTransform(best, "moving", "fixed"), before, fine.information(best)


def _distinct(found: list[tuple[float, np.ndarray]]) -> list[tuple[float, np.ndarray]]:
    kept: list[tuple[float, np.ndarray]] = []
    for score, matrix in found:
        if all(np.abs(matrix - other).max() > 3.0 for _, other in kept):
            kept.append((score, matrix))
    return kept


class _Level:
    """Both images at one resolution, ready for SimpleITK."""

    def __init__(self, pair: Pair, spacing_mm: float, exclusion_mm: float | None, seed: int) -> None:
        self.seed = seed
        self.fixed, self.fixed_mask = _side(pair.fixed, pair.fixed_organ, pair.exclude_fixed, spacing_mm,
                                            exclusion_mm, RIM_MM)
        self.moving, self.moving_mask = _side(pair.moving, pair.moving_organ, pair.exclude_moving, spacing_mm,
                                              exclusion_mm, MARGIN_MM)
        self.points = self.fixed_mask.grid.points_ras(np.argwhere(self.fixed_mask.array))
        self.centre = self.points.mean(axis=0)
        self.organs = None
        if pair.fixed_organ is not None and pair.moving_organ is not None:
            organ_mm = signed_distance_on(pair.moving_organ, self.moving.grid)
            inside = signed_distance_on(pair.fixed_organ, self.fixed.grid) < 0.0
            self.organs = (self.fixed.grid.points_ras(np.argwhere(inside)), Volume(organ_mm, self.moving.grid))

    def overlap(self, matrix: np.ndarray) -> float:
        """Share of the fixed points that land in the moving image."""
        index = self.moving.grid.indices_kji(self.points @ matrix[:3, :3].T + matrix[:3, 3])
        return float(((index >= 0) & (index <= np.array(self.moving.grid.shape) - 1)).all(axis=1).mean())

    def information(self, matrix: np.ndarray) -> float:
        """Mutual information in nats."""
        return -self._evaluate(matrix)

    def score(self, matrix: np.ndarray) -> float:
        """Mutual information, less for a part of the organ that lands outside the organ or the image."""
        share = self.overlap(matrix)
        if self.organs is not None:
            points, organ_mm = self.organs
            inside = organ_mm.sample(points @ matrix[:3, :3].T + matrix[:3, 3], outside=40.0) < 0.0
            share = min(share, float(inside.mean()) + 0.1)
        return self.information(matrix) * share

    def optimise(self, start: np.ndarray, steps: int, first_mm: float) -> tuple[np.ndarray, float]:
        import SimpleITK as sitk

        method = self._method()
        method.SetOptimizerAsRegularStepGradientDescent(first_mm, 0.02, steps, 0.6, 1e-6)
        method.SetOptimizerScalesFromPhysicalShift()
        transform = self._euler(start)
        method.SetInitialTransform(transform, inPlace=True)
        try:
            method.Execute(*self._images())
        except RuntimeError:
            return start, 0.0
        return _matrix_ras(sitk.Transform(transform)), -method.GetMetricValue()

    def _evaluate(self, matrix: np.ndarray) -> float:
        method = self._method()
        method.SetInitialTransform(self._euler(matrix))
        try:
            return method.MetricEvaluate(*self._images())
        except RuntimeError:
            return 0.0

    def _euler(self, matrix: np.ndarray):
        import SimpleITK as sitk

        lps = lps_matrix(matrix)
        centre = self.centre * [-1.0, -1.0, 1.0]
        transform = sitk.Euler3DTransform()
        transform.SetCenter(centre.tolist())
        transform.SetMatrix(lps[:3, :3].ravel().tolist(), 1e-5)
        transform.SetTranslation((lps[:3, 3] + lps[:3, :3] @ centre - centre).tolist())
        return transform

    def _method(self):
        import SimpleITK as sitk

        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(BINS)
        wanted = 25000.0
        share = min(1.0, wanted / max(1.0, len(self.points)))
        if share < 1.0:
            method.SetMetricSamplingStrategy(method.RANDOM)
            method.SetMetricSamplingPercentage(share, self.seed)
        method.SetMetricFixedMask(to_sitk(self.fixed_mask))
        method.SetMetricMovingMask(to_sitk(self.moving_mask))
        method.SetInterpolator(sitk.sitkLinear)
        return method

    def _images(self):
        return to_sitk(self.fixed), to_sitk(self.moving)


def _side(image: Volume, organ: Mask | None, exclude: Mask | None, spacing_mm: float, exclusion_mm: float | None,
          rim_mm: float) -> tuple[Volume, Mask]:
    low, high = value_range(image, organ)
    room = 0.5 * (high - low)
    near = crop_to(image, organ, MARGIN_MM)
    spacing = np.maximum(near.grid.spacing_mm, spacing_mm)
    grid = near.grid.resampled_grid(spacing)
    array = np.clip(smoothed_onto(near, grid), low - room, high + room)
    keep = np.ones(grid.shape, bool) if organ is None else signed_distance_on(organ, grid) < rim_mm
    if exclude is not None and exclusion_mm is not None:
        keep &= signed_distance_on(exclude, grid) > exclusion_mm
    if np.count_nonzero(keep) < 200:
        raise InputError(f"{image.name or 'image'}: nearly nothing is left to register outside the excluded zone; "
                         "give a smaller zone or the whole organ")
    return Volume(array, grid), Mask(keep, grid)


def _starts(pair: Pair, level: _Level) -> list[np.ndarray]:
    fixed_centres, moving_centres = [], []
    for side, centres in ((level.fixed, fixed_centres), (level.moving, moving_centres)):
        centres.append(side.grid.centre_ras)
        weight = side.array - side.array.min()
        total = weight.sum()
        index = [float((weight.sum(axis=tuple(a for a in range(3) if a != axis)) * np.arange(weight.shape[axis])).sum()
                       / total) for axis in range(3)]
        centres.append(side.grid.points_ras(np.array(index)[None])[0])
    shifts = [np.zeros(3)]
    if pair.fixed_organ is not None and pair.moving_organ is not None:
        middles = [mask.grid.points_ras(np.argwhere(mask.array)[::7]).mean(axis=0)
                   for mask in (pair.fixed_organ, pair.moving_organ)]
        shifts.append(middles[1] - middles[0])
    else:
        shifts += [b - a for a, b in zip(fixed_centres, moving_centres, strict=True)]
        shifts += [shifts[-1] + [0.0, 0.0, z] for z in (-60.0, -30.0, 30.0, 60.0)]
    starts: list[np.ndarray] = []
    for shift in shifts:
        matrix = np.eye(4)
        matrix[:3, 3] = shift
        if all(np.abs(matrix - other).max() > 5.0 for other in starts):
            starts.append(matrix)
    return starts


def _matrix_ras(transform) -> np.ndarray:
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([np.array(transform.TransformPoint(tuple(e))) - origin for e in np.eye(3)], axis=1)
    matrix[:3, 3] = origin
    return lps_matrix(matrix)


def organ_overlap(pair: Pair, matrix: np.ndarray, spacing_mm: float = 3.0) -> float | None:
    """Dice of the organ masks after the map, or None without masks."""
    if pair.fixed_organ is None or pair.moving_organ is None:
        return None
    grid = crop_to(pair.fixed, pair.fixed_organ, 5.0).grid.resampled_grid(spacing_mm)
    fixed = signed_distance_on(pair.fixed_organ, grid) < 0.0
    moving_mm = signed_distance_on(pair.moving_organ, grid, LinearTransform(matrix, "moving", "fixed"))
    total = float(np.count_nonzero(pair.moving_organ.array)) * pair.moving_organ.grid.voxel_volume_ml
    own = float(np.count_nonzero(fixed)) * grid.voxel_volume_ml
    both = float(np.count_nonzero(fixed & (moving_mm < 0.0))) * grid.voxel_volume_ml
    return 2.0 * both / max(own + total, 1e-9)
