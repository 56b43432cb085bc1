"""Liver function: Child-Pugh, ALBI; survival after TIPS: FIPS."""

from __future__ import annotations

import math

from .inputs import AGE, ALBUMIN, ALBUMIN_G_PER_L, BILIRUBIN, BILIRUBIN_UMOL_PER_L, CREATININE, INR
from .model import Draft, Input, Outcome, register

EPSILON = 1e-9
PROLONGED = Input("pt_prolongation", "prothrombin time beyond the control's", unit="s", possible=(0.0, 120.0),
                  usual=(0.0, 40.0), optional=True)
INR_OPTIONAL = Input("inr", INR.what, possible=INR.possible, usual=INR.usual, optional=True)
ASCITES = Input("ascites", "none; mild, or held by diuretics; moderate to severe, or refractory", kind="choice",
                choices=("none", "mild", "severe"))
ENCEPHALOPATHY = Input("encephalopathy", "none; grade 1 or 2, or held by treatment; grade 3 or 4", kind="choice",
                       choices=("none", "1-2", "3-4"))
CHOLESTATIC = Input("cholestatic", "primary biliary or sclerosing cholangitis: the bilirubin cut-offs 4 and 10 mg/dL",
                    kind="flag", default="no")


def _points(value: float, low: float, high: float) -> int:
    """1 below, 2 from low to high (both included), 3 above."""
    return 1 if value < low - EPSILON else 2 if value <= high + EPSILON else 3


@register("child-pugh", "Child-Pugh", (BILIRUBIN, ALBUMIN, INR_OPTIONAL, PROLONGED, ASCITES, ENCEPHALOPATHY,
                                       CHOLESTATIC),
          either=(("inr", "pt_prolongation"),),
          validated_on="each cut-off on both sides; no published points could be recomputed from their parts")
def child_pugh(draft: Draft) -> Outcome:
    """Five findings of 1 to 3 points each; class A 5 to 6, B 7 to 9, C 10 to 15.

    Formula: bilirubin < 2, 2 to 3, > 3 mg/dL (cholestatic disease: < 4, 4 to 10, > 10); albumin > 3.5, 2.8 to 3.5, <
    2.8 g/dL; INR < 1.7, 1.7 to 2.3, > 2.3, or prothrombin time < 4, 4 to 6, > 6 s prolonged; ascites none, mild,
    moderate to severe; encephalopathy none, grade 1 to 2, grade 3 to 4

    Source: Pugh RN et al, Br J Surg 1973;60:646 (with its own bilirubin cut-offs for primary biliary disease). Albumin
    2.8 is Pugh's; some textbooks print 3.0. INR 1.7 and 2.3 came later; some tables print 2.2. Bilirubin is compared in
    mg/dL
    """
    cuts = (4.0, 10.0) if draft["cholestatic"] else (2.0, 3.0)
    draft.near("bilirubin", *cuts)
    parts = {"bilirubin": _points(draft["bilirubin"], *cuts), "albumin": 4 - _points(draft["albumin"], 2.8, 3.5)}
    if draft["inr"] is not None:
        parts["inr"] = _points(draft["inr"], 1.7, 2.3)
    else:
        parts["pt_prolongation"] = _points(draft["pt_prolongation"], 4.0, 6.0)
    parts["ascites"] = 1 + ASCITES.choices.index(draft["ascites"])
    parts["encephalopathy"] = 1 + ENCEPHALOPATHY.choices.index(draft["encephalopathy"])
    draft.details["points"] = parts
    total = sum(parts.values())
    return total, "A" if total <= 6 else "B" if total <= 9 else "C"


@register("albi", "ALBI grade", (BILIRUBIN_UMOL_PER_L, ALBUMIN_G_PER_L), unit="",
          validated_on="worked by hand; on the 418 patients of the Mayo PBC trial the grades order survival")
def albi(draft: Draft) -> Outcome:
    """Albumin-bilirubin grade 1 to 3; modified grade 2a and 2b in the details.

    Formula: 0.66 log10(bilirubin in umol/L) - 0.085 (albumin in g/L); grade 1 up to -2.60, 2 up to -1.39, 3 above;
    modified: 2a up to -2.27, 2b above

    Source: Johnson PJ et al, J Clin Oncol 2015;33:550; modified grade: Hiraoka A et al, Liver Cancer 2017;6:325
    """
    value = 0.66 * math.log10(draft["bilirubin"]) - 0.085 * draft["albumin"]
    grade = "1" if value <= -2.60 + EPSILON else "2" if value <= -1.39 + EPSILON else "3"
    draft.details["modified_grade"] = grade if grade != "2" else "2a" if value <= -2.27 + EPSILON else "2b"
    return value, grade


@register("fips", "FIPS (Freiburg index of post-TIPS survival)", (AGE, BILIRUBIN, ALBUMIN_G_PER_L, CREATININE), unit="",
          validated_on="worked by hand; on no patients (no open cohort with TIPS is known)")
def fips(draft: Draft) -> Outcome:
    """Survival after an elective TIPS; not for an early (pre-emptive) TIPS, where the authors found it wanting.

    Formula: 1.43 log10 bilirubin - 1.71 / creatinine + 0.02 age - 0.02 albumin + 0.81; mg/dL, years, g/L; high risk
    from 0.92

    Source: Bettinger D et al, J Hepatol 2021;74:1362. Albumin in g/L and 0.81 are taken; 0.8074 and g/dL are found in
    secondary sources, but with g/dL a median patient would all but reach the cut-off
    """
    value = (1.43 * math.log10(draft["bilirubin"]) - 1.71 / draft["creatinine"] + 0.02 * draft["age"]
             - 0.02 * draft["albumin"] + 0.81)
    draft.warn("validated for elective TIPS in adults only, not for early (pre-emptive) TIPS")
    if abs(value - 0.92) < 0.01:
        draft.warn("within 0.01 of the cut-off 0.92; the published coefficients have two decimals")
    return value, "high risk" if value >= 0.92 - EPSILON else "low risk"
