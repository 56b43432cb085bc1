"""A recorded session as a volume: freehand reconstruction through the session's own chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..geometry import InputError, RefusedError
from ..jobs import run_job
from ..link.replay_frames import find_chain
from ..navigation.pairing import interpolate_poses
from .changes import SceneChange, put_in_folder
from .fusion_record import recorded, sequence_from_browser
from .write import volume_to_node

FOLDER, ROLE_NAME = "FusionNav", "fusion.sweep"


def sweep_poses(session, sequence) -> tuple[np.ndarray, np.ndarray]:
    """((n, 4, 4) RAS from pixels, (n,) bool: known) of a recording, by calibration, lag and registration of a session
    (or of a Recorded).

    Raises InputError without registration, or where the recording's frames don't lead from the image to the reference.
    """
    registration, live = session.registration, getattr(session, "live", session)
    if registration is None:
        raise InputError("register first: the sweep's volume is made in the patient's RAS")
    fixed = {} if live.calibration is None else {f"ImageTo{live.calibration.probe}": live.calibration.probe_from_image}
    name = f"ImageTo{registration.reference}"
    own = {key: value for key, value in sequence.transforms.items() if live.calibration is None or key != name}
    chain = find_chain(name, [*fixed, *sorted(own)])
    if chain is None:
        raise InputError(f"{name} can't be made of {', '.join([*fixed, *sorted(own)]) or 'nothing'}; load the probe's "
                         "calibration in step 2")
    count = len(sequence)
    poses, valid = np.tile(np.eye(4), (count, 1, 1)), np.zeros(count, bool)
    for number in range(count):
        known = {key: (matrix, "OK") for key, matrix in fixed.items()}
        known |= {key: (matrices[number], sequence.status[key][number]) for key, matrices in own.items()}
        matrix, word = chain.of(known)
        poses[number], valid[number] = matrix, word == "OK"
    if live.lag_s and live.calibration is not None:
        rigid = poses @ np.linalg.inv(live.calibration.probe_from_image)
        moved, valid = interpolate_poses(sequence.time_s, rigid, sequence.time_s, valid, lag_s=live.lag_s)
        poses = moved @ live.calibration.probe_from_image
    return registration.ras_from_reference @ poses, valid


def reconstruct_session(session, browser, *, spacing_mm: float = 0.7,
                        progress: Callable[[float, str], None] | None = None,
                        cancelled: Callable[[], bool] | None = None) -> tuple[Any, Any]:
    """(volume node, Reconstruction) of a recorded session, in a worker; the volume of before is replaced.

    Raises InputError, RefusedError (no pose, hardly a sweep), CancelledError: the scene stays.
    """
    import slicer

    from .fusion_carm import _with_role

    sequence = sequence_from_browser(browser)
    if sequence.frames is None:
        raise RefusedError("this session holds no pictures")
    frames = sequence.frames if sequence.frames.ndim == 3 else sequence.frames[..., 0]
    then = recorded(browser)  # the pictures belong to the calibration of then, whatever probe is in hand now
    if then is not None and then.registration is None:
        then = replace(then, registration=session.registration)
    poses, valid = sweep_poses(then or session, sequence)
    made = run_job("IRAILib.navigation.reconstruction:reconstruct",
                   {"frames": np.array(frames), "ras_from_image": poses, "valid": valid, "spacing_mm": spacing_mm},
                   progress=progress, cancelled=cancelled)
    with SceneChange(replaces=_with_role(slicer.mrmlScene, ROLE_NAME)) as change:
        node = volume_to_node(made.volume, change.add("vtkMRMLScalarVolumeNode", "Volume of the sweep", ROLE_NAME))
        node.SetAttribute("DICOM.Modality", "US")
        put_in_folder([node], FOLDER)
    return node, made
