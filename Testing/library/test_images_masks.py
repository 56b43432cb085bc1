"""Slicer segmentations, DICOM SEG and RTSTRUCT: analytic shapes, choices, other frames."""

from __future__ import annotations

import gzip

import numpy as np
import pydicom
import pytest
from images_cases import SHAPE, axial_grid, box_mask, image, oblique_grid, refused, same_place, write_series
from IRAILib.geometry import EmptyMaskError, FrameMismatchError, Grid, Mask, Volume
from IRAILib.images import check_pair, read_mask, read_volume, write_dicom_seg, write_mask, write_volume
from IRAILib.images.rtstruct import fill
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

LPS = np.array([-1.0, -1.0, 1.0])


# ---------------------------------------------------------------- Slicer segmentations
def write_segmentation(path, layers, segments, grid=None, space="left-posterior-superior"):
    """A .seg.nrrd by hand: `segments` are (ID, name, layer, value)."""
    grid = grid or oblique_grid()
    flip = LPS if space.startswith("left-p") else np.ones(3)
    vectors = [f"({','.join(repr(float(v)) for v in column * flip)})" for column in grid.ras_from_ijk[:3, :3].T]
    origin = ",".join(repr(float(v)) for v in grid.ras_from_ijk[:3, 3] * flip)
    sizes = " ".join(map(str, layers[0].shape[::-1]))
    many = len(layers) > 1
    lines = ["NRRD0004", "type: unsigned char", f"dimension: {4 if many else 3}", f"space: {space}",
             f"sizes: {f'{len(layers)} ' if many else ''}{sizes}",
             f"space directions: {'none ' if many else ''}{' '.join(vectors)}",
             f"kinds: {'list ' if many else ''}domain domain domain", "encoding: gzip", f"space origin: ({origin})"]
    for n, (identity, name, layer, value) in enumerate(segments):
        lines += [f"Segment{n}_ID:={identity}", f"Segment{n}_Name:={name}", f"Segment{n}_Layer:={layer}",
                  f"Segment{n}_LabelValue:={value}"]
    data = np.stack(layers, axis=-1) if many else layers[0]
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + gzip.compress(data.astype(np.uint8).tobytes()))
    return path


def two_layers():
    first, second = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    first[1:3, 4:9, 4:9], first[4, 20:25, 20:25] = 2, 1
    second[1:5, 2:30, 2:30] = 1
    return first, second


def test_segments_of_one_layer_by_name_and_value(tmp_path):
    first, _ = two_layers()
    path = write_segmentation(tmp_path / "s.seg.nrrd", [first], [("A", "Tumor", 0, 2), ("B", "Liver", 0, 1)])
    for choice, value in (("Tumor", 2), ("tumor", 2), (2, 2), ("2", 2), ("A", 2), ("Liver", 1), (1, 1)):
        mask = read_mask(path, label=choice)
        assert np.array_equal(mask.array, first == value)
        assert same_place(mask.grid, oblique_grid(), 1e-9)
    refused(lambda: read_mask(path), "2 labels", "2 'Tumor', 1 'Liver'")
    refused(lambda: read_mask(path, label="Spleen"), "Spleen", "2 'Tumor', 1 'Liver'")
    path.rename(tmp_path / "plain.nrrd")
    assert np.array_equal(read_mask(tmp_path / "plain.nrrd", label="Tumor").array, first == 2)


@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior"])
def test_overlapping_segments_lie_in_layers(tmp_path, space):
    first, second = two_layers()
    path = write_segmentation(tmp_path / "s.seg.nrrd", [first, second],
                              [("A", "Tumor", 0, 2), ("B", "Vessel", 0, 1), ("C", "Liver", 1, 1)], space=space)
    for name, expected in (("Tumor", first == 2), ("Vessel", first == 1), ("Liver", second == 1)):
        mask = read_mask(path, label=name)
        assert np.array_equal(mask.array, expected)
        assert same_place(mask.grid, oblique_grid(), 1e-9)
    refused(lambda: read_mask(path, label=1), "by its name", "'Vessel'", "'Liver'")
    assert np.array_equal(read_mask(path, label=2).array, first == 2)


def test_damaged_and_empty_segmentations(tmp_path):
    first, _ = two_layers()
    path = write_segmentation(tmp_path / "e.seg.nrrd", [first], [("A", "Tumor", 0, 9)])
    refused(lambda: read_mask(path), "Tumor", "empty", kind=EmptyMaskError)
    refused(lambda: read_mask(write_segmentation(tmp_path / "l.seg.nrrd", [first], [("A", "T", 3, 1)])), "layer 3")
    refused(lambda: read_mask(write_segmentation(tmp_path / "n.seg.nrrd", [first], [])), "no segment")
    refused(lambda: read_mask(write_segmentation(tmp_path / "v.seg.nrrd", [first], [("A", "T", 0, "x")])), "damaged")
    whole = write_segmentation(tmp_path / "t.seg.nrrd", [first, first], [("A", "T", 0, 1)])
    data = whole.read_bytes()
    for missing in (1, 8, 30, len(data) // 2):
        whole.write_bytes(data[:-missing])
        refused(lambda: read_mask(whole), "t.seg.nrrd")


def test_written_segmentation_is_read_back(tmp_path):
    write_mask(box_mask(), tmp_path / "m.seg.nrrd", name="Ablation")
    assert np.array_equal(read_mask(tmp_path / "m.seg.nrrd", label="Ablation").array, box_mask().array)
    head = (tmp_path / "m.seg.nrrd").read_bytes().split(b"\n\n")[0].decode()
    assert "Segment0_Extent:=20 28 10 16 2 3" in head


# ---------------------------------------------------------------- DICOM SEG
def case(tmp_path, grid=None):
    write_series(tmp_path / "ct", image(grid))
    return read_volume(tmp_path / "ct")


@pytest.mark.parametrize("grid", [axial_grid(), oblique_grid()])
def test_dicom_seg_round_trip(tmp_path, grid):
    volume = case(tmp_path, grid)
    mask = box_mask(volume.grid)
    write_dicom_seg(mask, tmp_path / "ct", tmp_path / "seg.dcm", label="Tumor")
    for choice in (None, 1, "Tumor"):
        back = read_mask(tmp_path / "seg.dcm", label=choice, reference=volume)
        assert back.volume_ml == pytest.approx(mask.volume_ml)
        on_image = np.round(volume.grid.indices_kji(back.grid.points_ras(np.argwhere(back.array)))).astype(int)
        assert {tuple(n) for n in on_image} == {tuple(n) for n in np.argwhere(mask.array)}
    assert back.frame_of_reference == volume.frame_of_reference
    refused(lambda: read_mask(tmp_path / "seg.dcm", label=2), "no label 2", "1 'Tumor'")
    refused(lambda: read_volume(tmp_path / "seg.dcm"), "read it as a mask")
    seen = pydicom.dcmread(tmp_path / "seg.dcm")
    images = {str(pydicom.dcmread(f).SOPInstanceUID) for f in (tmp_path / "ct").iterdir()}
    assert {str(i.ReferencedSOPInstanceUID) for i in seen.ReferencedSeriesSequence[0].ReferencedInstanceSequence} \
        == images


def test_series_beside_its_segmentation(tmp_path):
    volume = case(tmp_path)
    write_dicom_seg(box_mask(volume.grid), tmp_path / "ct", tmp_path / "ct" / "seg.dcm")
    assert np.array_equal(read_volume(tmp_path / "ct").array, volume.array)
    assert read_mask(tmp_path / "ct").volume_ml == pytest.approx(box_mask().volume_ml)


def test_dicom_seg_errors(tmp_path):
    volume = case(tmp_path)
    write_dicom_seg(box_mask(volume.grid), tmp_path / "ct", tmp_path / "seg.dcm")
    other = Volume(volume.array, volume.grid, "other", generate_uid())
    refused(lambda: read_mask(tmp_path / "seg.dcm", reference=other), "frame of reference", "other",
            kind=FrameMismatchError)
    whole = (tmp_path / "seg.dcm").read_bytes()
    for share in (0.05, 0.2, 0.5, 0.9, 0.999):
        (tmp_path / "seg.dcm").write_bytes(whole[:int(share * len(whole))])
        refused(lambda: read_mask(tmp_path / "seg.dcm"), "seg.dcm")
    shifted = Grid(SHAPE, volume.grid.ras_from_ijk + np.outer([0, 0, 2.0, 0], [0, 0, 0, 1]))
    refused(lambda: write_dicom_seg(box_mask(shifted), tmp_path / "ct", tmp_path / "x.dcm"), "another grid")
    assert not (tmp_path / "x.dcm").exists()
    refused(lambda: read_mask(tmp_path / "ct" / "0001.dcm"), "neither")


# ---------------------------------------------------------------- RTSTRUCT
def write_rtstruct(path, regions, frame=None):
    """`regions`: name -> list of (n, 3) RAS contours."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", generate_uid()
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.Modality = generate_uid(), generate_uid(), "RTSTRUCT"
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for n, (name, contours) in enumerate(regions.items()):
        entry = Dataset()
        entry.ROINumber, entry.ROIName = n + 5, name
        if frame:
            entry.ReferencedFrameOfReferenceUID = frame
        dataset.StructureSetROISequence.append(entry)
        region = Dataset()
        region.ReferencedROINumber, region.ContourSequence = n + 5, []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR" if len(points) > 1 else "POINT"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{v:.6f}" for v in (np.asarray(points) * LPS).ravel()]
            region.ContourSequence.append(contour)
        dataset.ROIContourSequence.append(region)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def circle(grid, k, centre_ij, radius, count=400):
    """Contour in RAS of a circle in voxel units."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    i, j = centre_ij[0] + radius * np.cos(angle), centre_ij[1] + radius * np.sin(angle)
    return grid.points_ras(np.column_stack([np.full(count, float(k)), j, i]))


def disc(shape, centre_ij, radius):
    j, i = np.mgrid[:shape[0], :shape[1]]
    return (i - centre_ij[0]) ** 2 + (j - centre_ij[1]) ** 2 < radius ** 2


@pytest.mark.parametrize("grid", [axial_grid(), oblique_grid()])
def test_rtstruct_disc_with_hole_and_two_parts(tmp_path, grid):
    reference = image(grid)
    contours = [circle(grid, k, (20.3, 18.2), 11.1) for k in (1, 2, 3)]
    contours += [circle(grid, k, (20.3, 18.2), 4.2) for k in (1, 2, 3)] + [circle(grid, 2, (42.4, 30.1), 5.3)]
    path = write_rtstruct(tmp_path / "rs.dcm", {"GTV": contours, "Body": [circle(grid, 0, (20, 20), 5)]})
    mask = read_mask(path, label="gtv", reference=reference)
    ring = disc(SHAPE[1:], (20.3, 18.2), 11.1) & ~disc(SHAPE[1:], (20.3, 18.2), 4.2)
    expected = np.zeros(SHAPE, bool)
    expected[1:4] = ring
    expected[2] |= disc(SHAPE[1:], (42.4, 30.1), 5.3)
    assert np.array_equal(mask.array, expected)
    assert mask.grid.same_grid(grid)
    assert np.array_equal(read_mask(path, label=5, reference=reference).array, expected)
    refused(lambda: read_mask(path, reference=reference), "5 'GTV', 6 'Body'")
    refused(lambda: read_mask(path, label="GTV"), "image that it was drawn on")


def test_keyhole_contour_is_the_same_as_a_hole():
    outer = np.array([[2, 2], [12, 2], [12, 12], [2, 12]], float) + 0.3
    inner = np.array([[5, 5], [5, 9], [9, 9], [9, 5]], float) + 0.3
    keyhole = np.vstack([outer, outer[:1], inner, inner[:1], outer[:1]])
    two = fill([outer, inner], (16, 16))
    assert np.array_equal(fill([keyhole], (16, 16)), two)
    assert two.sum() == 100 - 16
    assert not two[6, 6]


def test_fill_against_an_independent_rule():
    from matplotlib.path import Path as Polygon

    rng = np.random.default_rng(3)
    for _ in range(30):
        polygon = rng.uniform(-5, 45, (rng.integers(3, 12), 2))
        j, i = np.mgrid[:37, :41]
        inside = np.zeros(37 * 41, int)
        centres = np.column_stack([i.ravel(), j.ravel()]).astype(float)
        start, end = polygon, np.roll(polygon, -1, axis=0)
        for (ax, ay), (bx, by) in zip(start, end, strict=True):
            crosses = (ay > centres[:, 1]) != (by > centres[:, 1])
            with np.errstate(divide="ignore", invalid="ignore"):
                inside += crosses & (centres[:, 0] > ax + (centres[:, 1] - ay) * (bx - ax) / (by - ay))
        assert np.array_equal(fill([polygon], (37, 41)).ravel(), inside % 2 == 1)
    convex = np.array([[3.2, 3.1], [30.4, 7.7], [22.2, 30.3]])
    closed = Polygon(np.vstack([convex, convex[:1]]))
    assert np.array_equal(fill([convex], (37, 41)).ravel(), closed.contains_points(centres))


def test_contours_between_slices_are_interpolated(tmp_path):
    """A sphere drawn at 5 mm on a 2.5 mm image, half a slice off: its volume is kept."""
    grid = axial_grid((24, 60, 60), (1.0, 1.0, 2.5))
    radius, middle = 20.0, 11.5
    contours = []
    for k in np.arange(4.5, 20.0, 2.0):
        height = (k - middle) * 2.5
        if abs(height) < radius:
            contours.append(circle(grid, k, (29.6, 30.2), np.sqrt(radius ** 2 - height ** 2)))
    mask = read_mask(write_rtstruct(tmp_path / "rs.dcm", {"S": contours}), reference=image(grid))
    assert mask.volume_ml == pytest.approx(4 / 3 * np.pi * radius ** 3 / 1000, rel=0.06)
    filled = np.flatnonzero(mask.array.any(axis=(1, 2)))
    assert np.array_equal(filled, np.arange(filled[0], filled[-1] + 1))


def test_rtstruct_errors(tmp_path):
    grid = axial_grid()
    reference = Volume(image(grid).array, grid, "ct", "1.2.3")
    path = tmp_path / "rs.dcm"
    good = [circle(grid, 2, (20, 20), 6)]
    refused(lambda: read_mask(write_rtstruct(path, {"G": good}, frame="1.2.4"), reference=reference),
            "frame of reference", kind=FrameMismatchError)
    refused(lambda: read_mask(write_rtstruct(path, {"G": []}), reference=reference), "no closed contour")
    refused(lambda: read_mask(write_rtstruct(path, {"G": [good[0][:1]]}), reference=reference), "POINT")
    refused(lambda: read_mask(write_rtstruct(path, {}), reference=reference), "no segment")
    refused(lambda: read_mask(write_rtstruct(path, {"two\nlines": []}), reference=reference), "[two lines]")
    tilted = [circle(grid, 2, (20, 20), 6) + np.linspace(0, 4, 400)[:, None] * [0, 0, 1]]
    refused(lambda: read_mask(write_rtstruct(path, {"G": tilted}), reference=reference), "not parallel")
    beyond = [good[0] + [300.0, 0, 0]]
    refused(lambda: read_mask(write_rtstruct(path, {"G": beyond}), reference=reference), "beyond the image",
            kind=FrameMismatchError)
    uneven = [circle(grid, k, (20, 20), 6) for k in (0.5, 1.5, 2.9)]
    refused(lambda: read_mask(write_rtstruct(path, {"G": uneven}), reference=reference), "uneven")
    tiny = [circle(grid, 2, (20.5, 20.5), 0.1)]
    refused(lambda: read_mask(write_rtstruct(path, {"G": tiny}), reference=reference), "empty", kind=EmptyMaskError)
    whole = write_rtstruct(path, {"G": good}).read_bytes()
    for share in (0.1, 0.3, 0.6, 0.9, 0.999):
        path.write_bytes(whole[:int(share * len(whole))])
        refused(lambda: read_mask(path, reference=reference), "rs.dcm")


def test_rtstruct_beside_its_series_needs_no_reference(tmp_path):
    volume = case(tmp_path)
    write_rtstruct(tmp_path / "ct" / "rs.dcm", {"G": [circle(volume.grid, 2, (20, 20), 6)]},
                   volume.frame_of_reference)
    mask = read_mask(tmp_path / "ct")
    assert np.array_equal(mask.array[2], disc(SHAPE[1:], (20, 20), 6 - 1e-6))
    assert np.array_equal(read_mask(tmp_path / "ct" / "rs.dcm").array, mask.array)


# ---------------------------------------------------------------- pairs
def test_mask_and_image_must_share_their_place(tmp_path):
    reference = image()
    check_pair(box_mask(), reference)
    finer = Grid((12, 40, 50), reference.grid.ras_from_ijk @ np.diag([1, 1, 0.5, 1]))
    check_pair(box_mask(finer), reference)
    mirrored = Grid(SHAPE, np.diag([-1.0, -1, 1, 1]) @ reference.ras_from_ijk)
    write_mask(box_mask(mirrored), tmp_path / "lps.nii.gz")
    refused(lambda: read_mask(tmp_path / "lps.nii.gz", reference=reference), "0 %", "lps.nii.gz",
            kind=FrameMismatchError)
    half = Grid(SHAPE, reference.ras_from_ijk.copy() @ np.array(
        [[1, 0, 0, -24.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    refused(lambda: check_pair(box_mask(half), reference), "% of the mask lies inside", kind=FrameMismatchError)
    named = Mask(box_mask().array, oblique_grid(), "m", "1.2.3")
    other = Volume(reference.array, reference.grid, "v", "1.2.4")
    refused(lambda: check_pair(named, other), "frame of reference", kind=FrameMismatchError)
    check_pair(named, Volume(reference.array, reference.grid, "v", "1.2.3"))
    check_pair(Mask(np.zeros(SHAPE, bool), half, "empty"), reference)


def test_image_is_no_mask(tmp_path):
    volume = case(tmp_path)
    refused(lambda: read_mask(tmp_path / "ct"), "choose a DICOM SEG")
    write_volume(volume, tmp_path / "v.nrrd")
    refused(lambda: read_mask(tmp_path / "v.nrrd"), "no label map")
