"""Self-similarity asked where it would put the images that mutual information has brought together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..geometry import LinearTransform, MissingPackageError, Volume, resample
from .information import body
from .inputs import Pair, crop_to, smoothed_onto
from .rigid_search import Poses, ascend
from .self_similarity import FeatureField, Similarity

SPACING_MM = 3.0
DILATION = 2
POINTS = 2000
ROUNDS = 2
LARGEST_VOXELS = 1_500_000


def second_opinion(pair: Pair, pads: tuple[np.ndarray, np.ndarray], matrix: np.ndarray, roi: np.ndarray,
                   needed: bool, checked: Callable[[], None]) -> tuple[np.ndarray | None, list[str]]:
    """((4, 4) moving_from_fixed where self-similarity is largest near `matrix`, warnings).

    pads: padding voxels of both images. roi: (n, 3) fixed points of interest. needed: raise MissingPackageError when
    torch is missing; else None and a warning come back.
    """
    try:
        for _ in range(ROUNDS):
            similarity, centre = _similarity(pair, pads, matrix, roi)
            poses = Poses(matrix, centre, 40.0)

            def at(p: np.ndarray, poses: Poses = poses, similarity: Similarity = similarity) -> float:
                checked()
                return similarity.score(poses.matrix(p))

            matrix = poses.matrix(ascend(at, np.zeros(6), iterations=10)[0])
    except MissingPackageError as error:
        if needed:
            raise
        return None, [f"no second opinion: {error}"]
    return matrix, []


def _similarity(pair: Pair, pads: tuple[np.ndarray, np.ndarray], matrix: np.ndarray, roi: np.ndarray
                ) -> tuple[Similarity, np.ndarray]:
    low, high = roi.min(axis=0) - 25.0, roi.max(axis=0) + 25.0
    index = pair.fixed.grid.indices_kji(np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1])
                                                  for z in (low[2], high[2])]))
    shape = np.array(pair.fixed.grid.shape)
    first = np.clip(np.floor(index.min(0)), 0, shape - 2).astype(int)
    last = np.clip(np.ceil(index.max(0)) + 1, first + 2, shape).astype(int)
    box = pair.fixed.grid.cropped_grid(tuple(first), tuple(last - first))
    spacing = max(SPACING_MM, (float(np.prod(box.spacing_mm * box.shape[::-1])) / LARGEST_VOXELS) ** (1 / 3))
    grid = box.resampled_grid(spacing)
    transform = LinearTransform(matrix, "moving", "fixed")
    fixed = smoothed_onto(crop_to(pair.fixed, pair.fixed_organ, 60.0), grid)
    moving = smoothed_onto(pair.moving, grid, transform)
    seen = [resample(Volume((~pad).astype(np.float32), image.grid), grid, by).array > 0.5
            for image, pad, by in ((pair.fixed, pads[0], None), (pair.moving, pads[1], transform))]
    fields = [FeatureField(Volume(array, grid), ok, DILATION) for array, ok in zip((fixed, moving), seen, strict=True)]
    near = body(fixed, seen[0], grid.spacing_kji_mm) & seen[0] & seen[1]
    voxels = np.argwhere(near if np.count_nonzero(near) > 500 else seen[0] & seen[1])
    points = grid.points_ras(voxels[:: max(1, len(voxels) // POINTS)]) if len(voxels) else roi
    return Similarity(fields[0], fields[1], matrix, points), roi.mean(axis=0)
