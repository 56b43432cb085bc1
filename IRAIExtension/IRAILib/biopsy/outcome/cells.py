"""Cells of a table as people write them: missing values, decimal commas, limits, dates, two spellings of one word."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime

import numpy as np

MISSING = {"", "na", "n/a", "n.a.", "nan", "nd", "n.d.", "null", "-", "--", ".", "?", "unknown", "unk", "missing",
           "not available", "not applicable", "not known", "#n/a", "#value!", "#div/0!", "<na>", "k.a.", "nr"}
MAX_LEVELS = 20
MOSTLY_NUMBERS = 0.9
_POINT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
_COMMA = re.compile(r"[+-]?(\d+,\d*|,\d+)([eE][+-]?\d+)?$")
_GROUPED_BY_COMMA = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?$")
_GROUPED_BY_POINT = re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?$")
_LIMIT = re.compile(r"[<>≤≥]\s*=?\s*")
_DATES = (re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([ T]\d{1,2}:\d{2}.*)?$"),
          re.compile(r"\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})([ T]\d{1,2}:\d{2}.*)?$"))


def cell_text(value: object) -> str | None:
    """One cell as text, None when it is missing. Whole floats lose their ".0", so that 3.0 and 3 are one level."""
    if value is None or (isinstance(value, float | np.floating) and not math.isfinite(value)):
        return None
    if isinstance(value, bool | np.bool_):
        return "1" if value else "0"
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float | np.floating):
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
    text = " ".join(str(value).split())
    return None if text.lower() in MISSING else text


def number(text: str, *, decimal_comma: bool = False) -> float | None:
    """The number that a text stands for, or None. "1,234" is 1.234 with decimal_comma, else 1234."""
    text = text.replace("\u2212", "-").replace("\u00a0", "").rstrip("%").strip()
    if _POINT.match(text):
        grouped = decimal_comma and _GROUPED_BY_POINT.match(text) and "," not in text and text.count(".") > 1
        value = float(text.replace(".", "")) if grouped else float(text)
        return value if math.isfinite(value) else None
    if decimal_comma and (_COMMA.match(text) or _GROUPED_BY_POINT.match(text)):
        return float(text.replace(".", "").replace(",", "."))
    if not decimal_comma and _GROUPED_BY_COMMA.match(text):
        return float(text.replace(",", ""))
    return None


def uses_decimal_comma(columns: Sequence[Sequence[str | None]]) -> bool:
    """Whether numbers are written with a decimal comma: cells like 1,5 and none like 1.5."""
    comma = point = 0
    for cells in columns:
        for cell in cells:
            if cell is not None and _COMMA.match(cell) and not _GROUPED_BY_COMMA.match(cell):
                comma += 1
            elif cell is not None and "." in cell and _POINT.match(cell) and not _GROUPED_BY_POINT.match(cell):
                point += 1
    return comma > point


def is_date(text: str) -> bool:
    return any(pattern.match(text) for pattern in _DATES)


def parse_column(name: str, cells: Sequence[str | None], *, decimal_comma: bool) -> tuple[str, np.ndarray, list[str]]:
    """(kind, values, warnings) of one column of n cells.

    kind: "number" (values float64, NaN where missing), "category" or "text" (object: str or None), "date" (object),
    "empty". Values beyond a limit of detection ("<0.3") count as the limit and are warned of; a few words among
    numbers become missing and are named.
    """
    present = [cell for cell in cells if cell is not None]
    if not present:
        return "empty", np.full(len(cells), np.nan), []
    if sum(is_date(cell) for cell in present) > len(present) / 2:
        return "date", np.array(cells, object), []
    values = np.full(len(cells), np.nan)
    words: list[str] = []
    limits = 0
    for n, cell in enumerate(cells):
        if cell is None:
            continue
        value = number(cell, decimal_comma=decimal_comma)
        if value is None and _LIMIT.match(cell):
            value = number(_LIMIT.sub("", cell, count=1), decimal_comma=decimal_comma)
            limits += value is not None
        if value is None:
            words.append(cell)
        else:
            values[n] = value
    distinct = len(np.unique(values[np.isfinite(values)]))
    if len(words) <= (1 - MOSTLY_NUMBERS) * len(present) and (limits < len(present) / 2 or distinct > 2):
        said = [f"column '{name}': {limits} values beyond a limit (such as <0.3) count as the limit"] if limits else []
        if words:
            shown = ", ".join(f"'{word}'" for word in sorted(set(words))[:3])
            said.append(f"column '{name}': {len(words)} cells are no numbers ({shown}) and count as missing")
        return "number", values, said
    merged, said = _one_spelling(name, cells)
    levels = {cell for cell in merged if cell is not None}
    few = len(levels) <= MAX_LEVELS and (len(levels) <= 2 or len(levels) <= len(present) / 2)
    return ("category" if few else "text"), np.array(merged, object), said


def _one_spelling(name: str, cells: Sequence[str | None]) -> tuple[list[str | None], list[str]]:
    """Words that differ only in case become the most frequent spelling."""
    spellings: dict[str, Counter[str]] = {}
    for cell in cells:
        if cell is not None:
            spellings.setdefault(cell.lower(), Counter())[cell] += 1
    best = {low: max(sorted(found), key=lambda word, found=found: found[word]) for low, found in spellings.items()}
    several = [best[low] for low, found in spellings.items() if len(found) > 1]
    said = [f"column '{name}': spellings that differ in case are one level ({', '.join(several[:3])})"]
    return [None if cell is None else best[cell.lower()] for cell in cells], said if several else []
