"""Steps 1 to 3 of the virtual biopsy on real MRML: sizes against closed forms, and what a failure leaves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from biopsy_scene_cases import body_case, cohort_table, ellipsoid, here, oblique_grid, set_segment
from IRAILib.geometry import CancelledError, EmptyMaskError, InputError, Mask

VOXEL_MM = 1.0


def node_ids(scene) -> set[str]:
    return {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}


@pytest.fixture
def case():
    return body_case()


@pytest.fixture
def features(case):
    from IRAILib.biopsy.radiomics import Settings
    from IRAILib.scene.biopsy_features import extract_case

    quick = Settings(families=("morphology", "statistics"), intensity_unit="HU")
    return extract_case(case[0], quick, run=here)


def test_size_of_an_ellipsoid_on_an_oblique_grid() -> None:
    from IRAILib.scene.biopsy_size import measure_lesion

    grid = oblique_grid((40, 90, 100), (1.0, 0.7, 0.7))
    size = measure_lesion(Mask(ellipsoid(grid, (15.0, 9.0, 17.0)), grid), boundary_sigma_mm=0.5)
    assert size.volume_ml == pytest.approx(4 / 3 * math.pi * 15 * 9 * 17 / 1000, rel=0.02)
    assert size.long_axis_mm == pytest.approx(30.0, abs=VOXEL_MM)
    assert size.short_axis_mm == pytest.approx(18.0, abs=VOXEL_MM)
    assert size.extent_mm == pytest.approx(34.0, abs=1.5 * VOXEL_MM)
    axis = np.subtract(*size.long_axis_ras)
    assert abs(axis[0]) / np.linalg.norm(axis) > 0.98, "the long axis lies along the world's x"
    assert size.centre_ras == pytest.approx((12.0, -30.0, 55.0), abs=0.1)
    assert (size.pieces, size.touches_border) == (1, False)
    surface = 4 * math.pi * (((15 * 9)**1.6 + (15 * 17)**1.6 + (9 * 17)**1.6) / 3)**(1 / 1.6)
    assert size.volume_sigma_ml == pytest.approx(surface * 0.5 / 1000, rel=0.15)


@pytest.mark.parametrize(("shape", "where", "long_mm"), [((3, 3, 3), (1, 1, 1), 1.0), ((1, 5, 9), None, 9.85)])
def test_size_of_a_voxel_and_of_one_slice(shape, where, long_mm) -> None:
    from IRAILib.scene.biopsy_size import measure_lesion

    array = np.ones(shape, bool) if where is None else np.zeros(shape, bool)
    if where is not None:
        array[where] = True
    size = measure_lesion(Mask(array, oblique_grid(shape, (3.0, 1.0, 1.0))))
    assert size.long_axis_mm == pytest.approx(long_mm, abs=0.01)
    assert size.slices == 1
    assert size.touches_border == (where is None)


def test_two_parts_are_told_and_an_empty_mask_is_refused() -> None:
    from IRAILib.scene.biopsy_lesion import size_notes
    from IRAILib.scene.biopsy_size import measure_lesion

    array = np.zeros((9, 9, 9), bool)
    array[2, 2, 2] = array[7, 7, 7] = True
    size = measure_lesion(Mask(array, oblique_grid((9, 9, 9))))
    assert size.pieces == 2
    assert any("2 separate parts" in note for note in size_notes(size.to_dict()))
    with pytest.raises(EmptyMaskError):
        measure_lesion(Mask(np.zeros((4, 4, 4), bool), oblique_grid((4, 4, 4))))


def test_the_record_lies_in_the_case_folder_and_is_replaced(scene, case) -> None:
    import slicer
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_lesion import measure_case

    before = node_ids(scene)
    record = measure_case(case[0])
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = tree.GetItemParent(tree.GetItemByDataNode(record))
    assert tree.GetItemName(folder) == "Virtual biopsy: Lesion"
    document = read_record(record)
    assert document["volume_ml"] == pytest.approx(4 / 3 * math.pi * 11 * 8 * 14 / 1000, rel=0.05)
    assert document["frame"] == "RAS mm"
    assert {source["role"] for source in document["sources"]} == {"volume", "lesion"}
    made = len(node_ids(scene) - before)
    measure_case(case[0], previous=record)
    assert len(node_ids(scene) - before) == made


def test_no_volume_and_an_empty_segment_say_what_to_do(scene, case) -> None:
    from IRAILib.scene.biopsy_case import BiopsyCase
    from IRAILib.scene.biopsy_lesion import measure_case

    with pytest.raises(InputError, match="choose the scan"):
        measure_case(BiopsyCase(None, case[0].lesion))
    set_segment(case[0].lesion, np.zeros(case[2].array.shape, bool), case[2].grid)
    before = node_ids(scene)
    with pytest.raises(EmptyMaskError, match="Lesion"):
        measure_case(case[0])
    assert node_ids(scene) == before


def test_the_shell_is_a_segment_inside_the_organ(case) -> None:
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_regions import make_shell
    from IRAILib.scene.nodes import SegmentRef, mask_from_segment

    record = make_shell(case[0], 3.0, run=here)
    node = case[0].lesion.node
    shell = mask_from_segment(SegmentRef(node, read_record(record)["segment_ids"][0]), case[1])
    organ = mask_from_segment(case[0].organ, case[1])
    assert shell.array.any()
    assert not (shell.array & case[2].array).any()
    assert not (shell.array & ~organ.array).any()
    again = make_shell(case[0], 5.0, previous=record, run=here)
    names = [node.GetSegmentation().GetSegment(one).GetName() for one in node.GetSegmentation().GetSegmentIDs()]
    assert names == ["Lesion", "Liver", "Shell 0 to 5 mm"]
    assert read_record(again)["kept_share"] < 1.0


def test_habitats_find_the_dark_core_and_leave_nothing_when_refused(scene, case) -> None:
    from IRAILib.geometry import RefusedError
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_habitats import find_habitats
    from IRAILib.scene.nodes import SegmentRef, mask_from_segment

    document = read_record(find_habitats(case[0], 2, run=here))
    core = mask_from_segment(SegmentRef(case[0].lesion.node, document["segment_ids"][0]), case[1]).array
    painted = ellipsoid(case[2].grid, np.array((11.0, 8.0, 14.0)) * 0.6)
    assert 2 * (core & painted).sum() / (core.sum() + painted.sum()) > 0.85
    assert document["means"][0][0] == pytest.approx(40.0, abs=12.0)

    def refuse(*_args, **_kwargs):
        raise RefusedError("no division leaves every part large enough")

    before, segments = node_ids(scene), case[0].lesion.node.GetSegmentation().GetNumberOfSegments()
    with pytest.raises(RefusedError):
        find_habitats(case[0], run=refuse)
    assert node_ids(scene) == before
    assert case[0].lesion.node.GetSegmentation().GetNumberOfSegments() == segments


def test_features_in_the_scene_are_those_of_the_library(case, features) -> None:
    from IRAILib.biopsy.radiomics import Settings, extract
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_features import HEADER
    from IRAILib.scene.changes import part_of

    alone = extract(case[1], case[2], Settings(families=("morphology", "statistics"), intensity_unit="HU"))
    document = read_record(features)
    assert document["features"] == pytest.approx({key: one.value for key, one in alone.features.items()})
    table = part_of(features, "table")
    assert [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())] == HEADER
    assert table.GetNumberOfRows() == len(alone.features)
    column = table.GetTable().GetColumnByName("Value")
    assert column.GetValue(document_row(table, "stat_mean")) == pytest.approx(alone.features["stat_mean"].value)


def document_row(table, key: str) -> int:
    keys = table.GetTable().GetColumnByName("Key")
    return next(row for row in range(table.GetNumberOfRows()) if keys.GetValue(row) == key)


def test_features_run_in_a_real_worker_and_cancel_leaves_the_scene(scene, case) -> None:
    from IRAILib.biopsy.radiomics import Settings
    from IRAILib.scene.biopsy_features import extract_case

    before = node_ids(scene)
    with pytest.raises(CancelledError):
        extract_case(case[0], Settings(), cancelled=lambda: True)
    assert node_ids(scene) == before
    told = []
    record = extract_case(case[0], Settings(families=("statistics",)), progress=lambda share, text: told.append(share))
    assert record is not None
    assert told
    assert told[-1] == 1.0


@pytest.mark.parametrize("harm", ["delete the volume", "delete the segmentation", "draw on"])
def test_what_goes_or_changes_while_the_job_runs_is_told(scene, case, harm) -> None:
    from IRAILib.biopsy.radiomics import Settings
    from IRAILib.scene.biopsy_features import extract_case

    def meanwhile(target, kwargs, **_others):
        if harm == "draw on":
            set_segment(case[0].lesion, ellipsoid(case[2].grid, (5.0, 5.0, 5.0)), case[2].grid)
        else:
            scene.RemoveNode(case[0].volume if "volume" in harm else case[0].lesion.node)
        return here(target, kwargs)

    with pytest.raises(InputError, match="while the job ran"):
        extract_case(case[0], Settings(families=("statistics",)), run=meanwhile)
    assert not [node_id for node_id in node_ids(scene) if "TextNode" in node_id]


def test_a_scene_closed_while_the_job_runs_is_told(scene, case) -> None:
    from IRAILib.biopsy.radiomics import Settings
    from IRAILib.scene.biopsy_features import extract_case

    def meanwhile(target, kwargs, **_others):
        scene.Clear(False)
        return here(target, kwargs)

    with pytest.raises(InputError, match="deleted while the job ran"):
        extract_case(case[0], Settings(families=("statistics",)), run=meanwhile)


def test_stability_marks_rows_of_the_table(case, features) -> None:
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_stability import try_stability
    from IRAILib.scene.changes import part_of

    document = read_record(try_stability(case[0], features, n=4, run=here))
    table = part_of(features, "table")
    marks = table.GetTable().GetColumnByName("Stability")
    keys = table.GetTable().GetColumnByName("Key")
    shown = {keys.GetValue(row) for row in range(table.GetNumberOfRows()) if marks.GetValue(row) == "unstable"}
    assert shown == set(document["unstable"])
    over = {key for key, cv in document["cv_percent"].items() if cv is not None and cv > 10.0}
    assert over <= shown


def test_percentiles_against_counted_ranks(case, features, tmp_path) -> None:
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_features import compare_with_cohort

    known = read_record(features)["features"]
    path = cohort_table(tmp_path / "others.csv", known, 9)
    document = read_record(compare_with_cohort(case[0], features, path))
    volume = document["places"]["morph_volume"]
    assert volume["n"] == 9
    assert volume["percentile"] == pytest.approx(100 * 5.5 / 9), "five lower, one equal"
    assert volume["low"] < volume["percentile"] < volume["high"]
    assert any("settings" in text for text in document["warnings"])
    left_out = read_record(compare_with_cohort(case[0], features, path, patient="P05"))
    assert left_out["places"]["morph_volume"]["percentile"] == pytest.approx(100 * 5 / 8)
    with pytest.raises(InputError, match="P99"):
        compare_with_cohort(case[0], features, path, patient="P99")


def test_a_cohort_of_other_settings_is_refused_and_a_small_one_gives_no_place(case, features, tmp_path) -> None:
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_features import compare_with_cohort

    known = read_record(features)
    other = cohort_table(tmp_path / "other.csv", known["features"], 9, settings_hash="feedbeef00000000")
    with pytest.raises(InputError, match="other settings"):
        compare_with_cohort(case[0], features, other)
    same = cohort_table(tmp_path / "same.csv", known["features"], 4, settings_hash=known["settings_hash"])
    document = read_record(compare_with_cohort(case[0], features, same))
    assert document["places"] == {}
    assert any("only 4 other patients" in text for text in document["warnings"])
    (tmp_path / "foreign.csv").write_text("patient,age\na,3\nb,4\n")
    with pytest.raises(InputError, match="no column is named like a feature"):
        compare_with_cohort(case[0], features, tmp_path / "foreign.csv")


def test_features_of_a_changed_lesion_are_not_compared(case, features, tmp_path) -> None:
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_features import compare_with_cohort

    path = cohort_table(tmp_path / "others.csv", read_record(features)["features"])
    set_segment(case[0].lesion, ellipsoid(case[2].grid, (5.0, 5.0, 5.0)), case[2].grid)
    with pytest.raises(InputError, match="out of date"):
        compare_with_cohort(case[0], features, path)


def test_a_score_keeps_its_inputs_units_and_paper(scene) -> None:
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_scores import score_record, score_rows, score_text, work_out_score

    values = {"bilirubin": "34.208 umol/L", "albumin": "30 g/L", "inr": "1.8", "ascites": "mild",
              "encephalopathy": "none"}
    document = read_record(work_out_score("child-pugh", values))
    assert (document["value"], document["grade"]) == (9, "B"), "2 + 2 + 2 + 2 + 1 by hand"
    assert score_text(document) == "9 points, B"
    rows = {row[0]: row for row in score_rows(document)}
    assert rows["bilirubin"][1:3] == ["2", "mg/dL"]
    assert "given as 34.208 umol/L" in rows["bilirubin"][3]
    count = scene.GetNumberOfNodes()
    with pytest.raises(InputError, match="needs one"):
        work_out_score("child-pugh", {**values, "bilirubin": "2"})
    assert scene.GetNumberOfNodes() == count, "the earlier result stays"
    work_out_score("child-pugh", {**values, "inr": "1.2"})
    assert scene.GetNumberOfNodes() == count
    assert read_record(score_record("child-pugh"))["value"] == 8


@pytest.mark.parametrize(("modality", "unit", "why"), [("MR", "HU", "scan is MR"), ("CT", "SUV", "scan is CT"),
                                                       ("PT", "HU", "scan is PT")])
def test_settings_of_another_kind_of_scan_are_refused(scene, modality, unit, why) -> None:
    """An MR scan measured with CT settings would carry HU behind every intensity."""
    from IRAILib.biopsy.radiomics import Settings
    from IRAILib.scene.biopsy_features import extract_case

    case, before = body_case(modality=modality)[0], node_ids(scene)
    with pytest.raises(InputError, match=why):
        extract_case(case, Settings(families=("statistics",), intensity_unit=unit), run=here)
    assert node_ids(scene) == before


@pytest.mark.parametrize(("modality", "unit", "said"), [("", "HU", "taken for HU"), ("PT", "SUV", "taken for SUV"),
                                                        ("CT", "HU", ""), ("MR", "", "")])
def test_a_scan_that_does_not_say_its_unit_is_told(scene, modality, unit, said) -> None:
    from IRAILib.biopsy.radiomics import Settings
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_features import extract_case

    record = extract_case(body_case(modality=modality)[0], Settings(families=("statistics",), intensity_unit=unit),
                          run=here)
    told = [text for text in read_record(record)["warnings"] if "taken for" in text]
    assert [said in text for text in told] == ([True] if said else [])


def test_a_cohort_s_folder_says_its_settings(case, features, tmp_path) -> None:
    """`irai cohort run` writes the hash into columns.json, not into a column."""
    import json

    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.biopsy_features import compare_with_cohort

    known = read_record(features)
    cohort_table(tmp_path / "features.csv", known["features"])
    about = {key: {"family": "statistics", "settings_hash": known["settings_hash"]} for key in known["features"]}
    (tmp_path / "columns.json").write_text(json.dumps(about))
    same = read_record(compare_with_cohort(case[0], features, tmp_path))
    assert not any("settings" in text for text in same["warnings"])
    first = next(iter(about))
    about[first]["settings_hash"] = "0123456789abcdef"
    (tmp_path / "columns.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="other settings"):
        compare_with_cohort(case[0], features, tmp_path)
