"""Where the collimator should stand: a rectangle that keeps what matters, with the dose it would save.

Dose-area product scales with the open area as long as the exposure per area stays; automatic exposure control may raise
it when bright borders go. The display itself may be off by 35 % (IEC 60601-2-43), but the ratio is one of areas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ..geometry import InputError, RefusedError

VALIDATED_ON = "painted regions with the best rectangle known; no phantom, no change of the exposure control"
DAP_UNCERTAINTY = 0.35
GRID = 40


@dataclass(frozen=True)
class Preferences:
    """What keeping is worth against dose.

    dose: cost of the whole field. keep: region's name to the worth of keeping all of it. must: names that have to stay
    in whole. margin_px: round every region. least_px: smallest side.
    """

    dose: float = 1.0
    keep: Mapping[str, float] | None = None
    must: Sequence[str] = ("target", "device")
    margin_px: float = 20.0
    least_px: int = 32


@dataclass(frozen=True)
class Collimation:
    """A proposed field. edges_px: (left, right, top, bottom), right and bottom beyond the last open pixel.

    area_share: of the field that was open. kept: region's name to the share of it that is seen then (what lay outside
    the open field before isn't). dap_before, dap_after: in the unit given, None if unknown; dap_sd_after: one standard
    uncertainty.
    """

    edges_px: tuple[int, int, int, int]
    area_share: float
    kept: dict[str, float]
    motion_px: float
    dap_before: float | None
    dap_after: float | None
    dap_sd_after: float | None

    def to_dict(self) -> dict[str, Any]:
        return {"edges_px": list(self.edges_px), "area_share": self.area_share, "kept": dict(self.kept),
                "motion_px": self.motion_px, "dap_before": self.dap_before, "dap_after": self.dap_after,
                "dap_sd_after": self.dap_sd_after, "dap_saved_share": 1.0 - self.area_share,
                "dap_relative_uncertainty": DAP_UNCERTAINTY, "frame": "image (column, row)",
                "note": "exposure control may raise the dose per area; the share is of areas",
                "validated_on": VALIDATED_ON}


def region_over_time(masks: np.ndarray) -> tuple[np.ndarray, float]:
    """((rows, columns) bool everywhere the region comes, motion in px) of (n, rows, columns) masks of a moving region.

    Motion is the largest distance of its middle from the middle of all. Empty frames don't count. Raises InputError.
    """
    masks = np.asarray(masks) > 0
    if masks.ndim != 3 or not len(masks):
        raise InputError(f"collimation: (frames, rows, columns) are needed, {masks.shape} came")
    middles = np.array([[axis.mean() for axis in np.nonzero(m)] for m in masks if m.any()])
    motion = float(np.linalg.norm(middles - middles.mean(0), axis=1).max()) if len(middles) else 0.0
    return np.asarray(masks.any(axis=0)), motion


def propose_collimation(regions: Mapping[str, np.ndarray], *, preferences: Preferences | None = None,
                        open_px: Sequence[int] | None = None, motion_px: float = 0.0,
                        dap: float | None = None) -> Collimation:
    """The rectangle of most worth: what it keeps of the regions less what its area costs.

    Args:
        regions: name ("vessels", "device", "target", ...) to (rows, columns) bool or weights >= 0, over all frames.
        open_px: (left, right, top, bottom) of the present field; the whole picture if None. Never made larger.
        motion_px: to add to the margin. dap: dose-area product of the present field per frame or run, any unit.

    Raises: InputError for shapes and values; RefusedError when no region has a pixel in the open field.
    """
    preferences = preferences or Preferences()
    fields = {name: np.asarray(mask, np.float64) for name, mask in regions.items()}
    shapes = {f.shape for f in fields.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise InputError("collimation: the regions must be pictures (rows, columns) of one size")
    if any(not np.isfinite(f).all() or f.min() < 0 for f in fields.values()) or not motion_px >= 0:
        raise InputError("collimation: regions hold weights of zero or more, and motion is no less than zero")
    rows, columns = next(iter(shapes))
    left, right, top, bottom = (int(v) for v in (open_px if open_px is not None else (0, columns, 0, rows)))
    if not (0 <= left < right <= columns and 0 <= top < bottom <= rows):
        raise InputError(f"collimation: the open field {(left, right, top, bottom)} isn't within {columns}x{rows}")
    field = (slice(top, bottom), slice(left, right))
    whole = {name: float(f.sum()) for name, f in fields.items()}
    fields = {name: f[field] for name, f in fields.items()}
    if not any(f.any() for f in fields.values()):
        raise RefusedError("collimation: nothing to keep was found in the open field; the field stays as it is")
    margin = preferences.margin_px + motion_px
    box = _best(fields, preferences, margin)
    area = (box[1] - box[0]) * (box[3] - box[2])
    share = area / ((right - left) * (bottom - top))
    kept = {name: float(f[box[2]:box[3], box[0]:box[1]].sum()) / whole[name] if whole[name] else 1.0
            for name, f in fields.items()}
    after = None if dap is None else float(dap) * share
    return Collimation((box[0] + left, box[1] + left, box[2] + top, box[3] + top), float(share), kept, float(motion_px),
                       dap, after, None if after is None else after * DAP_UNCERTAINTY)


def _best(fields: Mapping[str, np.ndarray], preferences: Preferences, margin: float) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) within the field: all pairs of edges on a grid, worth by integral pictures."""
    rows, columns = next(iter(fields.values())).shape
    must = np.zeros((rows, columns), bool)
    worth = np.zeros((rows, columns))
    for name, values in fields.items():
        wide = _widened(values, margin)
        if name in preferences.must and values.any():
            must |= wide > 0
        gain = (preferences.keep or {}).get(name, 2.0)
        worth += gain * wide / wide.sum() if wide.any() else 0.0
    tall, broad = np.asarray(must.any(axis=1)), np.asarray(must.any(axis=0))
    ys, xs = _edges(rows, tall), _edges(columns, broad)
    total = np.pad(worth, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    must_y, must_x = (np.nonzero(used)[0] for used in (tall, broad))
    best, found = -np.inf, (0, columns, 0, rows)
    for a, top in enumerate(ys):
        for bottom in ys[a + 1:]:
            if bottom - top < min(preferences.least_px, rows):
                continue
            if must_y.size and (top > must_y[0] or bottom <= must_y[-1]):
                continue
            strip = total[bottom, xs] - total[top, xs]
            width = xs[None] - xs[:, None]
            value = strip[None] - strip[:, None] - preferences.dose * width * (bottom - top) / (rows * columns)
            value = np.where(width >= min(preferences.least_px, columns), value, -np.inf)
            if must_x.size:
                value = np.where((xs[:, None] <= must_x[0]) & (xs[None] > must_x[-1]), value, -np.inf)
            i, j = np.unravel_index(int(np.argmax(value)), value.shape)
            if value[i, j] > best + 1e-12:
                best, found = float(value[i, j]), (int(xs[i]), int(xs[j]), int(top), int(bottom))
    return found


def _edges(length: int, used: np.ndarray) -> np.ndarray:
    """Edges to try: an even grid, and where what must stay begins and ends."""
    own = np.nonzero(used)[0]
    exact = [int(own[0]), int(own[-1]) + 1] if own.size else []
    return np.unique([*np.linspace(0, length, min(GRID, length) + 1).round().astype(int), *exact])


def _widened(values: np.ndarray, margin: float) -> np.ndarray:
    """Weights carried `margin` pixels outwards (to the nearest region pixel)."""
    if not values.any():
        return values
    found: Any = ndimage.distance_transform_edt(values <= 0, return_indices=True)
    distance, nearest = found
    out = values[tuple(nearest)]
    return np.where(distance <= margin, out, 0.0)
