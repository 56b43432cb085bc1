"""Pictures of the lesion for the board's page: headless from real Slicer views, in desktop Slicer from its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .biopsy_case import BiopsyCase
from .nodes import mask_from_segment

SLICE_PX = (560, 430)
AROUND = 3.2
"""Field of view: so many times the lesion's largest extent, at least `LEAST_MM`."""
LEAST_MM = 70.0
NAMES = (("Axial", "Red"), ("Coronal", "Green"))


def picture_case(case: BiopsyCase, folder: Path) -> dict[str, tuple[Path, str]]:
    """An axial and a coronal slice through the lesion's centre, with the outlines of its segmentation.

    Args: folder: existing, for PNG files. Returns: file and caption by orientation. The scene is left as it was.
    Raises EmptyMaskError, InputError as mask_from_segment.
    """
    from ..headless import is_desktop

    centre, width = lesion_view(case)
    if is_desktop():
        return _captured(case, centre, width, folder)
    return {name: (_rendered(case, name, centre, width, folder / f"{name.lower()}.png"), _caption(name))
            for name, _view in NAMES}


def lesion_view(case: BiopsyCase) -> tuple[np.ndarray, float]:
    """(3,) RAS mm of the lesion's middle and the width in mm that shows it with what is around."""
    mask = mask_from_segment(case.lesion)
    start, shape = mask.bounding_box_kji()
    corners = mask.grid.cropped_grid(start, shape).corners_ras()
    size = float((corners.max(axis=0) - corners.min(axis=0)).max())
    return corners.mean(axis=0), max(AROUND * size, LEAST_MM)


def show_lesion(case: BiopsyCase) -> None:
    """Bring the lesion before the eyes: the volume in every slice view, cut through the lesion's middle."""
    import slicer

    slicer.util.setSliceViewerLayers(background=case.volume)
    centre, _width = lesion_view(case)
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        node.JumpSliceByCentering(*(float(x) for x in centre))


def _caption(name: str) -> str:
    return f"{name}, through the lesion's middle"


def _rendered(case: BiopsyCase, name: str, centre, width: float, path: Path) -> Path:
    from ..headless.views import SliceView

    with _quiet_fill(case.lesion.node), SliceView(name, SLICE_PX) as view:
        view.show_only(case.volume, case.lesion.node)
        view.show(case.volume).field_of_view(width).centre_on(centre)
        view.ruler()
        if case.synthetic:
            view.caption("SYNTHETIC")
        view.save(path)
    return path


class _quiet_fill:
    """The segments as outlines only, while a picture is drawn."""

    def __init__(self, node: Any) -> None:
        self.display = node.GetDisplayNode()

    def __enter__(self) -> None:
        if self.display is not None:
            self.before = self.display.GetOpacity2DFill()
            self.display.SetOpacity2DFill(0.0)

    def __exit__(self, *_error) -> None:
        if self.display is not None:
            self.display.SetOpacity2DFill(self.before)


def _captured(case: BiopsyCase, centre, width: float, folder: Path) -> dict[str, tuple[Path, str]]:
    """What desktop Slicer's own slice views show, through its ScreenCapture module."""
    import ScreenCapture
    import slicer

    show_lesion(case)
    logic, out = ScreenCapture.ScreenCaptureLogic(), {}
    for name, layout in NAMES:
        node = next((n for n in slicer.util.getNodesByClass("vtkMRMLSliceNode") if n.GetLayoutName() == layout), None)
        if node is None or logic.viewFromNode(node) is None:
            continue
        size = node.GetFieldOfView()
        node.SetFieldOfView(width, width * size[1] / max(size[0], 1e-6), size[2])
        slicer.app.processEvents()
        path = folder / f"{name.lower()}.png"
        logic.captureImageFromView(logic.viewFromNode(node), str(path))
        out[name] = (path, _caption(name))
    return out
