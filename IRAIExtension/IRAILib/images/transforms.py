"""ITK transform files (.h5, .tfm, .txt, .mat), as Slicer reads and writes them."""

from __future__ import annotations

from pathlib import Path

from ..geometry import InputError, Transform, transform_from_sitk
from .atomic import replacing

SUFFIXES = (".h5", ".hdf5", ".tfm", ".txt", ".mat", ".xfm")


def read_transform(path: str | Path, to_frame: str = "moving", from_frame: str = "fixed") -> Transform:
    """The point map stored in an ITK transform file (LPS there), in RAS.

    Raises InputError: missing or damaged file, a kind of transform that can't be represented.
    """
    import SimpleITK as sitk

    path = Path(path)
    _require_suffix(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        transform = sitk.ReadTransform(str(path))
    except (RuntimeError, ValueError) as error:  # SimpleITK: damaged text gives UnicodeDecodeError
        raise InputError(f"{path}: can't be read as an ITK transform; it is damaged or of another kind") from error
    if transform.GetDimension() != 3:
        raise InputError(f"{path}: is a transform in {transform.GetDimension()}D; a 3D transform is needed")
    try:
        return transform_from_sitk(transform, to_frame, from_frame)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def write_transform(transform: Transform, path: str | Path) -> None:
    """The point map as an ITK file in LPS: the direction that resampling uses (fixed to moving).

    Raises InputError: another suffix than .h5, .tfm..., a place that can't be written.
    """
    import SimpleITK as sitk

    path = Path(path)
    _require_suffix(path)
    with replacing(path) as temporary:
        try:
            sitk.WriteTransform(transform.to_sitk(), str(temporary))
        except (RuntimeError, ValueError) as error:  # SimpleITK: damaged text gives UnicodeDecodeError
            raise InputError(f"{path}: this transform can't be written in this format; use .h5") from error


def _require_suffix(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: not a transform file by its name; use {' '.join(SUFFIXES[:3])}")
