"""Features of one case of a cohort: the region, the tissue round it, the ablation zone, and scores from its columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..geometry import EmptyMaskError, FrameMismatchError, InputError, Mask, RefusedError, Volume
from .margins import selector

if TYPE_CHECKING:
    from ..biopsy.radiomics import Settings

DEFAULT_AGGREGATIONS = ["3D_comb"]
"""Of outcome features without settings: fewer columns that say the same."""
DEFAULT_SHELL_MM = [0.0, 5.0]
EXTRA_KEYS = {"shell_mm": DEFAULT_SHELL_MM, "rim_mm": 5.0, "scores": []}
UNIT = re.compile(r"^\s*(?P<name>[^\[\(]+?)\s*[\[\(]\s*(?P<unit>[^\]\)]*?)\s*[\]\)]\s*$")


def read_extra(document: dict[str, Any], where: str) -> dict[str, Any]:
    """Take this task's own keys out of the settings: shell_mm [inner, outer] or null, rim_mm, scores [names]."""
    from ..biopsy.scores import find_score

    extra = {key: document.pop(key, default) for key, default in EXTRA_KEYS.items()}
    shell = extra["shell_mm"]
    if shell is not None and not (isinstance(shell, list) and len(shell) == 2 and all(map(_is_length, shell))
                                  and shell[0] < shell[1]):
        raise InputError(f"{where}shell_mm: must be [inner, outer] in mm, as [0, 5], or null for none; not {shell!r}")
    if not (_is_length(extra["rim_mm"]) and extra["rim_mm"] > 0):
        raise InputError(f"{where}rim_mm: must be a length in mm above 0, not {extra['rim_mm']!r}")
    if not isinstance(extra["scores"], list):
        raise InputError(f"{where}scores: must be a list of names, as [albi, child-pugh]")
    for name in extra["scores"]:
        find_score(str(name))
    document.setdefault("aggregations", DEFAULT_AGGREGATIONS)
    return extra


def _is_length(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def read_pair(case: Mapping[str, Any], settings: Settings) -> tuple[Volume, Mask, list[str]]:
    """The case's image, its mask on the image's grid, and notes.

    As `irai biopsy features` does: a cut-out of the image's voxels is put in its place, another grid is refused
    unless the settings ask for `resample_mask`. Raises InputError, EmptyMaskError, FrameMismatchError.
    """
    from ..biopsy.radiomics.region import cut_out_in_place, on_grid_of
    from ..images import read_volume

    image = read_volume(Path(case["files"]["image"]), series=selector(dict(case), "image_series"))
    mask = _read(case, "mask", image)
    if mask is None:
        raise InputError("there is no mask")
    notes: list[str] = []
    try:
        return image, on_grid_of(image, cut_out_in_place(image, mask) or mask, settings, notes), notes
    except FrameMismatchError as error:
        raise FrameMismatchError(str(error).replace(", --resample-mask", " in the settings")) from None


def read_role(case: Mapping[str, Any], role: str, image: Volume) -> tuple[Mask | None, list[str]]:
    """A further mask on the image's grid (nearest voxel where its own grid differs, which a note says), or None."""
    from ..biopsy.radiomics.region import cut_out_in_place
    from ..geometry import resample_mask

    mask = _read(case, role, image)
    if mask is None or mask.grid.same_grid(image.grid):
        return mask, []
    part = cut_out_in_place(image, mask)
    if part is not None:
        return part, []
    moved = resample_mask(mask, image.grid)
    if not moved.array.any():
        raise EmptyMaskError(f"{mask.name}: no voxel of the image lies in this mask; is it of another image?")
    return moved, [f"{role}: the mask was resampled to the image's grid: {mask.volume_ml:.4g} ml before, "
                   f"{moved.volume_ml:.4g} ml after"]


def _read(case: Mapping[str, Any], role: str, image: Volume) -> Mask | None:
    from ..images import read_mask

    path = case["files"].get(role)
    if path is None:
        return None
    try:
        return read_mask(Path(path), label=selector(dict(case), f"{role}_label"), reference=image)
    except InputError as error:
        raise type(error)(str(error).replace("(label=...)", f"in a column {role}_label")) from None


def tidy(sets: Mapping[str, Any]) -> dict[str, Any]:
    """Feature sets by the prefix of their region, as one row: values, units and names, notes."""
    values: dict[str, float | str | None] = {}
    about: dict[str, Any] = {}
    notes: list[str] = []
    for prefix, found in sets.items():
        document = found.to_dict()
        for key, value in document["features"].items():
            values[prefix + key] = value
            about[prefix + key] = {**document["definitions"][key], "region": prefix.rstrip("_") or "mask",
                                   "settings_hash": document["settings_hash"], "validated_on": document["validated_on"]}
        where = f"{prefix.rstrip('_')}: " if prefix else ""
        notes += [f"{where}{text}" for text in document["warnings"]]
        if document["undefined"]:
            notes.append(f"{where}{len(document['undefined'])} features are not defined for this region")
    return {"values": values, "about": about, "notes": notes}


def outcome_features(case: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Lesion, shell, ablation-zone features and scores of one case; see `tasks.work`.

    A region that holds no voxel gives no columns, and a note: an empty cell says that it wasn't there.
    """
    from ..biopsy.radiomics import Settings, extract

    radiomics = Settings.from_dict(settings["radiomics"])
    image, mask, said = read_pair(case, radiomics)
    regions, notes, extra = _regions(case, settings, image, mask)
    notes = [*said, *notes]
    sets = {"": extract(image, mask, radiomics)}
    for name, region in regions.items():
        try:
            sets[f"{name}__"] = extract(image, region, radiomics)
        except EmptyMaskError as error:
            notes.append(f"{name}: {' '.join(str(error).split())}")
    row = tidy(sets)
    row["values"].update(extra)
    row["about"].update({name: {"name": name.replace("_", " "), "family": "ablation zone",
                                "unit": "ml" if name.endswith("_ml") else "1"} for name in extra})
    for name in settings["scores"]:
        value, said = score_of(name, case["columns"])
        row["values"][f"score_{name}"] = value
        row["about"][f"score_{name}"] = {"name": name, "family": "score", "unit": ""}
        notes += said
    return {**row, "notes": [*row["notes"], *notes]}


def _regions(case: dict[str, Any], settings: dict[str, Any], image: Volume, mask: Mask
             ) -> tuple[dict[str, Mask], list[str], dict[str, float]]:
    """(shell and parts of the ablation zone by name, notes, the zone's volumes and coverage)."""
    from ..biopsy.radiomics.regions import ablation_regions, shell, shell_name

    (organ, said), (zone, also) = read_role(case, "organ", image), read_role(case, "ablation", image)
    regions: dict[str, Mask] = {}
    notes = [*said, *also]
    extra: dict[str, float] = {}
    if settings["shell_mm"] is not None:
        inner, outer = settings["shell_mm"]
        name = shell_name(outer, inner)
        try:
            regions[name] = shell(mask, outer, inner, within=organ, exclude=zone)
            notes += regions[name].metadata["warnings"]
        except EmptyMaskError as error:
            notes.append(" ".join(str(error).split()))
    if zone is not None:
        parts = ablation_regions(mask, zone, settings["rim_mm"], within=organ)
        regions.update(parts.masks)
        notes += parts.warnings
        extra = {f"{name}_ml": volume for name, volume in parts.volumes_ml.items()} | {"coverage": parts.coverage}
    return regions, notes, extra


def score_of(name: str, columns: Mapping[str, str]) -> tuple[float | str | None, list[str]]:
    """A score from columns named as its inputs, with the unit in brackets: "bilirubin [mg/dL]".

    Returns: the value, or the stage where the score has no number; None with a note where an input is missing.
    """
    from ..biopsy.scores import find_score, score

    entry = find_score(name)
    wanted = {item.name for item in entry.inputs}
    given: dict[str, str] = {}
    for column, cell in columns.items():
        match = UNIT.match(column)
        key = re.sub(r"[\s-]+", "_", (match["name"] if match else column).strip().lower())
        if key in wanted and cell.strip():
            given[key] = f"{cell}{match['unit']}" if match else cell
    try:
        result = score(name, given)
    except (InputError, RefusedError) as error:
        return None, [f"score {name}: {' '.join(str(error).split())}"]
    notes = [f"score {name}: {text}" for text in result.warnings]
    return (result.grade or None) if result.value is None else float(result.value), notes
