"""Needles, applicators and probes in CT volumes and CT-fluoroscopy slabs."""

from .finder import find_needle_ct_slice, find_needles_ct
from .result import CtNeedle

__all__ = ["CtNeedle", "find_needle_ct_slice", "find_needles_ct"]
