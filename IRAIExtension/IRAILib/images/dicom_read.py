"""A DICOM series to a Volume. Nothing is guessed: what doesn't fit is an error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from ..geometry import InputError, Volume
from .checks import check_values
from .dicom_pixels import frames_of, pixels_of
from .dicom_scan import VOLUME_CLASSES, DicomFile, Series, choose_series
from .dicom_slices import MISSING_GAP, Slice, make_slice, sort_slices

logger = logging.getLogger("IRAI.images")

TILT_STATED_DEGREES = 0.5
_PHASES = ("arterial", "portal", "venous", "delayed", "late", "equilibrium", "nephrographic", "non-contrast",
           "noncontrast", "unenhanced", "native", "nativ")


def read_dicom(files: list[DicomFile], shown: str, series: str | int | None = None) -> Volume:
    """The image series among scanned files. `shown` names their folder in messages."""
    return read_series(choose_series(files, shown, series), shown)


def read_series(series: Series, shown: str) -> Volume:
    """A volume from the files of one series: int16 where the rescale keeps whole numbers, else float32."""
    header = series.files[0].header
    if header.get("SOPClassUID") not in VOLUME_CLASSES:
        raise InputError(f"{shown}: {series.describe()} is no CT, MR or PET image with a place in the patient")
    for keyword in ("SOPClassUID", "FrameOfReferenceUID", "Modality"):
        other = next((f for f in series.files if f.header.get(keyword, "") != header.get(keyword, "")), None)
        if other is not None:
            raise InputError(f"{shown}: mixed {keyword} inside one series ({other.shown} differs from "
                             f"{series.files[0].shown}); separate them")
    slices = [s for file in series.files for s in _slices(file)]
    _check_stated_tilt(series, slices, shown)
    ordered, grid = sort_slices(slices, shown)
    _check_stated_gap(header, float(grid.spacing_mm[2]), shown)
    array = _stack([s.load for s in ordered], grid.shape)
    check_values(array, shown)
    frame = str(header.get("FrameOfReferenceUID", "")) or None
    return Volume(array, grid, shown, frame, metadata_of(series, float(grid.spacing_mm[2])))


def _stack(loads: list[Callable[[], np.ndarray]], shape: tuple[int, int, int]) -> np.ndarray:
    """Slices one after the other, so that only one is held twice; float32 as soon as one needs it."""
    out = np.empty(shape, np.int16)
    for n, load in enumerate(loads):
        pixels = load()
        if out.dtype == np.int16 and pixels.dtype != np.int16:
            out = out.astype(np.float32)
        out[n] = pixels
    return out


def _slices(file: DicomFile) -> list[Slice]:
    header = file.header
    shape = _shape(header, file.shown)
    if "PerFrameFunctionalGroupsSequence" in header:
        return _enhanced_slices(file, shape)
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise InputError(f"{file.shown}: several frames without a position each; export it as an enhanced or "
                         "single-frame series")
    rescale = _rescale(header, header.get("Modality"), file.shown)
    return [make_slice(header.get("ImagePositionPatient"), header.get("ImageOrientationPatient"),
                       header.get("PixelSpacing"), shape, lambda: pixels_of(file, rescale), file.shown)]


def _shape(header, shown: str) -> tuple[int, int]:
    try:
        shape = int(header.Rows), int(header.Columns)
        samples = int(header.get("SamplesPerPixel", 1))
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{shown}: has no image size; it is truncated or damaged") from error
    if min(shape) < 1:
        raise InputError(f"{shown}: the image size is zero; the header is damaged")
    if samples != 1 or not str(header.get("PhotometricInterpretation", "")).startswith("MONOCHROME"):
        raise InputError(f"{shown}: is a colour image; a scalar CT or MR image is needed")
    return shape


def _rescale(item, modality: str | None, shown: str) -> tuple[float, float]:
    """Slope and intercept. A CT must state them (Type 1 in the standard), else its numbers are not HU."""
    slope, intercept = item.get("RescaleSlope"), item.get("RescaleIntercept")
    if slope is None and intercept is None and modality != "CT":
        return 1.0, 0.0
    try:
        values = float(slope), float(intercept)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(f"{shown}: rescale slope or intercept is missing, so its values are not HU; "
                         "export the series again") from error
    if not np.isfinite(values).all() or values[0] == 0.0:
        raise InputError(f"{shown}: rescale slope or intercept is damaged ({values[0]}, {values[1]})")
    return values


def _enhanced_slices(file: DicomFile, shape: tuple[int, int]) -> list[Slice]:
    """Frames of an enhanced CT, MR or PET, by their functional groups."""
    shared = (file.header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    frames = file.header.PerFrameFunctionalGroupsSequence
    if len(frames) != int(file.header.get("NumberOfFrames") or 1):
        raise InputError(f"{file.shown}: {file.header.get('NumberOfFrames')} frames but {len(frames)} positions; "
                         "the file is damaged")
    pixels = frames_of(file)

    def of(frame, group: str) -> Any:
        items = frame.get(group) or shared.get(group) or [{}]
        return items[0]

    slices = []
    for n, frame in enumerate(frames):
        name = f"{file.shown} frame {n + 1}"
        rescale = _rescale(of(frame, "PixelValueTransformationSequence"), file.header.get("Modality"), name)
        slices.append(make_slice(
            of(frame, "PlanePositionSequence").get("ImagePositionPatient"),
            of(frame, "PlaneOrientationSequence").get("ImageOrientationPatient"),
            of(frame, "PixelMeasuresSequence").get("PixelSpacing"), shape,
            lambda n=n, rescale=rescale: pixels(n, rescale), name))
    return slices


def _check_stated_tilt(series: Series, slices: list[Slice], shown: str) -> None:
    """Refuse a header that states a tilted gantry beside an upright orientation: one of them is wrong."""
    header = series.files[0].header
    tilt = _number(header, "GantryDetectorTilt") or 0.0
    upright = abs(slices[0].normal_lps[2]) > np.cos(np.radians(TILT_STATED_DEGREES))
    derived = "DERIVED" in [str(word).upper() for word in header.get("ImageType") or []]
    if abs(tilt) > TILT_STATED_DEGREES and upright and not derived:
        raise InputError(f"{shown}: gantry tilt of {tilt:g} degrees is stated, but the orientation is upright; "
                         "correct the tilt (resample to an upright volume) before use")


def _check_stated_gap(header, gap_mm: float, shown: str) -> None:
    """Refuse a series of which only every second slice is there; warn of slices that don't touch."""
    stated = _number(header, "SpacingBetweenSlices")
    if stated and gap_mm > MISSING_GAP * abs(stated):
        raise InputError(f"{shown}: missing slices: they lie {gap_mm:.4g} mm apart where the header states "
                         f"{abs(stated):.4g} mm; export the whole series again")
    thickness = _number(header, "SliceThickness")
    if thickness and gap_mm > MISSING_GAP * thickness:
        logger.warning("%s: slices of %.4g mm every %.4g mm leave gaps between them", shown, thickness, gap_mm)


def _number(item, keyword: str) -> float | None:
    try:
        value = float(item.get(keyword))
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def metadata_of(series: Series, slice_spacing_mm: float) -> dict[str, Any]:
    """What the header says, as plain values; keys that it doesn't state are absent. No patient's name."""
    header = series.files[0].header
    wanted = {"modality": "Modality", "series_description": "SeriesDescription", "study_uid": "StudyInstanceUID",
              "study_description": "StudyDescription", "manufacturer": "Manufacturer", "kernel": "ConvolutionKernel",
              "contrast_agent": "ContrastBolusAgent", "protocol": "ProtocolName", "study_date": "StudyDate",
              "acquisition_date": "AcquisitionDate", "acquisition_time": "AcquisitionTime"}
    out: dict[str, Any] = {"series_uid": series.uid, "slice_spacing_mm": slice_spacing_mm,
                           "images": len(series.files)}
    for key, keyword in wanted.items():
        value = header.get(keyword)
        if value not in (None, ""):
            out[key] = value if isinstance(value, str) else "\\".join(map(str, value))
    if series.number is not None:
        out["series_number"] = series.number
    if "acquisition_date" not in out and header.get("AcquisitionDateTime"):
        stamp = str(header.AcquisitionDateTime)
        out["acquisition_date"], out["acquisition_time"] = stamp[:8], stamp[8:]
    if thickness := _number(header, "SliceThickness"):
        out["slice_thickness_mm"] = thickness
    out["lossy"] = str(header.get("LossyImageCompression", "00")) == "01"
    out["derived"] = "DERIVED" in [str(word).upper() for word in header.get("ImageType") or []]
    described = " ".join(str(out.get(key, "")) for key in ("series_description", "protocol")).lower()
    if phase := next((word for word in _PHASES if word in described), None):
        out["contrast_phase"] = phase
    return out
