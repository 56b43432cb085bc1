"""Which DICOM series lie in a folder, and which one is meant."""

from __future__ import annotations

import filecmp
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..geometry import InputError

VOLUME_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT", "1.2.840.10008.5.1.4.1.1.2.1": "enhanced CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "converted CT", "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "enhanced MR", "1.2.840.10008.5.1.4.1.1.4.4": "converted MR",
    "1.2.840.10008.5.1.4.1.1.128": "PET", "1.2.840.10008.5.1.4.1.1.130": "enhanced PET",
    "1.2.840.10008.5.1.4.1.1.128.1": "converted PET",
}
"""SOP classes whose images have a place in the patient."""
SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
_USED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns",
         "SamplesPerPixel", "NumberOfFrames", "RescaleSlope", "RescaleIntercept", "SeriesNumber",
         "SliceThickness", "ImageType", "Modality", "GantryDetectorTilt", "FrameOfReferenceUID",
         "SeriesDescription", "SOPInstanceUID", "BitsAllocated", "PhotometricInterpretation",
         "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "StudyInstanceUID",
         "StudyDescription", "Manufacturer", "ConvolutionKernel", "ContrastBolusAgent", "ProtocolName",
         "StudyDate", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "LossyImageCompression",
         "StructureSetROISequence", "ROIContourSequence", "SOPClassUID", "SeriesInstanceUID")
"""Elements read later: pydicom decodes at the first touch, and a damaged one must fail in `read_header`."""
_NUMBERS = ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "SeriesNumber", "SliceThickness", "BitsAllocated")
_MANY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImageType", "ConvolutionKernel",
         "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "StructureSetROISequence",
         "ROIContourSequence")
_DICOM_SUFFIXES = ("", ".dcm", ".dicom", ".dic", ".ima")


@dataclass(frozen=True)
class DicomFile:
    """A file, its header (without pixels), and the name to show for it."""

    path: Path
    header: Any
    shown: str

    @property
    def sop_class(self) -> str:
        return str(self.header.get("SOPClassUID", ""))


@dataclass
class Series:
    """The files of one SeriesInstanceUID."""

    uid: str
    files: list[DicomFile] = field(default_factory=list)

    @property
    def number(self) -> int | None:
        value = self.files[0].header.get("SeriesNumber")
        return None if value is None else int(value)

    def describe(self) -> str:
        """`number 2 'PORTAL VENOUS' CT, 41 images, 1.2.3...`"""
        header = self.files[0].header
        text = " ".join(str(header.get("SeriesDescription", "")).split())
        return (f"number {'?' if self.number is None else self.number} '{text}' {header.get('Modality', '?')}, "
                f"{len(self.files)} image{'s' * (len(self.files) != 1)}, UID {self.uid}")


def is_dicom(path: Path) -> bool:
    """Whether a file starts as a DICOM file does."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: Path, shown: str):
    """A DICOM file's header without its pixels. Raises InputError when it is damaged or no DICOM."""
    import pydicom
    from pydicom.config import disable_value_validation
    from pydicom.multival import MultiValue

    try:
        with disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True)
            for keyword in _USED:
                _decode_all(header.get(keyword))
                if keyword not in _MANY and isinstance(header.get(keyword), MultiValue):
                    raise ValueError(f"{keyword} has several values")
            for keyword in _NUMBERS:
                float(header.get(keyword) or 0)
    except Exception as error:  # damaged bytes make pydicom raise almost any type, bare Exception too
        raise InputError(f"{shown}: is truncated or damaged, or no DICOM file; copy or export it again") from error
    image = ("Rows",) if header.get("SOPClassUID") in VOLUME_CLASSES else ()
    for element in ("SOPClassUID", "SeriesInstanceUID", *image):
        if not header.get(element):
            raise InputError(f"{shown}: DICOM file without {element}; it is truncated or damaged")
    return header


def _decode_all(value: Any) -> None:
    """Make pydicom decode what is inside a sequence, too."""
    from pydicom.sequence import Sequence

    if isinstance(value, Sequence):
        for item in value:
            for element in item:
                _decode_all(element.value)


def scan(folder: Path, shown: str) -> list[DicomFile]:
    """Every DICOM file below a folder, in the order of names; other files are passed over.

    A file that is named as DICOM files are (no suffix, .dcm, .ima, a number) but can't be read raises
    InputError, since a slice might be lost. `shown` stands for the folder in messages.
    """
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        relative = path.relative_to(folder)
        name = f"{shown}/{relative.as_posix()}"
        if any(part.startswith((".", "__MACOSX")) for part in relative.parts) or path.name.upper() == "DICOMDIR":
            continue
        if is_dicom(path):
            found.append(DicomFile(path, read_header(path, name), name))
        elif _named_as_dicom(path) and not _is_text(path):
            raise InputError(f"{name}: is truncated or damaged, or no DICOM file; copy it again, or remove it")
    return found


def _named_as_dicom(path: Path) -> bool:
    return path.suffix.lower() in _DICOM_SUFFIXES or path.suffix[1:].isdigit()


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(512)
    return bool(start) and all(32 <= byte < 127 or byte in b"\t\r\n\f" for byte in start)


def group(files: list[DicomFile]) -> list[Series]:
    """Files by SeriesInstanceUID, in the order of their numbers. An exact copy of a file counts once."""
    series: dict[str, Series] = {}
    seen: dict[str, DicomFile] = {}
    for file in files:
        sop = str(file.header.get("SOPInstanceUID", ""))
        twin = seen.get(sop) if sop else None
        if twin is not None:
            if filecmp.cmp(twin.path, file.path, shallow=False):
                continue
            raise InputError(f"{file.shown}: has the SOPInstanceUID of {twin.shown} but other content; "
                             "remove one of them")
        seen[sop] = file
        uid = str(file.header.SeriesInstanceUID)
        series.setdefault(uid, Series(uid)).files.append(file)
    return sorted(series.values(), key=lambda s: (s.number is None, s.number or 0, s.uid))


def is_localizer(file: DicomFile) -> bool:
    """Whether an image says of itself that it is a localizer (scout, topogram)."""
    kind = file.header.get("ImageType") or []
    words = [kind] if isinstance(kind, str) else list(kind)
    return any(str(word).upper() in ("LOCALIZER", "SCOUT", "TOPOGRAM") for word in words)


def choose_series(files: list[DicomFile], shown: str, wanted: str | int | None) -> Series:
    """The image series that is meant: the only one, or the one of that UID or SeriesNumber.

    Localizers, segmentations, structure sets and reports are no candidates unless asked for by UID.
    Raises InputError that lists what there is.
    """
    if not files:
        raise InputError(f"{shown}: no DICOM file found there; choose the folder that holds the series")
    series = group(files)
    images = [s for s in series if s.files[0].sop_class in VOLUME_CLASSES]
    candidates = [c for c in (Series(s.uid, [f for f in s.files if not is_localizer(f)]) for s in images) if c.files]
    if wanted is None:
        return _only(candidates or images, shown, lambda: _others(series, shown), "several image series")
    text = str(wanted).strip()
    hits = [s for s in candidates if s.uid == text] or [s for s in images if s.uid == text]
    if not hits and text.isdigit():
        hits = [s for s in candidates if s.number == int(text)]
    listed = "; ".join(s.describe() for s in candidates)
    return _only(hits, shown, lambda: InputError(f"{shown}: no image series {text}; there are: {listed}"),
                 f"several series are number {text}")


def _only(found: list[Series], shown: str, none: Callable[[], InputError], many: str) -> Series:
    if not found:
        raise none()
    if len(found) > 1:
        raise InputError(f"{shown}: {many}; choose one by its number or UID (series=...): "
                         + "; ".join(s.describe() for s in found))
    return found[0]


def _others(series: list[Series], shown: str) -> InputError:
    kinds = {s.files[0].sop_class for s in series}
    held = "; ".join(s.describe() for s in series)
    if kinds <= {SEG_CLASS, RTSTRUCT_CLASS}:
        return InputError(f"{shown}: holds a segmentation, no image; read it as a mask ({held})")
    return InputError(f"{shown}: holds no CT, MR or PET image series, only: {held}")
