"""A C-arm over OpenIGTLink: images with their projection geometry, both directions. No public convention exists; ours:

IMAGE `Fluoro_Detector` (one slice, mm spacing; its matrix is DetectorToTable), version-2 metadata named by DICOM
keywords, TRANSFORMs `SourceToCArm`, `DetectorToCArm`, `CArmToTracker`; for peers of version 1 a STRING of the same
name with the same keys as JSON and the same time stamp.

Table frame: RAS of a patient who lies head first and supine. Angles as DICOM: primary positive towards the left (LAO),
secondary positive towards the head (CRA). Detector frame: origin at the image's centre, x along a row, y down a column.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from IRAILib.geometry import CArmGeometry, InputError, beam_direction

from .messages import Image, Message, String, Transform

DEVICE = "Fluoro_Detector"
SOURCE, DETECTOR, TRACKER = "SourceToCArm", "DetectorToCArm", "CArmToTracker"
SCALARS = ("PositionerPrimaryAngle", "PositionerSecondaryAngle", "DistanceSourceToDetector", "DistanceSourceToPatient")
LISTS = {"ImagerPixelSpacing": 2, "TablePosition": 3}
SAME_TIME_S = 0.002
DISTANCE_TOLERANCE_MM, ANGLE_TOLERANCE_DEG, SPACING_TOLERANCE = 2.0, 1.0, 0.005
POSE_AGE_S = 0.5


@dataclass(frozen=True, eq=False)
class CArmFrame:
    """An image with its geometry, or with the `reason` why there is none (then it is a picture, not a measurement)."""

    image: Image
    geometry: CArmGeometry | None
    values: dict[str, Any]
    tracker_from_carm: np.ndarray | None = None
    reason: str = ""


def read_values(source: Mapping[str, Any]) -> dict[str, Any]:
    """DICOM-keyed values of metadata or JSON as floats and lists; unknown keys are left out.

    Raises InputError for a value that is no number, or not positive where it is a distance or spacing.
    """
    values: dict[str, Any] = {}
    for key in (*SCALARS, *LISTS):
        if key not in source or source[key] in ("", None):
            continue
        raw = source[key]
        items = raw if isinstance(raw, (list, tuple)) else str(raw).replace(",", "\\").split("\\")
        try:
            numbers = [float(item) for item in items]
        except (TypeError, ValueError):
            raise InputError(f"C-arm: {key} is '{str(raw)[:40]}', not a number") from None
        if len(numbers) != LISTS.get(key, 1) or not np.isfinite(numbers).all():
            raise InputError(f"C-arm: {key} needs {LISTS.get(key, 1)} finite number(s), '{str(raw)[:40]}' came")
        if (key.startswith("Distance") or key == "ImagerPixelSpacing") and min(numbers) <= 0:
            raise InputError(f"C-arm: {key} must be positive, not {numbers}")
        values[key] = numbers if key in LISTS else numbers[0]
    return values


def geometry_of(image: Image, values: Mapping[str, Any], *, carm_from_source: np.ndarray | None = None,
                carm_from_detector: np.ndarray | None = None) -> CArmGeometry:
    """Projection geometry in the table frame, in mm.

    The source comes from the two TRANSFORMs where both are there, otherwise from the angles, which say on which side
    it is, and DistanceSourceToDetector, straight behind the image's centre. What is given twice must agree.

    Raises: InputError when something is missing, or two values contradict each other; the text names them.
    """
    columns, rows = _size(image)
    matrix = np.asarray(image.ras_from_ijk, float)
    column, row, pixel0 = matrix[:3, 0], matrix[:3, 1], matrix[:3, 3]
    spacing = np.array([np.linalg.norm(column), np.linalg.norm(row)])
    if not np.isfinite(matrix).all() or spacing.min() < 1e-4 or abs(column @ row) > 1e-3 * spacing.prod():
        raise InputError("C-arm: the image's matrix has no usable spacing or isn't rectangular")
    if "ImagerPixelSpacing" in values:
        told = np.array(values["ImagerPixelSpacing"][::-1])  # DICOM: between rows first
        if np.abs(spacing / told - 1).max() > SPACING_TOLERANCE:
            raise InputError(f"C-arm: the image's pixels are {spacing.round(4).tolist()} mm, ImagerPixelSpacing says "
                             f"{told.tolist()}")
    center = pixel0 + (columns - 1) / 2 * column + (rows - 1) / 2 * row
    normal = np.cross(column, row) / np.linalg.norm(np.cross(column, row))
    if carm_from_source is not None and carm_from_detector is not None:
        table_from_detector = np.eye(4)
        table_from_detector[:3, :3] = np.column_stack([column / spacing[0], row / spacing[1], normal])
        table_from_detector[:3, 3] = center
        source_in_carm = np.append(np.asarray(carm_from_source, float)[:3, 3], 1.0)
        source = (table_from_detector @ np.linalg.inv(np.asarray(carm_from_detector, float)) @ source_in_carm)[:3]
    else:
        source = _source_from_angles(values, center, normal)
    geometry = CArmGeometry(source, pixel0.copy(), column.copy(), row.copy(), (columns, rows))
    _check(geometry, values)
    return geometry


def _source_from_angles(values: Mapping[str, Any], center: np.ndarray, normal: np.ndarray) -> np.ndarray:
    missing = [key for key in (*SCALARS[:2], SCALARS[2]) if key not in values]
    if missing:
        raise InputError(f"C-arm: no geometry without {', '.join(missing)}, or {SOURCE} and {DETECTOR}")
    beam = beam_direction(values[SCALARS[0]], values[SCALARS[1]])
    away = normal if normal @ beam > 0 else -normal
    return center - values[SCALARS[2]] * away


def _check(geometry: CArmGeometry, values: Mapping[str, Any]) -> None:
    distance = geometry.source_to_detector_mm
    told = values.get("DistanceSourceToDetector")
    if distance < 10:
        raise InputError(f"C-arm: the source lies {distance:.1f} mm from the detector")
    if told is not None and abs(distance - told) > DISTANCE_TOLERANCE_MM:
        raise InputError(f"C-arm: source to detector is {distance:.1f} mm by the transforms, {told:.1f} mm by "
                         "DistanceSourceToDetector")
    patient = values.get("DistanceSourceToPatient")
    if patient is not None and patient >= distance:
        raise InputError(f"C-arm: the patient ({patient:.1f} mm) isn't between source and detector ({distance:.1f} mm)")
    if "PositionerPrimaryAngle" in values and "PositionerSecondaryAngle" in values:
        beam = beam_direction(values["PositionerPrimaryAngle"], values["PositionerSecondaryAngle"])
        angle = math.degrees(math.acos(float(np.clip(beam @ geometry.normal, -1, 1))))
        if angle > ANGLE_TOLERANCE_DEG:
            raise InputError(f"C-arm: the detector's normal is {angle:.1f} degrees off the positioner's angles")


def carm_messages(pixels: np.ndarray, geometry: CArmGeometry, values: Mapping[str, Any], *, time_s: float,
                  v2: bool) -> list[Message]:
    """What a C-arm sends for one image: transforms first, then (version 1 only) the JSON, then the image.

    Args:
        pixels: (rows, columns). values: DICOM-keyed, as `read_values` gives them. v2: the peer speaks version 2.

    The C-arm frame is taken as the table frame here. Raises InputError where values and geometry disagree.
    """
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 3] = geometry.column_mm, geometry.row_mm, geometry.pixel0_mm
    x, y = (v / np.linalg.norm(v) for v in (geometry.column_mm, geometry.row_mm))
    matrix[:3, 2] = np.cross(x, y)
    image = Image(np.ascontiguousarray(pixels), matrix, device=DEVICE, time_s=time_s)
    if _size(image) != geometry.size:
        raise InputError(f"C-arm: pixels {np.shape(pixels)} don't fit a detector of {geometry.size}")
    known = read_values(values)
    _check(geometry, known)
    detector, source = np.eye(4), np.eye(4)
    detector[:3, :3] = np.column_stack([x, y, np.cross(x, y)])
    detector[:3, 3], source[:3, 3] = geometry.center_mm, geometry.source_mm
    out: list[Message] = [Transform(source, device=SOURCE, time_s=time_s),
                          Transform(detector, device=DETECTOR, time_s=time_s)]
    if v2:
        image.metadata = {key: "\\".join(f"{v:.10g}" for v in np.atleast_1d(value)) for key, value in known.items()}
    else:
        out.append(String(json.dumps(known), device=DEVICE, time_s=time_s))
    return [*out, image]


class CArmReceiver:
    """Puts images, values and transforms together, fed with messages in order of receipt.

    TRANSFORMs count for an image when their time stamps are at most `pose_age_s` apart.
    """

    def __init__(self, *, pose_age_s: float = POSE_AGE_S) -> None:
        self._pose_age_s = pose_age_s
        self._transforms: dict[str, Transform] = {}
        self._texts: deque[String] = deque(maxlen=32)

    def update(self, message: Message) -> CArmFrame | None:
        """The frame, when this message is its image; None otherwise. Call it with the STRING before the IMAGE."""
        if isinstance(message, Transform) and message.device in (SOURCE, DETECTOR, TRACKER):
            self._transforms[message.device] = message
        elif isinstance(message, String) and message.device == DEVICE:
            self._texts.append(message)
        elif isinstance(message, Image) and message.device == DEVICE:
            return self._frame(message)
        return None

    def disconnect(self) -> None:
        """The connection is gone: no pose of it is used for a later image."""
        self._transforms.clear()
        self._texts.clear()

    def _frame(self, image: Image) -> CArmFrame:
        values: dict[str, Any] = {}
        tracker = self._pose(TRACKER, image)
        try:
            values = read_values(image.metadata) or read_values(self._json(image))
            geometry = geometry_of(image, values, carm_from_source=self._pose(SOURCE, image),
                                   carm_from_detector=self._pose(DETECTOR, image))
        except InputError as error:
            return CArmFrame(image, None, values, tracker, str(error))
        return CArmFrame(image, geometry, values, tracker)

    def _json(self, image: Image) -> dict[str, Any]:
        for text in reversed(self._texts):
            if _apart_s(text, image) <= SAME_TIME_S:
                try:
                    read = json.loads(text.text)
                except ValueError:
                    raise InputError("C-arm: the STRING beside the image isn't JSON") from None
                if not isinstance(read, dict):
                    raise InputError("C-arm: the STRING beside the image isn't a JSON object")
                return read
        return {}

    def _pose(self, device: str, image: Image) -> np.ndarray | None:
        message = self._transforms.get(device)
        return None if message is None or _apart_s(message, image) > self._pose_age_s else message.matrix


def _apart_s(a: Message, b: Message) -> float:
    return math.inf if a.time_s is None or b.time_s is None else abs(float(a.time_s) - float(b.time_s))


def _size(image: Image) -> tuple[int, int]:
    array = np.asarray(image.array)
    array = array[np.newaxis] if array.ndim == 2 else array
    if array.ndim not in (3, 4) or array.shape[0] != 1 or not image.is_whole:
        raise InputError(f"C-arm: an image is one whole slice, {array.shape} came")
    return int(array.shape[2]), int(array.shape[1])
