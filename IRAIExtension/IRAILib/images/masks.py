"""Masks from files, one label at a time, checked against the image they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..geometry import FrameMismatchError, InputError, Mask, Volume
from .itkfiles import read_itk


def read_mask(path: str | Path, *, label: int | str | None = None, reference: Volume | None = None) -> Mask:
    """One structure of a mask file."""
    path = Path(path)
    volume = read_itk(path)
    values = [int(v) for v in np.unique(volume.array) if v != 0]
    if label is None and len(values) > 1:
        raise InputError(f"{path}: holds several labels, choose one of {values}")
    array = volume.array != 0 if label is None else volume.array == int(label)
    mask = Mask(array, volume.grid, str(path), volume.frame_of_reference, volume.metadata)
    mask.require_not_empty()
    if reference is not None:
        check_pair(mask, reference)
    return mask


def check_pair(mask: Volume, volume: Volume) -> None:
    """Raise FrameMismatchError when a mask can't belong to an image."""
    if mask.frame_of_reference and volume.frame_of_reference and mask.frame_of_reference != volume.frame_of_reference:
        raise FrameMismatchError(f"{mask.name}: another DICOM frame of reference than {volume.name}")
