"""Step 3's registrations by image: a second volume into the first, and the tracker refined by its own live slices.

Both run in a worker with progress and cancel. A result that refuses itself changes nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..geometry import InputError, LinearTransform, RefusedError, Volume
from ..jobs import run_job
from .changes import ROLE, SceneChange, put_in_folder
from .fusion_registration import DOCUMENT, FOLDER, PatientRegistration, keep_registration
from .nodes import volume_from_node
from .transforms import transform_to_node

ROLE_NAME = "fusion.volumes"
FEWEST_SLICES = 6
Progress = Callable[[float, str], None] | None
Cancelled = Callable[[], bool] | None


def register_volumes(fixed_node, moving_node, *, progress: Progress = None, cancelled: Cancelled = None
                     ) -> tuple[Any, Any]:
    """Bring a volume of another modality (CT, MR, PET) into the first one's place, rigidly.

    Returns (transform node, MultimodalRegistration): the moving volume hangs under the node. Its own earlier result is
    replaced. Raises InputError, RefusedError (the result doesn't trust itself), CancelledError: the scene stays.
    """
    if fixed_node is None or moving_node is None or fixed_node is moving_node:
        raise InputError("choose two different volumes: the second is brought into the first")
    before = moving_node.GetParentTransformNode()
    own = before if before is not None and before.GetAttribute(ROLE) == ROLE_NAME else None
    if own is not None:
        moving_node.SetAndObserveTransformNodeID(None)
    try:
        fixed, moving = (plain_volume(volume_from_node(node)) for node in (fixed_node, moving_node))
        arguments = {"fixed": fixed, "moving": moving}
        result = run_job("IRAILib.registration.multimodal:register_multimodal", arguments, progress=progress,
                         cancelled=cancelled)
        if not result.accepted:
            raise RefusedError(f"{moving_node.GetName()} was not moved: {result.reason}")
    except BaseException:
        if own is not None:
            moving_node.SetAndObserveTransformNodeID(own.GetID())
        raise
    with SceneChange(replaces=[own]) as change:
        node = change.add("vtkMRMLLinearTransformNode", f"{moving_node.GetName()} to {fixed_node.GetName()}", ROLE_NAME)
        transform_to_node(result.moving_from_fixed, node, fixed_node, moving_node)
        node.SetAttribute(DOCUMENT, json.dumps(result.to_dict()))
        put_in_folder([node], FOLDER)
        moving_node.SetAndObserveTransformNodeID(node.GetID())
    return node, result


def refine_by_slices(session, volume_node, *, progress: Progress = None, cancelled: Cancelled = None) -> Any:
    """Refine the session's registration so that the newest live slices fit the volume. Returns a SliceRegistration.

    Raises InputError (no registration, too few slices), RefusedError (the result doesn't trust itself),
    CancelledError: the registration stays as it was.
    """
    before = session.registration
    if before is None:
        raise InputError("register by landmarks first: the live slices refine what is there")
    slices = list(session.live.kept)
    if len(slices) < FEWEST_SLICES:
        raise InputError(f"{len(slices)} live slices so far, {FEWEST_SLICES} at least: sweep the probe over the organ")
    arguments = {"images": [entry[0] for entry in slices],
                 "ras_from_pixel": np.array([before.ras_from_reference @ entry[1] for entry in slices]),
                 "volume": plain_volume(volume_from_node(volume_node))}
    result = run_job("IRAILib.registration.slice_to_volume:register_slices", arguments, progress=progress,
                     cancelled=cancelled)
    if not result.accepted:
        raise RefusedError(f"the registration was not changed: {result.reason}")
    made = refined(before, result)
    keep_registration(made)
    session.registration = made
    return result


def refined(before: PatientRegistration, result) -> PatientRegistration:
    """The registration with a correction, its held-out landmarks measured again."""
    matrix = result.volume_from_tracked.matrix @ before.ras_from_reference
    held = before.held_out
    if before.landmarks is not None:
        names = list(before.landmarks.names)
        rows = [names.index(name) for name, _error in held]
        mapped = LinearTransform(matrix, "RAS", before.reference).apply(before.landmarks.source_mm[rows])
        errors = np.linalg.norm(mapped - before.landmarks.target_mm[rows], axis=1) if rows else []
        held = tuple((name, float(error)) for (name, _old), error in zip(held, errors, strict=True))
    method = before.method.removesuffix(", refined by live slices") + ", refined by live slices"
    return PatientRegistration(matrix, before.reference, method, float(result.sigma_mm), result.validated_on,
                               before.landmarks, held, time.time())


def register_as_chosen(parameters, session, progress: Progress = None, cancelled: Cancelled = None) -> str:
    """What the panel's method asks for. Returns what to say."""
    if parameters.method == "volumes":
        others = [node for node in (parameters.volume2, parameters.volume3) if node is not None]
        if not others:
            raise InputError("choose a second volume in step 1")
        said = []
        for node in others:
            _transform, result = register_volumes(parameters.volume1, node, progress=progress, cancelled=cancelled)
            said.append(f"{node.GetName()}: moved by {result.moved_mm:.1f} mm, ± {result.sigma_mm:.1f} mm; "
                        f"{result.reason}. Validated on: {result.validated_on}")
        return "\n".join(said)
    result = refine_by_slices(session, parameters.volume1, progress=progress, cancelled=cancelled)
    return (f"{result.slices} live slices moved the registration by {result.moved_mm:.1f} mm, ± {result.sigma_mm:.1f} "
            f"mm; {result.reason}. Validated on: {result.validated_on}")


def plain_volume(volume: Volume) -> Volume:
    """With an array of its own, which can be handed to a worker."""
    return Volume(np.array(volume.array), volume.grid, volume.name, None, {"modality": volume.metadata.get("modality")})
