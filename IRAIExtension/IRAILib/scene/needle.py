"""A NeedleEstimate as nodes: tip, shaft, curve, uncertainty, in the colour of what it is worth.

Green is measured now, amber predicted, grey lost; nothing is drawn where no needle is. A lost needle keeps a grey
shadow for a short while, marked LOST, and is then taken away.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..geometry import InputError, NeedleEstimate, NeedleStatus
from .changes import ROLE, put_in_folder, remove_node
from .link_status import set_attribute
from .nodes import matrix_from_vtk, world_from_node

FOLDER = "Needle"
SEEN_COLOR, COASTING_COLOR, LOST_COLOR = (0.20, 0.85, 0.35), (1.00, 0.70, 0.10), (0.55, 0.55, 0.55)
OUT_OF_PLANE_COLOR = (0.35, 0.65, 1.00)
COLORS = {NeedleStatus.SEEN: SEEN_COLOR, NeedleStatus.COASTING: COASTING_COLOR, NeedleStatus.LOST: LOST_COLOR,
          NeedleStatus.OUT_OF_PLANE: OUT_OF_PLANE_COLOR}
SHADOW_S = 3.0
"""A lost needle's grey shadow is taken away after so long: tissue has moved on."""
STALE_S = 0.5
"""An estimate that is older is shown as lost, whatever it said of itself: nobody looks any more."""
FRESH_S, COAST_S = 0.2, 0.6
"""Age up to which a tip is seen, and predicted: as the track filter has it."""
SIGMAS_DRAWN = 2.0
MIN_AXIS_MM = 0.2
"""Shortest half axis of the uncertainty that is drawn: across an image plane none is known."""
BENT_SHARE = 0.005
"""A curve is drawn as one when it leaves its chord by more than this share of its length."""
UNIT_STEPS = (16, 12)
STATUS_ATTRIBUTE, SIGMA_ATTRIBUTE, VALIDATED_ATTRIBUTE = ("IRAI.Needle.Status", "IRAI.Needle.Sigma",
                                                          "IRAI.Needle.ValidatedOn")
TIME_ATTRIBUTE = "IRAI.Needle.Time"


def image_to_ras(volume) -> np.ndarray:
    """(4, 4) from (column, row, slice) of a volume node to world RAS, parent transforms included.

    Raises InputError for a deformable parent.
    """
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return world_from_node(volume) @ matrix_from_vtk(matrix)


def in_ras(estimate: NeedleEstimate, volume=None) -> NeedleEstimate:
    """An estimate in world RAS.

    Args:
        estimate: already in "RAS"; in pixels of `volume`; or in mm of the picture, whose pixel (0, 0) is the zero
            and whose axes are the columns and rows ("Image").
        volume: node of the picture.
    Returns: in mm, frame "RAS". Whether the picture's mm are true is a question to its scale.
    Raises InputError without a picture for an estimate in picture coordinates.
    """
    if estimate.frame == "RAS":
        return estimate
    if volume is None:
        raise InputError(f"the needle is given in the frame {estimate.frame}: its picture is needed to show it")
    matrix = image_to_ras(volume)
    if estimate.units == "mm":
        spacing = np.array(volume.GetSpacing())
        matrix = matrix @ np.diag([*(1.0 / spacing), 1.0])
    return estimate.mapped(matrix, "RAS", "mm")


def aged(estimate: NeedleEstimate, seconds: float, fresh_s: float = FRESH_S,
         coast_s: float = COAST_S) -> NeedleEstimate:
    """An estimate `seconds` later without a newer picture: measured becomes predicted after `fresh_s`, and lost after
    `coast_s`."""
    age = estimate.age_s + max(seconds, 0.0)
    if not estimate.found or age <= fresh_s:
        return replace(estimate, age_s=age)
    if age <= coast_s:
        return replace(estimate, status=NeedleStatus.COASTING, age_s=age)
    return replace(estimate, status=NeedleStatus.LOST, age_s=age, tip=None, direction=None, curve=None, covariance=None)


class NeedleView:
    """The nodes of one needle. Made on first use; found again in a reloaded scene, so that none is there twice.

    Args:
        scene: None is slicer.mrmlScene. name: prefix of the nodes' names.
    """

    PARTS = {"tip": ("vtkMRMLMarkupsFiducialNode", "tip"), "shaft": ("vtkMRMLMarkupsLineNode", "shaft"),
             "curve": ("vtkMRMLMarkupsCurveNode", "curve"), "doubt": ("vtkMRMLModelNode", "uncertainty")}

    def __init__(self, scene=None, name: str = "Needle") -> None:
        import slicer

        self.scene, self.name = scene if scene is not None else slicer.mrmlScene, name
        self.estimate: NeedleEstimate | None = None
        self._received_s: float | None = None
        self._lost_s: float | None = None
        self._ids: dict[str, str] = {}
        self._unit: Any = None

    def node(self, part: str) -> Any:
        """The node of a part ("tip", "shaft", "curve", "doubt"), made when missing."""
        node = self.scene.GetNodeByID(self._ids[part]) if part in self._ids else None
        if node is None:
            class_name, title = self.PARTS[part]
            node = self._find(class_name, part) or self._make(class_name, part, f"{self.name} {title}")
            self._ids[part] = node.GetID()
        return node

    def existing(self) -> list[Any]:
        """The nodes that are there."""
        found = (self._find(class_name, part) for part, (class_name, _title) in self.PARTS.items())
        return [node for node in found if node is not None]

    def show(self, estimate: NeedleEstimate, now_s: float) -> None:
        """Show an estimate in RAS mm.

        Args: now_s: of a clock that only goes forward; `tick` compares with it.
        Raises InputError for an estimate in another frame.
        """
        if estimate.frame != "RAS" or estimate.units != "mm":
            raise InputError("a needle is drawn in RAS mm; map it with in_ras first")
        self.estimate, self._received_s = estimate, now_s
        if estimate.status is NeedleStatus.LOST:
            self._lost_s = now_s - estimate.age_s if self._lost_s is None else self._lost_s
        else:
            self._lost_s = None
        self._draw(estimate, estimate.status, now_s)

    def tick(self, now_s: float) -> NeedleStatus | None:
        """Without a new estimate: what is shown ages. Returns the status that is shown now; None before any."""
        if self.estimate is None or self._received_s is None:
            return None
        status = self.estimate.status
        if now_s - self._received_s > STALE_S and status is not NeedleStatus.ABSENT:
            status = NeedleStatus.LOST
            if self._lost_s is None:
                self._lost_s = self._received_s - self.estimate.age_s
        if status is NeedleStatus.LOST:
            self._draw(self.estimate, status, now_s)
        return status

    def lose(self, now_s: float) -> None:
        """The source is gone: what is shown is lost at once, and not only when it has aged. Nothing shown: nothing."""
        if self.estimate is None or self.estimate.status in (NeedleStatus.LOST, NeedleStatus.ABSENT):
            self.tick(now_s)
            return
        age = self.age_s(now_s) or 0.0
        lost = replace(self.estimate, status=NeedleStatus.LOST, age_s=age, tip=None, direction=None, curve=None,
                       covariance=None)
        self.show(lost, now_s)

    def age_s(self, now_s: float) -> float | None:
        """Seconds since the tip was last measured; None before any estimate."""
        if self.estimate is None or self._received_s is None:
            return None
        return self.estimate.age_s + max(now_s - self._received_s, 0.0)

    def hide(self) -> None:
        """Draw nothing, and forget what was shown."""
        self.estimate = self._received_s = self._lost_s = None
        for node in self.existing():
            _visible(node, False)
            set_attribute(node, STATUS_ATTRIBUTE, NeedleStatus.ABSENT.value)

    def remove(self) -> None:
        """Take the nodes out of the scene."""
        self.hide()
        for node in self.existing():
            remove_node(node)
        self._ids.clear()

    # ---- drawing

    def _draw(self, estimate: NeedleEstimate, status: NeedleStatus, now_s: float) -> None:
        nodes = {part: self.node(part) for part in self.PARTS}
        held = [(node, node.StartModify()) for node in nodes.values()]
        try:
            self._place(nodes, estimate, status)
            self._style(nodes, estimate, status, now_s)
        finally:
            for node, was in held:
                node.EndModify(was)

    def _place(self, nodes, estimate: NeedleEstimate, status: NeedleStatus) -> None:
        curve = estimate.curve
        if curve is None and estimate.tip is not None and estimate.direction is not None:
            curve = np.stack([estimate.tip - 30.0 * estimate.direction, estimate.tip])
        if status is NeedleStatus.LOST and estimate.tip is None and curve is None:
            return  # the shadow stays where the needle was last shown
        if estimate.tip is not None:
            _set_points(nodes["tip"], estimate.tip[None])
            if estimate.covariance is not None:
                self._ellipsoid(nodes["doubt"], estimate.tip, estimate.covariance)
        if curve is not None and len(curve) >= 2:
            _set_points(nodes["shaft"], np.stack([curve[0], curve[-1]]))
            if is_bent(curve):
                _set_points(nodes["curve"], np.asarray(curve, float))
            else:
                nodes["curve"].RemoveAllControlPoints()

    def _style(self, nodes, estimate: NeedleEstimate, status: NeedleStatus, now_s: float) -> None:
        color = COLORS.get(status, LOST_COLOR)
        fresh = status in (NeedleStatus.SEEN, NeedleStatus.COASTING)
        shadow = status is NeedleStatus.LOST and now_s - (self._lost_s or now_s) <= SHADOW_S
        line = fresh or shadow or (status is NeedleStatus.OUT_OF_PLANE and estimate.curve is not None)
        bent = nodes["curve"].GetNumberOfControlPoints() > 2
        shown = {"tip": fresh or shadow, "shaft": line and not bent, "curve": line and bent,
                 "doubt": fresh and estimate.covariance is not None}
        for part, node in nodes.items():
            visible = shown[part] and (part == "doubt" or node.GetNumberOfControlPoints() > 0)
            _visible(node, visible)
            _color(node, color)
            set_attribute(node, STATUS_ATTRIBUTE, status.value)
            set_attribute(node, TIME_ATTRIBUTE, f"{estimate.time_s:.6f}")
        if nodes["tip"].GetNumberOfControlPoints():
            label = {NeedleStatus.LOST: "LOST", NeedleStatus.COASTING: f"predicted {estimate.age_s:.1f} s"}
            nodes["tip"].SetNthControlPointLabel(0, label.get(status, ""))
        set_attribute(nodes["tip"], SIGMA_ATTRIBUTE, f"{estimate.sigma:.3f}" if fresh and estimate.sigma else None)
        set_attribute(nodes["tip"], VALIDATED_ATTRIBUTE, estimate.validated_on or None)

    def _ellipsoid(self, node, centre: np.ndarray, covariance: np.ndarray) -> None:
        import vtk
        from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

        if self._unit is None:
            source = vtk.vtkSphereSource()
            source.SetRadius(1.0)
            source.SetThetaResolution(UNIT_STEPS[0])
            source.SetPhiResolution(UNIT_STEPS[1])
            source.Update()
            self._unit = (vtk_to_numpy(source.GetOutput().GetPoints().GetData()).copy(), source.GetOutput())
        unit, mesh = self._unit
        points = unit @ half_axes_mm(covariance).T + centre
        polydata = node.GetPolyData()
        if polydata is None or polydata.GetNumberOfPoints() != len(points):
            polydata = vtk.vtkPolyData()
            polydata.DeepCopy(mesh)
            node.SetAndObservePolyData(polydata)
        polydata.GetPoints().SetData(numpy_to_vtk(np.ascontiguousarray(points, np.float32), deep=True))
        polydata.GetPoints().Modified()
        polydata.Modified()

    # ---- nodes

    def _find(self, class_name: str, part: str) -> Any:
        collection = self.scene.GetNodesByClass(class_name)
        collection.UnRegister(None)
        for index in range(collection.GetNumberOfItems()):
            node = collection.GetItemAsObject(index)
            if node.GetAttribute(ROLE) == f"needle.{part}" and node.GetName().startswith(self.name):
                return node
        return None

    def _make(self, class_name: str, part: str, title: str) -> Any:
        node = self.scene.AddNewNodeByClass(class_name, title)
        node.SetAttribute(ROLE, f"needle.{part}")
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        if part == "doubt":
            display.SetOpacity(0.35)
            display.SetVisibility2D(True)
            display.SetSliceIntersectionThickness(2)
        else:
            node.SetLocked(True)
            display.SetPropertiesLabelVisibility(False)
            display.SetPointLabelsVisibility(part == "tip")
            display.SetUseGlyphScale(False)
            display.SetGlyphSize(2.0 if part == "tip" else 0.5)
            display.SetOccludedVisibility(True)
            display.SetOccludedOpacity(0.4)
            if part == "tip":
                display.SetGlyphType(display.CrossDot2D)
                display.SetTextScale(4.0)
            else:
                display.SetCurveLineSizeMode(display.UseLineDiameter)
                display.SetLineDiameter(0.7)
        _visible(node, False)
        put_in_folder([node], FOLDER)
        return node


def is_bent(curve: np.ndarray) -> bool:
    """Whether (n, 3) points leave the chord of their ends by more than `BENT_SHARE` of its length."""
    curve = np.asarray(curve, float)
    chord = curve[-1] - curve[0]
    length = float(np.linalg.norm(chord))
    if len(curve) < 3 or length < 1e-9:
        return False
    rest = curve - curve[0]
    off = rest - np.outer(rest @ chord / length, chord / length)
    return bool(np.linalg.norm(off, axis=1).max() > BENT_SHARE * length)


def half_axes_mm(covariance: np.ndarray) -> np.ndarray:
    """(3, 3) whose columns are the half axes of the uncertainty at `SIGMAS_DRAWN` deviations, each `MIN_AXIS_MM` long
    at least."""
    values, vectors = np.linalg.eigh(np.asarray(covariance, float))
    lengths = np.maximum(SIGMAS_DRAWN * np.sqrt(np.maximum(values, 0.0)), MIN_AXIS_MM)
    return vectors * lengths


def status_text(estimate: NeedleEstimate | None, status: NeedleStatus | None, age_s: float | None) -> str:
    """The big letters of a panel: SEEN, COASTING 0.4 s, LOST 1.2 s, OUT OF PLANE, NO NEEDLE, or NO DATA."""
    if estimate is None or status is None:
        return "NO DATA"
    if status is NeedleStatus.COASTING:
        return f"COASTING {age_s or 0.0:.1f} s"
    if status is NeedleStatus.LOST:
        return "LOST" if age_s is None or math.isinf(age_s) else f"LOST {age_s:.1f} s"
    return {NeedleStatus.SEEN: "SEEN", NeedleStatus.OUT_OF_PLANE: "OUT OF PLANE"}.get(status, "NO NEEDLE")


def _set_points(node, points: np.ndarray) -> None:
    """(n, 3) RAS into a markups node: moved where there are as many, made anew otherwise."""
    if node.GetNumberOfControlPoints() != len(points):
        node.RemoveAllControlPoints()
        for point in points:
            node.AddControlPoint([float(value) for value in point], "")
    else:
        for index, point in enumerate(points):
            node.SetNthControlPointPosition(index, *(float(value) for value in point))


def _visible(node, visible: bool) -> None:
    display = node.GetDisplayNode()
    if display is not None and bool(display.GetVisibility()) != visible:
        display.SetVisibility(visible)


def _color(node, color: tuple[float, float, float]) -> None:
    display = node.GetDisplayNode()
    if display is not None and not np.allclose(display.GetColor(), color, atol=1e-6):
        display.SetColor(*color)
        if hasattr(display, "SetSelectedColor"):
            display.SetSelectedColor(*color)
