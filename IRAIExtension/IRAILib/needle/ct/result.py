"""What is known of one needle in CT, beyond the tip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...geometry import NeedleEstimate


@dataclass(frozen=True)
class CtNeedle(NeedleEstimate):
    """A needle in CT: frame "RAS", mm, modality "CT".

    Attributes:
        length_mm: along the curve, as far as it is in view.
        bow_mm: largest distance of the curve from the chord between its ends.
        depth_mm: of the tip under the skin; None where no skin is in view or no tip is given.
        other_end: (3,) RAS mm, the end that is not the tip.
        ambiguous_end: both ends are inside: the tip is the deeper one, and the covariance spans both.
        mean_hu: median HU along the axis, as stored (scanners clip at 3071).
    """

    length_mm: float = 0.0
    bow_mm: float = 0.0
    depth_mm: float | None = None
    other_end: np.ndarray | None = None
    ambiguous_end: bool = False
    mean_hu: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        other = None if self.other_end is None else np.asarray(self.other_end, float).round(6).tolist()
        return super().to_dict() | {"length_mm": self.length_mm, "bow_mm": self.bow_mm, "depth_mm": self.depth_mm,
                                    "other_end": other, "ambiguous_end": self.ambiguous_end, "mean_hu": self.mean_hu}
