"""NIfTI, NRRD and MetaImage files: all written by SimpleITK, the latter two read by it after our checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import Grid, InputError, Mask, Volume
from ..geometry.itk import LPS_FROM_RAS, from_sitk, to_sitk
from .atomic import replacing
from .checks import check_matrix, check_shape, check_values, check_writable
from .headers import check_meta, check_nrrd
from .nifti import read_nifti
from .slicerseg import header_for

READ_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
WRITE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
SEGMENTATION_SUFFIX = ".seg.nrrd"


def image_suffix(path: Path) -> str:
    """The known image suffix that a name ends in, or ''."""
    name = path.name.lower()
    return next((s for s in sorted(READ_SUFFIXES, key=len, reverse=True) if name.endswith(s)), "")


def read_itk(path: str | Path) -> Volume:
    """A scalar 3D image. Raises InputError with one line for everything that is wrong with the file."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        volume = _read_nifti(path) if image_suffix(path).startswith(".nii") else _read_by_itk(path)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror or error})") from error
    check_values(volume.array, str(path))
    return volume


def _read_nifti(path: Path) -> Volume:
    array, matrix = read_nifti(path)
    return Volume(array, Grid(array.shape, matrix), str(path), None, {"file": path.name})


def _read_by_itk(path: Path) -> Volume:
    image = read_image(path)
    shape = image.GetSize()[::-1]
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise InputError(f"{path}: has {image.GetNumberOfComponentsPerPixel()} components a voxel (colour or vectors); "
                         "a scalar image is needed")
    check_shape(shape, str(path))
    check_matrix(_matrix(image), shape, str(path))
    return from_sitk(image, str(path), None, {"file": path.name, **_metadata(image)})


def read_image(path: Path):
    """SimpleITK image of 3 dimensions (a fourth of length 1 is dropped); header and length checked first."""
    import SimpleITK as sitk

    if image_suffix(path) in (".nrrd", ".nhdr"):
        check_nrrd(path)
    else:
        check_meta(path)
    try:
        image = sitk.ReadImage(str(path))
    except (RuntimeError, ValueError) as error:  # SimpleITK: damaged text gives UnicodeDecodeError
        raise InputError(f"{path}: can't be read as an image; it is truncated, damaged or of another kind") from error
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3:
        raise InputError(f"{path}: is a {image.GetDimension()}D image; a single 3D volume is needed")
    return image


def _matrix(image) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return LPS_FROM_RAS @ matrix


def _metadata(image) -> dict[str, Any]:
    return {"modality": image.GetMetaData("Modality")} if image.HasMetaDataKey("Modality") else {}


def write_volume(volume: Volume, path: str | Path, *, header: dict[str, str] | None = None) -> None:
    """A volume to .nii, .nii.gz, .nrrd or .mha (by the name), compressed where the format can.

    64-bit integers and half floats become float32. `header`: further key-value pairs (NRRD only).
    Raises InputError: another suffix, sheared grid.
    """
    import SimpleITK as sitk

    path = Path(path)
    if image_suffix(path) not in WRITE_SUFFIXES:
        raise InputError(f"{path}: can't be written as an image; use one of {' '.join(WRITE_SUFFIXES)}")
    check_writable(volume.grid, str(path))
    with replacing(path) as temporary:
        image = to_sitk(volume)
        for key, value in (header or {}).items():
            image.SetMetaData(key, value)
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except (RuntimeError, ValueError) as error:  # SimpleITK: damaged text gives UnicodeDecodeError
            raise InputError(f"{path}: can't be written; is the disk full?") from error


def write_mask(mask: Mask, path: str | Path, *, name: str = "Segment_1") -> None:
    """A mask as uint8 (0, 1) to .nii, .nii.gz, .nrrd, .mha, or .seg.nrrd (a Slicer segment of that name).

    Raises InputError as write_volume; EmptyMaskError for an empty .seg.nrrd.
    """
    is_segmentation = Path(path).name.lower().endswith(SEGMENTATION_SUFFIX)
    write_volume(mask, path, header=header_for(mask, name) if is_segmentation else None)
