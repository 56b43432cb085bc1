"""The AblationMargin panel on real Qt over the real scene: a user's way through it, and what may go wrong."""

from __future__ import annotations

import pathlib
import time

import pytest

RIGID, SAME_FRAME = 1, 0


@pytest.fixture
def panel(host):
    return host("AblationMargin")


@pytest.fixture
def still_case(panel):
    """A case whose scans share a frame, chosen in the panel."""
    from IRAILib.scene.sample import load_sample_case

    case, truth = load_sample_case(motion_mm=(0.0, 0.0, 0.0), rotation_deg=0.0)
    panel.module.AblationMarginLogic  # noqa: B018 (the module must have loaded)
    from AblationMarginLib.Parameters import rememberCase

    rememberCase(panel.widget.panel.parameters, case)
    panel.ui.modelSelector.setCurrentIndex(SAME_FRAME)
    panel.process()
    return case, truth


def shown(widget) -> bool:
    return not widget.isHidden()


def test_an_empty_scene_says_what_is_needed_and_offers_nothing_else(panel) -> None:
    ui = panel.ui
    assert "sample case" in ui.caseNeedsLabel.text
    assert not ui.registerButton.enabled
    assert not ui.marginButton.enabled
    assert not ui.reportButton.enabled
    assert not ui.cancelButton.enabled
    assert ui.sampleButton.enabled
    assert not shown(ui.trafficWidget)
    assert not shown(ui.acceptWidget)


def test_the_sample_case_fills_every_selector(panel) -> None:
    ui = panel.ui
    ui.sampleButton.click()
    panel.process()
    assert ui.preVolumeSelector.currentNode().GetName() == "Phantom before"
    assert ui.tumorSelector.currentNode().GetName() == "Before"
    assert ui.tumorSelector.combo.currentText == "Tumour"
    assert ui.ablationSelector.combo.currentText == "Ablation zone"
    assert ui.zoneGaveLabel.text == "Tumour 5.5 ml, Ablation zone 28.8 ml"
    assert ui.registerButton.enabled
    assert "Register" in ui.marginNeedsLabel.text


def test_choosing_in_the_panel_reaches_the_parameter_node_and_back(panel, still_case) -> None:
    parameters, ui = panel.widget.panel.parameters, panel.ui
    ui.tumorSelector.setCurrentSegmentID("")
    assert parameters.tumorSegmentID == ""
    assert "tumour" in ui.marginNeedsLabel.text.lower()
    ui.tumorSelector.setCurrentSegmentID(still_case[0].tumor.segment_id)
    assert parameters.tumorSegmentID == still_case[0].tumor.segment_id
    ui.thresholdSlider.setValue(7.5)
    assert parameters.thresholdMm == 7.5
    parameters.thresholdMm = 4.0
    assert ui.thresholdSlider.value == 4.0
    ui.preVolumeSelector.setCurrentNode(None)
    assert parameters.preVolume is None
    parameters.model = "rigid"
    assert ui.modelSelector.currentIndex == RIGID
    assert not ui.registerButton.enabled


def test_margin_without_motion_is_shown_in_words_bar_and_table(panel, still_case) -> None:
    ui = panel.ui
    assert ui.marginButton.enabled
    ui.marginButton.click()
    panel.process()
    assert "Minimal margin 1." in ui.marginHeadlineLabel.text or "Minimal margin 2." in ui.marginHeadlineLabel.text
    assert shown(ui.trafficWidget)
    assert not shown(ui.redLabel)
    assert ui.yellowLabel.text.endswith("%")
    rows = {ui.marginTable.item(row, 0).text(): ui.marginTable.item(row, 1).text()
            for row in range(ui.marginTable.rowCount)}
    assert rows["Tumour"] == "5.5 ml"
    assert float(rows["Minimal margin (MAM)"].split()[0]) == pytest.approx(still_case[1].true_mam_mm, abs=0.4)
    ui.thinnestButton.click()
    ui.thresholdSlider.setValue(8.0)
    assert "measure again" in ui.marginGaveLabel.text


def test_register_look_accept_measure_redo(panel) -> None:
    from IRAILib.scene.ablation import is_accepted

    ui = panel.ui
    ui.sampleButton.click()
    ui.modelSelector.setCurrentIndex(RIGID)
    ui.registerButton.click()
    panel.process()
    parameters = panel.widget.panel.parameters
    assert parameters.registration is not None
    assert not is_accepted(parameters.registration)
    assert "Accept" in ui.marginNeedsLabel.text
    assert ui.qualityTable.rowCount > 4
    ui.checkerboardButton.click()
    ui.fadeSlider.setValue(50.0)
    ui.acceptButton.click()
    assert is_accepted(parameters.registration)
    ui.marginButton.click()
    panel.process()
    assert parameters.margin is not None
    ui.redoButton.click()
    panel.process()
    assert parameters.registration is None
    assert parameters.margin is None
    assert ui.marginHeadlineLabel.text == ""


def test_cancel_ends_the_job_and_leaves_the_scene(panel) -> None:
    import slicer

    ui = panel.ui
    ui.sampleButton.click()
    panel.process()
    before = slicer.mrmlScene.GetNumberOfNodes()
    part = panel.widget.panel.register
    began, seen = time.monotonic(), []

    def press_when_running(share, text):
        seen.append(ui.cancelButton.enabled and not ui.registerButton.enabled and not ui.marginButton.enabled)
        ui.cancelButton.click()

    part.onProgress = press_when_running
    original = part.wasCancelled
    part.wasCancelled = lambda: original() or (time.monotonic() - began > 1.0 and press_when_running(0.0, ""))
    ui.registerButton.click()
    panel.process()
    assert "Cancelled" in ui.progressLabel.text
    assert seen[0]
    assert ui.registerButton.enabled
    assert not ui.cancelButton.enabled
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert panel.widget.panel.parameters.registration is None


def test_a_refusal_is_said_and_gives_no_number(panel, monkeypatch) -> None:
    from IRAILib.geometry import RefusedError

    ui = panel.ui
    ui.sampleButton.click()
    ui.modelSelector.setCurrentIndex(SAME_FRAME)

    def refuse(_parameters):
        raise RefusedError("no margin: the tumour's volume changes by 23 %")

    monkeypatch.setattr(panel.widget.logic, "measureMargin", refuse)
    ui.marginButton.click()
    panel.process()
    assert "23 %" in ui.marginNeedsLabel.text
    assert not shown(ui.trafficWidget)
    assert panel.widget.panel.parameters.margin is None


def test_clicks_make_a_segment(panel, still_case) -> None:
    import numpy as np
    import slicer

    ui, parameters = panel.ui, panel.widget.panel.parameters
    truth = still_case[1]
    parameters.tumorSegmentation, parameters.tumorSegmentID = None, ""
    assert not ui.segmentButton.enabled
    assert "inside" in ui.clicksNeedsLabel.text
    node = ui.insideSelector.addNode()
    middle = truth.tumor.grid.points_ras(np.argwhere(truth.tumor.array)).mean(axis=0)
    node.AddControlPoint(middle.tolist())
    panel.widget.panel.refresh()
    assert ui.segmentButton.enabled
    ui.segmentButton.click()
    panel.process()
    made = float(ui.zoneGaveLabel.text.split("ml")[0].split()[-1])
    assert made == pytest.approx(truth.tumor.volume_ml, rel=0.35)
    assert slicer.mrmlScene.GetFirstNodeByName("Before") is not None


def test_report_needs_a_margin_and_a_folder(panel, still_case, tmp_path) -> None:
    ui = panel.ui
    assert "Measure" in ui.reportNeedsLabel.text
    ui.marginButton.click()
    assert "folder" in ui.reportNeedsLabel.text
    ui.reportFolderSelector.setCurrentPath(str(tmp_path / "report"))
    assert panel.widget.panel.parameters.reportFolder == pathlib.Path(tmp_path / "report")
    assert ui.reportButton.enabled
    assert not ui.openReportButton.enabled
    ui.reportButton.click()
    panel.process()
    assert (tmp_path / "report" / "report.html").is_file()
    assert ui.openReportButton.enabled


def test_closing_the_scene_empties_the_panel(panel, still_case) -> None:
    import slicer

    panel.ui.marginButton.click()
    slicer.mrmlScene.Clear(False)
    panel.process()
    assert panel.ui.preVolumeSelector.currentNode() is None
    assert panel.ui.marginHeadlineLabel.text == ""
    assert panel.widget.panel.parameters is not None
    panel.ui.sampleButton.click()
    assert panel.ui.preVolumeSelector.currentNode() is not None


def test_leaving_and_coming_back_keeps_everything(panel, still_case) -> None:
    panel.exit()
    assert panel.widget.panel.parameters is None
    panel.enter()
    assert panel.ui.tumorSelector.currentSegmentID() == still_case[0].tumor.segment_id
    assert panel.ui.modelSelector.currentIndex == SAME_FRAME


def test_a_saved_scene_restores_the_panel(panel, still_case, tmp_path) -> None:
    import slicer

    ui = panel.ui
    ui.thresholdSlider.setValue(6.5)
    ui.marginButton.click()
    panel.process()
    headline, segment = ui.marginHeadlineLabel.text, ui.tumorSelector.currentSegmentID()
    assert slicer.util.saveScene(str(tmp_path / "case.mrb"))
    slicer.mrmlScene.Clear(False)
    panel.process()
    assert ui.marginHeadlineLabel.text == ""
    slicer.util.loadScene(str(tmp_path / "case.mrb"))
    panel.process()
    assert ui.thresholdSlider.value == 6.5
    assert ui.modelSelector.currentIndex == SAME_FRAME
    assert ui.tumorSelector.currentSegmentID() == segment
    assert ui.marginHeadlineLabel.text == headline
    assert shown(ui.trafficWidget)
    assert ui.marginButton.enabled


def test_clean_up_leaves_no_observer_behind(panel, still_case) -> None:
    parameters = panel.widget.panel.parameters
    panel.widget.cleanup()
    parameters.thresholdMm = 3.0
    assert panel.widget.panel.parameters is None
    assert panel.ui.thresholdSlider.value != 3.0
