"""Response by volume."""

from __future__ import annotations

from ...geometry import InputError
from .model import Draft, Input, Outcome, register

EPSILON = 1e-9
VOLUME = {"unit": "mL", "possible": (0.0, 20000.0), "usual": (0.0, 5000.0)}
BASELINE = Input("baseline", "tumour volume at baseline, all targets together", unit="mL", possible=(0.05, 20000.0),
                 usual=(0.5, 5000.0))
NADIR = Input("nadir", "smallest volume so far; the baseline's where this is the first control", **VOLUME)
NOW = Input("now", "volume now", **VOLUME)
CRITERION = Input("criterion", "thresholds: sphere (-65.7 %, +72.8 %: a ball whose diameter changes by -30, +20 %) or "
                               "rounded (-65 %, +73 %, as for enhancing volumes in qEASL)", kind="choice",
                  choices=("sphere", "rounded"), default="sphere")
NEW = Input("new_lesions", "unequivocal new lesions", kind="flag")
LIMITS = {"sphere": (0.7**3, 1.2**3), "rounded": (0.35, 1.73)}


@register("volume-response", "Volumetric response", (BASELINE, NADIR, NOW, NEW, CRITERION), unit="% from baseline",
          validated_on="worked by hand; against RECIST on spheres, where both must agree; the volumes' own error isn't "
                       "in it")
def volume_response(draft: Draft) -> Outcome:
    """Category by volume; value: change from baseline in per cent.

    Formula: CR volume 0; PR at most 0.343 (rounded: 0.35) of baseline; PD at least 1.728 (1.73) of the nadir, or a new
    lesion; else SD

    Source: the RECIST 1.1 limits on a sphere (Eisenhauer EA et al, Eur J Cancer 2009;45:228; tables print 66 and 73 %
    for these); rounded limits for enhancing volumes: Chapiro J et al, Radiology 2014;273:746
    """
    baseline, nadir, now = draft["baseline"], draft["nadir"], draft["now"]
    if nadir > baseline:
        raise InputError("volume-response: the nadir is the smallest volume so far and can't exceed the baseline")
    shrunk, grown = LIMITS[draft["criterion"]]
    if draft["new_lesions"] or (now >= grown * nadir - EPSILON and now > nadir):
        grade = "PD"
    elif now == 0:
        grade = "CR"
    else:
        grade = "PR" if now <= shrunk * baseline + EPSILON else "SD"
    draft.details.update({"criterion": draft["criterion"], "pr_at_most_of_baseline": shrunk,
                          "pd_at_least_of_nadir": grown, "from_nadir_percent":
                              100.0 * (now / nadir - 1.0) if nadir else None})
    return 100.0 * (now / baseline - 1.0), grade
