"""Clinical scores in the scene: a record with value, grade, inputs as given, warnings and source, and its table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..biopsy.scores import find_score
from .ablation_results import read_record
from .biopsy_case import STUDY_FOLDER, keep_record
from .changes import SceneChange, parts_of, remove_node
from .write import rows_to_table

ROLE = "biopsy.score"
SCORE = "IRAI.Score"
"""Attribute of a score's record: the score's name; there is one record a score."""
HEADER = ["Quantity", "Value", "Unit", "Note"]


def work_out_score(name: str, values: Mapping[str, Any], *, folder: str = STUDY_FOLDER) -> Any:
    """Work a score out and keep it in the scene; an earlier result of the same score is replaced.

    Args: values: as `biopsy.scores.score` takes them ("2.1mg/dL"): a unit is never guessed.
    Returns: the record, a vtkMRMLTextNode with the part "table". Raises InputError, RefusedError; the earlier result
    then stays as it is.
    """
    result = find_score(name)(values)
    document = {"step": "score", **result.to_dict(), "typed": {key: str(value) for key, value in values.items()}}
    with SceneChange(parts_of(score_record(result.name))) as change:
        table = rows_to_table(change.add("vtkMRMLTableNode", f"{result.title} (inputs)", f"{ROLE}.table"), HEADER,
                              score_rows(document))
        record = keep_record(change, f"Score: {result.title}", ROLE, document, [], {"table": table}, folder)
        record.SetAttribute(SCORE, result.name)
    return record


def score_records() -> list[Any]:
    """Every score's record in the scene, in the order they were made."""
    import slicer

    return [node for node in slicer.util.getNodesByClass("vtkMRMLTextNode")
            if node.GetAttribute("IRAI.Role") == ROLE and read_record(node)]


def score_record(name: str) -> Any:
    """The record of one score, None when it was not worked out."""
    return next((node for node in score_records() if node.GetAttribute(SCORE) == name), None)


def remove_score(name: str) -> None:
    """Take a score's nodes out of the scene."""
    for node in parts_of(score_record(name)):
        remove_node(node)


def score_text(document: Mapping[str, Any]) -> str:
    """"MELD-Na 23 points", "Child-Pugh 8 points, class B": the result in a few words."""
    value, unit = document.get("value"), str(document.get("unit") or "")
    number = "" if value is None else f"{value:d}" if isinstance(value, int) else f"{value:.3g}" \
        if abs(value) < 1 else f"{value:.2f}"
    return ", ".join(part for part in (f"{number} {unit}".strip() if number else "", str(document.get("grade") or ""))
                     if part)


def score_rows(document: Mapping[str, Any]) -> list[list[str]]:
    """Rows (quantity, value, unit, note): the result, its inputs as given, its parts, its warnings."""
    rows = [[str(document.get("title")), score_text(document), "", str(document.get("validated_on") or "")]]
    for used in document.get("inputs") or []:
        value, given = used["value"], str(used["given"])
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        same = not number or f"{value:.6g} {used['unit']}".strip() == given
        rows.append([used["name"], given if same else f"{value:.6g}", "" if same else used["unit"],
                     "; ".join(filter(None, ["" if same else f"given as {given}", used["note"]]))])
    for name, value in (document.get("details") or {}).items():
        if isinstance(value, dict):
            rows += [[f"{name}: {part}", str(number), "", ""] for part, number in value.items()]
        else:
            rows.append([name, f"{value:.4g}" if isinstance(value, float) else str(value), "", ""])
    rows += [["warning", warning, "", ""] for warning in document.get("warnings") or []]
    return [*rows, ["source", str(document.get("source") or ""), "", ""]]
