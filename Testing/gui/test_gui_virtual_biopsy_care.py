"""The VirtualBiopsy panel: what is missing, what can be named, and whose numbers are shown."""

from __future__ import annotations

import pytest

TABLE = "patient,age_years,albumin_g_per_l,stat_mean,response\nP1,60,38,100,yes\nP2,61,31,90,no\n"


@pytest.fixture
def sample(host, monkeypatch, tmp_path):
    """The panel after "Try the sample", with a table of two rows in place of the painted one."""
    from IRAILib.scene import biopsy_sample

    table = tmp_path / "table.csv"
    table.write_text(TABLE, encoding="utf-8")
    monkeypatch.setattr(biopsy_sample, "sample_cohort", lambda *_args, **_kwargs: table)
    monkeypatch.setattr(biopsy_sample, "sample_folder", lambda: tmp_path)
    panel = host("VirtualBiopsy")
    panel.ui.sampleButton.click()
    panel.process()
    return panel


def parameters_of(panel):
    return panel.widget.panel.parameters


def test_a_missing_package_is_one_line_with_a_button_that_installs_it(sample, monkeypatch) -> None:
    import slicer
    from IRAILib.geometry import MissingPackageError

    ui, asked = sample.ui, []
    assert ui.installButton.isHidden()

    def missing(*_args, **_kwargs):
        raise MissingPackageError("PyWavelets is not installed; pip install PyWavelets")

    monkeypatch.setattr(sample.widget.panel.logic, "extract", missing)
    ui.extractButton.click()
    assert ui.featuresNeedsLabel.text.startswith("PyWavelets is not installed")
    assert not ui.installButton.isHidden()
    monkeypatch.setattr(slicer.util, "pip_install", asked.extend, raising=False)
    ui.installButton.click()
    assert ui.installButton.isHidden()
    assert not ui.featuresNeedsLabel.text
    names = {line.split(">")[0].strip() for line in asked}
    assert {"scikit-image", "PyWavelets", "scikit-learn"} <= names
    assert not names & {"numpy", "vtk", "SimpleITK", "scipy", "torch", "pandas", "lifelines"}


def test_the_clinical_baseline_can_be_named(sample, monkeypatch) -> None:
    from IRAILib.scene import biopsy_train

    ui, asked = sample.ui, {}
    monkeypatch.setattr(biopsy_train, "train_model", lambda _table, plan, _folder, **_kwargs: asked.update(plan))
    ui.baselineLineEdit.setText("age_years, albumin_g_per_l")
    ui.trainButton.click()
    assert asked["baseline"] == ["age_years", "albumin_g_per_l"]
    ui.baselineLineEdit.setText("")
    ui.trainButton.click()
    assert asked["baseline"] == []


def test_another_lesion_puts_the_numbers_shown_out_of_date(sample) -> None:
    import numpy as np
    from IRAILib.geometry import Mask
    from IRAILib.scene.nodes import SegmentRef, mask_from_segment
    from IRAILib.scene.write import mask_to_segment

    ui, parameters = sample.ui, parameters_of(sample)
    ref = SegmentRef(parameters.lesionSegmentation, parameters.lesionSegmentID)
    mask = mask_from_segment(ref)
    second = mask_to_segment(ref.node, Mask(np.roll(mask.array, 5, axis=2), mask.grid, "Second"), "Second")
    assert not ui.lesionNeedsLabel.text
    ui.lesionSelector.setCurrentSegmentID(second)
    sample.process()
    assert "made of another lesion" in ui.lesionNeedsLabel.text
    ui.lesionSelector.setCurrentSegmentID(ref.segment_id)
    sample.process()
    assert not ui.lesionNeedsLabel.text
