"""Floor 1: images, masks, transforms and points, in and out of files. LPS stays at this border."""

from .atomic import replacing
from .dicom_seg import write_dicom_seg
from .dicom_write import write_dicom_series
from .itkfiles import write_mask, write_volume
from .masks import check_pair, read_mask
from .points import read_points, write_points
from .reading import read_volume
from .sequences import TrackedSequence, read_sequence, write_sequence
from .transforms import read_transform, write_transform

__all__ = [
    "TrackedSequence", "check_pair", "read_mask", "read_points", "read_sequence", "read_transform", "read_volume",
    "replacing", "write_dicom_seg", "write_dicom_series", "write_mask", "write_points", "write_sequence",
    "write_transform", "write_volume",
]
