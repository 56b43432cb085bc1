"""A mean that is kept in whole grey levels and rounded at every pixel, as PLUS's reconstruction keeps it.

Which pixel comes first then matters: a voxel that has seen many pixels no longer moves for small differences. Pixels
so far apart that they share no voxel are taken at once, in bands of rows, so that nearly every voxel sees its pixels
in the order of the image.
"""

from __future__ import annotations

import numpy as np

from .paste import EDGE

UNIT = 256  # PLUS counts weights in 1/256 pixel
MOST = 65535
BANDS = 3.5  # height of a band, in what two pixels of it are apart


class RunningTarget:
    """The voxels of a grid (k, j, i) and one layer more, each a weight and a grey level packed into 32 bits."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = tuple(n + 1 for n in shape)
        self.state = np.zeros(int(np.prod(self.shape)), np.int32)

    def value(self) -> np.ndarray:
        """(k, j, i) float32 grey levels, without the extra layer."""
        return (self.state & 255).astype(np.float32).reshape(self.shape)[:-1, :-1, :-1]

    def weight(self) -> np.ndarray:
        """(k, j, i) float32, in pixels, without the extra layer; at most 256."""
        return ((self.state >> 8).astype(np.float32) / UNIT).reshape(self.shape)[:-1, :-1, :-1]


def paste_running(target: RunningTarget, frame: np.ndarray, keep: np.ndarray | None, ijk_from_pixel: np.ndarray,
                  region: tuple[int, int, int, int], *, linear: bool) -> int:
    """The running mean of an 8-bit frame into the target. Returns how many pixels landed.

    Args: as `paste.tiles`. Source: how the volume reconstruction of PLUS (IGSIO) behaves, read from its sources.
    """
    x0, y0, x1, y1 = region
    width, height = x1 - x0, y1 - y0
    step_x, step_y = _steps(ijk_from_pixel[:3, 0], ijk_from_pixel[:3, 1], width, height, 2.0 if linear else 1.0)
    count_x, count_y = -(-width // step_x), -(-height // step_y)
    values = _phases(frame[y0:y1, x0:x1].astype(np.float32), count_x, count_y, step_x, step_y)
    inside = _phases(np.ones((height, width), bool) if keep is None else keep[y0:y1, x0:x1], count_x, count_y, step_x,
                     step_y)
    whole = np.asarray(inside.all(axis=2))
    grid = np.stack(np.meshgrid(x0 + step_x * np.arange(count_x), y0 + step_y * np.arange(count_y)), axis=-1)
    lattice = ijk_from_pixel[:3, :2] @ grid.reshape(-1, 2).T + ijk_from_pixel[:3, 3:]
    last = np.array(target.shape[::-1])[:, None] - 2.0
    corners = ijk_from_pixel[:3, [0, 1, 3]] @ np.array([[x, y, 1] for x in (x0, x1 - 1) for y in (y0, y1 - 1)]).T
    fits = bool(((corners >= 0) & (corners <= last)).all())
    landed = 0
    for row in range(step_y):
        for column in range(step_x):
            place = lattice + (ijk_from_pixel[:3, 0] * column + ijk_from_pixel[:3, 1] * row)[:, None]
            pixels = values[row, column]
            if not (fits and whole[row, column]):
                ok = inside[row, column] & ((place >= -EDGE) & (place <= last + EDGE)).all(axis=0)
                place, pixels = np.clip(place[:, ok], 0.0, last), pixels[ok]
            if len(pixels):
                landed += len(pixels)
                (_linear if linear else _nearest)(target, place, pixels)
    return landed


def _steps(u: np.ndarray, v: np.ndarray, width: int, height: int, apart: float) -> tuple[int, int]:
    """Columns and rows between pixels that are pasted at once: some axis puts them `apart` voxels or more apart."""
    apart += 1e-6
    step_y = int(np.ceil(BANDS * apart / np.linalg.norm(v)))
    step_x = int(np.ceil(apart / np.linalg.norm(u)))
    near = np.array([(a, b) for a in range(3) for b in range(-3, 4) if (a, b) > (0, 0)], float)
    while np.abs(near[:, :1] * step_x * u + near[:, 1:] * step_y * v).max(axis=1).min() < apart:
        step_x += 1
    return min(step_x, width), min(step_y, height)


def _phases(image: np.ndarray, count_x: int, count_y: int, step_x: int, step_y: int) -> np.ndarray:
    """(step_y, step_x, count_y * count_x): the pixels of one place in every cell of the lattice together."""
    padded = np.zeros((count_y * step_y, count_x * step_x), image.dtype)
    padded[:image.shape[0], :image.shape[1]] = image
    cells = padded.reshape(count_y, step_y, count_x, step_x).transpose(1, 3, 0, 2)
    return np.ascontiguousarray(cells).reshape(step_y, step_x, -1)


def _linear(target: RunningTarget, place: np.ndarray, values: np.ndarray) -> None:
    _, rows, columns = target.shape
    whole = np.floor(place)
    x, y, z = (place - whole).astype(np.float32)
    base = (whole[0] + columns * (whole[1] + rows * whole[2])).astype(np.intp)
    weight = np.empty((8, len(values)), np.float32)
    both = y * z
    only_y, only_z = y - both, z - both
    x *= UNIT
    for number, part in enumerate((1.0 - y - only_z, only_z, only_y, both)):
        np.multiply(part, x, out=weight[4 + number])
        np.multiply(part, UNIT, out=weight[number])
    weight[:4] -= weight[4:]
    offsets = np.array([columns * (j + rows * k) for j, k in ((0, 0), (0, 1), (1, 0), (1, 1))])
    index = np.concatenate([offsets, offsets + 1])[:, None] + base
    state = target.state.take(index, mode="clip")
    before, total = (state & 255).astype(np.float32), (state >> 8).astype(np.float32)
    total += weight
    change = values - before
    change *= weight
    np.maximum(total, 1e-20, out=weight)
    change /= weight
    change += before
    change += 0.5
    total += 0.5
    np.minimum(total, MOST, out=total)
    state = total.astype(np.int32)
    state <<= 8
    state |= change.astype(np.int32)
    target.state[index] = state


def _nearest(target: RunningTarget, place: np.ndarray, values: np.ndarray) -> None:
    i, j, k = np.floor(place + 0.5).astype(np.intp)
    index = i + target.shape[2] * (j + target.shape[1] * k)
    state = target.state[index]
    before, seen, pixels = state & 255, state >> 8, values.astype(np.int32)
    full = seen > MOST - UNIT  # from then on the newest pixel counts 1 in 256; the rest is cut off, not rounded
    level = ((pixels * np.where(full, 1, UNIT) + before * np.where(full, UNIT - 1, seen))
             // np.where(full, UNIT, seen + UNIT))
    target.state[index] = (np.minimum(seen + UNIT, MOST) << 8) | level
