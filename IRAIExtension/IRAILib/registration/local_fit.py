"""How well slices are explained, patch by patch, by a volume's values and edges at the same place.

Ultrasound shows tissue partly by its kind and partly by its borders; how much of each changes with depth and angle.
Within every small patch the slice is therefore fitted by least squares from the volume's values, the volume's gradient
magnitude and a constant, anew for each patch. Source: Fuerst 2014 (LC2), Wein 2013; own implementation. The other
measure is a two-dimensional self-similarity (Heinrich 2013), for comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry import InputError, Volume
from .inputs import smoothed_onto

MEASURES = ("fit", "mind")
LEAST_SHARE = 0.4
RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Slice:
    """A picture on a plane. image: (rows, columns). ras_from_pixel: (4, 4), (column, row, 0) to mm of the tracked
    frame. seen: (rows, columns) bool."""

    image: np.ndarray
    ras_from_pixel: np.ndarray
    seen: np.ndarray

    def coarser(self, mm_per_px: float) -> Slice:
        """On pixels of about so many mm, averaged."""
        from scipy import ndimage

        size = np.linalg.norm(self.ras_from_pixel[:3, :2], axis=0)[::-1]
        step = np.maximum(1, np.round(mm_per_px / size)).astype(int)
        weight = ndimage.uniform_filter(self.seen.astype(np.float32), tuple(step))
        total = ndimage.uniform_filter(np.where(self.seen, self.image, 0).astype(np.float32), tuple(step))
        start = step // 2
        mean = (total / np.maximum(weight, 1e-6))[start[0]::step[0], start[1]::step[1]]
        matrix = np.array(self.ras_from_pixel, float)
        # An even filter's middle lies half a pixel before its index.
        first = start - np.where(step % 2 == 0, 0.5, 0.0)
        matrix[:3, 3] += matrix[:3, 0] * first[1] + matrix[:3, 1] * first[0]
        matrix[:3, 0] *= step[1]
        matrix[:3, 1] *= step[0]
        return Slice(mean, matrix, weight[start[0]::step[0], start[1]::step[1]] > 0.6)

    def points(self) -> np.ndarray:
        """(rows, columns, 3) mm of the pixel centres."""
        rows, columns = np.mgrid[: self.image.shape[0], : self.image.shape[1]]
        m = self.ras_from_pixel
        return columns[..., None] * m[:3, 0] + rows[..., None] * m[:3, 1] + m[:3, 3]


class SliceScore:
    """The measure of all slices at one resolution under a rigid correction."""

    def __init__(self, slices: list[Slice], volume: Volume, mm_per_px: float, measure: str, patch_mm: float = 13.0
                 ) -> None:
        if measure not in MEASURES:
            raise InputError(f"measure {measure!r}: choose {' or '.join(MEASURES)}")
        self.measure = measure
        self.slices = [s for s in (one.coarser(mm_per_px) for one in slices) if np.count_nonzero(s.seen) > 30]
        if not self.slices:
            raise InputError("slices: none shows enough pixels")
        self.size = [max(3, 2 * round(0.5 * patch_mm / np.linalg.norm(s.ras_from_pixel[:3, 0])) + 1)
                     for s in self.slices]
        self.places = [s.points().reshape(-1, 3) for s in self.slices]
        self.values, self.edges = _layers(volume, mm_per_px)
        self.own = [_features(s.image, s.seen) for s in self.slices] if measure == "mind" else []

    def score(self, matrix: np.ndarray, chosen: np.ndarray | None = None) -> float:
        """0 to 1, larger is better. matrix: (4, 4) volume_from_tracked. chosen: numbers of the slices to use."""
        numbers = range(len(self.slices)) if chosen is None else chosen
        total, weight, met, all_ = 0.0, 0.0, 0, 0
        places = np.concatenate([self.places[n] for n in numbers]) @ matrix[:3, :3].T + matrix[:3, 3]
        values, edges, inside = self._read(places)
        start = 0
        for n in numbers:
            one = self.slices[n]
            part = slice(start, start + one.image.size)
            start += one.image.size
            both = one.seen & inside[part].reshape(one.image.shape)
            met, all_ = met + int(both.sum()), all_ + int(one.seen.sum())
            if both.sum() < 30:
                continue
            value, edge = values[part].reshape(one.image.shape), edges[part].reshape(one.image.shape)
            got, counted = (_explained(one.image, value, edge, both, self.size[n]) if self.measure == "fit" else
                            _alike(self.own[n], _features(value, both), both))
            total, weight = total + got, weight + counted
        share = met / max(1, all_)
        return 0.0 if weight <= 0 else total / weight * min(1.0, share / 0.8)

    def share(self, matrix: np.ndarray) -> float:
        """Share of the slices' pixels that lie in the volume."""
        places = np.concatenate([p[s.seen.ravel()] for p, s in zip(self.places, self.slices, strict=True)])
        return float(self._read(places @ matrix[:3, :3].T + matrix[:3, 3])[2].mean())

    def _read(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from scipy import ndimage

        index = np.ascontiguousarray(self.values.grid.indices_kji(places).T)
        inside = np.ones(len(places), bool)
        for axis, size in enumerate(self.values.grid.shape):
            inside &= (index[axis] >= 0) & (index[axis] <= size - 1)
        values = ndimage.map_coordinates(self.values.array, index, order=1, mode="nearest")
        edges = values if self.measure == "mind" else ndimage.map_coordinates(self.edges.array, index, order=1,
                                                                              mode="nearest")
        return values, edges, inside


def _layers(volume: Volume, mm_per_px: float) -> tuple[Volume, Volume]:
    """The volume over the tissue's range of values, 0 to 1, and its gradient magnitude."""
    from scipy import ndimage

    grid = volume.grid.resampled_grid(np.maximum(volume.grid.spacing_mm, mm_per_px))
    low, high = np.percentile(volume.array, [1.0, 99.5])
    if low < -300.0:  # Hounsfield units: air and bone would take all the range from the soft tissue
        low, high = -150.0, 250.0
    array = smoothed_onto(volume.with_array(np.clip(volume.array, low, high)), grid)
    array = np.clip((array - low) / max(float(high - low), 1e-6), 0.0, 1.0)
    soft = ndimage.gaussian_filter(array, 0.5 * mm_per_px / grid.spacing_kji_mm)
    slope = np.stack(np.gradient(soft, *[float(s) for s in grid.spacing_kji_mm]))
    return Volume(array, grid), Volume(np.sqrt((slope**2).sum(axis=0)).astype(np.float32), grid)


def _explained(picture: np.ndarray, value: np.ndarray, edge: np.ndarray, both: np.ndarray, size: int
               ) -> tuple[float, float]:
    """(sum over patches of the picture's spread times the share explained, sum of the spreads)."""
    from scipy import ndimage

    weight = both.astype(np.float64)

    def mean(a: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(a * weight, size, mode="constant")

    count = np.maximum(mean(np.ones_like(weight)), 1e-6)
    y, a, b = picture.astype(np.float64), value.astype(np.float64), edge.astype(np.float64)
    b = b / max(float(b[both].std()), 1e-9) * max(float(a[both].std()), 1e-9)
    my, ma, mb = (mean(x) / count for x in (y, a, b))
    yy, aa, bb = (np.maximum(mean(x * x) / count - m * m, 0.0) for x, m in ((y, my), (a, ma), (b, mb)))
    ya, yb, ab = mean(y * a) / count - my * ma, mean(y * b) / count - my * mb, mean(a * b) / count - ma * mb
    ridge = RIDGE * float((aa + bb)[both].mean()) + 1e-12
    aa, bb = aa + ridge, bb + ridge
    share = (ya * ya * bb - 2 * ya * yb * ab + yb * yb * aa) / np.maximum(aa * bb - ab * ab, ridge * ridge)
    spread = np.sqrt(yy)
    use = both & (count > LEAST_SHARE)
    explained = np.clip(share / np.maximum(yy, 1e-9 * float(yy.max()) + 1e-12), 0.0, 1.0)
    return float((explained * spread)[use].sum()), float(spread[use].sum())


def _features(image: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(4, rows, columns) self-similarity of a picture: neighbours above, right, below, left compared in turn."""
    from scipy import ndimage

    filled = np.where(seen, image, image[seen].mean() if seen.any() else 0.0).astype(np.float32)
    moved = [ndimage.shift(filled, s, order=0, mode="nearest") for s in ((2, 0), (0, 2), (-2, 0), (0, -2))]
    apart = np.stack([ndimage.uniform_filter((moved[n] - moved[n - 1]) ** 2, 3) for n in range(4)])
    apart -= apart.min(axis=0)
    spread = apart.mean(axis=0)
    return np.exp(-apart / np.maximum(spread + 0.5 * float(np.median(spread)), 1e-9))


def _alike(own: np.ndarray, other: np.ndarray, both: np.ndarray) -> tuple[float, float]:
    return float((1.0 - ((own - other) ** 2).mean(axis=0))[both].sum()), float(both.sum())
