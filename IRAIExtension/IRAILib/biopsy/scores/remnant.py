"""The liver that would stay: future liver remnant (FLR), standardised, and how fast it grows."""

from __future__ import annotations

import math

from ...geometry import InputError
from .inputs import HEIGHT, WEIGHT
from .model import Draft, Input, Outcome, register

REMNANT = Input("remnant", "volume of the future liver remnant", unit="mL", possible=(1.0, 10000.0),
                usual=(50.0, 3000.0))
LIVER = Input("liver", "total liver volume, tumours included", unit="mL", possible=(50.0, 20000.0),
              usual=(500.0, 5000.0))
TUMOUR = Input("tumour", "volume of all tumours in the liver", unit="mL", possible=(0.0, 15000.0))
QUALITY = Input("quality", "what the liver went through: normal, chemotherapy for long, cirrhosis or fibrosis",
                kind="choice", choices=("normal", "chemotherapy", "cirrhosis"))
BSA_FORMULA = Input("bsa_formula", "formula of the body surface area", kind="choice", choices=("mosteller", "dubois"),
                    default="mosteller")
NEEDED_PERCENT = {"normal": 20.0, "chemotherapy": 30.0, "cirrhosis": 40.0}
LIMITS_NOTE = "limits by liver: normal 20 %, long chemotherapy 30 %, cirrhosis 40 % (conventions; centres differ)"
EPSILON = 1e-9
BY_HAND = "worked by hand; volumes come from segmentations, whose own error isn't in it"


def body_surface_m2(height_m: float, weight_kg: float, formula: str) -> float:
    """Mosteller 1987: sqrt(cm kg / 3600). DuBois 1916: 0.007184 cm^0.725 kg^0.425. Raises InputError otherwise."""
    if formula == "mosteller":
        return math.sqrt(height_m * 100.0 * weight_kg / 3600.0)
    if formula == "dubois":
        return 0.007184 * (height_m * 100.0) ** 0.725 * weight_kg**0.425
    raise InputError(f"body surface area: there is no formula '{formula}'; mosteller or dubois")


def _enough(percent: float, quality: str) -> str:
    return "enough" if percent >= NEEDED_PERCENT[quality] - EPSILON else "too small"


@register("flr", "Future liver remnant", (REMNANT, LIVER, TUMOUR, QUALITY), unit="%", validated_on=BY_HAND)
def flr(draft: Draft) -> Outcome:
    """Remnant by what works of the measured liver.

    Formula: remnant / (liver - tumour) x 100

    Source: Kubota K et al, Hepatology 1997;26:1176 (tumour taken off); limits: Kishi Y et al, Ann Surg 2009;250:540
    (20 %), Shindoh J et al, Ann Surg Oncol 2013;20:2493 (30 %), Azoulay D et al, Ann Surg 2000;232:665 (40 %)
    """
    working = draft["liver"] - draft["tumour"]
    if working <= 0:
        raise InputError("flr: tumour must be smaller than liver, which includes it; check the volumes")
    if draft["remnant"] > working:
        raise InputError("flr: remnant is larger than liver less tumour; check the volumes")
    percent = 100.0 * draft["remnant"] / working
    draft.details.update({"working_liver_ml": working, "needed_percent": NEEDED_PERCENT[draft["quality"]],
                          "limits": LIMITS_NOTE})
    return percent, _enough(percent, draft["quality"])


@register("sflr", "Standardised future liver remnant", (REMNANT, HEIGHT, WEIGHT, QUALITY, BSA_FORMULA), unit="%",
          validated_on=BY_HAND)
def sflr(draft: Draft) -> Outcome:
    """Remnant by the liver that this body should have.

    Formula: remnant / (1267.28 x BSA - 794.41) x 100, mL and m2; BSA by Mosteller (default) or DuBois

    Source: Vauthey JN et al, Liver Transpl 2002;8:233 (liver volume by body surface area in Western adults); limits as
    for the FLR
    """
    surface = body_surface_m2(draft["height"], draft["weight"], draft["bsa_formula"])
    standard = 1267.28 * surface - 794.41
    if surface < 1.0:
        raise InputError(f"sflr: the formula is one for adults; a body surface of {surface:.2f} m2 is outside of it")
    percent = 100.0 * draft["remnant"] / standard
    draft.details.update({"bsa_m2": surface, "bsa_formula": draft["bsa_formula"], "standard_liver_ml": standard,
                          "needed_percent": NEEDED_PERCENT[draft["quality"]], "limits": LIMITS_NOTE})
    if percent > 100.0:
        draft.warn("the remnant is larger than the whole standard liver; check volume, height and weight")
    return percent, _enough(percent, draft["quality"])


BEFORE = Input("before", "standardised FLR before portal vein embolisation", unit="%", possible=(0.5, 150.0),
               usual=(5.0, 60.0))
AFTER = Input("after", "standardised FLR after it, by the same formula", unit="%", possible=(0.5, 150.0),
              usual=(5.0, 90.0))
INTERVAL = Input("interval", "from embolisation to the volumetry after it", unit="wk", possible=(0.1, 104.0),
                 usual=(2.0, 8.0))


@register("kgr", "Kinetic growth rate", (BEFORE, AFTER, INTERVAL), unit="%/wk", validated_on=BY_HAND)
def kgr(draft: Draft) -> Outcome:
    """How fast the remnant grew: percentage points of standardised FLR a week.

    Formula: (after - before) / weeks; below 2 %/wk, or a degree of hypertrophy (after - before) up to 7.5 %, more liver
    failure was seen

    Source: Shindoh J et al, J Am Coll Surg 2013;216:201 (first volumetry within 4 weeks); degree of hypertrophy: Ribero
    D et al, Br J Surg 2007;94:1386
    """
    gain = draft["after"] - draft["before"]
    rate = gain / draft["interval"]
    draft.details.update({"degree_of_hypertrophy_percent": gain, "hypertrophy_above_7.5_percent": gain > 7.5 + EPSILON})
    if gain < 0:
        draft.warn("the remnant shrank; check that both volumes are of the same segments")
    return rate, "2 %/wk or more" if rate >= 2.0 - EPSILON else "below 2 %/wk"
