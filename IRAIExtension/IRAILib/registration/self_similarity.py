"""Self-similarity (MIND-SSC) of an image as rows that can be read at any point, to compare unlike modalities.

Source: Heinrich 2013, "Towards realtime multimodal fusion for image-guided interventions using self-similarities".
"""

from __future__ import annotations

import numpy as np

from ..geometry import Grid, MissingPackageError, Volume

FEATURES = 12


def self_similarity(array: np.ndarray, dilation: int) -> np.ndarray:
    """(k, j, i) image to (k, j, i, 12) float32 features, each 0 to 1. Raises MissingPackageError without torch."""
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError("self-similarity features need torch; pip install torch, or choose --method mutual"
                                  ) from error
    from .convex import mind

    with torch.no_grad():
        rows = mind(torch.from_numpy(np.ascontiguousarray(array, np.float32)), dilation)
    return np.ascontiguousarray(np.moveaxis(rows.numpy(), 0, -1))


class FeatureField:
    """Features on a grid, read at RAS points.

    volume: on an isotropic grid of a few millimetres. seen: (k, j, i) bool, where it holds an image.
    """

    def __init__(self, volume: Volume, seen: np.ndarray, dilation: int) -> None:
        values = np.asarray(volume.array, np.float32)
        low, high = np.percentile(values[seen], [1.0, 99.0]) if seen.any() else (0.0, 1.0)
        scaled = np.clip((values - low) / max(float(high - low), 1e-6), 0.0, 1.0)
        self.grid: Grid = volume.grid
        self.seen = seen
        self.rows = self_similarity(scaled, dilation).reshape(-1, FEATURES)

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """((n, 12) features, linear between voxels, (n,) bool where the image is seen)."""
        shape = np.array(self.grid.shape)
        index = self.grid.indices_kji(points)
        inside = ((index >= 0.0) & (index <= shape - 1.0)).all(axis=1)
        index = np.clip(index, 0.0, shape - 1.001)
        low = index.astype(np.int64)
        part = (index - low).astype(np.float32)
        strides = np.array([shape[1] * shape[2], shape[2], 1])
        base = low @ strides
        nearest = np.round(index).astype(np.int64) @ strides
        inside &= self.seen.reshape(-1)[nearest]
        out = np.zeros((len(points), FEATURES), np.float32)
        for corner in range(8):
            bits = np.array([(corner >> n) & 1 for n in (2, 1, 0)])
            weight = np.where(bits, part, 1.0 - part).prod(axis=1, dtype=np.float32)
            place = np.minimum(base + int(bits @ strides), len(self.rows) - 1)
            out += self.rows[place] * weight[:, None]
        return out, inside


class Similarity:
    """How alike two images are under a rigid map: 0.3 less the mean squared difference of their features.

    The moving image is brought near the fixed one first (`placed`), so that its features need no turning; a map is
    then judged by what it does besides. points: (n, 3) RAS mm, fixed frame.
    """

    CEILING = 0.3

    def __init__(self, fixed: FeatureField, moving: FeatureField, placed: np.ndarray, points: np.ndarray,
                 least_share: float = 0.6) -> None:
        self.moving, self.back, self.least_share = moving, np.linalg.inv(placed), least_share
        rows, inside = fixed.at(points)
        self.points, self.rows = points[inside], rows[inside]

    def score(self, matrix: np.ndarray, chosen: np.ndarray | None = None) -> float:
        """Larger is better; 0 where hardly anything meets. matrix: (4, 4) moving_from_fixed."""
        points = self.points if chosen is None else self.points[chosen]
        rows = self.rows if chosen is None else self.rows[chosen]
        besides = self.back @ matrix
        there, met = self.moving.at(points @ besides[:3, :3].T + besides[:3, 3])
        if np.count_nonzero(met) < 100:
            return 0.0
        share = min(1.0, float(met.mean()) / self.least_share)
        return share * (self.CEILING - float(((there[met] - rows[met]) ** 2).mean()))
