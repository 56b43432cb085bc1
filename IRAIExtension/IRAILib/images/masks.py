"""Masks from files, one label at a time, checked against the image that they belong to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..geometry import EmptyMaskError, FrameMismatchError, InputError, Mask, Volume
from .archives import is_archive, unpacked
from .dicom_read import read_dicom
from .dicom_scan import RTSTRUCT_CLASS, SEG_CLASS, VOLUME_CLASSES, DicomFile, is_dicom, read_header, scan
from .dicom_seg import read_dicom_seg
from .headers import read_nrrd_header
from .itkfiles import image_suffix, read_itk
from .labels import Label, choose_label
from .reading import image_files
from .rtstruct import read_rtstruct
from .slicerseg import is_slicer_segmentation, read_slicer_segmentation

MIN_INSIDE = 0.95
"""At least this share of a mask must lie inside the image that it belongs to."""
CHECKED_VOXELS = 100_000
"""About so many voxels, evenly picked, decide that."""


def read_mask(path: str | Path, *, label: int | str | None = None, reference: Volume | None = None) -> Mask:
    """One structure of a mask file, in RAS.

    Args:
        path: NIfTI, NRRD or MetaImage label map; Slicer's .seg.nrrd; DICOM SEG or RTSTRUCT as a file, or alone
            in a folder or archive.
        label: label value, segment number or ROI number (int), or a name (str). May be None where the
            file holds one structure only.
        reference: the image that the mask belongs to. Frame of reference (where both state one) and place are
            checked. An RTSTRUCT is rasterised on its grid; without it, on the series beside the RTSTRUCT.
    Returns: Mask on the file's own grid, with at least one voxel.
    Raises: EmptyMaskError; FrameMismatchError; InputError for anything else, labels listed where a choice is needed.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir():
        mask = _from_folder(path, str(path), label, reference)
    elif is_archive(path):
        with unpacked(path) as folder:
            mask = _from_folder(folder, str(path), label, reference)
    elif image_suffix(path):
        mask = _from_image(path, label)
    elif is_dicom(path) or path.suffix.lower() in (".dcm", ".dicom"):
        file = DicomFile(path, read_header(path, str(path)), str(path))
        mask = _from_dicom(file, label, reference, lambda: _beside(path))
    else:
        raise InputError(f"{path}: not a mask that can be read; give .nii.gz, .nrrd, .mha, .seg.nrrd, "
                         "a DICOM SEG or an RTSTRUCT")
    if not mask.array.any():
        raise EmptyMaskError(f"{mask.name}: the mask is empty; segment the structure or choose another label")
    if reference is not None:
        check_pair(mask, reference)
    return mask


def _from_image(path: Path, wanted: int | str | None) -> Mask:
    if image_suffix(path) in (".nrrd", ".nhdr") and path.is_file():
        fields, _ = read_nrrd_header(path)
        if is_slicer_segmentation(path, fields):
            return read_slicer_segmentation(path, wanted)
    volume = read_itk(path)
    array = volume.array
    values = np.unique(array)
    if array.dtype.kind == "f" and not np.array_equal(values, np.round(values)):
        raise InputError(f"{path}: holds fractions, so it is no label map; threshold it first")
    labels = [Label(int(v)) for v in values if v != 0]
    if not labels:
        raise EmptyMaskError(f"{path}: the mask is empty; segment the structure or choose another file")
    if len(labels) > 1000:
        raise InputError(f"{path}: holds {len(labels)} different values, so it is an image, no label map")
    label = choose_label(labels, wanted, str(path))
    return Mask(array == label.number, volume.grid, str(path), None, volume.metadata)


def _from_folder(folder: Path, shown: str, wanted: int | str | None, reference: Volume | None) -> Mask:
    files = scan(folder, shown)
    masks = [f for f in files if f.sop_class in (SEG_CLASS, RTSTRUCT_CLASS)]
    if len(masks) > 1:
        raise InputError(f"{shown}: holds several masks, choose one file: {', '.join(f.shown for f in masks[:10])}")
    if masks:
        return _from_dicom(masks[0], wanted, reference, lambda: files)
    images = image_files(folder)
    if files or len(images) != 1:
        raise InputError(f"{shown}: holds {len(images) if images else 'no'} mask{'s' * (len(images) != 1)}; "
                         "choose a DICOM SEG, an RTSTRUCT or a label map")
    mask = _from_image(images[0], wanted)
    return Mask(mask.array, mask.grid, shown, mask.frame_of_reference, mask.metadata)


def _from_dicom(file: DicomFile, wanted: int | str | None, reference: Volume | None,
                neighbours: Callable[[], list[DicomFile]]) -> Mask:
    if file.sop_class == SEG_CLASS:
        return read_dicom_seg(file.path, wanted, file.shown)
    if file.sop_class != RTSTRUCT_CLASS:
        raise InputError(f"{file.shown}: is neither a DICOM segmentation nor an RTSTRUCT")
    if reference is None:
        frame = _frame_of_rtstruct(file)
        images = [f for f in neighbours() if f.sop_class in VOLUME_CLASSES
                  and (not frame or str(f.header.get("FrameOfReferenceUID", "")) == frame)]
        if not images:
            raise InputError(f"{file.shown}: an RTSTRUCT holds contours only; give the image that it was drawn on")
        reference = read_dicom(images, file.shown)
    return read_rtstruct(file.header, wanted, reference, file.shown)


def _frame_of_rtstruct(file: DicomFile) -> str:
    regions = file.header.get("StructureSetROISequence") or []
    return str(regions[0].get("ReferencedFrameOfReferenceUID", "")) if regions else ""


def _beside(path: Path) -> list[DicomFile]:
    """DICOM files in the folder of a file."""
    return [DicomFile(p, read_header(p, str(p)), str(p)) for p in sorted(path.parent.iterdir())
            if p.is_file() and is_dicom(p)]


def check_pair(mask: Mask, volume: Volume) -> None:
    """Raise FrameMismatchError when a mask can't belong to an image: other frame, or beside the image.

    The DICOM frames of reference must agree where both are known, and `MIN_INSIDE` of the mask's voxels must
    lie inside the image (half a voxel beyond the outermost centres). An empty mask passes.
    """
    name, other = mask.name or "mask", volume.name or "image"
    if mask.frame_of_reference and volume.frame_of_reference and mask.frame_of_reference != volume.frame_of_reference:
        raise FrameMismatchError(f"{name}: lies in another DICOM frame of reference than {other}; "
                                 "use the mask of this image, or register first")
    if mask.grid.same_grid(volume.grid) or not mask.array.any():
        return
    voxels = np.flatnonzero(mask.array)
    voxels = voxels[::max(1, len(voxels) // CHECKED_VOXELS)]
    points = mask.grid.points_ras(np.column_stack(np.unravel_index(voxels, mask.array.shape)))
    index = volume.grid.indices_kji(points)
    inside = ((index > -0.51) & (index < np.array(volume.grid.shape) - 0.49)).all(axis=1).mean()
    if inside < MIN_INSIDE:
        raise FrameMismatchError(f"{name}: only {100 * inside:.0f} % of the mask lies inside {other}, so it belongs to "
                                 "another image or frame; use the mask of this image, or register first")
