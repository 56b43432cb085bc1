"""A single DICOM slice as a volume of one slice, for CT fluoroscopy and real-time MR."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..geometry import Grid, InputError, Volume
from ..images.dicom_pixels import pixels_of
from ..images.dicom_scan import DicomFile, is_dicom, read_header

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0])


def read_single_slice(path: Path) -> Volume | None:
    """The volume (1, rows, columns) of a CT or MR file that holds one slice; None for anything else.

    Its thickness comes from SliceThickness. Raises: InputError where place or thickness is missing.
    """
    if not (path.is_file() and is_dicom(path)):
        return None
    header = read_header(path, str(path))
    if header.get("Modality") not in ("CT", "MR") or int(header.get("NumberOfFrames") or 1) > 1:
        return None
    missing = [name for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
               if header.get(name) in (None, "")]
    if missing:
        raise InputError(f"{path}: a slice without {', '.join(missing)}: its place in the patient is unknown")
    cosines = np.asarray(header.ImageOrientationPatient, float).reshape(2, 3)
    rows_mm, columns_mm = (float(value) for value in header.PixelSpacing)
    normal = np.cross(cosines[0], cosines[1])
    matrix = np.eye(4)
    matrix[:3, :3] = RAS_FROM_LPS @ np.column_stack(
        [cosines[0] * columns_mm, cosines[1] * rows_mm, normal * float(header.SliceThickness)])
    matrix[:3, 3] = RAS_FROM_LPS @ np.asarray(header.ImagePositionPatient, float)
    rescale = float(header.get("RescaleSlope", 1.0)), float(header.get("RescaleIntercept", 0.0))
    array = pixels_of(DicomFile(path, header, str(path)), rescale)[None]
    metadata = {"Modality": str(header.Modality)}
    return Volume(array, Grid(array.shape, matrix), str(path), str(header.get("FrameOfReferenceUID", "")), metadata)
