"""What the header of an X-ray run says, classic or enhanced (functional groups), with every number checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import InputError

VALUES = {
    "KVP": 1, "XRayTubeCurrent": 1, "XRayTubeCurrentInmA": 1, "ExposureTime": 1, "ExposureTimeInms": 1,
    "AveragePulseWidth": 1, "Exposure": 1, "ExposureInmAs": 1, "ImageAndFluoroscopyAreaDoseProduct": 1,
    "AcquiredImageAreaDoseProduct": 1, "EntranceDoseInmGy": 1, "XAAcquisitionDuration": 1,
    "DistanceSourceToDetector": 1, "DistanceSourceToPatient": 1, "DistanceSourceToIsocenter": 1,
    "ImagerPixelSpacing": 2, "FilterThicknessMinimum": 0, "FilterThicknessMaximum": 0, "FilterMaterial": 0,
    "FieldOfViewShape": 0, "FieldOfViewDimensions": 0, "IntensifierSize": 1, "TableHeight": 1, "TableTraverse": 1,
    "TableXPositionToIsocenter": 1, "TableYPositionToIsocenter": 1, "TableZPositionToIsocenter": 1, "TableAngle": 1,
    "CollimatorShape": 0, "CollimatorLeftVerticalEdge": 1, "CollimatorRightVerticalEdge": 1,
    "CollimatorUpperHorizontalEdge": 1, "CollimatorLowerHorizontalEdge": 1, "CenterOfCircularCollimator": 2,
    "RadiusOfCircularCollimator": 1, "DetectorPrimaryAngle": 1, "DetectorSecondaryAngle": 1, "PatientPosition": 0,
    "RadiationSetting": 0, "PositionerMotion": 0, "PositionerType": 0, "CineRate": 1, "RWavePointer": 0,
}
"""DICOM keywords that are kept, with how many numbers each must have (0: as many as there are, texts too)."""
POSITIVE = ("DistanceSourceToDetector", "DistanceSourceToPatient", "DistanceSourceToIsocenter", "ImagerPixelSpacing")


@dataclass(frozen=True)
class MaskOperation:
    """An item of the Mask Subtraction Sequence (PS3.3 C.7.6.10). Frames are counted from 0 here.

    Attributes:
        operation: "NONE", "AVG_SUB" (mean of `mask_frames`), "TID" or "REV_TID" (`offset` frames before).
        applies_to: pairs (first, last) of frames; empty for all. shift_px: (rows, columns) of the mask, DICOM's order.
    """

    operation: str
    mask_frames: tuple[int, ...] = ()
    applies_to: tuple[tuple[int, int], ...] = ()
    offset: int = 1
    averaging: int = 1
    shift_px: tuple[float, float] = (0.0, 0.0)

    def to_dict(self) -> dict[str, Any]:
        return {"operation": self.operation, "mask_frames": list(self.mask_frames),
                "applies_to": [list(pair) for pair in self.applies_to], "offset": self.offset,
                "averaging": self.averaging, "shift_px": list(self.shift_px)}


class Header:
    """Values by keyword: from the top level, or from the shared and per-frame functional groups."""

    def __init__(self, dataset: Any, count: int, shown: str) -> None:
        self.dataset, self.count, self.shown = dataset, count, shown
        self._shared = _flat(next(iter(dataset.get("SharedFunctionalGroupsSequence") or []), None))
        self._frames = [_flat(item) for item in dataset.get("PerFrameFunctionalGroupsSequence") or []]
        if self._frames and len(self._frames) != count:
            raise InputError(f"{shown}: {len(self._frames)} functional groups for {count} frames; the file is damaged")

    def raw(self, keyword: str, frame: int | None = None) -> Any:
        """The value as stored, None where there is none or it is empty."""
        places: list[Any] = [self._frames[frame]] if frame is not None and self._frames else []
        for place in (*places, self._shared, self.dataset):
            try:
                value = place.get(keyword)
            except Exception as error:  # pydicom decodes here; damaged bytes make it raise almost any type
                raise InputError(f"{self.shown}: {keyword} is damaged; copy or export the file again") from error
            if value is not None and value != "" and np.size(value) != 0:
                return value
        return None

    def text(self, keyword: str) -> str:
        value = self.raw(keyword, 0)
        return "" if value is None else str(value).strip()

    def number(self, keyword: str, frame: int | None = 0) -> float | None:
        """One finite number, None where there is none. Raises InputError for anything else."""
        numbers = self.numbers(keyword, frame)
        if numbers is None:
            return None
        if len(numbers) != 1:
            raise InputError(f"{self.shown}: {keyword} has {len(numbers)} values, one is needed")
        return numbers[0]

    def numbers(self, keyword: str, frame: int | None = 0) -> list[float] | None:
        value = self.raw(keyword, frame)
        if value is None:
            return None
        try:
            numbers = [float(v) for v in np.atleast_1d(np.asarray(value, float))]
        except (TypeError, ValueError):
            raise InputError(f"{self.shown}: {keyword} is '{str(value)[:40]}', not a number") from None
        if not np.isfinite(numbers).all():
            raise InputError(f"{self.shown}: {keyword} isn't a finite number")
        return numbers

    def values(self, keyword: str, size: int) -> list[Any] | None:
        """The value of each frame (one entry where it doesn't differ by frame): numbers, lists or text."""
        many = bool(self._frames) and any(keyword in group for group in self._frames)
        out = [self._value(keyword, size, n) for n in (range(self.count) if many else (0,))]
        return None if all(v is None for v in out) else [v if v is not None else float("nan") for v in out]

    def _value(self, keyword: str, size: int, frame: int) -> Any:
        raw = self.raw(keyword, frame)
        if raw is None:
            return None
        if size == 0 and isinstance(np.atleast_1d(np.asarray(raw)).ravel()[0], str):
            return str(raw) if isinstance(raw, str) else [str(v) for v in raw]
        numbers = self.numbers(keyword, frame) or []
        if size and len(numbers) != size:
            raise InputError(f"{self.shown}: {keyword} has {len(numbers)} values, {size} are needed")
        if keyword in POSITIVE and min(numbers) <= 0:
            return None
        return numbers[0] if size == 1 else numbers

    def angles(self) -> np.ndarray:
        """(n, 2) primary and secondary angle of each frame in degrees; NaN where the file says nothing.

        An increment of one value is the step between frames, one of n values the offsets from the first position
        (PS3.3 C.8.7.5.1.3).
        """
        out = np.full((self.count, 2), np.nan)
        for column, name in enumerate(("Primary", "Secondary")):
            keys = (f"PositionerIsocenter{name}Angle", f"Positioner{name}Angle")
            for frame in range(self.count):
                found = next((v for key in keys if (v := self.number(key, frame)) is not None), None)
                out[frame, column] = np.nan if found is None else found
            steps = self.numbers(f"Positioner{name}AngleIncrement", None)
            if steps is None:
                continue
            if len(steps) not in (1, self.count):
                raise InputError(f"{self.shown}: Positioner{name}AngleIncrement has {len(steps)} values for "
                                 f"{self.count} frames")
            out[:, column] += np.arange(self.count) * steps[0] if len(steps) == 1 else steps
        return out

    def times(self) -> np.ndarray | None:
        """(n,) seconds since the first frame, or None."""
        vector = self.numbers("FrameTimeVector", None)
        if vector is not None and len(vector) == self.count:
            return (np.cumsum(vector) - vector[0]) / 1000.0
        stamps = [str(self.raw("FrameReferenceDateTime", n) or "") for n in range(self.count)] if self._frames else []
        if stamps and all(len(s) >= 14 for s in stamps):
            return self._from_stamps(stamps)
        step = self.number("FrameTime", None)
        if step is not None and step > 0:
            return np.arange(self.count) * step / 1000.0
        rate = self.number("CineRate", None) or self.number("RecommendedDisplayFrameRate", None)
        return np.arange(self.count) / rate if rate and rate > 0 else None

    def _from_stamps(self, stamps: list[str]) -> np.ndarray:
        from datetime import datetime

        try:
            times = [datetime.strptime(s[:14], "%Y%m%d%H%M%S").timestamp() + float(f"0{s[14:21]}" if s[14:] else 0)
                     for s in stamps]
        except ValueError:
            raise InputError(f"{self.shown}: FrameReferenceDateTime is no time; export the file again") from None
        return np.asarray(times) - times[0]

    def linear_lut(self) -> tuple[int, np.ndarray] | None:
        """(first stored value, table) that makes linear intensity of the values, where the file has one.

        From the Modality LUT Sequence of a classic run whose relationship is LOG, or from the TO_LINEAR item of the
        enhanced kind's Pixel Intensity Relationship LUT Sequence.
        """
        items = [i for i in self.raw("PixelIntensityRelationshipLUTSequence", 0) or []
                 if str(i.get("LUTFunction", "")) == "TO_LINEAR"]
        if not items and self.text("PixelIntensityRelationship").upper() == "LOG":
            items = list(self.raw("ModalityLUTSequence", None) or [])
        if not items:
            return None
        descriptor, data = items[0].get("LUTDescriptor"), items[0].get("LUTData")
        table = np.frombuffer(data, np.uint16) if isinstance(data, bytes) else np.asarray(data, float)
        if descriptor is None or len(descriptor) != 3 or table.size < 2:
            raise InputError(f"{self.shown}: its table of linear intensities is damaged")
        return int(descriptor[1]), table.astype(np.float32)


def _flat(group: Any) -> dict[str, Any]:
    """Keyword to value of a functional group's macros, one level deep."""
    out: dict[str, Any] = {}
    for element in group or []:
        items = element.value if element.VR == "SQ" else []
        if len(items) != 1 or element.keyword == "PixelIntensityRelationshipLUTSequence":
            out[element.keyword] = element.value
            continue
        for inner in items[0]:
            out.setdefault(inner.keyword, inner.value)
    return out


def mask_operations(dataset: Any, count: int, shown: str) -> list[MaskOperation]:
    """The Mask Subtraction Sequence, frames counted from 0. Raises InputError for frames that aren't there."""
    out = []
    for item in dataset.get("MaskSubtractionSequence") or []:
        operation = str(item.get("MaskOperation", "NONE") or "NONE").upper()
        try:
            frames = tuple(int(v) - 1 for v in np.atleast_1d(np.asarray(item.get("MaskFrameNumbers") or [], int)))
            pairs = np.asarray(item.get("ApplicableFrameRange") or [], int).reshape(-1, 2) - 1
            shift = np.asarray(item.get("MaskSubPixelShift") or (0.0, 0.0), float).reshape(2)
            offset, mean = int(item.get("TIDOffset") or 1), int(item.get("ContrastFrameAveraging") or 1)
        except (TypeError, ValueError):
            raise InputError(f"{shown}: its Mask Subtraction Sequence is damaged") from None
        if operation == "NONE":
            frames = ()
        used = [*frames, *pairs.ravel().tolist()]
        if (operation == "AVG_SUB" and not frames) or (used and not 0 <= min(used) <= max(used) < count):
            raise InputError(f"{shown}: its Mask Subtraction Sequence names frames that aren't among the {count}")
        out.append(MaskOperation(operation, frames, tuple((int(a), int(b)) for a, b in pairs), offset, mean,
                                 (float(shift[0]), float(shift[1]))))
    return out
