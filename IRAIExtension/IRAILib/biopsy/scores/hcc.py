"""Hepatocellular carcinoma: BCLC stage, HAP scores, transplant criteria."""

from __future__ import annotations

from dataclasses import replace

from .inputs import AFP, ALBUMIN_G_PER_L, BILIRUBIN, BILIRUBIN_UMOL_PER_L, EXTRAHEPATIC, LARGEST, NUMBER, VASCULAR
from .model import Draft, Input, Outcome, register

EPSILON = 1e-9
STAGES = ("0", "A", "B", "C", "D")
PERFORMANCE = Input("performance_status", "ECOG performance status, as far as the tumour causes it", kind="count",
                    possible=(0.0, 4.0), usual=(0.0, 4.0))
CHILD_PUGH = Input("child_pugh", "Child-Pugh class", kind="choice", choices=("A", "B", "C"))
CANDIDATE = Input("transplant_candidate", "whether the liver itself could be transplanted (asked for class C)",
                  kind="choice", choices=("yes", "no"), optional=True)
SOME_LARGEST = replace(LARGEST, optional=True)
ON_PAPER = "cut-offs on both sides, as published; on no patients of our own"


def _tumour_stages(number: int, largest_cm: float | None) -> set[str]:
    """Stages that a tumour within the liver, without invasion, may have."""
    if number == 1:
        if largest_cm is None:
            return {"0", "A"}
        return {"0"} if largest_cm <= 2.0 + EPSILON else {"A"}
    if number > 3:
        return {"B"}
    if largest_cm is None:
        return {"A", "B"}
    return {"A"} if largest_cm <= 3.0 + EPSILON else {"B"}


@register("bclc", "BCLC stage (2022)", (NUMBER, SOME_LARGEST, VASCULAR, EXTRAHEPATIC, PERFORMANCE, CHILD_PUGH,
                                        CANDIDATE), unit="",
          validated_on="stages given for the 70 TACE patients of HCC-TACE-Seg, as far as its columns decide")
def bclc(draft: Draft) -> Outcome:
    """Barcelona Clinic Liver Cancer stage. What the inputs leave open is said: grade "0 or A" and details' `possible`.

    Formula: D: performance status 3 to 4, or end-stage liver function without a way to transplantation; C: vascular
    invasion, spread, or performance status 1 to 2; B: more than 3 nodules, or 2 to 3 with one above 3 cm; A: single
    above 2 cm, or 2 to 3 up to 3 cm; 0: single up to 2 cm; 0, A and B with preserved liver function

    Source: Reig M et al, J Hepatol 2022;76:681. Child-Pugh C stands for end-stage liver function here; the paper itself
    asks for more than the class (ALBI, jaundice, ascites, encephalopathy)
    """
    status, child = draft["performance_status"], draft["child_pugh"]
    if status >= 1:
        draft.warn("performance status counts only as far as the tumour causes it")
    if child == "B":
        draft.warn("class B may hide decompensation: BCLC 2022 asks for preserved liver function in 0, A and B, which "
                   "the class alone doesn't show")
    by_tumour = {"C"} if draft["vascular_invasion"] or draft["extrahepatic"] or status in (1, 2) else \
        _tumour_stages(draft["number"], draft["largest"])
    possible = {"D"} if status >= 3 else by_tumour
    if status < 3 and child == "C":
        candidate = draft["transplant_candidate"]
        possible = {"D"} if candidate == "no" else by_tumour if candidate == "yes" else by_tumour | {"D"}
        if candidate == "yes":
            draft.warn("end-stage liver function in a transplant candidate: staged by the tumour")
        elif candidate is None and by_tumour != {"D"}:
            draft.warn("class C: say transplant_candidate, which decides between D and the tumour's own stage")
    if len(possible & {"0", "A", "B"}) > 1:
        draft.warn("without the largest diameter the stage stays open")
    ordered = [stage for stage in STAGES if stage in possible]
    draft.details["possible"] = ordered
    draft.details["not_decided_here"] = ["preserved liver function beyond the Child-Pugh class",
                                         "within B: transplant criteria met, well-defined nodules, or diffuse growth",
                                         "treatment stage migration"]
    return None, " or ".join(ordered)


def _class(points: int) -> str:
    return "ABCD"[min(points, 3)]


@register("hap", "HAP score", (BILIRUBIN_UMOL_PER_L, ALBUMIN_G_PER_L, AFP, LARGEST), validated_on=ON_PAPER)
def hap(draft: Draft) -> Outcome:
    """Hepatoma arterial-embolisation prognostic score: survival after TACE or TAE.

    Formula: one point each for albumin < 36 g/L, bilirubin > 17 umol/L, alpha-fetoprotein > 400 ng/mL, largest diameter
    > 7 cm; A 0, B 1, C 2, D 3 or 4

    Source: Kadalayil L et al, Ann Oncol 2013;24:2565
    """
    draft.near("bilirubin", 17.0)
    parts = {"albumin": draft["albumin"] < 36.0 - EPSILON, "bilirubin": draft["bilirubin"] > 17.0 + EPSILON,
             "afp": draft["afp"] > 400.0 + EPSILON, "largest": draft["largest"] > 7.0 + EPSILON}
    draft.details["points"] = {name: int(met) for name, met in parts.items()}
    total = sum(parts.values())
    return total, _class(total)


@register("mhap-2", "mHAP-II score", (BILIRUBIN, ALBUMIN_G_PER_L, AFP, LARGEST, NUMBER), validated_on=ON_PAPER)
def mhap_2(draft: Draft) -> Outcome:
    """HAP with the number of tumours.

    Formula: one point each for albumin < 36 g/L, bilirubin > 0.9 mg/dL, alpha-fetoprotein > 400 ng/mL, largest diameter
    > 7 cm, two tumours or more; A 0, B 1, C 2, D 3 to 5

    Source: Park Y et al, Liver Int 2016;36:100. Bilirubin 0.9 mg/dL is that paper's; some tables print HAP's 17 umol/L
    (1.0 mg/dL)
    """
    draft.near("bilirubin", 0.9)
    if 0.9 < draft["bilirubin"] <= 17.0 / 17.104:
        draft.warn("bilirubin lies between the paper's 0.9 mg/dL and HAP's 17 umol/L: tables differ by one point here")
    parts = {"albumin": draft["albumin"] < 36.0 - EPSILON, "bilirubin": draft["bilirubin"] > 0.9 + EPSILON,
             "afp": draft["afp"] > 400.0 + EPSILON, "largest": draft["largest"] > 7.0 + EPSILON,
             "number": draft["number"] >= 2}
    draft.details["points"] = {name: int(met) for name, met in parts.items()}
    total = sum(parts.values())
    return total, _class(total)


def _outside_liver(draft: Draft) -> list[str]:
    return [word for name, word in (("vascular_invasion", "vascular invasion"), ("extrahepatic", "extrahepatic spread"))
            if draft[name]]


@register("milan", "Milan criteria", (NUMBER, LARGEST, VASCULAR, EXTRAHEPATIC), unit="", validated_on=ON_PAPER)
def milan(draft: Draft) -> Outcome:
    """Whether a liver with HCC lies within the Milan criteria; only viable tumours count after treatment.

    Formula: one tumour up to 5 cm, or two to three up to 3 cm each, without macroscopic vascular invasion or spread

    Source: Mazzaferro V et al, N Engl J Med 1996;334:693
    """
    limit = 5.0 if draft["number"] == 1 else 3.0
    against = _outside_liver(draft)
    if draft["number"] > 3:
        against.append("more than three tumours")
    elif draft["largest"] > limit + EPSILON:
        against.append(f"largest above {limit:g} cm")
    draft.details["outside_because"] = against
    return None, "outside" if against else "within"


@register("up-to-seven", "Up-to-seven criteria", (NUMBER, LARGEST, VASCULAR, EXTRAHEPATIC), unit="cm + number",
          validated_on=ON_PAPER)
def up_to_seven(draft: Draft) -> Outcome:
    """Largest diameter in cm plus number of viable tumours.

    Formula: largest diameter (cm) + number <= 7, without vascular invasion or spread

    Source: Mazzaferro V et al, Lancet Oncol 2009;10:35 (which also asks that there is no microvascular invasion)
    """
    total = draft["largest"] + draft["number"]
    against = _outside_liver(draft)
    if total > 7.0 + EPSILON:
        against.append("sum above 7")
    draft.details["outside_because"] = against
    draft.warn("microvascular invasion, which the criteria exclude, isn't seen before the operation")
    return total, "outside" if against else "within"
