"""DICOM series: written, read by three readers, and refused for every way in which they can be broken."""

from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from images_cases import SHAPE, axial_grid, edit, image, oblique_grid, refused, same_place, write_series
from IRAILib.geometry import Grid, Volume
from IRAILib.geometry.itk import from_sitk
from IRAILib.images import read_volume, write_dicom_series
from pydicom.uid import RLELossless, generate_uid


@pytest.fixture
def series(tmp_path):
    """A folder with an oblique series of six slices."""
    write_series(tmp_path / "ct")
    return tmp_path / "ct"


def files(folder):
    return sorted(folder.glob("*.dcm"))


def gdcm_read(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return from_sitk(reader.Execute())


@pytest.mark.parametrize("angles", [(0, 0, 0), (10, -20, 33), (90, 0, 0), (170, 5, -80)])
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_series_is_the_same_for_us_gdcm_and_the_writer(tmp_path, angles, modality):
    volume = image(oblique_grid(angles=angles))
    if modality == "MR":
        volume = volume.with_array(np.abs(volume.array))
    paths = write_series(tmp_path / "s", volume, modality=modality)
    back = read_volume(tmp_path / "s")
    assert len(paths) == SHAPE[0]
    assert all(p.is_file() for p in paths)
    assert same_place(back.grid, volume.grid, 1e-6)
    assert back.array.dtype == np.int16
    assert np.array_equal(back.array, volume.array)
    other = gdcm_read(tmp_path / "s")
    assert same_place(other.grid, volume.grid, 1e-6)
    assert np.array_equal(other.array, volume.array)


def test_left_handed_volume_keeps_its_place(tmp_path):
    matrix = oblique_grid().ras_from_ijk.copy()
    matrix[:3, 2] *= -1
    volume = image(Grid(SHAPE, matrix))
    write_series(tmp_path / "s", volume)
    back = read_volume(tmp_path / "s")
    assert np.array_equal(back.array, volume.array[::-1])
    assert np.allclose(back.grid.all_points_ras(), volume.grid.all_points_ras()[::-1], atol=1e-6)


def test_highdicom_reads_the_series(series):
    import highdicom

    stack = highdicom.get_volume_from_series([pydicom.dcmread(f) for f in files(series)])
    points = image().grid.points_ras(np.array([[0, 0, 0], [5, 39, 49]])) * [-1, -1, 1]
    index = np.round(stack.map_reference_to_indices(points)).astype(int)
    assert [stack.array[tuple(n)] for n in index] == [image().array[0, 0, 0], image().array[5, 39, 49]]


def test_order_and_nesting_of_files_do_not_matter(series, tmp_path):
    for n, file in enumerate(files(series)):
        folder = tmp_path / "messy" / f"{n % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / f"{(n * 5) % 6}")
    (tmp_path / "messy" / "DICOMDIR").write_bytes(b"anything")
    (tmp_path / "messy" / "README.txt").write_text("a note")
    shutil.copy(files(series)[2], tmp_path / "messy" / "copy.dcm")
    back = read_volume(tmp_path / "messy")
    assert same_place(back.grid, image().grid, 1e-6)
    assert np.array_equal(back.array, image().array)


def test_metadata_and_frame(tmp_path):
    frame, study = generate_uid(), generate_uid()
    write_series(tmp_path / "s", frame_of_reference=frame, study_uid=study, kernel="B30f", contrast_agent="Iodine",
                 series_number=4)
    back = read_volume(tmp_path / "s")
    assert back.frame_of_reference == frame
    expected = {"modality": "CT", "series_description": "PORTAL VENOUS", "contrast_phase": "portal", "kernel": "B30f",
                "contrast_agent": "Iodine", "study_uid": study, "slice_thickness_mm": 2.5, "series_number": 4,
                "derived": True, "images": 6}
    assert expected.items() <= back.metadata.items()
    assert back.metadata["slice_spacing_mm"] == pytest.approx(2.5)
    assert not {"patient_name", "PatientName"} & set(back.metadata)


def test_synthetic_images_say_so_in_pixels_and_header(tmp_path):
    grid = axial_grid((4, 200, 220))
    volume = Volume(np.full(grid.shape, -1000, np.int16), grid)
    volume.array[:, 60:160, 60:160] = 60
    write_series(tmp_path / "s", volume, synthetic=True)
    for file in files(tmp_path / "s"):
        header = pydicom.dcmread(file, stop_before_pixels=True)
        assert header.ImageType[0] == "DERIVED"
        assert header.BurnedInAnnotation == "YES"
        assert "ynthetic" in header.DerivationDescription
    back = read_volume(tmp_path / "s").array
    changed = np.argwhere((back != volume.array).any(axis=0))
    assert len(changed) > 100
    assert changed.max(axis=0)[0] < 12
    assert (back[:, :12] > 0).any(axis=(1, 2)).all()
    assert np.array_equal(back[:, 12:], volume.array[:, 12:])


def test_writer_errors(tmp_path):
    refused(lambda: write_series(tmp_path / "s", modality="US"), "modality")
    refused(lambda: write_series(tmp_path / "s", study_uid="no.uid"), "UID")
    values = np.full(SHAPE, np.nan, np.float32)
    refused(lambda: write_series(tmp_path / "s", Volume(values, oblique_grid())), "not numbers")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("x")
    refused(lambda: write_series(tmp_path / "full"), "didn't write")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full"]


def test_writer_replaces_its_own_series_but_never_a_scanner_s(series):
    smaller = image(oblique_grid((4, 40, 50)))
    write_series(series, smaller)
    assert np.array_equal(read_volume(series).array, smaller.array)
    edit(files(series)[0], ManufacturerModelName="LightSpeed16")
    refused(lambda: write_series(series), "didn't write")
    assert len(files(series)) == 4


def test_missing_slice(series):
    files(series)[2].unlink()
    text = refused(lambda: read_volume(series), "missing slice", "5 mm", "2.5 mm")
    assert text.startswith(f"{series}: 1 missing")


def test_two_missing_slices_are_counted(series):
    files(series)[1].unlink()
    files(series)[3].unlink()
    refused(lambda: read_volume(series), "2 missing slices")


def test_every_second_slice_missing_is_seen_by_the_stated_spacing(series):
    for file in files(series)[1::2]:
        file.unlink()
    refused(lambda: read_volume(series), "missing slices", "5 mm apart", "2.5 mm")


def test_moved_slice_is_an_uneven_gap(series):
    position = np.array(pydicom.dcmread(files(series)[3]).ImagePositionPatient, float)
    normal = oblique_grid().directions[:, 2] * [-1, -1, 1]
    edit(files(series)[3], ImagePositionPatient=list(np.round(position + 0.6 * normal, 6)))
    refused(lambda: read_volume(series), "uneven gaps")
    edit(files(series)[3], ImagePositionPatient=list(np.round(position - 2.5 * normal, 6)))
    refused(lambda: read_volume(series), "duplicated slice position")


def test_slice_beside_the_stack(series):
    position = np.array(pydicom.dcmread(files(series)[3]).ImagePositionPatient, float)
    side = oblique_grid().directions[:, 0] * [-1, -1, 1]
    edit(files(series)[3], ImagePositionPatient=list(np.round(position + 3.0 * side, 6)))
    refused(lambda: read_volume(series), "3.0 mm beside")


def test_rounded_positions_are_not_refused(tmp_path):
    write_series(tmp_path / "s", image(axial_grid(spacing=(0.7, 0.9, 1.25))))
    for file in files(tmp_path / "s"):
        x, y, z = (float(v) for v in pydicom.dcmread(file).ImagePositionPatient)
        edit(file, ImagePositionPatient=[x, y, round(z, 1)])
    assert read_volume(tmp_path / "s").spacing_mm[2] == pytest.approx(1.25, abs=0.03)


def test_phases_in_one_series(series, tmp_path):
    for n, file in enumerate(files(series)):
        dataset = pydicom.dcmread(file)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(series / f"again{n}.dcm")
    refused(lambda: read_volume(series), "2 images at every slice position")


def test_two_series_are_listed_and_can_be_chosen(series, tmp_path):
    other = image(oblique_grid(origin=(0, 0, 0)))
    paths = write_series(tmp_path / "late", other, description="LATE PHASE", series_number=7)
    for n, path in enumerate(paths):
        shutil.copy(path, series / f"late{n}.dcm")
    uid = str(pydicom.dcmread(paths[0]).SeriesInstanceUID)
    refused(lambda: read_volume(series), "several image series", "PORTAL VENOUS", "LATE PHASE", "6 images", uid,
            "number 7")
    for choice in (7, "7", uid):
        assert same_place(read_volume(series, series=choice).grid, other.grid, 1e-6)
    refused(lambda: read_volume(series, series=9), "no image series 9", "LATE PHASE")
    for path in series.glob("late*.dcm"):
        edit(path, SeriesNumber=1)
    refused(lambda: read_volume(series, series=1), "several series are number 1")


def test_localizer_beside_the_series_is_passed_over(series, tmp_path):
    scout = pydicom.dcmread(files(series)[0])
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.SOPInstanceUID = scout.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    scout.SeriesInstanceUID = generate_uid()
    scout.save_as(series / "scout.dcm")
    assert np.array_equal(read_volume(series).array, image().array)


def test_same_uid_other_content(series):
    dataset = pydicom.dcmread(files(series)[0])
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(series / "twin.dcm")
    refused(lambda: read_volume(series), "SOPInstanceUID", "other content")


@pytest.mark.parametrize(("values", "words"), [
    ({"ImageOrientationPatient": None}, ("ImageOrientationPatient", "missing")),
    ({"ImagePositionPatient": None}, ("ImagePositionPatient", "missing")),
    ({"PixelSpacing": None}, ("PixelSpacing", "missing")),
    ({"PixelSpacing": [0, 0]}, ("PixelSpacing", "zero")),
    ({"PixelSpacing": [-0.7, 0.7]}, ("PixelSpacing", "negative")),
    ({"PixelSpacing": [100, 100]}, ("absurd",)),
    ({"PixelSpacing": [0.001, 0.001]}, ("absurd",)),
    ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, ("ImageOrientationPatient", "wrong")),
    ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, ("ImageOrientationPatient", "wrong")),
    ({"ImageOrientationPatient": [2, 0, 0, 0, 2, 0]}, ("ImageOrientationPatient", "wrong")),
    ({"RescaleSlope": None}, ("rescale", "not HU")),
    ({"RescaleSlope": 0}, ("rescale", "damaged")),
    ({"SamplesPerPixel": 3}, ("colour",)),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, ("colour",)),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}, ("no CT, MR or PET",)),
    ({"GantryDetectorTilt": 12.0, "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, ("gantry tilt", "12")),
])
def test_broken_headers(tmp_path, values, words):
    write_series(tmp_path / "s", image(axial_grid()))
    for file in files(tmp_path / "s"):
        edit(file, **values)
    refused(lambda: read_volume(tmp_path / "s"), *words)


@pytest.mark.parametrize(("values", "words"), [
    ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, ("mixed orientation",)),
    ({"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0]}, ("mixed orientation",)),
    ({"PixelSpacing": [0.8, 0.8]}, ("mixed PixelSpacing",)),
    ({"FrameOfReferenceUID": "1.2.3"}, ("mixed FrameOfReferenceUID",)),
    ({"Modality": "MR"}, ("mixed Modality",)),
    ({"Rows": 20}, ("mixed size",)),
    ({"SeriesInstanceUID": "1.2.3"}, ("several image series",)),
])
def test_one_slice_that_does_not_belong(tmp_path, values, words):
    write_series(tmp_path / "s", image(axial_grid()))
    edit(files(tmp_path / "s")[2], **values)
    refused(lambda: read_volume(tmp_path / "s"), *words)


@pytest.mark.parametrize("degrees", [1.0, 12.0, -25.0])
def test_tilted_gantry(tmp_path, degrees):
    """A tilted gantry: the slices are tilted, the table still moves along the body."""
    write_series(tmp_path / "s", image(axial_grid((20, 40, 50))))
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    for file in files(tmp_path / "s"):
        edit(file, ImageOrientationPatient=[1, 0, 0, 0, round(c, 9), round(s, 9)], GantryDetectorTilt=degrees)
    refused(lambda: read_volume(tmp_path / "s"), "gantry tilt", f"{abs(degrees):.1f} degrees")


def test_single_slice_and_single_file(series):
    refused(lambda: read_volume(files(series)[0]), "single slice", "folder")
    for file in files(series)[1:]:
        file.unlink()
    refused(lambda: read_volume(series), "single slice")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["0003.dcm", "IM0003", "3"])
def test_truncated_slice(series, share, name):
    file = files(series)[2]
    whole = file.read_bytes()
    file.unlink()
    (series / name).write_bytes(whole[:int(share * len(whole))])
    refused(lambda: read_volume(series), name)


def test_varying_rescale_and_float_slope(series):
    for n, file in enumerate(files(series)):
        edit(file, RescaleSlope=0.5 + n)
    back = read_volume(series)
    stored = image().array.astype(float) + 1024
    assert back.array.dtype == np.float32
    assert np.allclose(back.array, stored * (0.5 + np.arange(6))[:, None, None] - 1024)


def test_compressed_series(series, tmp_path):
    for file in files(series):
        dataset = pydicom.dcmread(file)
        dataset.compress(RLELossless)
        dataset.save_as(file)
    assert np.array_equal(read_volume(series).array, image().array)
    whole = files(series)[1].read_bytes()
    for share in (0.4, 0.7, 0.97, 0.999):
        files(series)[1].write_bytes(whole[:int(share * len(whole))])
        refused(lambda: read_volume(series), "0002.dcm")


def test_twelve_bits_with_other_bits_above_them(series):
    """Old scanners keep overlays in the bits above the stored ones; negative values aren't sign-extended."""
    values = np.random.default_rng(5).integers(-2048, 2047, SHAPE[1:]).astype(np.int16)
    for file in files(series):
        raw = (values.view(np.uint16) & 0x0FFF | 0x5000).astype("<u2").tobytes()
        edit(file, BitsStored=12, HighBit=11, PixelRepresentation=1, PixelData=raw)
    assert np.array_equal(read_volume(series).array[3], values - 1024)
    assert np.array_equal(gdcm_read(series).array[3], values - 1024)


@pytest.mark.parametrize(("compressor", "name"), [("JPEG", "JPEG Lossless"), ("JPEG2000", "JPEG 2000")])
def test_jpeg_is_decoded_by_what_is_there_and_unknown_syntax_is_named(series, compressor, name):
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    for n, file in enumerate(files(series)):
        whole = pydicom.dcmread(file)
        writer.SetFileName(str(file))
        writer.Execute(sitk.GetImageFromArray(whole.pixel_array.astype(np.uint16)))
        packed = pydicom.dcmread(file)
        whole.PixelData, whole.file_meta.TransferSyntaxUID = packed.PixelData, packed.file_meta.TransferSyntaxUID
        whole["PixelData"].is_undefined_length = True
        whole.save_as(series / f"{n + 1:04d}.dcm")
    assert name in pydicom.dcmread(files(series)[0]).file_meta.TransferSyntaxUID.name
    assert np.array_equal(read_volume(series).array, image().array)
    whole = files(series)[1].read_bytes()
    for share in (0.6, 0.8, 0.97, 0.999):
        files(series)[1].write_bytes(whole[:int(share * len(whole))])
        refused(lambda: read_volume(series), "0002.dcm")
    files(series)[1].write_bytes(whole)
    for file in files(series):
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
        dataset.save_as(file)
    refused(lambda: read_volume(series), "no decoder", "MPEG2")


def enhanced(folder, volume, drop=()):
    """One enhanced CT file with a frame a slice, in scrambled order."""
    write_dicom_series(volume, folder / "parts", description="E", patient_id="P", patient_name="A^B", synthetic=False)
    parts = [pydicom.dcmread(f) for n, f in enumerate(files(folder / "parts")) if n not in drop]
    parts = [parts[(5 * n) % len(parts)] for n in range(len(parts))]
    base = pydicom.dcmread(files(folder / "parts")[0])
    base.SOPClassUID = base.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    shared, frames = pydicom.Dataset(), []

    def group(**values):
        item = pydicom.Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        return [item]

    shared.PixelMeasuresSequence = group(PixelSpacing=base.PixelSpacing, SliceThickness=base.SliceThickness)
    shared.PlaneOrientationSequence = group(ImageOrientationPatient=base.ImageOrientationPatient)
    shared.PixelValueTransformationSequence = group(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    for part in parts:
        frame = pydicom.Dataset()
        frame.PlanePositionSequence = group(ImagePositionPatient=part.ImagePositionPatient)
        frames.append(frame)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope",
                    "RescaleIntercept"):
        delattr(base, keyword)
    base.SharedFunctionalGroupsSequence, base.PerFrameFunctionalGroupsSequence = [shared], frames
    base.NumberOfFrames = len(parts)
    base.PixelData = b"".join(part.PixelData for part in parts)
    base.save_as(folder / "enhanced.dcm")
    shutil.rmtree(folder / "parts")
    return folder / "enhanced.dcm"


def test_enhanced_multiframe(tmp_path):
    volume = image(oblique_grid((7, 40, 50)))
    path = enhanced(tmp_path, volume)
    for place in (path, tmp_path):
        back = read_volume(place)
        assert same_place(back.grid, volume.grid, 1e-6)
        assert np.array_equal(back.array, volume.array)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    refused(lambda: read_volume(path), "truncated")
    path.write_bytes(whole)
    edit(path, NumberOfFrames=6)
    refused(lambda: read_volume(path), "6 frames but 7 positions")
    refused(lambda: read_volume(enhanced(tmp_path, volume, drop=(3,))), "missing slice")
    plain = pydicom.dcmread(path)
    del plain.PerFrameFunctionalGroupsSequence
    plain.save_as(path)
    refused(lambda: read_volume(path), "frames without a position")
