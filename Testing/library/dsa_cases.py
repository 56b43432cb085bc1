"""How a subtraction of the real coronary run is judged, by nothing that the library computes."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

CINE = "angiography/XA_multiframe_coronary_96fr_HasFragmentSequence.dcm"
JUDGED = (20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95)
"""Frames with contrast. The method's constants were chosen while looking at 20, 30 ... 90 of this one run."""
UNSEEN = (25, 35, 45, 55, 65, 75, 85, 95)


def lit(stored: np.ndarray) -> np.ndarray:
    """(rows, columns) bool: inside the shutters, from (n, rows, columns) grey values."""
    sparse = stored[::4]
    bright = (np.median(sparse, axis=0) > 8) & (sparse.min(axis=0) > 3)
    return ndimage.binary_erosion(ndimage.binary_opening(bright, iterations=3), iterations=8)


def vessel_region(frame: np.ndarray, inside: np.ndarray, grow: int = 8) -> np.ndarray:
    """(rows, columns) bool: dark ridges of the contrast frame (Sato's measure at 2, 3 and 4 px, hysteresis between its
    91st and 97th percentile, pieces of 150 px or more), dilated by `grow` px. `frame` is logarithmic."""
    from skimage.filters import apply_hysteresis_threshold, sato

    ridges = sato(frame.astype(float), sigmas=(2, 3, 4), black_ridges=True)
    ridges[~ndimage.binary_erosion(inside, iterations=6)] = 0
    low, high = np.percentile(ridges[inside], (91, 97))
    parts, _ = ndimage.label(apply_hysteresis_threshold(ridges, low, high), np.ones((3, 3)))
    large = np.bincount(parts.ravel()) >= 150
    large[0] = False
    return ndimage.binary_dilation(large[parts], iterations=grow) if grow else large[parts]


def energy(difference: np.ndarray, where: np.ndarray) -> float:
    """Mean square of a subtracted frame about its median."""
    values = difference[where] - np.median(difference[where])
    return float(np.mean(values**2))


def tree_to_paint(plain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) logarithms to add to a bare frame: the coronary tree as plain subtraction of frame 60 shows it,
    and all that is dark there, which includes a broad patch where the diaphragm came up."""
    dark = plain < -0.2
    parts, _ = ndimage.label(ndimage.gaussian_filter(np.where(dark, -0.5, 0.0), 1.0) < -0.2)
    tree = parts == np.argmax(np.bincount(parts[250:330, 100:160].ravel())[1:]) + 1
    return (ndimage.gaussian_filter(np.where(tree, -0.5, 0.0), 1.0),
            ndimage.gaussian_filter(np.where(dark, -0.5, 0.0), 1.0))


def contrast_to_noise(difference: np.ndarray, core: np.ndarray, outside: np.ndarray) -> float:
    """Depth of the vessels' core below what lies outside, over the standard deviation there."""
    return float((np.median(difference[outside]) - np.median(difference[core])) / np.std(difference[outside]))
