"""Step 2's calibrations: the probe's from a file, a tool's tip and shaft from poses that were collected, the lag."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..geometry import InputError
from ..link.probe import frames_of
from ..navigation.pivot import calibrate_pivot
from ..navigation.probe import ProbeCalibration
from ..navigation.spin import calibrate_spin
from ..navigation.temporal import TemporalCalibration, calibrate_lag
from .fusion_guide import ToolTip

FROM_CONFIG = "the file states no error: what it was made from is not known here"


def read_probe_calibration(path: str | Path) -> ProbeCalibration:
    """A probe's calibration from the JSON of `irai fusion calibrate`, or from a PLUS configuration.

    A PLUS configuration has neither error nor image size: both stay "not known", and a live image can be compared by
    its pixel size only. Raises InputError: no such file, another kind of file, no ImageToProbe in it.
    """
    from ..link.replay_frames import read_plus_config

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; choose the JSON of a probe calibration, or a PLUS configuration")
    if path.suffix.lower() == ".xml":
        transforms = read_plus_config(path)
        if "ImageToProbe" not in transforms:
            raise InputError(f"{path}: holds {', '.join(sorted(transforms))}, but no ImageToProbe")
        nan = float("nan")
        return ProbeCalibration(transforms["ImageToProbe"], None, {"corner": nan, "centre": nan}, nan, nan, nan, (), 0,
                                (), "PLUS configuration", FROM_CONFIG)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is no JSON that can be read ({error})") from error
    if not isinstance(values, dict) or values.get("kind") != "image_to_probe":
        raise InputError(f"{path}: is no probe calibration; make one with irai fusion calibrate nwire or pointer")
    return ProbeCalibration.from_dict(values)


def tip_from_poses(tool: str, poses: Sequence[np.ndarray], before: ToolTip | None = None) -> tuple[ToolTip, str]:
    """(the tool with its tip, what to say) from poses tilted about the tip. `before`: keeps its shaft, if it has one.

    Raises RefusedError for poses that can't carry a pivot calibration.
    """
    source, target = frames_of(tool)
    found = calibrate_pivot(np.array(poses), tool=source, reference=target)
    axis = found.tool_from_tip[:3, 0]
    made = ToolTip(_triple(found.tip_mm), _triple(axis), found.sigma_mm, None, found.validated_on)
    if before is not None and before.sigma_deg is not None:
        made = replace(made, axis=before.axis, sigma_deg=before.sigma_deg)
    return made, (f"{source}: tip at {found.tip_mm[0]:.2f}, {found.tip_mm[1]:.2f}, {found.tip_mm[2]:.2f} mm, sigma "
                  f"{found.sigma_mm:.2f} mm, rms {found.rms_mm:.2f} mm, {found.poses_used} poses")


def shaft_from_poses(tool: str, poses: Sequence[np.ndarray], before: ToolTip | None = None) -> tuple[ToolTip, str]:
    """(the tool with its shaft, what to say) from poses rolled about the shaft; its sense is from the tip of before.

    Raises RefusedError for poses that can't carry a spin calibration, InputError when the tip lies beside the shaft.
    """
    source, _target = frames_of(tool)
    tip = None if before is None or before.sigma_mm is None else np.array(before.tip_mm)
    found = calibrate_spin(np.array(poses), tool=source, tip_mm=tip)
    base = before or ToolTip()
    made = replace(base, axis=_triple(found.axis), sigma_deg=found.sigma_deg, validated_on=found.validated_on)
    sense = "" if found.signed else "; its sense is not known: calibrate the tip first"
    return made, (f"{source}: shaft along {found.axis[0]:.3f}, {found.axis[1]:.3f}, {found.axis[2]:.3f}, sigma "
                  f"{found.sigma_deg:.2f} degrees, {found.poses_used} poses{sense}")


def lag_from_recording(path: str | Path, transform: str = "ProbeToReference") -> TemporalCalibration:
    """The lag of a recording of a water tank's bottom while the probe was moved up and down.

    Raises InputError for a file without images or poses, RefusedError where the two don't show one motion.
    """
    from ..images.sequences import read_sequence
    from ..link.replay_frames import find_chain
    from ..navigation.line_signal import line_rows

    sequence = read_sequence(path)
    if sequence.frames is None or not sequence.timed:
        raise InputError(f"{path}: pictures with time stamps are needed to find the lag")
    chain = find_chain(transform, sorted(sequence.transforms))
    if chain is None:
        raise InputError(f"{path}: {transform} can't be made of {', '.join(sorted(sequence.transforms)) or 'nothing'}")
    sequence = sequence.oriented("MF")
    frames = sequence.frames
    assert frames is not None
    rows = line_rows(frames)[0]
    poses = [chain.of({name: (matrices[n], sequence.status[name][n]) for name, matrices in sequence.transforms.items()})
             for n in range(len(sequence))]
    good = np.array([word == "OK" for _matrix, word in poses])
    positions = np.array([matrix[:3, 3] for matrix, _word in poses])
    return calibrate_lag(sequence.time_s, rows, sequence.time_s[good], positions[good])


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
