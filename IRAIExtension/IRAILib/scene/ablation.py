"""The ablation-margin job on MRML nodes: register before to after, accept, measure the margin, show it.

Fixed is the image after the ablation, moving the one before. Every step leaves a record (a text node with JSON)
that references the nodes it made; a second run of a step replaces them, a failed or cancelled run leaves the
scene as it was.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import __version__
from ..geometry import InputError, LinearTransform, RefusedError, Transform, resample
from .ablation_quality import quality_rows
from .ablation_results import read_record, write_margin, write_record
from .changes import SceneChange, link_parts, part_of, parts_of, put_in_folder
from .nodes import SegmentRef, mask_from_segment, points_from_markups, volume_from_node
from .transforms import transform_from_node, transform_to_node
from .write import rows_to_table, volume_to_node

ACCEPTED = "IRAI.Accepted"
"""Attribute of a registration's record: "1" once a user has looked at it and accepted it."""
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class AblationCase:
    """What a user chose. `tumor` is drawn on `pre`; `ablation`, `organ` and `vessels` on `post`.

    With images that already share a frame (one scanner coordinate system, no motion) `pre` and `post` may be
    None: the margin needs only the two segments.
    """

    tumor: SegmentRef
    ablation: SegmentRef
    pre: Any = None
    post: Any = None
    organ: SegmentRef | None = None
    organ_pre: SegmentRef | None = None
    vessels: SegmentRef | None = None
    landmarks_pre: Any = None
    landmarks_post: Any = None

    @property
    def folder(self) -> str:
        """Name of the subject-hierarchy folder that takes every result of this case."""
        segment = self.tumor.node.GetSegmentation().GetSegment(self.tumor.segment_id)
        return f"Ablation margin: {segment.GetName() if segment else self.tumor.segment_id}"


def register_case(case: AblationCase, options=None, *, previous: Any = None, progress: Progress | None = None,
                  cancelled: Callable[[], bool] | None = None, run: Callable | None = None) -> Any:
    """Register the image before the ablation to the one after, in a worker process.

    Args:
        options: RegistrationOptions; None for the default.
        previous: record of an earlier registration that this one replaces.
        progress, cancelled: as `jobs.run_job` takes them.
        run: stands in for `jobs.run_job` (tests).
    Returns: the registration's record, a vtkMRMLTextNode with the parts "transform" (from parent: before from
        after; references both volumes), "registered" (before, on the grid of after) and "table". Not accepted.
    Raises InputError, CancelledError; the scene is then as before.
    """
    if run is None:
        from ..jobs import run_job as run
    pre, post = _both_volumes(case)
    kwargs = {"fixed": post, "moving": pre, **_registration_masks(case, pre, post), **_landmarks(case)}
    if options is not None:
        kwargs["options"] = options
    result = run("IRAILib.registration:register", kwargs, progress=progress, cancelled=cancelled)
    registered = resample(pre, post.grid, result.moving_from_fixed, outside=float(np.min(pre.array)))
    registered = registered.with_array(np.round(registered.array).astype(pre.array.dtype)
                                       if np.issubdtype(pre.array.dtype, np.integer) else registered.array)
    document = _registration_document(case, result, options)
    with SceneChange(parts_of(previous)) as change:
        node = change.add("vtkMRMLTransformNode", f"{case.post.GetName()} to {case.pre.GetName()}",
                          "registration.transform")
        transform_to_node(result.moving_from_fixed, node, case.post, case.pre)
        image = volume_to_node(registered, change.add(
            "vtkMRMLScalarVolumeNode", f"{case.pre.GetName()} (registered)", "registration.image"))
        _same_window(image, case.pre)
        table = rows_to_table(change.add("vtkMRMLTableNode", "Registration quality", "registration.table"),
                              ["Quantity", "Value", "Verdict"], [list(row) for row in quality_rows(document)])
        record = write_record(change, "Registration record", "registration.record", document)
        link_parts(record, {"transform": node, "registered": image, "table": table})
        record.SetNodeReferenceID("IRAI.Fixed", case.post.GetID())
        record.SetNodeReferenceID("IRAI.Moving", case.pre.GetID())
        put_in_folder(change.added, case.folder)
    return record


def accept_registration(record, accepted: bool = True) -> None:
    """Note that a user looked at the registration. Raises RefusedError for one that refused itself."""
    refused = read_record(record).get("refused")
    if accepted and refused:
        raise RefusedError(f"this registration can't be accepted: {refused}")
    record.SetAttribute(ACCEPTED, "1" if accepted else None)
    record.Modified()


def is_accepted(record) -> bool:
    """Whether a user accepted that registration (False for no record)."""
    return record is not None and record.GetAttribute(ACCEPTED) == "1"


def measure_margin(case: AblationCase, registration: Any = None, options=None, *, previous: Any = None,
                   progress: Progress | None = None) -> Any:
    """Measure the margin and show it in the scene.

    Args:
        registration: an accepted registration's record; None when both segments share a frame.
        options: ablation.MarginOptions; None for the default (5 mm wanted).
        previous: record of an earlier margin that this one replaces.
    Returns: the margin's record, a vtkMRMLTextNode whose JSON has the keys of margin.json, with the parts "model",
        "colors", "thinnest", "direction", "under", "table", "histogram", "series", "chart" as far as they exist.
    Raises InputError, RefusedError (and then nothing is written: no number, no model).
    """
    from ..ablation.margin import MarginOptions, ablative_margin

    say = progress or (lambda share, text: None)
    options = options or MarginOptions()
    say(0.05, "Reading the segments")
    post_from_pre, facts = _motion(case, registration)
    masks = {"tumor": mask_from_segment(case.tumor), "ablation": mask_from_segment(case.ablation),
             "organ": mask_from_segment(case.organ) if case.organ else None,
             "vessels": mask_from_segment(case.vessels) if case.vessels else None}
    sigma = float(facts.get("local_tre_mm") or 0.0)
    say(0.3, "Measuring the margin")
    result = ablative_margin(**masks, ablation_from_tumor=post_from_pre, registration_sigma_mm=sigma, options=options)
    summary = _registration_summary(facts, masks, sigma, options)
    if summary is not None and summary["rigid_mam_mm"] is None:
        summary["rigid_mam_mm"] = result.mam_mm
    document = {**result.to_dict(), "registration": summary, "refused": None, **_provenance(case)}
    say(0.8, "Writing the result into the scene")
    with SceneChange(parts_of(previous)) as change:
        parts = write_margin(change, result, document, float(options.threshold_mm))
        record = write_record(change, "Margin record", "margin.record", document)
        link_parts(record, parts)
        put_in_folder(change.added, case.folder)
    say(1.0, "Done")
    return record


def _both_volumes(case: AblationCase):
    if case.pre is None or case.post is None:
        raise InputError("two images are needed: choose the volume before and the one after the ablation")
    if case.pre is case.post:
        raise InputError(f"{case.pre.GetName()}: the images before and after are the same volume; choose another one")
    return volume_from_node(case.pre), volume_from_node(case.post)


def _registration_masks(case: AblationCase, pre, post) -> dict[str, Any]:
    return {"fixed_organ": mask_from_segment(case.organ, post) if case.organ else None,
            "moving_organ": mask_from_segment(case.organ_pre, pre) if case.organ_pre else None,
            "exclude_fixed": mask_from_segment(case.ablation, post),
            "exclude_moving": mask_from_segment(case.tumor, pre)}


def _landmarks(case: AblationCase) -> dict[str, Any]:
    fixed, moving = points_from_markups(case.landmarks_post), points_from_markups(case.landmarks_pre)
    if not len(fixed) and not len(moving):
        return {}
    if len(fixed) != len(moving):
        raise InputError(f"landmarks: {len(moving)} before and {len(fixed)} after the ablation; place the same "
                         "points in the same order in both images")
    return {"fixed_landmarks": fixed, "moving_landmarks": moving}


def _registration_document(case: AblationCase, result, options) -> dict[str, Any]:
    rigid = result.rigid
    return {"step": "registration", **result.to_dict(), "options": None if options is None else options.to_dict(),
            "rigid_matrix": None if rigid is None else rigid.matrix.tolist(), **_provenance(case)}


def _provenance(case: AblationCase) -> dict[str, Any]:
    named = {"tumor": case.tumor, "ablation": case.ablation, "organ": case.organ, "vessels": case.vessels}
    return {"inputs": {
        **{name: {"name": ref.name, "segment_id": ref.segment_id} for name, ref in named.items() if ref},
        **{name: {"name": node.GetName()} for name, node in (("pre", case.pre), ("post", case.post)) if node}},
        "software": f"IRAI {__version__}",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}


def _motion(case: AblationCase, registration) -> tuple[Transform | None, dict[str, Any]]:
    """(after from before, the registration's facts); (None, {}) in one frame. Raises as `measure_margin`."""
    if registration is None:
        return None, {}
    facts = read_record(registration)
    if facts.get("refused"):
        raise RefusedError(f"no margin: {facts['refused']}")
    if not is_accepted(registration):
        raise RefusedError("no margin: the registration has not been accepted; look at it and accept it, or redo it")
    for role, node in (("IRAI.Fixed", case.post), ("IRAI.Moving", case.pre)):
        if registration.GetNodeReference(role) is not node:
            raise InputError("the registration was made with other volumes; register this case again")
    if facts.get("inputs", {}).get("tumor", {}).get("segment_id") != case.tumor.segment_id:
        raise InputError("the registration left out another tumour segment; register this case again")
    node = part_of(registration, "transform")
    if node is None:
        raise InputError("the registration's transform node was deleted; register this case again")
    return transform_from_node(node).inverse(), facts


def _registration_summary(facts, masks, sigma: float, options) -> dict[str, Any] | None:
    """The `registration` block of margin.json; `rigid_mam_mm` is None where the registration is rigid itself."""
    from ..ablation.margin import ablative_margin

    if not facts:
        return None
    rigid_mam = None
    if facts.get("rigid_matrix") is not None and (facts.get("options") or {}).get("model") != "rigid":
        rigid = LinearTransform(np.array(facts["rigid_matrix"]), "moving", "fixed").inverse()
        rigid_mam = ablative_margin(**masks, ablation_from_tumor=rigid, registration_sigma_mm=sigma,
                                    options=options).mam_mm
    return {**registration_facts(facts), "rigid_mam_mm": rigid_mam}


def registration_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """The `registration` block of margin.json from a registration record's JSON, without the rigid margin.

    `tre_mm` is the mean error at landmarks held out where there are any, else the error expected without them;
    `tre_source` says which.
    """
    quality = facts.get("quality") or {}
    points = quality.get("tre_points") or 0
    measured = quality.get("tre_mm") is not None and points > 0
    return {"method": facts.get("method"), "rigid_mam_mm": None,
            "folding_percent": quality.get("folding_percent"),
            "tumor_volume_change_percent": quality.get("tumor_volume_change_percent"),
            "tre_mm": quality["tre_mm"] if measured else facts.get("local_tre_mm"),
            "tre_source": f"{points} landmarks held out" if measured else "estimated round the zone, no landmarks",
            "local_tre_mm": facts.get("local_tre_mm"), "warnings": facts.get("warnings") or []}


def _same_window(node, like) -> None:
    source, target = like.GetDisplayNode(), node.GetDisplayNode()
    if source is not None and target is not None:
        target.SetAutoWindowLevel(False)
        target.SetWindowLevel(source.GetWindow(), source.GetLevel())
