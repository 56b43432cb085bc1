"""Irradiation events of an X-Ray Radiation Dose SR (DICOM PS3.16 TID 10001, 10003)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError
from .dicom_scan import is_dicom, read_header

CLASSES = ("1.2.840.10008.5.1.4.1.1.88.67", "1.2.840.10008.5.1.4.1.1.88.76", "1.2.840.10008.5.1.4.1.1.88.22",
           "1.2.840.10008.5.1.4.1.1.88.33")
"""X-Ray Radiation Dose SR, the enhanced one, and the general classes that older stations use."""
EVENT = "113706"
NUMBERS = {
    "113738": ("dose_rp_mgy", {"Gy": 1000.0, "mGy": 1.0, "uGy": 1e-3}),
    "122130": ("dap_gy_cm2", {"Gy.m2": 1e4, "Gy.cm2": 1.0, "mGy.cm2": 1e-3, "dGy.cm2": 0.1, "uGy.m2": 0.01,
                              "cGy.cm2": 0.01}),
    "112011": ("primary_deg", {"deg": 1.0}), "112012": ("secondary_deg", {"deg": 1.0}),
    "113739": ("primary_end_deg", {"deg": 1.0}), "113740": ("secondary_end_deg", {"deg": 1.0}),
    "113748": ("source_to_isocentre_mm", {"mm": 1.0, "cm": 10.0}),
    "113750": ("source_to_detector_mm", {"mm": 1.0, "cm": 10.0}),
    "113737": ("source_to_reference_mm", {"mm": 1.0, "cm": 10.0}),
    "113790": ("field_area_cm2", {"m2": 1e4, "cm2": 1.0}),
    "113788": ("field_height_mm", {"mm": 1.0, "cm": 10.0}), "113789": ("field_width_mm", {"mm": 1.0, "cm": 10.0}),
    "113733": ("kv", {"kV": 1.0}), "113734": ("ma", {"mA": 1.0}),
    "113751": ("table_longitudinal_mm", {"mm": 1.0, "cm": 10.0}),
    "113752": ("table_lateral_mm", {"mm": 1.0, "cm": 10.0}), "113753": ("table_height_mm", {"mm": 1.0, "cm": 10.0}),
}
"""DCM code: our name, and what a UCUM unit is worth in the name's unit."""


@dataclass
class DoseEvent:
    """One irradiation event: numbers by the names of `NUMBERS` (only those the report has), kind and plane as words."""

    values: dict[str, float] = field(default_factory=dict)
    kind: str = ""
    plane: str = ""
    started: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"values": dict(self.values), "kind": self.kind, "plane": self.plane, "started": self.started}


def read_rdsr(path: str | Path) -> list[DoseEvent]:
    """Events of a dose report, in its order.

    Raises: InputError, one line: no file, another kind of object, no events, a damaged one, an unknown unit.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file" if not path.exists() else f"{path}: is a folder; give one file")
    if not is_dicom(path):
        raise InputError(f"{path}: not a DICOM file; give an X-ray radiation dose report (RDSR)")
    dataset = read_header(path, str(path))
    if str(dataset.SOPClassUID) not in CLASSES:
        raise InputError(f"{path}: is {dataset.get('Modality') or 'another object'}, not an X-ray radiation dose "
                         "report (RDSR)")
    try:
        events = [_event(item, str(path)) for item in _find(dataset, EVENT)]
    except InputError:
        raise
    except Exception as error:  # pydicom decodes at the first touch; damaged bytes make it raise almost any type
        raise InputError(f"{path}: the report is damaged; copy or export it again") from error
    if not events:
        raise InputError(f"{path}: a report without irradiation events of an X-ray arm (TID 10003); a CT's report "
                         "has no skin geometry")
    return events


def _find(item: Any, code: str, depth: int = 0) -> list[Any]:
    out = []
    for part in item.get("ContentSequence") or []:
        if _code(part.get("ConceptNameCodeSequence")) == code:
            out.append(part)
        elif depth < 8:
            out.extend(_find(part, code, depth + 1))
    return out


def _event(item: Any, shown: str) -> DoseEvent:
    event = DoseEvent()
    for part in _flat(item):
        code = _code(part.get("ConceptNameCodeSequence"))
        if code in NUMBERS and part.get("MeasuredValueSequence"):
            name, units = NUMBERS[code]
            measured = part.MeasuredValueSequence[0]
            unit = _code(measured.get("MeasurementUnitsCodeSequence"))
            if unit not in units:
                raise InputError(f"{shown}: {name} is in '{unit}', a unit that isn't known here")
            value = float(measured.NumericValue) * units[unit]
            if not np.isfinite(value):
                raise InputError(f"{shown}: {name} isn't a finite number")
            event.values.setdefault(name, value)
        elif code == "113721":
            event.kind = _meaning(part)
        elif code == "113764":
            event.plane = _meaning(part)
        elif code == "111526":
            event.started = str(part.get("DateTime", ""))
    return event


def _flat(item: Any, depth: int = 0) -> list[Any]:
    out = []
    for part in item.get("ContentSequence") or []:
        out.append(part)
        if depth < 6:
            out.extend(_flat(part, depth + 1))
    return out


def _code(sequence: Any) -> str:
    return str(sequence[0].get("CodeValue", "")) if sequence else ""


def _meaning(part: Any) -> str:
    sequence = part.get("ConceptCodeSequence")
    return str(sequence[0].get("CodeMeaning", "")) if sequence else ""
