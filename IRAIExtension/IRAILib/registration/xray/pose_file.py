"""Pose files: an X-ray geometry, a CT's pose under it, or both, as JSON.

Geometry, one of:
    "geometry": {"source_mm", "pixel0_mm", "column_mm", "row_mm", "size": [columns, rows], "frame"}  (CArmGeometry);
    DICOM's keywords: PositionerPrimaryAngle, PositionerSecondaryAngle (degrees), DistanceSourceToDetector,
    DistanceSourceToIsocenter (or DistanceSourceToPatient), ImagerPixelSpacing (mm; one number or [down, along]),
    Columns, Rows. The frame is then the table's: RAS of a patient head first, supine, the isocentre as origin.
Pose, one of:
    "table_from_ras" or "pose": 4x4, rows first, RAS of the CT (mm) to the geometry's frame (mm);
    "isocentre_ras_mm": [x, y, z], the point of the CT at the isocentre, the patient not turned.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...geometry import CArmGeometry, InputError, geometry_from_angles
from ...images.markups import parse_json, read_text
from .pose import rigid

ANGLES = ("PositionerPrimaryAngle", "PositionerSecondaryAngle", "DistanceSourceToDetector")
ISOCENTRE = ("DistanceSourceToIsocenter", "DistanceSourceToPatient")


@dataclass(frozen=True, eq=False)
class PoseFile:
    """What a file gave: geometry, table_from_ras (4, 4); None where it says nothing."""

    geometry: CArmGeometry | None
    table_from_ras: np.ndarray | None


def read_pose_file(path: str | Path) -> PoseFile:
    """Read it. Raises InputError, naming the key, for what is half there or no number."""
    values = parse_json(read_text(path), path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: must be a JSON object with a geometry or a pose")
    inner = values.get("geometry")
    frames = [values.get("frame"), inner.get("frame") if isinstance(inner, dict) else None]
    if any("LPS" in str(frame).upper() for frame in frames):
        raise InputError(f"{path}: is in LPS; give geometry and pose in RAS (first two coordinates negated)")
    try:
        out = PoseFile(_geometry(values), _pose(values))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if out.geometry is None and out.table_from_ras is None:
        raise InputError(f"{path}: holds neither a geometry (geometry, or {', '.join(ANGLES)} ...) nor a pose "
                         "(table_from_ras, isocentre_ras_mm)")
    return out


def _geometry(values: dict[str, Any]) -> CArmGeometry | None:
    if isinstance(values.get("geometry"), dict):
        return CArmGeometry.from_dict(values["geometry"])
    if "source_mm" in values:
        return CArmGeometry.from_dict(values)
    if not any(key in values for key in ANGLES):
        return None
    missing = [key for key in (*ANGLES, "ImagerPixelSpacing", "Columns", "Rows") if key not in values]
    isocentre = next((key for key in ISOCENTRE if key in values), None)
    if missing or isocentre is None:
        raise InputError(f"no geometry without {', '.join(missing or [ISOCENTRE[0]])}")
    primary, secondary, detector, middle = (_number(values, key) for key in (*ANGLES, isocentre))
    spacing = np.atleast_1d(_vector(values, "ImagerPixelSpacing", (1, 2)))
    size = int(_number(values, "Columns")), int(_number(values, "Rows"))
    return geometry_from_angles(primary, secondary, detector, middle, (float(spacing[-1]), float(spacing[0])), size)


def _pose(values: dict[str, Any]) -> np.ndarray | None:
    for key in ("table_from_ras", "pose"):
        if key in values:
            return rigid(values[key], key)
    if "isocentre_ras_mm" in values:
        out = np.eye(4)
        out[:3, 3] = -_vector(values, "isocentre_ras_mm", (3,))
        return out
    return None


def _number(values: dict[str, Any], key: str) -> float:
    return float(_vector(values, key, (1,))[0])


def _vector(values: dict[str, Any], key: str, counts: tuple[int, ...]) -> np.ndarray:
    try:
        out = np.atleast_1d(np.array(values[key], float))
    except (TypeError, ValueError):
        out = np.array([np.nan])
    if out.ndim != 1 or len(out) not in counts or not np.isfinite(out).all():
        raise InputError(f"{key} must be {' or '.join(map(str, counts))} finite number(s)")
    return out
