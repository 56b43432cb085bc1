"""Step 4 in the scene: what a model says of this patient, with its set or interval, its reasons, or its refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..biopsy.outcome.facts import direction, words_of
from ..biopsy.outcome.feature_settings import FEATURES_FILE
from ..biopsy.outcome.model_file import load_model, read_document
from ..biopsy.outcome.predict import PredictedRow, predict
from ..biopsy.outcome.table import Table
from ..biopsy.radiomics import parse_key
from ..geometry import InputError
from .biopsy_case import BiopsyCase, keep_record, other_case
from .biopsy_features import require_features
from .biopsy_sources import source_of, sources_of
from .changes import SceneChange, parts_of
from .nodes import mask_from_segment, volume_from_node
from .write import rows_to_table

ROLE = "biopsy.prediction"
HEADER = ["Quantity", "Value", "Note"]
MOST_REFUSALS = 4
BACKBONE_FOLDER = "backbone"
"""In a model's folder: the public network that its deep columns need, where they need one."""
MOST_BYTES = 10_000
WEIGHTLESS = "carries no weight"
"""Of an input that the model was trained with and does not use: it isn't asked for, so its absence is no warning."""


@dataclass(frozen=True)
class Asked:
    """An input that a model needs and no image feature gives: typed by the user. choices: levels that it knows."""

    name: str
    label: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class OpenModel:
    """A model from its folder. text: what it is, in a few lines; sha256: of model.json's parts.

    settings_hash: of the radiomics settings that its features were made with, "" where that isn't known."""

    folder: Path
    model: Any
    sha256: str
    asked: tuple[Asked, ...]
    features: tuple[str, ...]
    text: str
    settings_hash: str = ""

    @property
    def needs_features(self) -> bool:
        """Whether any of its inputs is an image feature."""
        return bool(self.features)

    @property
    def sees_images(self) -> bool:
        """Whether a network looks at the scan itself."""
        return self.model.pipeline.deep is not None


def open_model(folder: Path) -> OpenModel:
    """Read a model's folder; nothing in it is executed. Raises InputError for one that is missing or was changed."""
    document = read_document(folder)
    backbone = Path(folder) / BACKBONE_FOLDER
    model = load_model(folder, backbone if backbone.is_dir() else None)
    needed = [column for column in model.columns if column["needed"]]
    features = tuple(column["name"] for column in needed if is_feature(column["name"]))
    asked = tuple(Asked(column["name"], column["name"] + (f" ({column['unit']})" if column["unit"] and column["unit"]
                                                           not in column["name"] else ""),
                        tuple(column.get("levels") or ()) if column["kind"] == "category" else ())
                  for column in needed if column["name"] not in features)
    summary = model.summary
    text = "\n".join([f"Predicts '{model.target}' ({model.kind}) from {len(needed)} inputs, {len(features)} of them "
                      "image features" + (", and from the scan round the lesion, which a network reads."
                                          if model.pipeline.deep is not None else "."),
                      f"Trained on {summary.get('n_patients', '?')} patients. {_performance(summary)}",
                      f"Intended use: {model.intended_use or 'not said'}. Licence: {model.licence or 'not said'}."])
    return OpenModel(Path(folder), model, str(document["sha256"]), asked, features, text,
                     _settings_hash(Path(folder)))


def _settings_hash(folder: Path) -> str:
    path = folder / FEATURES_FILE
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        return ""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{path}: damaged; take it anew from its source, or delete it") from None
    return str(document.get("settings_hash") or "") if isinstance(document, dict) else ""


def is_feature(name: str) -> bool:
    """Whether a column is named like a radiomics feature."""
    try:
        parse_key(name)
    except InputError:
        return False
    return True


def predict_case(case: BiopsyCase, features: Any, opened: OpenModel, typed: Mapping[str, Any], *,
                 previous: Any = None) -> Any:
    """Ask a model about this patient.

    Args: features: the record of extract_case; may be None for a model without image features. typed: values of
    `opened.asked` by name.
    Returns: the record with figures, conformal set or interval, similarity, reasons; a refusal is a record with
    `refused` and no figure. An earlier one is replaced. Raises InputError for features that are missing or out of date.
    """
    known: dict[str, Any] = {}
    sources = []
    if opened.needs_features:
        document = require_features(features)
        foreign = other_case(features, case)
        if foreign:
            raise InputError(f"the features were {foreign}; extract them again in step 2")
        known = document["features"]
        if opened.settings_hash and document.get("settings_hash") != opened.settings_hash:
            raise InputError("the features were extracted with other settings than the model was trained on "
                             f"({document.get('settings_hash')}, the model {opened.settings_hash}); choose those in "
                             "step 2 and extract again")
        sources.append(source_of("features", features))
    row = {column["name"]: [known[column["name"]]] for column in opened.model.columns if column["name"] in known}
    row |= {one.name: [str(typed.get(one.name) or "").strip() or None] for one in opened.asked}
    absent = [name for name in opened.features if name not in known]
    crops = None
    if opened.sees_images:
        crops = _crop(case, opened.model.pipeline.deep.options.crop)
        sources += case.sources()
    found = predict(opened.model, Table.from_columns(row or {"none": [None]}, "this patient"), crops=crops)
    document = _document(opened, found, found.rows[0], absent)
    if opened.needs_features and all(source.role != "lesion" for source in sources_of(features)):
        document["warnings"].append(f"the image features are of {sources_of(features)[-1].name}, a part; the model may "
                                    "have been trained on whole lesions")
    document["typed"] = {one.name: row[one.name][0] for one in opened.asked}
    with SceneChange(parts_of(previous)) as change:
        rows = [[entry["label"], entry["value"], entry["note"]] for entry in document["figures"]]
        table = rows_to_table(change.add("vtkMRMLTableNode", "Prediction", f"{ROLE}.table"), HEADER,
                              rows or [["refused", document["refused"], ""]])
        return keep_record(change, "Prediction record", ROLE, document, sources, {"table": table}, case.folder)


def _crop(case: BiopsyCase, options: Any) -> tuple[Any, list[str | None]]:
    """The lesion as a network sees it, or why it can't, as predict takes them."""
    from ..biopsy.deep import read_crop
    from ..biopsy.deep.source import TOO_MUCH_CUT

    crops = np.empty(1, object)
    volume = volume_from_node(case.volume)
    crop = read_crop(volume, mask_from_segment(case.lesion, volume), options)
    if crop.cut > TOO_MUCH_CUT:
        return crops, [f"{crop.cut:.0%} of the lesion lies outside the cube of {options.side_mm:g} mm that the network "
                       "was trained on"]
    crops[0] = crop
    return crops, [None]


def _document(opened: OpenModel, found: Any, row: PredictedRow, absent: list[str]) -> dict[str, Any]:
    model, summary = opened.model, opened.model.summary
    refusals = list(row.refusals)
    if absent and row.refused:
        refusals.insert(0, f"{len(absent)} image features that it needs were not extracted with these settings")
    figures = [] if row.refused else prediction_figures(found, row)
    likeness = row.similarity or {}
    text, note = _similarity(likeness)
    return {"step": "prediction", "title": f"{found.target} ({opened.folder.name})", "kind": found.kind,
            "figures": figures, "headline": figures[0]["label"] + ": " + figures[0]["value"] + (
                f" ({figures[0]['note']})" if figures[0]["note"] else "") if figures else "",
            "refused": "; ".join(refusals[:MOST_REFUSALS]) + (
                f"; and {len(refusals) - MOST_REFUSALS} more" if len(refusals) > MOST_REFUSALS else ""),
            "refusals": refusals, "similarity_text": text, "similarity_note": note, "similarity": likeness,
            "reasons": [{"feature": reason.name, "value": reason.value, "contribution": reason.contribution}
                        for reason in row.reasons],
            "reasons_unit": found.scale, "explained": found.explained, "validated_on": found.validated_on,
            "intended_use": model.intended_use or "not said by the model", "performance": _performance(summary),
            "warnings": [*(text for text in found.warnings if WEIGHTLESS not in text), *row.warnings,
                         *_doubts(opened), *([] if row.refused else _says_little(found, row)),
                         *beside_baseline(summary)],
            "conformal": row.conformal,
            "model_folder": str(opened.folder), "model_sha256": opened.sha256, "frame": None}


def prediction_figures(found: Any, row: PredictedRow) -> list[dict[str, str]]:
    """What a prediction says, as {"label", "value", "note"}: chances with their conformal set or interval."""
    bound = row.conformal or {}
    if row.probability is not None:
        best = max(row.probability, key=lambda name: row.probability[name])  # type: ignore[index]
        shown = found.classes[1:] if found.kind == "binary" else found.classes
        labels = bound.get("labels")
        note = "" if labels is None else (f"{100.0 * bound['level']:g} % set: {', '.join(labels)}" if labels else
                                          f"{100.0 * bound['level']:g} % set: empty, like no class of the training")
        out = [{"label": f"Probability of {found.target} = {name}", "value": f"{row.probability[name]:.2f}", "note": ""}
               for name in shown]
        out.sort(key=lambda entry: not entry["label"].endswith(f"= {best}"))
        out[0]["note"] = note or "no conformal set: too few patients"
        return out
    unit = f" {found.time_unit}" if found.time_unit else ""
    chances = row.incidence or row.survival or {}
    what = f"Chance of '{found.target}' by" if row.incidence else f"Chance to be free of '{found.target}' until"
    out = [{"label": f"{what} {horizon}{unit}", "value": f"{chance:.2f}", "note": ""}
           for horizon, chance in chances.items()]
    if bound:
        high = f"{bound['high']:.3g}{unit}" if bound.get("high") is not None else f"beyond {bound['horizon']:.3g}{unit}"
        out.append({"label": f"Time of '{found.target}', {100.0 * bound['level']:g} % interval",
                    "value": f"{bound['low']:.3g} to {high}", "note": ""})
    return out or [{"label": "Risk", "value": f"{row.risk:.3g}", "note": "model scale, larger is worse"}]


def _similarity(likeness: Mapping[str, Any]) -> tuple[str, str]:
    if likeness.get("distance") is None:
        return "", ""
    where = "inside" if likeness.get("inside") else "outside"
    share = likeness.get("percentile")
    return (f"distance {likeness['distance']:.2f} (gate {likeness['gate']:.2f})",
            f"{where} the training cohort" + ("" if share is None else f"; {share:.0f} % of its patients are nearer"))


def _performance(summary: Mapping[str, Any]) -> str:
    metric = str(summary.get("primary_metric") or "")
    parts = [f"{word} {_interval(scores[metric])}" for word, scores in (
        ("model", summary.get("scores") or {}), ("clinical baseline", summary.get("baseline_scores") or {}))
        if metric in scores]
    if not parts:
        return "Held-out performance: not said by the model"
    return f"Held-out {words_of(metric)}: {', '.join(parts)}"


def _interval(entry: Mapping[str, Any]) -> str:
    if entry.get("estimate") is None:
        return "not known"
    low, high = entry.get("low"), entry.get("high")
    return f"{entry['estimate']:.2f}" + ("" if low is None or high is None else f" ({low:.2f} to {high:.2f})")


def beside_baseline(summary: Mapping[str, Any]) -> list[str]:
    """A warning where, held out, the model did no better than its clinical baseline, or where there was none."""
    metric = str(summary.get("primary_metric") or "")
    own = ((summary.get("scores") or {}).get(metric) or {}).get("estimate")
    beside = ((summary.get("baseline_scores") or {}).get(metric) or {}).get("estimate")
    if own is None or beside is None:
        return ["no clinical baseline was trained beside this model"]
    if direction(metric) * (own - beside) <= 0:
        return ["held out, this model was no better than its clinical baseline"]
    return []


def _says_little(found: Any, row: PredictedRow) -> list[str]:
    labels = (row.conformal or {}).get("labels")
    return ["the set holds every class: the model can't tell for this patient"] \
        if labels is not None and len(labels) == len(found.classes) else []


def _doubts(opened: OpenModel) -> list[str]:
    if not opened.needs_features or opened.settings_hash:
        return []
    return ["the model does not say with which radiomics settings its features were made; they must be the same here"]
