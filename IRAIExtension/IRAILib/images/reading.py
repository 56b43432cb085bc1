"""One door for images of every kind."""

from __future__ import annotations

from pathlib import Path

from ..geometry import InputError, Volume
from .itkfiles import image_suffix, read_itk


def read_volume(path: str | Path, *, series: str | int | None = None) -> Volume:
    """A 3D image from a file, an archive or a DICOM folder, in RAS."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if image_suffix(path):
        return read_itk(path)
    raise InputError(f"{path}: not an image file that can be read")
