"""The NeedleTracking panel on real Qt over the real scene, with real sockets: a user's way, and pulled plugs."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scene"))

PATIENCE_S = 20.0


@pytest.fixture
def panel(host, monkeypatch):
    """The panel, with a detector that finds a bright dot: what the network sees is tested elsewhere."""
    from IRAILib.scene import needle_session
    from needle_cases import DotDetector

    monkeypatch.setattr(needle_session, "make_detector", lambda _name: DotDetector())
    return host("NeedleTracking")


@pytest.fixture
def recording(tmp_path):
    from IRAILib.images.sequences import write_sequence
    from needle_cases import dot_recording

    sequence, tips, matrix = dot_recording()
    path = tmp_path / "dots.igs.mha"
    write_sequence(path, sequence)
    return path, tips, matrix


def until(panel, condition, what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"never: {what}; {panel.ui.liveNeedsLabel.text} {panel.ui.linkGaveLabel.text}"
        panel.process()
        time.sleep(0.01)


def play(panel, path) -> None:
    panel.ui.sourceSelector.setCurrentIndex(1)
    panel.ui.recordingPathEdit.setCurrentPath(str(path))
    panel.ui.loopCheckBox.setChecked(True)
    panel.ui.connectButton.click()
    until(panel, lambda: panel.ui.linkGaveLabel.text.startswith("Connected"), "connected to the replay")


def test_an_empty_panel_promises_nothing(panel) -> None:
    ui = panel.ui
    assert ui.statusLabel.text == "NOT TRACKING"
    assert ui.linkGaveLabel.text == "Not connected"
    assert not ui.startButton.enabled
    assert not ui.recordButton.enabled
    assert not ui.deadManButton.enabled
    assert ui.emergencyStopButton.enabled
    assert not ui.emergencyStopButton.isHidden()


def test_a_recording_is_followed_to_the_right_place(panel, recording) -> None:
    path, tips, matrix = recording
    ui = panel.ui
    play(panel, path)
    assert ui.startButton.enabled
    ui.startButton.click()
    until(panel, lambda: ui.statusLabel.text == "SEEN", "SEEN")
    until(panel, lambda: len(panel.widget.logic.session.log) > 5, "five tips")
    truth = np.array([matrix[:3, :3] @ (x, y, 0.0) + matrix[:3, 3] for x, y in tips])
    seen = [e.tip for e in panel.widget.logic.session.log if e.tip is not None]
    assert max(np.linalg.norm(truth - tip, axis=1).min() for tip in seen) < 1.0
    assert "0.4 x 0.25 mm" in ui.scaleGaveLabel.text
    assert "Validated on" in ui.sigmaLabel.text
    assert "infer" in ui.budgetLabel.text
    ui.stopButton.click()
    assert ui.statusLabel.text == "NOT TRACKING"


def test_the_plan_is_measured_and_old_numbers_go(panel, recording) -> None:
    path, _tips, matrix = recording
    ui = panel.ui
    line = ui.planSelector.addNode()
    assert "both of its points" in ui.planNeedsLabel.text
    target = matrix[:3, :3] @ (100.0, 60.0, 0.0) + matrix[:3, 3]
    for point in (matrix[:3, 3], target):
        line.AddControlPoint([float(v) for v in point])
    play(panel, path)
    ui.startButton.click()
    until(panel, lambda: not ui.planTable.isHidden(), "a distance")
    assert ui.planTable.item(0, 0).text() == "Tip to target"
    panel.widget.logic.session.server.close()
    until(panel, lambda: ui.statusLabel.text.startswith("LOST"), "LOST after the plug was pulled")
    until(panel, lambda: ui.planTable.isHidden(), "the numbers of before are gone")
    until(panel, lambda: ui.linkGaveLabel.text.startswith("No connection"),
          "the panel says that the connection is gone")
    assert ui.disconnectButton.enabled
    ui.disconnectButton.click()
    assert ui.linkGaveLabel.text == "Not connected"


def test_without_a_scale_mm_are_refused_until_the_user_gives_one(panel, tmp_path) -> None:
    from IRAILib.images.sequences import write_sequence
    from needle_cases import dot_recording

    path = tmp_path / "pixels.igs.mha"
    write_sequence(path, dot_recording(scale=False)[0])
    ui = panel.ui
    play(panel, path)
    ui.startButton.click()
    until(panel, lambda: ui.statusLabel.text == "SEEN", "SEEN")
    until(panel, lambda: "no mm are given" in ui.scaleNeedsLabel.text, "mm refused")
    assert " px " in ui.sigmaLabel.text
    ui.scaleSpinBox.setValue(0.2)
    ui.startButton.click()
    until(panel, lambda: "from the user" in ui.scaleGaveLabel.text, "the user's scale")
    until(panel, lambda: " mm " in ui.sigmaLabel.text, "mm")


def test_a_live_server_that_goes_and_comes_back(panel) -> None:
    import slicer
    from IRAILib.link.messages import Transform
    from IRAILib.link.server import LinkServer
    from IRAILib.scene.link_status import status_of

    server = LinkServer(0).start()
    port = server.port
    ui = panel.ui
    ui.sourceSelector.setCurrentIndex(0)
    ui.portSpinBox.setValue(port)
    ui.connectButton.click()

    def sent():
        server.send(Transform(np.eye(4), device="NeedleToTracker"))
        node = slicer.mrmlScene.GetFirstNode("NeedleToTracker", "vtkMRMLLinearTransformNode")
        return node is not None and status_of(node) == "OK"

    until(panel, sent, "a pose")
    server.close()
    node = slicer.mrmlScene.GetFirstNode("NeedleToTracker", "vtkMRMLLinearTransformNode")
    until(panel, lambda: status_of(node) == "LOST", "lost")
    server = LinkServer(port).start()
    try:
        until(panel, sent, "back again, in the same node")
    finally:
        server.close()
    assert slicer.mrmlScene.GetNodesByName("NeedleToTracker").GetNumberOfItems() == 1


def test_each_modality_asks_for_what_it_needs(panel) -> None:
    """Volumes want a volume, ultrasound and X-ray a scale, MR slices offer the scan planes."""
    ui = panel.ui
    shown = {}
    for index in range(ui.modalitySelector.count):
        ui.modalitySelector.setCurrentIndex(index)
        panel.process()
        widgets = (ui.volumeSelector, ui.detectorSelector, ui.scaleSpinBox, ui.planesCheckBox, ui.statusLabel)
        shown[ui.modalitySelector.itemText(index)] = "".join("-x"[not w.isHidden()] for w in widgets)
    assert shown == {"Ultrasound, live": "-xx-x", "MR slices, live": "---xx", "CT slices, live": "----x",
                     "Fluoroscopy, live": "--x-x", "CT volume": "x----", "MR volume": "x----"}
    assert ui.startButton.text == "Find needles"
    assert not ui.startButton.enabled


def test_a_scanner_gets_its_planes_from_the_panel(panel) -> None:
    """MR slices over a socket, two clicks: the needle is SEEN and three planes come back."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "library"))
    from IRAILib.link.messages import Image
    from IRAILib.link.server import LinkServer
    from needle_live_cases import ENTRY, WAY, first_plane, mr_slice

    ui = panel.ui
    with LinkServer() as scanner:
        ui.portSpinBox.setValue(scanner.port)
        ui.modalitySelector.setCurrentIndex(1)
        ui.planesCheckBox.setChecked(True)
        ui.connectButton.click()
        until(panel, lambda: bool(scanner.clients()), "connected")
        ui.startButton.click()
        array, matrix = mr_slice(first_plane(), ENTRY + 66.0 * WAY, np.random.default_rng(0))
        names = set()

        def answered():
            scanner.send(Image(array=array, ras_from_ijk=matrix, device="MR", time_s=time.time()))
            time.sleep(0.05)
            names.update(m.device for m in scanner.drain())
            return {"PLANE_0", "PLANE_1", "PLANE_2"} <= names

        until(panel, answered, "planes")
        until(panel, lambda: answered() and ui.statusLabel.text == "SEEN", "SEEN")
        assert ui.planesLabel.text.startswith("Scan planes sent: ")


def test_record_and_save(panel, recording, tmp_path) -> None:
    import slicer
    from IRAILib.needle.tips import read_tips

    ui = panel.ui
    play(panel, recording[0])
    ui.startButton.click()
    until(panel, lambda: ui.statusLabel.text == "SEEN", "SEEN")
    ui.recordButton.click()
    until(panel, lambda: (panel.widget.logic.session.recorder.count or 0) > 3, "recorded frames")
    ui.stopRecordButton.click()
    assert "Recorded" in ui.recordGaveLabel.text
    assert len(slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")) == 1
    ui.tipsPathEdit.setCurrentPath(str(tmp_path / "tips.csv"))
    ui.saveTipsButton.click()
    table, units = read_tips(tmp_path / "tips.csv")
    assert units == "mm"
    assert len(table["time_s"]) > 3


def test_no_recording_is_said_in_one_line(panel) -> None:
    panel.ui.sourceSelector.setCurrentIndex(1)
    panel.process()
    assert "Choose a recording" in panel.ui.linkNeedsLabel.text
    assert not panel.ui.connectButton.enabled


@pytest.fixture
def robot(panel):
    from IRAILib.link.robot.simulator import RobotSimulator

    with RobotSimulator() as simulator:
        panel.ui.robotPortSpinBox.setValue(simulator.port)
        panel.ui.robotConnectButton.click()
        until(panel, lambda: "Robot: " in panel.ui.robotStateLabel.text and panel.ui.deadManButton.enabled,
              "the robot")
        yield simulator


def start_up(panel) -> None:
    panel.ui.phaseSelector.setCurrentIndex(0)
    until(panel, lambda: panel.ui.phaseButton.enabled, "START_UP allowed")
    panel.ui.phaseButton.click()
    until(panel, lambda: "START_UP" in panel.ui.robotStateLabel.text, "START_UP")


@pytest.mark.parametrize("way", ["click", "key"])
def test_emergency_stop_by_one_click_or_one_key(panel, robot, way) -> None:
    ui = panel.ui
    start_up(panel)
    if way == "click":
        ui.emergencyStopButton.click()
    else:
        panel.widget.panel.robot.shortcut.activated.emit()
    until(panel, lambda: robot.phase.value == "EMERGENCY", "the robot stopped")
    until(panel, lambda: "confirmed it and stays locked" in ui.emergencyLabel.text, "the panel says so")
    ui.phaseSelector.setCurrentIndex(4)
    panel.process()
    assert not ui.phaseButton.enabled
    ui.resetEmergencyButton.click()
    until(panel, lambda: not ui.emergencyLabel.text, "unlocked")


def test_the_key_is_f12_and_goes_with_the_module(panel) -> None:
    part = panel.widget.panel.robot
    assert part.shortcut.key.toString() == "F12"
    panel.widget.cleanup()
    assert part.shortcut is None


def test_a_stop_without_a_connection_says_so(panel, robot) -> None:
    robot.close()
    until(panel, lambda: "no connection" in panel.ui.robotStateLabel.text, "the robot's plug is pulled")
    panel.ui.emergencyStopButton.click()
    assert "Use the robot's own stop button" in panel.ui.robotNeedsLabel.text
    assert "NO CONNECTION" in panel.ui.emergencyLabel.text


def test_tips_go_out_only_while_the_switch_is_held(panel, robot) -> None:
    link, ui = panel.widget.logic.robot, panel.ui
    assert not link.forwarder.held
    ui.deadManButton.setDown(True)
    ui.deadManButton.pressed.emit()
    until(panel, lambda: link.forwarder.held, "held")
    end = time.monotonic() + 1.0
    while time.monotonic() < end:  # longer than the switch lasts without being confirmed
        panel.process()
        time.sleep(0.01)
    assert link.forwarder.held
    ui.deadManButton.setDown(False)
    ui.deadManButton.released.emit()
    assert not link.forwarder.held


def test_a_window_that_hangs_lets_go(panel, robot) -> None:
    link, ui = panel.widget.logic.robot, panel.ui
    ui.deadManButton.setDown(True)
    ui.deadManButton.pressed.emit()
    time.sleep(link.forwarder.limits.held_s + 0.2)
    assert not link.forwarder.held


def test_leaving_the_module_lets_go_and_keeps_the_stop(panel, robot) -> None:
    link, ui = panel.widget.logic.robot, panel.ui
    ui.deadManButton.setDown(True)
    ui.deadManButton.pressed.emit()
    ui.deadManButton.setDown(False)
    panel.exit()
    assert not link.forwarder.held
    panel.widget.panel.robot.shortcut.activated.emit()
    until(panel, lambda: robot.phase.value == "EMERGENCY", "stopped from another module")


def test_closing_the_scene_while_everything_runs(panel, recording) -> None:
    import slicer

    ui = panel.ui
    play(panel, recording[0])
    ui.startButton.click()
    until(panel, lambda: ui.statusLabel.text == "SEEN", "SEEN")
    ui.recordButton.click()
    slicer.mrmlScene.Clear(False)
    until(panel, lambda: ui.linkGaveLabel.text == "Not connected", "disconnected")
    assert ui.statusLabel.text == "NOT TRACKING"
    assert not slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    play(panel, recording[0])
    ui.startButton.click()
    until(panel, lambda: ui.statusLabel.text == "SEEN", "SEEN again")


def test_a_saved_live_scene_restores_the_panel_disconnected(panel, recording, tmp_path) -> None:
    import slicer
    from IRAILib.scene.link_status import status_of

    ui = panel.ui
    play(panel, recording[0])
    ui.startButton.click()
    until(panel, lambda: ui.statusLabel.text == "SEEN", "SEEN")
    assert slicer.util.saveScene(str(tmp_path / "live.mrb"))
    slicer.mrmlScene.Clear(False)
    panel.process()
    slicer.util.loadScene(str(tmp_path / "live.mrb"))
    panel.process()
    assert ui.sourceSelector.currentIndex == 1
    assert ui.recordingPathEdit.currentPath == str(recording[0])
    assert ui.linkGaveLabel.text == "Not connected"
    assert ui.statusLabel.text == "NOT TRACKING"
    assert status_of(slicer.mrmlScene.GetFirstNode("ProbeToReference", "vtkMRMLLinearTransformNode")) == "LOST"


def test_clean_up_leaves_no_thread_and_no_observer(panel, recording) -> None:
    import threading

    play(panel, recording[0])
    panel.ui.startButton.click()
    until(panel, lambda: panel.ui.statusLabel.text == "SEEN", "SEEN")
    parameters = panel.widget.panel.parameters
    panel.widget.cleanup()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("IRAI")]
    assert not panel.widget.panel.timer.active
    parameters.host = "elsewhere"
    assert panel.widget.panel.parameters is None
