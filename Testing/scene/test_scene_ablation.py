"""The ablation job on real MRML: what it leaves in the scene, what a failure leaves, what .mrb brings back."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from IRAILib.geometry import CancelledError, InputError, LinearTransform, RefusedError
from IRAILib.registration import RegistrationOptions, RegistrationQuality, RegistrationResult

PARTS = {"model", "colors", "thinnest", "direction", "applicator", "under", "table", "histogram", "series", "chart"}


def exact_registration(truth, refused: str | None = None):
    """Stands in for jobs.run_job: the true motion, as a registration would give it."""
    def run(target, kwargs, progress=None, cancelled=None):
        assert target == "IRAILib.registration:register"
        assert kwargs["exclude_moving"].volume_ml == pytest.approx(truth.tumor.volume_ml)
        assert kwargs["exclude_fixed"].volume_ml == pytest.approx(truth.ablation.volume_ml)
        back = LinearTransform(truth.post_from_pre.inverse().matrix, "moving", "fixed")
        return RegistrationResult(back, back, RegistrationQuality(tumor_volume_change_percent=0.0), refused, 1.0,
                                  "rigid")
    return run


@pytest.fixture(scope="module")
def phantom():
    from IRAILib.ablation.phantom import phantom_case

    return phantom_case()


@pytest.fixture
def sample(scene, phantom):
    from IRAILib.scene.sample import load_sample_case

    return load_sample_case(phantom)


def node_ids(scene) -> set[str]:
    return {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}


def hierarchy_size(scene) -> int:
    import slicer

    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    return tree.GetNumberOfItems()


def registered(sample, refused: str | None = None):
    from IRAILib.scene.ablation import register_case

    case, truth = sample
    return register_case(case, RegistrationOptions(model="rigid"), run=exact_registration(truth, refused))


def measured(sample, **kwargs):
    from IRAILib.scene.ablation import accept_registration, measure_margin

    registration = registered(sample)
    accept_registration(registration)
    return registration, measure_margin(sample[0], registration, **kwargs)


def test_margin_is_the_true_one_and_everything_is_in_one_folder(scene, sample) -> None:
    import slicer
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.changes import part_of, parts_of

    case, truth = sample
    registration, margin = measured(sample)
    document = read_record(margin)
    assert document["mam_mm"] == pytest.approx(truth.true_mam_mm, abs=0.35)
    assert document["registration"]["method"] == "rigid"
    assert {name for name in PARTS if part_of(margin, name) is not None} == PARTS
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = tree.GetItemChildWithName(tree.GetSceneItemID(), case.folder)
    inside = [node for node in parts_of(margin) + parts_of(registration)
              if tree.GetItemParent(tree.GetItemByDataNode(node)) == folder]
    assert len(inside) == len(parts_of(margin)) + len(parts_of(registration))


def test_the_transform_node_knows_its_volumes_and_puts_before_onto_after(scene, sample) -> None:
    from IRAILib.scene.changes import part_of

    case, truth = sample
    node = part_of(registered(sample), "transform")
    assert node.GetNodeReference("spatialRegistrationFixed") is case.post
    assert node.GetNodeReference("spatialRegistrationMoving") is case.pre
    point = np.array([40.0, 10.0, 4.0])
    moved = np.array(node.GetTransformToParent().TransformPoint(point))
    assert np.allclose(moved, truth.post_from_pre.apply(point[None])[0], atol=1e-3)


def test_colours_break_at_zero_and_at_the_threshold(scene, sample) -> None:
    from IRAILib.ablation.margin import MarginOptions
    from IRAILib.scene.changes import part_of
    from IRAILib.scene.traffic_light import GREEN, RED, YELLOW
    from vtk.util.numpy_support import vtk_to_numpy

    _, margin = measured(sample, options=MarginOptions(threshold_mm=7.0))
    model = part_of(margin, "model")
    display, table = model.GetDisplayNode(), part_of(margin, "colors").GetLookupTable()
    low, high = display.GetScalarRange()
    color = [0.0, 0.0, 0.0]
    for value, expected in ((-0.1, RED), (0.1, YELLOW), (6.9, YELLOW), (7.1, GREEN), (-50.0, RED), (50.0, GREEN)):
        table.SetTableRange(low, high)
        table.GetColor(value, color)
        assert color == pytest.approx(expected, abs=0.01)
    scalars = vtk_to_numpy(model.GetPolyData().GetPointData().GetArray("Margin_mm"))
    assert display.GetActiveScalarName() == "Margin_mm"
    assert scalars.min() == pytest.approx(json.loads(margin.GetText())["mam_mm"], abs=1e-4)


def test_thinnest_point_lies_where_it_must_and_points_out_of_the_tumour(scene, sample) -> None:
    from IRAILib.scene.ablation_views import jump_to_thinnest
    from IRAILib.scene.changes import part_of

    _, truth = sample
    _, margin = measured(sample)
    assert np.linalg.norm(jump_to_thinnest(margin) - truth.true_thinnest_ras) < 6.0
    line = part_of(margin, "direction")
    ends = np.zeros((2, 3))
    for n in range(2):
        line.GetNthControlPointPositionWorld(n, ends[n])
    centre = truth.post_from_pre.apply(truth.tumor.grid.points_ras(np.argwhere(truth.tumor.array)).mean(axis=0)[None])
    assert (ends[1] - ends[0]) @ (ends[0] - centre[0]) > 0.0
    assert "mm" in part_of(margin, "thinnest").GetNthControlPointLabel(0)
    words = json.loads(margin.GetText())["thinnest"]["words"]
    assert words in part_of(margin, "thinnest").GetNthControlPointDescription(0)


def test_the_thin_region_is_a_segment_beside_the_thin_side(scene, sample) -> None:
    from IRAILib.scene.changes import part_of
    from IRAILib.scene.nodes import SegmentRef, mask_from_segment

    _, truth = sample
    _, margin = measured(sample)
    node = part_of(margin, "under")
    mask = mask_from_segment(SegmentRef(node, node.GetSegmentation().GetNthSegmentID(0)))
    points = mask.grid.points_ras(np.argwhere(mask.array))
    assert np.linalg.norm(points.mean(axis=0) - truth.true_thinnest_ras) < 12.0
    assert mask.volume_ml == pytest.approx(json.loads(margin.GetText())["tissue_at_risk_ml"], rel=0.02)


def test_histogram_is_area_weighted_and_sums_to_all(scene, sample) -> None:
    from IRAILib.scene.ablation_results import histogram
    from IRAILib.scene.changes import part_of

    centres, share = histogram(np.array([-0.5, 0.5, 0.6, 80.0]), np.array([1.0, 2.0, 1.0, 4.0]))
    assert share.sum() == pytest.approx(100.0)
    assert share[np.isclose(centres, 0.5)][0] == pytest.approx(37.5)
    assert centres.max() < 30.0
    _, margin = measured(sample)
    table = part_of(margin, "histogram").GetTable()
    total = sum(table.GetValue(row, 1).ToDouble() for row in range(table.GetNumberOfRows()))
    assert total == pytest.approx(100.0)


def test_a_second_run_replaces_the_first(scene, sample) -> None:
    from IRAILib.scene.ablation import accept_registration, measure_margin, register_case

    case, truth = sample
    registration, margin = measured(sample)
    nodes, items = len(node_ids(scene)), hierarchy_size(scene)
    again = register_case(case, RegistrationOptions(model="rigid"), previous=registration,
                          run=exact_registration(truth))
    accept_registration(again)
    measure_margin(case, again, previous=margin)
    assert len(node_ids(scene)) == nodes
    assert hierarchy_size(scene) == items


@pytest.mark.parametrize("error", [CancelledError("stopped"), InputError("broken"), MemoryError()])
def test_a_cancelled_or_failed_registration_leaves_the_scene_as_it_was(scene, sample, error) -> None:
    from IRAILib.scene.ablation import register_case

    def run(*_args, **_kwargs):
        raise error

    before, items = node_ids(scene), hierarchy_size(scene)
    with pytest.raises(type(error)):
        register_case(sample[0], run=run)
    assert node_ids(scene) == before
    assert hierarchy_size(scene) == items


def test_a_margin_that_fails_half_way_leaves_nothing(scene, sample, monkeypatch) -> None:
    from IRAILib.scene import ablation, ablation_results

    registration = registered(sample)
    ablation.accept_registration(registration)
    before, items = node_ids(scene), hierarchy_size(scene)

    def broken(*_args):
        raise RuntimeError("no histogram")

    monkeypatch.setattr(ablation_results, "histogram", broken)
    with pytest.raises(RuntimeError, match="no histogram"):
        ablation.measure_margin(sample[0], registration)
    assert node_ids(scene) == before
    assert hierarchy_size(scene) == items


def test_a_refused_registration_gives_no_number_and_no_model(scene, sample) -> None:
    from IRAILib.scene.ablation import accept_registration, is_accepted, measure_margin

    registration = registered(sample, refused="the tumour's volume changes by 23 %")
    before = node_ids(scene)
    with pytest.raises(RefusedError, match="23 %"):
        accept_registration(registration)
    assert not is_accepted(registration)
    with pytest.raises(RefusedError, match="23 %"):
        measure_margin(sample[0], registration)
    assert node_ids(scene) == before


def test_a_registration_nobody_accepted_gives_no_margin(scene, sample) -> None:
    from IRAILib.scene.ablation import measure_margin

    with pytest.raises(RefusedError, match="accept"):
        measure_margin(sample[0], registered(sample))


def test_a_registration_of_other_inputs_is_not_used(scene, sample) -> None:
    from IRAILib.scene.ablation import accept_registration, measure_margin

    case, _ = sample
    registration = registered(sample)
    accept_registration(registration)
    with pytest.raises(InputError, match="other volumes"):
        measure_margin(dataclasses.replace(case, pre=case.post, post=case.pre), registration)
    with pytest.raises(InputError, match="another tumour"):
        measure_margin(dataclasses.replace(case, tumor=case.organ_pre), registration)


def test_without_motion_the_segments_are_taken_as_they_lie(scene) -> None:
    from IRAILib.scene.ablation import measure_margin
    from IRAILib.scene.sample import load_sample_case

    case, truth = load_sample_case(motion_mm=(0.0, 0.0, 0.0), rotation_deg=0.0)
    document = json.loads(measure_margin(case).GetText())
    assert document["mam_mm"] == pytest.approx(truth.true_mam_mm, abs=0.35)
    assert document["registration"] is None


def test_a_parent_transform_on_one_segmentation_moves_the_margin(scene, phantom) -> None:
    from IRAILib.scene.ablation import measure_margin
    from IRAILib.scene.nodes import matrix_to_vtk
    from IRAILib.scene.sample import load_sample_case

    case, truth = load_sample_case(phantom)
    parent = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "motion")
    parent.SetMatrixTransformToParent(matrix_to_vtk(truth.post_from_pre.matrix))
    case.tumor.node.SetAndObserveTransformNodeID(parent.GetID())
    document = json.loads(measure_margin(case).GetText())
    assert document["mam_mm"] == pytest.approx(truth.true_mam_mm, abs=0.35)


def test_all_surface_excluded_is_a_result_without_a_number(scene, sample) -> None:
    from IRAILib.ablation.margin import MarginOptions
    from IRAILib.scene.changes import part_of

    _, margin = measured(sample, options=MarginOptions(capsule_distance_mm=60.0))
    document = json.loads(margin.GetText())
    assert document["mam_mm"] is None
    assert document["subcapsular_share"] == pytest.approx(1.0)
    assert part_of(margin, "model") is not None
    assert part_of(margin, "thinnest") is None


def test_unequal_landmarks_and_equal_volumes_are_said(scene, sample) -> None:
    from IRAILib.scene.ablation import register_case

    case, truth = sample
    one = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "one")
    one.AddControlPoint([0.0, 0.0, 0.0])
    with pytest.raises(InputError, match="same order"):
        register_case(dataclasses.replace(case, landmarks_pre=one), run=exact_registration(truth))
    with pytest.raises(InputError, match="same volume"):
        register_case(dataclasses.replace(case, pre=case.post), run=exact_registration(truth))


def test_a_saved_scene_brings_everything_back(scene, sample, tmp_path) -> None:
    import slicer
    from IRAILib.scene.ablation import is_accepted, measure_margin
    from IRAILib.scene.ablation_results import read_record
    from IRAILib.scene.changes import part_of
    from IRAILib.scene.nodes import SegmentRef

    case, _ = sample
    registration, margin = measured(sample)
    ids = (registration.GetID(), margin.GetID(), case.tumor.node.GetID(), case.ablation.node.GetID(),
           case.pre.GetID(), case.post.GetID())
    before = read_record(margin)
    assert slicer.util.saveScene(str(tmp_path / "case.mrb"))
    scene.Clear(False)
    slicer.util.loadScene(str(tmp_path / "case.mrb"))
    registration, margin, tumor, ablation, pre, post = (scene.GetNodeByID(name) for name in ids)
    assert read_record(margin) == before
    assert {name for name in PARTS if part_of(margin, name) is not None} == PARTS
    assert is_accepted(registration)
    model = part_of(margin, "model")
    assert model.GetPolyData().GetPointData().GetArray("Margin_mm") is not None
    assert model.GetDisplayNode().GetColorNode() is part_of(margin, "colors")
    again = dataclasses.replace(case, tumor=SegmentRef(tumor, case.tumor.segment_id),
                                ablation=SegmentRef(ablation, case.ablation.segment_id), pre=pre, post=post,
                                organ=None, organ_pre=None, vessels=None)
    repeated = json.loads(measure_margin(again, registration, previous=margin).GetText())
    assert repeated["mam_mm"] == pytest.approx(before["mam_mm"], abs=1e-6)


def test_checkerboard_takes_fields_of_both_in_turn(scene, sample) -> None:
    from IRAILib.geometry import Grid, Volume
    from IRAILib.scene.ablation_views import checkerboard, show_checkerboard
    from IRAILib.scene.changes import part_of

    grid = Grid((4, 4, 4), np.diag([10.0, 10.0, 10.0, 1.0]))
    board = checkerboard(Volume(np.ones(grid.shape), grid), Volume(np.zeros(grid.shape), grid), field_mm=20.0)
    assert board.array[0, 0, :].tolist() == [0, 0, 1, 1]
    assert board.array[2, 0, :].tolist() == [1, 1, 0, 0]
    registration = registered(sample)
    assert show_checkerboard(registration) is part_of(registration, "checkerboard")
    count = len(node_ids(scene))
    show_checkerboard(registration)
    assert len(node_ids(scene)) == count


def test_report_files_are_all_there_or_none(scene, sample, tmp_path) -> None:
    from IRAILib.scene.ablation_report import FILES, write_case_report

    registration, margin = measured(sample)
    written = write_case_report(sample[0], margin, tmp_path / "out", registration=registration)
    assert sorted(path.name for path in written) == sorted(FILES)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "SYNTHETIC" in text
    assert text.count("data:image/png;base64,") >= 5
    with pytest.raises(InputError, match="measure"):
        write_case_report(sample[0], None, tmp_path / "none")
    assert not (tmp_path / "none").exists()
