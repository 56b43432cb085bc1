"""Reasons not to believe a multimodal registration."""

from __future__ import annotations

from dataclasses import dataclass

from .information import DEEP_MM

LARGEST_SIGMA_MM = 3.0
LARGEST_OPINION_MM = 4.0
LARGEST_RIVAL = 0.9
LEAST_SHARE = 0.3
LEAST_CHANCE = 3.0
LEAST_INSIDE = 2.5
"""Made-up bodies: below the outlines the right one stands 3.2 and more spreads above wrong places, others of the very
same outline, muscle and bone at most 2.2."""
LEAST_SCORE = 0.02


@dataclass(frozen=True)
class Evidence:
    """What was measured on a finished map; see `MultimodalRegistration`. chance: spreads above wrong places."""

    score: float
    start_score: float
    share: float
    sigma_mm: float
    opinion_mm: float | None
    rival: float | None
    chance: float
    inside: float | None
    at_edge: bool


def judge_multimodal(evidence: Evidence, method: str) -> str | None:
    """The first reason to refuse, one line, or None."""
    e = evidence
    if e.share < LEAST_SHARE:
        return (f"only {100 * e.share:.0f} % of the smaller image meets the other (at least {100 * LEAST_SHARE:.0f} % "
                "is needed); place the images by landmarks first")
    if e.at_edge:
        return "the best place lies at the edge of the search; place the images by landmarks first"
    if e.score < LEAST_SCORE or e.chance < LEAST_CHANCE:
        return (f"the found place matches hardly better than wrong ones ({e.chance:.1f} standard deviations, at least "
                f"{LEAST_CHANCE:g} are needed); check that both images show the same part of the same patient")
    if e.inside is not None and e.inside < LEAST_INSIDE:
        return (f"the outlines match, but what lies {DEEP_MM:g} mm and more below them hardly does ({e.inside:.1f} "
                f"standard deviations, at least {LEAST_INSIDE:g} are needed); check that both images show the same "
                "part of the same patient, not mirrored")
    if e.score < e.start_score and method != "mind":
        return "the images match worse after registration than before; place them by landmarks"
    if e.rival is not None and e.rival > LARGEST_RIVAL:
        return (f"another place, more than 5 mm away, matches nearly as well ({100 * e.rival:.0f} % of the gain); give "
                "a start nearer the truth (landmarks) and search less far")
    if e.sigma_mm > LARGEST_SIGMA_MM:
        return (f"the place is uncertain by {e.sigma_mm:.1f} mm (halves of the tissue, or two measures, disagree; at "
                f"most {LARGEST_SIGMA_MM:g} mm is accepted); register by landmarks, or give the mask of a large organ")
    if e.opinion_mm is not None and e.opinion_mm > LARGEST_OPINION_MM:
        return (f"two unlike measures disagree by {e.opinion_mm:.1f} mm (at most {LARGEST_OPINION_MM:g} mm is "
                "accepted); register by landmarks, or give the mask of a large organ")
    return None
