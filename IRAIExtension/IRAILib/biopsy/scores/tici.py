"""Reperfusion after thrombectomy: a sheet for the reader's grade, not a computation."""

from __future__ import annotations

from ...geometry import InputError
from .model import Draft, Input, Outcome, register

SCALES: dict[str, dict[str, tuple[str, float, float]]] = {
    "mTICI": {"0": ("no perfusion", 0.0, 0.0), "1": ("past the first occlusion, hardly any distal branch", 0.0, 0.0),
              "2a": ("less than half of the territory", 0.0, 50.0), "2b": ("half or more, not all", 50.0, 100.0),
              "3": ("all, every distal branch", 100.0, 100.0)},
    "eTICI": {"0": ("no reperfusion", 0.0, 0.0), "1": ("less thrombus, no distal branch filled", 0.0, 0.0),
              "2a": ("1 to 49 %", 1.0, 50.0), "2b50": ("50 to 66 %", 50.0, 67.0), "2b67": ("67 to 89 %", 67.0, 90.0),
              "2c": ("90 to 99 %", 90.0, 100.0), "3": ("100 %", 100.0, 100.0)},
}
"""Scale: grade: what it means, reperfused territory from (included) to (excluded, but for 100) in per cent."""
GRADES = tuple(dict.fromkeys(grade for scale in SCALES.values() for grade in scale))
SCALE = Input("scale", "scale of the grade", kind="choice", choices=tuple(SCALES))
GRADE = Input("grade", "the reader's grade of the last run", kind="choice", choices=GRADES)
OCCLUSION = Input("occlusion", "target occlusion", kind="choice",
                  choices=("ICA", "M1", "M2", "M3", "A1", "A2", "P1", "P2", "basilar", "vertebral", "other"))
REPERFUSED = Input("reperfused", "the reader's estimate of the reperfused share of the target's territory", unit="%",
                   possible=(0.0, 100.0), optional=True)
PASSES = Input("passes", "passes of stent retriever or aspiration", kind="count", possible=(0.0, 30.0),
               usual=(0.0, 8.0))
TWO_READERS = Input("second_reader", "the grade of a second, blinded reader", kind="choice", choices=GRADES,
                    optional=True)


def _fits(percent: float, low: float, high: float) -> bool:
    return low <= percent < high or (percent == high and high in (0.0, 100.0) and low == high)


@register("tici", "TICI sheet", (SCALE, GRADE, OCCLUSION, PASSES, REPERFUSED, TWO_READERS), unit="",
          uncertainty="a reader's grade; readers differ by a grade in part of the cases: have two",
          validated_on="a sheet: nothing is computed but the agreement of grade and share")
def tici(draft: Draft) -> Outcome:
    """The reader's grade on a sheet, checked for agreement with the share that he gives.

    Formula: none; success: mTICI or eTICI 2b and better; near complete: eTICI 2c or 3, mTICI 3; first-pass effect: near
    complete after one pass

    Source: Zaidat OO et al, Stroke 2013;44:2650 (mTICI); Liebeskind DS et al, J Neurointerv Surg 2019;11:433 (eTICI);
    first pass: Zaidat OO et al, Stroke 2018;49:660
    """
    scale, grade = draft["scale"], draft["grade"]
    for name in ("grade", "second_reader"):
        if draft[name] is not None and draft[name] not in SCALES[scale]:
            raise InputError(f"tici: {scale} has no grade {draft[name]}; it has {', '.join(SCALES[scale])}")
    meaning, low, high = SCALES[scale][grade]
    share = draft["reperfused"]
    if share is not None and grade not in ("0", "1") and not _fits(share, low, high):
        raise InputError(f"tici: {share:g} % reperfused doesn't fit {scale} {grade} ({meaning}); correct one of them")
    if share is not None and share > 0 and grade in ("0", "1"):
        raise InputError(f"tici: {share:g} % reperfused doesn't fit {scale} {grade} ({meaning}); correct one of them")
    near_complete = grade in ("2c", "3")
    second = draft["second_reader"]
    if second is not None and second != grade:
        draft.warn(f"the readers differ ({grade}, {second}): agree on one")
    if draft["occlusion"] in ("basilar", "vertebral", "P1", "P2"):
        draft.warn("the scales were made for the anterior circulation")
    draft.details.update({"meaning": meaning, "success": grade not in ("0", "1", "2a"), "near_complete": near_complete,
                          "first_pass_effect": near_complete and draft["passes"] == 1,
                          "grades": {name: text for name, (text, _, _) in SCALES[scale].items()}})
    return None, f"{scale} {grade}"
