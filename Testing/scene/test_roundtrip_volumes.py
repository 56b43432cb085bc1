"""Volumes go to files and come back: voxels, spacing, direction and origin, in Slicer and in two other readers."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from mrml_cases import (
    MATRIX_TOLERANCE,
    assert_same_voxels,
    asymmetric_array,
    blob,
    matrix_of,
    oblique_ras_from_ijk,
    sitk_ras_from_ijk,
)

LEFT_HANDED = oblique_ras_from_ijk() @ np.diag([1.0, 1.0, -1.0, 1.0])
"""As many CT files have it: the slices run against the right-hand rule."""


@pytest.fixture(params=["oblique", "left-handed", "axial LPS"])
def ras_from_ijk(request):
    axial = np.diag([-0.8, -0.8, 5.0, 1.0])
    axial[:3, 3] = 120.5, 88.25, -400.0
    return {"oblique": oblique_ras_from_ijk(), "left-handed": LEFT_HANDED, "axial LPS": axial}[request.param]


@pytest.mark.parametrize("ending", ["nrrd", "nii.gz", "nii", "mha"])
def test_volume(app, tmp_path, ending, ras_from_ijk):
    import slicer

    array = asymmetric_array()
    volume = slicer.util.addVolumeFromArray(array, ras_from_ijk, "ct")
    path = tmp_path / f"ct.{ending}"
    assert slicer.util.saveNode(volume, str(path))
    loaded = slicer.util.loadVolume(str(path))
    assert loaded is not volume
    assert loaded.GetName().startswith("ct")
    assert_same_voxels(slicer.util.arrayFromVolume(loaded), matrix_of(loaded), array, ras_from_ijk)
    if np.linalg.det(ras_from_ijk) > 0:  # Slicer turns the slices round of a left-handed volume
        np.testing.assert_allclose(matrix_of(loaded), ras_from_ijk, atol=MATRIX_TOLERANCE)


@pytest.mark.parametrize("ending", ["nrrd", "nii.gz", "mha"])
def test_simpleitk_reads_what_slicer_saved(app, tmp_path, ending, ras_from_ijk):
    import slicer

    array = asymmetric_array()
    path = tmp_path / f"ct.{ending}"
    assert slicer.util.saveNode(slicer.util.addVolumeFromArray(array, ras_from_ijk), str(path))
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)
    np.testing.assert_allclose(sitk_ras_from_ijk(image), ras_from_ijk, atol=MATRIX_TOLERANCE)


def test_nibabel_reads_what_slicer_saved(app, tmp_path, ras_from_ijk):
    import slicer

    array = asymmetric_array()
    path = tmp_path / "ct.nii.gz"
    assert slicer.util.saveNode(slicer.util.addVolumeFromArray(array, ras_from_ijk), str(path))
    image = nibabel.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), array)
    np.testing.assert_allclose(image.affine, ras_from_ijk, atol=MATRIX_TOLERANCE)


def test_slicer_reads_what_simpleitk_saved(app, tmp_path):
    import slicer

    image = sitk.GetImageFromArray(asymmetric_array(dtype=np.float32))
    matrix = oblique_ras_from_ijk()
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / "foreign.nrrd"))
    loaded = slicer.util.loadVolume(str(tmp_path / "foreign.nrrd"))
    np.testing.assert_allclose(matrix_of(loaded), matrix, atol=MATRIX_TOLERANCE)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(loaded), asymmetric_array(dtype=np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_voxel_types_are_kept(app, tmp_path, dtype):
    import slicer

    array = (asymmetric_array() % 200).astype(dtype)
    path = tmp_path / "typed.nrrd"
    assert slicer.util.saveNode(slicer.util.addVolumeFromArray(array), str(path))
    loaded = slicer.util.arrayFromVolume(slicer.util.loadVolume(str(path)))
    assert loaded.dtype == dtype
    np.testing.assert_array_equal(loaded, array)


def test_colour_volume(app, tmp_path):
    import slicer

    array = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 3)).astype(np.uint8)
    volume = slicer.util.addVolumeFromArray(array, oblique_ras_from_ijk(), "photo", "vtkMRMLVectorVolumeNode")
    assert slicer.util.saveNode(volume, str(tmp_path / "photo.nrrd"))
    loaded = slicer.util.loadVolume(str(tmp_path / "photo.nrrd"))
    assert loaded.IsA("vtkMRMLVectorVolumeNode")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(loaded), array)


@pytest.mark.parametrize("ending", ["nrrd", "nii.gz"])
def test_label_map(app, tmp_path, ending):
    import slicer

    array = blob().astype(np.uint8) * 3
    array[5, 1, 1] = 7
    labels = slicer.util.addVolumeFromArray(array, oblique_ras_from_ijk(), "labels", "vtkMRMLLabelMapVolumeNode")
    path = tmp_path / f"labels.{ending}"
    assert slicer.util.saveNode(labels, str(path))
    loaded = slicer.util.loadLabelVolume(str(path))
    assert loaded.IsA("vtkMRMLLabelMapVolumeNode")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(loaded), array)
    np.testing.assert_allclose(matrix_of(loaded), oblique_ras_from_ijk(), atol=MATRIX_TOLERANCE)
    assert loaded.GetDisplayNode().GetColorNode() is not None


def test_load_options(app, tmp_path):
    import slicer

    path = tmp_path / "ct.nrrd"
    slicer.util.saveNode(slicer.util.addVolumeFromArray(asymmetric_array(), oblique_ras_from_ijk()), str(path))
    loaded = slicer.util.loadVolume(str(path), {"name": "other", "center": True, "show": False})
    assert loaded.GetName() == "other"
    centre = matrix_of(loaded) @ np.append((np.array(loaded.GetImageData().GetDimensions()) - 1) / 2, 1)
    np.testing.assert_allclose(centre[:3], 0, atol=MATRIX_TOLERANCE)
    plain = slicer.util.loadVolume(str(path), {"discardOrientation": True})
    np.testing.assert_allclose(np.abs(matrix_of(plain)[:3, :3]).sum(axis=0), plain.GetSpacing(), atol=MATRIX_TOLERANCE)


def test_update_from_array_changes_the_node_in_place(app):
    import slicer

    volume = slicer.util.addVolumeFromArray(asymmetric_array(), oblique_ras_from_ijk())
    slicer.util.updateVolumeFromArray(volume, asymmetric_array((3, 4, 5), np.float32) + 0.5)
    assert slicer.util.arrayFromVolume(volume)[2, 3, 4] == 59.5
    np.testing.assert_allclose(matrix_of(volume), oblique_ras_from_ijk(), atol=1e-9)
    slicer.util.arrayFromVolume(volume)[0, 0, 0] = -7
    assert volume.GetImageData().GetScalarComponentAsDouble(0, 0, 0, 0) == -7


def test_export_in_world_coordinates_leaves_the_node_alone(app, scene, tmp_path):
    import slicer

    volume = slicer.util.addVolumeFromArray(asymmetric_array(), oblique_ras_from_ijk())
    shift = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    world_from_node = oblique_ras_from_ijk((1, 1, 1), (5, -6, 7), (0, 0, 30))
    shift.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(world_from_node))
    volume.SetAndObserveTransformNodeID(shift.GetID())
    path = tmp_path / "world.nrrd"
    assert slicer.util.exportNode(volume, str(path), world=True)
    image = sitk.ReadImage(str(path))
    expected = world_from_node @ oblique_ras_from_ijk()
    np.testing.assert_allclose(sitk_ras_from_ijk(image), expected, atol=MATRIX_TOLERANCE)
    assert volume.GetStorageNode() is None
    np.testing.assert_allclose(matrix_of(volume), oblique_ras_from_ijk(), atol=1e-9)
