"""NIfTI, NRRD and MetaImage: place and values kept, and every kind of damage named."""

from __future__ import annotations

import gzip
import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from images_cases import attempt, box_mask, image, oblique_grid, refused, same_place
from IRAILib.geometry import EmptyMaskError, Grid, Mask, Volume
from IRAILib.images import read_mask, read_volume, replacing, write_mask, write_volume

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("mirror", [1.0, -1.0])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64, np.int32])
def test_round_trip_keeps_oblique_place_values_and_type(tmp_path, suffix, mirror, dtype):
    matrix = oblique_grid().ras_from_ijk.copy()
    matrix[:3, 0] *= mirror
    volume = image(Grid(oblique_grid().shape, matrix))
    volume = volume.with_array((volume.array % 256).astype(dtype))
    write_volume(volume, tmp_path / f"v{suffix}")
    back = read_volume(tmp_path / f"v{suffix}")
    assert same_place(back.grid, volume.grid, 1e-4)
    assert back.array.dtype == dtype
    assert np.array_equal(back.array, volume.array)
    assert [p.name for p in tmp_path.iterdir()] == [f"v{suffix}"]


def test_nibabel_sees_the_same_nifti(tmp_path):
    write_volume(image(), tmp_path / "v.nii.gz")
    seen = nibabel.load(tmp_path / "v.nii.gz")
    assert np.allclose(seen.affine, image().ras_from_ijk, atol=1e-5)
    assert np.array_equal(np.asarray(seen.dataobj).T, image().array)


def test_nibabel_written_sform_only_and_qform_only_and_scaled(tmp_path):
    grid = oblique_grid()
    for name, codes in (("s", (0, 1)), ("q", (1, 0)), ("both", (1, 1))):
        made = nibabel.Nifti1Image(image().array.T, grid.ras_from_ijk)
        made.set_qform(grid.ras_from_ijk, codes[0])
        made.set_sform(grid.ras_from_ijk, codes[1])
        nibabel.save(made, tmp_path / f"{name}.nii.gz")
        assert same_place(read_volume(tmp_path / f"{name}.nii.gz").grid, grid, 1e-3)
    made = nibabel.Nifti2Image(image().array.T, grid.ras_from_ijk)
    nibabel.save(made, tmp_path / "two.nii")
    refused(lambda: read_volume(tmp_path / "two.nii"), "NIfTI-2")
    made = nibabel.Nifti1Image(image().array.T, grid.ras_from_ijk)
    made.header.set_slope_inter(2.0, -5.0)
    nibabel.save(made, tmp_path / "scaled.nii")
    assert np.allclose(read_volume(tmp_path / "scaled.nii").array, np.asarray(nibabel.load(
        tmp_path / "scaled.nii").dataobj).T)


def _nifti(path, array=None, affine=None, **header):
    array = image().array.T if array is None else array
    made = nibabel.Nifti1Image(array, oblique_grid().ras_from_ijk if affine is None else affine)
    for key, value in header.items():
        made.header[key] = value
    nibabel.save(made, path)
    return path


def test_nifti_orientation_problems(tmp_path):
    grid = oblique_grid().ras_from_ijk
    made = nibabel.Nifti1Image(image().array.T, None)
    nibabel.save(made, tmp_path / "none.nii")
    raw = bytearray((tmp_path / "none.nii").read_bytes())
    raw[252:256] = bytes(4)
    (tmp_path / "none.nii").write_bytes(raw)
    refused(lambda: read_volume(tmp_path / "none.nii"), "none.nii", "neither sform nor qform")

    made = nibabel.Nifti1Image(image().array.T, grid)
    moved = grid.copy()
    moved[0, 3] += 4.0
    made.set_qform(moved, 1)
    nibabel.save(made, tmp_path / "two.nii")
    refused(lambda: read_volume(tmp_path / "two.nii"), "sform and qform disagree", "4.0 mm")

    sheared = grid.copy()
    sheared[:3, 2] += 0.3 * sheared[:3, 1]
    made = nibabel.Nifti1Image(image().array.T, sheared)
    made.set_qform(None, 0)
    nibabel.save(made, tmp_path / "shear.nii")
    refused(lambda: read_volume(tmp_path / "shear.nii"), "not orthogonal")

    bad = grid.copy()
    bad[1, 1] = np.nan
    raw = bytearray(_nifti(tmp_path / "nan.nii").read_bytes())
    raw[280:284] = struct.pack("<f", np.nan)
    (tmp_path / "nan.nii").write_bytes(raw)
    refused(lambda: read_volume(tmp_path / "nan.nii"), "not a finite number")


@pytest.mark.parametrize(("scale", "words"), [
    ((0.0, 1, 1), "zero"), ((1e-4, 1, 1), "absurd"), ((1, 1, 80.0), "absurd"), ((1000, 1000, 1000), "absurd")])
@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_zero_and_absurd_spacing(tmp_path, suffix, scale, words):
    path = tmp_path / f"v{suffix}"
    write_volume(image(Grid(oblique_grid().shape, np.diag([1.0, 1, 1, 1]))), path)
    raw = path.read_bytes()
    if suffix == ".nii":
        out = bytearray(raw)
        out[80:92] = struct.pack("<3f", *scale)
        for row in range(3):
            at = 280 + 16 * row + 4 * row
            out[at:at + 4] = struct.pack("<f", struct.unpack("<f", raw[at:at + 4])[0] * scale[row])
        raw = bytes(out)
    elif suffix == ".nrrd":
        head, _, data = raw.partition(b"\n\n")
        text = "".join(f"({a},{b},{c}) " for a, b, c in np.diag(scale) * [-1, -1, 1])
        lines = [f"space directions: {text}".encode() if line.startswith(b"space directions") else line
                 for line in head.split(b"\n")]
        raw = b"\n".join(lines) + b"\n\n" + data
    else:
        raw = raw.replace(b"ElementSpacing = 1 1 1", "ElementSpacing = {} {} {}".format(*scale).encode())
    path.write_bytes(raw)
    refused(lambda: read_volume(path), words, path.name)


def test_nifti_whose_pixdim_contradicts_its_sform(tmp_path):
    raw = bytearray(_nifti(tmp_path / "v.nii").read_bytes())
    raw[80:84] = struct.pack("<f", 2.0)
    (tmp_path / "v.nii").write_bytes(raw)
    refused(lambda: read_volume(tmp_path / "v.nii"), "contradicts itself")


def test_wrong_dimensions_kinds_and_values(tmp_path):
    grid = oblique_grid()
    _nifti(tmp_path / "d4.nii", np.zeros((5, 6, 7, 3), np.int16))
    refused(lambda: read_volume(tmp_path / "d4.nii"), "4D")
    _nifti(tmp_path / "d2.nii", np.zeros((5, 6), np.int16))
    refused(lambda: read_volume(tmp_path / "d2.nii"), "2D")
    _nifti(tmp_path / "one.nii", np.zeros((5, 6, 1), np.int16))
    refused(lambda: read_volume(tmp_path / "one.nii"), "slice")
    assert read_volume(_nifti(tmp_path / "d41.nii", np.zeros((5, 6, 7, 1), np.int16))).array.shape == (7, 6, 5)
    colour = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    for suffix in (".mha", ".nrrd"):
        sitk.WriteImage(colour, str(tmp_path / f"rgb{suffix}"))
        refused(lambda s=suffix: read_volume(tmp_path / f"rgb{s}"), "components")
    values = np.zeros(grid.shape, np.float32)
    values[1, 2, 3] = np.nan
    write_volume(Volume(values, grid), tmp_path / "nan.nrrd")
    refused(lambda: read_volume(tmp_path / "nan.nrrd"), "1 voxels", "NaN")


def test_nrrd_without_patient_space(tmp_path):
    data = bytes(2 * 4 * 5 * 6)
    for space, more in (("", b"spacings: 1 1 2"), (b"space: scanner-xyz", b"space directions: (1,0,0) (0,1,0) (0,0,2)"),
                        (b"space: left-posterior-superior", b"spacings: 1 1 2")):
        lines = [b"NRRD0004", b"type: short", b"dimension: 3", space or b"# no space", b"sizes: 4 5 6", more,
                 b"encoding: raw", b"endian: little"]
        (tmp_path / "v.nrrd").write_bytes(b"\n".join(lines) + b"\n\n" + data)
        refused(lambda: read_volume(tmp_path / "v.nrrd"), "space")
    lines[3], lines[5] = b"space: right-anterior-superior", b"space directions: (1,0,0) (0,1,0) (0,0,2)"
    (tmp_path / "v.nrrd").write_bytes(b"\n".join([*lines, b"space origin: (1,2,3)"]) + b"\n\n" + data)
    assert np.array_equal(read_volume(tmp_path / "v.nrrd").ras_from_ijk,
                          [[1, 0, 0, 1], [0, 1, 0, 2], [0, 0, 2, 3], [0, 0, 0, 1]])


def test_detached_headers_need_their_data(tmp_path):
    for suffix in (".nhdr", ".mhd"):
        volume = sitk.GetImageFromArray(image().array)
        sitk.WriteImage(volume, str(tmp_path / f"v{suffix}"))
        assert np.array_equal(read_volume(tmp_path / f"v{suffix}").array, image().array)
        data, = (p for p in tmp_path.iterdir() if p.suffix not in (".nhdr", ".mhd"))
        data.write_bytes(data.read_bytes()[:-10])
        refused(lambda s=suffix: read_volume(tmp_path / f"v{s}"), "truncated")
        data.unlink()
        refused(lambda s=suffix: read_volume(tmp_path / f"v{s}"), "data file", "missing")


def test_names_that_are_no_images(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    refused(lambda: read_volume(tmp_path / "absent.nii"), "no such file")
    refused(lambda: read_volume(tmp_path / "notes.txt"), "not an image")
    refused(lambda: read_volume(tmp_path / "empty"), "no DICOM file")
    for suffix in (*SUFFIXES, ".seg.nrrd", ".zip", ".tar.xz", ".dcm"):
        for content in (b"", b"hello world, this is not an image" * 40, bytes(2000)):
            path = tmp_path / f"fake{suffix}"
            path.write_bytes(content)
            refused(lambda p=path: read_volume(p))
            refused(lambda p=path: read_mask(p))


def _damage_base(folder, suffix):
    path = folder / f"whole{suffix}"
    if not path.exists():
        smooth = np.add.outer(np.add.outer(np.arange(6) * 30, np.arange(40)), np.arange(50) * 2)
        write_volume(Volume(smooth.astype(np.int16), oblique_grid()), path)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=25, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.0, 1.0, exclude_max=True))
def test_any_truncation_is_an_error(tmp_path, suffix, share):
    whole = _damage_base(tmp_path, suffix)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole[:int(share * len(whole))])
    refused(lambda: read_volume(path), path.name)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("missing", [1, 4, 8, 9, 200])
def test_even_the_last_byte_is_missed(tmp_path, suffix, missing):
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(_damage_base(tmp_path, suffix)[:-missing])
    refused(lambda: read_volume(path), path.name)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@settings(max_examples=25, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.35, 0.999), flip=st.integers(1, 255))
def test_damage_inside_compressed_voxels_is_never_silent(tmp_path, suffix, share, flip):
    whole = bytearray(_damage_base(tmp_path, suffix))
    right = read_volume(tmp_path / f"whole{suffix}").array
    start = 10 if suffix == ".nii.gz" else max(whole.find(b"\n\n") + 12, whole.find(b"LOCAL\n") + 8)
    whole[start + int(share * (len(whole) - start - 1))] ^= flip
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(bytes(whole))
    seen = attempt(lambda: read_volume(path))
    assert seen is None or np.array_equal(seen.array, right)


def test_packed_and_plain_file_of_one_name_are_not_confused(tmp_path):
    """ITK's NIfTI reader takes the voxels of a.nii when it is asked for a.nii.gz beside it."""
    other = image().with_array(image().array + 1)
    write_volume(image(), tmp_path / "a.nii")
    write_volume(other, tmp_path / "a.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "a.nii").array, image().array)
    assert np.array_equal(read_volume(tmp_path / "a.nii.gz").array, other.array)


@pytest.mark.parametrize("flags", [0x20, 0x40, 0x80, 0x02])
def test_gzip_flags_that_nobody_sets(tmp_path, flags):
    raw = bytearray(_damage_base(tmp_path, ".nii.gz"))
    raw[3] |= flags
    (tmp_path / "v.nii.gz").write_bytes(raw)
    refused(lambda: read_volume(tmp_path / "v.nii.gz"), "damaged")


def test_gzip_bomb_and_impossible_size(tmp_path):
    raw = bytearray(_nifti(tmp_path / "v.nii").read_bytes())
    raw[40:56] = struct.pack("<8h", 3, 32000, 32000, 32000, 1, 1, 1, 1)
    with gzip.open(tmp_path / "v.nii.gz", "wb") as file:
        file.write(raw)
    refused(lambda: read_volume(tmp_path / "v.nii.gz"))


def test_writer_refuses_other_names_and_sheared_grids(tmp_path):
    refused(lambda: write_volume(image(), tmp_path / "v.png"), ".nii.gz")
    refused(lambda: write_volume(image(), tmp_path / "v.mhd"), ".mha")
    sheared = oblique_grid().ras_from_ijk.copy()
    sheared[:3, 2] += 0.2 * sheared[:3, 1]
    refused(lambda: write_volume(image(Grid(oblique_grid().shape, sheared)), tmp_path / "v.nrrd"), "orthogonal")
    assert list(tmp_path.iterdir()) == []


def test_replacing_keeps_the_old_file_when_the_work_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    (tmp_path / "file").write_text("")
    refused(lambda: write_mask(box_mask(), tmp_path / "file" / "m.nrrd"), "can't be written")


def test_masks_from_label_maps(tmp_path):
    grid = oblique_grid()
    labels = np.zeros(grid.shape, np.uint8)
    labels[1:3, 5:9, 5:9], labels[4, 20:30, 20:30] = 1, 7
    write_volume(Volume(labels, grid), tmp_path / "l.nii.gz")
    refused(lambda: read_mask(tmp_path / "l.nii.gz"), "2 labels", "1, 7")
    refused(lambda: read_mask(tmp_path / "l.nii.gz", label=3), "3", "1, 7")
    refused(lambda: read_mask(tmp_path / "l.nii.gz", label="liver"), "liver", "1, 7")
    for label in (7, "7"):
        assert np.array_equal(read_mask(tmp_path / "l.nii.gz", label=label).array, labels == 7)
    write_volume(Volume(labels * 0, grid), tmp_path / "e.nrrd")
    refused(lambda: read_mask(tmp_path / "e.nrrd"), "e.nrrd", "empty", kind=EmptyMaskError)
    write_volume(Volume(labels / np.float32(9), grid), tmp_path / "f.nrrd")
    refused(lambda: read_mask(tmp_path / "f.nrrd"), "fractions")
    write_volume(image(), tmp_path / "ct.nrrd")
    refused(lambda: read_mask(tmp_path / "ct.nrrd"), "no label map")
    write_mask(Mask(labels == 7, grid), tmp_path / "m.mha")
    assert np.array_equal(read_mask(tmp_path / "m.mha").array, labels == 7)
