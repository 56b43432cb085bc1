"""One door for images of every kind."""

from __future__ import annotations

from pathlib import Path

from ..geometry import InputError, Volume
from .archives import is_archive, unpacked
from .dicom_read import read_dicom, read_series
from .dicom_scan import RTSTRUCT_CLASS, SEG_CLASS, DicomFile, Series, is_dicom, read_header, scan
from .itkfiles import image_suffix, read_itk


def read_volume(path: str | Path, *, series: str | int | None = None) -> Volume:
    """A 3D CT, MR or PET image, in RAS.

    Args:
        path: NIfTI, NRRD or MetaImage file; folder or archive (.zip, .tar.xz...) with a DICOM series, also in
            folders below, or with a single image file; an enhanced (multi-frame) DICOM file.
        series: SeriesInstanceUID or SeriesNumber, where a folder holds several image series.
    Returns: Volume with `frame_of_reference` and `metadata` as far as the file states them.
    Raises: InputError, one line, for whatever keeps the image from being trusted.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, str(path), series)
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    if is_archive(path):
        with unpacked(path) as folder:
            return _read_folder(folder, str(path), series)
    if series is not None and (image_suffix(path) or not is_dicom(path)):
        raise InputError(f"{path}: is a single image, so there is no series {series} to choose")
    if image_suffix(path):
        return read_itk(path)
    if is_dicom(path) or path.suffix.lower() in (".dcm", ".dicom", ".ima"):
        return _read_dicom_file(path)
    raise InputError(f"{path}: not an image that can be read; "
                     "give a DICOM folder, .zip, .tar.xz, .nii.gz, .nrrd or .mha")


def image_files(folder: Path) -> list[Path]:
    """NIfTI, NRRD and MetaImage files below a folder."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and image_suffix(p) and not p.name.startswith("."))


def _read_folder(folder: Path, shown: str, series: str | int | None) -> Volume:
    files = scan(folder, shown)
    images = [] if files else image_files(folder)
    if not files and not images:
        raise InputError(f"{shown}: holds no DICOM file and no other image; choose the folder that holds the series")
    if files:
        return read_dicom(files, shown, series)
    if len(images) > 1:
        names = ", ".join(p.relative_to(folder).as_posix() for p in images[:10])
        raise InputError(f"{shown}: holds several images, choose one: {names}")
    volume = read_itk(images[0])
    return Volume(volume.array, volume.grid, shown, volume.frame_of_reference, volume.metadata)


def _read_dicom_file(path: Path) -> Volume:
    header = read_header(path, str(path))
    if header.SOPClassUID in (SEG_CLASS, RTSTRUCT_CLASS):
        raise InputError(f"{path}: is a segmentation, no image; read it as a mask")
    if "PerFrameFunctionalGroupsSequence" not in header and "PixelSpacing" in header:
        raise InputError(f"{path}: is a single slice of a DICOM series; give its folder")
    return read_series(Series(str(header.SeriesInstanceUID), [DicomFile(path, header, str(path))]), str(path))
