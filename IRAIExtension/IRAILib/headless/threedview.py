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
FILL = 1.05
"""Camera distance over the one at which the box just fits."""
EMPTY_RADIUS_MM = 100.0
"""What a view of an empty scene looks at."""
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
        node = logic.AddViewNode(self.name)
        self.app.applicationLogic().GetViewLogics().AddItem(logic)
        self._attach(node)
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
        self._box: tuple[np.ndarray, np.ndarray] | None = None

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
        """Look at a point (3, RAS mm) so that a cube of this half-width round it just fits."""
        centre = np.asarray(ras, float)
        self._box = centre - radius_mm, centre + radius_mm
        return self

    def close_up(self, *nodes, zoom: float = 1.0):
        """Look at what these nodes fill in world RAS; `zoom` over 1 comes closer. Raises InputError for empty nodes."""
        bounds = [_world_bounds(node) for node in nodes]
        low = np.min([box[0] for box in bounds], axis=0)
        high = np.max([box[1] for box in bounds], axis=0)
        centre = (low + high) / 2
        half = np.maximum((high - low) / 2, 1e-3) / zoom
        self._box = centre - half, centre + half
        return self

    def fit(self):
        """Look at everything that is visible."""
        self._box = None
        return self

    def _before_render(self) -> None:
        low, high = self._visible_box() if self._box is None else self._box
        centre, half = (low + high) / 2, (high - low) / 2
        right = np.cross(self._up, self._direction)
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(self._direction, right), self._direction])
        corners = np.array([np.where(corner, half, -half) for corner in np.ndindex(2, 2, 2)]) @ axes.T
        tangent = np.tan(np.radians(VIEW_ANGLE_DEG) / 2)
        reach = np.maximum(np.abs(corners[:, 0]) * self.size_px[1] / self.size_px[0], np.abs(corners[:, 1])) / tangent
        distance = FILL * (corners[:, 2] + reach).max()
        self.camera.SetViewAngle(VIEW_ANGLE_DEG)
        self.camera.SetFocalPoint(*centre)
        self.camera.SetPosition(*(centre + distance * self._direction))
        self.camera.SetViewUp(*self._up)
        self.renderer.ResetCameraClippingRange()

    def _visible_box(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of all that is drawn: the managers build their actors on a first render."""
        self.window.Render()
        bounds = np.array(self.renderer.ComputeVisiblePropBounds())
        if bounds[0] > bounds[1]:
            return np.full(3, -EMPTY_RADIUS_MM), np.full(3, EMPTY_RADIUS_MM)
        return bounds[::2], bounds[1::2]

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
                at = world_from_node.TransformPoint([low_high[2 * axis + corner[axis]] for axis in range(3)])
                box.AddPoint(list(at))
    bounds = [0.0] * 6
    if box.IsValid():
        box.GetBounds(bounds)
    else:
        node.GetRASBounds(bounds)
    return np.array(bounds)
