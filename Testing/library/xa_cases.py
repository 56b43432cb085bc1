"""X-ray runs as DICOM files, written with pydicom alone: classic and enhanced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

XA, ENHANCED = "1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.1.1"


def base(frames: np.ndarray, sop_class: str = XA, bits: int | None = None) -> FileDataset:
    """A dataset with pixels (n, rows, columns) uint8 or uint16 and what every image must have."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality, dataset.PatientID, dataset.PatientName = "XA", "P", "P"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = frames.dtype.itemsize * 8
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    dataset.PixelData = frames.tobytes()
    return dataset


def classic(path: Path, frames: np.ndarray, bits: int | None = None, **values) -> Path:
    """A classic XA run with a usual geometry; `values` set (None: delete) elements by keyword."""
    dataset = base(frames, bits=bits)
    usual = {"FrameTime": 40, "PixelIntensityRelationship": "LIN", "PositionerMotion": "STATIC", "KVP": 81,
             "PositionerPrimaryAngle": 30, "PositionerSecondaryAngle": -20, "DistanceSourceToDetector": 1100,
             "DistanceSourceToPatient": 750, "ImagerPixelSpacing": [0.3, 0.2]}
    for keyword, value in (usual | values).items():
        if value is not None:
            setattr(dataset, keyword, value)
        elif keyword in dataset:
            delattr(dataset, keyword)
    dataset.save_as(path, enforce_file_format=True)
    return path


def item(**values) -> Dataset:
    """A dataset of these elements, as an item of a sequence."""
    out = Dataset()
    for keyword, value in values.items():
        setattr(out, keyword, value)
    return out


def enhanced(path: Path, frames: np.ndarray, angles: list[tuple[float, float]], stamps: list[str]) -> Path:
    """An enhanced XA run: angles and times by frame, the rest shared."""
    dataset = base(frames, ENHANCED)
    shared = item(
        XRayGeometrySequence=[item(DistanceSourceToIsocenter=760.0, DistanceSourceToDetector=1180.0)],
        XAXRFFrameCharacteristicsSequence=[item(DerivationDescription="none")],
        FramePixelDataPropertiesSequence=[item(PixelIntensityRelationship="LOG", PixelIntensityRelationshipSign=1,
                                               ImagerPixelSpacing=[0.154, 0.154])],
        FrameAcquisitionSequence=[item(KVP=75.0, XRayTubeCurrentInmA=400.0)])
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        item(PositionerPositionSequence=[item(PositionerPrimaryAngle=a, PositionerSecondaryAngle=b)],
             FrameContentSequence=[item(FrameReferenceDateTime=stamp)])
        for (a, b), stamp in zip(angles, stamps, strict=True)]
    dataset.save_as(path, enforce_file_format=True)
    return path
