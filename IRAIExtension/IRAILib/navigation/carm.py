"""Which angles a C-arm needs for a view, what it can reach, and how the patient lies under it.

Angles are the arm's, in the table frame (RAS of a patient head first, supine), signs as DICOM: primary positive LAO,
secondary positive CRA. For a patient who lies otherwise the names LAO and CRA are the equipment's, not his.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import InputError, angles_of, beam_direction

VALIDATED_ON = "geometry computed by hand; no real arm's display or isocentre was checked"
ANGLE_SD_DEG = 1.0
"""Assumed of displayed angles (they are shown in whole degrees); measure your arm's."""
_AXES = {"HFS": ((1, 0, 0), (0, 1, 0)), "HFP": ((-1, 0, 0), (0, -1, 0)), "FFS": ((-1, 0, 0), (0, 1, 0)),
         "FFP": ((1, 0, 0), (0, -1, 0)), "HFDR": ((0, -1, 0), (1, 0, 0)), "HFDL": ((0, 1, 0), (-1, 0, 0)),
         "FFDR": ((0, -1, 0), (-1, 0, 0)), "FFDL": ((0, 1, 0), (1, 0, 0))}
"""Patient Position (0018,5100): where the patient's right and front point in the table frame (up is its +y)."""
_SIDES = (("right", "left"), ("front", "back"), ("head", "feet"))


@dataclass(frozen=True)
class ArmLimits:
    """What an arm can reach, degrees. The defaults are those of a common ceiling-mounted arm; set your own.

    primary_deg, secondary_deg: (least, most).
    """

    primary_deg: tuple[float, float] = (-100.0, 100.0)
    secondary_deg: tuple[float, float] = (-45.0, 45.0)
    name: str = "typical ceiling-mounted arm"

    def __post_init__(self) -> None:
        for low, high in (self.primary_deg, self.secondary_deg):
            if not (np.isfinite([low, high]).all() and -180 <= low <= high <= 180):
                raise InputError(f"arm limits: {low:g} to {high:g} degrees isn't a range within -180 to 180")
        if max(np.abs(self.secondary_deg)) > 90:
            raise InputError("arm limits: secondary angles beyond 90 degrees are other primary angles; stay within 90")

    def allows(self, primary_deg: float, secondary_deg: float) -> bool:
        pair = zip((primary_deg, secondary_deg), (self.primary_deg, self.secondary_deg), strict=True)
        return all(low - 1e-9 <= value <= high + 1e-9 for value, (low, high) in pair)


@dataclass(frozen=True)
class CArmView:
    """A view: angles of the arm, how far its beam is from the wanted one, where the detector stands.

    reachable: the wanted view itself is; otherwise the angles are those of the nearest view that is, off by
    deviation_deg. detector_at: side of the patient, of his own body.
    """

    primary_deg: float
    secondary_deg: float
    deviation_deg: float
    reachable: bool
    detector_at: str
    wanted_deg: tuple[float, float]
    purpose: str

    @property
    def label(self) -> str:
        """As it is said: "LAO 30 CRA 12"."""
        first = "AP" if abs(self.primary_deg) < 0.5 else f"{'LAO' if self.primary_deg > 0 else 'RAO'} " \
            f"{abs(self.primary_deg):.0f}"
        second = "" if abs(self.secondary_deg) < 0.5 else f" {'CRA' if self.secondary_deg > 0 else 'CAU'} " \
            f"{abs(self.secondary_deg):.0f}"
        return first + second

    def to_dict(self) -> dict[str, Any]:
        return {"purpose": self.purpose, "label": self.label, "primary_deg": self.primary_deg,
                "secondary_deg": self.secondary_deg, "deviation_deg": self.deviation_deg, "reachable": self.reachable,
                "wanted_deg": list(self.wanted_deg), "detector_at": self.detector_at, "angle_sd_deg": ANGLE_SD_DEG,
                "frame": "Table (RAS of a patient head first, supine)", "validated_on": VALIDATED_ON}


def table_from_ras(position: str, isocentre_ras_mm: np.ndarray | None = None) -> np.ndarray:
    """(4, 4) from the patient's RAS to the table frame; the point `isocentre_ras_mm` becomes the origin.

    position: DICOM's Patient Position, HFS, HFP, FFS, FFP, HFDR, HFDL, FFDR or FFDL. Raises InputError for others.
    """
    key = str(position).strip().upper()
    if key not in _AXES:
        raise InputError(f"patient position '{position}': not one of {', '.join(_AXES)}; say how the patient lies")
    right, front = (np.array(axis, float) for axis in _AXES[key])
    out = np.eye(4)
    out[:3, :3] = np.column_stack([right, front, np.cross(right, front)])
    if isocentre_ras_mm is not None:
        center = np.asarray(isocentre_ras_mm, float).reshape(-1)
        if center.shape != (3,) or not np.isfinite(center).all():
            raise InputError("isocentre: three finite numbers (RAS mm) are needed")
        out[:3, 3] = -out[:3, :3] @ center
    return out


def bulls_eye(direction_ras: np.ndarray, *, position: str = "HFS", limits: ArmLimits | None = None) -> list[CArmView]:
    """Views along a path, best first: the path is a point in the picture.

    Args:
        direction_ras: (3,) of the path, either sense, in the patient's RAS.

    Returns both: detector on one end of the path and on the other. Reachable ones come first, among them the one with
    the tube further down (less stray radiation to the staff). Raises InputError for a zero or non-finite direction.
    """
    rotation, wanted = table_from_ras(position)[:3, :3], _unit(direction_ras)
    limits = limits or ArmLimits()
    views = [_view(rotation @ (sign * wanted), rotation, limits, "bull's eye") for sign in (1.0, -1.0)]
    return sorted(views, key=lambda v: (round(v.deviation_deg, 3), -beam_direction(v.primary_deg, v.secondary_deg)[1]))


def progression(direction_ras: np.ndarray, *, position: str = "HFS", limits: ArmLimits | None = None,
                step_deg: float = 1.0) -> list[CArmView]:
    """Two views across a path, in which the depth of the needle is seen without foreshortening.

    The first is the reachable perpendicular view with the smallest angles, the second the one that is most unlike it.
    Where no perpendicular view is reachable, the nearest is given with its deviation. Raises InputError.
    """
    rotation, along = table_from_ras(position)[:3, :3], _unit(direction_ras)
    limits = limits or ArmLimits()
    path = rotation @ along
    helper = np.eye(3)[int(np.argmin(np.abs(path)))]
    first = np.cross(path, helper) / np.linalg.norm(np.cross(path, helper))
    turns = np.radians(np.arange(0.0, 360.0, step_deg))
    beams = np.outer(np.cos(turns), first) + np.outer(np.sin(turns), np.cross(path, first))
    angles = np.array([angles_of(beam) for beam in beams])
    within = [n for n, pair in enumerate(angles) if limits.allows(*pair)]
    if not within:
        views = [_view(beam, rotation, limits, "progression", path) for beam in beams[::5]]
        return sorted(views, key=lambda v: v.deviation_deg)[:1]
    best = min(within, key=lambda n: float(np.hypot(*angles[n])))
    other = min(within, key=lambda n: (round(float(abs(beams[n] @ beams[best])), 2), float(np.hypot(*angles[n]))))
    return [_view(beams[n], rotation, limits, "progression") for n in dict.fromkeys((best, other))]


def nearest_reachable(direction: np.ndarray, limits: ArmLimits) -> tuple[float, float, float]:
    """(primary, secondary, deviation in degrees) of the reachable beam nearest to (3,) `direction` in the table frame.
    """
    wanted = _unit(direction)
    primary, secondary = angles_of(wanted)
    for turn in (0.0, 360.0, -360.0):
        if limits.allows(primary + turn, secondary):
            return primary + turn, secondary, 0.0
    low, high = np.array([limits.primary_deg, limits.secondary_deg]).T
    center, width = (low + high) / 2, (high - low) / 2
    found = center
    for _ in range(12):
        a, b = (np.linspace(max(c - w, lo), min(c + w, hi), 41) for c, w, lo, hi in zip(center, width, low, high,
                                                                                     strict=True))
        grid = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1).reshape(-1, 2)
        p, s = np.radians(grid).T
        beams = np.column_stack([-np.sin(p) * np.cos(s), np.cos(p) * np.cos(s), np.sin(s)])
        found = grid[int(np.argmax(beams @ wanted))]
        center, width = found, width / 8
    reached = beam_direction(float(found[0]), float(found[1]))
    deviation = np.degrees(np.arctan2(np.linalg.norm(np.cross(reached, wanted)), reached @ wanted))
    return float(found[0]), float(found[1]), float(deviation)


def _view(beam: np.ndarray, rotation: np.ndarray, limits: ArmLimits, purpose: str,
          path: np.ndarray | None = None) -> CArmView:
    primary, secondary, deviation = nearest_reachable(beam, limits)
    reached = beam_direction(primary, secondary)
    if path is not None:
        deviation = float(np.degrees(np.arcsin(min(1.0, abs(reached @ path)))))
    return CArmView(primary, secondary, deviation, deviation < 0.01, _side(rotation.T @ reached), angles_of(beam),
                    purpose)


def _side(direction_ras: np.ndarray) -> str:
    """"front, left": the patient's sides towards which a direction mostly points."""
    order = np.argsort(-np.abs(direction_ras))
    names = [_SIDES[axis][0 if direction_ras[axis] > 0 else 1] for axis in order if abs(direction_ras[axis]) > 0.35]
    return ", ".join(names)


def _unit(direction: np.ndarray) -> np.ndarray:
    vector = np.asarray(direction, float).reshape(-1)
    length = float(np.linalg.norm(vector)) if vector.shape == (3,) else 0.0
    if not np.isfinite(length) or length < 1e-9:
        raise InputError("direction: three finite numbers that aren't all zero are needed")
    return vector / length
