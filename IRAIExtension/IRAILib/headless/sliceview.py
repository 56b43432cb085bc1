"""A slice through volumes, segmentations, models and markups, drawn as desktop Slicer draws it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry import InputError
from .offscreen import CAPTION_MARGIN_PX, OffscreenView, style_text

SLICE_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLScalarBarDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLTransformsDisplayableManager2D",
    "vtkMRMLLinearTransformsDisplayableManager",
    "vtkMRMLColorLegendDisplayableManager",
)
ORIENTATIONS = ("Axial", "Sagittal", "Coronal")
LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
"""Ends of the R, A and S axes, negative first."""
LETTER_COLOR = (1.0, 0.85, 0.3)
RULER_HEIGHT_PX = 36
"""Room at the lower edge that Slicer's ruler takes."""
OBLIQUE_COSINE = 0.95
"""Below this a screen axis is no body axis and gets two letters."""


def axis_letters(direction: np.ndarray) -> str:
    """Body direction (RAS vector) in letters, the largest first: "L", or "LA" when it is oblique."""
    unit = np.asarray(direction, float) / np.linalg.norm(direction)
    order = np.argsort(-np.abs(unit))
    letters = [LETTERS[axis][int(unit[axis] > 0)] for axis in order[:2]]
    return letters[0] if abs(unit[order[0]]) >= OBLIQUE_COSINE else "".join(letters)


class SliceView(OffscreenView):
    """One slice. Everything visible in the scene is drawn: segment contours, model cuts, markups, colour legends.

        with SliceView("Axial", 600) as view:
            view.show(ct, window=350, level=50).centre_on(point_ras).field_of_view(150)
            view.save("slice.png")

    Args:
        orientation: "Axial", "Sagittal", "Coronal", or another preset of the scene.
        size_px: width and height, or one number for both.
        letters: draw the body directions at the edges.
    Raises: InputError for an orientation that the scene doesn't know; HeadlessUnavailableError where nothing can draw.
    """

    def __init__(self, orientation: str = "Axial", size_px: int | tuple[int, int] = 500, *,
                 letters: bool = True) -> None:
        super().__init__(size_px, SLICE_MANAGERS, "vtkMRMLSliceViewDisplayableManagerFactory")
        import slicer
        import vtk

        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(self._mapper)
        self._actor.GetProperty().SetDisplayLocationToBackground()
        self._actor.SetVisibility(False)
        self.renderer.AddViewProp(self._actor)
        logic = self.logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(self.app.applicationLogic())
        logic.SetMRMLScene(self.app.mrmlScene())
        node = logic.AddSliceNode(self.name)
        self.app.applicationLogic().GetSliceLogics().AddItem(logic)
        logic.ResizeSliceNode(*self.size_px)
        self._attach(node)
        self._keep_out_of_files()
        self.node.SetMappedInLayout(1)
        self._style = slicer.vtkMRMLSliceViewInteractorStyle()
        self._style.SetSliceLogic(logic)
        self._style.SetDisplayableManagers(self.group)
        self._style.SetInteractor(self.interactor)
        self._letters: list = []
        self._has_letters = letters
        self.orient(orientation)

    def _keep_out_of_files(self) -> None:
        logic = self.logic
        for node in (self.node, logic.GetSliceCompositeNode(), logic.GetSliceModelNode(),
                     logic.GetSliceModelTransformNode(), logic.GetSliceDisplayNode()):
            if node is not None:
                node.SetSaveWithScene(False)
                node.SetHideFromEditors(True)

    def orient(self, orientation: str):
        """Turn to an orientation preset of the scene."""
        if not self.node.HasSliceOrientationPreset(orientation):
            raise InputError(f"there is no slice orientation '{orientation}'; use one of {', '.join(ORIENTATIONS)}")
        self.node.SetOrientation(orientation)
        return self

    def show(self, background: Any, foreground: Any = None, *, opacity: float = 0.5,
             label: Any = None, label_opacity: float = 0.5,
             window: float | None = None, level: float | None = None):
        """Choose volumes and fit the view to the background.

        Args:
            background, foreground, label: volume nodes or None; the foreground is blended with `opacity` (0 to 1).
            window, level: grey-level window of the background, in its units; both or neither. Set on its display node.
        """
        composite = self.logic.GetSliceCompositeNode()
        composite.SetBackgroundVolumeID(background.GetID() if background is not None else None)
        composite.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
        composite.SetForegroundOpacity(opacity)
        composite.SetLabelVolumeID(label.GetID() if label is not None else None)
        composite.SetLabelOpacity(label_opacity)
        if background is not None and window is not None and level is not None:
            background.GetDisplayNode().AutoWindowLevelOff()
            background.GetDisplayNode().SetWindowLevel(window, level)
        if background is not None:
            self.logic.FitSliceToBackground()
            self.logic.SnapSliceOffsetToIJK()
        return self

    def centre_on(self, ras):
        """Cut through this point (3, RAS mm) and put it into the middle of the picture."""
        self.node.JumpSliceByCentering(*(float(value) for value in ras))
        return self

    def cut_through(self, ras):
        """Cut through this point (3, RAS mm) without moving the picture sideways."""
        self.node.JumpSliceByOffsetting(*(float(value) for value in ras))
        return self

    def offset_mm(self, offset: float):
        """Move the cut along its normal, to this position on it."""
        self.node.SetSliceOffset(float(offset))
        return self

    def field_of_view(self, width_mm: float):
        """Width of what is seen; the height follows from the picture's shape."""
        depth = self.node.GetFieldOfView()[2]
        self.node.SetFieldOfView(float(width_mm), float(width_mm) * self.size_px[1] / self.size_px[0], depth)
        return self

    def ruler(self, visible: bool = True):
        """Draw a scale bar."""
        import slicer

        base = slicer.vtkMRMLAbstractViewNode
        self.node.SetRulerType(base.RulerTypeThick if visible else base.RulerTypeNone)
        self.node.SetRulerColor(base.RulerColorWhite)
        return self

    def pixel_of(self, ras) -> tuple[float, float]:
        """(row, column) where a point (3, RAS mm) falls; whole numbers are pixel centres, row 0 is on top."""
        import vtk

        xy_from_ras = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.node.GetXYToRAS(), xy_from_ras)
        x, y = xy_from_ras.MultiplyPoint((*(float(value) for value in ras), 1.0))[:2]
        return self.size_px[1] - 1 - y, x

    def ras_of(self, row: float, column: float) -> np.ndarray:
        """(3,) RAS mm of a pixel, on the cut."""
        y = self.size_px[1] - 1 - row
        return np.array(self.node.GetXYToRAS().MultiplyPoint((float(column), float(y), 0.0, 1.0))[:3])

    def _before_render(self) -> None:
        self.logic.UpdatePipeline()
        connection = self.logic.GetImageDataConnection()
        self._mapper.SetInputConnection(connection)
        self._actor.SetVisibility(connection is not None)
        self._draw_letters()

    def _draw_letters(self) -> None:
        import vtk

        for actor in self._letters:
            self.overlay.RemoveViewProp(actor)
        self._letters = []
        if not self._has_letters:
            return
        matrix = self.node.GetSliceToRAS()
        right, up = (np.array([matrix.GetElement(row, column) for row in range(3)]) for column in (0, 1))
        width, height = self.size_px
        margin = CAPTION_MARGIN_PX
        for direction, (x, y) in ((right, (1.0, 0.5)), (-right, (0.0, 0.5)), (up, (0.5, 1.0)), (-up, (0.5, 0.0))):
            actor = vtk.vtkTextActor()
            actor.SetInput(axis_letters(direction))
            style_text(actor, self.size_px, LETTER_COLOR, (x, y))
            actor.GetTextProperty().BoldOn()
            raised = RULER_HEIGHT_PX if y == 0.0 and self.node.GetRulerType() else 0
            actor.SetPosition(margin + x * (width - 2 * margin), margin + y * (height - 2 * margin) + raised)
            self.overlay.AddViewProp(actor)
            self._letters.append(actor)

    def _remove_nodes(self) -> None:
        scene, logic = self.app.mrmlScene(), self.logic
        nodes = (logic.GetSliceDisplayNode(), logic.GetSliceModelNode(), logic.GetSliceModelTransformNode(),
                 logic.GetSliceCompositeNode(), self.node)
        self._style.SetInteractor(None)
        self._mapper.RemoveAllInputConnections(0)
        self.app.applicationLogic().GetSliceLogics().RemoveItem(logic)
        logic.SetMRMLScene(None)
        for node in nodes:
            if node is not None and node.GetScene() is scene:
                scene.RemoveNode(node)
