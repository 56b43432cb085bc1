"""One frame's detection as a NeedleEstimate, without any track."""

from __future__ import annotations

import numpy as np

from ...geometry import NeedleEstimate, NeedleStatus
from .detection import FrameDetection
from .scale import PixelScale

VALIDATED_ON = "simulated ultrasound, an independent simulator and single real frames; not validated clinically"
IN_PLANE = 0.5  # probability under which a tip is not taken for the needle's tip


def estimate_from_detection(detection: FrameDetection, time_s: float,
                            scale: PixelScale | None = None) -> NeedleEstimate:
    """The needle of a single frame: mm in the image plane with a scale, else pixels; z is 0, frame "Image"."""
    shared = {"time_s": time_s, "frame": "Image", "units": "px" if scale is None else "mm", "modality": "US",
              "method": detection.method, "validated_on": VALIDATED_ON, "confidence": detection.confidence,
              "in_plane": detection.in_plane, "visible_fraction": detection.visible_fraction}
    if not detection.found or detection.tip_px is None or detection.direction is None:
        return NeedleEstimate(NeedleStatus.ABSENT, **shared)
    factor = np.ones(2) if scale is None else np.array(scale.mm_per_px)
    direction = np.append(detection.direction * factor, 0.0)
    shared |= {"direction": direction / np.linalg.norm(direction),
               "direction_sigma_deg": detection.direction_sigma_deg}
    if detection.in_plane is not None and detection.in_plane < IN_PLANE:
        return NeedleEstimate(NeedleStatus.OUT_OF_PLANE, **shared)
    assert detection.covariance_px is not None
    covariance = np.zeros((3, 3))
    covariance[:2, :2] = detection.covariance_px * np.outer(factor, factor)
    tip = np.append(detection.tip_px * factor, 0.0)
    curve = None if detection.entry_px is None else np.stack([np.append(detection.entry_px * factor, 0.0), tip])
    return NeedleEstimate(NeedleStatus.SEEN, tip=tip, covariance=covariance, curve=curve, **shared)
