"""Clicks and engines on real MRML nodes. Only the foreign extensions' logics are stand-ins: they need the network."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from IRAILib.geometry import Grid, InputError, Volume


@pytest.fixture
def world(scene):
    """An oblique volume with a bright ball, and where its middle is."""
    from IRAILib.scene.write import volume_to_node

    turn = np.deg2rad(20.0)
    matrix = np.eye(4)
    turned = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, -1]]
    matrix[:3, :3] = np.array(turned) * [1, 1, 2]
    matrix[:3, 3] = (12.0, -30.0, 45.0)
    grid = Grid((24, 48, 44), matrix)
    middle = grid.points_ras(np.array([[11.0, 22.0, 25.0]]))[0]
    truth = np.linalg.norm(grid.all_points_ras() - middle, axis=-1) < 9.0
    array = 100.0 * truth + np.random.default_rng(0).normal(0, 12, grid.shape)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    volume_to_node(Volume(array.astype(np.float32), grid), node)
    return types.SimpleNamespace(node=node, truth=truth, middle=middle, grid=grid,
                                 segmentation=scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Seg"))


def points(scene, *places):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    for place in places:
        node.AddControlPoint(*[float(p) for p in place])
    return node


def test_clicks_become_a_segment_in_place(scene, world):
    from IRAILib.scene import segmentation
    from IRAILib.scene.nodes import SegmentRef, mask_from_segment

    inside, outside = points(scene, world.middle + 1.5), points(scene, world.middle + [14.0, 0.0, 0.0])
    world.segmentation.CreateDefaultDisplayNodes()
    segment_id, result = segmentation.segment_seeded(world.node, inside, outside, world.segmentation, name="Lesion")
    mask = mask_from_segment(SegmentRef(world.segmentation, segment_id), world.grid)
    np.testing.assert_array_equal(mask.array, result.mask.array)
    assert 2 * (mask.array & world.truth).sum() / (mask.array.sum() + world.truth.sum()) > 0.93
    assert segmentation.boundary_sigma_mm(world.segmentation, segment_id) == pytest.approx(
        result.boundary_sigma_mm, abs=1e-3)

    again, _ = segmentation.segment_seeded(world.node, inside, None, world.segmentation, name="Lesion")
    assert again == segment_id
    assert world.segmentation.GetSegmentation().GetNumberOfSegments() == 1


def test_a_parent_transform_moves_the_result(scene, world):
    from IRAILib.scene import segmentation
    from IRAILib.scene.nodes import SegmentRef, mask_from_segment
    from IRAILib.scene.write import matrix_to_vtk

    matrix = np.eye(4)
    matrix[:3, 3] = (50.0, -20.0, 10.0)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(matrix_to_vtk(matrix))
    world.node.SetAndObserveTransformNodeID(transform.GetID())
    inside = points(scene, world.middle + matrix[:3, 3])
    segment_id, _ = segmentation.segment_seeded(world.node, inside, None, world.segmentation)
    mask = mask_from_segment(SegmentRef(world.segmentation, segment_id))
    centroid = mask.grid.points_ras(np.argwhere(mask.array)).mean(axis=0)
    np.testing.assert_allclose(centroid, world.middle + matrix[:3, 3], atol=0.5)


def test_what_is_missing_is_said(scene, world):
    from IRAILib.scene import segmentation

    with pytest.raises(InputError, match="no inside point"):
        segmentation.segment_seeded(world.node, points(scene), None, world.segmentation)
    with pytest.raises(InputError, match="outside the image"):
        segmentation.segment_seeded(world.node, points(scene, (900, 0, 0)), None, world.segmentation)
    with pytest.raises(InputError, match="no volume"):
        segmentation.segment_seeded(None, points(scene, (0, 0, 0)), None, world.segmentation)
    assert world.segmentation.GetSegmentation().GetNumberOfSegments() == 0
    assert segmentation.available_engines() == []
    assert "Extensions Manager" in segmentation.engine_hint()
    with pytest.raises(InputError, match="not installed"):
        segmentation.segment_engine("totalsegmentator", world.node, world.segmentation)
    with pytest.raises(InputError, match="no segmentation engine"):
        segmentation.segment_engine("crystal ball", world.node, world.segmentation)


class _Total:
    """What TotalSegmentatorLogic's public methods take; adds two segments, or fails half-way."""

    calls = []
    fails = False

    def setupPythonRequirements(self, upgrade=False):
        self.calls.append("setup")

    def process(self, inputVolume, outputSegmentation, quality=None, cpu=False, task=None, subset=None,
                interactive=False, sequenceBrowserNode=None):
        self.calls.append((inputVolume.GetName(), task, quality, interactive))
        outputSegmentation.GetSegmentation().AddEmptySegment("liver", "liver")
        if self.fails:
            raise RuntimeError("no GPU\nand a long log")
        outputSegmentation.GetSegmentation().AddEmptySegment("spleen", "spleen")


class _Auto3D:
    def process(self, inputNodes, outputSegmentation, model=None, cpu=False, waitForCompletion=True,
                sequenceBrowserNode=None, eventCallback=None, customEventCallbackData=None):
        assert waitForCompletion
        assert [n.GetName() for n in inputNodes] == ["CT"]
        outputSegmentation.GetSegmentation().AddEmptySegment(model or "default", "x")


@pytest.fixture
def extensions(monkeypatch, app):
    import slicer

    for key, module, name, kind in (("totalsegmentator", "TotalSegmentator", "TotalSegmentatorLogic", _Total),
                                    ("monaiauto3dseg", "MONAIAuto3DSeg", "MONAIAuto3DSegLogic", _Auto3D)):
        stand_in = types.ModuleType(module)
        setattr(stand_in, name, kind)
        monkeypatch.setitem(sys.modules, module, stand_in)
        monkeypatch.setattr(slicer.modules, key, object(), raising=False)
    monkeypatch.setattr(_Total, "calls", [])


def test_installed_engines_are_called_as_their_public_code_is(world, extensions, monkeypatch):
    from IRAILib.scene import segmentation

    assert segmentation.available_engines() == ["totalsegmentator", "monaiauto3dseg"]
    added = segmentation.segment_engine("totalsegmentator", world.node, world.segmentation, cpu=True)
    assert added == ["liver", "spleen"]
    assert _Total.calls == ["setup", ("CT", "total", "fast", False)]
    assert segmentation.segment_engine("monaiauto3dseg", world.node, world.segmentation, task="tiny") == ["tiny"]

    world.segmentation.GetSegmentation().RemoveSegment("liver")
    monkeypatch.setattr(_Total, "fails", True)
    with pytest.raises(InputError, match="TotalSegmentator failed on CT: no GPU and a long log") as error:
        segmentation.segment_engine("totalsegmentator", world.node, world.segmentation)
    assert "\n" not in str(error.value)
    assert list(world.segmentation.GetSegmentation().GetSegmentIDs()) == ["spleen", "tiny"]
