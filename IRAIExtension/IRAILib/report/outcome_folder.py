"""From a table to a model's folder: train, report, metrics, card and sheets, all or nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import RESEARCH_NOTICE, __version__
from ..biopsy.outcome import Plan, Run, facts
from ..biopsy.outcome.card import model_card
from ..biopsy.outcome.feature_settings import FEATURES_FILE, settings_said
from ..biopsy.outcome.record import plain
from ..biopsy.outcome.sheets import sheets_csv
from ..biopsy.outcome.table import Table, read_table
from ..biopsy.outcome.watch import REFERENCE, reference_of
from ..geometry import CancelledError, InputError
from .outcome_report import Report, make_report, write_outcome_report

SCHEMA = "irai-outcome-metrics/1"
MODEL_FILE = "model.json"
LISTS = ("exclude", "baseline", "allow")
TRAIN_SHARE = 0.9
Progress = Callable[[float, str], None]


def train_and_write(table: str, plan: Mapping[str, Any], folder: str, *, command: str = "",
                    predictions: str | None = None, progress: Progress | None = None,
                    cancelled: Callable[[], bool] | None = None) -> dict[str, Any]:
    """Train on a table and write all files of a model into `folder`, which is made.

    Args:
        table: path (see read_table). plan: Plan.to_dict() or part of it; a name of exclude, baseline or allow that is
            no column but a list of columns with commas is taken apart.
        predictions: path for a CSV of the held-out predictions; it names patients, so it never goes into `folder`.
    Returns: what metrics.json holds, and "warnings".
    Raises: InputError, RefusedError (too few events), CancelledError, MissingPackageError.
    """
    from ..biopsy.outcome.train import train

    tell = progress or (lambda share, text: None)
    tell(0.0, "reading the table")
    data = read_table(table)
    asked = Plan.from_dict(split_names(plan, data))
    run = train(data, asked, progress=lambda share, text: tell(0.02 + (TRAIN_SHARE - 0.02) * share, text),
                cancelled=cancelled)
    run.summary |= flow(run, data)
    run.summary.setdefault("table", Path(table).name)
    if Path(table).is_file():
        run.summary.setdefault("table_sha256", file_hash(Path(table)))
    if run.final is not None:
        run.final.summary[REFERENCE] = reference_of(run.final, data, run.held_out["model"])
    tell(TRAIN_SHARE, "report")
    if len(settings_said(data)) > 1:
        run.warnings.append(f"the features were made with {len(settings_said(data))} different radiomics settings "
                            "(settings_hash): values of one column don't compare; extract them all with one")
    report = make_report(run, data, command=command, cancelled=cancelled,
                         progress=lambda share, text: tell(TRAIN_SHARE + (0.99 - TRAIN_SHARE) * share, text))
    if cancelled is not None and cancelled():
        raise CancelledError("the training was cancelled; nothing was written")
    written = write_folder(report, Path(folder), settings=settings_said(data))
    if predictions:
        write_predictions(run, Path(predictions))
    tell(1.0, "done")
    return written | {"warnings": list(run.warnings)}


def flow(run: Run, data: Table) -> dict[str, Any]:
    """{"n_rows_read", "dropped_rows": reason to count}: what became of the rows of the table."""
    plan, n = run.plan, len(data)
    missing = np.array([word is None for word in data.text[plan.target]])
    lost = {f"no value in '{plan.target}'": int(missing.sum())}
    if plan.time is not None and facts.kind(run) in ("survival", "competing"):
        no_time = ~missing & ~np.isfinite(data.values[plan.time].astype(float))
        lost[f"no value in '{plan.time}'"] = int(no_time.sum())
    rest = n - sum(lost.values()) - len(run.held_out["model"].averaged())
    if rest > 0:
        lost["copies of another row, or other reasons named in the warnings"] = rest
    return {"n_rows_read": n, "dropped_rows": {why: count for why, count in lost.items() if count}}


def split_names(plan: Mapping[str, Any], data: Table) -> dict[str, Any]:
    """A plan whose lists of columns may have been written with commas."""
    made = dict(plan)
    for key in LISTS:
        names: list[str] = []
        for name in made.get(key) or ():
            parts = [part.strip() for part in str(name).split(",")]
            whole = name in data.values or len(parts) == 1
            names += [name] if whole else [part for part in parts if part]
        made[key] = tuple(names)
    return made


def write_folder(report: Report, folder: Path, *, settings: Collection[str] = ()) -> dict[str, Any]:
    """model.json, weights, report.html, metrics.json, card.md, sheets.json, sheets.csv into a folder.

    settings: hashes of the radiomics settings that the features were made with; one goes into features.json, so that
    features of other settings are refused at use.

    Returns what metrics.json holds. Raises InputError: the run holds no final model, the folder can't be made.
    """
    from ..biopsy.outcome.model_file import save_model

    run = report.run
    if run.final is None:
        raise InputError("this run holds no final model; train again")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_model(run.final, folder)
        _write_settings(settings, folder / FEATURES_FILE)
        hashes = {path.name: file_hash(path) for path in sorted(folder.iterdir()) if path.is_file()}
        report = replace(report, hashes=hashes)
        document = metrics_document(report)
        write_outcome_report(report, folder / "report.html")
        (folder / "card.md").write_text(model_card(run, hashes), encoding="utf-8", newline="\n")
        sheets = [sheet.to_dict() for sheet in report.sheets]
        for name, value in (("metrics.json", document), ("sheets.json", {"notice": RESEARCH_NOTICE, "sheets": sheets})):
            text = json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
        (folder / "sheets.csv").write_text(sheets_csv(report.sheets), encoding="utf-8", newline="\n")
    except OSError as error:
        raise InputError(f"{folder}: can't be written ({error.strerror or error}); choose another place") from error
    return document


def _write_settings(settings: Collection[str], path: Path) -> None:
    """One hash is written; of none or several nothing can be said, and an earlier model's file goes."""
    if len(settings) != 1:
        path.unlink(missing_ok=True)
        return
    path.write_text(json.dumps({"settings_hash": next(iter(settings))}) + "\n", encoding="utf-8", newline="\n")


def metrics_document(report: Report) -> dict[str, Any]:
    """What metrics.json holds: the deciding figure on top, all figures in "metrics"; Docs/outcome_models.md lists it.

    Every entry has metric, estimate, ci95 [low, high] or None, baseline, null, difference, n_patients, folds. No
    patient is named.
    """
    run = report.run
    said = facts.verdict(run)
    folds = facts.fold_table(run)
    outer = max((row["fold"] for row in folds), default=0)
    entries = [_entry(run, metric, outer) for metric in facts.metric_names(run)]
    first = next(entry for entry in entries if entry["metric"] == said.metric)
    held = run.held_out["model"]
    return {
        "schema": SCHEMA, "notice": RESEARCH_NOTICE, "irai": __version__,
        **first, "verdict": said.text, "verdict_level": said.level, "compared_with": said.against,
        "target": run.plan.target, "time": run.plan.time, "time_unit": run.plan.time_unit, "kind": facts.kind(run),
        "n_rows": len(held.averaged()), "classes": facts.counts(run), "repeats": run.plan.repeats,
        "inner_folds": run.plan.inner_folds, "validation": run.plan.validation, "seed": run.plan.seed,
        "patients_apart": facts.patients_apart(run), "baseline_columns": list(facts.baseline_columns(run)),
        "columns_used": [column.name for column in facts.used(run)], "leaks": [leak.to_dict() for leak in run.leaks],
        "summary": run.summary, "metrics": entries, "calibration_and_decision": report.evidence.to_dict(),
        "apparent": report.apparent,
        "sensitivity": run.sensitivity, "permutation": run.permutation, "learning_curve": run.learning_curve,
        "selected": run.selected, "coefficients": None if report.spread is None else report.spread.to_dict(),
        "subgroups": [{"column": one.column, "level": one.level, "n_patients": one.n_patients, "n_events": one.n_events,
                       **_figure(one.figure), "note": one.note} for one in report.subgroups],
        "sheets": {sheet.key: sheet.score for sheet in report.sheets}, "plan": run.plan.to_dict(),
        "versions": run.versions, "files_sha256": report.hashes, "warnings": list(run.warnings)}


def _figure(found: facts.Figure | None) -> dict[str, Any]:
    if found is None:
        return {"estimate": None, "ci95": None}
    return {"estimate": found.estimate,
            "ci95": None if found.low is None or found.high is None else [found.low, found.high]}


def _entry(run: Run, metric: str, outer: int) -> dict[str, Any]:
    own = facts.score(run, "model", metric)
    made: dict[str, Any] = {"metric": metric, "words": facts.words_of(metric, run.plan.time_unit), **_figure(own)}
    for name in ("baseline", "null"):
        beside = facts.score(run, name, metric)
        made[name] = None if beside is None else _figure(beside)
        gap = facts.difference(run, metric, name)
        made["difference" if name == "baseline" else "difference_from_null"] = None if gap is None else \
            _figure(gap) | {"p": gap.p}
    if made["baseline"] is None:
        made["baseline"] = made["null"] and {**made["null"], "columns": []}
    else:
        made["baseline"]["columns"] = list(facts.baseline_columns(run))
    return made | {"n_patients": own.n if own else 0, "folds": outer,
                   "higher_is_better": {1: True, -1: False}.get(facts.direction(metric)),
                   "method": own.method if own else "", "note": own.note if own else ""}


def write_predictions(run: Run, path: Path) -> Path:
    """CSV of every held-out prediction: model name, patient, row, repeat, fold, truth, time, predictions."""
    import csv

    from ..images.atomic import replacing

    held = run.held_out["model"]
    names = [f"probability {name}" for name in held.classes] if held.probability is not None else ["risk"]
    horizons = [] if held.horizons is None else [f"{h:g}" for h in held.horizons]
    names += [f"survival@{h}" for h in horizons if held.survival is not None]
    names += [f"incidence@{h}" for h in horizons if held.incidence is not None]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["of", "patient", "row", "repeat", "fold", "truth", "time", *names])
        for one in run.held_out.values():
            for k in range(len(one)):
                values = list(one.probability[k]) if one.probability is not None else \
                    [one.risk[k] if one.risk is not None else None]
                values += [] if one.survival is None else list(one.survival[k])
                values += [] if one.incidence is None else list(one.incidence[k])
                writer.writerow([one.name, one.patient[k], int(one.row[k]), int(one.repeat[k]), int(one.fold[k]),
                                 one.classes[int(one.truth[k])], "" if one.time is None else one.time[k], *values])
    return path


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
