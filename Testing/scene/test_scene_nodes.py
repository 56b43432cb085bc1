"""Library objects into nodes and back: oblique grids, parent transforms, segments, point maps."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import (
    CompositeTransform,
    EmptyMaskError,
    Grid,
    GridTransform,
    InputError,
    LinearTransform,
    Mask,
    Volume,
)

RNG = np.random.default_rng(3)


def rotation(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q[:, 0] *= np.sign(np.linalg.det(q))
    return q


def oblique(shape=(10, 12, 14), seed: int = 1) -> Grid:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(seed) * [1.0, 1.5, 2.0]
    matrix[:3, 3] = [5.0, -7.0, 9.0]
    return Grid(shape, matrix)


def rigid(seed: int = 2) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation(seed), [1.0, 2.0, 3.0]
    return matrix


def transform_node(scene, matrix: np.ndarray):
    from IRAILib.scene.nodes import matrix_to_vtk

    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "parent")
    node.SetMatrixTransformToParent(matrix_to_vtk(matrix))
    return node


@pytest.fixture
def box() -> Mask:
    grid = oblique()
    array = np.zeros(grid.shape, bool)
    array[3:6, 4:9, 2:10] = True
    return Mask(array, grid, "box")


def volume_node(scene, grid: Grid):
    from IRAILib.scene.write import volume_to_node

    values = RNG.normal(size=grid.shape).astype(np.float32)
    return volume_to_node(Volume(values, grid, "v"), scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "v")), values


def segmentation_node(scene, mask: Mask, name: str = "Tumour"):
    from IRAILib.scene.nodes import SegmentRef
    from IRAILib.scene.write import mask_to_segment

    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "seg")
    return SegmentRef(node, mask_to_segment(node, mask, name, (1.0, 0.0, 0.0)))


def test_a_volume_keeps_its_voxels_and_its_oblique_place(scene) -> None:
    from IRAILib.scene.nodes import volume_from_node

    node, values = volume_node(scene, oblique())
    back = volume_from_node(node)
    assert back.grid.same_grid(oblique())
    assert np.array_equal(back.array, values)


def test_a_linear_parent_transform_is_applied(scene, box) -> None:
    from IRAILib.scene.nodes import mask_from_segment, volume_from_node

    node, _ = volume_node(scene, oblique())
    parent = transform_node(scene, rigid())
    node.SetAndObserveTransformNodeID(parent.GetID())
    assert np.allclose(volume_from_node(node).ras_from_ijk, rigid() @ oblique().ras_from_ijk)
    ref = segmentation_node(scene, box)
    ref.node.SetAndObserveTransformNodeID(parent.GetID())
    moved = mask_from_segment(ref)
    centre = moved.grid.points_ras(np.argwhere(moved.array).mean(axis=0)[None])
    still = LinearTransform(rigid(), "w", "n").apply(box.grid.points_ras(np.argwhere(box.array).mean(axis=0)[None]))
    assert np.allclose(centre, still)


def test_a_hardened_node_reads_as_one_under_the_transform(scene, box) -> None:
    from IRAILib.scene.nodes import volume_from_node

    node, _ = volume_node(scene, oblique())
    node.SetAndObserveTransformNodeID(transform_node(scene, rigid()).GetID())
    before = volume_from_node(node).ras_from_ijk
    node.HardenTransform()
    assert np.allclose(volume_from_node(node).ras_from_ijk, before)


def test_deformable_and_shearing_parents_are_refused_with_the_way_out(scene) -> None:
    from IRAILib.scene.nodes import volume_from_node
    from IRAILib.scene.transforms import transform_to_node

    node, _ = volume_node(scene, oblique())
    warp = scene.AddNewNodeByClass("vtkMRMLTransformNode", "warp")
    field = RNG.normal(size=(4, 4, 4, 3)).astype(np.float32)
    transform_to_node(GridTransform(oblique((4, 4, 4)), field, "m", "f"), warp)
    node.SetAndObserveTransformNodeID(warp.GetID())
    with pytest.raises(InputError, match="harden"):
        volume_from_node(node)
    shear = np.eye(4)
    shear[0, 1] = 0.3
    node.SetAndObserveTransformNodeID(transform_node(scene, shear).GetID())
    with pytest.raises(InputError, match="perpendicular"):
        volume_from_node(node)


def test_a_segment_comes_back_voxel_for_voxel(scene, box) -> None:
    from IRAILib.scene.nodes import mask_from_segment

    ref = segmentation_node(scene, box)
    back = mask_from_segment(ref)
    assert back.grid.same_grid(box.grid)
    assert np.array_equal(back.array, box.array)
    on_volume = mask_from_segment(ref, box.grid.cropped_grid((-2, -1, 0), (15, 15, 15)))
    assert on_volume.volume_ml == pytest.approx(box.volume_ml)


def test_two_overlapping_segments_of_one_node_stay_apart(scene, box) -> None:
    from IRAILib.scene.nodes import SegmentRef, mask_from_segment
    from IRAILib.scene.write import mask_to_segment

    ref = segmentation_node(scene, box)
    shifted = box.with_array(np.roll(box.array, 2, axis=0))
    other = SegmentRef(ref.node, mask_to_segment(ref.node, shifted, "Zone"))
    assert np.array_equal(mask_from_segment(ref).array, box.array)
    assert np.array_equal(mask_from_segment(other).array, shifted.array)


def test_a_segment_that_is_only_a_surface_is_converted_on_a_copy(scene) -> None:
    import slicer
    from IRAILib.scene.nodes import mask_from_segment

    grid = oblique((30, 30, 30))
    ball = Mask(np.linalg.norm(grid.all_points_ras() - grid.centre_ras, axis=-1) < 12.0, grid, "ball")
    ref = segmentation_node(scene, ball)
    names = slicer.vtkSegmentationConverter
    surface = names.GetSegmentationClosedSurfaceRepresentationName()
    labelmap = names.GetSegmentationBinaryLabelmapRepresentationName()
    ref.node.CreateClosedSurfaceRepresentation()
    ref.node.GetSegmentation().SetSourceRepresentationName(surface)
    ref.node.GetSegmentation().RemoveRepresentation(labelmap)
    assert mask_from_segment(ref).volume_ml == pytest.approx(ball.volume_ml, rel=0.1)
    assert not ref.node.GetSegmentation().ContainsRepresentation(labelmap)


def test_missing_and_empty_segments_say_so(scene, box) -> None:
    from IRAILib.scene.nodes import SegmentRef, mask_from_segment

    ref = segmentation_node(scene, box)
    with pytest.raises(InputError, match="no segment 'x'"):
        mask_from_segment(SegmentRef(ref.node, "x"))
    empty = SegmentRef(ref.node, ref.node.GetSegmentation().AddEmptySegment("", "Nothing"))
    with pytest.raises(EmptyMaskError, match="Nothing"):
        mask_from_segment(empty)


def test_markups_are_read_in_the_world_and_only_where_placed(scene) -> None:
    from IRAILib.scene.nodes import points_from_markups

    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "f")
    node.AddControlPoint([1.0, 2.0, 3.0])
    node.AddControlPoint([4.0, 5.0, 6.0])
    node.UnsetNthControlPointPosition(1)
    node.SetAndObserveTransformNodeID(transform_node(scene, rigid()).GetID())
    expected = LinearTransform(rigid(), "w", "n").apply([[1.0, 2.0, 3.0]])
    assert np.allclose(points_from_markups(node), expected)
    assert points_from_markups(None).shape == (0, 3)


def grid_map(to: str, of: str) -> GridTransform:
    field = np.random.default_rng(5).normal(size=(6, 7, 8, 3)).astype(np.float32)
    return GridTransform(oblique((6, 7, 8)), field, to, of)


def linear_map(to: str, of: str) -> LinearTransform:
    return LinearTransform(rigid(), to, of)


@pytest.mark.parametrize("kind", ["linear", "grid", "linear after grid", "grid after linear"])
def test_a_point_map_is_the_same_in_the_node_and_comes_back(scene, kind: str) -> None:
    from IRAILib.scene.transforms import transform_from_node, transform_to_node

    transform = {"linear": lambda: linear_map("m", "f"), "grid": lambda: grid_map("m", "f"),
                 "linear after grid": lambda: CompositeTransform([linear_map("m", "x"), grid_map("x", "f")]),
                 "grid after linear": lambda: CompositeTransform([grid_map("m", "x"), linear_map("x", "f")])}[kind]()
    volume, _ = volume_node(scene, oblique())
    node = transform_to_node(transform, scene.AddNewNodeByClass("vtkMRMLTransformNode", "t"), volume, volume)
    points = oblique((6, 7, 8)).points_ras(RNG.uniform(0.5, 4.5, size=(60, 3)))
    if kind == "grid after linear":
        points = linear_map("x", "f").inverse().apply(points)
    seen = np.array([node.GetTransformFromParent().TransformPoint(point) for point in points])
    assert np.abs(seen - transform.apply(points)).max() < 1e-3
    back = transform_from_node(node, "m", "f")
    assert (back.to_frame, back.from_frame) == ("m", "f")
    assert np.abs(back.apply(points) - transform.apply(points)).max() < 1e-3
    assert node.GetNodeReference(node.GetFixedNodeReferenceRole()) is volume


def test_beyond_its_grid_a_node_moves_nothing_as_the_library(scene) -> None:
    from IRAILib.scene.transforms import transform_to_node

    node = transform_to_node(grid_map("m", "f"), scene.AddNewNodeByClass("vtkMRMLTransformNode", "t"))
    far = oblique((6, 7, 8)).points_ras([[-2.5, 3.0, 3.0], [9.0, 3.0, 3.0]])
    seen = np.array([node.GetTransformFromParent().TransformPoint(point) for point in far])
    assert np.allclose(seen, far)


def test_inverse_undoes_a_smooth_deformation() -> None:
    grid = Grid((12, 12, 12), np.diag([5.0, 5.0, 5.0, 1.0]))
    wave = np.sin(grid.all_points_ras() / 12.0).astype(np.float32) * 2.0
    forward = GridTransform(grid, wave, "pre", "post")
    points = RNG.uniform(12.0, 40.0, size=(50, 3))
    back = forward.inverse()
    assert (back.to_frame, back.from_frame) == ("post", "pre")
    assert np.abs(back.apply(forward.apply(points)) - points).max() < 0.01


def test_a_failed_change_leaves_no_node(scene) -> None:
    from IRAILib.scene.changes import SceneChange

    before = {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}

    def half_a_change() -> None:
        with SceneChange() as change:
            node = change.add("vtkMRMLModelNode", "m", "role")
            node.CreateDefaultDisplayNodes()
            node.AddDefaultStorageNode()
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        half_a_change()
    assert {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())} == before
    assert not scene.IsBatchProcessing()
