"""X-ray runs: angiographic and fluoroscopic DICOM (XA, RF, their enhanced kind), with beam, exposure and mask values.

Angles as DICOM (PS3.3 C.8.7.5): primary positive towards the patient's left (LAO), secondary towards the head (CRA).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import CArmGeometry, InputError, geometry_from_angles
from .dicom_pixels import frames_of
from .dicom_scan import DicomFile, is_dicom, read_header
from .xa_header import VALUES, Header, MaskOperation, mask_operations

CLASSES = {"1.2.840.10008.5.1.4.1.1.12.1": "XA", "1.2.840.10008.5.1.4.1.1.12.1.1": "enhanced XA",
           "1.2.840.10008.5.1.4.1.1.12.2": "RF", "1.2.840.10008.5.1.4.1.1.12.2.1": "enhanced RF"}
MAX_PIXELS = 2**31
RELATIONSHIPS = ("LIN", "LOG", "DISP")


@dataclass
class XARun:
    """A run of X-ray frames from one position of the C-arm or a turning one.

    Attributes:
        frames: (n, rows, columns) as stored, but a higher value always means more X-ray at the detector: vessels filled
            with iodine are dark. uint8, uint16, int16 or float32.
        relationship: of values to beam intensity, "LIN", "LOG" or "DISP" (made for display; unknown).
        time_s: (n,) since the first frame, or None where the file doesn't say.
        angles_deg: (n, 2) primary and secondary, NaN where the file doesn't say.
        values: DICOM keyword to number or list, as the file gives them (kV, mA, ms, mm, dGy cm^2 ...); lists of
            `per_frame` have one value a frame.
        masks: the file's own Mask Subtraction Sequence.
        bits: stored bits. linear_lut: (first stored value, table) to linear intensity, or None.
        modality: "XA" or "RF". source: the path shown to a user. notes: what was taken as given.
    """

    frames: np.ndarray
    source: str
    relationship: str
    angles_deg: np.ndarray
    time_s: np.ndarray | None = None
    values: dict[str, Any] = field(default_factory=dict)
    per_frame: dict[str, list[float]] = field(default_factory=dict)
    masks: list[MaskOperation] = field(default_factory=list)
    bits: int = 8
    linear_lut: tuple[int, np.ndarray] | None = None
    modality: str = "XA"
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> tuple[int, int]:
        """(columns, rows)."""
        return int(self.frames.shape[2]), int(self.frames.shape[1])

    def log_frames(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """(m, rows, columns) float32, the logarithm of the intensity, up to a constant: what may be subtracted.

        Linear values become natural logarithms (zero counts as half a step), through the file's own table where it has
        one. Values that are logarithms already, and those made for display, are only scaled by their range, so that
        differences keep their sign; then the unit is the file's own.
        """
        values = self.frames[start:stop]
        if self.relationship != "LIN" and self.linear_lut is None:
            return values.astype(np.float32) / np.float32(2**self.bits - 1)
        linear = values.astype(np.float32)
        if self.linear_lut is not None:
            first, table = self.linear_lut
            linear = table[np.clip(values.astype(np.int64) - first, 0, len(table) - 1)].astype(np.float32)
        return np.log(np.maximum(linear, np.float32(0.5)))

    def geometry(self, frame: int = 0) -> CArmGeometry:
        """The projection of a frame in the table frame, isocentre as origin. Raises InputError naming what is missing.

        The patient is taken to lie as the angles say (they are the patient's, not the room's).
        """
        needed = {"PositionerPrimaryAngle": self.angles_deg[frame, 0],
                  "PositionerSecondaryAngle": self.angles_deg[frame, 1]}
        for key in ("DistanceSourceToDetector", "DistanceSourceToPatient"):
            needed[key] = self.per_frame.get(key, [self.values.get(key, np.nan)] * (frame + 1))[frame]
        spacing = self.values.get("ImagerPixelSpacing")
        missing = [key for key, value in needed.items() if not np.isfinite(value)]
        if missing or spacing is None:
            missing += ["ImagerPixelSpacing"] if spacing is None else []
            raise InputError(f"{self.source}: no projection geometry without {', '.join(missing)}")
        primary, secondary, detector, isocentre = (float(v) for v in needed.values())
        return geometry_from_angles(primary, secondary, detector, isocentre, (spacing[1], spacing[0]), self.size)

    def to_dict(self) -> dict[str, Any]:
        angles = [[None if np.isnan(v) else float(v) for v in row] for row in self.angles_deg]
        return {"source": self.source, "modality": self.modality, "frames": len(self.frames),
                "size": list(self.size), "relationship": self.relationship, "angles_deg": angles,
                "time_s": None if self.time_s is None else self.time_s.tolist(), "values": self.values,
                "masks": [m.to_dict() for m in self.masks], "notes": list(self.notes),
                "frame": "Table (RAS of a patient head first, supine; isocentre as origin)"}


def read_xa(path: str | Path) -> XARun:
    """An XA or RF run, single or multi-frame, classic or enhanced.

    Raises: InputError, one line, for what is missing or damaged, has no pixels, is coloured or of another modality.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file" if not path.exists() else f"{path}: is a folder; give one file")
    if not is_dicom(path):
        raise InputError(f"{path}: not a DICOM file; give an XA or RF run (.dcm)")
    dataset = read_header(path, str(path))
    try:
        return _run(path, dataset)
    except InputError:
        raise
    except Exception as error:  # pydicom decodes at the first touch; damaged bytes make it raise almost any type
        raise InputError(f"{path}: its header is damaged; copy or export the file again") from error


def _run(path: Path, dataset: Any) -> XARun:
    modality = str(dataset.get("Modality", ""))
    if str(dataset.SOPClassUID) not in CLASSES and modality not in ("XA", "RF"):
        raise InputError(f"{path}: is {modality or 'of no modality'}, not an X-ray run (XA or RF)")
    if not dataset.get("Rows") or not dataset.get("Columns"):
        raise InputError(f"{path}: an {modality} object without a picture; give the run itself")
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise InputError(f"{path}: is a coloured copy; its colours are no X-ray intensities; give the original run")
    count = int(dataset.get("NumberOfFrames") or 1)
    if count < 1 or count * int(dataset.Rows) * int(dataset.Columns) > MAX_PIXELS:
        raise InputError(f"{path}: {count} frames of {dataset.Columns}x{dataset.Rows} pixels can't be read")
    header = Header(dataset, count, str(path))
    bits = int(header.number("BitsStored") or 8)
    if not 1 <= bits <= 32:
        raise InputError(f"{path}: {bits} stored bits; the header is damaged, copy the file again")
    notes: list[str] = []
    frames = _pixels(DicomFile(path, dataset, str(path)), header, bits, notes)
    values, per_frame = _values(header)
    return XARun(frames, str(path), _relationship(header, notes), header.angles(), header.times(), values, per_frame,
                 mask_operations(dataset, count, str(path)), bits, header.linear_lut(), modality or "XA", notes)


def _values(header: Header) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    values, per_frame = {}, {}
    for key, size in VALUES.items():
        found = header.values(key, size)
        if found is None:
            continue
        name = "DistanceSourceToPatient" if key == "DistanceSourceToIsocenter" else key  # the enhanced kind's name
        values[name] = found[0]
        if len(found) > 1 and any(v != found[0] for v in found):
            per_frame[name] = found
    return values, per_frame


def _relationship(header: Header, notes: list[str]) -> str:
    told = header.text("PixelIntensityRelationship").upper()
    if told in RELATIONSHIPS:
        return told
    notes.append(f"Pixel Intensity Relationship is '{told}' in the file; values are taken as made for display"
                 if told else "the file has no Pixel Intensity Relationship; values are taken as made for display")
    return "DISP"


def _pixels(file: DicomFile, header: Header, bits: int, notes: list[str]) -> np.ndarray:
    """(n, rows, columns) with more X-ray higher, in the smallest type that holds the stored values."""
    frame = frames_of(file)
    shape = int(file.header.Rows), int(file.header.Columns)
    first = frame(0, (1.0, 0.0))
    if first.shape != shape:
        raise InputError(f"{file.shown}: its pixels have the shape {first.shape}, its header says {shape}")
    signed = int(header.number("PixelRepresentation") or 0) == 1
    kind = np.float32 if first.dtype.kind == "f" and "FloatPixelData" in file.header else \
        np.int16 if signed else np.uint8 if bits <= 8 else np.uint16
    try:
        stored = np.stack([frame(n, (1.0, 0.0)) for n in range(header.count)]).astype(kind)
    except IndexError:
        raise InputError(f"{file.shown}: has fewer frames than its header's {header.count}; copy it again") from None
    sign = header.number("PixelIntensityRelationshipSign")
    inverted = sign == -1 if sign else header.text("PhotometricInterpretation") == "MONOCHROME1"
    if not inverted:
        return stored
    notes.append("values were turned round so that more X-ray is a higher value "
                 f"({'Pixel Intensity Relationship Sign -1' if sign else 'MONOCHROME1'})")
    top = -1 if signed else 2**bits - 1
    return (top - stored.astype(np.int32)).astype(kind) if stored.dtype.kind in "iu" else stored.max() - stored
