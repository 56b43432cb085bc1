"""From the socket to the live slice: how old a tracked picture is when Slicer's scene shows it, cut and outlined.

A sender in a process of its own streams 640x480 pictures with the poses of a probe and a needle, each stamped when it
goes out; the receiver is the FusionNav session on headless Slicer with a CT of 512x512x130, four structures, a
calibration, a registration and a path. Not counted: the ultrasound machine, the frame grabber, drawing on the screen.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

FRAMES, WARM_UP = 300, 30
RATE_HZ = 30.0
SIZE = (640, 480)
BEAT_S = 0.033  # the panel's timer
PANEL_EVERY = 3  # the panel renews its numbers every third beat
DEADLINE_S = 40.0
CT_SHAPE, CT_SPACING_MM = (130, 512, 512), (0.7, 0.7, 2.0)
BALLS = (("Liver", (65, 256, 256), 60.0), ("Tumour", (60, 220, 300), 15.0), ("Bone", (70, 300, 220), 25.0),
         ("Vessel", (65, 256, 330), 10.0))
"""(name, middle (k, j, i), radius in mm) of the structures."""
MM_PER_PX = 0.25


def probe_pose(time_s: float) -> np.ndarray:
    """(4, 4) ProbeToReference: fans 10 degrees to both sides and slides a centimetre."""
    angle = np.radians(10.0 * np.sin(time_s))
    out = np.eye(4)
    out[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    out[:3, 3] = (-80.0 + 10.0 * np.sin(0.7 * time_s), -60.0, 0.0)
    return out


def needle_pose(time_s: float) -> np.ndarray:
    """(4, 4) NeedleToReference: pushed and pulled along its shaft."""
    out = np.eye(4)
    out[:3, 3] = (5.0 * np.sin(time_s), 90.0, 20.0)
    return out


def send(rate_hz: float) -> None:
    """The other process: a server that streams until it is ended. Poses first, as PLUS sends them."""
    from IRAILib.link.messages import Image, Transform
    from IRAILib.link.server import LinkServer

    pictures = np.random.default_rng(0).integers(0, 256, (8, 1, SIZE[1], SIZE[0])).astype(np.uint8)
    with LinkServer() as server:
        print(server.port, flush=True)
        began = next_s = time.monotonic()
        number = 0
        while time.monotonic() - began < DEADLINE_S + 20.0:
            time.sleep(max(0.0, next_s - time.monotonic()))
            next_s += 1 / rate_hz
            now = time.time()
            for name, pose in (("ProbeToReference", probe_pose(now)), ("NeedleToReference", needle_pose(now))):
                server.send(Transform(device=name, matrix=pose, time_s=now))
            server.send(Image(array=pictures[number % len(pictures)], ras_from_ijk=np.eye(4), device="Image",
                              time_s=now))
            number += 1


def make_session():
    """The session as the panel has it: CT, structures, calibration, registration, path, tool."""
    import slicer
    from IRAILib.geometry import Grid, Mask, Volume, signed_distance
    from IRAILib.navigation.probe import ProbeCalibration
    from IRAILib.scene.fusion_guide import Obstacle, ToolTip
    from IRAILib.scene.fusion_registration import given_registration
    from IRAILib.scene.fusion_session import FusionSession
    from IRAILib.scene.fusion_views import LiveViews
    from IRAILib.scene.write import volume_to_node

    turn, matrix = np.radians(10.0), np.eye(4)
    oblique = np.array([[np.cos(turn), -np.sin(turn), 0.0], [np.sin(turn), np.cos(turn), 0.0], [0.0, 0.0, 1.0]])
    matrix[:3, :3] = oblique @ np.diag(CT_SPACING_MM)
    matrix[:3, 3] = -matrix[:3, :3] @ (256.0, 256.0, 65.0)
    grid = Grid(CT_SHAPE, matrix)
    hu = np.random.default_rng(1).integers(-100, 200, CT_SHAPE).astype(np.int16)
    session = FusionSession()
    session.views = LiveViews(clock=session.clock)
    session.views.volume = volume_to_node(Volume(hu, grid, "CT"),
                                          slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT"))
    axes = np.ogrid[:CT_SHAPE[0], :CT_SHAPE[1], :CT_SHAPE[2]]
    for name, middle, radius in BALLS:
        away = sum(((axis - at) * step) ** 2 for axis, at, step in zip(axes, middle, CT_SPACING_MM[::-1], strict=True))
        mask = Mask(away < radius**2, grid, name).crop_to_content(margin_mm=10.0)
        session.obstacles.append(Obstacle(name, signed_distance(mask)))
    session.views.set_structures(session.obstacles)
    session.live.set_calibration(ProbeCalibration(
        np.diag([MM_PER_PX, MM_PER_PX, MM_PER_PX, 1.0]), SIZE, {"corner": 0.5, "centre": 0.2}, 0.4, 0.3, 0.45, (), 100,
        (), "made for the benchmark", "nothing"), check=False)
    session.registration = given_registration(np.eye(4), method="known", error_mm=1.0, validated_on="nothing")
    session.tool, session.tips = "NeedleToReference", {"Needle": ToolTip((0.0, -40.0, 0.0), (0.0, -1.0, 0.0), 0.3, 0.5)}
    line = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "Path")
    for point in ((0.0, 90.0, 20.0), (0.0, 0.0, 10.0)):
        line.AddControlPoint(list(point))
    session.plan = line
    return session


def measure(rate_hz: float, mode: str) -> dict[str, np.ndarray | float]:
    """Ages of the pictures when their slice node is written (ms), CPU and wall time of a beat with one, the skipped."""
    import slicer
    from IRAILib import headless
    from IRAILib.scene.link_store import LinkSettings

    headless.start()
    slicer.mrmlScene.Clear()
    session = make_session()
    session.views.mode = mode
    sender = subprocess.Popen([sys.executable, __file__, "send", str(rate_hz)], stdout=subprocess.PIPE, text=True)
    ages, cpu, wall, shown_s, beats = [], [], [], [], 0
    try:
        assert sender.stdout is not None
        session.connect(LinkSettings(name="Benchmark", host="127.0.0.1", port=int(sender.stdout.readline())))
        end = time.monotonic() + DEADLINE_S
        while len(ages) < FRAMES + WARM_UP and time.monotonic() < end:
            began, worked = time.monotonic(), time.thread_time()
            fresh = session.pump()
            now = time.time()
            beats += 1
            if beats % PANEL_EVERY == 0:
                session.state()
            frame = session.live.frame
            if fresh and frame is not None and not session.views.dimmed:
                ages.append(1e3 * (now - frame.time_s))
                shown_s.append(frame.time_s)
                cpu.append(1e3 * (time.thread_time() - worked))
                wall.append(1e3 * (time.monotonic() - began))
            time.sleep(max(0.0, BEAT_S - (time.monotonic() - began)))
    finally:
        session.close()
        sender.kill()
        sender.wait(5)
    kept = shown_s[WARM_UP:]
    sent = 1 + rate_hz * (kept[-1] - kept[0]) if len(kept) > 1 else 1.0
    return {"age": np.array(ages[WARM_UP:]), "cpu": np.array(cpu[WARM_UP:]), "wall": np.array(wall[WARM_UP:]),
            "skipped": max(0.0, 1 - len(kept) / sent)}


def _pair(values: np.ndarray) -> str:
    return f"{np.median(values):.1f} / {np.percentile(values, 95):.1f}" if len(values) else "none came"


def run(data_folder: Path | None = None) -> list[str]:
    """The section as lines of Markdown."""
    lines = ["## FusionNav: from socket to live slice", "",
             f"{FRAMES} pictures of {SIZE[0]}x{SIZE[1]} with the poses of probe and needle, {RATE_HZ:.0f} a second "
             "over loopback, into the session with a CT of 512x512x130 (oblique) and four structures; p50 / p95 in ms. "
             "Age: from the sender's stamp until the live slice, the CT cut in its plane and the outlines are in "
             f"Slicer's scene, beat {1e3 * BEAT_S:.0f} ms as in the panel (up to one beat of it is waiting). A beat: "
             "a beat that shows a picture, with the panel's numbers every third; without drawing. Skipped: pictures "
             "that a newer one overtook before they were shown; that, the age and the wall time depend on "
             "what else the machine does. Target: a beat in at most 50 ms of CPU.", "",
             "| shown | age at the slice | a beat, CPU | a beat, wall | pictures skipped |", "|---|---|---|---|---|"]
    for mode, title in (("blend", "blended"), ("checker", "checkerboard"), ("side", "side by side")):
        found = measure(RATE_HZ, mode)
        lines.append(f"| {title} | {_pair(found['age'])} | {_pair(found['cpu'])} | {_pair(found['wall'])} | "
                     f"{found['skipped']:.0%} |")
    return lines


if __name__ == "__main__":
    if sys.argv[1:2] == ["send"]:
        send(float(sys.argv[2]))
    else:
        print("\n".join(run()))
