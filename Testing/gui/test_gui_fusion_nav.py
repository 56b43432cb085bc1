"""The FusionNav panel on real Qt over the real scene, with real sockets: the sample's way, refusals, pulled plugs."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scene"))

PATIENCE_S = 60.0


@pytest.fixture
def panel(host):
    return host("FusionNav")


@pytest.fixture(scope="session")
def sample_pictures():
    """The sample's pictures with flat pixels: how ultrasound is simulated is tested elsewhere."""
    from IRAILib.scene import fusion_sample

    columns, rows = fusion_sample.size_px()
    return np.broadcast_to((40 + np.arange(fusion_sample.FRAMES, dtype=np.uint8))[:, None, None],
                           (fusion_sample.FRAMES, rows, columns))


@pytest.fixture
def sample(panel, tmp_path, monkeypatch, sample_pictures):
    """The panel after "Try the sample"."""
    from IRAILib.scene import fusion_sample

    monkeypatch.setattr(fusion_sample, "simulate_pictures", lambda *_args, **_kwargs: np.array(sample_pictures))
    monkeypatch.setattr(fusion_sample, "sample_folder", lambda: tmp_path)
    panel.ui.sampleButton.click()
    until(panel, lambda: panel.ui.statusLabel.text in ("GUIDING", "NEAR A STRUCTURE"), "guiding")
    return panel


def until(panel, condition, what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        ui = panel.ui
        assert time.monotonic() < end, (f"never: {what}; {ui.statusLabel.text} {ui.guideGaveLabel.text} "
                                        f"{ui.guideNeedsLabel.text} {ui.volumesNeedsLabel.text}")
        panel.process()
        time.sleep(0.005)


def session_of(panel):
    return panel.widget.logic.session


def cells(table, column: int) -> list[str]:
    return [table.item(row, column).text() for row in range(table.rowCount)]


def choose(selector, data) -> None:
    selector.setCurrentIndex(selector.findData(data))


def test_an_empty_panel_promises_nothing(panel) -> None:
    ui = panel.ui
    assert ui.statusLabel.text == "NOT CONNECTED"
    assert "not registered" in ui.treLabel.text
    assert not ui.breachLabel.text
    assert ui.linkGaveLabel.text == "Not connected"
    assert "Choose the volume" in ui.volumesNeedsLabel.text
    for button in (ui.registerButton, ui.recordButton, ui.planButton, ui.drrButton, ui.xrayRegisterButton,
                   ui.dsaButton, ui.pivotButton, ui.robotSendButton, ui.registerCancelButton):
        assert not button.enabled
    assert ui.chainTable.isHidden()
    assert ui.guideTable.isHidden()


def test_the_six_steps_are_there(panel) -> None:
    ui = panel.ui
    titles = [section.text for section in (ui.volumesCollapsibleButton, ui.linkCollapsibleButton,
                                           ui.registerCollapsibleButton, ui.planCollapsibleButton,
                                           ui.guideCollapsibleButton, ui.carmCollapsibleButton)]
    assert titles == ["1. Volumes", "2. Connect and calibrate", "3. Register", "4. Plan", "5. Guide", "6. C-arm"]


def test_one_click_from_nothing_to_guidance(sample) -> None:
    ui = sample.ui
    assert cells(ui.chainTable, 0) == ["Image", "Needle", "Probe", "Reference"]
    assert cells(ui.chainTable, 4) == ["OK"] * 4
    assert "Tip to target" in cells(ui.guideTable, 0)
    assert "±" in cells(ui.guideTable, 1)[0]
    assert ui.treLabel.text.startswith("TRE ")
    assert "1 held-out landmark" in ui.treLabel.text
    assert "Validated on" in ui.guideGaveLabel.text
    assert cells(ui.residualTable, 3).count("fitted") == 6
    assert cells(ui.residualTable, 3)[-1] == "held out"


def test_the_needle_on_screen_is_where_the_needle_was(sample) -> None:
    """Against the sample's truth, through file, socket, calibration and registration."""
    from IRAILib.scene.fusion_sample import TARGET_RAS, needle_poses

    _poses, tips = needle_poses()
    found = []

    def enough() -> bool:
        state = session_of(sample).state()
        if state.estimate.tip is not None:
            found.append(np.linalg.norm(tips - state.estimate.tip, axis=1).min())
            assert state.guidance.distance_mm == pytest.approx(np.linalg.norm(state.estimate.tip - TARGET_RAS), abs=0.1)
        return len(found) > 40

    until(sample, enough, "forty tips")
    assert max(found) < 2.0


def test_a_pulled_plug_greys_the_guidance_and_takes_its_numbers(sample) -> None:
    ui = sample.ui
    session_of(sample).server.close()
    until(sample, lambda: ui.statusLabel.text in ("NO GUIDANCE", "NOT CONNECTED"), "grey")
    until(sample, lambda: ui.guideTable.isHidden(), "the numbers are gone")
    assert not ui.breachLabel.text
    assert session_of(sample).views.dimmed
    assert session_of(sample).views.node("picture").GetAttribute("IRAI.Fusion.Status") == "STALE"
    until(sample, lambda: "OK" not in cells(ui.chainTable, 4)[1:3], "the table says which links are lost")


def test_a_calibration_of_another_setting_is_refused_in_the_panel(sample, tmp_path) -> None:
    document = json.loads((tmp_path / "IRAI_fusion_sample_probe.json").read_text())
    document["size_px"] = [100, 100]
    (tmp_path / "other.json").write_text(json.dumps(document))
    before = session_of(sample).live.calibration
    sample.ui.calibrationPathEdit.setCurrentPath(str(tmp_path / "other.json"))
    sample.ui.useCalibrationButton.click()
    assert "image size" in sample.ui.calibrateNeedsLabel.text
    assert session_of(sample).live.calibration is before
    until(sample, lambda: not session_of(sample).state().stale, "guidance goes on with the calibration of before")


def test_leaving_a_landmark_out_changes_the_fit_and_holding_out_all_is_refused(sample) -> None:
    ui = sample.ui
    ui.excludeLineEdit.setText("rib left")
    ui.registerButton.click()
    assert "left out" in cells(ui.residualTable, 3)
    before = session_of(sample).registration
    ui.holdOutLineEdit.setText("mark, navel, xiphoid, rib right")
    ui.registerButton.click()
    assert "at least" in ui.registerNeedsLabel.text
    assert session_of(sample).registration is before


def test_paths_are_proposed_chosen_and_follow_the_target(sample) -> None:
    import slicer

    ui = sample.ui
    ui.planButton.click()
    assert "paths that differ" in ui.planGaveLabel.text, ui.planNeedsLabel.text
    assert ui.proposalSelector.count >= 2
    parameters = sample.widget.panel.parameters
    line = parameters.plan
    first = line.GetNthControlPointPositionWorld(0)
    ui.proposalSelector.setCurrentIndex(1)
    assert parameters.plan is line
    assert np.linalg.norm(np.array(line.GetNthControlPointPositionWorld(0)) - first) > 10.0
    assert "Nearest structure" in cells(ui.pathTable, 0)
    ui.liveRankCheckBox.setChecked(True)
    sample.process()
    until(sample, lambda: sample.widget.panel.plan._target is not None, "the target is watched")
    target = parameters.target
    moved = np.array(target.GetNthControlPointPositionWorld(0)) + (0.0, 3.0, 2.0)
    target.SetNthControlPointPositionWorld(0, *moved)
    until(sample, lambda: np.allclose(line.GetNthControlPointPositionWorld(1), moved, atol=1e-6), "ranked again")
    assert len([n for n in slicer.util.getNodesByClass("vtkMRMLMarkupsLineNode")
                if n.GetAttribute("IRAI.Role") == "fusion.path"]) == ui.proposalSelector.count - 1


def test_a_target_in_a_structure_is_refused_and_the_paths_stay(sample) -> None:
    ui = sample.ui
    ui.planButton.click()
    titles = ui.proposalSelector.count
    sample.widget.panel.parameters.target.SetNthControlPointPositionWorld(0, 18.0, 6.0, -5.0)
    ui.planButton.click()
    assert "Vessels" in ui.planNeedsLabel.text
    assert ui.proposalSelector.count == titles


def test_near_and_breach_are_said_in_colour_and_sound(sample) -> None:
    from IRAILib.scene.fusion_guide import Obstacle

    ui, session = sample.ui, session_of(sample)
    until(sample, lambda: session.state().estimate.tip is not None, "the needle")
    from IRAILib.geometry import Grid, Mask, signed_distance
    from IRAILib.scene.fusion_sample import TARGET_RAS

    matrix = np.diag([4.0, 4.0, 4.0, 1.0])
    matrix[:3, 3] = TARGET_RAS - 100.0
    everywhere = np.ones((51, 51, 51), bool)
    everywhere[0] = False
    wall = Obstacle("Wall", signed_distance(Mask(everywhere, Grid((51, 51, 51), matrix), "Wall")))
    sample.widget.logic.readStructures = lambda _parameters: None
    session.obstacles = [wall]
    until(sample, lambda: ui.statusLabel.text == "BREACH", "BREACH")
    assert "inside Wall" in ui.breachLabel.text
    assert "c8102e" in ui.statusLabel.styleSheet
    until(sample, lambda: sample.widget.panel.guide.tones >= 2, "tones")
    ui.soundCheckBox.setChecked(False)
    sample.process()
    heard = sample.widget.panel.guide.tones
    time.sleep(0.6)
    sample.process()
    assert sample.widget.panel.guide.tones == heard


def test_every_way_to_show_two_pictures_and_every_eye(sample) -> None:
    from IRAILib.scene import fusion_views

    ui, views = sample.ui, session_of(sample).views
    for mode in fusion_views.MODES:
        choose(ui.modeSelector, mode)
        views._cut_s = float("-inf")
        count = session_of(sample).live.images
        until(sample, lambda count=count: session_of(sample).live.images > count + 2, "pictures")
        assert not ui.guideNeedsLabel.text, ui.guideNeedsLabel.text
    for eye in ("probe", "bullseye", "path"):
        choose(ui.eyeSelector, eye)
        sample.process()
        assert sample.widget.panel.parameters.eye == eye
        assert not sample.widget.panel.guide.eyeProblem
    assert views.node("fused").GetImageData().GetNumberOfScalarComponents() == 3


def test_record_play_the_session_and_save_it(sample, tmp_path) -> None:
    from IRAILib.images.sequences import read_sequence

    ui = sample.ui
    ui.recordButton.click()
    until(sample, lambda: (session_of(sample).recorder.count or 0) >= 12, "recorded frames")
    ui.stopRecordButton.click()
    assert "Recorded" in ui.recordGaveLabel.text
    ui.savePathEdit.setCurrentPath(str(tmp_path / "session.igs.mha"))
    ui.saveButton.click()
    assert "frames written" in ui.recordGaveLabel.text
    saved = read_sequence(tmp_path / "session.igs.mha")
    assert len(saved) >= 12
    assert saved.valid("NeedleToReference").all()
    ui.disconnectButton.click()
    session_of(sample).registration = None
    choose(ui.sourceSelector, "session")
    sample.process()
    ui.connectButton.click()
    until(sample, lambda: ui.statusLabel.text in ("GUIDING", "NEAR A STRUCTURE"), "the session guides as it did")


def test_no_file_no_address_no_session_is_said_in_one_line(panel) -> None:
    ui = panel.ui
    choose(ui.sourceSelector, "replay")
    panel.process()
    assert "Choose a recording" in ui.linkNeedsLabel.text
    assert not ui.connectButton.enabled
    choose(ui.sourceSelector, "session")
    panel.process()
    assert "Choose a session" in ui.linkNeedsLabel.text
    choose(ui.sourceSelector, "connect")
    ui.hostLineEdit.setText(" ")
    panel.process()
    assert "where the server is" in ui.linkNeedsLabel.text


def test_cancelling_the_sample_leaves_the_scene_as_it_was(panel, tmp_path, monkeypatch) -> None:
    import slicer
    from IRAILib.scene import fusion_sample

    monkeypatch.setattr(fusion_sample, "sample_folder", lambda: tmp_path)
    monkeypatch.setattr(panel.widget.panel.volumes.run, "cancelled", lambda: True)
    before = slicer.mrmlScene.GetNumberOfNodes()
    panel.ui.sampleButton.click()
    assert "Cancelled" in panel.ui.volumesNeedsLabel.text
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert not list(tmp_path.iterdir())


def test_closing_the_scene_while_everything_runs(sample) -> None:
    import slicer

    sample.ui.recordButton.click()
    slicer.mrmlScene.Clear(False)
    until(sample, lambda: sample.ui.statusLabel.text == "NOT CONNECTED", "disconnected")
    assert "not registered" in sample.ui.treLabel.text
    assert not slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    sample.ui.sampleButton.click()
    until(sample, lambda: sample.ui.statusLabel.text in ("GUIDING", "NEAR A STRUCTURE"), "guiding again")


def test_a_saved_session_opens_registered_and_disconnected(sample, tmp_path) -> None:
    import slicer

    error = session_of(sample).registration.error_mm
    assert slicer.util.saveScene(str(tmp_path / "fusion.mrb"))
    slicer.mrmlScene.Clear(False)
    sample.process()
    slicer.util.loadScene(str(tmp_path / "fusion.mrb"))
    sample.process()
    until(sample, lambda: sample.widget.panel.parameters.plan is not None, "the path")
    assert sample.ui.statusLabel.text == "NOT CONNECTED"
    assert session_of(sample).registration.error_mm == pytest.approx(error)
    assert sample.ui.linkGaveLabel.text == "Not connected"


def test_clean_up_leaves_no_thread_no_timer_no_observer(sample) -> None:
    parameters = sample.widget.panel.parameters
    sample.widget.cleanup()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("IRAI")]
    assert not sample.widget.panel.timer.active
    parameters.host = "elsewhere"
    assert sample.widget.panel.parameters is None


def test_leaving_the_module_keeps_the_link(sample) -> None:
    sample.exit()
    count = session_of(sample).live.images
    until(sample, lambda: session_of(sample).live.images > count + 3, "pictures go on")
    sample.enter()
    until(sample, lambda: sample.ui.statusLabel.text in ("GUIDING", "NEAR A STRUCTURE"), "still guiding")
