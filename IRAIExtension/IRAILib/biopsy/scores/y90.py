"""Yttrium-90 radioembolisation: activity and doses.

All beta energy stays where the sphere lies (MIRD, local deposition): 1 GBq that decays away leaves 49.8 J, from a mean
energy of 0.9337 MeV and a half-life of 64.1 h; some authors print 49.67 or 50.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ...geometry import InputError, RefusedError
from .inputs import HEIGHT, WEIGHT
from .model import Draft, Input, Outcome, register
from .remnant import body_surface_m2

MEAN_ENERGY_J = 0.9337e6 * 1.602176634e-19
HALF_LIFE_S = 64.1 * 3600.0
JOULE_PER_GBQ = 49.8
GLASS_JOULE_PER_GBQ = 50.0
LUNG_SINGLE_GY, LUNG_ALL_GY = 30.0, 50.0
UNCERTAINTY = ("mean doses by a model; measured doses differ by tens of per cent (lung shunt from planar MAA runs too "
               "high, uptake is uneven); the error isn't propagated")
VALIDATED_ON = "worked by hand, and each method against the others where they must agree; on no patients' doses"

SHUNT = Input("lung_shunt", "lung shunt fraction by MAA scan", unit="%", possible=(0.0, 100.0), usual=(0.0, 20.0))
EARLIER = Input("earlier_lung_dose", "lung dose of all earlier treatments (0Gy where this is the first)", unit="Gy",
                possible=(0.0, 200.0), usual=(0.0, 50.0))
LUNGS = Input("lung_mass", "mass of the lungs", unit="kg", possible=(0.2, 4.0), usual=(0.5, 1.5), default="1kg")
DENSITY = Input("density", "density of liver and tumour", unit="g/mL", possible=(0.9, 1.2), usual=(1.0, 1.1),
                default="1.05g/mL")
LIVER_ML = Input("liver", "volume of the whole liver, tumours included", unit="mL", possible=(50.0, 20000.0),
                 usual=(500.0, 5000.0))
TARGET_ML = Input("target", "volume that the catheter's vessel feeds, tumour included", unit="mL",
                  possible=(1.0, 20000.0), usual=(20.0, 4000.0))
TUMOUR_ML = Input("tumour", "volume of the tumours within it", unit="mL", possible=(0.0, 15000.0))
TREATED_TUMOUR_ML = replace(TUMOUR_ML, what="volume of all tumours in the treated part")
TREATED_ML = replace(TARGET_ML, what="volume of the treated part (whole liver or a lobe), tumours included")
RESIDUE = Input("residue", "share that stays in vial and tubes", unit="%", possible=(0.0, 50.0), usual=(0.0, 5.0),
                default="0%")
ACTIVITY = Input("activity", "activity given", unit="GBq", possible=(0.001, 50.0), usual=(0.1, 20.0))


def _lungs(draft: Draft, activity_gbq: float, joule_per_gbq: float) -> None:
    """Put the lung dose in the details. Raises RefusedError above 30 Gy at once or 50 Gy in all."""
    shunt, mass, earlier = draft["lung_shunt"] / 100.0, draft["lung_mass"], draft["earlier_lung_dose"]
    dose = joule_per_gbq * activity_gbq * shunt / mass
    room = min(LUNG_SINGLE_GY, LUNG_ALL_GY - earlier)
    most = max(room, 0.0) * mass / (joule_per_gbq * shunt) if shunt else None
    draft.details.update({"lung_dose_gy": dose, "lung_dose_with_earlier_gy": dose + earlier,
                          "most_activity_by_lungs_gbq": most,
                          "lung_limits_gy": {"single": LUNG_SINGLE_GY, "all": LUNG_ALL_GY}})
    if dose > LUNG_SINGLE_GY or dose + earlier > LUNG_ALL_GY:
        raise RefusedError(f"{activity_gbq:.2f} GBq would leave {dose:.1f} Gy in the lungs, {dose + earlier:.1f} Gy "
                           f"with earlier treatments; the limits are {LUNG_SINGLE_GY:g} Gy at once and {LUNG_ALL_GY:g} "
                           f"Gy in all; at most {most or 0.0:.2f} GBq may arrive")


def _bounded_by(draft: Draft, part: str, whole: str) -> float:
    if draft[part] > draft[whole]:
        raise InputError(f"{part} is larger than {whole}, which includes it; check the volumes")
    return draft[part] / draft[whole]


@register("y90-bsa", "Y-90 activity, resin, BSA method", (HEIGHT, WEIGHT, TREATED_TUMOUR_ML, TREATED_ML, LIVER_ML,
          SHUNT, EARLIER, LUNGS), unit="GBq", validated_on=VALIDATED_ON, uncertainty=UNCERTAINTY)
def y90_bsa(draft: Draft) -> Outcome:
    """Activity of resin spheres by body surface area; empirical, knows no dose. Refused above 20 % lung shunt.

    Formula: (BSA - 0.2 + tumour / treated volume) x treated / liver volume; BSA by DuBois; less 20 % for a lung shunt
    of 10 to 15 %, less 40 % for 15 to 20 %, none above 20 %; lungs at most 30 Gy at once, 50 Gy in all

    Source: SIR-Spheres instructions for use (Sirtex); Kennedy A et al, Int J Radiat Oncol Biol Phys 2007;68:13; Kao YH
    et al, Ann Nucl Med 2011;25:455
    """
    shunt = draft["lung_shunt"]
    if shunt > 20.0:
        raise RefusedError(f"lung shunt {shunt:g} %: the BSA method forbids resin spheres above 20 %")
    surface = body_surface_m2(draft["height"], draft["weight"], "dubois")
    burden = _bounded_by(draft, "tumour", "target")
    part = _bounded_by(draft, "target", "liver")
    factor = 1.0 if shunt < 10.0 else 0.8 if shunt < 15.0 else 0.6
    full = (surface - 0.2 + burden) * part
    if full <= 0:
        raise RefusedError("the BSA method gives no activity for so small a body; use the partition model")
    activity = full * factor
    if factor < 1.0:
        draft.warn(f"reduced to {100 * factor:g} % for the lung shunt of {shunt:g} %")
    draft.details.update({"bsa_m2": surface, "bsa_formula": "dubois", "tumour_share_percent": 100.0 * burden,
                          "treated_share_percent": 100.0 * part, "before_shunt_gbq": full})
    _lungs(draft, activity, JOULE_PER_GBQ)
    return activity, ""


RATIO = Input("ratio", "tumour to normal uptake by mass (T/N ratio)", possible=(0.1, 100.0), usual=(1.0, 20.0))
WANTED_TUMOUR = Input("tumour_dose", "wanted mean dose in the tumour", unit="Gy", possible=(1.0, 3000.0),
                      usual=(50.0, 1000.0))
NORMAL_LIMIT = Input("normal_limit", "highest mean dose allowed in the normal liver fed", unit="Gy",
                     possible=(1.0, 500.0), usual=(20.0, 120.0))


@register("y90-partition", "Y-90 activity, partition model", (replace(TUMOUR_ML, possible=(0.1, 15000.0)), TARGET_ML,
          RATIO, SHUNT, WANTED_TUMOUR, NORMAL_LIMIT, EARLIER, LUNGS, DENSITY), unit="GBq", validated_on=VALIDATED_ON,
          uncertainty=UNCERTAINTY)
def y90_partition(draft: Draft) -> Outcome:
    """Activity from tumour, normal liver and lungs as three wells; the normal liver's limit holds it down.

    Formula: A = D (r m_T + m_N) / (49.8 r (1 - shunt)) for the tumour's dose D, A = D_N (r m_T + m_N) / (49.8 (1 -
    shunt)) at the normal liver's limit; the smaller one; masses in kg, r the T/N ratio; lungs at most 30 Gy at once, 50
    Gy in all

    Source: Ho S et al, Eur J Nucl Med 1996;23:947; Kao YH et al, Ann Nucl Med 2011;25:455 (49.67 printed there)
    """
    share = 1.0 - draft["lung_shunt"] / 100.0
    if share <= 0:
        raise RefusedError("with all of it shunted into the lungs nothing reaches the liver")
    _bounded_by(draft, "tumour", "target")
    density, ratio = draft["density"], draft["ratio"]
    tumour_kg = draft["tumour"] * density / 1000.0
    normal_kg = (draft["target"] - draft["tumour"]) * density / 1000.0
    weighted = ratio * tumour_kg + normal_kg
    for_tumour = draft["tumour_dose"] * weighted / (JOULE_PER_GBQ * ratio * share)
    for_normal = draft["normal_limit"] * weighted / (JOULE_PER_GBQ * share) if normal_kg > 0 else math.inf
    activity = min(for_tumour, for_normal)
    normal_dose = JOULE_PER_GBQ * activity * share / weighted
    held = for_normal < for_tumour
    if held:
        draft.warn(f"the normal liver's limit holds the activity down: the tumour gets {ratio * normal_dose:.0f} Gy, "
                   f"not {draft['tumour_dose']:g} Gy")
    draft.details.update({"tumour_dose_gy": ratio * normal_dose,
                          "normal_liver_dose_gy": normal_dose if normal_kg > 0 else None, "tumour_kg": tumour_kg,
                          "normal_liver_kg": normal_kg, "activity_for_tumour_dose_gbq": for_tumour,
                          "held_down_by": "normal liver" if held else "", "joule_per_gbq": JOULE_PER_GBQ})
    _lungs(draft, activity, JOULE_PER_GBQ)
    return activity, ""


@register("y90-glass", "Y-90 activity, glass, one compartment", (TARGET_ML, replace(WANTED_TUMOUR, name="dose",
          what="wanted mean dose in the volume fed"), SHUNT, RESIDUE, EARLIER, LUNGS, replace(DENSITY,
          default="1.03g/mL")), unit="GBq",
          validated_on=VALIDATED_ON, uncertainty=UNCERTAINTY)
def y90_glass(draft: Draft) -> Outcome:
    """Activity of glass spheres for a mean dose in the whole volume fed (MIRD).

    Formula: A = D m / (50 (1 - shunt) (1 - residue)), m in kg; lungs at most 30 Gy at once, 50 Gy in all

    Source: TheraSphere package insert (Boston Scientific; its 50 J/GBq and 1.03 g/mL are kept); Salem R, Thurston KG, J
    Vasc Interv Radiol 2006;17:1251
    """
    mass = draft["target"] * draft["density"] / 1000.0
    share = (1.0 - draft["lung_shunt"] / 100.0) * (1.0 - draft["residue"] / 100.0)
    if share <= 0:
        raise RefusedError("with all of it shunted into the lungs nothing reaches the liver")
    activity = draft["dose"] * mass / (GLASS_JOULE_PER_GBQ * share)
    draft.details.update({"mass_kg": mass, "joule_per_gbq": GLASS_JOULE_PER_GBQ})
    _lungs(draft, activity * (1.0 - draft["residue"] / 100.0), GLASS_JOULE_PER_GBQ)
    return activity, ""


@register("y90-dose", "Y-90 dose, MIRD local deposition", (ACTIVITY, TARGET_ML, SHUNT, RESIDUE, EARLIER, LUNGS,
          DENSITY), unit="Gy", validated_on=VALIDATED_ON, uncertainty=UNCERTAINTY)
def y90_dose(draft: Draft) -> Outcome:
    """Mean dose of an activity in the volume fed.

    Formula: D = 49.8 A (1 - shunt) (1 - residue) / m, m in kg; lungs at most 30 Gy at once, 50 Gy in all

    Source: MIRD Pamphlet 17, Bolch WE et al, J Nucl Med 1999;40:11S; Chiesa C et al, EJNMMI Phys 2021;8:77 (local
    deposition)
    """
    mass = draft["target"] * draft["density"] / 1000.0
    given = draft["activity"] * (1.0 - draft["residue"] / 100.0)
    draft.details.update({"mass_kg": mass, "joule_per_gbq": JOULE_PER_GBQ})
    _lungs(draft, given, JOULE_PER_GBQ)
    return JOULE_PER_GBQ * given * (1.0 - draft["lung_shunt"] / 100.0) / mass, ""
