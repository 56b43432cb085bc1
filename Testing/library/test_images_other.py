"""Archives, points, transforms; bytes flipped in DICOM headers."""

from __future__ import annotations

import io
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from images_cases import attempt, axial_grid, image, oblique_grid, refused, same_place, write_series
from IRAILib.geometry import CompositeTransform, GridTransform, LinearTransform
from IRAILib.images import (
    archives,
    read_points,
    read_transform,
    read_volume,
    write_points,
    write_transform,
    write_volume,
)

TARS = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz", ".tar.bz2": "w:bz2"}


def pack(folder, path):
    """An archive of a folder, by its suffix."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder.parent))
    else:
        mode = next(m for s, m in TARS.items() if path.name.endswith(s))
        with tarfile.open(path, mode) as archive:
            archive.add(folder, folder.name)
    return path


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where archives are unpacked; must be empty after each test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("suffix", [".zip", *TARS])
def test_archive_with_a_series(tmp_path, temporary, suffix):
    write_series(tmp_path / "ct" / "inner")
    back = read_volume(pack(tmp_path / "ct", tmp_path / f"case{suffix}"))
    assert np.array_equal(back.array, image().array)
    assert same_place(back.grid, image().grid, 1e-6)
    assert back.name == str(tmp_path / f"case{suffix}")


@pytest.mark.parametrize("suffix", [".zip", *TARS])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 0.95, 0.9999])
def test_truncated_archive(tmp_path, temporary, suffix, share):
    write_series(tmp_path / "ct")
    path = pack(tmp_path / "ct", tmp_path / f"case{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[:int(share * len(whole))])
    if suffix == ".tar" and share > 0.9:  # only zeros behind the last file are gone
        assert np.array_equal(read_volume(path).array, image().array)
    else:
        refused(lambda: read_volume(path), path.name)


def test_plain_tar_cut_between_two_members(tmp_path, temporary):
    write_series(tmp_path / "ct")
    path = pack(tmp_path / "ct", tmp_path / "case.tar")
    with tarfile.open(path) as archive:
        cut = archive.getmembers()[4].offset
    path.write_bytes(path.read_bytes()[:cut])
    refused(lambda: read_volume(path), "truncated or damaged")


def test_archive_with_one_image_and_with_several(tmp_path, temporary):
    write_volume(image(), tmp_path / "in" / "a.nii.gz")
    assert np.array_equal(read_volume(pack(tmp_path / "in", tmp_path / "one.zip")).array, image().array)
    write_volume(image(), tmp_path / "in" / "b.nrrd")
    refused(lambda: read_volume(pack(tmp_path / "in", tmp_path / "two.zip")), "choose one", "a.nii.gz", "b.nrrd")
    (tmp_path / "none").mkdir()
    refused(lambda: read_volume(pack(tmp_path / "none", tmp_path / "none.tar.xz")), "no DICOM file")


@pytest.mark.parametrize("name", ["../evil.dcm", "/tmp/irai_evil.dcm", "a/../../evil.dcm", "..\\evil.dcm",
                                  "C:\\evil.dcm"])
def test_members_outside_of_the_archive(tmp_path, temporary, name):
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr(name, "x")
    with tarfile.open(tmp_path / "e.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    for path in ("e.zip", "e.tar.gz"):
        refused(lambda p=path: read_volume(tmp_path / p), "outside of its folder")
    assert not list(tmp_path.rglob("*evil*"))
    assert not Path("/tmp/irai_evil.dcm").exists()


def test_links_bombs_and_passwords(tmp_path, temporary, monkeypatch):
    with tarfile.open(tmp_path / "l.tar", "w") as archive:
        info = tarfile.TarInfo("a.dcm")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    refused(lambda: read_volume(tmp_path / "l.tar"), "link")
    with zipfile.ZipFile(tmp_path / "l.zip", "w") as archive:
        info = zipfile.ZipInfo("a.dcm")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    refused(lambda: read_volume(tmp_path / "l.zip"), "link")
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 10_000)
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.dcm", bytes(10_000_000))
    refused(lambda: read_volume(tmp_path / "b.zip"), "GiB")
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for n in range(5):
            archive.writestr(f"{n}.dcm", "x")
    refused(lambda: read_volume(tmp_path / "m.zip"), "over 3 files")
    raw = bytearray((tmp_path / "m.zip").read_bytes())
    at = raw.find(b"PK\x01\x02") + 8
    raw[at] |= 1
    (tmp_path / "m.zip").write_bytes(raw)
    refused(lambda: read_volume(tmp_path / "m.zip"), "encrypted")


@settings(max_examples=150, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(132, 1500), value=st.integers(0, 255))
def test_a_changed_header_byte_never_gives_a_traceback(tmp_path, at, value):
    folder = tmp_path / "ct"
    if not folder.exists():
        write_series(folder, image(axial_grid((3, 8, 9))))
    file = sorted(folder.iterdir())[1]
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[min(at, len(whole) - 1)] = value
    file.write_bytes(bytes(changed))
    volume = attempt(lambda: read_volume(folder))
    if volume is not None:
        assert volume.array.shape == (3, 8, 9)
        assert same_place(volume.grid, axial_grid((3, 8, 9)), 0.2)
    file.write_bytes(whole)


def test_points_keep_their_digits(tmp_path):
    points = np.random.default_rng(1).normal(0, 100, (7, 3))
    write_points(points, tmp_path / "p.csv")
    assert np.array_equal(read_points(tmp_path / "p.csv"), points)
    assert (tmp_path / "p.csv").read_text().startswith("x,y,z\n")
    write_points(np.empty((0, 3)), tmp_path / "none.csv")
    assert read_points(tmp_path / "none.csv").shape == (0, 3)
    (tmp_path / "other.csv").write_text("\ufefflabel, Z, X, Y\r\na,3,1,2\r\n\r\n")
    assert read_points(tmp_path / "other.csv").tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(("text", "words"), [
    ("", "columns x,y,z"), ("1,2,3\n", "columns x,y,z"), ("x,y,z\n1,2\n", "point 1"),
    ("x,y,z\n1,2,3\n1,b,3\n", "point 2"), ("x,y,z\n1,nan,3\n", "not finite")])
def test_tables_that_are_no_points(tmp_path, text, words):
    (tmp_path / "p.csv").write_text(text)
    refused(lambda: read_points(tmp_path / "p.csv"), words, "p.csv")
    refused(lambda: read_points(tmp_path / "absent.csv"), "absent.csv")


def transforms():
    grid = oblique_grid((6, 8, 9), spacing=(8, 9, 10))
    field = np.random.default_rng(2).normal(0, 1, (*grid.shape, 3)).astype(np.float32)
    linear = LinearTransform(oblique_grid(spacing=(1, 1, 1)).ras_from_ijk, "moving", "middle")
    warp = GridTransform(grid, field, "middle", "fixed")
    return {"linear": linear, "grid": warp, "both": CompositeTransform([linear, warp])}


@pytest.mark.parametrize("kind", ["linear", "grid", "both"])
@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
def test_transform_round_trip(tmp_path, kind, suffix):
    transform = transforms()[kind]
    write_transform(transform, tmp_path / f"t{suffix}")
    back = read_transform(tmp_path / f"t{suffix}", "moving", "fixed")
    points = transforms()["grid"].grid.all_points_ras()[1:-1, 1:-1, 1:-1].reshape(-1, 3) + 0.4
    assert (back.to_frame, back.from_frame) == ("moving", "fixed")
    assert np.allclose(back.apply(points), transform.apply(points), atol=1e-3)


def test_transform_file_maps_in_lps_as_itk_does(tmp_path):
    import SimpleITK as sitk

    matrix = np.eye(4)
    matrix[:3, 3] = 1, 2, 3
    write_transform(LinearTransform(matrix, "moving", "fixed"), tmp_path / "t.tfm")
    assert np.allclose(sitk.ReadTransform(str(tmp_path / "t.tfm")).TransformPoint((10, 20, 30)), (9, 18, 33))


def test_transform_errors(tmp_path):
    refused(lambda: read_transform(tmp_path / "absent.h5"), "no such file")
    refused(lambda: write_transform(transforms()["linear"], tmp_path / "t.nii"), "transform file")
    write_transform(transforms()["both"], tmp_path / "t.h5")
    whole = (tmp_path / "t.h5").read_bytes()
    for share in (0.0, 0.2, 0.7, 0.98):
        (tmp_path / "t.h5").write_bytes(whole[:int(share * len(whole))])
        refused(lambda: read_transform(tmp_path / "t.h5"), "t.h5")
    (tmp_path / "t.tfm").write_text("#Insight Transform File V1.0\nTransform: Euler2DTransform_double_2_2\n"
                                    "Parameters: 0 0 0\nFixedParameters: 0 0\n")
    refused(lambda: read_transform(tmp_path / "t.tfm"), "2D")
