"""A 3D view of models, segmentations, markups and rendered volumes, drawn as desktop Slicer draws it."""

from __future__ import annotations

import numpy as np

from ..geometry import InputError
from .offscreen import OffscreenView

THREED_MANAGERS = (
    "vtkMRMLVolumeRenderingDisplayableManager",
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLThreeDReformatDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager3D",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLTransformsDisplayableManager3D",
    "vtkMRMLLinearTransformsDisplayableManager",
    "vtkMRMLColorLegendDisplayableManager",
)
DIRECTIONS = {
    "anterior": (0.0, 1.0, 0.0), "posterior": (0.0, -1.0, 0.0), "right": (1.0, 0.0, 0.0), "left": (-1.0, 0.0, 0.0),
    "superior": (0.0, 0.0, 1.0), "inferior": (0.0, 0.0, -1.0),
}
"""Where the camera stands, as a RAS vector from what it looks at."""
VIEW_ANGLE_DEG = 30.0
FILL = 1.15
"""Distance over what would just fit the bounding sphere."""
SLICER_GRADIENT = ((0.756862745, 0.764705882, 0.909803922), (0.454901961, 0.470588235, 0.745098039))
"""Slicer's own background, bottom and top."""


class ThreeDView(OffscreenView):
    """A 3D view. Everything visible in the scene is drawn.

        with ThreeDView((800, 600)) as view:
            view.look_from("anterior").close_up(model)
            view.save("surface.png")

    Args:
        size_px: width and height, or one number for both.
        background: bottom and top colour, (r, g, b) of 0 to 1 each; default: Slicer's own.
    Raises: HeadlessUnavailableError where nothing can draw.
    """

    def __init__(self, size_px: int | tuple[int, int] = (800, 600), *, background=SLICER_GRADIENT) -> None:
        super().__init__(size_px, THREED_MANAGERS, "vtkMRMLThreeDViewDisplayableManagerFactory")
        import slicer

        self.renderer.SetUseDepthPeeling(True)
        self.renderer.SetMaximumNumberOfPeels(50)
        self.renderer.SetOcclusionRatio(0.0)
        self.renderer.SetUseFXAA(True)
        logic = self.logic = slicer.vtkMRMLViewLogic()
        logic.SetMRMLApplicationLogic(self.app.applicationLogic())
        logic.SetMRMLScene(self.app.mrmlScene())
        self.node = logic.AddViewNode(self.name)
        self.app.applicationLogic().GetViewLogics().AddItem(logic)
        self.group.SetMRMLDisplayableNode(self.node)
        self.node.SetMappedInLayout(1)
        self.node.SetBoxVisible(False)
        self.node.SetAxisLabelsVisible(False)
        self.node.SetBackgroundColor(*background[0])
        self.node.SetBackgroundColor2(*background[1])
        self._style = slicer.vtkMRMLThreeDViewInteractorStyle()
        self._style.SetDisplayableManagers(self.group)
        self._style.SetInteractor(self.interactor)
        self.camera = self.group.GetDisplayableManagerByClassName("vtkMRMLCameraDisplayableManager").GetCameraNode()
        for node in (self.node, self.camera):
            node.SetSaveWithScene(False)
            node.SetHideFromEditors(True)
        self._direction = np.array(DIRECTIONS["anterior"])
        self._up = np.array(DIRECTIONS["superior"])
        self._target: tuple[np.ndarray, float] | None = None

    def look_from(self, direction, up=None):
        """Stand in a direction: "anterior", "left" and so on, or a RAS vector from the target to the camera.

        Args: up: RAS vector that points up in the picture; default superior, or anterior when looking along it.
        """
        if isinstance(direction, str):
            if direction not in DIRECTIONS:
                raise InputError(f"there is no direction '{direction}'; use one of {', '.join(DIRECTIONS)} or a vector")
            direction = DIRECTIONS[direction]
        vector = np.asarray(direction, float)
        if vector.shape != (3,) or not np.linalg.norm(vector) > 0:
            raise InputError(f"a view direction is three numbers, not all zero: {direction}")
        self._direction = vector / np.linalg.norm(vector)
        if up is None:
            along = abs(self._direction[2]) > 0.99
            up = DIRECTIONS["anterior" if along else "superior"]
        self._up = np.asarray(up, float)
        return self

    def target(self, ras, radius_mm: float):
        """Look at a point (3, RAS mm) so that a sphere of this radius round it just fits."""
        self._target = np.asarray(ras, float), float(radius_mm)
        return self

    def close_up(self, *nodes, zoom: float = 1.0):
        """Look at what these nodes fill in world RAS; `zoom` over 1 comes closer. Raises InputError for empty nodes."""
        bounds = [_world_bounds(node) for node in nodes]
        low = np.min([box[0] for box in bounds], axis=0)
        high = np.max([box[1] for box in bounds], axis=0)
        return self.target((low + high) / 2, max(np.linalg.norm(high - low) / 2, 1e-3) / zoom)

    def fit(self):
        """Look at everything that is visible."""
        self._target = None
        return self

    def _before_render(self) -> None:
        # The managers build their actors on the first render, and only then are there bounds to fit.
        if self._target is None:
            self.window.Render()
            bounds = np.array(self.renderer.ComputeVisiblePropBounds()).reshape(3, 2)
            if bounds[0, 0] > bounds[0, 1]:
                centre, radius = np.zeros(3), 100.0
            else:
                centre, radius = bounds.mean(axis=1), np.linalg.norm(bounds[:, 1] - bounds[:, 0]) / 2
        else:
            centre, radius = self._target
        width, height = self.size_px
        narrow = min(1.0, width / height)
        half_angle = np.arctan(np.tan(np.radians(VIEW_ANGLE_DEG) / 2) * narrow)
        distance = FILL * max(radius, 1e-3) / np.sin(half_angle)
        self.camera.SetViewAngle(VIEW_ANGLE_DEG)
        self.camera.SetFocalPoint(*centre)
        self.camera.SetPosition(*(centre + distance * self._direction))
        self.camera.SetViewUp(*self._up)
        self.renderer.ResetCameraClippingRange()

    def _remove_nodes(self) -> None:
        scene = self.app.mrmlScene()
        self._style.SetInteractor(None)
        self.app.applicationLogic().GetViewLogics().RemoveItem(self.logic)
        camera, node = self.camera, self.node
        self.logic.SetMRMLScene(None)
        for item in (camera, node):
            if item is not None and item.GetScene() is scene:
                scene.RemoveNode(item)


def _world_bounds(node) -> tuple[np.ndarray, np.ndarray]:
    """((3,), (3,)) lowest and highest world RAS of what a node shows."""
    bounds = np.zeros(6)
    if node.IsA("vtkMRMLSegmentationNode"):
        bounds = _segmentation_bounds(node)
    else:
        node.GetRASBounds(bounds)
    low, high = bounds[::2], bounds[1::2]
    if (low > high).any():
        raise InputError(f"{node.GetName()}: is empty, so that a view can't come close to it")
    return low, high


def _segmentation_bounds(node) -> np.ndarray:
    """World bounds (6,) of the visible segments' surfaces; GetRASBounds gives the whole labelmap's."""
    import vtk

    world_from_node = vtk.vtkGeneralTransform()
    if node.GetParentTransformNode() is not None:
        node.GetParentTransformNode().GetTransformToWorld(world_from_node)
    box = vtk.vtkBoundingBox()
    display = node.GetDisplayNode()
    for segment_id in node.GetSegmentation().GetSegmentIDs():
        surface = vtk.vtkPolyData()
        if display is not None and not display.GetSegmentVisibility(segment_id):
            continue
        if node.GetClosedSurfaceRepresentation(segment_id, surface) and surface.GetNumberOfPoints():
            low_high = surface.GetBounds()
            for corner in np.ndindex(2, 2, 2):
                box.AddPoint(world_from_node.TransformPoint([low_high[2 * axis + corner[axis]] for axis in range(3)]))
    bounds = np.zeros(6)
    if box.IsValid():
        box.GetBounds(bounds)
    else:
        node.GetRASBounds(bounds)
    return bounds
