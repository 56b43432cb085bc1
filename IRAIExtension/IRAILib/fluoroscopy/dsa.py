"""Digital subtraction angiography: which frames are bare, which of them is the mask, subtraction, MINIP, roadmap.

Everything is subtracted as the logarithm of intensity; contrast medium is negative. Pixels are (row, column).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from ..geometry import CancelledError, InputError, RefusedError
from ..images.xa import XARun
from .dsa_motion import MovingMask, pixel_shift, shifted

METHODS = ("plain", "shift", "motion")
VALIDATED_ON = ("one coronary run (96 frames, 512x512, JPEG) and vessels painted into its bare frames; an image to "
                "look at, not a measurement of flow. Motion keeps vessels but takes signal from broad dark patches "
                "(blush): there use plain or shift")
EARLY_S = 0.15
"""The first contrast is too faint to be told from noise: bare frames end so long (2 frames at least) before."""
CHOICES = 6
"""So many of the last bare frames are kept as masks to choose from."""
DARK = 0.02
"""Pixels below this part of the bright level lie outside the shutters."""


@dataclass
class DSAResult:
    """A subtracted run.

    Attributes:
        frames: (n, rows, columns) float32, logarithm of live less mask: contrast is negative. 0 outside `inside`.
        mask_of: (n,) frame that was the mask, -1 where several were averaged. bare: frames without contrast.
        motion_px: (n,) largest displacement of the mask. inside: (rows, columns) bool, lit part of the detector.
    """

    frames: np.ndarray
    method: str
    inside: np.ndarray
    mask_of: np.ndarray
    motion_px: np.ndarray
    bare: list[int]
    time_s: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {"method": self.method, "frames": len(self.frames), "size": list(self.frames.shape[:0:-1]),
                "mask_of": self.mask_of.tolist(), "bare_frames": self.bare,
                "motion_px": [round(float(v), 2) for v in self.motion_px],
                "unit": "natural logarithm of intensity, or the file's own logarithm; contrast is negative",
                "frame": "image (column, row)", "notes": list(self.notes), "validated_on": VALIDATED_ON}


def lit_region(run_frames: np.ndarray) -> np.ndarray:
    """(rows, columns) bool: where X-ray reaches the detector, from (n, rows, columns) values (more X-ray is higher)."""
    sparse = np.asarray(run_frames)[::max(1, len(run_frames) // 16)].astype(np.float32)
    usual = np.median(sparse, axis=0)
    lit = usual - usual.min() > DARK * max(float(np.percentile(usual, 95) - usual.min()), 1e-6)
    if lit.all():
        return lit
    labels: Any = ndimage.label(ndimage.binary_opening(lit, iterations=3))
    parts = labels[0]
    if not parts.any():
        return np.ones_like(lit)
    largest = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    return np.asarray(ndimage.binary_erosion(ndimage.binary_fill_holes(largest), iterations=8))


def bare_frames(log_frames: np.ndarray, inside: np.ndarray, time_s: np.ndarray | None = None) -> list[int]:
    """Frames before the contrast arrives, without those where the exposure still settles. Empty if none is bare.

    Contrast darkens a few narrow places and brightens none, motion does both: the arrival is where the darkest changes
    outgrow the brightest for good. (n, rows, columns) logarithms, (rows, columns) bool, (n,) seconds.
    """
    n, k = len(log_frames), max(1, round(max(inside.shape) / 256))
    rows, columns = (s // k * k for s in inside.shape)
    small: np.ndarray = np.array([_coarse(f[:rows, :columns], k, level=False) for f in log_frames])
    lit: np.ndarray = np.asarray(ndimage.binary_erosion(inside[:rows:k, :columns:k], iterations=3))
    if n < 3 or lit.sum() < 64:
        return []
    level = np.median(small[:, lit], axis=1)
    steady = np.abs(level - np.median(level)) < 0.05 * max(float(np.ptp(level)), 1.0)
    start = int(np.argmax(steady))
    fine: np.ndarray = np.array([np.asarray(f - ndimage.gaussian_filter(f, 6.0))[lit] for f in small])
    change = fine - np.median(fine[start:start + 3], axis=0)
    skew = -np.percentile(change, 0.3, axis=1) - np.percentile(change, 99.7, axis=1)
    first = skew[start:start + 6]
    base = float(np.median(first))
    rise = max(float(np.percentile(skew, 95)) - base, 0.0)
    noise = 1.4826 * float(np.median(np.abs(fine[start:] - np.median(fine[start:], axis=0))))
    if rise < 2 * noise:
        return []
    above = skew > base + 0.1 * rise
    lasting = [t for t in range(start, n) if above[t:t + 3].all()]
    step_s = float(np.median(np.diff(time_s))) if time_s is not None and n > 1 else 0.05
    early = max(2, round(EARLY_S / max(step_s, 1e-3)))
    return list(range(start, max(lasting[0] - early, start))) if lasting else []


class Subtraction:
    """Masks, ready for live frames.

    Args:
        masks: (m, rows, columns) logarithms of bare frames. inside: (rows, columns) bool. numbers: their frame numbers.
        fixed_shift_px: (rows, columns) by hand or by the file, used with method "plain" and instead of the automatic
            shift.

    Raises InputError for an unknown method or no mask.
    """

    def __init__(self, masks: np.ndarray, inside: np.ndarray, method: str = "motion", *,
                 numbers: Sequence[int] | None = None, fixed_shift_px: Sequence[float] | None = None) -> None:
        if method not in METHODS:
            raise InputError(f"DSA: no method '{method}'; there are {', '.join(METHODS)}")
        masks = np.asarray(masks, np.float32)
        if masks.ndim != 3 or not len(masks):
            raise InputError(f"DSA: masks must be (count, rows, columns), not {masks.shape}")
        self.method, self.inside = method, np.asarray(inside, bool)
        self.masks = [MovingMask(mask, self.inside) for mask in masks]
        self.numbers = list(numbers if numbers is not None else range(len(masks)))
        self._fixed = None if fixed_shift_px is None else np.asarray(fixed_shift_px, np.float32).reshape(2)
        self._small = [_coarse(mask) for mask in masks]
        lit = _coarse(self.inside.astype(np.float32), level=False) > 0.99
        self._lit = lit if lit.any() else np.ones_like(lit)

    def best(self, live: np.ndarray) -> int:
        """Index of the mask that differs least from the live frame in most places (what contrast changes counts less).
        """
        if len(self.masks) == 1:
            return 0
        small = _coarse(live)
        rests = [np.abs(small - mask)[self._lit] for mask in self._small]
        return int(np.argmin([np.mean(np.sort(rest)[: max(1, int(0.8 * rest.size))]) for rest in rests]))

    def movement(self, live: np.ndarray, index: int) -> np.ndarray:
        """Shift (2,) or field (2, grid rows, grid columns) of mask `index`, in pixels."""
        if self.method == "motion":
            return self.masks[index].field(live)
        if self._fixed is not None:
            return self._fixed
        if self.method == "shift":
            return pixel_shift(live, self.masks[index].mask, self.inside).astype(np.float32)
        return np.zeros(2, np.float32)

    def subtract(self, live: np.ndarray) -> tuple[np.ndarray, int, np.ndarray]:
        """(live less mask (rows, columns) float32 and 0 outside, index of the mask, its movement)."""
        live = np.asarray(live, np.float32)
        if live.shape != self.inside.shape or not np.isfinite(live).all():
            raise InputError(f"DSA: a frame of {live.shape} doesn't fit masks of {self.inside.shape}, or isn't finite")
        index = self.best(live)
        movement = self.movement(live, index)
        mask = self.masks[index].mask if not movement.any() else self.masks[index].moved(movement)
        out = live - mask
        sparse = out[::4, ::4][self.inside[::4, ::4]]
        out -= np.median(sparse) if sparse.size else np.float32(0)
        out *= self.inside
        return out, index, movement


def subtract(run: XARun, *, method: str = "motion", mask_frames: Sequence[int] | str | None = None,
             shift_px: Sequence[float] | None = None, progress: Callable[[float, str], None] | None = None,
             cancelled: Callable[[], bool] | None = None) -> DSAResult:
    """Subtract a mask from every frame of a run.

    Args:
        method: "plain" (one mask where it is), "shift" (one sub-pixel shift a frame) or "motion" (a smooth field).
        mask_frames: numbers from 0; "file" for the run's own Mask Subtraction Sequence; None: the last bare frames,
            found by when contrast arrives. "plain" uses the last of them, the others the one that fits a frame best.
        shift_px: (rows, columns), a shift by hand for "plain" and "shift".

    Raises: InputError for numbers that aren't there, RefusedError when no frame is bare, CancelledError.
    Levels are set to zero by the median of each frame, since exposure control changes them.
    """
    inside = lit_region(run.frames)
    logs = run.log_frames()
    masks, numbers, told, notes = _masks(run, logs, inside, mask_frames, method)
    worker = Subtraction(masks, inside, method, numbers=numbers, fixed_shift_px=shift_px if told is None else told)
    out = np.empty(logs.shape, np.float32)
    mask_of, motion = np.empty(len(logs), int), np.empty(len(logs))
    for n, live in enumerate(logs):
        if cancelled is not None and cancelled():
            raise CancelledError("DSA: cancelled; nothing was written")
        if progress is not None:
            progress(n / len(logs), f"frame {n + 1} of {len(logs)}")
        out[n], index, movement = worker.subtract(live)
        mask_of[n] = worker.numbers[index]
        motion[n] = float(np.sqrt(np.square(movement.reshape(2, -1)).sum(0)).max())
    bare = [n for n in numbers if n >= 0]
    return DSAResult(out, method, inside, mask_of, motion, bare, run.time_s, [*run.notes, *notes])


def _masks(run: XARun, logs: np.ndarray, inside: np.ndarray, wanted: Sequence[int] | str | None,
           method: str) -> tuple[np.ndarray, list[int], tuple[float, float] | None, list[str]]:
    if isinstance(wanted, str):
        item = next((m for m in run.masks if m.operation == "AVG_SUB"), None)
        if wanted != "file" or item is None:
            raise InputError(f"{run.source}: no mask frames in the file (its Mask Subtraction Sequence has no "
                             "AVG_SUB); name them or let them be found")
        shift = item.shift_px if any(item.shift_px) else None
        mean = logs[list(item.mask_frames)].mean(0, keepdims=True)
        return mean, [-1], shift, [f"mask of the file: mean of frames {list(item.mask_frames)}"]
    if wanted is not None:
        numbers = [int(n) for n in wanted]
        if not numbers or min(numbers) < 0 or max(numbers) >= len(logs):
            raise InputError(f"{run.source}: mask frames {numbers} aren't among 0 to {len(logs) - 1}")
        note = f"mask frames {numbers} by hand"
    else:
        numbers = bare_frames(logs, inside, run.time_s)
        if not numbers:
            raise RefusedError(f"{run.source}: no frame without contrast was found at its start; name mask frames "
                               "(--mask-frames) if you see one")
        note = f"no contrast was seen up to frame {numbers[-1]} (counted from 0)"
        numbers = numbers[-1:] if method == "plain" else numbers[-CHOICES:]
    if method == "plain" and len(numbers) > 1:
        return logs[numbers].mean(0, keepdims=True), [-1], None, [note]
    return logs[numbers], numbers, None, [note]


def minip(frames: np.ndarray) -> np.ndarray:
    """(rows, columns) minimum over time of (n, rows, columns) subtracted frames: the whole vessel tree.

    Raises InputError without frames.
    """
    frames = np.asarray(frames)
    if frames.ndim != 3 or not len(frames):
        raise InputError(f"DSA: (frames, rows, columns) are needed, {frames.shape} came")
    return frames.min(axis=0)


class Roadmap:
    """Vessels of a run laid over live frames that have no contrast.

    Args:
        mask: (rows, columns) logarithm of a bare frame. vessels: (rows, columns) subtracted picture (contrast
            negative), usually `minip`. inside: (rows, columns) bool. method: how the vessels follow, as `Subtraction`.
        noise: of `vessels`, natural logarithm; what is fainter than three times this isn't drawn. From the picture
            itself if None.
    """

    def __init__(self, mask: np.ndarray, vessels: np.ndarray, inside: np.ndarray, method: str = "shift", *,
                 noise: float | None = None) -> None:
        vessels = np.asarray(vessels, np.float32)
        if vessels.shape != np.shape(mask):
            raise InputError(f"roadmap: vessels of {vessels.shape} don't fit a mask of {np.shape(mask)}")
        self._work = Subtraction(np.asarray(mask)[None], inside, method)
        lit = vessels[self._work.inside]
        level = float(np.median(lit)) if lit.size else 0.0
        spread = 1.4826 * float(np.median(np.abs(lit - level))) if noise is None and lit.size else float(noise or 0.0)
        deepest = float(np.percentile(lit, 1)) if lit.size else 0.0
        depth = max(level - 3 * spread - deepest, 1e-6)
        self.opacity = np.clip((level - 3 * spread - vessels) / depth, 0, 1).astype(np.float32) * self._work.inside

    def follow(self, live: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """((rows, columns) opacity of the vessels where they are in this frame, movement in pixels)."""
        movement = self._work.movement(np.asarray(live, np.float32), 0)
        if not movement.any():
            return self.opacity, movement
        moved = shifted(self.opacity, movement) if movement.ndim == 1 else self._work.masks[0].carry(self.opacity,
                                                                                                     movement)
        return moved, movement

    def overlay(self, live: np.ndarray, shown: np.ndarray | None = None, color: Sequence[float] = (1.0, 0.35, 0.2),
                strength: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
        """((rows, columns, 3) uint8, movement): the live frame in grey, vessels in colour.

        `live` is logarithmic; `shown` what to display instead (any grey values).
        """
        opacity, movement = self.follow(live)
        grey = np.asarray(live if shown is None else shown, np.float32)
        low, high = np.percentile(grey[self._work.inside], (0.5, 99.5)) if self._work.inside.any() else (0.0, 1.0)
        base = np.clip((grey - low) / max(high - low, 1e-6), 0, 1)[..., None]
        alpha = (strength * opacity)[..., None]
        picture = base * (1 - alpha) + np.asarray(color, np.float32) * alpha
        return (picture * 255).round().astype(np.uint8), movement


def _coarse(frame: np.ndarray, k: int = 8, level: bool = True) -> np.ndarray:
    """Means of k x k pixels, their median taken off."""
    rows, columns = (s // k * k for s in frame.shape)
    small = frame[:rows, :columns].reshape(rows // k, k, columns // k, k).mean((1, 3))
    return small - np.median(small) if level else small
