"""Where the crops of a table's rows come from: a column of images, a column of masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...geometry import CancelledError, InputError, IRAIError
from ..outcome.table import Table
from .backbone import Backbone, load_backbone
from .crops import Crop, CropOptions, read_crop
from .folds import DeepOptions
from .network import TrainingOptions

DEFAULTS: dict[str, Any] = {
    "mode": "3d", "image": "image", "mask": "mask", "label": None, "side_mm": 64.0, "pixels": 32, "window": None,
    "epochs": 30, "mixup": 0.3, "inner_folds": 3, "backbone": None}
"""What `Plan.deep` may say: how lesions are cut out, the table's columns of files, the training, a backbone's folder.
label: column of each mask's label value or name."""
TOO_MUCH_CUT = 0.5
"""A lesion of which more lies outside the cube is not one that the network was trained on."""


def deep_plan(given: Mapping[str, Any]) -> dict[str, Any]:
    """All keys, checked. Raises InputError naming an unknown one."""
    unknown = sorted(set(given) - set(DEFAULTS))
    if unknown:
        raise InputError(f"deep: '{unknown[0]}' is not known; there are {', '.join(DEFAULTS)}")
    return {**DEFAULTS, **given}


def deep_options(given: Mapping[str, Any], backbone: Backbone | None = None) -> DeepOptions:
    """Options of the columns; the backbone is read from its folder where it isn't given. Raises InputError."""
    plan = deep_plan(given)
    if backbone is None and plan["backbone"]:
        backbone = load_backbone(plan["backbone"])
    if backbone is not None:
        return DeepOptions(backbone.crop, backbone=backbone)
    window = None if plan["window"] is None else tuple(plan["window"])
    crop = CropOptions(plan["mode"], float(plan["side_mm"]), int(plan["pixels"]), window)
    training = replace(TrainingOptions(), epochs=int(plan["epochs"]), mixup=float(plan["mixup"]))
    return DeepOptions(crop, training, inner_folds=int(plan["inner_folds"]))


def read_crops(table: Table, given: Mapping[str, Any], crop: CropOptions, *,
               progress: Callable[[float, str], None] | None = None, cancelled: Callable[[], bool] | None = None
               ) -> tuple[np.ndarray, list[str | None]]:
    """(n,) Crop or None, and for each row why there is none.

    Files of a relative name are looked for from the table's folder. Raises InputError where the table has no column
    of images or masks, CancelledError.
    """
    plan = deep_plan(given)
    image, mask = (table.require(plan[name], f"column of {name}s") for name in ("image", "mask"))
    label = table.require(plan["label"], "column of labels") if plan["label"] else None
    place = Path(table.source)
    folder = place if place.is_dir() else place.parent
    crops, reasons = np.empty(len(table), object), []
    for n in range(len(table)):
        if cancelled is not None and cancelled():
            raise CancelledError("cancelled while images were read; nothing was written")
        if progress is not None:
            progress(n / len(table), f"reading lesion {n + 1} of {len(table)}")
        try:
            crops[n] = _crop(folder, table.text[image][n], table.text[mask][n],
                             None if label is None else table.text[label][n], crop)
            reasons.append(None)
        except IRAIError as error:
            reasons.append(" ".join(str(error).split()))
    return crops, reasons


def _crop(folder: Path, image: str | None, mask: str | None, label: str | None, options: CropOptions) -> Crop:
    from ...images import read_mask, read_volume

    if image is None or mask is None:
        raise InputError(f"has no {'image' if image is None else 'mask'}")
    volume = read_volume(folder / image)
    value = int(label) if label is not None and label.lstrip("-").isdigit() else label
    crop = read_crop(volume, read_mask(folder / mask, label=value, reference=volume), options)
    if crop.cut > TOO_MUCH_CUT:
        raise InputError(f"{crop.cut:.0%} of the lesion lies outside the cube of {options.side_mm:g} mm; take a larger "
                         "one")
    return crop
