"""Straight bright lines in a noisy image: line integrals over dyadic strips, robust refinement, a profile along.

The integrals are those of Brady's fast discrete Radon transform, read at every level: sums over line pieces of
8, 16, ... columns (or rows), in both polarities (mostly along x, mostly along y) and both signs of the slope. A
piece is the likelier a needle, the further its sum lies from those of all other pieces of its length: the noise
is measured in the image itself.

Source of the transform: M. L. Brady, A fast discrete approximation algorithm for the Radon transform, 1998.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

MIN_LEVEL = 4  # pieces of 16 columns and more: shorter ones are speckle
CLIP_LOW, CLIP_HIGH = -1.0, 2.5  # one bright dot must not make a line


@dataclass(frozen=True)
class Piece:
    """A straight piece found by its integral: two ends (x, y) in pixels of the image searched, and its score."""

    start: np.ndarray
    end: np.ndarray
    score: float  # standard deviations above all other pieces of this length

    @property
    def length(self) -> float:
        return float(np.linalg.norm(self.end - self.start))


def ridge_image(image: np.ndarray, sigma: float, mask: np.ndarray | None = None) -> np.ndarray:
    """(h, w) float32: how much brighter than its surroundings, in local standard deviations, clipped.

    The surroundings are those of 5 sigma. Outside `mask` the result is 0.
    """
    image = np.asarray(image, np.float32)
    if mask is not None:
        image = filled_outside(image, mask, sigma)
    core = ndimage.gaussian_filter(image, sigma, truncate=2.5)
    around = ndimage.uniform_filter(core, 2 * int(4.0 * sigma) + 1)
    difference = core - around
    wide = 2 * int(12.0 * sigma) + 1
    local = np.sqrt(np.maximum(ndimage.uniform_filter(difference * difference, wide), 0.0))
    floor = 0.25 * float(np.sqrt(np.mean(difference * difference))) + 0.5  # black surroundings hold no noise
    ridge = np.clip(difference / (local + floor), CLIP_LOW, CLIP_HIGH)
    return ridge if mask is None else np.where(mask, ridge, 0.0).astype(np.float32)


def filled_outside(image: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    """The image with what lies outside the mask replaced by the mean of the nearest inside: no edge is left there."""
    if mask.all():
        return image
    weight = ndimage.uniform_filter(mask.astype(np.float32), 2 * int(4.0 * sigma) + 1)
    mean = ndimage.uniform_filter(np.where(mask, image, 0.0).astype(np.float32), 2 * int(4.0 * sigma) + 1)
    overall = float(image[mask].mean()) if mask.any() else 0.0
    near = np.where(weight > 0.02, mean / np.maximum(weight, 0.02), overall)
    return np.where(mask, image, near).astype(np.float32)


@cache
def _steps(level: int, height: int, padded: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that the second half of a strip is read at, for every slope and row of `level`."""
    slopes = np.arange(2 ** (level + 1))
    rows = np.arange(padded)[None, :] + ((slopes + 1) // 2)[:, None]
    return slopes // 2, np.minimum(rows, padded - 1)


def strip_sums(image: np.ndarray) -> list[np.ndarray]:
    """Line sums of falling lines (row grows with column by 0..1 a column) over strips of 2, 4, ... columns.

    Args:
        image: (h, w) with w a power of two.
    Returns: one array a level, (w / 2**k, 2**k, h + w): strip, descent in rows, starting row. A line sum from
        row y that descends d rows lies at [strip, d, y]; rows beyond the image count as 0.
    """
    height, width = image.shape
    padded = height + width
    table = np.zeros((width, 1, padded), np.float32)
    table[:, 0, :height] = np.asarray(image, np.float32).T
    levels = []
    for level in range(width.bit_length() - 1):
        slopes, rows = _steps(level, height, padded)
        left, right = table[0::2], table[1::2]
        table = left[:, slopes, :] + right[:, slopes[:, None], rows]
        levels.append(table)
    return levels


def _oriented(image: np.ndarray) -> list[tuple[np.ndarray, bool, bool]]:
    """The image in the four poses in which every line falls by at most 45 degrees: (image, swapped, flipped)."""
    return [(image, False, False), (image[::-1], False, True), (image.T, True, False), (image.T[::-1], True, True)]


def _placed(strip: int, size: int, row: float, descent: float, pose: tuple[int, bool, bool]) -> np.ndarray:
    """The two ends (x, y) of a piece of one pose in the image itself."""
    height, swapped, flipped = pose
    ends = np.array([[strip * size, row], [strip * size + size - 1, row + descent]], float)
    if flipped:
        ends[:, 1] = height - 1 - ends[:, 1]
    return ends[:, ::-1] if swapped else ends


LAYER_DEG = 10.0  # pieces flatter than this are mostly tissue layers


def line_pieces(ridge: np.ndarray, *, per_level: int = 6, layer_weight: float = 1.0) -> list[Piece]:
    """The strongest straight pieces of a ridge image, best first.

    Args:
        ridge: (h, w), mean about 0 (see `ridge_image`); padded to a square power of two inside.
        per_level: how many pieces of each length and pose are kept, far enough from each other.
        layer_weight: factor on the score of horizontal pieces, rising to 1 at `LAYER_DEG`; 1 treats all alike.
    Returns: pieces with ends in pixels of `ridge`; an image without structure gives pieces of low score.
    """
    size = 1 << (max(ridge.shape) - 1).bit_length()
    square = np.zeros((size, size), np.float32)
    square[: ridge.shape[0], : ridge.shape[1]] = ridge
    pieces: list[Piece] = []
    for turned, swapped, flipped in _oriented(square):
        for index, sums in enumerate(strip_sums(turned)):
            level = index + 1
            if level >= MIN_LEVEL:
                pieces += _best(sums, level, (size, swapped, flipped), per_level, layer_weight)
    return sorted(pieces, key=lambda piece: -piece.score)


def _best(sums: np.ndarray, level: int, pose: tuple[int, bool, bool], count: int, layer_weight: float) -> list[Piece]:
    """The highest sums of one level, one from each neighbourhood."""
    length = 2**level
    table = sums[:, :, : pose[0]]
    used = table[table != 0]
    if used.size < 100:
        return []
    sample = used[:: max(used.size // 4000, 1)]
    middle = float(np.median(sample))
    noise = 1.4826 * float(np.median(np.abs(sample - middle))) + 0.02 * length**0.5
    scores = (table - middle) / noise
    if layer_weight != 1.0 and not pose[1]:
        steep = np.minimum(np.degrees(np.arctan(np.arange(length) / (length - 1))) / LAYER_DEG, 1.0)
        scores *= (layer_weight + (1.0 - layer_weight) * steep)[None, :, None].astype(np.float32)
    found = []
    for value, (strip, descent, row) in _block_maxima(scores, (1, max(length // 8, 2), max(length // 8, 3)))[:count]:
        ends = _placed(strip, length, row, descent, pose)
        found.append(Piece(ends[0], ends[1], value))
    return found


def _block_maxima(table: np.ndarray, block: tuple[int, int, int]) -> list[tuple[float, tuple[int, int, int]]]:
    """(value, index) of the maximum of every block, highest first."""
    _, b, c = block
    s, d, r = table.shape
    d_full, r_full = (d // b) * b, (r // c) * c
    view = table[:, :d_full, :r_full].reshape(s, d_full // b, b, r_full // c, c)
    best = view.max((2, 4))
    order = np.argsort(best, axis=None)[::-1][:24]
    result = []
    for flat in order:
        strip, i, j = np.unravel_index(flat, best.shape)
        inner = int(view[strip, i, :, j, :].argmax())
        result.append((float(best[strip, i, j]), (int(strip), int(i) * b + inner // c, int(j) * c + inner % c)))
    return result


@dataclass(frozen=True)
class FittedLine:
    """A refined line: a point on it, a unit direction, their standard deviations, and how many samples held."""

    point: np.ndarray
    direction: np.ndarray
    sigma_across: float  # of the line's position, pixels
    sigma_deg: float  # of its direction
    residual: float  # of single samples, pixels
    inliers: float  # fraction of the samples


def sample_band(image: np.ndarray, start: np.ndarray, direction: np.ndarray, length: float, half: float,
                step: float = 1.0, across_step: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The image in a band along a line: (along, across) values, and the two axes in pixels.

    Outside the image the values are NaN.
    """
    along = np.arange(0.0, max(length, step), step)
    across = np.arange(-half, half + 1e-6, across_step)
    normal = np.array([-direction[1], direction[0]])
    x = start[0] + along[:, None] * direction[0] + across[None, :] * normal[0]
    y = start[1] + along[:, None] * direction[1] + across[None, :] * normal[1]
    values = ndimage.map_coordinates(image, [y, x], order=1, mode="constant", cval=np.nan, prefilter=False)
    return values, along, across


def refine_line(image: np.ndarray, start: np.ndarray, end: np.ndarray, half: float, *,
                trials: int = 60, seed: int = 0) -> FittedLine:
    """The line through the brightest places across the band between two ends: RANSAC, then weighted least squares.

    Args:
        image: (h, w) smoothed; start, end: (x, y) about on the line; half: half width of the band, pixels.
        trials, seed: RANSAC is repeatable.
    """
    direction = (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
    normal = np.array([-direction[1], direction[0]])
    values, along, across = sample_band(image, start, direction, float(np.linalg.norm(end - start)) + 1.0, half)
    keep = np.isfinite(values).all(1)
    if keep.sum() < 8:
        return FittedLine(start, direction, half, 45.0, half, 0.0)
    values, along = values[keep], along[keep]
    base = np.median(values, axis=1, keepdims=True)
    peak = values.argmax(1)
    lift = np.maximum(values - base, 0.0)
    near = np.abs(np.arange(len(across))[None, :] - peak[:, None]) <= max(1, len(across) // 6)
    lift *= near
    weight = lift.sum(1)
    offset = (lift * across).sum(1) / np.maximum(weight, 1e-6)
    weight = np.minimum(weight, np.median(weight) * 3 + 1e-6)
    slope, shift, inside = _ransac(along, offset, weight, max(1.0, 0.25 * half), trials, seed)
    residual = float(np.sqrt(np.average((offset - slope * along - shift)[inside] ** 2, weights=weight[inside] + 1e-6)))
    middle = float(np.average(along[inside], weights=weight[inside] + 1e-6))
    spread = float(np.sqrt(np.average((along[inside] - middle) ** 2, weights=weight[inside] + 1e-6)))
    samples = max(inside.sum() / max(2.0 * half / 3.0, 1.0), 2.0)  # neighbours along the line share their noise
    turned = direction + slope * normal
    turned /= np.linalg.norm(turned)
    point = start + middle * direction + (slope * middle + shift) * normal
    sigma_slope = residual / math.sqrt(samples) / max(spread, 1.0)
    return FittedLine(point, turned, residual / math.sqrt(samples), math.degrees(sigma_slope), residual,
                      float(inside.mean()))


def _ransac(along: np.ndarray, offset: np.ndarray, weight: np.ndarray, tolerance: float, trials: int,
            seed: int) -> tuple[float, float, np.ndarray]:
    """Slope, shift and inliers of offset over along: the pair with most weight within tolerance, then least squares."""
    generator = np.random.default_rng(seed)
    pairs = generator.integers(0, len(along), (trials, 2))
    run = along[pairs[:, 1]] - along[pairs[:, 0]]
    pairs, run = pairs[np.abs(run) > 0.2 * np.ptp(along)], run[np.abs(run) > 0.2 * np.ptp(along)]
    if len(pairs) == 0:
        return 0.0, float(np.average(offset, weights=weight + 1e-6)), np.ones(len(along), bool)
    slopes = (offset[pairs[:, 1]] - offset[pairs[:, 0]]) / run
    shifts = offset[pairs[:, 0]] - slopes * along[pairs[:, 0]]
    residual = np.abs(offset[None, :] - slopes[:, None] * along - shifts[:, None])
    best = int(np.argmax(((residual < tolerance) * weight).sum(1)))
    inside = residual[best] < tolerance
    slope, shift = float(slopes[best]), float(shifts[best])
    for _ in range(3):
        if inside.sum() < 4:
            break
        slope, shift = np.polyfit(along[inside], offset[inside], 1, w=np.sqrt(weight[inside] + 1e-6))
        inside = np.abs(offset - slope * along - shift) < tolerance
    if not inside.any():
        inside = np.ones(len(along), bool)
    return float(slope), float(shift), inside
