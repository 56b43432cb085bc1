"""Needle in 2D ultrasound: scale, image region, scan conversion, the detectors and the simulator.

Pixel centres lie at integers; x is the column, y the row, both of the full picture that came in.
"""

from .detection import NOT_FOUND, Detector, FrameDetection, checked_frames
from .scale import PixelScale, agreed_scale, required_scale

__all__ = ["NOT_FOUND", "Detector", "FrameDetection", "PixelScale", "agreed_scale", "checked_frames",
           "required_scale"]
