"""From a full picture to the network's canvas and back: proportions kept, averaged, centred. numpy only."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .simulator_geometry import letterbox

CANVAS = (256, 192)  # (width, height) that the network sees
STACK = 3  # frames
STRIDE = 2  # canvas pixels per pixel of the network's maps


@lru_cache(maxsize=16)
def _bands(length: int, target: int, factor: float, shift: int) -> tuple[np.ndarray, np.ndarray, slice]:
    """For each output position inside the picture: input indices (n, k), weights (n, k); and where it goes."""
    count = min(max(round(length * factor), 1), target)
    centre = (np.arange(count) + 0.5) / factor - 0.5
    reach = max(1.0, 1.0 / factor)  # triangle filter: bilinear when enlarging, averaging when reducing
    taps = int(np.ceil(reach)) * 2
    first = np.floor(centre).astype(int) - taps // 2 + 1
    index = first[:, None] + np.arange(taps)
    weight = np.maximum(1 - np.abs(index - centre[:, None]) / reach, 0)
    weight /= weight.sum(1, keepdims=True)
    return np.clip(index, 0, length - 1), weight.astype(np.float32), slice(shift, shift + count)


def canvas_from_frame(frame: np.ndarray) -> np.ndarray:
    """(h, w) uint8 to (192, 256) float32 in 0..1; what lies beside the picture is 0."""
    width, height = CANVAS
    factor, shift = letterbox((frame.shape[0], frame.shape[1]), (height, width))
    rows, row_weight, to_rows = _bands(frame.shape[0], height, factor, int(shift[1]))
    columns, column_weight, to_columns = _bands(frame.shape[1], width, factor, int(shift[0]))
    tall = np.zeros((len(rows), frame.shape[1]), np.float32)
    for tap in range(rows.shape[1]):
        tall += frame[rows[:, tap]] * row_weight[:, tap, None]
    across = np.ascontiguousarray(tall.T)
    fit = np.zeros((len(columns), len(rows)), np.float32)
    for tap in range(columns.shape[1]):
        fit += across[columns[:, tap]] * column_weight[:, tap, None]
    canvas = np.zeros((height, width), np.float32)
    canvas[to_rows, to_columns] = fit.T * np.float32(1 / 255)
    return canvas


def canvas_from_frame_px(points_px: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(..., 2) pixels of a picture of `shape` (h, w) to pixels of the canvas."""
    factor, shift = letterbox(shape, (CANVAS[1], CANVAS[0]))
    return (np.asarray(points_px, float) + 0.5) * factor - 0.5 + np.array(shift)


def map_from_frame_px(points_px: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(..., 2) pixels of a picture of `shape` (h, w) to pixels of the network's maps."""
    return (canvas_from_frame_px(points_px, shape) + 0.5) / STRIDE - 0.5


def frame_px_from_map(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The way back of `map_from_frame_px`."""
    factor, shift = letterbox(shape, (CANVAS[1], CANVAS[0]))
    canvas = (np.asarray(points, float) + 0.5) * STRIDE - 0.5
    return (canvas - np.array(shift) + 0.5) / factor - 0.5
