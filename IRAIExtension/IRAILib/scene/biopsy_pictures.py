"""Pictures of the lesion for the board's page: headless from real Slicer views, in desktop Slicer from its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .biopsy_case import BiopsyCase
from .nodes import mask_from_segment

SLICE_PX = (560, 430)
AROUND = 3.2
"""Field of view: so many times the lesion's largest extent, at least `LEAST_MM`."""
LEAST_MM = 70.0
NAMES = (("Axial", "Red"), ("Coronal", "Green"))


def picture_case(case: BiopsyCase, folder: Path) -> dict[str, tuple[Path, str]]:
    """An axial slice with the lesion's outline, a coronal one with every segment's, through the lesion's middle.

    Args: folder: existing, for PNG files. Returns: file and caption by orientation. The scene is left as it was.
    Raises EmptyMaskError, InputError as mask_from_segment.
    """
    from ..headless import is_desktop

    centre, width = lesion_view(case)
    out = {}
    for name, layout in NAMES:
        alone = name == NAMES[0][0]
        path = folder / f"{name.lower()}.png"
        with _Outlines(case, alone):
            drawn = (_captured(case, layout, centre, width, path) if is_desktop()
                     else _rendered(case, name, centre, width, path))
        if drawn:
            seen = "the lesion" if alone else "every segment"
            out[name] = (path, f"{name}, through the lesion's middle; outline of {seen}")
    return out


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


def _rendered(case: BiopsyCase, name: str, centre, width: float, path: Path) -> bool:
    from ..headless.views import SliceView

    with SliceView(name, SLICE_PX) as view:
        view.show_only(case.volume, case.lesion.node)
        view.show(case.volume).field_of_view(width).centre_on(centre)
        view.ruler()
        if case.synthetic:
            view.caption("SYNTHETIC")
        view.save(path)
    return True


def _captured(case: BiopsyCase, layout: str, centre, width: float, path: Path) -> bool:
    """What desktop Slicer's own slice view shows, through its ScreenCapture module; False where it isn't open."""
    import ScreenCapture
    import slicer

    show_lesion(case)
    logic = ScreenCapture.ScreenCaptureLogic()
    node = next((n for n in slicer.util.getNodesByClass("vtkMRMLSliceNode") if n.GetLayoutName() == layout), None)
    if node is None or logic.viewFromNode(node) is None:
        return False
    size = node.GetFieldOfView()
    node.SetFieldOfView(width, width * size[1] / max(size[0], 1e-6), size[2])
    slicer.app.processEvents()
    logic.captureImageFromView(logic.viewFromNode(node), str(path))
    return True


class _Outlines:
    """Outlines without filling while a picture is drawn: of the lesion alone, or of every segment that is visible."""

    def __init__(self, case: BiopsyCase, alone: bool) -> None:
        self.display = case.lesion.node.GetDisplayNode()
        inside = case.lesion.node.GetSegmentation()
        self.others = [one for one in inside.GetSegmentIDs() if alone and one != case.lesion.segment_id]

    def __enter__(self) -> None:
        if self.display is None:
            return
        self.fill = self.display.GetOpacity2DFill()
        self.seen = {one: self.display.GetSegmentVisibility(one) for one in self.others}
        self.display.SetOpacity2DFill(0.0)
        for one in self.others:
            self.display.SetSegmentVisibility(one, False)

    def __exit__(self, *_error) -> None:
        if self.display is None:
            return
        self.display.SetOpacity2DFill(self.fill)
        for one, seen in self.seen.items():
            self.display.SetSegmentVisibility(one, seen)
