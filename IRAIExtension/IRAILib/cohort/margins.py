"""The margin of one case of a cohort: as `irai ablation margin`, without a scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import EmptyMaskError, InputError, Mask, RefusedError, Transform, Volume

NUMBERS = {"mam_mm": "mm", "mam_low_mm": "mm", "mam_high_mm": "mm", "p1_mm": "mm", "p5_mm": "mm", "p50_mm": "mm",
           "coverage_percent": "%", "residual_tumor_ml": "ml", "tumor_ml": "ml", "ablation_ml": "ml",
           "subcapsular_share": "", "probability_mam_below_threshold": "", "threshold_mm": "mm",
           "tissue_at_risk_ml": "ml"}


def margin_values(case: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Margin of the masks `tumor` and `ablation`; with `pre` and `post` registered first, its verdict respected.

    Returns: see `tasks.work`; lengths in mm, volumes in ml. Raises InputError, RefusedError (registration).
    """
    from ..ablation import MarginOptions, ablative_margin

    files = case["files"]
    if ("pre" in files) != ("post" in files):
        raise InputError("one of the scans pre and post is missing; give both, or none for masks in one frame")
    pre, post = _volume(case, "pre"), _volume(case, "post")
    tumor, zone = _mask(case, "tumor", pre), _mask(case, "ablation", post)
    assert tumor is not None
    assert zone is not None
    organ, organ_pre = _mask(case, "organ", post), _mask(case, "organ_pre", pre)
    motion, sigma, facts = None, 0.0, {"registration": "none"}
    if pre is not None and post is not None:
        motion, sigma, facts = _register(case, settings, pre, post, tumor=tumor, zone=zone, organ=organ,
                                         organ_pre=organ_pre)
    result = ablative_margin(tumor, zone, ablation_from_tumor=motion, organ=organ, vessels=_mask(case, "vessels", post),
                             registration_sigma_mm=sigma, options=MarginOptions(**settings["margin"]))
    document = result.to_dict()
    low, high = document["mam_ci95_mm"] or (None, None)
    document.update(mam_low_mm=low, mam_high_mm=high)
    values = {name: document[name] for name in NUMBERS}
    values.update(screening_only=int(document["screening_only"]), **facts)
    return {"values": values, "notes": document["notes"],
            "about": {name: {"unit": unit, "frame": document["frame"], "validated_on": document["validated_on"]}
                      for name, unit in NUMBERS.items()}}


def _register(case: dict[str, Any], settings: dict[str, Any], pre: Volume, post: Volume, *, tumor: Mask, zone: Mask,
              organ: Mask | None, organ_pre: Mask | None) -> tuple[Transform, float, dict[str, Any]]:
    from ..registration import RegistrationOptions, register

    fixed, moving = _points(case, "landmarks_post"), _points(case, "landmarks_pre")
    if (fixed is None) != (moving is None):
        raise InputError("landmarks need both landmarks_pre and landmarks_post, the same points in the same order")
    found = register(post, pre, options=RegistrationOptions(**settings["registration"]), fixed_organ=organ,
                     moving_organ=organ_pre, exclude_fixed=zone, exclude_moving=tumor, fixed_landmarks=fixed,
                     moving_landmarks=moving)
    if found.refused:
        raise RefusedError(f"no margin: {found.refused}")
    quality = found.quality
    facts = {"registration": found.method, "local_tre_mm": found.local_tre_mm,
             "tumor_volume_change_percent": quality.tumor_volume_change_percent,
             "folding_percent": quality.folding_percent, "tre_mm": quality.tre_mm, "tre_points": quality.tre_points}
    return found.moving_from_fixed.inverse(), float(found.local_tre_mm or 0.0), facts


def _volume(case: dict[str, Any], role: str) -> Volume | None:
    from ..images import read_volume

    path = case["files"].get(role)
    return None if path is None else read_volume(Path(path), series=selector(case, f"{role}_series"))


def _mask(case: dict[str, Any], role: str, reference: Volume | None) -> Mask | None:
    from ..images import read_mask

    path = case["files"].get(role)
    if path is None:
        return None
    mask = read_mask(Path(path), label=selector(case, f"{role}_label"), reference=reference)
    if not mask.array.any():
        raise EmptyMaskError(f"{path}: the mask is empty; segment the structure or choose another label")
    return mask


def _points(case: dict[str, Any], role: str) -> np.ndarray | None:
    from ..images import read_points

    path = case["files"].get(role)
    return None if path is None else read_points(Path(path))


def selector(case: dict[str, Any], name: str) -> int | str | None:
    """A label value, segment name, series number or UID of the manifest; None where none is given."""
    text = case["selectors"].get(name)
    return int(text) if text is not None and text.lstrip("-").isdigit() else text
