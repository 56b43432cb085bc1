"""Step 5 in the scene: train and validate in a worker process; files into a folder, the verdict as a record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..biopsy.outcome import Plan
from ..biopsy.outcome.feature_settings import FEATURES_FILE
from ..geometry import InputError
from ..images.atomic import replacing
from .biopsy_case import STUDY_FOLDER, keep_record
from .biopsy_cohort import file_hash
from .changes import SceneChange, parts_of
from .write import rows_to_table

ROLE = "biopsy.training"
MODEL_FILES = {FEATURES_FILE, "model.json", "weights.npz", "report.html", "metrics.json", "card.md", "sheets.json",
               "sheets.csv"}
HEADER = ["Held out", "Model", "Baseline", "Difference"]
MOST_WARNINGS = 12


def train_model(table: Path, plan: Mapping[str, Any], folder: Path, *, previous: Any = None, progress=None,
                cancelled=None, run=None) -> Any:
    """Train on a table with nested cross-validation, beside a baseline, and write the model's folder.

    Args:
        table: as biopsy.outcome.table.read_table takes it. plan: keys of biopsy.outcome.Plan.
        folder: made; one that holds a model and nothing else is replaced, any other is refused.
        previous: the record that this one replaces. run: stands in for jobs.run_job (tests).
    Returns: the record: verdict, held-out figures with intervals, leaks, warnings, and the part "table".
    Raises InputError, RefusedError (too few events), CancelledError, MissingPackageError; folder and scene are then as
    they were.
    """
    if run is None:
        from ..jobs import run_job as run
    Plan.from_dict(plan)
    folder = Path(folder).expanduser().absolute()
    require_free_folder(folder)
    digest = file_hash(Path(table))
    with replacing(folder) as temporary:
        found = run("IRAILib.report.outcome_folder:train_and_write",
                    {"table": str(table), "plan": dict(plan), "folder": str(temporary),
                     "command": "Virtual Biopsy, step 5"}, progress=progress, cancelled=cancelled)
    document = {"step": "training", "target": found["target"], "verdict": found["verdict"],
                "better": found["verdict_level"] == "better", "verdict_level": found["verdict_level"],
                "rows": metric_rows(found["metrics"]), "leaks": found["leaks"],
                "n_patients": found["n_patients"], "folder": str(folder), "table_file": str(table),
                "table_sha256": digest, "files_sha256": found["files_sha256"],
                "warnings": [*_leak_lines(found["leaks"]), *found["warnings"]][:MOST_WARNINGS], "frame": None}
    with SceneChange(parts_of(previous)) as change:
        node = rows_to_table(change.add("vtkMRMLTableNode", "Held-out figures", f"{ROLE}.table"), HEADER,
                             document["rows"])
        return keep_record(change, f"Training record: {found['target']}", ROLE, document, [], {"table": node},
                           STUDY_FOLDER)


def require_free_folder(folder: Path) -> None:
    """Raises InputError for a file, or a folder with anything in it but a model of this program."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder that isn't there yet")
    inside = {path.name for path in folder.iterdir()}
    if inside and (inside - MODEL_FILES or "model.json" not in inside):
        foreign = sorted(inside - MODEL_FILES)
        raise InputError(f"{folder}: holds other things ({', '.join(foreign[:3]) or 'no model'}), which would be lost; "
                         "name a folder that isn't there yet")


def metric_rows(entries: list[dict[str, Any]]) -> list[list[str]]:
    """Rows (figure, model, baseline, difference) with 95 % intervals from metrics.json's entries."""
    return [[str(entry.get("words") or entry["metric"]), _with_interval(entry), _with_interval(entry.get("baseline")),
             _with_interval(entry.get("difference"))] for entry in entries]


def _with_interval(entry: Mapping[str, Any] | None) -> str:
    if not entry or entry.get("estimate") is None:
        return "not known"
    text = f"{entry['estimate']:.3f}"
    interval = entry.get("ci95")
    return text if not interval or None in interval else f"{text} ({interval[0]:.3f} to {interval[1]:.3f})"


def _leak_lines(leaks: list[dict[str, Any]]) -> list[str]:
    """One line for each leak; constant columns, which say nothing, share one."""
    told = [leak for leak in leaks if leak["action"] in ("dropped", "kept")]
    constant = [leak["column"] for leak in told if leak["kind"] == "constant"]
    lines = [f"{leak['column']}: {leak['action']}, {leak['kind']} ({leak['evidence']})" for leak in told
             if leak["kind"] != "constant"]
    if constant:
        more = f" and {len(constant) - 3} more" if len(constant) > 3 else ""
        lines.append(f"the same value in every row, dropped: {', '.join(constant[:3])}{more}")
    return lines
