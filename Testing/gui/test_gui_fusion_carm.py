"""FusionNav's C-arm step and robot on real Qt: verdicts in words and colour, cancel, closing scenes."""

from __future__ import annotations

import time

import numpy as np
import pytest

PATIENCE_S = 60.0


def until(panel, condition, what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        panel.process()
        time.sleep(0.005)


@pytest.fixture
def xray(host):
    """The panel with a CT and an X-ray frame, nothing live."""
    from IRAILib.scene import fusion_carm, fusion_sample

    panel = host("FusionNav")
    parameters = panel.widget.panel.parameters
    parameters.volume1 = fusion_sample.add_sample_nodes().volume
    geometry = fusion_carm.geometry_for((40, 30), primary_deg=0, secondary_deg=0, source_to_detector_mm=1100,
                                        source_to_isocentre_mm=720, mm_per_px=8.0)
    pixels = np.random.default_rng(0).normal(100.0, 5.0, (30, 40)).astype(np.float32)
    parameters.xray = fusion_carm.add_frame("X", pixels, geometry, fusion_carm.isocentre_pose((0.0, 0.0, 0.0)))
    panel.process()
    return panel


@pytest.mark.parametrize(("accepted", "word", "colour"), [(True, "ACCEPTED", "d8f0dd"), (False, "REFUSED", "c8102e")])
def test_the_x_ray_verdict_stands_in_words_and_colour(xray, monkeypatch, accepted, word, colour) -> None:
    from IRAILib.scene import fusion_carm

    found = fusion_carm.XrayVerdict(accepted, f"{word}: because", (("Similarity", "0.50"),))
    monkeypatch.setattr(fusion_carm, "register_frame", lambda *_args, **_kwargs: found)
    assert xray.ui.xrayRegisterButton.enabled
    xray.ui.xrayRegisterButton.click()
    assert xray.ui.verdictLabel.text == f"{word}: because"
    assert colour in xray.ui.verdictLabel.styleSheet
    assert xray.ui.carmTable.item(0, 0).text() == "Similarity"
    assert xray.ui.xrayRegisterButton.enabled
    assert not xray.ui.xrayCancelButton.enabled


def test_cancelling_an_x_ray_run_is_said_and_the_buttons_come_back(xray, monkeypatch) -> None:
    """The run asks while it works; a click on Cancel ends it."""
    from IRAILib.geometry import CancelledError
    from IRAILib.scene import fusion_carm

    def run(*_args, progress, cancelled, **_kwargs):
        progress(0.3, "half way")
        assert xray.ui.xrayCancelButton.enabled
        assert not xray.ui.xrayRegisterButton.enabled
        assert xray.ui.xrayProgressLabel.text == "half way"
        xray.ui.xrayCancelButton.click()
        assert cancelled()
        raise CancelledError("cancelled")

    monkeypatch.setattr(fusion_carm, "register_frame", run)
    xray.ui.xrayRegisterButton.click()
    assert "Cancelled" in xray.ui.carmNeedsLabel.text
    assert not xray.ui.verdictLabel.text
    assert xray.ui.xrayRegisterButton.enabled
    assert xray.ui.xrayProgressBar.isHidden()


def test_a_single_frame_can_not_be_subtracted_and_a_scene_that_closes_ends_a_run(xray, monkeypatch) -> None:
    import slicer
    from IRAILib.geometry import CancelledError
    from IRAILib.scene import fusion_carm

    assert not xray.ui.dsaButton.enabled

    def run(*_args, cancelled, **_kwargs):
        slicer.mrmlScene.Clear(False)
        assert cancelled()
        raise CancelledError("cancelled")

    monkeypatch.setattr(fusion_carm, "register_frame", run)
    xray.ui.xrayRegisterButton.click()
    until(xray, lambda: xray.widget.panel.parameters is not None, "a new scene")
    assert xray.widget.panel.parameters.xray is None
    assert not xray.widget.panel.busy


def test_a_robot_that_is_not_there_is_said_and_nothing_is_sent(xray) -> None:
    ui = xray.ui
    assert not ui.robotSendButton.enabled
    ui.robotPortSpinBox.setValue(1)
    ui.robotConnectButton.click()
    until(xray, lambda: "no connection" in ui.robotLabel.text, "no connection")
    assert not ui.robotSendButton.enabled
    ui.robotStopButton.click()
    assert "own stop button" in ui.planNeedsLabel.text
    ui.robotConnectButton.click()
    assert xray.widget.logic.robot is None


def drawn(panel):
    """(points of the drawn path, number of its lines), or None."""
    import slicer
    from IRAILib.scene.fusion_carm import drawn_path

    node = drawn_path(slicer.mrmlScene)
    if node is None:
        return None
    mesh = node.GetPolyData()
    return np.array([mesh.GetPoint(n) for n in range(mesh.GetNumberOfPoints())]), mesh.GetNumberOfLines()


def test_the_path_on_a_registered_frame_has_its_band_and_follows_the_path(xray, monkeypatch) -> None:
    import slicer
    from IRAILib.scene import fusion_carm

    parameters = xray.widget.panel.parameters
    line = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "Path")
    for point in ((10.0, 20.0, 5.0), (0.0, 0.0, 0.0)):
        line.AddControlPoint(list(point))
    parameters.plan = line

    def register(_volume, frame, *_args, **_kwargs):
        frame.SetAttribute(fusion_carm.REGISTERED, "1.5")
        return fusion_carm.XrayVerdict(True, "ACCEPTED: because", ())

    monkeypatch.setattr(fusion_carm, "register_frame", register)
    xray.ui.xrayRegisterButton.click()
    before, lines = drawn(xray)
    assert lines == 4  # the path, both sides of its band, the tip
    assert "± 3.0 mm" in xray.ui.carmGaveLabel.text
    line.SetNthControlPointPosition(1, 20.0, 0.0, -10.0)
    until(xray, lambda: np.abs(drawn(xray)[0] - before).max() > 5.0, "the path drawn where it is now")
    slicer.mrmlScene.RemoveNode(parameters.xray)
    until(xray, lambda: drawn(xray) is None, "no path without its frame")


def test_the_isocentre_counts_until_the_frame_was_registered(xray) -> None:
    """Placed after the frame was loaded it is where the search begins; a found pose goes before it."""
    import slicer
    from IRAILib.scene import fusion_carm

    parameters, logic = xray.widget.panel.parameters, xray.widget.logic
    point = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Isocentre")
    point.AddControlPoint([10.0, -20.0, 30.0])
    parameters.isocentre = point
    np.testing.assert_allclose(logic.carmPose(parameters)[:3, 3], (-10.0, 20.0, -30.0))
    parameters.xray.SetAttribute(fusion_carm.REGISTERED, "1.0")
    np.testing.assert_allclose(logic.carmPose(parameters)[:3, 3], (0.0, 0.0, 0.0), atol=1e-9)
