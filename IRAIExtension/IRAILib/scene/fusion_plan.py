"""Step 4 on nodes: paths to a target point, ranked, the chosen one a markups line; again at once when the target moves.

Bones, vessels, lung and bowel are told by the segments' names; everything else keeps the margin that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..geometry import EmptyMaskError, InputError, RefusedError
from ..navigation.entry_cost import EntryOptions
from ..navigation.entry_field import Obstacle
from ..navigation.entry_plan import EntryPlanner
from ..navigation.entry_result import EntryPath, EntryPlan
from .changes import ROLE, SceneChange, put_in_folder, remove_node
from .fusion_guide import unlike
from .nodes import SegmentRef, mask_from_segment, points_from_markups, volume_from_node

FOLDER = "FusionNav"
ROLE_NAME = "fusion.path"
CHOSEN_COLOR, OTHER_COLOR = (1.0, 0.3, 0.8), (0.55, 0.55, 0.65)
KINDS = {"bone": ("bone", "rib", "spine", "vertebra", "sacrum", "femur", "hip", "sternum"),
         "vessel": ("vessel", "artery", "vein", "aorta", "vena", "portal"), "lung": ("lung", "pleura"),
         "bowel": ("bowel", "colon", "stomach", "duodenum", "intestine"), "nerve": ("nerve", "cord", "plexus")}
"""Words in a segment's name, English, that tell its kind."""


def kind_of(name: str) -> str:
    """bone, vessel, lung, bowel, nerve or other, by a segment's name."""
    low = name.lower()
    return next((kind for kind, words in KINDS.items() if any(word in low for word in words)), "other")


class PathPlanner:
    """Paths to a target that may move: skin, distances and boxes are made once, a new target costs tenths of a second.

    Args:
        volume: the CT's node. segmentation: its visible segments are obstacles, or None.
        leave_out: names of segments that are none. organ: name of the segment that holds the target, or "".
        margin_mm: kept free round each obstacle. registration_sigma_mm: error of the plan's frame (rms, 3D).
    Raises InputError, RefusedError (no body in the volume), CancelledError.
    """

    def __init__(self, volume, segmentation=None, *, leave_out: Sequence[str] = (), organ: str = "",
                 margin_mm: float = 5.0, registration_sigma_mm: float = 0.0, max_length_mm: float = 150.0,
                 progress: Callable[[float, str], None] | None = None,
                 cancelled: Callable[[], bool] | None = None) -> None:
        if volume is None:
            raise InputError("choose the CT that paths are proposed in (step 1)")
        refs = _segments(segmentation)
        if organ and organ not in refs:
            raise InputError(f"there is no segment '{organ}'; there are {', '.join(refs) or 'none'}")
        obstacles = {}
        for name, ref in refs.items():
            if name in leave_out or name == organ or not _visible(ref):
                continue
            try:
                obstacles[name] = Obstacle(mask_from_segment(ref), margin_mm, kind_of(name))
            except EmptyMaskError:
                continue
        holder = mask_from_segment(refs[organ]) if organ else None
        options = EntryOptions(max_length_mm=max_length_mm, registration_sigma_mm=registration_sigma_mm)
        self.volume_id = volume.GetID()
        self.planner = EntryPlanner(volume_from_node(volume), obstacles, organ=holder, options=options,
                                    progress=progress, cancelled=cancelled)
        self.plan: EntryPlan | None = None

    def propose(self, target_node) -> EntryPlan:
        """Ranked paths to the first point of a point list. Raises InputError without one, RefusedError without a path
        or for a target that lies in an obstacle."""
        points = points_from_markups(target_node)
        if not len(points):
            raise InputError("place the target point first")
        self.plan = self.planner.plan(points[0])
        if self.plan.refused:
            raise RefusedError(self.plan.refused)
        return self.plan


def show_paths(plan: EntryPlan, chosen: int = 0, line=None) -> Any:
    """The proposed paths as line nodes: the chosen one in `line` (made when None), the others thin. Returns the line.

    Paths of the proposal before are replaced; a failure leaves them as they were.
    """
    import slicer

    if not 0 <= chosen < len(plan.paths):
        raise InputError(f"there are {len(plan.paths)} paths, not {chosen + 1}")
    scene = slicer.mrmlScene
    old = [node for node in _lines(scene) if node is not line and node.GetAttribute(ROLE) == ROLE_NAME]
    with SceneChange(replaces=old) as change:
        if line is None:
            line = change.add("vtkMRMLMarkupsLineNode", "Path", "fusion.plan")
            line.CreateDefaultDisplayNodes()
        for number, path in enumerate(plan.paths):
            if number != chosen:
                other = change.add("vtkMRMLMarkupsLineNode", f"Path {number + 1} (cost {path.cost:.2f})", ROLE_NAME)
                other.CreateDefaultDisplayNodes()
                _write(other, path, OTHER_COLOR, 0.4)
                other.SetLocked(True)
        put_in_folder([line, *change.added], FOLDER)
    _write(line, plan.paths[chosen], CHOSEN_COLOR, 1.2)
    return line


def forget_paths(scene, keep=None) -> None:
    """Take the proposals out of the scene, all but one."""
    for node in _lines(scene):
        if node is not keep and node.GetAttribute(ROLE) == ROLE_NAME:
            remove_node(node)


def path_rows(path: EntryPath) -> list[tuple[str, str]]:
    """(quantity, value) of a path, for a table; what is not known is left out."""
    rows = [("Length, skin to target", f"{path.length_mm:.0f} mm"), ("Angle to the skin's normal",
                                                                     f"{path.angle_to_skin_deg:.0f}°")]
    if path.angle_to_capsule_deg is not None:
        rows.append(("Angle to the capsule's normal", f"{path.angle_to_capsule_deg:.0f}°"))
    rows.append(("Out of the slice plane", f"{path.tilt_deg:.0f}°"))
    near = path.closest
    if near is not None and np.isfinite(near.distance_mm):
        sigma = float(np.hypot(near.sigma_mm, path.registration_sigma_mm))
        rows.append(("Nearest structure", f"{near.name}, {near.distance_mm:.1f} ± {sigma:.1f} mm"))
    rows += [(f"Through {name}", f"{length:.0f} mm") for name, length in path.crossed_mm.items() if length > 0]
    rows.append(("Cost (0 is best)", f"{path.cost:.2f}"))
    return rows


def path_title(number: int, path: EntryPath) -> str:
    """One line for a list."""
    near = path.closest
    room = f", {near.distance_mm:.0f} mm to {near.name}" if near is not None and np.isfinite(near.distance_mm) else ""
    return f"{number + 1}: {path.length_mm:.0f} mm{room}, cost {path.cost:.2f}"


def _write(line, path: EntryPath, color: tuple[float, float, float], thickness: float) -> None:
    was = line.StartModify()
    line.RemoveAllControlPoints()
    for label, point in (("entry", path.entry_ras), ("target", path.target_ras)):
        line.AddControlPoint([float(value) for value in point], label)
    display = line.GetDisplayNode()
    if display is None:
        line.CreateDefaultDisplayNodes()
        display = line.GetDisplayNode()
    display.SetSelectedColor(*color)
    display.SetPropertiesLabelVisibility(False)
    display.SetPointLabelsVisibility(False)
    display.SetUseGlyphScale(False)
    display.SetGlyphSize(3.0 if thickness > 1 else 1.5)
    display.SetCurveLineSizeMode(display.UseLineDiameter)
    display.SetLineDiameter(thickness)
    line.EndModify(was)


def _segments(segmentation) -> dict[str, SegmentRef]:
    if segmentation is None:
        return {}
    inside = segmentation.GetSegmentation()
    out: dict[str, SegmentRef] = {}
    for one in inside.GetSegmentIDs():
        out[unlike(inside.GetSegment(one).GetName(), out)] = SegmentRef(segmentation, one)
    return out


def _visible(ref: SegmentRef) -> bool:
    display = ref.node.GetDisplayNode()
    return display is None or bool(display.GetSegmentVisibility(ref.segment_id))


def _lines(scene) -> list[Any]:
    collection = scene.GetNodesByClass("vtkMRMLMarkupsLineNode")
    collection.UnRegister(None)
    return [collection.GetItemAsObject(n) for n in range(collection.GetNumberOfItems())]
