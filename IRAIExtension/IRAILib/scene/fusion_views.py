"""The live slice in the scene: the picture where it lies, the volume cut there, both blended, the plan drawn on it.

Every node is made on first use and marked with its role, so that a reloaded scene has it once. What is not live now
is grey: pictures dimmed, structures and tool hidden.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..geometry import InputError, NeedleEstimate, Volume
from .changes import ROLE, put_in_folder, remove_node
from .fusion_guide import Obstacle
from .link_status import dim_colors
from .needle import NeedleView
from .nodes import matrix_to_vtk, volume_from_node, world_from_node

FOLDER = "FusionNav"
SIDE_BY_SIDE, BLENDED, CHECKERBOARD = "side", "blend", "checker"
MODES = (SIDE_BY_SIDE, BLENDED, CHECKERBOARD)
RESLICE_PX, RESLICE_HZ = 320, 15.0
"""The volume is cut with at most so many pixels a side and so often: the picture itself comes at full size and rate."""
OUTLINE_PX = 180
"""Outlines are followed on at most so many pixels a side: finer than the voxels they come from."""
PICTURE, CUT, FUSED = "picture", "cut", "fused"
TITLES = {PICTURE: "Live slice", CUT: "Volume in the live plane", FUSED: "Live slice and volume"}
CLASSES = {PICTURE: "vtkMRMLScalarVolumeNode", CUT: "vtkMRMLScalarVolumeNode", FUSED: "vtkMRMLVectorVolumeNode"}
STATUS = "IRAI.Fusion.Status"
DIM = 0.35


class LiveViews:
    """The nodes of the live slice. Args: scene: None is slicer.mrmlScene. clock: seconds that go forward."""

    def __init__(self, scene=None, *, clock: Callable[[], float] = time.monotonic) -> None:
        import slicer

        self.scene, self.clock = scene if scene is not None else slicer.mrmlScene, clock
        self.volume: Any = None
        self.mode, self.opacity = BLENDED, 0.5
        self.structures: list[tuple[str, Any, tuple[float, float, float]]] = []
        self.tool = NeedleView(scene, "FusionNav tool")
        self.ras_from_pixel: np.ndarray | None = None
        self.size_px = (0, 0)
        self.planes: dict[str, tuple[np.ndarray, tuple[int, int]]] = {}
        self.dimmed, self.why = True, "nothing has come yet"
        self._volume_id, self._volume = None, None
        self._cut_s = float("-inf")
        self._outline_views: list[str] = []

    # ---- what is shown

    def show(self, pixels: np.ndarray, ras_from_pixel: np.ndarray) -> None:
        """A picture (rows, columns) where it lies; the volume and the structures follow at their own rate."""
        now = self.clock()
        self.ras_from_pixel, self.size_px = np.asarray(ras_from_pixel, float), (pixels.shape[1], pixels.shape[0])
        self._write(PICTURE, pixels, self.ras_from_pixel)
        if self.dimmed or now - self._cut_s >= 1.0 / RESLICE_HZ:  # outlines and cut together: both of one instant
            self._cut_s = now
            if self.volume is not None:
                self._fuse(pixels)
            self._draw_structures()
        if self.dimmed:
            self.dimmed, self.why = False, ""
            self._light(True)

    def dim(self, why: str) -> None:
        """Nothing is live now: grey, and no structure and no tool where nobody knows whether it is there."""
        self.why = why
        if not self.dimmed:
            self.dimmed = True
            self._light(False)
        self.tool.lose(self.clock())

    def show_tool(self, estimate: NeedleEstimate) -> None:
        """The tracked tool, or that it is lost."""
        if estimate.tip is None:
            self.tool.lose(self.clock())
        else:
            self.tool.show(estimate, self.clock())
            for part in ("tip", "shaft"):
                display = self.tool.node(part).GetDisplayNode()
                if not display.GetSliceProjection():  # seen on the bull's eye also while it is not in its plane
                    display.SetSliceProjection(True)
                    display.SetSliceProjectionUseFiducialColor(True)

    def only_in(self, view_ids: list[str]) -> None:
        """Draw the outlines of the live slice in these views alone: elsewhere they would lie across another plane."""
        if view_ids == self._outline_views:
            return
        self._outline_views = list(view_ids)
        for node in self._nodes("vtkMRMLModelNode", "fusion.outline"):
            self._restrict(node)

    def _restrict(self, node) -> None:
        display = node.GetDisplayNode()
        display.RemoveAllViewNodeIDs()
        for view_id in self._outline_views:
            display.AddViewNodeID(view_id)

    def set_structures(self, obstacles: list[Obstacle]) -> None:
        """What is drawn on the live slice: the outlines of these structures."""
        from ..geometry import Mask

        for node in self._nodes("vtkMRMLModelNode", "fusion.outline"):
            remove_node(node)
        self.structures = [(entry.name, Mask(entry.distance.array < 0.0, entry.distance.grid, entry.name), entry.color)
                           for entry in obstacles]
        self._cut_s = float("-inf")

    # ---- the pictures

    def _fuse(self, pixels: np.ndarray) -> None:
        from ..navigation.blend import blend, checkerboard, shown
        from ..navigation.reslice import reslice

        volume, window = self._library_volume(), self._window()
        step = max(1, int(np.ceil(max(self.size_px) / RESLICE_PX)))
        small = np.ascontiguousarray(pixels[::step, ::step])
        matrix = np.array(self.ras_from_pixel)
        matrix[:3, :2] *= step
        values = reslice(volume, matrix, (small.shape[1], small.shape[0]))
        self._write(CUT, shown(values, window)[0], matrix)
        if self.mode == BLENDED:
            self._write(FUSED, blend(small, values, self.opacity, window=window), matrix)
        elif self.mode == CHECKERBOARD:
            field = max(small.shape[0] // 6, 8)
            self._write(FUSED, checkerboard(small, values, field_px=field, window=window), matrix)
        elif self.mode != SIDE_BY_SIDE:
            raise InputError(f"'{self.mode}' is no way to show two pictures; one of {', '.join(MODES)}")

    def _library_volume(self) -> Volume:
        """The chosen volume as the library has it, read again when it is another one or was moved."""
        node = self.volume
        key = (node.GetID(), node.GetMTime(), node.GetImageData().GetMTime() if node.GetImageData() else 0,
               world_from_node(node).tobytes())  # the matrix itself: a transform that moves tells no node below it
        if key != self._volume_id or self._volume is None:
            self._volume_id, self._volume = key, volume_from_node(node)
        return self._volume

    def _window(self) -> tuple[float, float]:
        """(black, white) of the volume, as its display has them."""
        display = self.volume.GetDisplayNode()
        if display is None:
            return -150.0, 250.0
        half = max(0.5 * display.GetWindow(), 1e-3)
        return display.GetLevel() - half, display.GetLevel() + half

    def _write(self, part: str, pixels: np.ndarray, matrix: np.ndarray) -> None:
        import slicer

        node = self.node(part)
        self.planes[part] = np.array(matrix, float), (pixels.shape[1], pixels.shape[0])
        was = node.StartModify()
        try:
            node.SetIJKToRASMatrix(matrix_to_vtk(_with_normal(matrix)))
            slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(pixels)[None])
            display = node.GetDisplayNode()
            if display is None:
                node.CreateDefaultDisplayNodes()
                display = node.GetDisplayNode()
                display.SetAutoWindowLevel(False)
                display.SetWindowLevel(255.0, 127.5)
        finally:
            node.EndModify(was)

    def node(self, part: str) -> Any:
        """The volume node of a part: picture, cut (grey), fused (colour: hatched where the volume has no data)."""
        role, class_name = f"fusion.{part}", CLASSES[part]
        found = next(iter(self._nodes(class_name, role)), None)
        if found is None:
            found = self.scene.AddNewNodeByClass(class_name, TITLES[part])
            found.SetAttribute(ROLE, role)
            put_in_folder([found], FOLDER)
        return found

    def _nodes(self, class_name: str, role: str) -> list[Any]:
        collection = self.scene.GetNodesByClass(class_name)
        collection.UnRegister(None)
        nodes = [collection.GetItemAsObject(n) for n in range(collection.GetNumberOfItems())]
        return [node for node in nodes if node.GetAttribute(ROLE) == role]

    def _light(self, live: bool) -> None:
        import slicer

        for part in TITLES:
            for node in self._nodes(CLASSES[part], f"fusion.{part}"):
                node.SetAttribute(STATUS, "LIVE" if live else "STALE")
                if node.GetDisplayNode() is None:
                    continue
                if part != FUSED:
                    node.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey" if live
                                                                   else dim_colors(self.scene).GetID())
                elif not live:
                    pixels = slicer.util.arrayFromVolume(node)
                    slicer.util.updateVolumeFromArray(node, (DIM * pixels).astype(np.uint8))
        for node in self._nodes("vtkMRMLModelNode", "fusion.outline"):
            node.GetDisplayNode().SetVisibility(live)

    # ---- the plan on the picture

    def _draw_structures(self) -> None:
        from ..navigation.reslice import outlines

        existing = {node.GetName(): node for node in self._nodes("vtkMRMLModelNode", "fusion.outline")}
        step = max(1, int(np.ceil(max(self.size_px) / OUTLINE_PX)))
        coarse = np.array(self.ras_from_pixel, float)
        coarse[:3, :2] *= step
        size = (max((self.size_px[0] - 1) // step, 1) + 1, max((self.size_px[1] - 1) // step, 1) + 1)
        for name, mask, color in self.structures:
            lines = outlines(mask, coarse, size)
            node = existing.get(f"{name} on the live slice")
            if node is None:
                node = self.scene.AddNewNodeByClass("vtkMRMLModelNode", f"{name} on the live slice")
                node.SetAttribute(ROLE, "fusion.outline")
                node.CreateDefaultDisplayNodes()
                display = node.GetDisplayNode()
                display.SetColor(*color)
                display.SetLineWidth(3)
                display.SetVisibility2D(True)
                display.SetSliceDisplayModeToProjection()
                self._restrict(node)
                put_in_folder([node], FOLDER)
            placed = [np.asarray(line, float) @ coarse[:3, :2].T + coarse[:3, 3] for line in lines]
            node.SetAndObservePolyData(polylines(placed))

    def remove(self) -> None:
        """Take every node of the live slice out of the scene."""
        self.planes.clear()
        for part in TITLES:
            for node in self._nodes(CLASSES[part], f"fusion.{part}"):
                remove_node(node)
        for node in self._nodes("vtkMRMLModelNode", "fusion.outline"):
            remove_node(node)
        self.tool.remove()


def _with_normal(matrix: np.ndarray) -> np.ndarray:
    """A picture's matrix with a unit normal as its third column: a slice 1 mm thick."""
    out = np.array(matrix, float)
    normal = np.cross(out[:3, 0], out[:3, 1])
    out[:3, 2] = normal / np.linalg.norm(normal)
    return out


def polylines(lines: list[np.ndarray]) -> Any:
    """(n, 3) point lists as a vtkPolyData of lines; empty without any."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray

    mesh, points, cells = vtk.vtkPolyData(), vtk.vtkPoints(), vtk.vtkCellArray()
    if lines:
        starts = np.cumsum([0, *(len(line) for line in lines)])
        rows = [np.concatenate([[len(line)], np.arange(start, start + len(line))])
                for line, start in zip(lines, starts[:-1], strict=True)]
        points.SetData(numpy_to_vtk(np.ascontiguousarray(np.concatenate(lines), np.float32), deep=True))
        cells.SetCells(len(lines), numpy_to_vtkIdTypeArray(np.concatenate(rows).astype(np.int64), deep=True))
    mesh.SetPoints(points)
    mesh.SetLines(cells)
    return mesh
