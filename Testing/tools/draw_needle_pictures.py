"""Draws the pictures of Docs/NeedleTracking.md from the simulated sample: panel on real Qt, views from real Slicer.

    python Testing/tools/draw_needle_pictures.py [auto|network|classical]    # needs slicer-core and PySide6-Essentials
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "Docs" / "images"
PANEL_WIDTH = 440
PATIENCE_S = 180.0
VIEW = 480

sys.path.insert(0, str(ROOT / "Testing" / "gui"))
sys.path.insert(0, str(ROOT / "Testing" / "tools"))
sys.path.insert(0, str(ROOT / "Testing" / "library"))


def main() -> None:
    from IRAILib import headless

    headless.start()
    import pythonqt

    pythonqt.install()
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        host = pythonqt.ModuleHost("NeedleTracking", PANEL_WIDTH)
        host.enter()
        host.widget.panel.parameters.detector = (sys.argv[1:] or ["auto"])[0]
        try:
            draw(host, Path(name))
        finally:
            host.close()


def draw(host, work: Path) -> None:
    """What the tutorial does: the sample, seen, recorded, then the plug is pulled."""
    ui, logic = host.ui, host.widget.logic
    ui.sampleButton.click()
    until(host, lambda: ui.statusLabel.text == "SEEN" and not ui.planTable.isHidden(), "the needle seen")
    panel(host, work, "link", {"link", "modality"})
    until(host, lambda: ui.statusLabel.text == "SEEN" and not ui.planTable.isHidden(), "the needle seen")
    for _ in range(30):  # the picture itself takes time: again, until the needle is seen on it
        until(host, lambda: ui.statusLabel.text == "SEEN" and not ui.planTable.isHidden(), "the needle seen")
        panel(host, work, "live", {"live", "plan"})
        if ui.statusLabel.text == "SEEN":
            break
    until(host, lambda: ui.statusLabel.text == "SEEN", "the needle seen")
    views(logic.session, work, "seen")
    ui.disconnectButton.click()
    until(host, lambda: not logic.session.connected, "disconnected")
    logic.trySample(host.widget.panel.parameters)
    until(host, lambda: ui.statusLabel.text == "SEEN", "the needle seen again")
    logic.session.server.close()
    until(host, lambda: ui.statusLabel.text.startswith("LOST"), "the needle lost")
    views(logic.session, work, "lost")
    panel(host, work, "lost", {"live"})
    robot_panel(host, work)
    mr_panel(host, work)


def mr_panel(host, work: Path) -> None:
    """A simulated scanner that takes its slices where PLANE_0 and PLANE_1 say, by turns."""
    from IRAILib.link.messages import Image
    from IRAILib.link.server import LinkServer
    from needle_live_cases import ENTRY, WAY, first_plane, mr_slice

    ui, logic = host.ui, host.widget.logic
    ui.disconnectButton.click()
    rng, plane, asked = np.random.default_rng(3), first_plane(), {}
    with LinkServer() as scanner:
        parameters = host.widget.panel.parameters
        parameters.plan, parameters.source, parameters.modality = None, "connect", "MR-live"
        parameters.host, parameters.port, parameters.sendPlanes = "127.0.0.1", scanner.port, True
        ui.connectButton.click()
        until(host, lambda: bool(scanner.clients()), "the scanner")
        ui.startButton.click()
        for number in range(9):
            array, matrix = mr_slice(plane, ENTRY + (60.0 + 2.0 * number) * WAY, rng)
            scanner.send(Image(array=array, ras_from_ijk=matrix, device="MR", time_s=time.time()))
            frames = logic.session.stream.frames
            until(host, lambda frames=frames: logic.session.stream.frames > frames, "a slice")
            for _ in range(10):
                host.process()
                time.sleep(0.01)
            asked.update({message.device: message.matrix for message in scanner.drain()})
            plane = np.asarray(asked.get(f"PLANE_{number % 2}", plane), float)

        def again() -> bool:
            scanner.send(Image(array=array, ras_from_ijk=matrix, device="MR", time_s=time.time()))
            time.sleep(0.1)
            return ui.statusLabel.text == "SEEN"

        until(host, again, "the needle seen in MR")
        views(logic.session, work, "mr")
        until(host, again, "the needle seen in MR")
        panel(host, work, "mr", {"modality", "live"})


def robot_panel(host, work: Path) -> None:
    """The robot step with our own simulated robot, stopped."""
    from IRAILib.link.robot.simulator import RobotSimulator

    ui = host.ui
    with RobotSimulator() as robot:
        ui.robotPortSpinBox.setValue(robot.port)
        ui.robotConnectButton.click()
        until(host, lambda: ui.deadManButton.enabled, "the robot")
        ui.emergencyStopButton.click()
        until(host, lambda: "confirmed it and stays" in ui.emergencyLabel.text, "the robot stopped")
        panel(host, work, "robot", {"robot"})
        ui.robotDisconnectButton.click()


def until(host, condition, what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"never: {what}; no further picture was drawn")
        host.process()
        time.sleep(0.01)


def panel(host, work: Path, name: str, opened: set[str]) -> None:
    """One picture of the panel, the other steps folded."""
    from draw_docs_pictures import compress

    for step in ("link", "modality", "live", "plan", "record", "robot"):
        getattr(host.ui, f"{step}CollapsibleButton").setCollapsed(step not in opened)
    compress(host.picture(work / f"{name}.png", PANEL_WIDTH), f"needle_panel_{name}.png")


def views(session, work: Path, name: str) -> None:
    """The slice that the picture lies in, and the needle in 3D."""
    import slicer
    from draw_docs_pictures import compress
    from IRAILib.headless.views import SliceView, ThreeDView
    from IRAILib.scene.needle import image_to_ras

    pictures = [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
                if node.GetAttribute("IRAI.Link.Type") == "IMAGE" and node.GetImageData() is not None]
    volume = next((node for node in pictures if node.GetName() == "MR" and name == "mr"), pictures[0])
    matrix = image_to_ras(volume)
    columns, rows, _ = volume.GetImageData().GetDimensions()
    middle = matrix[:3, :3] @ ((columns - 1) / 2, (rows - 1) / 2, 0.0) + matrix[:3, 3]
    right, down = (matrix[:3, axis] / np.linalg.norm(matrix[:3, axis]) for axis in (0, 1))
    width_mm = columns * np.linalg.norm(matrix[:3, 0])
    nodes = [*session.view.existing(), *([session.plan] if session.plan is not None else [])]
    with SliceView("Axial", (VIEW, round(VIEW * rows / columns)), letters=False) as view:
        view.show(volume)
        view.node.SetSliceToRASByNTP(*np.cross(right, -down), *right, *middle, 0)
        view.centre_on(middle).field_of_view(width_mm).show_only(*nodes)
        compress(view.save(work / f"slice_{name}.png"), f"needle_slice_{name}.png")
        if name != "seen":
            return
        view.node.SetSliceVisible(True)
        view.image()
        with ThreeDView((VIEW, 360)) as scene:
            scene.look_from(-np.cross(right, down) + 0.6 * right - 0.3 * down, -down).target(middle, 0.42 * width_mm)
            compress(scene.save(work / "threed.png"), "needle_threed.png")


if __name__ == "__main__":
    main()
