"""margin.json and margin.csv."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ..images.atomic import replacing

KEYS = ("mam_mm", "mam_ci95_mm", "p1_mm", "p5_mm", "p50_mm", "surface_share", "coverage_percent", "residual_tumor_ml",
        "tumor_ml", "ablation_ml", "thinnest_point_ras", "subcapsular_share", "screening_only", "registration",
        "refused")
"""Keys that margin.json always has; a refused case has null where a number would be."""


def empty_document(refused: str | None = None) -> dict[str, Any]:
    """A margin.json without numbers, as a refusal leaves it."""
    return {**dict.fromkeys(KEYS), "refused": refused}


def plain(value: Any) -> Any:
    """Dictionaries, lists and numbers that JSON knows; NaN and infinity become null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, (np.integer, np.bool_)):
        return value.item()
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value


def write_json(document: dict[str, Any], path: Path) -> Path:
    """Indented UTF-8 JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(plain(document), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def write_csv(document: dict[str, Any], path: Path) -> Path:
    """The same values flat: columns key, value; nested keys joined by a dot, list items numbered from 0."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["key", "value"])
        writer.writerows(_flat(plain(document)))
    return path


def _flat(value: Any, prefix: str = ""):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _flat(item, f"{prefix}.{number}")
    else:
        yield prefix, "" if value is None else value
