"""Needles in MR, where they show as a void: volumes, single slices, and voids painted into real scans."""

from .finder import find_needles_mr
from .slices import find_needle_mr_slice

__all__ = ["find_needle_mr_slice", "find_needles_mr"]
