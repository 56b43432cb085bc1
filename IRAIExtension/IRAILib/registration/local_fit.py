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
        size = np.linalg.norm(self.ras_from_pixel[:3, :2], axis=0)[::-1]
        step = np.maximum(1, np.round(mm_per_px / size)).astype(int)
        weight = _mean(self.seen.astype(np.float32), *step)
        total = _mean(np.where(self.seen, self.image, 0).astype(np.float32), *step)
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
        size = float(np.mean([np.linalg.norm(s.ras_from_pixel[:3, 0]) for s in self.slices]))
        self.size = max(3, 2 * round(0.5 * patch_mm / size) + 1)
        self.shape = tuple(max(s.image.shape[axis] for s in self.slices) for axis in (0, 1))
        self.images = np.stack([_grown(s.image, self.shape) for s in self.slices]).astype(np.float32)
        self.images /= max(float(self.images.std()), 1e-9)
        self.seen = np.stack([_grown(s.seen, self.shape) for s in self.slices])
        self.places = np.stack([Slice(np.empty(self.shape), s.ras_from_pixel, np.empty(0)).points()
                                for s in self.slices])
        self.values, self.edges = _layers(volume, mm_per_px)
        self.own = _features(self.images, self.seen) if measure == "mind" else np.empty(0)

    def score(self, matrix: np.ndarray, chosen: np.ndarray | None = None) -> float:
        """0 to 1, larger is better. matrix: (4, 4) volume_from_tracked. chosen: numbers of the slices to use."""
        numbers = slice(None) if chosen is None else np.asarray(chosen)
        seen = self.seen[numbers]
        places = self.places[numbers][seen] @ matrix[:3, :3].T + matrix[:3, 3]
        values, edges, inside = self._read(places)
        met = float(inside.mean())
        if np.count_nonzero(inside) < 100:
            return 0.0
        both = np.zeros(seen.shape, bool)
        value = np.zeros(seen.shape, np.float32)
        both[seen], value[seen] = inside, values
        if self.measure == "fit":
            edge = np.zeros(seen.shape, np.float32)
            edge[seen] = edges
            got = _explained(self.images[numbers], value, edge, both, self.size)
        else:
            apart = ((self.own[:, numbers] - _features(value, both)) ** 2).mean(axis=0)
            got = 1.0 - float(apart[both].mean())
        return got * min(1.0, met / 0.8)

    def share(self, matrix: np.ndarray) -> float:
        """Share of the slices' pixels that lie in the volume."""
        return float(self._read(self.places[self.seen] @ matrix[:3, :3].T + matrix[:3, 3])[2].mean())

    def _read(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from scipy import ndimage

        index = np.ascontiguousarray(self.values.grid.indices_kji(places).T)
        inside = np.ones(len(places), bool)
        for axis, size in enumerate(self.values.grid.shape):
            inside &= (index[axis] >= 0) & (index[axis] <= size - 1)
        values = ndimage.map_coordinates(self.values.array, index, order=1, mode="nearest")
        if self.measure == "mind":
            return values, values, inside
        return values, ndimage.map_coordinates(self.edges.array, index, order=1, mode="nearest"), inside


def _mean(array: np.ndarray, rows: int, columns: int, mode: str = "reflect") -> np.ndarray:
    """Moving average over so many rows and columns (the last two axes)."""
    from scipy import ndimage

    once = ndimage.uniform_filter1d(array, int(rows), axis=-2, mode=mode)
    return ndimage.uniform_filter1d(once, int(columns), axis=-1, mode=mode)


def _grown(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.pad(array, [(0, full - size) for full, size in zip(shape, array.shape, strict=True)])


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
    slope = [np.gradient(soft, float(s), axis=n) for n, s in enumerate(grid.spacing_kji_mm)]
    return Volume(array, grid), Volume(np.sqrt(sum(s**2 for s in slope)).astype(np.float32), grid)


def _explained(picture: np.ndarray, value: np.ndarray, edge: np.ndarray, both: np.ndarray, size: int) -> float:
    """Share of the pictures' spread, patch by patch, that a fit by value, edge and a constant explains, 0 to 1.

    (n, rows, columns) stacks; patches of size x size pixels, where `both`.
    """
    weight = both.astype(np.float32)

    def mean(a: np.ndarray) -> np.ndarray:
        return _mean(a, size, size, "constant")

    count = np.maximum(mean(weight), 1e-6)
    edge = edge * (float(value[both].std()) / max(float(edge[both].std()), 1e-9))
    y, a, b = (x - float(x[both].mean()) for x in (picture, value, edge))
    wy, wa, wb = y * weight, a * weight, b * weight
    my, ma, mb = (mean(x) / count for x in (wy, wa, wb))
    yy, aa, bb = (np.maximum(mean(w * x) / count - m * m, 0.0) for w, x, m in ((wy, y, my), (wa, a, ma), (wb, b, mb)))
    ya, yb, ab = mean(wy * a) / count - my * ma, mean(wy * b) / count - my * mb, mean(wa * b) / count - ma * mb
    ridge = RIDGE * float((aa + bb)[both].mean()) + 1e-12
    aa, bb = aa + ridge, bb + ridge
    share = (ya * ya * bb - 2 * ya * yb * ab + yb * yb * aa) / np.maximum(aa * bb - ab * ab, ridge * ridge)
    spread = np.sqrt(yy)
    use = both & (count > LEAST_SHARE)
    explained = np.clip(share / np.maximum(yy, 1e-9 * float(yy.max()) + 1e-12), 0.0, 1.0)
    return float((explained * spread)[use].sum() / max(float(spread[use].sum()), 1e-9)) if use.any() else 0.0


def _features(images: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(4, n, rows, columns) self-similarity: neighbours two pixels below, right, above, left compared in turn."""
    filled = np.where(seen, images, float(images[seen].mean()) if seen.any() else 0.0).astype(np.float32)
    padded = np.pad(filled, ((0, 0), (2, 2), (2, 2)), mode="edge")
    rows, columns = filled.shape[1:]
    moved = [padded[:, r:r + rows, c:c + columns] for r, c in ((4, 2), (2, 4), (0, 2), (2, 0))]
    apart = np.stack([_mean((moved[n] - moved[n - 1]) ** 2, 3, 3) for n in range(4)])
    apart -= apart.min(axis=0)
    spread = apart.mean(axis=0)
    return np.exp(-apart / np.maximum(spread + 0.5 * float(np.median(spread[seen])), 1e-9))
