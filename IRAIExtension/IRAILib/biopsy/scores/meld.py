"""MELD and its two heirs. Rounding is to the nearest whole number, halves upwards."""

from __future__ import annotations

import math

from .inputs import ALBUMIN, BILIRUBIN, CREATININE, DIALYSIS, INR, SEX, SODIUM
from .model import Draft, Outcome, register

LOWEST, HIGHEST = 6, 40
VALIDATED_ON = ("sums worked by hand, examples of public calculators, the published test values of the R package "
                "ameld; on no patients of our own")


def nearest(value: float) -> int:
    """The nearest whole number; halves upwards (free of the last bits' noise)."""
    return math.floor(round(value, 9) + 0.5)


def _creatinine(draft: Draft, cap: float) -> float:
    if draft["dialysis"]:
        draft.put("creatinine", cap, f"set to {cap:g} for dialysis")
        return cap
    return draft.clamp("creatinine", 1.0, cap)


def _initial(draft: Draft) -> int:
    """MELD(i) of the policy: rounded to the tenth, times ten; not yet held to 6 to 40."""
    creatinine = _creatinine(draft, 4.0)
    raw = (0.957 * math.log(creatinine) + 0.378 * math.log(draft.clamp("bilirubin", 1.0, None))
           + 1.120 * math.log(draft.clamp("inr", 1.0, None)) + 0.643)
    draft.details["before_rounding"] = round(10 * raw, 4)
    return nearest(10 * raw)


def _bounded(value: int) -> int:
    return min(max(value, LOWEST), HIGHEST)


@register("meld", "MELD (UNOS, before 2016)", (BILIRUBIN, CREATININE, INR, DIALYSIS), validated_on=VALIDATED_ON)
def meld(draft: Draft) -> Outcome:
    """Model for end-stage liver disease: risk of death within 3 months, 6 to 40.

    Formula: 10 x (0.957 ln creatinine + 0.378 ln bilirubin + 1.120 ln INR + 0.643), mg/dL; each value at least 1,
    creatinine at most 4 and 4 with dialysis; rounded; 6 to 40

    Source: Kamath PS et al, Hepatology 2001;33:464; Wiesner R et al, Gastroenterology 2003;124:91 (UNOS: bounds, no
    term for the cause). The constant is 0.643; some tables print 0.6431
    """
    return _bounded(_initial(draft)), ""


@register("meld-na", "MELD-Na (OPTN 2016)", (BILIRUBIN, CREATININE, INR, SODIUM, DIALYSIS), validated_on=VALIDATED_ON)
def meld_na(draft: Draft) -> Outcome:
    """MELD with sodium, as the OPTN allocated livers from January 2016 to July 2023.

    Formula: M = MELD rounded; where M > 11: M + 1.32 (137 - Na) - 0.033 M (137 - Na), Na held to 125 to 137 mmol/L,
    rounded; otherwise M; 6 to 40

    Source: OPTN policy 9.1.D of 11 January 2016, after Kim WR et al, N Engl J Med 2008;359:1018. The formula of that
    paper (0.025, 140) is another one and isn't used
    """
    first = _initial(draft)
    draft.details["meld"] = _bounded(first)
    if first <= 11:
        draft.details["sodium_counts"] = False
        return _bounded(first), ""
    lack = 137.0 - draft.clamp("sodium", 125.0, 137.0)
    raw = first + 1.32 * lack - 0.033 * first * lack
    draft.details.update({"sodium_counts": True, "with_sodium_before_rounding": round(raw, 4)})
    return _bounded(nearest(raw)), ""


@register("meld-3", "MELD 3.0 (OPTN 2023)", (SEX, BILIRUBIN, CREATININE, INR, SODIUM, ALBUMIN, DIALYSIS),
          validated_on=VALIDATED_ON)
def meld_3(draft: Draft) -> Outcome:
    """MELD 3.0, with sex and albumin. The OPTN gives the 1.33 to every candidate under 18: ask for female there.

    Formula: 1.33 (female) + 4.56 ln bilirubin + 0.82 (137 - Na) - 0.24 (137 - Na) ln bilirubin + 9.09 ln INR + 11.14 ln
    creatinine + 1.85 (3.5 - albumin) - 1.83 (3.5 - albumin) ln creatinine + 6; mg/dL, g/dL, mmol/L; bilirubin, INR and
    creatinine at least 1, creatinine at most 3 and 3 with dialysis, Na 125 to 137, albumin 1.5 to 3.5; rounded; 6 to 40

    Source: Kim WR et al, Gastroenterology 2021;161:1887; OPTN policy 9.1 of July 2023
    """
    bilirubin = math.log(draft.clamp("bilirubin", 1.0, None))
    inr = math.log(draft.clamp("inr", 1.0, None))
    creatinine = math.log(_creatinine(draft, 3.0))
    sodium = 137.0 - draft.clamp("sodium", 125.0, 137.0)
    albumin = 3.5 - draft.clamp("albumin", 1.5, 3.5)
    raw = ((1.33 if draft["sex"] == "female" else 0.0) + 4.56 * bilirubin + 0.82 * sodium - 0.24 * sodium * bilirubin
           + 9.09 * inr + 11.14 * creatinine + 1.85 * albumin - 1.83 * albumin * creatinine + 6.0)
    draft.details["before_rounding"] = round(raw, 4)
    return _bounded(nearest(raw)), ""
