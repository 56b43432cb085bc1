"""Response by diameters: RECIST 1.1, and mRECIST for hepatocellular carcinoma. One call judges the last time given.

Sizes run baseline first; the nadir is the smallest sum of the times before the last at which every target was measured.
Best response and its confirmation need the whole course and aren't judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...geometry import InputError, RefusedError
from .lesions import Lesion
from .model import Draft, Input, Outcome, register

EPSILON = 1e-9
MOST, MOST_IN_ORGAN = 5, 2
LESION_MM, NODE_MM, NORMAL_NODE_MM, PORTAL_NODE_MM = 10.0, 15.0, 10.0, 20.0
NON_TARGETS = ("none", "CR", "non-CR/non-PD", "PD", "NE")
TARGETS = Input("targets", "target lesions: organ and diameters, baseline first; text as 'liver 42mm 30mm; node:hilum "
                           "18mm 9mm', or a list; empty where there is no target", kind="lesions", unit="mm")
NON_TARGET = Input("non_target", "non-target lesions together: none of them at baseline, gone (CR), non-CR/non-PD, "
                                 "unequivocal progression (PD), or not evaluated (NE)", kind="choice",
                   choices=NON_TARGETS)
NEW = Input("new_lesions", "unequivocal new lesions", kind="choice", choices=("no", "yes", "equivocal"))
SLICE = Input("slice_thickness", "slice thickness of the CT or MRI at baseline", unit="mm", possible=(0.1, 50.0),
              usual=(0.1, 10.0), default="5mm")


@dataclass(frozen=True)
class TargetResponse:
    """Category of the targets, and the sums in mm that it rests on; change against baseline and nadir in per cent."""

    category: str
    baseline_mm: float
    nadir_mm: float
    now_mm: float
    from_baseline_percent: float | None
    from_nadir_percent: float | None

    def to_dict(self) -> dict[str, Any]:
        return {"targets": self.category, "sum_baseline_mm": self.baseline_mm, "sum_nadir_mm": self.nadir_mm,
                "sum_now_mm": self.now_mm, "from_baseline_percent": self.from_baseline_percent,
                "from_nadir_percent": self.from_nadir_percent}


def response_of_sums(baseline_mm: float, nadir_mm: float, now_mm: float, *, all_gone: bool, all_evaluated: bool = True,
                     least_growth_mm: float = 5.0) -> TargetResponse:
    """CR, PD, PR, SD or NE from sums of diameters (mm).

    PR: at least 30 % below baseline; PD: at least 20 % and `least_growth_mm` above the nadir; CR where all_gone. With a
    target not evaluated only PD can be shown. Raises InputError for sums that can't be.
    """
    if not (0 < baseline_mm < float("inf") and 0 <= nadir_mm <= baseline_mm and 0 <= now_mm < float("inf")):
        raise InputError("response: needs a positive baseline sum, a nadir of 0 to the baseline and a sum of 0 or more")
    growth = now_mm - nadir_mm
    worse = (growth >= 0.2 * nadir_mm - EPSILON and growth >= least_growth_mm - EPSILON and growth > EPSILON)
    if all_gone and all_evaluated:
        category = "CR"
    elif worse:
        category = "PD"
    elif not all_evaluated:
        category = "NE"
    else:
        category = "PR" if now_mm <= 0.7 * baseline_mm + EPSILON else "SD"
    return TargetResponse(category, baseline_mm, nadir_mm, now_mm, 100.0 * (now_mm / baseline_mm - 1.0),
                          100.0 * growth / nadir_mm if nadir_mm > 0 else None)


def targets_response(lesions: Sequence[Lesion], *, least_growth_mm: float = 5.0) -> TargetResponse:
    """Judge the last time of lesions (at least one). A lesion that comes back after a complete response is progression.

    Raises InputError for a baseline that wasn't measured.
    """
    if any(lesion.diameters_mm[0] is None for lesion in lesions):
        raise InputError("targets: every target needs its size at baseline")
    times = list(zip(*(lesion.diameters_mm for lesion in lesions), strict=True))
    sums = [sum(size for size in time if size is not None) for time in times]
    nadir = min(total for total, time in zip(sums[:-1], times[:-1], strict=True) if None not in time)
    found = response_of_sums(sums[0], nadir, sums[-1], all_gone=_gone(lesions, times[-1]),
                             all_evaluated=None not in times[-1], least_growth_mm=least_growth_mm)
    back = any(size for lesion, size in zip(lesions, times[-1], strict=True) if not lesion.node)
    if back and any(_gone(lesions, time) for time in times[:-1]):
        return replace(found, category="PD")
    return found


def _gone(lesions: Sequence[Lesion], sizes: Sequence[float | None]) -> bool:
    return all(size is not None and (size < NORMAL_NODE_MM if lesion.node else size == 0.0)
               for lesion, size in zip(lesions, sizes, strict=True))


def overall_response(targets: str | None, non_target: str, new_lesions: bool) -> str:
    """The table of RECIST 1.1 (tables 1 and 2 there). targets None: no target at baseline."""
    if new_lesions or "PD" in (targets, non_target):
        return "PD"
    if targets is None:
        return {"CR": "CR", "non-CR/non-PD": "non-CR/non-PD", "NE": "NE", "none": "NE"}[non_target]
    if targets == "CR":
        return "CR" if non_target in ("CR", "none") else "PR"
    return targets


def _check_targets(draft: Draft, node_mm: Sequence[float]) -> None:
    lesions: list[Lesion] = draft["targets"]
    if len(lesions) > MOST:
        raise InputError(f"targets: {len(lesions)} given; at most {MOST} are allowed, the rest are non-target")
    for site in {lesion.site for lesion in lesions}:
        if sum(lesion.site == site for lesion in lesions) > MOST_IN_ORGAN:
            raise InputError(f"targets: more than {MOST_IN_ORGAN} in {site}; the rest are non-target")
    least = max(LESION_MM, 2.0 * draft["slice_thickness"])
    for lesion in lesions:
        size = lesion.diameters_mm[0]
        needed = _node_limit(lesion, node_mm) if lesion.node else least
        if size is not None and size < needed - EPSILON:
            axis = "short axis" if lesion.node else "diameter"
            raise RefusedError(f"target in {lesion.organ}: {axis} {size:g} mm at baseline is not measurable (at least "
                               f"{needed:g} mm); follow it as non-target")


def _node_limit(lesion: Lesion, node_mm: Sequence[float]) -> float:
    portal = any(word in lesion.organ for word in ("porta", "hilum", "portocaval"))
    return node_mm[1] if portal else node_mm[0]


def _judge(draft: Draft, least_growth_mm: float) -> Outcome:
    lesions: list[Lesion] = draft["targets"]
    if not lesions and draft["non_target"] == "none":
        raise RefusedError("no target and no non-target lesion at baseline: there is no response to judge")
    category = None
    value: float | None = None
    if lesions:
        found = targets_response(lesions, least_growth_mm=least_growth_mm)
        draft.details.update(found.to_dict())
        category, value = found.category, found.from_baseline_percent
        if category == "NE":
            draft.warn("a target was not evaluated at the last time, and the others alone don't show progression")
        if category == "CR" and draft["non_target"] == "NE":
            draft.warn("non-target lesions were not all evaluated: PR at most")
    if draft["new_lesions"] == "equivocal":
        draft.warn("an equivocal new lesion doesn't count yet; if it proves real, progression dates from this time")
    overall = overall_response(category, draft["non_target"], draft["new_lesions"] == "yes")
    draft.details.update({"non_target": draft["non_target"], "new_lesions": draft["new_lesions"], "overall": overall})
    draft.warn("one time point: best overall response and its confirmation need the whole course")
    return value, overall


@register("recist", "RECIST 1.1", (TARGETS, NON_TARGET, NEW, SLICE), unit="% from baseline",
          validated_on="both sides of every limit; the categories given for the 70 TACE patients of HCC-TACE-Seg "
                       "(three sets of measurements), recomputed from their sums")
def recist(draft: Draft) -> Outcome:
    """Overall response at the last time given; value: the sum's change from baseline.

    Formula: at most 5 targets, 2 in an organ (all lymph nodes are one), 10 mm (or twice the slice thickness) and more,
    nodes 15 mm short axis; CR: all gone, nodes < 10 mm; PR: sum at least 30 % below baseline; PD: sum at least 20 % and
    5 mm above the nadir, or unequivocal non-target progression, or a new lesion; overall by the table

    Source: Eisenhauer EA et al, Eur J Cancer 2009;45:228; nodes as one organ: Schwartz LH et al, Eur J Cancer
    2016;62:132
    """
    _check_targets(draft, (NODE_MM, NODE_MM))
    return _judge(draft, 5.0)


VIABLE = Input("targets", "viable (arterially enhancing) diameter of each target, baseline first; 0mm: no enhancement "
                          "left; text as 'liver 42mm 30mm; node:porta 22mm 9mm', or a list", kind="lesions", unit="mm")
HCC_NEW = Input("new_lesions", "new HCC: at least 10 mm with the typical pattern, or grown by 10 mm since (yes); any "
                               "other new nodule (equivocal)", kind="choice", choices=("no", "yes", "equivocal"))
HCC_NON_TARGET = Input("non_target", "non-target lesions together: none of them, all enhancement gone (CR), "
                                     "non-CR/non-PD, progression (PD; effusion or ascites only with malignant cells), "
                                     "not evaluated (NE)", kind="choice", choices=NON_TARGETS)


@register("mrecist", "mRECIST (hepatocellular carcinoma)", (VIABLE, HCC_NON_TARGET, HCC_NEW, SLICE),
          unit="% from baseline",
          validated_on="both sides of every limit; the categories given for the 70 TACE patients of HCC-TACE-Seg "
                       "(three sets of measurements), recomputed from their sums")
def mrecist(draft: Draft) -> Outcome:
    """Response of HCC by its viable parts. A lesion without enhancement at baseline can't be a target.

    Formula: as RECIST with viable diameters: CR no enhancement left in any target, PR at least 30 % below baseline, PD
    at least 20 % above the nadir (no 5 mm rule in the paper), nodes at the porta hepatis 20 mm, others 15 mm short
    axis; overall by the table

    Source: Lencioni R, Llovet JM, Semin Liver Dis 2010;30:52; Llovet JM, Lencioni R, J Hepatol 2020;72:288
    """
    _check_targets(draft, (NODE_MM, PORTAL_NODE_MM))
    outcome = _judge(draft, 0.0)
    growth = draft.details.get("sum_now_mm", 0.0) - draft.details.get("sum_nadir_mm", 0.0)
    if draft.details.get("targets") == "PD" and growth < 5.0:
        draft.warn("the sum grew by less than 5 mm: RECIST 1.1 would not call that progression; mRECIST "
                   "has no such rule")
    return outcome
