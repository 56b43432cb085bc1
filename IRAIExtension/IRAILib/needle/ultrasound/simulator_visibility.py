"""What of a simulated needle a careful observer can see: the rule behind `visible` and `counted`.

It looks at the picture and at the same picture rendered without the needle (same tissue, same noise), both as they
lie on the canvas of 256 x 192 pixels, and at the true curve; never at what a detector found. Everywhere along the
curve a matched filter for a line (mean grey level of a short stretch of it, over the mean of its two sides) gives the
needle's signal in the one picture, and the spread of its answers at parallel places in the other one gives the noise
(speckle, layers and strands alike): their ratio is the detectability d' of signal detection theory, with the
observer's own noise as a floor. At the tip the shaft must also be brighter than what lies beyond it. Source: Burgess
1999, "The Rose model, revisited" (matched filter, internal noise, d'); the numbers are choices, given below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates, uniform_filter1d

from .features import canvas_from_frame, canvas_from_frame_px

STRETCH_PX = 16  # of the shaft that is looked at together (6 % of the picture's width)
SIDE_PX = (3, 8)  # both sides, beyond the line's own blur
AROUND_PX = 20  # how far the parallel places reach that give the noise
LEAST_GREY = 15.0  # contrast that an eye picks out on a screen, of 255
OBSERVER_GREY = 3.0  # noise of the observer, of the mean of a stretch
LEAST_D = 2.5  # signal over noise
LEAST_LENGTH_PX = 20.0  # visible shaft: 8 % of the picture's width
LEAST_FRACTION = 0.2  # of the shaft in the picture
TIP_PX, TIP_PART = 12, 0.6  # of the last stretch before the tip so much must be visible


@dataclass
class Sight:
    """What is seen of one curve: `visible` (n,) per point, the length in canvas pixels, and the tip's end."""

    visible: np.ndarray
    length_px: float
    tip: bool


def sight_of(picture: np.ndarray, without: np.ndarray, curve_px: np.ndarray) -> Sight:
    """What of the needle can be seen in `picture`.

    Args: picture and the same `without` the needle, (h, w) uint8; curve_px (n, 2), x and y, from the entry to the tip.
    """
    curve = canvas_from_frame_px(curve_px, (picture.shape[0], picture.shape[1]))
    run = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    at = run[-1] - np.arange(0.0, run[-1])[::-1]  # one place a pixel, the last one at the tip
    if len(at) < 4:
        return Sight(np.zeros(len(curve_px), bool), 0.0, False)
    points = np.stack([np.interp(at, run, curve[:, axis]) for axis in (0, 1)], -1)
    tangent = np.gradient(points, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    ends = points[-1] + np.arange(3.0, 3.0 + TIP_PX)[:, None] * tangent[-1]
    points, tangent = np.concatenate([points, ends]), np.concatenate([tangent, np.repeat(tangent[-1:], TIP_PX, 0)])
    grey, empty = (_parallel(canvas_from_frame(frame) * 255, points, tangent) for frame in (picture, without))
    shaft, middle = slice(0, len(at)), AROUND_PX
    beyond = float(grey[len(at):, middle - 1:middle + 2].max(1).mean())
    line, free = (uniform_filter1d(part[shaft], min(STRETCH_PX, len(at)), axis=0, mode="nearest")
                  for part in (grey, empty))
    sides, noise = _sides(free)
    centre = line[:, middle - 1:middle + 2].max(1)
    contrast = np.minimum(centre - sides, centre - free[:, middle - 1:middle + 2].max(1))
    seen = (contrast >= LEAST_GREY) & (contrast >= LEAST_D * noise)
    last = slice(max(len(at) - TIP_PX, 0), len(at))
    drop = float(grey[last, middle - 1:middle + 2].max(1).mean()) - beyond
    tip = float(seen[last].mean()) >= TIP_PART and drop >= LEAST_GREY
    return Sight(np.interp(run, at, seen.astype(float)) > 0.5, float(seen.sum()), tip)


def _sides(free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((n,) level beside the line, (n,) spread of the filter's answers at parallel places) without the needle."""
    near, far = SIDE_PX
    run = np.cumsum(np.pad(free, ((0, 0), (1, 0))), axis=1)
    mean = (run[:, far - near + 1:] - run[:, :-(far - near + 1)]) / (far - near + 1)  # of 6 places, from each on
    places = np.arange(far, free.shape[1] - far)
    sides = (mean[:, places - far] + mean[:, places + near]) / 2
    spread = np.sqrt(np.square(free[:, places] - sides).mean(1) + OBSERVER_GREY**2)
    return sides[:, AROUND_PX - far], spread


def _parallel(canvas: np.ndarray, points: np.ndarray, tangent: np.ndarray) -> np.ndarray:
    """(n, 2 * AROUND_PX + 1) grey levels at the points (in the middle column) and beside them."""
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], -1)
    at = points[:, None] + normal[:, None] * np.arange(-AROUND_PX, AROUND_PX + 1)[None, :, None]
    return map_coordinates(canvas, [at[..., 1], at[..., 0]], order=1, mode="constant")
