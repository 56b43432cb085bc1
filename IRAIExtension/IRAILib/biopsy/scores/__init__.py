"""Clinical scores, one interface: `score("meld", {"bilirubin": "2.1mg/dL", ...})`; `SCORES` says what each needs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from ...geometry import InputError
from .model import SCORES, Draft, Input, Score, ScoreResult, Used

FAMILIES = ("meld", "liver", "hcc", "remnant", "recist", "volumetry", "tici", "y90")
OTHER_NAMES = {"meld-3.0": "meld-3", "meld3": "meld-3", "meld3.0": "meld-3", "meldna": "meld-na",
               "childpugh": "child-pugh", "ctp": "child-pugh",
               "recist-1.1": "recist", "up-to-7": "up-to-seven", "mhap-ii": "mhap-2"}

for _family in FAMILIES:
    importlib.import_module(f".{_family}", __name__)


def find_score(name: str) -> Score:
    """By name, however it is written (MELD_Na, meld-na). Raises InputError naming all scores."""
    word = str(name).strip().lower().replace("_", "-").replace(" ", "-")
    word = OTHER_NAMES.get(word, word)
    if word not in SCORES:
        raise InputError(f"there is no score '{name}'; there are {', '.join(SCORES)}")
    return SCORES[word]


def score(name: str, values: Mapping[str, Any]) -> ScoreResult:
    """Work out a score.

    values: by the names in `SCORES[name].inputs`; each a Quantity, its text ("2.1mg/dL"), a word for a choice, a
    number where there is no unit. Raises InputError for what is missing, unknown, without its unit or not possible,
    RefusedError where the score's own rules forbid an answer.
    """
    return find_score(name)(values)


__all__ = ["SCORES", "Draft", "Input", "Score", "ScoreResult", "Used", "find_score", "score"]
