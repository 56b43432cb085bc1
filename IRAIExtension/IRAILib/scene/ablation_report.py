"""The measured case as files: margin.json, margin.csv, report.html with its pictures, scene.mrb."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from ..geometry import InputError
from ..report import margin_histogram, write_csv, write_json, write_margin_report
from .ablation import AblationCase
from .ablation_results import read_record, table_rows
from .ablation_views import show_margin
from .console import evaluated_margin, save_scene

FILES = ("margin.json", "margin.csv", "report.html", "scene.mrb")
CAPTIONS = {"Red": "Axial, through the thinnest place", "Green": "Coronal, through the thinnest place",
            "Yellow": "Sagittal, through the thinnest place"}


def write_case_report(case: AblationCase, margin: Any, folder: Path, *, registration: Any = None,
                      document: dict[str, Any] | None = None, keep_pictures: bool = False) -> list[Path]:
    """Write the four files, all or none of them.

    Args:
        margin: record of `measure_margin`. registration: record of `register_case`, for the check pictures.
        folder: made when missing; files of those names in it are replaced.
        document: what margin.json says where there is no margin (refused).
        keep_pictures: leave the report's PNG files in the folder too.
    Returns: the files. Raises InputError without a margin or when the folder can't be written.
    """
    document = document or read_record(margin)
    if not document:
        raise InputError("there is no margin to report; measure it first")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        holder = tempfile.TemporaryDirectory(prefix=".irai-", dir=folder)
    except OSError as error:
        raise InputError(f"{folder}: can't be written ({error.strerror}); choose another folder") from error
    threshold = float(document.get("threshold_mm") or 5.0)
    synthetic = bool(case.post is not None and case.post.GetAttribute("IRAI.Synthetic"))
    with holder as name:
        work = Path(name)
        write_json(document, work / "margin.json")
        write_csv(document, work / "margin.csv")
        pictures = _pictures(case, margin, registration, work, synthetic)
        if document.get("mam_mm") is not None:
            path = margin_histogram(*evaluated_margin(margin), threshold, work / "histogram.png",
                                    document.get("mam_ci95_mm"))
            pictures["histogram"] = (path, "Margin over the tumour's surface, by area")
        write_margin_report(document, table_rows(document, threshold), pictures, work / "report.html",
                            synthetic=synthetic)
        save_scene(work / "scene.mrb")
        files = [*FILES, *(path.name for path, _ in pictures.values() if keep_pictures)]
        for file in files:
            os.replace(work / file, folder / file)
    return [folder / file for file in files]


def _pictures(case: AblationCase, margin: Any, registration: Any, work: Path, synthetic: bool) -> dict:
    from ..headless import is_desktop

    if is_desktop():
        return _captured(case, margin, work)
    from .ablation_pictures import render_case

    return render_case(case, margin, work, registration=registration, mark="SYNTHETIC" if synthetic else None)


def _captured(case: AblationCase, margin: Any, work: Path) -> dict:
    """What desktop Slicer's own views show, through its ScreenCapture module."""
    import ScreenCapture
    import slicer

    show_margin(case, margin)
    slicer.app.processEvents()
    logic = ScreenCapture.ScreenCaptureLogic()
    nodes = [(node, CAPTIONS[node.GetLayoutName()]) for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")
             if node.GetLayoutName() in CAPTIONS]
    nodes += [(node, "The tumour's surface, coloured by margin")
              for node in slicer.util.getNodesByClass("vtkMRMLViewNode")[:1]]
    out = {}
    for node, caption in nodes:
        view = logic.viewFromNode(node)
        if view is not None:
            path = work / f"{node.GetLayoutName()}.png"
            logic.captureImageFromView(view, str(path))
            out[path.stem] = (path, caption)
    return out
