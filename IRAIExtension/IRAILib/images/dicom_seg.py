"""DICOM SEG: segments of a segmentation object, and a mask written as one (by highdicom)."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from ..geometry import Grid, InputError, Mask, MissingPackageError
from ..geometry.itk import LPS_FROM_RAS
from .atomic import replacing
from .checks import check_matrix
from .dicom_scan import choose_series, scan
from .labels import Label, choose_label

FRACTION_INSIDE = 0.5
_ERRORS = (RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, NotImplementedError, EOFError,
           OSError)


def _highdicom():
    try:
        import highdicom
    except ImportError as error:
        raise MissingPackageError("DICOM SEG needs the package highdicom; install it: pip install highdicom") from error
    return highdicom


def read_dicom_seg(path: Path, wanted: int | str | None, shown: str) -> Mask:
    """One segment, on the grid of the segmentation's own frames; fractional ones are cut at one half.

    Raises InputError: damaged file, no such segment, frames that don't form a regular stack.
    """
    highdicom = _highdicom()
    try:
        dataset = highdicom.seg.segread(path)
        labels = [Label(int(s.segment_number), str(s.segment_label)) for s in
                  (dataset.get_segment_description(n) for n in dataset.segment_numbers)]
    except _ERRORS as error:
        raise InputError(f"{shown}: is a damaged or truncated DICOM segmentation; export it again") from error
    label = choose_label(labels, wanted, shown)
    where = f"{shown} [{label.name}]"
    try:
        stack = dataset.get_volume(segment_numbers=[label.number], combine_segments=False)
    except _ERRORS as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"{where}: its frames don't form a regular stack or are damaged ({reason})") from error
    array = np.asarray(stack.array)[..., 0] > (FRACTION_INSIDE if stack.array.dtype.kind == "f" else 0)
    affine = np.array(stack.affine, float)
    if np.linalg.det(affine[:3, :3][:, ::-1]) < 0.0:
        affine[:3, 3] += affine[:3, 0] * (array.shape[0] - 1)
        affine[:3, 0] *= -1.0
        array = array[::-1]
    matrix = affine.copy()
    matrix[:3, :3] = affine[:3, 2::-1]
    check_matrix(matrix, array.shape, where)
    frame = str(dataset.get("FrameOfReferenceUID", "")) or None
    return Mask(np.ascontiguousarray(array), Grid(array.shape, LPS_FROM_RAS @ matrix), where, frame,
                {"segment": label.name})


def write_dicom_seg(mask: Mask, series_folder: str | Path, path: str | Path, *, label: str = "Segment",
                    series: str | int | None = None, algorithm: str = "IRAI") -> None:
    """A mask as DICOM SEG that references the series it was drawn on.

    Args:
        mask: on the grid of the series (use `resample_mask` first).
        series_folder: folder of that series; series: as in `read_volume`.
        label: name of the segment.
    Raises: InputError: the grid is another one; EmptyMaskError; MissingPackageError.
    """
    import pydicom

    highdicom = _highdicom()
    mask.require_not_empty()
    shown = str(series_folder)
    chosen = choose_series(scan(Path(series_folder), shown), shown, series)
    images = [pydicom.dcmread(file.path) for file in chosen.files]
    row, column = np.array(images[0].ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(row, column)
    images.sort(key=lambda image: float(np.dot(np.array(image.ImagePositionPatient, float), normal)))
    frames = _frames_on_images(mask, images, shown)
    code = highdicom.sr.CodedConcept("49755003", "SCT", "Morphologically Altered Structure")
    lesion = highdicom.sr.CodedConcept("4147007", "SCT", "Mass")
    family = highdicom.sr.CodedConcept("123109", "DCM", "Manual Processing")
    segment = highdicom.seg.SegmentDescription(
        1, label, code, lesion, highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        highdicom.AlgorithmIdentificationSequence(algorithm, family, "1"))
    for image in images:
        image.SpecificCharacterSet = image.get("SpecificCharacterSet") or "ISO_IR 100"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            segmentation = highdicom.seg.Segmentation(
                images, frames, highdicom.seg.SegmentationTypeValues.BINARY, [segment], highdicom.UID(), 300,
                highdicom.UID(), 1, "IRAI", "IRAI research software", "1", "0")
    except _ERRORS as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"{shown}: a segmentation can't refer to this series ({reason})") from error
    segmentation.SeriesDescription = f"{label} (IRAI, not for diagnosis)"[:64]
    with replacing(path) as temporary:
        segmentation.save_as(temporary)


def _frames_on_images(mask: Mask, images: list, shown: str) -> np.ndarray:
    """(image, rows, columns) uint8 in the order of the images. Raises InputError for another grid."""
    first = np.array([image.ImagePositionPatient for image in images], float) * [-1.0, -1.0, 1.0]
    index = mask.grid.indices_kji(first)
    k = np.round(index[:, 0]).astype(int)
    same = len(images) == mask.grid.shape[0] and (images[0].Rows, images[0].Columns) == mask.grid.shape[1:]
    if not same or np.abs(index - np.column_stack([k, 0 * k, 0 * k])).max() > 0.05 or sorted(k) != list(range(len(k))):
        raise InputError(f"{mask.name or 'mask'}: lies on another grid than the series {shown}; resample it first")
    return mask.array[k].astype(np.uint8)
