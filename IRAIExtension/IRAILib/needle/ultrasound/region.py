"""Where the ultrasound lies in a picture: the fan or rectangle inside a screenshot with its texts, bars and rulers.

A live image may be a whole screen. What does not move in a sequence, what is coloured, and what is small and
apart is the machine's writing; the rest is the ultrasound. Its outline tells a linear from a curved array.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ...geometry import InputError, RefusedError
from .detection import checked_frames

MAX_SIDE_PX = 1300  # larger pictures are looked at in every second, third ... pixel
DARK = 6  # grey value up to which a pixel counts as black: codecs leave a few grey values of noise
MIN_AREA_FRACTION = 0.01  # of the picture, for something to be the ultrasound
DIVERGENCE_DEG = 12.0  # opening angle of the two sides from which an array is taken as curved
PIECE_FRACTION = 0.08  # of the main part's area, for another piece of ultrasound
MAX_TILT = 0.3  # of the opening angle: a fan hangs straight down
_ALIGNED = 0.06  # of the width: two edges are the same edge, a maker's mark beside it included
_MARGIN_ROWS = 0.08  # top and bottom part of the outline left out when the sides are fitted


@dataclass(frozen=True)
class Fan:
    """Outline of a curved array in pixels: apex (x, y), first and last radius, first and last angle.

    Angles are in radians from straight down, positive towards larger x.
    """

    apex_px: tuple[float, float]
    radius_px: tuple[float, float]
    angle_rad: tuple[float, float]


@dataclass(frozen=True)
class Region:
    """The ultrasound inside a picture.

    Attributes:
        box: (x0, y0, x1, y1), first and last pixel, inclusive.
        mask: (h, w) bool, True inside the ultrasound and not on a static overlay.
        kind: "linear" or "curvilinear".
        fan: outline for "curvilinear", else None.
    """

    box: tuple[int, int, int, int]
    mask: np.ndarray
    kind: str
    fan: Fan | None = None

    @property
    def width_px(self) -> int:
        return self.box[2] - self.box[0] + 1

    @property
    def height_px(self) -> int:
        """Rows from the transducer's face to the greatest depth: what `--depth-mm` belongs to."""
        return self.box[3] - self.box[1] + 1

    def to_dict(self) -> dict:
        fan = self.fan
        return {"box": list(self.box), "kind": self.kind,
                "fan": None if fan is None else {"apex_px": list(fan.apex_px), "radius_px": list(fan.radius_px),
                                                 "angle_deg": [math.degrees(a) for a in fan.angle_rad]}}


def whole_picture(shape: tuple[int, int]) -> Region:
    """The picture is nothing but ultrasound of a linear array."""
    return Region((0, 0, shape[1] - 1, shape[0] - 1), np.ones(shape, bool), "linear")


def grey_frames(frames: np.ndarray) -> np.ndarray:
    """(t, h, w) or (t, h, w, 3) uint8 to grey; coloured pixels (the machine's own marks, Doppler) become black.

    Raises: InputError for another shape or type.
    """
    array = np.asarray(frames)
    if array.ndim == 4 and array.shape[3] == 3 and array.dtype == np.uint8:
        low, high = array.min(3), array.max(3)
        grey = np.where(high.astype(np.int16) - low > 48, 0, array[..., 1]).astype(np.uint8)
        return checked_frames(grey)
    return checked_frames(array)


def find_region(frames: np.ndarray) -> Region:
    """The ultrasound in (t, h, w) uint8 frames; with t > 1 what never changes is left out.

    Raises: RefusedError when no part of the picture looks like ultrasound (black, or text only).
    """
    frames = checked_frames(frames)
    factor = math.ceil(max(frames.shape[1:]) / MAX_SIDE_PX)
    if factor > 1:
        return _enlarged(find_region(frames[:, ::factor, ::factor]), factor, frames.shape[1:])
    bright = frames.max(0) > DARK
    static = np.zeros(bright.shape, bool)
    if len(frames) >= 3:
        spread = frames.max(0).astype(np.int16) - frames.min(0)
        moving = ndimage.uniform_filter((spread > DARK).astype(np.float32), 5) > 0.15
        if moving.mean() > MIN_AREA_FRACTION:  # a frozen image has no moving part: then it is one picture
            static = (spread <= 2) & (frames.max(0) > 60)
            bright &= ndimage.binary_dilation(moving, iterations=3)
    part = _main_part(bright)
    rows = np.flatnonzero(part.any(1))
    columns = np.flatnonzero(part.any(0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1]))
    fan = _fitted_fan(part, box)
    if fan is None:
        mask = np.zeros(bright.shape, bool)
        mask[box[1]:box[3] + 1, box[0]:box[2] + 1] = True
    else:
        mask = _fan_mask(fan, bright.shape)
    return Region(box, mask & ~static, "linear" if fan is None else "curvilinear", fan)


def _enlarged(region: Region, factor: int, shape: tuple[int, ...]) -> Region:
    """The region of every `factor`-th pixel, for all pixels."""
    height, width = shape
    x0, y0, x1, y1 = (factor * value for value in region.box)
    mask = np.repeat(np.repeat(region.mask, factor, 0), factor, 1)[:height, :width]
    fan = region.fan
    if fan is not None:
        fan = Fan((fan.apex_px[0] * factor, fan.apex_px[1] * factor),
                  (fan.radius_px[0] * factor, fan.radius_px[1] * factor), fan.angle_rad)
    box = (x0, y0, min(x1 + factor, width) - 1, min(y1 + factor, height) - 1)
    return Region(box, mask, region.kind, fan)


def _main_part(bright: np.ndarray) -> np.ndarray:
    """The largest textured component, and those whose sides lie on the same edges (the skin line above water)."""
    opened = ndimage.uniform_filter(bright.astype(np.float32), 7) > 0.5  # speckle joins, thin writing goes
    labels = _labelled(opened)
    if not opened.any():
        raise RefusedError("no ultrasound was found in the picture: it is black, or holds lines and text only")
    sizes = np.bincount(labels.ravel(), opened.ravel())
    main = int(np.argmax(sizes))
    if sizes[main] < MIN_AREA_FRACTION * bright.size:
        raise RefusedError("no ultrasound was found in the picture: no bright part is larger than "
                           f"{MIN_AREA_FRACTION:.0%} of it")
    part = (labels == main) & bright
    columns = np.flatnonzero(part.sum(0) > 2)
    left, right = int(columns[0]), int(columns[-1])
    width = right - left
    for label, box in enumerate(_boxes(opened), 1):  # pieces of tissue with shadow between them
        within = box[1].start >= left - 0.1 * width and box[1].stop - 1 <= right + 0.1 * width
        if within and sizes[label] > PIECE_FRACTION * sizes[main]:
            part |= (labels == label) & bright
    top = int(np.flatnonzero(part.any(1))[0])
    joined = ndimage.binary_closing(bright, np.ones((1, max(width // 10, 9))))
    runs = ndimage.binary_opening(joined, np.ones((1, max(width // 2, 9))))
    for box in _boxes(runs):  # long thin rows above it: the transducer's face over water
        start, stop = box[1].start, box[1].stop - 1
        covers = min(stop, right) - max(start, left) > 0.8 * width and stop - start < 1.7 * width
        above = box[0].start < top
        if not (covers and above) or min(abs(start - left), abs(stop - right)) > _ALIGNED * width:
            continue
        first = left if abs(start - left) <= abs(stop - right) else start  # the side that agrees holds
        last = right if abs(stop - right) < abs(start - left) else stop
        piece = (box[0], slice(first, last + 1))
        part[piece] |= bright[piece]
    return part


def _labelled(mask: np.ndarray) -> np.ndarray:
    """(h, w) int32: number of the connected part, corners included; 0 outside."""
    labels = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, np.ones((3, 3)), output=labels)
    return labels


def _boxes(mask: np.ndarray) -> list[tuple[slice, slice]]:
    """Slices of every connected part, corners included, in the order of its label."""
    return ndimage.find_objects(_labelled(mask))


def _sides(part: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, and the first and last column of the part in each of them."""
    rows = np.flatnonzero(part.any(1))
    first = part[rows].argmax(1)
    last = part.shape[1] - 1 - part[rows][:, ::-1].argmax(1)
    return rows, first, last


def _robust_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and offset of y over x, outer points left out step by step."""
    keep = np.ones(len(x), bool)
    slope, offset = 0.0, float(np.median(y))
    for _ in range(6):
        slope, offset = np.polyfit(x[keep], y[keep], 1)
        residual = np.abs(y - slope * x - offset)
        keep = residual <= max(1.5, 2.0 * float(np.median(residual)))
    return float(slope), float(offset)


def _fitted_fan(part: np.ndarray, box: tuple[int, int, int, int]) -> Fan | None:
    """The fan whose straight sides fit the outline, or None for a rectangle (or an outline that shows neither)."""
    rows, first, last = _sides(part)
    width = last - first
    widest = int(np.argmax(ndimage.uniform_filter1d(width.astype(float), 5)))
    skip = int(_MARGIN_ROWS * len(rows))
    use = slice(skip, max(widest - skip // 2, skip))
    if widest - skip < 0.2 * len(rows) or len(rows[use]) < 12:
        return None
    slope_left, offset_left = _robust_line(rows[use], first[use])
    slope_right, offset_right = _robust_line(rows[use], last[use])
    opening = math.degrees(math.atan(slope_right) - math.atan(slope_left))
    tilt = math.degrees(abs(math.atan(slope_right) + math.atan(slope_left)))
    if opening < DIVERGENCE_DEG or tilt > MAX_TILT * opening:
        return None
    apex_y = (offset_left - offset_right) / (slope_right - slope_left)
    apex_x = slope_left * apex_y + offset_left
    if apex_y > box[3]:
        return None
    y, x = np.nonzero(part)
    angles = (math.atan(slope_left), math.atan(slope_right))
    middle = np.abs(np.arctan2(x - apex_x, y - apex_y) - 0.5 * sum(angles)) < 0.25 * (angles[1] - angles[0])
    if not middle.any():
        return None
    radii = np.hypot(x - apex_x, y - apex_y)[middle]
    low, high = np.percentile(radii, [0.1, 99.9])
    return Fan((apex_x, apex_y), (float(low), float(high)), (float(angles[0]), float(angles[1])))


def _fan_mask(fan: Fan, shape: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    radius = np.hypot(x - fan.apex_px[0], y - fan.apex_px[1])
    angle = np.arctan2(x - fan.apex_px[0], y - fan.apex_px[1])
    return ((radius >= fan.radius_px[0] - 0.5) & (radius <= fan.radius_px[1] + 0.5)
            & (angle >= fan.angle_rad[0]) & (angle <= fan.angle_rad[1]))


def region_from_box(box: tuple[int, int, int, int], shape: tuple[int, int]) -> Region:
    """A rectangle (x0, y0, x1, y1; inclusive) that the user or DICOM gives. Raises: InputError outside the picture."""
    x0, y0, x1, y1 = (int(value) for value in box)
    if not (0 <= x0 < x1 < shape[1] and 0 <= y0 < y1 < shape[0]):
        raise InputError(f"the region {box} does not lie inside a picture of {shape[1]}x{shape[0]} pixels")
    mask = np.zeros(shape, bool)
    mask[y0:y1 + 1, x0:x1 + 1] = True
    return Region((x0, y0, x1, y1), mask, "linear")
