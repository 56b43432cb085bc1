"""Step 6 in the scene: what the board's page says, read from the records, each number with its node; the files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..geometry import InputError
from ..report.biopsy_board import Board, BoardSource, FeatureLine, Figure, ScoreLine, write_board
from ..report.margin_files import write_json
from .ablation_results import read_record
from .biopsy_board_parts import (
    cohort_unknowns,
    feature_label,
    feature_unknowns,
    key_features,
    prediction_block,
    prediction_unknowns,
    region_figures,
    stability_unknowns,
)
from .biopsy_case import BiopsyCase, now_text, other_case
from .biopsy_lesion import size_notes, size_rows
from .biopsy_pictures import picture_case
from .biopsy_scores import score_records, score_text
from .biopsy_sources import Source, source_of, stale_reasons

FILES = ("board.html", "board.json")
ROLES = {"size": "lesion record", "shell": "shell record", "habitats": "habitat record", "features": "feature record",
         "stability": "stability record", "cohort": "cohort record", "prediction": "prediction record"}


class _Desk:
    """Sources with their numbers, in the order in which the page first needs them."""

    def __init__(self) -> None:
        self.sources: dict[tuple[str, str], BoardSource] = {}

    def cite(self, role: str, node, segment_id: str = "", stale: str = "") -> str:
        key = (str(node.GetID()), segment_id)
        if key not in self.sources:
            found = source_of(role, node, segment_id)
            self.sources[key] = BoardSource(str(len(self.sources) + 1), role, found.name, found.node_id, found.sha256,
                                            found.link, stale)
        return self.sources[key].key

    def record(self, role: str, node, case: BiopsyCase) -> tuple[str, bool]:
        """(key, whether it is stale, or another lesion's)."""
        reasons = [reason for reason in [other_case(node, case)] if reason] + stale_reasons(node)
        return self.cite(role, node, stale="; ".join(reasons)), bool(reasons)


def collect_board(case: BiopsyCase, records: Mapping[str, Any]) -> Board:
    """Everything that the page says, without its pictures.

    Args: records: by name ("size", "features", "prediction", ...), as the steps returned them; None where there is
    none. Scores are read from the scene. Raises InputError for a case without volume or lesion, or when nothing was
    made yet.
    """
    desk = _Desk()
    desk.cite("scan", case.volume)
    desk.cite("lesion", case.lesion.node, case.lesion.segment_id)
    documents = {name: read_record(records.get(name)) for name in ROLES}
    scores = score_records()
    if not scores and not any(documents.values()):
        raise InputError("nothing was measured yet; measure the lesion, or work a score out, and write the page then")
    board = Board(case.folder, now_text(), f"IRAI {__version__}", case.synthetic, [])
    said = {name: desk.record(role, records[name], case) for name, role in ROLES.items() if documents[name]}
    _add_lesion(board, documents, said)
    for record in scores:
        _add_score(board, read_record(record), *desk.record("score", record, case))
    if documents["prediction"]:
        board.prediction = prediction_block(documents["prediction"], *said["prediction"])
    _add_features(board, documents, said)
    board.unknown, board.unknown_sources = _unknown(documents, said, scores)
    board.sources = list(desk.sources.values())
    board.timeline = _timeline([*(records.get(name) for name in ROLES), *scores])
    return board


def _add_lesion(board: Board, documents: dict[str, Any], said: dict[str, tuple[str, bool]]) -> None:
    for name, rows in (("size", size_rows(documents["size"])[:4]), ("shell", region_figures(documents["shell"])),
                       ("habitats", region_figures(documents["habitats"]))):
        board.lesion += [Figure(label, f"{value} {unit}".strip(), said[name][0], stale=said[name][1])
                         for label, value, unit in rows]


def _add_score(board: Board, document: dict[str, Any], key: str, stale: bool) -> None:
    inputs = "; ".join(f"{used['name']} {used['given']}" + (" (default)" if used["note"] == "default" else "")
                       for used in document["inputs"])
    board.scores.append(ScoreLine(Figure(document["title"], score_text(document) or "see its table", key, stale=stale),
                                  inputs, str(document["source"]), tuple(document["warnings"])))


def _add_features(board: Board, documents: dict[str, Any], said: dict[str, tuple[str, bool]]) -> None:
    features, cohort, stability = documents["features"], documents["cohort"], documents["stability"]
    if not features:
        return
    key, stale = said["features"]
    places = cohort.get("places") or {} if cohort and not said["cohort"][1] else {}
    marks = stability if stability and not said["stability"][1] else {}
    for name in key_features(features, documents["prediction"]):
        known, value = features["definitions"][name], features["features"][name]
        place = places.get(name)
        unit = "" if known["unit"] == "1" else f" {known['unit']}"
        text = "not defined" if value is None else f"{value:.4g}{unit}"
        spread = (marks.get("cv_percent") or {}).get(name)
        note = ("unstable: " + marks["unstable"][name] if name in (marks.get("unstable") or {})
                else f"varies by {spread:.1f} %" if spread is not None else "")
        label = feature_label(name, known)
        board.features.append(FeatureLine(Figure(label, text, key, note, stale),
                                          place["percentile"] if place else None, place["n"] if place else 0,
                                          said["cohort"][0] if place else "",
                                          said["stability"][0] if note else ""))
    others = f"; others: {Path(cohort['table']).name}" if places else ""
    board.features_of = f"measured of {features['mask']}{others}"


def _unknown(documents: dict[str, Any], said: dict[str, tuple[str, bool]], scores: list[Any]
             ) -> tuple[list[str], dict[str, str]]:
    """What the page says that isn't known, and the key of the record that says so, by text."""
    out, keys = ["histology: no number here replaces a tissue sample"], {}
    features, size = documents["features"], documents["size"]
    for name, texts in (
            ("size", size_notes(size) if size else ["the lesion's size: it was not measured"]),
            ("prediction", prediction_unknowns(documents["prediction"])), ("features", feature_unknowns(features)),
            ("stability", stability_unknowns(features, documents["stability"])),
            ("cohort", cohort_unknowns(features, documents["cohort"]))):
        out += texts
        keys |= {text: said[name][0] for text in texts if name in said}
    if not scores:
        out.append("clinical scores: none was worked out")
    return list(dict.fromkeys(out)), keys


def _timeline(records) -> list[dict[str, str]]:
    found = [(read_record(node), node) for node in records if node is not None]
    entries = [{"created": str(document.get("created") or ""), "step": str(document.get("step") or ""),
                "node_id": str(node.GetID()), "name": str(node.GetName())} for document, node in found if document]
    return sorted(entries, key=lambda entry: entry["created"])


def write_case_board(case: BiopsyCase, records: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write board.html and board.json, both or neither; files of those names are replaced.

    Returns: the files. Raises InputError when nothing was made yet or the folder can't be written.
    """
    board, folder = collect_board(case, records), Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        holder = tempfile.TemporaryDirectory(prefix=".irai-", dir=folder)
    except OSError as error:
        raise InputError(f"{folder}: can't be written ({error.strerror}); choose another folder") from error
    with holder as name:
        work = Path(name)
        scan = board.sources[0].key
        board.pictures = [(path, caption, scan) for path, caption in picture_case(case, work).values()]
        write_board(board, work / FILES[0])
        write_json(board.to_dict(), work / FILES[1])
        for file in FILES:
            try:
                os.replace(work / file, folder / file)
            except OSError as error:
                raise InputError(f"{folder / file}: can't be replaced ({error.strerror}); choose another folder"
                                 ) from error
    return [folder / file for file in FILES]


def board_sources(case: BiopsyCase, records: Mapping[str, Any]) -> list[Source]:
    """The nodes that the page's numbers came from, for a list to choose from. Raises as `collect_board`."""
    return [Source(source.role, source.node_id, "", source.name, source.sha256) for source
            in collect_board(case, records).sources]
