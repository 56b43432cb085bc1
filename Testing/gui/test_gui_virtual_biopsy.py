"""The VirtualBiopsy panel on real Qt over the real scene: a user's way through it, and what may go wrong."""

from __future__ import annotations

import re
import time

import pytest

PATIENTS = 6


@pytest.fixture(scope="session")
def painted_table(qt_app, tmp_path_factory):
    from IRAILib.scene import biopsy_sample
    from IRAILib.scene.biopsy_features import settings_for

    return biopsy_sample.make_cohort(tmp_path_factory.mktemp("painted"), settings_for("ct"), PATIENTS)


@pytest.fixture
def panel(host, monkeypatch, painted_table, tmp_path):
    from IRAILib.scene import biopsy_sample

    monkeypatch.setattr(biopsy_sample, "sample_cohort", lambda *_args, **_kwargs: painted_table)
    monkeypatch.setattr(biopsy_sample, "sample_folder", lambda: tmp_path)
    return host("VirtualBiopsy")


@pytest.fixture
def sample(panel):
    """The panel after "Try the sample"."""
    panel.ui.sampleButton.click()
    panel.process()
    return panel


def parameters_of(panel):
    return panel.widget.panel.parameters


def fields_of(panel):
    return panel.widget.panel.scores.fields


def cells(table, column: int) -> list[str]:
    return [table.item(row, column).text() for row in range(table.rowCount)]


def choose(selector, data) -> None:
    selector.setCurrentIndex(selector.findData(data))


def node_count() -> int:
    import slicer

    return slicer.mrmlScene.GetNumberOfNodes()


def test_an_empty_panel_says_what_is_needed_and_promises_nothing(panel) -> None:
    ui = panel.ui
    assert "try the sample" in ui.lesionNeedsLabel.text
    for button in (ui.measureButton, ui.shellButton, ui.habitatsButton, ui.extractButton, ui.stabilityButton,
                   ui.cohortButton, ui.scoreButton, ui.predictButton, ui.trainButton, ui.reportButton,
                   ui.featuresCancelButton, ui.trainCancelButton, ui.openReportButton, ui.showSourceButton):
        assert not button.enabled
    assert ui.sampleButton.enabled
    for table in (ui.lesionTable, ui.featureTable, ui.scoreTable, ui.predictionTable, ui.trainTableWidget):
        assert table.isHidden()


def test_the_sample_is_measured_and_fills_the_selectors(sample) -> None:
    ui = sample.ui
    assert ui.volumeSelector.currentNode().GetName() == "Synthetic liver (SYNTHETIC)"
    assert ui.lesionSelector.combo.currentText == "Lesion"
    assert cells(ui.lesionTable, 0)[0] == "Volume"
    assert float(cells(ui.lesionTable, 1)[0].split()[0]) == pytest.approx(5.5, abs=0.3)
    assert "outline's own error is not known" in ui.lesionGaveLabel.text
    assert ui.targetSelector.itemData(ui.targetSelector.currentIndex) == "response"
    assert ui.trainButton.enabled


def test_shell_and_habitats_become_segments_that_features_can_be_measured_of(sample) -> None:
    ui = sample.ui
    ui.shellOuterSpinBox.setValue(6.0)
    ui.shellButton.click()
    ui.habitatsSpinBox.setValue(2)
    ui.habitatsButton.click()
    sample.process()
    assert cells(ui.regionsTable, 0) == ["Shell 0 to 6 mm", "Habitat 1", "Habitat 2"]
    choices = [ui.regionSelector.itemText(n) for n in range(ui.regionSelector.count)]
    assert choices == ["Lesion", "Shell 0 to 6 mm", "Habitat 1", "Habitat 2"]
    choose(ui.regionSelector, ui.regionSelector.itemData(2))
    ui.extractButton.click()
    sample.process()
    assert "Habitat 1" in ui.featuresGaveLabel.text
    choose(ui.regionSelector, "")
    assert "extract again for" in ui.featuresNeedsLabel.text


def test_features_percentiles_and_search(sample) -> None:
    ui = sample.ui
    ui.extractButton.click()
    sample.process()
    assert re.match(r"\d{3} features of ", ui.featuresGaveLabel.text)
    assert ui.cohortButton.enabled
    ui.cohortButton.click()
    assert f"Compared with {PATIENTS} other patients" in ui.featuresGaveLabel.text
    ui.findLineEdit.setText("sphericity")
    names = cells(ui.featureTable, 0)
    assert names
    assert all("phericity" in name for name in names)
    assert re.fullmatch(rf"\d+ \({PATIENTS}\)", cells(ui.featureTable, 3)[0])
    ui.cohortPatientLineEdit.setText("nobody")
    ui.cohortButton.click()
    assert "nobody" in ui.featuresNeedsLabel.text
    assert f"Compared with {PATIENTS}" in ui.featuresGaveLabel.text, "the earlier comparison stays"


def test_cancel_ends_the_extraction_and_leaves_the_scene(sample) -> None:
    ui, before, seen = sample.ui, node_count(), []
    run = sample.widget.panel.features.run
    original = run.cancelled

    def press() -> bool:
        seen.append(ui.featuresCancelButton.enabled and not ui.extractButton.enabled and not ui.sampleButton.enabled)
        ui.featuresCancelButton.click()
        return original()

    run.cancelled = press
    ui.extractButton.click()
    sample.process()
    assert seen[0]
    assert "Cancelled" in ui.featuresNeedsLabel.text
    assert node_count() == before
    assert ui.extractButton.enabled
    assert not ui.featuresCancelButton.enabled


def test_a_scene_closed_while_features_run_ends_the_job(sample) -> None:
    import slicer

    run, closed = sample.widget.panel.features.run, []
    original = run.cancelled

    def close_once() -> bool:
        if not closed:
            closed.append(time.monotonic())
            slicer.mrmlScene.Clear(False)
        return original()

    run.cancelled = close_once
    sample.ui.extractButton.click()
    sample.process()
    assert time.monotonic() - closed[0] < 20.0
    assert not [node for node in slicer.util.getNodesByClass("vtkMRMLTextNode") if node.GetAttribute("IRAI.Role")]
    assert parameters_of(sample) is not None
    assert parameters_of(sample).features is None
    assert sample.ui.sampleButton.enabled
    sample.ui.sampleButton.click()
    assert sample.ui.volumeSelector.currentNode() is not None


def test_a_lesion_deleted_while_features_run_is_told(sample) -> None:
    import slicer

    run, gone = sample.widget.panel.features.run, []
    original = run.cancelled

    def delete_once() -> bool:
        if not gone:
            gone.append(True)
            slicer.mrmlScene.RemoveNode(parameters_of(sample).lesionSegmentation)
        return original()

    run.cancelled = delete_once
    sample.ui.extractButton.click()
    sample.process()
    assert "deleted while the job ran" in sample.ui.featuresNeedsLabel.text
    assert parameters_of(sample).features is None
    assert not sample.ui.extractButton.enabled
    assert "Choose the lesion" in sample.ui.lesionNeedsLabel.text


def test_a_changed_lesion_puts_the_results_out_of_date(sample) -> None:
    import numpy as np
    import slicer
    from IRAILib.scene.nodes import SegmentRef, mask_from_segment
    from IRAILib.scene.write import oriented_image

    sample.ui.extractButton.click()
    parameters = parameters_of(sample)
    ref = SegmentRef(parameters.lesionSegmentation, parameters.lesionSegmentID)
    mask = mask_from_segment(ref)
    smaller = mask.array.copy()
    smaller[: int(np.flatnonzero(smaller.any(axis=(1, 2))).mean())] = False
    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(
        oriented_image(mask.grid, smaller), ref.node, ref.segment_id)
    sample.exit()
    sample.enter()
    assert "Out of date" in sample.ui.lesionNeedsLabel.text
    assert "Out of date" in sample.ui.featuresNeedsLabel.text
    sample.ui.measureButton.click()
    assert not sample.ui.lesionNeedsLabel.text


def test_a_score_asks_for_units_and_never_guesses_them(panel) -> None:
    ui = panel.ui
    choose(ui.scoreSelector, "child-pugh")
    panel.process()
    assert not ui.scoreButton.enabled
    fields = fields_of(panel)
    assert fields["bilirubin"][2].itemText(0) == "unit?"
    for name, text in (("bilirubin", "2"), ("albumin", "3.0"), ("inr", "1.8")):
        fields[name][1].setText(text)
    choose(fields["ascites"][2], "mild")
    choose(fields["encephalopathy"][2], "none")
    ui.scoreButton.click()
    assert "needs one: mg/dL or umol/L" in ui.scoreNeedsLabel.text
    assert ui.scoreResultLabel.isHidden()
    choose(fields["bilirubin"][2], "mg/dL")
    choose(fields["albumin"][2], "g/dL")
    ui.scoreButton.click()
    assert ui.scoreResultLabel.text == "Child-Pugh: 9 points, B"
    assert "Pugh RN" in ui.scoreGaveLabel.text
    fields["bilirubin"][1].setText("1.5")
    assert "work it out again" in ui.scoreNeedsLabel.text
    ui.scoreButton.click()
    assert ui.scoreResultLabel.text == "Child-Pugh: 8 points, B"


def test_what_was_typed_serves_the_next_score_and_survives_the_scene_file(panel, tmp_path) -> None:
    import slicer

    ui = panel.ui
    choose(ui.scoreSelector, "meld-na")
    for name, text, unit in (("bilirubin", "2", "mg/dL"), ("creatinine", "1.5", "mg/dL"), ("inr", "1.5", None),
                             ("sodium", "130", "mmol/L")):
        fields_of(panel)[name][1].setText(text)
        if unit:
            choose(fields_of(panel)[name][2], unit)
    ui.scoreButton.click()
    assert ui.scoreResultLabel.text == "MELD-Na (OPTN 2016): 22 points"
    choose(ui.scoreSelector, "meld")
    assert fields_of(panel)["creatinine"][1].text == "1.5"
    ui.scoreButton.click()
    assert ui.scoreResultLabel.text.endswith(": 17 points")
    assert slicer.util.saveScene(str(tmp_path / "scores.mrb"))
    slicer.mrmlScene.Clear(False)
    panel.process()
    assert not ui.scoreButton.enabled
    slicer.util.loadScene(str(tmp_path / "scores.mrb"))
    panel.process()
    assert ui.scoreResultLabel.text.endswith(": 17 points")
    choose(ui.scoreSelector, "meld-na")
    assert ui.scoreResultLabel.text == "MELD-Na (OPTN 2016): 22 points"


def test_every_score_has_a_form_with_a_field_for_each_input(panel) -> None:
    from IRAILib.biopsy.scores import SCORES

    for name, score in SCORES.items():
        choose(panel.ui.scoreSelector, name)
        assert set(fields_of(panel)) == {item.name for item in score.inputs}
        assert panel.ui.scoreInputsWidget.layout().rowCount() == len(score.inputs)


def test_a_damaged_model_folder_is_named_and_offers_no_prediction(sample, tmp_path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    sample.ui.modelPathEdit.setCurrentPath(str(folder))
    assert "holds no model.json" in sample.ui.modelNeedsLabel.text
    (folder / "model.json").write_text('{"format": "pickle me"}', encoding="utf-8")
    sample.widget.panel.refresh()
    assert "no outcome model of this program" in sample.ui.modelNeedsLabel.text
    assert not sample.ui.predictButton.enabled


def test_training_on_too_few_patients_is_refused_in_the_panel(sample) -> None:
    ui, before = sample.ui, node_count()
    choose(ui.effortSelector, "quick")
    ui.trainButton.click()
    sample.process()
    assert ui.trainNeedsLabel.text
    assert "events" in ui.trainNeedsLabel.text or "patients" in ui.trainNeedsLabel.text
    assert node_count() == before
    assert not parameters_of(sample).trainFolder.exists()
    ui.trainPathEdit.setCurrentPath("/no/such/table.csv")
    assert "no such table" in ui.trainNeedsLabel.text
    assert not ui.trainButton.enabled


def test_the_page_is_written_and_its_numbers_lead_back(sample, tmp_path, monkeypatch) -> None:
    import slicer

    shown = []
    monkeypatch.setattr(slicer.util, "selectModule", shown.append)
    ui = sample.ui
    ui.reportFolderSelector.setCurrentPath(str(tmp_path / "board"))
    assert ui.reportButton.enabled
    ui.reportButton.click()
    sample.process()
    assert ui.reportGaveLabel.text == "Written: board.html, board.json"
    assert ui.openReportButton.enabled
    page = (tmp_path / "board" / "board.html").read_text(encoding="utf-8")
    link = re.search(r'href="(irai://[^"]+)"[^>]*>5\.\d\d ', page)
    assert link is not None
    ui.linkLineEdit.setText(link.group(1).replace("&amp;", "&"))
    ui.showSourceButton.click()
    assert ui.reportGaveLabel.text == "Selected: Lesion record"
    assert shown == ["Data"]
    ui.linkLineEdit.setText("irai://node/vtkMRMLTextNode77?name=gone")
    ui.showSourceButton.click()
    assert "not in this scene" in ui.reportNeedsLabel.text
    ui.linkLineEdit.setText("")
    ui.showSourceButton.click()
    assert ui.reportGaveLabel.text == "Selected: Synthetic liver (SYNTHETIC)"


def test_a_saved_scene_restores_the_panel(sample, tmp_path) -> None:
    import slicer

    ui = sample.ui
    ui.extractButton.click()
    ui.cohortButton.click()
    gave, size = ui.featuresGaveLabel.text, cells(ui.lesionTable, 1)
    assert slicer.util.saveScene(str(tmp_path / "case.mrb"))
    slicer.mrmlScene.Clear(False)
    sample.process()
    assert ui.lesionTable.isHidden()
    assert ui.featuresGaveLabel.text == ""
    slicer.util.loadScene(str(tmp_path / "case.mrb"))
    sample.process()
    assert cells(ui.lesionTable, 1) == size
    assert ui.featuresGaveLabel.text == gave
    assert not ui.featuresNeedsLabel.text, "what was saved is not out of date"


def test_clicks_make_a_lesion(sample) -> None:
    import numpy as np
    from IRAILib.scene.biopsy_sample import SEED, paint_patient

    ui, parameters = sample.ui, parameters_of(sample)
    parameters.lesionSegmentation, parameters.lesionSegmentID = None, ""
    assert not ui.segmentButton.enabled
    painted = paint_patient(SEED)
    core = painted.lesion.array & (painted.volume.array < 70)
    node = ui.insideSelector.addNode()
    node.AddControlPoint(painted.volume.grid.points_ras(np.argwhere(core).astype(float)).mean(axis=0).tolist())
    sample.widget.panel.refresh()
    assert ui.segmentButton.enabled
    ui.segmentButton.click()
    sample.process()
    assert ui.lesionSelector.currentNode() is not None
    ui.measureButton.click()
    assert "own error" not in ui.lesionGaveLabel.text, "clicks say how sure the outline is"


def test_leaving_coming_back_and_clean_up(sample) -> None:
    sample.exit()
    assert parameters_of(sample) is None
    sample.enter()
    assert sample.ui.lesionSelector.currentSegmentID() == parameters_of(sample).lesionSegmentID
    parameters = parameters_of(sample)
    sample.widget.cleanup()
    parameters.shellOuterMm = 3.0
    assert parameters_of(sample) is None
    assert sample.ui.shellOuterSpinBox.value != 3.0
