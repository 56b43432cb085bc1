"""Numbers with units: read from text, checked, converted. A unit is never guessed: missing, unknown or foreign ones
raise InputError.

Between mass and substance concentrations a factor of the analyte is needed (`ANALYTES`): bilirubin 1 mg/dL = 17.104
umol/L, creatinine 1 mg/dL = 88.4 umol/L (AMA Manual of Style, 11th ed., SI conversions; 10 000 / molar mass in g/mol),
alpha-fetoprotein 1 IU = 1.21 ng (WHO standard 72/225), sodium 1 mEq = 1 mmol (one charge).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from ..geometry import InputError

NUMBER = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*)$", re.ASCII)

UNITS: dict[str, tuple[str, float]] = {
    "": ("number", 1.0),
    "%": ("fraction", 1.0),
    "kg/L": ("mass concentration", 1e6), "g/dL": ("mass concentration", 1e4), "g/L": ("mass concentration", 1e3),
    "mg/dL": ("mass concentration", 10.0), "mg/L": ("mass concentration", 1.0),
    "g/mL": ("mass concentration", 1e6), "ug/dL": ("mass concentration", 1e-2),
    "ug/mL": ("mass concentration", 1.0), "ug/L": ("mass concentration", 1e-3), "ng/mL": ("mass concentration", 1e-3),
    "mol/L": ("substance concentration", 1e6), "mmol/L": ("substance concentration", 1e3),
    "umol/L": ("substance concentration", 1.0), "nmol/L": ("substance concentration", 1e-3),
    "mEq/L": ("charge concentration", 1.0),
    "U/L": ("enzyme activity", 1.0), "ukat/L": ("enzyme activity", 60.0),
    "IU/mL": ("biological activity", 1.0), "kIU/L": ("biological activity", 1.0), "IU/L": ("biological activity", 1e-3),
    "10^9/L": ("cells", 1.0), "10^3/uL": ("cells", 1.0),
    "mm": ("length", 1.0), "cm": ("length", 10.0), "m": ("length", 1000.0),
    "mL": ("volume", 1.0), "cm3": ("volume", 1.0), "mm3": ("volume", 1e-3), "L": ("volume", 1000.0),
    "kg": ("mass", 1.0), "g": ("mass", 1e-3),
    "GBq": ("radioactivity", 1.0), "MBq": ("radioactivity", 1e-3), "mCi": ("radioactivity", 0.037),
    "Gy": ("dose", 1.0), "mGy": ("dose", 1e-3), "cGy": ("dose", 1e-2),
    "s": ("time", 1.0), "min": ("time", 60.0), "h": ("time", 3600.0), "d": ("time", 86400.0),
    "wk": ("time", 604800.0), "y": ("time", 31557600.0), "m2": ("area", 1.0),
}
"""Unit: what it measures, and its size in that kind's base unit."""

SPELLINGS = {
    "mg/dl": "mg/dL", "g/dl": "g/dL", "g/l": "g/L", "mg/l": "mg/L", "kg/l": "kg/L", "g/ml": "g/mL", "g/cm3": "g/mL",
    "ug/dl": "ug/dL", "ug/ml": "ug/mL", "mcg/L": "ug/L", "ug/l": "ug/L", "ng/ml": "ng/mL",
    "mol/l": "mol/L", "mmol/l": "mmol/L", "umol/l": "umol/L", "mcmol/L": "umol/L", "nmol/l": "nmol/L",
    "meq/l": "mEq/L", "meq/L": "mEq/L", "mEq/l": "mEq/L", "u/l": "U/L", "U/l": "U/L", "ukat/l": "ukat/L",
    "IU/ml": "IU/mL", "iu/ml": "IU/mL", "kIU/l": "kIU/L", "kU/L": "kIU/L", "IU/l": "IU/L",
    "10^9/l": "10^9/L", "10*9/L": "10^9/L", "G/L": "10^9/L", "/nL": "10^9/L", "K/uL": "10^3/uL", "10^3/ul": "10^3/uL",
    "ml": "mL", "cc": "cm3", "ccm": "cm3", "cm^3": "cm3", "mm^3": "mm3", "l": "L",
    "sec": "s", "hours": "h", "hour": "h", "days": "d", "day": "d", "weeks": "wk", "week": "wk", "w": "wk",
    "years": "y", "year": "y", "yr": "y", "yrs": "y", "a": "y", "m^2": "m2", "percent": "%", "1": "", "kgs": "kg",
}

ANALYTES: dict[str, dict[tuple[str, str], float]] = {
    "bilirubin": {("mass concentration", "substance concentration"): 1.7104},
    "creatinine": {("mass concentration", "substance concentration"): 8.84},
    "sodium": {("charge concentration", "substance concentration"): 1e3},
    "afp": {("biological activity", "mass concentration"): 1.21e-3},
    "enzyme": {("biological activity", "enzyme activity"): 1e3},
}
"""Analyte: from kind to kind, base unit to base unit."""


@dataclass(frozen=True)
class Quantity:
    """A finite number and its unit, spelled as in `UNITS`."""

    value: float
    unit: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise InputError(f"a quantity needs a number, got {self.value!r}")
        if not math.isfinite(self.value):
            raise InputError(f"a quantity must be finite, got {self.value}")
        object.__setattr__(self, "unit", known_unit(self.unit))

    def __str__(self) -> str:
        return f"{self.value:.12g} {self.unit}".strip()


def known_unit(text: str) -> str:
    """The unit as `UNITS` spells it. Raises InputError for one that isn't known."""
    if not isinstance(text, str):
        raise InputError(f"a unit must be a word, got {text!r}")
    word = text.strip().replace("µ", "u").replace("μ", "u").replace("²", "2").replace("³", "3").replace("⁹", "^9")
    word = "".join(word.split())
    word = SPELLINGS.get(word, word)
    if word not in UNITS:
        raise InputError(f"unit '{text.strip()}' is not known; known are {', '.join(unit for unit in UNITS if unit)}")
    return word


def parse_quantity(text: str) -> Quantity:
    """Read "2.1mg/dL", "-3 %", "150 x10^9/L". A comma, words or an unknown unit raise InputError."""
    if not isinstance(text, str):
        raise InputError(f"expected a number with its unit, got {text!r}")
    match = NUMBER.match(text.strip())
    if match is None:
        raise InputError(f"'{text.strip()}' is no number with a unit; write it as 2.1mg/dL, with a decimal point")
    rest = match.group(2).strip()
    if rest[:1] == ",":
        raise InputError(f"'{text.strip()}' holds a comma, which may mean decimals or thousands; write a decimal point")
    if rest[:1] in {"x", "*", "×"}:
        rest = rest[1:]
    return Quantity(float(match.group(1)), rest)


def as_quantity(value: Any) -> Quantity:
    """A Quantity, its text, or a bare number (which then has no unit). Raises InputError for anything else."""
    if isinstance(value, Quantity):
        return value
    if isinstance(value, str):
        return parse_quantity(value)
    if isinstance(value, bool) or value is None:
        raise InputError(f"expected a number with its unit, got {value!r}")
    try:
        return Quantity(float(value))
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"expected a number with its unit, got {value!r}") from None


def units_for(unit: str, analyte: str = "") -> list[str]:
    """Every unit that can be converted into `unit` for that analyte."""
    return [other for other in UNITS if _factor(other, known_unit(unit), analyte) is not None]


def convert(quantity: Quantity, unit: str, analyte: str = "") -> float:
    """The number in another unit; mass to substance needs the analyte. Raises InputError where they don't match."""
    unit = known_unit(unit)
    if quantity.unit == unit:
        return float(quantity.value)
    factor = _factor(quantity.unit, unit, analyte)
    if factor is None:
        of = f" for {analyte}" if analyte else ""
        if not quantity.unit:
            raise InputError(f"{quantity} has no unit; give one of {', '.join(units_for(unit, analyte))}")
        raise InputError(f"'{quantity.unit}' can't be turned into {unit or 'a bare number'}{of}; give "
                         f"{' or '.join(units_for(unit, analyte)) if unit else 'the number without a unit'}")
    return float(f"{quantity.value * factor:.12g}")


def _factor(unit: str, into: str, analyte: str) -> float | None:
    kind, size = UNITS[unit]
    wanted, into_size = UNITS[into]
    if kind == wanted:
        return size / into_size
    table = ANALYTES.get(analyte, {})
    if (kind, wanted) in table:
        return size * table[kind, wanted] / into_size
    if (wanted, kind) in table:
        return size / table[wanted, kind] / into_size
    return None
