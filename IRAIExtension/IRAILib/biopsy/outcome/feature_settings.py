"""With which radiomics settings the features of a table were made, where the table or its cohort's folder says so."""

from __future__ import annotations

import json
from pathlib import Path

from .table import COHORT_COLUMNS, Table

SETTINGS_COLUMN = "settings_hash"
FEATURES_FILE = "features.json"
"""In a model's folder: {"settings_hash"} of the features that it was trained on."""


def settings_said(table: Table) -> set[str]:
    """Every `settings_hash` of a table's rows, or of the features that a cohort's columns.json lists; empty where
    nothing is said. A damaged columns.json says nothing."""
    column = next((name for name in table.names if name.lower() == SETTINGS_COLUMN), None)
    if column is not None:
        return {str(cell) for cell in table.text[column] if cell is not None}
    try:
        about = json.loads((Path(table.source) / COHORT_COLUMNS).read_text(encoding="utf-8"))
        said = {one.get(SETTINGS_COLUMN) for name, one in about.items() if name in table.values}
    except (OSError, ValueError, AttributeError):
        return set()
    return {str(one) for one in said if one}


