"""Pixels of DICOM files, decoded by what is installed."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from ..geometry import InputError
from .dicom_scan import DicomFile


def pixels_of(file: DicomFile, rescale: tuple[float, float]) -> np.ndarray:
    """(rows, columns) rescaled values of a single-frame file: int16 if whole numbers that fit, else float32."""
    stored = _decode(file)
    if stored.ndim == 3 and stored.shape[0] == 1:
        stored = stored[0]
    shape = int(file.header.Rows), int(file.header.Columns)
    if stored.shape != shape:
        raise InputError(f"{file.shown}: its pixels have the shape {stored.shape}, its header says {shape}; "
                         "the file is damaged")
    return rescaled(stored, rescale)


def frames_of(file: DicomFile) -> Callable[[int, tuple[float, float]], np.ndarray]:
    """A function that gives the rescaled pixels of a frame; the file is decoded at its first call."""
    held: list[np.ndarray] = []

    def frame(n: int, rescale: tuple[float, float]) -> np.ndarray:
        if not held:
            stored = _decode(file)
            held.append(stored[None] if stored.ndim == 2 else stored)
        return rescaled(held[0][n], rescale)

    return frame


def rescaled(stored: np.ndarray, rescale: tuple[float, float]) -> np.ndarray:
    """Stored values times slope plus intercept, int16 where that is exact, else float32."""
    slope, intercept = rescale
    if stored.dtype.kind in "iu" and slope == 1.0 and intercept == round(intercept):
        whole = stored.astype(np.int32) + int(intercept)
        if whole.min() >= -32768 and whole.max() <= 32767:
            return whole.astype(np.int16)
        return whole.astype(np.float32)
    return (stored.astype(np.float64) * slope + intercept).astype(np.float32)


def _decode(file: DicomFile) -> np.ndarray:
    import pydicom
    from pydicom.config import disable_value_validation

    try:
        with disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message="End of file reached")
            dataset = pydicom.dcmread(file.path)
        syntax = dataset.file_meta.TransferSyntaxUID
        packed = syntax.is_compressed
        if "PixelData" not in dataset and not {"FloatPixelData", "DoubleFloatPixelData"} & set(dataset.dir()):
            raise InputError(f"{file.shown}: truncated: its pixels are missing; copy or export it again")
    except InputError:
        raise
    except Exception as error:  # see read_header
        raise InputError(f"{file.shown}: is truncated or damaged; copy or export it again") from error
    if not packed:
        _require_length(file, dataset)
    try:
        return dataset.pixel_array
    except Exception as error:  # see read_header
        if not packed:
            raise InputError(f"{file.shown}: its pixels can't be read; the file is damaged") from error
        if _has_decoder(syntax):
            raise InputError(f"{file.shown}: its compressed pixels ({syntax.name}) are truncated or damaged; "
                             "copy or export it again") from error
        return _decode_with_gdcm(file, dataset)


def _require_length(file: DicomFile, dataset) -> None:
    if "PixelData" not in dataset:
        return
    bits = int(dataset.get("BitsAllocated") or 0)
    expected = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames") or 1) * bits // 8
    if not bits or len(dataset.PixelData) < expected:
        raise InputError(f"{file.shown}: truncated: {len(dataset.PixelData)} of {expected} bytes of pixels are there; "
                         "copy or export it again")


def _has_decoder(syntax) -> bool:
    from pydicom.pixels.decoders.base import get_decoder

    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _decode_with_gdcm(file: DicomFile, dataset) -> np.ndarray:
    """Stored values by the GDCM inside SimpleITK, which knows kinds that pydicom needs plug-ins for."""
    import SimpleITK as sitk

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(file.path), imageIO="GDCMImageIO")).astype(np.float64)
    except (RuntimeError, ValueError) as error:  # SimpleITK: damaged text gives UnicodeDecodeError
        raise InputError(f"{file.shown}: compressed as {syntax.name}, for which no decoder is installed; install "
                         "pylibjpeg with its plug-ins, or decompress the series (dcmdjpeg, gdcmconv --raw)") from error
    slope, intercept = float(dataset.get("RescaleSlope", 1.0)), float(dataset.get("RescaleIntercept", 0.0))
    return np.round((values - intercept) / slope).astype(np.int32)
