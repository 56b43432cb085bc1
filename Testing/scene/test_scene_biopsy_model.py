"""Steps 4 and 5 of the virtual biopsy: train from a table, load, predict, refuse; damaged folders."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from biopsy_scene_cases import body_case, ellipsoid, here, set_segment
from IRAILib.geometry import CancelledError, InputError, RefusedError

PLAN = {"target": "response", "patient": "patient", "event": "yes", "outer_folds": 3, "repeats": 1, "inner_folds": 2,
        "permutations": 0, "bootstraps": 60, "sensitivity": False}
KEYS = ("stat_mean", "stat_var", "morph_sphericity")


def lesion_features(case):
    from IRAILib.biopsy.radiomics import Settings
    from IRAILib.scene.biopsy_features import extract_case

    return extract_case(case, Settings(families=("morphology", "statistics"), intensity_unit="HU"), run=here)


@pytest.fixture(scope="module")
def trained(app, tmp_path_factory):
    """(table, model's folder): response depends on stat_mean, centred at this patient's, and on albumin."""
    import slicer
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_train import train_model

    folder = tmp_path_factory.mktemp("trained")
    known = read_record(lesion_features(body_case()[0]))["features"]
    rng = np.random.default_rng(5)
    with (folder / "table.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["patient", *KEYS, "albumin_g_per_l", "response"])
        for n in range(90):
            z, albumin = rng.normal(size=3), rng.normal(38.0, 5.0)
            chance = 1 / (1 + np.exp(-(2.0 * z[0] + 0.2 * (albumin - 38.0))))
            row = [known[key] * (1 + 0.1 * value) for key, value in zip(KEYS, z, strict=True)]
            writer.writerow([f"P{n}", *row, round(albumin, 1), "yes" if rng.uniform() < chance else "no"])
    record = train_model(folder / "table.csv", PLAN, folder / "model", run=here)
    document = read_record(record)
    slicer.mrmlScene.Clear(False)
    return folder / "table.csv", folder / "model", document


@pytest.fixture
def case(trained):
    return body_case()[0]


def test_training_writes_a_model_and_a_record_with_intervals(trained) -> None:
    _table, folder, document = trained
    assert {"model.json", "report.html", "metrics.json"} <= {path.name for path in folder.iterdir()}
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert document["verdict"] == metrics["verdict"]
    assert document["n_patients"] == 90
    figure = f"{metrics['estimate']:.3f} ({metrics['ci95'][0]:.3f} to {metrics['ci95'][1]:.3f})"
    assert any(row[1] == figure for row in document["rows"])


@pytest.mark.parametrize("inside", [["holiday.jpg"], ["model.json", "holiday.jpg"]])
def test_a_folder_with_other_things_is_never_replaced(scene, trained, tmp_path, inside) -> None:
    from IRAILib.scene.biopsy_train import train_model

    for name in inside:
        (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="would be lost"):
        train_model(trained[0], PLAN, tmp_path, run=here)
    assert {path.name for path in tmp_path.iterdir()} == set(inside)


def test_a_cancelled_or_refused_training_leaves_folder_and_scene(scene, trained, tmp_path) -> None:
    from IRAILib.scene.biopsy_train import train_model

    shutil.copytree(trained[1], tmp_path / "model")
    before, count = (tmp_path / "model" / "model.json").read_bytes(), scene.GetNumberOfNodes()
    with pytest.raises(CancelledError):
        train_model(trained[0], PLAN, tmp_path / "model", cancelled=lambda: True)
    lines = trained[0].read_text().splitlines()
    (tmp_path / "few.csv").write_text("\n".join(lines[:8]) + "\n")
    with pytest.raises(RefusedError):
        train_model(tmp_path / "few.csv", PLAN, tmp_path / "model", run=here)
    with pytest.raises(InputError):
        train_model(trained[0], {**PLAN, "target": "no such column"}, tmp_path / "model", run=here)
    with pytest.raises(InputError, match="plan"):
        train_model(trained[0], {"target": "response", "outer_fold": 3}, tmp_path / "model", run=here)
    assert (tmp_path / "model" / "model.json").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"model", "few.csv"}
    assert scene.GetNumberOfNodes() == count


def test_a_prediction_is_the_library_s_with_set_reasons_and_similarity(case, trained) -> None:
    from IRAILib.biopsy.outcome.model_file import load_model
    from IRAILib.biopsy.outcome.predict import predict
    from IRAILib.biopsy.outcome.table import Table
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_model import open_model, predict_case

    features = lesion_features(case)
    opened = open_model(trained[1])
    assert [one.name for one in opened.asked] == ["albumin_g_per_l"]
    document = read_record(predict_case(case, features, opened, {"albumin_g_per_l": "44"}))
    known = read_record(features)["features"]
    table = Table.from_columns({**{key: [known[key]] for key in KEYS}, "albumin_g_per_l": ["44"]})
    alone = predict(load_model(trained[1]), table).rows[0]
    assert alone.probability is not None
    assert document["figures"][0]["value"] == f"{alone.probability['yes']:.2f}"
    assert not document["refused"]
    assert "90 % set: " in document["figures"][0]["note"] + document["figures"][-1]["note"]
    assert {reason["feature"] for reason in document["reasons"]} >= {"stat_mean"}
    assert "inside the training cohort" in document["similarity_note"]
    assert "nested cross-validation of 90 patients" in document["validated_on"]
    low = read_record(predict_case(case, features, opened, {"albumin_g_per_l": "30"}))
    assert float(low["figures"][0]["value"]) < float(document["figures"][0]["value"])


@pytest.mark.parametrize(("typed", "why"), [({"albumin_g_per_l": "4400"}, "outside the training cohort"),
                                            ({"albumin_g_per_l": "high"}, "no number")])
def test_a_foreign_patient_is_refused_without_a_number(case, trained, typed, why) -> None:
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_board import collect_board
    from IRAILib.scene.biopsy_model import open_model, predict_case

    features = lesion_features(case)
    record = predict_case(case, features, open_model(trained[1]), typed)
    document = read_record(record)
    assert why in document["refused"]
    assert document["figures"] == []
    assert document["reasons"] == []
    board = collect_board(case, {"features": features, "prediction": record})
    assert board.prediction is not None
    assert board.prediction.figures == ()
    assert any("refused this patient" in text for text in board.unknown)


def test_features_that_are_missing_or_out_of_date_are_told(case, trained) -> None:
    from IRAILib.biopsy.radiomics import Settings
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_features import extract_case
    from IRAILib.scene.biopsy_model import open_model, predict_case
    from IRAILib.scene.nodes import mask_from_segment

    opened = open_model(trained[1])
    with pytest.raises(InputError, match="no features yet"):
        predict_case(case, None, opened, {})
    shape = extract_case(case, Settings(families=("morphology",)), run=here)
    document = read_record(predict_case(case, shape, opened, {"albumin_g_per_l": "40"}))
    assert "stat_mean" in document["refused"]
    grid = mask_from_segment(case.lesion).grid
    set_segment(case.lesion, ellipsoid(grid, (5.0, 5.0, 5.0)), grid)
    with pytest.raises(InputError, match="out of date"):
        predict_case(case, shape, opened, {})


def test_features_of_other_settings_are_refused_where_the_model_says_its_own(case, trained, tmp_path) -> None:
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_model import open_model, predict_case

    folder, features = tmp_path / "model", lesion_features(case)
    shutil.copytree(trained[1], folder)
    own = read_record(features)["settings_hash"]
    (folder / "features.json").write_text(json.dumps({"settings_hash": own}))
    document = read_record(predict_case(case, features, open_model(folder), {"albumin_g_per_l": "40"}))
    assert not any("settings" in text for text in document["warnings"])
    (folder / "features.json").write_text('{"settings_hash": "0123456789abcdef"}')
    with pytest.raises(InputError, match="other settings than the model"):
        predict_case(case, features, open_model(folder), {"albumin_g_per_l": "40"})
    (folder / "features.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        open_model(folder)


@pytest.mark.parametrize("harm", ["empty folder", "no json", "another json", "a changed number", "cut off"])
def test_a_damaged_model_is_named_and_never_used(trained, tmp_path, harm) -> None:
    from IRAILib.scene.biopsy_model import open_model

    folder = tmp_path / "model"
    if harm == "empty folder":
        folder.mkdir()
    else:
        shutil.copytree(trained[1], folder)
        text = (folder / "model.json").read_text(encoding="utf-8")
        changed = {"no json": "\x00\x01", "another json": '{"a": 1}', "cut off": text[:len(text) // 2],
                   "a changed number": text.replace('"alpha": 0.1', '"alpha": 0.4')}[harm]
        assert changed != text
        (folder / "model.json").write_text(changed, encoding="utf-8")
    with pytest.raises(InputError, match=r"model\.json"):
        open_model(folder)


def test_a_survival_prediction_names_horizon_unit_and_interval() -> None:
    from types import SimpleNamespace

    from IRAILib.biopsy.outcome.predict import PredictedRow
    from IRAILib.scene.biopsy_model import prediction_figures

    found = SimpleNamespace(target="progressed", time_unit="months", kind="survival", classes=("0", "1"))
    bound = {"low": 0.51, "high": None, "lower_bound": 0.8, "level": 0.9, "horizon": 30.0}
    row = PredictedRow(0, "p", False, (), risk=0.2, survival={"6": 0.83, "12": 0.4}, conformal=bound)
    figures = [(entry["label"], entry["value"]) for entry in prediction_figures(found, row)]
    assert figures == [("Chance to be free of 'progressed' until 6 months", "0.83"),
                       ("Chance to be free of 'progressed' until 12 months", "0.40"),
                       ("Time of 'progressed', 90 % interval", "0.51 to beyond 30 months")]
    risk_only = PredictedRow(0, "p", False, (), risk=0.2)
    assert prediction_figures(found, risk_only)[0]["note"] == "model scale, larger is worse"


@pytest.mark.parametrize(("own", "beside", "said"), [(0.7, 0.6, ""), (0.6, 0.7, "no better"),
                                                     (0.6, None, "no clinical")])
def test_a_model_no_better_than_its_baseline_says_so(own, beside, said) -> None:
    from IRAILib.scene.biopsy_model import beside_baseline

    summary = {"primary_metric": "auc", "scores": {"auc": {"estimate": own}},
               "baseline_scores": {} if beside is None else {"auc": {"estimate": beside}}}
    assert [said in text for text in beside_baseline(summary)] == ([True] if said else [])


@pytest.mark.parametrize(("hashes", "kept"), [(["aa11"], True), (["aa11", "bb22"], False), ([], False)])
def test_console_and_panel_write_the_settings_of_the_features(trained, tmp_path, hashes, kept) -> None:
    """Both go through train_and_write; a mix of settings is told, and nothing is claimed of it."""
    from IRAILib.report.outcome_folder import train_and_write
    from IRAILib.scene.biopsy_model import open_model

    with trained[0].open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for n, row in enumerate(rows):
        row |= {"settings_hash": hashes[n % len(hashes)]} if hashes else {}
    with (tmp_path / "table.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "features.json").write_text('{"settings_hash": "of an earlier model"}')
    plan = {**PLAN, "exclude": ["settings_hash"] if hashes else []}
    found = train_and_write(str(tmp_path / "table.csv"), plan, str(tmp_path / "model"))
    assert open_model(tmp_path / "model").settings_hash == (hashes[0] if kept else "")
    assert ("features.json" in found["files_sha256"]) == kept
    assert any("different radiomics settings" in text for text in found["warnings"]) == (len(hashes) > 1)


class _Glance:
    """A deep column that needs no network: the mean inside the lesion."""

    names = ("deep_score",)

    def __init__(self, side_mm: float) -> None:
        from types import SimpleNamespace

        from IRAILib.biopsy.deep import CropOptions

        self.options, self.seen = SimpleNamespace(crop=CropOptions(side_mm=side_mm, pixels=16)), []

    def transform(self, crops):
        self.seen += list(crops)
        return np.array([[float(crop.intensities[crop.inside].mean())] for crop in crops])


@pytest.mark.parametrize(("side_mm", "refused"), [(48.0, False), (6.0, True)])
def test_a_model_that_looks_at_the_scan_gets_the_lesion_of_the_scene(case, trained, side_mm, refused) -> None:
    from dataclasses import replace

    from IRAILib.biopsy.deep import read_crop
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_model import open_model, predict_case
    from IRAILib.scene.biopsy_sources import stale_reasons
    from IRAILib.scene.nodes import mask_from_segment, volume_from_node

    opened = open_model(trained[1])
    assert not opened.sees_images
    glance = _Glance(side_mm)
    opened.model.pipeline.deep = glance
    opened = replace(opened, model=opened.model)
    assert opened.sees_images
    record = predict_case(case, lesion_features(case), opened, {"albumin_g_per_l": "40"})
    document = read_record(record)
    assert bool(document["refused"]) == refused
    if refused:
        assert "outside the cube of 6 mm" in document["refused"]
        return
    volume = volume_from_node(case.volume)
    truth = read_crop(volume, mask_from_segment(case.lesion, volume), glance.options.crop)
    assert np.array_equal(glance.seen[0].intensities, truth.intensities)
    assert {source["role"] for source in document["sources"]} == {"features", "volume", "lesion"}
    set_segment(case.lesion, ellipsoid(truth_grid(case), (5.0, 5.0, 5.0)), truth_grid(case))
    assert stale_reasons(record)


def truth_grid(case):
    from IRAILib.scene.nodes import mask_from_segment

    return mask_from_segment(case.lesion).grid


def test_a_board_that_cannot_be_replaced_is_one_line(case, tmp_path) -> None:
    from IRAILib.scene.biopsy_board import write_case_board

    (tmp_path / "board.html").mkdir()
    with pytest.raises(InputError, match="can't be replaced"):
        write_case_board(case, {"features": lesion_features(case)}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["board.html"]


def test_every_line_with_a_number_on_the_page_links_to_its_record(case, trained, tmp_path) -> None:
    import re

    from IRAILib.scene.biopsy_board import write_case_board
    from IRAILib.scene.biopsy_model import open_model, predict_case
    from IRAILib.scene.biopsy_stability import try_stability

    features = lesion_features(case)
    records = {"features": features, "stability": try_stability(case, features, n=3, run=here),
               "prediction": predict_case(case, features, open_model(trained[1]), {"albumin_g_per_l": "40"})}
    page = write_case_board(case, records, tmp_path)[0].read_text(encoding="utf-8")
    link = f'<a href="irai://node/{records["prediction"].GetID()}'
    for words in ("<b>Performance</b>", "<b>Validated on</b>", "Similarity to the training cohort", "% set: "):
        assert link in page[page.index(words):page.index(words) + 700], words
    marks = re.findall(r"varies by [0-9.]+ %(.{0,40})", page)
    assert marks
    assert all(mark.startswith('<a href="irai://node/') for mark in marks)
    assert re.search(r"\d+ of \d+ features are unstable[^<]*<a href=", page) or "are unstable" not in page


def test_numbers_of_one_lesion_never_pass_for_another_s(case, trained, tmp_path) -> None:
    """Two lesions in a scene: what was measured of the first is marked on the second's page, not predicted with."""
    from dataclasses import replace

    from IRAILib.geometry import Mask
    from IRAILib.scene.biopsy_board import collect_board
    from IRAILib.scene.biopsy_case import other_case
    from IRAILib.scene.biopsy_lesion import measure_case
    from IRAILib.scene.biopsy_model import open_model, predict_case
    from IRAILib.scene.nodes import SegmentRef
    from IRAILib.scene.write import mask_to_segment

    features, size, opened = lesion_features(case), measure_case(case), open_model(trained[1])
    prediction = predict_case(case, features, opened, {"albumin_g_per_l": "40"})
    records = {"size": size, "features": features, "prediction": prediction}
    assert [other_case(record, case) for record in records.values()] == ["", "", ""]
    grid = truth_grid(case)
    second = SegmentRef(case.lesion.node, mask_to_segment(case.lesion.node, Mask(
        ellipsoid(grid, (4.0, 4.0, 6.0)), grid), "Second"))
    other = replace(case, lesion=second)
    board = collect_board(other, records)
    assert all(figure.stale for figure in (*board.lesion, *board.prediction.figures))
    assert all(line.value.stale for line in board.features)
    assert sum("another lesion" in source.stale for source in board.sources) == 3
    with pytest.raises(InputError, match="another lesion"):
        predict_case(other, features, opened, {"albumin_g_per_l": "40"})
    mine = collect_board(case, records)
    assert not any(source.stale for source in mine.sources)


def test_features_of_a_part_are_told_beside_a_prediction(case, trained) -> None:
    from dataclasses import replace

    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_model import open_model, predict_case

    part = replace(case, region=case.organ)
    document = read_record(predict_case(part, lesion_features(part), open_model(trained[1]),
                                        {"albumin_g_per_l": "40"}))
    assert any("Liver, a part" in text for text in document["warnings"])
