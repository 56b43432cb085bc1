"""What slice and 3D views share: an off-screen window that real displayable managers draw into, and its pixels."""

from __future__ import annotations

import itertools
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from ..images.atomic import replacing
from .rendering import require_rendering
from .startup import start

CORNERS = {"lower left": (0.0, 0.0), "lower right": (1.0, 0.0), "upper left": (0.0, 1.0), "upper right": (1.0, 1.0)}
CAPTION_MARGIN_PX = 8
PIXELS_PER_POINT_OF_TEXT = 32
"""View width over this is the height of captions: they stay readable when a picture is shown small."""

PNG_LEVEL = 6
"""zlib's default: level 9 takes ten times as long for a few per cent on smooth backgrounds."""

_open_views: weakref.WeakSet[OffscreenView] = weakref.WeakSet()
_numbers = itertools.count(1)


def write_png(image: np.ndarray, path: str | Path) -> Path:
    """Write (rows, columns, 3) uint8 as a compressed PNG; the file appears whole or not at all."""
    from PIL import Image

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        Image.fromarray(np.ascontiguousarray(image, np.uint8)).save(temporary, format="PNG", compress_level=PNG_LEVEL)
    return target


class OffscreenView:
    """An off-screen render window with Slicer's displayable managers. Use as a context manager, or call close().

    `node` is the view's MRML node (vtkMRMLSliceNode or vtkMRMLViewNode); it is not saved with the scene.
    """

    def __init__(self, size_px: int | tuple[int, int], managers: tuple[str, ...], factory_class: str) -> None:
        self.app = start()
        require_rendering()
        import slicer
        import vtk

        self.size_px = (size_px, size_px) if isinstance(size_px, int) else (int(size_px[0]), int(size_px[1]))
        self.name = f"IRAI{next(_numbers)}"
        self.node: Any = None
        self._only: set[str] | None = None
        self._captions: dict[str, Any] = {}
        window = self.window = vtk.vtkRenderWindow()
        window.ShowWindowOff()
        window.SetOffScreenRendering(True)
        window.SetMultiSamples(0)  # with more, and depth peeling, translucent surfaces vanish
        window.SetAlphaBitPlanes(True)
        window.SetNumberOfLayers(2)
        window.SetSize(*self.size_px)
        self.renderer = vtk.vtkRenderer()
        window.AddRenderer(self.renderer)
        self.overlay = vtk.vtkRenderer()
        self.overlay.SetLayer(1)
        self.overlay.InteractiveOff()
        window.AddRenderer(self.overlay)
        self.interactor = vtk.vtkGenericRenderWindowInteractor()
        self.interactor.SetRenderWindow(window)
        self._factory = getattr(slicer, factory_class).GetInstance()
        for manager in managers:
            if hasattr(slicer, manager) and not self._factory.IsDisplayableManagerRegistered(manager):
                self._factory.RegisterDisplayableManager(manager)
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.SetRenderer(self.renderer)
        self.group.Initialize(self._factory, self.renderer)
        _open_views.add(self)

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def show_only(self, *nodes):
        """Draw only these displayable nodes (and the volumes of a slice view); without arguments all again."""
        self._only = {node.GetID() for node in nodes} if nodes else None
        return self

    def caption(self, text: str, corner: str = "upper left", color: tuple[float, float, float] = (1.0, 1.0, 1.0)):
        """Write a text into a corner, as "upper left"; an empty text takes it away."""
        import vtk

        previous = self._captions.pop(corner, None)
        if previous is not None:
            self.overlay.RemoveViewProp(previous)
        if text:
            actor = vtk.vtkTextActor()
            actor.SetInput(text)
            x, y = CORNERS[corner]
            style_text(actor, self.size_px, color, (x, y))
            width, height = self.size_px
            margin = CAPTION_MARGIN_PX
            actor.SetPosition(margin + x * (width - 2 * margin), margin + y * (height - 2 * margin))
            self.overlay.AddViewProp(actor)
            self._captions[corner] = actor
        return self

    def image(self) -> np.ndarray:
        """Render; gives (rows, columns, 3) uint8, first row on top."""
        import vtk
        from vtk.util.numpy_support import vtk_to_numpy

        hidden = self._hide_others()
        try:
            self._before_render()
            self.window.Render()
            grabber = vtk.vtkWindowToImageFilter()
            grabber.SetInput(self.window)
            grabber.SetInputBufferTypeToRGB()
            grabber.ReadFrontBufferOff()
            grabber.ShouldRerenderOff()
            grabber.Update()
        finally:
            for display in hidden:
                display.SetVisibility(True)
        output = grabber.GetOutput()
        columns, rows, _ = output.GetDimensions()
        return vtk_to_numpy(output.GetPointData().GetScalars()).reshape(rows, columns, 3)[::-1].copy()

    def save(self, path: str | Path) -> Path:
        """Render into a PNG file; gives its path."""
        return write_png(self.image(), path)

    def close(self) -> None:
        """Free the window and take the view's nodes out of the scene. A closed view can't be used again."""
        if self.node is None:
            return
        _open_views.discard(self)
        self.group.SetMRMLDisplayableNode(None)
        self._remove_nodes()
        self.node = None
        self.window.Finalize()

    def _before_render(self) -> None:
        """What a view updates before each picture."""

    def _remove_nodes(self) -> None:
        raise NotImplementedError

    def _attach(self, node) -> None:
        """Give the view its node, and its managers what was in the scene before them."""
        import slicer

        self.node = node
        self.group.SetMRMLDisplayableNode(node)
        legends = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
        if legends:
            # Slicer's legend manager only knows legends that are added after it.
            for view in _open_views:
                view._remove_legends()
            for legend in legends:
                self.app.mrmlScene().InvokeEvent(slicer.vtkMRMLScene.NodeAddedEvent, legend)

    def _remove_legends(self) -> None:
        renderers = self.window.GetRenderers()
        for renderer in (renderers.GetItemAsObject(n) for n in range(renderers.GetNumberOfItems())):
            props = renderer.GetViewProps()
            for prop in [props.GetItemAsObject(n) for n in range(props.GetNumberOfItems())]:
                if prop.IsA("vtkSlicerScalarBarActor"):
                    renderer.RemoveViewProp(prop)

    def _hide_others(self) -> list:
        import slicer

        if self._only is None:
            return []
        hidden = []
        for node in slicer.util.getNodesByClass("vtkMRMLDisplayableNode"):
            if node.GetID() in self._only or node.IsA("vtkMRMLVolumeNode") or node.GetHideFromEditors():
                continue
            for index in range(node.GetNumberOfDisplayNodes()):
                display = node.GetNthDisplayNode(index)
                if display is not None and display.GetVisibility():
                    display.SetVisibility(False)
                    hidden.append(display)
        return hidden


def style_text(actor, size_px: tuple[int, int], color, anchor: tuple[float, float]) -> None:
    """Size, colour, shadow and justification of a text whose position is `anchor` (0 to 1) of itself."""
    style = actor.GetTextProperty()
    style.SetFontFamilyToArial()
    style.SetFontSize(max(12, min(size_px) // PIXELS_PER_POINT_OF_TEXT))
    style.SetColor(*color)
    style.ShadowOn()
    style.SetShadowOffset(1, -1)
    style.SetJustification({0.0: 0, 0.5: 1, 1.0: 2}[anchor[0]])
    style.SetVerticalJustification({0.0: 0, 0.5: 1, 1.0: 2}[anchor[1]])
