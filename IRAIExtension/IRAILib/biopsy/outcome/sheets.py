"""Reporting sheets (TRIPOD+AI, CLAIM, CLEAR, METRICS, RQS) filled from what a run shows, and from nothing else.

Each item is one of: reported (with the evidence), not done, author (the author must write it; the run can't know),
not applicable. The items stand in sheets/*.json in our own words; `source_note` there says what was checked.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...geometry import InputError
from . import facts
from .record import Run
from .sheet_rules import Answer
from .sheet_rules_results import RULES

FOLDER = Path(__file__).with_name("sheets")
NAMES = ("tripod", "claim", "clear", "metrics", "rqs")
RADIOMICS = ("clear", "metrics", "rqs")
STATUS_WORDS = {"reported": "reported", "not done": "not done", "author": "author must write",
                "not applicable": "not applicable"}


@dataclass(frozen=True)
class Item:
    """One line of a sheet. status: a key of STATUS_WORDS. points, weight: None where the sheet gives none."""

    number: str
    section: str
    topic: str
    status: str
    evidence: str
    weight: float | None = None
    points: float | None = None
    lowest: float | None = None
    highest: float | None = None


@dataclass(frozen=True)
class Sheet:
    """A filled sheet. score: None where the sheet has none or isn't meant for such a table (see `note`)."""

    key: str
    name: str
    title: str
    version: str
    source: str
    doi: str
    source_note: str
    items: tuple[Item, ...]
    score: dict[str, Any] | None = None
    note: str = ""

    def count(self) -> dict[str, int]:
        """How many items have each status."""
        return {status: sum(item.status == status for item in self.items) for status in STATUS_WORDS}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; a sheet has no frame."""
        made = asdict(self)
        made["items"] = [{key: value for key, value in asdict(item).items() if value is not None}
                         | {"status": STATUS_WORDS[item.status]} for item in self.items]
        return made | {"count": {STATUS_WORDS[key]: value for key, value in self.count().items()}}


def read_sheet(key: str) -> dict[str, Any]:
    """A blank sheet's JSON. Raises InputError for an unknown name."""
    if key not in NAMES:
        raise InputError(f"there is no sheet '{key}'; there are {', '.join(NAMES)}")
    return json.loads((FOLDER / f"{key}.json").read_text(encoding="utf-8"))


def fill_sheets(run: Run, shown: Collection[str] = ()) -> list[Sheet]:
    """All five sheets for a run.

    shown: what the report beside them really holds, of "characteristics", "subgroups", "calibration", "decision";
    an item that rests on one of these is reported only when it is named. Raises InputError for a run without scores.
    """
    return [_fill(key, run, frozenset(shown)) for key in NAMES]


def sheets_csv(sheets: list[Sheet]) -> str:
    """One table of all sheets: sheet, number, section, topic, status, evidence, points, of. Lines end in LF."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["sheet", "number", "section", "topic", "status", "evidence", "points", "of"])
    for sheet in sheets:
        for item in sheet.items:
            points = item.points
            if item.weight is not None:
                points = item.weight if item.status == "reported" else 0.0
            writer.writerow([sheet.name, item.number, item.section, item.topic, STATUS_WORDS[item.status],
                             item.evidence, "" if points is None else points,
                             next((value for value in (item.weight, item.highest) if value is not None), "")])
    return out.getvalue()


def _fill(key: str, run: Run, shown: frozenset[str]) -> Sheet:
    blank = read_sheet(key)
    items = tuple(_item(entry, run, shown) for entry in blank["items"])
    note, score = "", None
    if key in RADIOMICS and not facts.radiomic(run):
        note = ("No column that the model uses is a radiomic feature by its name, so this is no radiomics study; the "
                "sheet is filled as far as it applies" + (", and no score is given." if key != "clear" else "."))
    elif blank["scoring"] == "weights":
        score = _weights(items)
    elif blank["scoring"] == "points":
        score = _points(items)
    return Sheet(key, blank["name"], blank["title"], blank["version"], blank["source"], blank["doi"],
                 blank["source_note"], items, score, note)


def _item(entry: dict[str, Any], run: Run, shown: frozenset[str]) -> Item:
    answer: Answer = RULES[entry["rule"]](run, shown)
    hint = entry.get("for_the_author", "")
    text = answer.evidence
    if answer.status in ("author", "reported") and hint:
        text = f"{text} {hint}." if text else f"{hint}."
    lowest, highest = entry.get("lowest"), entry.get("highest")
    points = answer.points
    if highest is not None and points is None:
        points = 0.0
    return Item(entry["number"], entry["section"], entry["topic"], answer.status, text, entry.get("weight"), points,
                lowest, highest)


def _weights(items: tuple[Item, ...]) -> dict[str, Any]:
    """Share of the weights that the run shows; items that don't apply leave the whole, as in the tool."""
    whole = sum(item.weight or 0.0 for item in items if item.status != "not applicable")
    own = sum(item.weight or 0.0 for item in items if item.status == "reported")
    open_ = sum(item.weight or 0.0 for item in items if item.status == "author")
    return {"unit": "%", "shown_by_the_run": round(100 * own / whole, 1),
            "if_the_author_shows_the_rest": round(100 * (own + open_) / whole, 1), "maximum": 100.0,
            "words": f"{100 * own / whole:.1f} % shown by the run alone; at most {100 * (own + open_) / whole:.1f} % "
                     "once the author has shown every item left to them"}


def _points(items: tuple[Item, ...]) -> dict[str, Any]:
    """Points that the run shows, and the most that can be had with the author's items."""
    own = sum(item.points or 0.0 for item in items)
    open_ = sum((item.highest or 0.0) - (item.points or 0.0) for item in items if item.status == "author")
    best = sum(item.highest or 0.0 for item in items)
    return {"unit": "points", "shown_by_the_run": own, "if_the_author_shows_the_rest": own + open_, "maximum": best,
            "words": f"{own:g} of {best:g} points shown by the run alone; at most {own + open_:g} once the author has "
                     "shown every item left to them"}
