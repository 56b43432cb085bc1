"""What a score is: the inputs it asks for, how they are read and checked, and the result that says what was used."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...geometry import InputError
from ..quantities import Quantity, as_quantity, convert
from .lesions import Lesion, read_lesions

UNCERTAINTY = "exact arithmetic; the measuring error of the inputs is not propagated"
YES, NO = {"yes", "true", "1", "y"}, {"no", "false", "0", "n"}
NEAR = 0.01
TAKEN: dict[str, tuple[str, ...]] = {
    "": (), "%": ("%",), "mg/dL": ("mg/dL", "umol/L"), "umol/L": ("umol/L", "mg/dL"), "g/dL": ("g/dL", "g/L"),
    "g/L": ("g/L", "g/dL"), "mmol/L": ("mmol/L", "mEq/L"), "ng/mL": ("ng/mL", "ug/L", "IU/mL", "kIU/L"),
    "cm": ("cm", "mm"), "m": ("m", "cm"), "mm": ("mm", "cm"), "mL": ("mL", "cm3", "L"), "kg": ("kg", "g"),
    "g/mL": ("g/mL", "kg/L"), "GBq": ("GBq", "MBq", "mCi"), "Gy": ("Gy", "cGy", "mGy"), "wk": ("wk", "d"),
    "y": ("y",), "s": ("s",),
}
"""Units taken for an input, by the formula's own: those that laboratories and scanners print, no others."""


@dataclass(frozen=True)
class Input:
    """One value that a score asks for.

    kind: quantity (a number with a unit; unit "" means none), count (a whole number), choice (one of `choices`), flag
    (yes or no), lesions (see `lesions.read_lesions`). unit: the one the formula works in; analyte: for conversions.
    possible: outside of it the value is an error and raises; usual: outside of it a warning is put in the result.
    """

    name: str
    what: str
    kind: str = "quantity"
    unit: str = ""
    analyte: str = ""
    possible: tuple[float, float] = (0.0, float("inf"))
    usual: tuple[float, float] = (0.0, float("inf"))
    choices: tuple[str, ...] = ()
    default: Any = None
    optional: bool = False

    @property
    def units(self) -> list[str]:
        """Units that are taken; empty for what has none."""
        return list(TAKEN[self.unit]) if self.kind == "quantity" else []

    def describe(self) -> dict[str, Any]:
        """JSON-ready, for a form."""
        low, high = self.possible
        return {"name": self.name, "what": self.what, "kind": self.kind, "unit": self.unit, "units": self.units,
                "possible": [low, high if high != float("inf") else None] if self.kind in ("quantity", "count") else [],
                "choices": list(self.choices), "optional": self.optional or self.default is not None,
                "default": self.default}


@dataclass(frozen=True)
class Used:
    """An input as given and as it went into the formula; note says what was done to it (converted, clamped)."""

    name: str
    given: str
    value: Any
    unit: str
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "given": self.given, "value": self.value, "unit": self.unit, "note": self.note}


@dataclass(frozen=True)
class ScoreResult:
    """value: the score in `unit`, None where it has none (a stage, a sheet). grade: its class or category.

    details: parts of the sum and further figures, units in their names. warnings: what makes it doubtful.
    """

    name: str
    title: str
    value: float | int | None
    unit: str
    grade: str
    inputs: list[Used]
    warnings: list[str]
    details: dict[str, Any]
    formula: str
    source: str
    validated_on: str
    uncertainty: str = UNCERTAINTY

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; a score lies in no frame."""
        return {"score": self.name, "title": self.title, "value": self.value, "unit": self.unit, "grade": self.grade,
                "inputs": [used.to_dict() for used in self.inputs], "warnings": list(self.warnings),
                "details": dict(self.details), "formula": self.formula, "source": self.source,
                "uncertainty": self.uncertainty, "validated_on": self.validated_on, "frame": None}


@dataclass
class Draft:
    """What a score's formula reads from and writes to."""

    values: dict[str, Any]
    used: dict[str, Used]
    warnings: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name)

    def clamp(self, name: str, low: float | None, high: float | None, why: str = "by the score's rule") -> float:
        """The value held between bounds; what was done is noted at the input."""
        value = self.values[name]
        bounded = value if low is None else max(value, low)
        bounded = bounded if high is None else min(bounded, high)
        if bounded != value:
            self.put(name, bounded, f"{value:g} set to {bounded:g} {why}")
        return bounded

    def put(self, name: str, value: Any, note: str) -> None:
        """Say that another value went into the formula."""
        old = self.used[name]
        self.used[name] = Used(name, old.given, value, old.unit, "; ".join(filter(None, [old.note, note])))

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def near(self, name: str, *cuts: float) -> None:
        """Warn where a converted value lies within 1 % of a cut-off: tables in the other unit round there."""
        value, used = self.values[name], self.used[name]
        for cut in cuts:
            if "converted" in used.note and abs(value - cut) <= NEAR * abs(cut):
                self.warn(f"{name} {used.given} is {value:.4g} {used.unit}, within 1 % of the cut-off {cut:g}"
                          f" {used.unit}; a table rounded in the other unit may put it on the other side")


Outcome = tuple[float | int | None, str]


@dataclass(frozen=True)
class Score:
    """A score that can be asked for: what it needs, and the function that works it out."""

    name: str
    title: str
    unit: str
    inputs: tuple[Input, ...]
    compute: Callable[[Draft], Outcome]
    formula: str
    source: str
    validated_on: str
    uncertainty: str = UNCERTAINTY
    either: tuple[tuple[str, ...], ...] = ()

    def describe(self) -> dict[str, Any]:
        """JSON-ready: everything that a form or a help text shows."""
        return {"score": self.name, "title": self.title, "unit": self.unit, "formula": self.formula,
                "source": self.source, "validated_on": self.validated_on,
                "inputs": [item.describe() for item in self.inputs], "exactly_one_of": [list(e) for e in self.either]}

    def __call__(self, values: Mapping[str, Any]) -> ScoreResult:
        """Work the score out. Raises InputError (inputs), RefusedError (no honest answer)."""
        draft = self.read(values)
        value, grade = self.compute(draft)
        used = [draft.used[item.name] for item in self.inputs if item.name in draft.used]
        return ScoreResult(self.name, self.title, value, self.unit, grade, used, draft.warnings, draft.details,
                           self.formula, self.source, self.validated_on, self.uncertainty)

    def read(self, values: Mapping[str, Any]) -> Draft:
        """Values by name, in the formula's units. Raises InputError naming all that is missing or unknown."""
        if not isinstance(values, Mapping):
            raise InputError(f"{self.name}: values must be given by name")
        known = {item.name: item for item in self.inputs}
        foreign = sorted(str(name) for name in values if name not in known)
        if foreign:
            raise InputError(f"{self.name}: takes no {', '.join(foreign)}; it takes {', '.join(known)}")
        given = {name: value for name, value in values.items() if value is not None}
        for group in self.either:
            if len([name for name in group if name in given]) != 1:
                raise InputError(f"{self.name}: give exactly one of {' and '.join(group)}")
        missing = [f"{item.name} ({' or '.join(item.units) or ' | '.join(item.choices) or item.kind})"
                   for item in self.inputs if item.name not in given and item.default is None and not item.optional]
        if missing:
            raise InputError(f"{self.name}: missing {', '.join(missing)}")
        draft = Draft({}, {})
        for item in self.inputs:
            if item.name in given or item.default is not None:
                self._read_one(item, given.get(item.name, item.default), item.name not in given, draft)
        return draft

    def _read_one(self, item: Input, value: Any, by_default: bool, draft: Draft) -> None:
        try:
            number, given, note = _READERS[item.kind](item, value)
        except InputError as error:
            raise InputError(f"{self.name}: {item.name}: {error}") from None
        if item.kind in ("quantity", "count"):
            low, high = item.possible
            if not low <= number <= high:
                raise InputError(f"{self.name}: {item.name} {given} is outside of {low:g} to {high:g} {item.unit}, "
                                 "what is possible; check value and unit")
            usual_low, usual_high = item.usual
            if not usual_low <= number <= usual_high:
                draft.warn(f"{item.name} {given} is unusual (outside of {usual_low:g} to {usual_high:g} {item.unit}); "
                           "check it")
        draft.values[item.name] = number
        shown = [lesion.to_dict() for lesion in number] if item.kind == "lesions" else number
        draft.used[item.name] = Used(item.name, given, shown, item.unit, "default" if by_default else note)


def _quantity(item: Input, value: Any) -> tuple[float, str, str]:
    quantity = as_quantity(value)
    if item.unit and quantity.unit not in item.units:
        what = f"has no unit, and {item.name} needs one" if not quantity.unit else "has a unit that isn't taken here"
        raise InputError(f"{quantity} {what}: {' or '.join(item.units)}")
    number = convert(quantity, item.unit, item.analyte)
    note = f"converted from {quantity.unit}" if quantity.unit != item.unit else ""
    return number, str(quantity), note


def _count(item: Input, value: Any) -> tuple[int, str, str]:
    quantity = as_quantity(value)
    if quantity.unit or quantity.value != int(quantity.value):
        raise InputError(f"must be a whole number without a unit, got {quantity}")
    return int(quantity.value), str(quantity), ""


def _choice(item: Input, value: Any) -> tuple[str, str, str]:
    if isinstance(value, bool) and {"yes", "no"} <= set(item.choices):
        value = "yes" if value else "no"
    word = str(value).strip()
    found = {choice.lower(): choice for choice in item.choices}.get(word.lower())
    if found is None or isinstance(value, Quantity | bool):
        raise InputError(f"must be one of {', '.join(item.choices)}, got '{word}'")
    return found, word, ""


def _flag(item: Input, value: Any) -> tuple[bool, str, str]:
    word = str(value).strip().lower()
    if word not in YES | NO:
        raise InputError(f"must be yes or no, got '{word}'")
    return word in YES, "yes" if word in YES else "no", ""


def _lesions(item: Input, value: Any) -> tuple[list[Lesion], str, str]:
    lesions = read_lesions(value)
    return lesions, "; ".join(lesion.text() for lesion in lesions), ""


_READERS: dict[str, Callable[[Input, Any], tuple[Any, str, str]]] = {
    "quantity": _quantity, "count": _count, "choice": _choice, "flag": _flag, "lesions": _lesions}

SCORES: dict[str, Score] = {}
"""Every score by its name."""


def register(name: str, title: str, inputs: tuple[Input, ...], *, unit: str = "points", validated_on: str,
             uncertainty: str = UNCERTAINTY, either: tuple[tuple[str, ...], ...] = ()) -> Callable:
    """Put a function into SCORES; formula and source are read from its docstring's paragraphs of these names."""
    def keep(function: Callable[[Draft], Outcome]) -> Callable[[Draft], Outcome]:
        parts = {"formula": "", "source": ""}
        for paragraph in re.split(r"\n\s*\n", function.__doc__ or ""):
            head, _, rest = paragraph.strip().partition(":")
            if head.lower() in parts:
                parts[head.lower()] = " ".join(rest.split())
        SCORES[name] = Score(name, title, unit, inputs, function, parts["formula"], parts["source"], validated_on,
                             uncertainty, either)
        return function
    return keep
