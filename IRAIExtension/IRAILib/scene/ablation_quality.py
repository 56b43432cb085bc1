"""A registration's quality in the words and the order in which a reader judges it."""

from __future__ import annotations

from typing import Any

MAX_VOLUME_CHANGE_PERCENT = 10.0
MAX_CONSISTENCY_MM = 2.0
GOOD_TRE_MM = 2.0
GOOD, BAD, PLAIN = "good", "bad", ""


def quality_rows(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows (quantity, value with unit, "good" | "bad" | "") from a registration record's JSON.

    What was not measured is left out. An empty document gives no rows.
    """
    if not document:
        return []
    quality = document.get("quality") or {}
    limit = (document.get("options") or {}).get("max_volume_change_percent", MAX_VOLUME_CHANGE_PERCENT)
    rows = [("Method", str(document.get("method", "")), PLAIN),
            _limited("Tumour volume changes by", quality.get("tumor_volume_change_percent"), "%", limit),
            _limited("Organ that folds", quality.get("folding_percent"), "%", 0.0, digits=2),
            _plain("Nearest fold to the zone", quality.get("fold_distance_mm"), "mm"),
            _plain("Smallest Jacobian", quality.get("jacobian_min"), "", digits=2),
            _overlap(quality),
            _plain("Organ surfaces apart", quality.get("organ_distance_mm"), "mm"),
            _limited("There and back, at the zone", quality.get("inverse_consistency_zone_mm"), "mm",
                     MAX_CONSISTENCY_MM),
            _plain("Deformable against rigid, at the zone", quality.get("zone_shift_mm"), "mm"),
            _landmarks(quality),
            _plain("Expected error near the zone (1 sigma)", document.get("local_tre_mm"), "mm")]
    rows += [("Note", text, PLAIN) for text in document.get("warnings") or []]
    refused = document.get("refused")
    rows.append(("Verdict", refused or "No objection. Look at it before you accept.", BAD if refused else GOOD))
    return [row for row in rows if row is not None]


def _plain(name: str, value: float | None, unit: str, digits: int = 1):
    return None if value is None else (name, f"{value:.{digits}f} {unit}".strip(), PLAIN)


def _limited(name: str, value: float | None, unit: str, limit: float, digits: int = 1):
    if value is None:
        return None
    return name, f"{value:.{digits}f} {unit}", GOOD if abs(value) <= limit else BAD


def _overlap(quality: dict[str, Any]):
    """Organ Dice at the start, after the rigid and after the last stage, as far as they were measured."""
    steps = [quality.get(key) for key in ("organ_dice_before", "organ_dice_rigid", "organ_dice")]
    known = [f"{value:.2f}" for value in steps if value is not None]
    return ("Organ overlap (Dice): start, rigid, now", ", ".join(known), PLAIN) if known else None


def _landmarks(quality: dict[str, Any]):
    value, count = quality.get("tre_mm"), quality.get("tre_points")
    if value is None or not count:
        return None
    return f"Error at {count} landmarks held out", f"{value:.1f} mm", GOOD if value <= GOOD_TRE_MM else PLAIN
