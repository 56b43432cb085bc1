"""The four standard views of a Slicer window as nodes and logics, without the window.

Scenes saved headless so open in desktop Slicer as they were set: `slicer.util.setSliceViewerLayers` works.
"""

from __future__ import annotations

from .errors import HeadlessAttributeError, HeadlessUnavailableError, unavailable

SLICE_VIEWS = (("Red", "Axial", "R", (0.952941176, 0.290196078, 0.2)),
               ("Yellow", "Sagittal", "Y", (0.929411765, 0.835294118, 0.298039216)),
               ("Green", "Coronal", "G", (0.431372549, 0.690196078, 0.294117647)))
"""Layout name, orientation, label and colour of desktop's slice views."""
THREED_VIEW_COLOR = (0.454901961, 0.454901961, 0.925490196)
DEFAULT_SIZE_PX = (512, 512)


class SliceWidget:
    """A slice view without its window: node and logic, and no pixels."""

    def __init__(self, logic) -> None:
        self._logic = logic

    def sliceLogic(self):
        return self._logic

    def mrmlSliceNode(self):
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self):
        return self._logic.GetSliceCompositeNode()

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()

    def __getattr__(self, name: str):
        raise unavailable(f"sliceWidget().{name}", "render the slice with IRAILib.headless.views.SliceView",
                          HeadlessAttributeError)


class LayoutManager:
    """The part of qSlicerLayoutManager that is node and logic; views with pixels are in IRAILib.headless.views."""

    tableViewCount = plotViewCount = 0
    threeDViewCount = 0

    def __init__(self, app) -> None:
        import slicer

        self._app = app
        scene, logic = app.mrmlScene(), app.applicationLogic()
        self._slice_logics = {}
        for name, orientation, label, color in SLICE_VIEWS:
            slice_logic = slicer.vtkMRMLSliceLogic()
            slice_logic.SetMRMLApplicationLogic(logic)
            slice_logic.SetMRMLScene(scene)
            node = slice_logic.AddSliceNode(name)
            node.SetLayoutLabel(label)
            node.SetLayoutColor(*color)
            node.SetOrientation(orientation)
            node.SetMappedInLayout(1)
            slice_logic.ResizeSliceNode(*DEFAULT_SIZE_PX)
            logic.GetSliceLogics().AddItem(slice_logic)
            self._slice_logics[name] = slice_logic
        self._view_logic = view_logic = slicer.vtkMRMLViewLogic()
        view_logic.SetMRMLApplicationLogic(logic)
        view_logic.SetMRMLScene(scene)
        view = view_logic.AddViewNode("1")
        view.SetLayoutLabel("1")
        view.SetLayoutColor(*THREED_VIEW_COLOR)
        view.SetMappedInLayout(1)
        logic.GetViewLogics().AddItem(view_logic)
        scene.AddObserver(scene.EndCloseEvent, lambda *_: self._restore_orientations())
        self._layout_logic = slicer.vtkMRMLLayoutLogic()
        self._layout_logic.SetMRMLScene(scene)
        self.layoutLogic().GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    def _restore_orientations(self) -> None:
        """Loading an oblique volume turns the slices to it; a closed scene starts anew."""
        for name, orientation, *_ in SLICE_VIEWS:
            self._slice_logics[name].GetSliceNode().SetOrientation(orientation)

    def layoutLogic(self):
        return self._layout_logic

    @property
    def layout(self) -> int:
        """Number of the view arrangement, kept in the scene's layout node."""
        return self._layout_logic.GetLayoutNode().GetViewArrangement()

    def setLayout(self, arrangement: int) -> None:
        """The scene opens with this arrangement in desktop Slicer; there is nothing to see here."""
        self._layout_logic.GetLayoutNode().SetViewArrangement(int(arrangement))

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._slice_logics)

    def mrmlSliceLogics(self):
        return self._app.applicationLogic().GetSliceLogics()

    def mrmlViewLogics(self):
        return self._app.applicationLogic().GetViewLogics()

    def sliceWidget(self, name: str) -> SliceWidget | None:
        logic = self._slice_logics.get(name)
        return SliceWidget(logic) if logic is not None else None

    def resetSliceViews(self) -> None:
        """Fit the standard slice views to their background volumes."""
        for logic in self._slice_logics.values():
            logic.FitSliceToBackground()

    def resetThreeDViews(self) -> None:
        """Nothing is rendered, so that no camera needs to move."""

    def threeDWidget(self, _index) -> None:
        raise unavailable("a 3D view's window", "render it with IRAILib.headless.views.ThreeDView",
                          HeadlessUnavailableError)

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        raise unavailable(f"layoutManager().{name}", "render pictures with IRAILib.headless.views "
                          "(SliceView, ThreeDView)", HeadlessAttributeError)
