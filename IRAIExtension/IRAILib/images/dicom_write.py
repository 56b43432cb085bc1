"""Volumes as DICOM series: one file a slice, explicit little endian, marked as derived."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import numpy as np

from ..geometry import Grid, InputError, Volume
from ..geometry.itk import LPS_FROM_RAS
from .atomic import replacing
from .checks import check_shape, check_writable
from .dicom_scan import is_dicom, read_header

SYNTHETIC_WORD = "SYNTHETIC"
MODEL_NAME = "IRAI research software"
WORD_CONTRAST = 1200
"""At most this far above the darkest value, as bright as enhanced vessels in air, so that no window is stretched."""
_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
_INTERCEPT = {"CT": -1024, "MR": 0}


def write_dicom_series(volume: Volume, folder: str | Path, *, description: str, patient_id: str, patient_name: str,
                       modality: str = "CT", study_uid: str | None = None, series_uid: str | None = None,
                       frame_of_reference: str | None = None, series_number: int = 1, synthetic: bool = True,
                       when: datetime.datetime | None = None, kernel: str | None = None,
                       contrast_agent: str | None = None) -> list[Path]:
    """A volume as a new folder of CT or MR images, one file a slice.

    Args:
        volume: CT in HU (rounded, cut at -1024 and 31743), MR in 0 to 32767; axes at right angles, maybe oblique.
        folder: made, or replaced as a whole if it holds nothing but an earlier series of IRAI.
        study_uid, series_uid, frame_of_reference: made anew where None. Give both series of a case the same
            study; the same frame of reference only if they share their coordinates.
        synthetic: burns the word SYNTHETIC into a corner of every slice and says so in the header.
        when: acquisition time; now if None.
    Returns: the files, in the order of their position along the slice normal (k, or k reversed if the grid is
        left-handed, since DICOM stores right-handed stacks).
    Raises: InputError: other modality, sheared grid, values that are not finite, a folder in use.
    """
    folder = Path(folder)
    where = volume.name or "volume"
    if modality not in _CLASSES:
        raise InputError(f"{where}: can't be written as modality {modality!r}; use one of {' '.join(_CLASSES)}")
    if folder.exists() and not (folder.is_dir() and all(_is_ours(p) for p in folder.iterdir())):
        raise InputError(f"{folder}: holds files that IRAI didn't write; choose an empty folder")
    check_shape(volume.array.shape, where)
    check_writable(volume.grid, where)
    array, grid = _right_handed(volume)
    stored = _stored_values(array, modality, where)
    if synthetic:
        stored = burn_word(stored, SYNTHETIC_WORD)
    base = _header(grid, modality, synthetic, when or datetime.datetime.now())
    base.SeriesDescription, base.PatientID, base.PatientName = description, patient_id, patient_name
    base.SeriesNumber = series_number
    _set_uids(base, study_uid, series_uid, frame_of_reference or volume.frame_of_reference)
    if kernel:
        base.ConvolutionKernel = kernel
    if contrast_agent:
        base.ContrastBolusAgent = contrast_agent
    names = [f"{n + 1:04d}.dcm" for n in range(len(stored))]
    with replacing(folder) as temporary:
        temporary.mkdir()
        for n, name in enumerate(names):
            _write_slice(base, stored[n], grid, n, temporary / name)
    return [folder / name for name in names]


def _is_ours(path: Path) -> bool:
    return is_dicom(path) and str(read_header(path, str(path)).get("ManufacturerModelName", "")) == MODEL_NAME


def _right_handed(volume: Volume) -> tuple[np.ndarray, Grid]:
    """The same voxels with k along the normal of rows and columns."""
    if np.linalg.det(volume.ras_from_ijk[:3, :3]) > 0.0:
        return volume.array, volume.grid
    matrix = volume.ras_from_ijk.copy()
    matrix[:3, 3] = matrix[:3, 3] + matrix[:3, 2] * (volume.grid.shape[0] - 1)
    matrix[:3, 2] *= -1.0
    return volume.array[::-1], Grid(volume.grid.shape, matrix)


def _stored_values(array: np.ndarray, modality: str, where: str) -> np.ndarray:
    if not np.isfinite(array).all():
        raise InputError(f"{where}: holds values that are not numbers, so no DICOM series can be written")
    values = np.round(array.astype(np.float32)) - _INTERCEPT[modality]
    return np.clip(values, 0, 32767).astype(np.uint16)


def burn_word(stored: np.ndarray, word: str) -> np.ndarray:
    """A copy of (k, rows, columns) values with a word in the first corner of every slice: bright on black.

    The height is a twentieth of the rows, at least 7 pixels, so that it stays beside the body; narrower images
    than the word get it in one line as far as it goes.
    """
    stencil = _word_stencil(word, max(1, stored.shape[1] // 140))
    rows, columns = (min(a, b) for a, b in zip(stencil.shape, stored.shape[1:], strict=True))
    out = stored.copy()
    low = int(stored.min())
    high = max(low + 1, min(int(stored.max()), low + WORD_CONTRAST))
    out[:, :rows, :columns] = np.where(stencil[:rows, :columns], high, low)
    return out


def _word_stencil(word: str, scale: int) -> np.ndarray:
    """(rows, columns) bool, letters of 5 x 7 dots with a dot of space around."""
    letters = {"S": "0f10100e01011e", "Y": "11110a04040404", "N": "11191513111111", "T": "1f040404040404",
               "H": "1111111f111111", "E": "1f10101e10101f", "I": "0e04040404040e", "C": "0e11101010110e"}
    columns = [np.zeros((9, 1), bool)]
    for letter in word:
        dots = np.array([[bool(row >> bit & 1) for bit in range(4, -1, -1)] for row in bytes.fromhex(letters[letter])])
        columns += [np.pad(dots, 1)[:, 1:]]
    return np.kron(np.hstack(columns), np.ones((scale, scale), bool)).astype(bool)


def _header(grid: Grid, modality: str, synthetic: bool, when: datetime.datetime):
    """What every slice shares."""
    from pydicom.dataset import Dataset

    matrix = LPS_FROM_RAS @ grid.ras_from_ijk
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if modality == "CT" else "OTHER"]
    header.SOPClassUID = _CLASSES[modality]
    day, time = when.strftime("%Y%m%d"), when.strftime("%H%M%S")
    for kind in ("Study", "Series", "Acquisition", "Content", "InstanceCreation"):
        setattr(header, f"{kind}Date", day)
        setattr(header, f"{kind}Time", time)
    header.Modality, header.Manufacturer, header.ManufacturerModelName = modality, "IRAI", MODEL_NAME
    for empty in ("AccessionNumber", "ReferringPhysicianName", "PatientBirthDate", "PatientSex", "StudyID",
                  "PositionReferenceIndicator", "AcquisitionNumber"):
        setattr(header, empty, None if empty == "AcquisitionNumber" else "")
    header.StudyDescription = "IRAI, not for diagnosis"
    header.BurnedInAnnotation = "YES" if synthetic else "NO"
    header.DerivationDescription = ("Synthetic image made by a simulation" if synthetic else "Derived image")
    header.SliceThickness = header.SpacingBetweenSlices = _decimal(grid.spacing_mm[2])
    header.PatientPosition = ""
    if modality == "CT":
        header.KVP = None
        header.RescaleIntercept, header.RescaleSlope, header.RescaleType = _INTERCEPT["CT"], 1, "HU"
        header.WindowCenter, header.WindowWidth = 40, 400
    else:
        header.ScanningSequence, header.SequenceVariant, header.ScanOptions = "RM", "NONE", ""
        header.MRAcquisitionType, header.EchoTime, header.EchoTrainLength = "3D", None, None
    header.ImageOrientationPatient = [_decimal(v) for v in (matrix[:3, :2] / grid.spacing_mm[:2]).T.ravel()]
    header.PixelSpacing = [_decimal(grid.spacing_mm[1]), _decimal(grid.spacing_mm[0])]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Rows, header.Columns = grid.shape[1:]
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
    return header


def _set_uids(header, study: str | None, series: str | None, frame: str | None) -> None:
    from pydicom.uid import RE_VALID_UID, generate_uid

    for keyword, uid in (("StudyInstanceUID", study), ("SeriesInstanceUID", series), ("FrameOfReferenceUID", frame)):
        if uid is not None and (len(uid) > 64 or not re.fullmatch(RE_VALID_UID, uid)):
            raise InputError(f"{uid!r} is no valid DICOM UID for {keyword}")
        setattr(header, keyword, uid or generate_uid())


def _write_slice(base, pixels: np.ndarray, grid: Grid, n: int, path: Path) -> None:
    from pydicom import dcmwrite
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    position = LPS_FROM_RAS[:3, :3] @ grid.points_ras(np.array([[n, 0, 0]], float))[0]
    matrix = LPS_FROM_RAS[:3, :3] @ grid.directions
    base.SOPInstanceUID = generate_uid()
    base.InstanceNumber = n + 1
    base.ImagePositionPatient = [_decimal(v) for v in position]
    base.SliceLocation = _decimal(position @ np.cross(matrix[:, 0], matrix[:, 1]))
    base.PixelData = pixels.astype("<u2").tobytes()
    base["PixelData"].VR = "OW"
    base.file_meta = FileMetaDataset()
    base.file_meta.MediaStorageSOPClassUID = base.SOPClassUID
    base.file_meta.MediaStorageSOPInstanceUID = base.SOPInstanceUID
    base.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(path, base, enforce_file_format=True)


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters, as exact as they allow."""
    from pydicom.valuerep import format_number_as_ds

    value = float(value)
    return format_number_as_ds(0.0 if abs(value) < 1e-12 else value)
