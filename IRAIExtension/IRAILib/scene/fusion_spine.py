"""Step 4 for vertebrae: ways through both pedicles as line nodes; and the skin as a map of entry points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..geometry import EmptyMaskError, InputError, RefusedError
from ..jobs import run_job
from ..navigation.pedicle import PediclePath, VertebraPlan
from ..navigation.vertebra_labels import SpineLabels, read_labels
from .changes import SceneChange, put_in_folder
from .fusion_carm import _with_role, angle_text
from .fusion_plan import CHOSEN_COLOR, FOLDER, OTHER_COLOR, PathPlanner
from .fusion_volumes import plain_volume
from .nodes import SegmentRef, mask_from_segment, volume_from_node
from .write import surface_to_model

PEDICLE_ROLE, SKIN_ROLE = "fusion.pedicle", "fusion.skin"
MAP_COLORS = ((0.20, 0.63, 0.29), (0.98, 0.80, 0.18), (0.62, 0.62, 0.62))
"""Free (better is greener on the cost's scale), close to a margin, forbidden."""
Progress = Callable[[float, str], None] | None
Cancelled = Callable[[], bool] | None


def spine_labels(segmentation) -> SpineLabels:
    """Vertebrae among the segments, by their names ("L1", "vertebrae_L1"), the names checked by counting.

    Raises InputError when there are none.
    """
    if segmentation is None:
        raise InputError("choose the structures in step 1: vertebrae are segments named L1, T12, vertebrae_L1 ...")
    found = []
    for segment_id in segmentation.GetSegmentation().GetSegmentIDs():
        name = segmentation.GetSegmentation().GetSegment(segment_id).GetName()
        try:
            found.append((name, mask_from_segment(SegmentRef(segmentation, segment_id))))
        except EmptyMaskError:
            continue
    return read_labels(found)


def plan_pedicles(segmentation, name: str, volume_node=None, *, progress: Progress = None,
                  cancelled: Cancelled = None) -> VertebraPlan:
    """Both transpedicular ways of a vertebra, in a worker.

    Raises InputError (no such vertebra), RefusedError with the reasons when neither side has a way, CancelledError.
    """
    labels = spine_labels(segmentation)
    labels.named(name)
    ct = None if volume_node is None else plain_volume(volume_from_node(volume_node))
    plan = run_job("IRAILib.navigation.pedicle:plan_vertebra", {"labels": labels, "name": name.upper(), "ct": ct},
                   progress=progress, cancelled=cancelled)
    if not plan.paths:
        raise RefusedError("; ".join(f"{side}: {why}" for side, why in plan.refused.items()))
    return plan


def show_pedicles(plan: VertebraPlan) -> list[Any]:
    """A line node for each side (skin or bone, then tip), in place of those of before. Returns the lines."""
    import slicer

    with SceneChange(replaces=_with_role(slicer.mrmlScene, PEDICLE_ROLE)) as change:
        for number, way in enumerate(plan.paths):
            line = change.add("vtkMRMLMarkupsLineNode", f"{plan.name} {way.side}", PEDICLE_ROLE)
            line.CreateDefaultDisplayNodes()
            for label, point in (("entry", way.skin_ras or way.entry_ras), ("target", way.tip_ras)):
                line.AddControlPoint([float(value) for value in point], label)
            display = line.GetDisplayNode()
            display.SetSelectedColor(*(OTHER_COLOR if number else CHOSEN_COLOR))
            display.SetPropertiesLabelVisibility(False)
            display.SetPointLabelsVisibility(False)
        put_in_folder(change.added, FOLDER)
    return change.added


def pedicle_rows(plan: VertebraPlan) -> list[tuple[str, str]]:
    """(quantity, value) of both sides, for a table."""
    rows = []
    for way in plan.paths:
        rows += _side_rows(way)
    rows += [(f"{side}: no way", why) for side, why in plan.refused.items()]
    return [*rows, *((f"Name of {flag.level or 'the spine'}", flag.reason) for flag in plan.flags),
            ("Validated on", plan.validated_on)]


def _side_rows(way: PediclePath) -> list[tuple[str, str]]:
    return [(f"{way.side}: bone left round the needle", f"{way.clearance.distance_mm:.1f} ± {way.sigma_mm:.1f} mm, "
                                                       f"towards {way.towards}"),
            (f"{way.side}: to the canal", f"{way.canal_mm:.1f} mm"),
            (f"{way.side}: bull's eye", angle_text(*way.bulls_eye_deg)),
            (f"{way.side}: progression", angle_text(*way.progression_deg)),
            *((f"{way.side}: mind", warning) for warning in way.warnings)]


def show_skin_map(planner: PathPlanner) -> Any:
    """The skin as a model: green where an entry is free (by its cost), yellow close to a margin, grey forbidden.

    Point arrays: State (0 free, 1 close, 2 forbidden), Cost (0 is best, -1 where forbidden). The one of before is
    replaced. Raises InputError before paths were proposed.
    """
    import slicer
    import vtk

    if planner is None or planner.plan is None:
        raise InputError("propose paths first: the skin map belongs to a target")
    surface = planner.planner.skin.surface()
    cost, state = planner.plan.skin_map.at(surface.points)
    old = [node for role in (SKIN_ROLE, SKIN_ROLE + ".colors") for node in _with_role(slicer.mrmlScene, role)]
    with SceneChange(replaces=old) as change:
        node = change.add("vtkMRMLModelNode", "Skin map of entry points", SKIN_ROLE)
        surface_to_model(surface, node, {"State": np.asarray(state, float), "Cost": np.nan_to_num(cost, nan=-1.0)})
        colors = change.add("vtkMRMLColorTableNode", "Skin map colours", SKIN_ROLE + ".colors")
        colors.SetTypeToUser()
        colors.SetNumberOfColors(3)
        for index, (title, color) in enumerate(zip(("free", "close", "forbidden"), MAP_COLORS, strict=True)):
            colors.SetColor(index, title, *color, 1.0)
        colors.GetLookupTable().SetTableRange(0, 2)
        display = node.GetDisplayNode()
        display.SetActiveScalar("State", vtk.vtkAssignAttribute.POINT_DATA)
        display.SetAndObserveColorNodeID(colors.GetID())
        display.SetScalarRangeFlag(slicer.vtkMRMLDisplayNode.UseManualScalarRange)
        display.SetScalarRange(-0.5, 2.5)
        display.SetScalarVisibility(True)
        display.SetOpacity(0.6)
        put_in_folder([node], FOLDER)
    return node
