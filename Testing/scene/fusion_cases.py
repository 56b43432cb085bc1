"""A small tracked recording of known poses, for tests of the live picture in the patient."""

from __future__ import annotations

import time

import numpy as np

COUNT, RATE_HZ = 50, 25.0
SIZE = (64, 48)
"""(columns, rows)."""
PATIENCE_S = 20.0


def turned(angles_deg, translation) -> np.ndarray:
    """(4, 4) by Rodrigues' formula about (1, 1, 0) and then z, so that no axis lies along another."""
    out = np.eye(4)
    axes = (np.array([1.0, 1.0, 0.0]) / np.sqrt(2.0), np.array([0.0, 0.0, 1.0]))
    for axis, angle in zip(axes, angles_deg, strict=True):
        a, k = np.radians(angle), np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        step = np.eye(4)
        step[:3, :3] = np.eye(3) + np.sin(a) * k + (1 - np.cos(a)) * k @ k
        out = step @ out
    out[:3, 3] = translation
    return out


IMAGE_TO_PROBE = turned((10.0, 5.0), (-12.0, 3.0, 2.0)) @ np.diag([0.4, 0.5, 0.45, 1.0])
REGISTRATION = turned((25.0, -40.0), (30.0, -60.0, 100.0))
TIP = np.array([0.0, 0.0, -120.0])


def probe_pose(time_s: float) -> np.ndarray:
    """(4, 4) ProbeToReference: slides 30 mm/s along x and turns 6 degrees a second, in two seconds there and back."""
    share = 1.0 - abs((time_s % 2.0) - 1.0)
    return turned((20.0, 6.0 * share), (30.0 * share, 10.0, -5.0))


def needle_pose(time_s: float) -> np.ndarray:
    """(4, 4) NeedleToReference: pushed along its shaft."""
    pose = turned((-15.0, 30.0), (40.0, 20.0, 60.0))
    pose[:3, 3] += pose[:3, :3] @ (0.0, 0.0, -10.0 * (time_s % 2.0))
    return pose


def recording(*, lag_s: float = 0.0, count: int = COUNT, lost=(), calibrated: bool = False):
    """TrackedSequence: each picture bears its number in the grey of every pixel. lag_s: poses are stamped so much later
    than the pictures of the same instant. lost: frames in which the probe is out of view."""
    from IRAILib.images.sequences import TrackedSequence

    times = np.arange(count) / RATE_HZ
    frames = np.broadcast_to((np.arange(count) * 4 % 256).astype(np.uint8)[:, None, None], (count, SIZE[1], SIZE[0]))
    probes = np.array([probe_pose(t - lag_s) for t in times])
    header = {}
    if calibrated:
        header["ImageToProbeTransform"] = " ".join(f"{v:.12g}" for v in IMAGE_TO_PROBE.ravel())
    return TrackedSequence(
        frames=np.ascontiguousarray(frames), time_s=times,
        transforms={"ProbeToReference": probes, "NeedleToReference": np.array([needle_pose(t) for t in times])},
        status={"ProbeToReference": ["OUT_OF_VIEW" if n in lost else "OK" for n in range(count)],
                "NeedleToReference": ["OK"] * count}, orientation="MFA", header=header,
        fields=[{"FrameNumber": str(n), "ImageStatus": "OK"} for n in range(count)])


def calibration(**changes):
    """ProbeCalibration of the recording's probe."""
    from IRAILib.navigation.probe import ProbeCalibration

    values = {"probe_from_image": IMAGE_TO_PROBE, "size_px": SIZE, "sigma_mm": {"corner": 0.5, "centre": 0.2},
              "rms_mm": 0.4, "mean_mm": 0.3, "held_out_rms_mm": 0.45, "by_depth": (), "points_used": 100,
              "outliers": (), "method": "made for the test", "validated_on": "nothing"}
    return ProbeCalibration(**{**values, **changes})


def registered(error_mm: float | None = 1.0):
    """PatientRegistration of the recording's tracker."""
    from IRAILib.scene.fusion_registration import given_registration

    return given_registration(REGISTRATION, method="known", error_mm=error_mm, validated_on="the test's own truth")


def ready(session, sequence, **options) -> None:
    """The session plays the recording, calibrated and registered, with the needle as its tool."""
    from IRAILib.scene.fusion_guide import ToolTip

    session.live.set_calibration(calibration(), check=False)
    session.registration = registered()
    session.tool = "NeedleToReference"
    session.tips = {"Needle": ToolTip(tuple(TIP), (0.0, 0.0, -1.0), 0.3, 0.5, "test")}
    session.replay(sequence, loop=True, **options)


def until(session, condition, what: str, patience_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, f"never: {what}; {session.state().why_stale} {session.problem}"
        session.pump()
        time.sleep(0.005)


def frame_number(frame) -> int:
    """Which of the recording's pictures a live frame is."""
    return int(frame.pixels[0, 0]) // 4


def corners_ras(matrix: np.ndarray) -> np.ndarray:
    """(4, 3) RAS of a picture's corners."""
    x, y = SIZE[0] - 1.0, SIZE[1] - 1.0
    return np.array([(0, 0, 0), (x, 0, 0), (0, y, 0), (x, y, 0)]) @ matrix[:3, :3].T + matrix[:3, 3]


def point_list(scene, name: str, points: dict):
    """A point list node of labelled points, RAS mm."""
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for label, point in points.items():
        node.AddControlPoint([float(v) for v in point], label)
    return node
