"""What `irai biopsy features` measures beside the mask: ablation zone, habitats, a second time point, stability."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..biopsy.radiomics.icc import FORMS
from ..geometry import InputError
from .progress import terminal_progress

DEFAULT_PERTURBATIONS = 10


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to `irai biopsy features`."""
    group = parser.add_argument_group("more than the mask; adds features to the same row")
    group.add_argument("--ablation", type=Path, metavar="ZONE", help="ablation zone in the image's frame: features of "
                       "the margin, of tumour covered and left (residual) and of the rim around it; volumes, coverage")
    group.add_argument("--ablation-label", metavar="N|NAME", help="which label of ZONE")
    group.add_argument("--rim", type=float, default=5.0, metavar="MM", help="width of that rim (5)")
    group.add_argument("--habitats", nargs="?", const="auto", choices=("auto", *"23456"), metavar="N",
                       help="parts that look alike, 2 to 6 (nothing: their number by BIC), and their features")
    group.add_argument("--second", nargs=2, type=Path, metavar=("IMAGE", "MASK"), help="a later study of the same "
                       "lesion: what changed (delta_abs__, delta_rel__)")
    group.add_argument("--second-label", metavar="N|NAME", help="which label of the second mask")
    group.add_argument("--days", type=float, metavar="D", help="between the studies: also the change per day")
    group = parser.add_argument_group("stability")
    group.add_argument("--stability", nargs="?", type=int, const=DEFAULT_PERTURBATIONS, metavar="N",
                       help="measure N times under small changes of image and mask (10): coefficient of variation "
                       "for one mask, ICC over several; a cohort: irai biopsy stability")
    group.add_argument("--drop-unstable", action="store_true", help="leave out what --stability finds unstable")
    group.add_argument("--stable", type=Path, metavar="FILE", help="leave out what `irai biopsy stability` found "
                       "unstable; its .json, made with the same settings")
    add_limit_options(group)


def add_limit_options(group) -> None:
    """Options that `features` and `stability` share."""
    group.add_argument("--limit", type=float, metavar="X", help="lower bound of the ICC (0.75); for one mask the "
                       "largest coefficient of variation (0.10)")
    group.add_argument("--icc", choices=FORMS, default=FORMS[0], help="which ICC (%(default)s)")
    group.add_argument("--seed", type=int, default=0, help="of the changes (0)")


def check_options(arguments: argparse.Namespace, shell: dict | None) -> None:
    """Raises InputError for options that don't go together, before anything is read."""
    if shell is not None and arguments.ablation is not None:
        raise InputError("--ablation: needs the tumour itself; take shell out of the configuration")
    for option, needed, name in ((arguments.ablation_label, arguments.ablation, "--ablation-label needs --ablation"),
                                 (arguments.second_label, arguments.second, "--second-label needs --second"),
                                 (arguments.days, arguments.second, "--days needs --second"),
                                 (arguments.drop_unstable or None, arguments.stability,
                                  "--drop-unstable needs --stability")):
        if option is not None and needed is None:
            raise InputError(name)
    for name, value in (("--days", arguments.days), ("--rim", arguments.rim)):
        if value is not None and not 0.0 < value < math.inf:
            raise InputError(f"{name}: must be a number above 0, not {value:g}")
    if arguments.drop_unstable and arguments.stable is not None:
        raise InputError("give --drop-unstable or --stable, not both")
    check_limit(arguments)
    several = len(arguments.masks) > 1 or len(arguments.label or []) > 1
    if several and (arguments.second is not None or arguments.ablation is not None):
        raise InputError("--second and --ablation belong to one lesion; give one mask and one label")


def check_limit(arguments: argparse.Namespace) -> None:
    """Raises InputError for numbers that no stability can be made with."""
    if arguments.limit is not None and not 0.0 < arguments.limit <= 1.0:
        raise InputError(f"--limit: lies above 0 and at most at 1, not {arguments.limit:g}")
    if arguments.stability is not None and arguments.stability < 2:
        raise InputError(f"{arguments.stability} measurements have no spread; take 2 or more, 10 are usual")
    if arguments.seed < 0:
        raise InputError("--seed: must be a whole number from 0")


def keywords(image, arguments: argparse.Namespace, prepare: Callable[[Any, Any], Any]) -> dict[str, Any]:
    """Arguments of `lesion_features` from the options; `prepare(image, mask)` makes of a mask what is measured."""
    out: dict[str, Any] = {}
    if arguments.ablation is not None:
        out.update(zone=read_mask_in_place(arguments.ablation, arguments.ablation_label, image, "--ablation-label"),
                   rim_mm=arguments.rim)
    if arguments.habitats is not None:
        out["habitats_wanted"] = arguments.habitats
    if arguments.second is not None:
        from ..images import read_volume

        later = read_volume(arguments.second[0])
        mask = read_mask_in_place(arguments.second[1], arguments.second_label, later, "--second-label")
        out.update(second=(later, prepare(later, mask)), days=arguments.days)
    return out


def read_mask_in_place(path: Path, label: str | None, image, option: str = "--label"):
    """A mask of an image; a cut-out of its voxels is put in its place. Raises InputError."""
    from ..biopsy.radiomics.region import cut_out_in_place
    from ..images import read_mask

    try:
        mask = read_mask(path, label=label, reference=image)
    except InputError as error:
        raise type(error)(str(error).replace("(label=...)", f"({option})")) from None
    return cut_out_in_place(image, mask) or mask


@dataclass(frozen=True)
class Known:
    """What is known of the features' stability: `table` rows by key, keys to `drop` with the reason, `source`."""

    table: dict[str, dict[str, Any]]
    drop: dict[str, str]
    document: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()


def measure_stability(images: list, masks: list, settings, arguments: argparse.Namespace) -> Known | None:
    """Stability over the masks that are measured, in a worker; None where it isn't asked for."""
    from ..biopsy.radiomics.stability import stability_table
    from ..jobs import run_job

    if arguments.stability is None:
        return None
    one = len(masks) == 1
    found = run_job("IRAILib.biopsy.radiomics.stability:stability",
                    {"images": images[0] if one else images, "masks": masks[0] if one else masks,
                     "settings": settings, "n": arguments.stability, "seed": arguments.seed},
                    progress=terminal_progress("stability"), timeout_s=arguments.timeout)
    drop = found.unstable(arguments.limit, arguments.icc)
    rows = stability_table(found, arguments.limit, arguments.icc)
    return Known({row["feature"]: row for row in rows}, drop, document_of(found, drop, arguments), found.warnings)


def document_of(found, drop: dict[str, str], arguments: argparse.Namespace) -> dict[str, Any]:
    """JSON-ready stability with what is dropped at which limit."""
    return found.to_dict() | {"limit": arguments.limit, "form": arguments.icc, "unstable": drop,
                              "stable": [key for key in found.features if key not in drop]}


def read_known(path: Path, settings_hash: str) -> Known:
    """The stability that `irai biopsy stability` wrote. Raises InputError, also for other settings."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        drop, made_with = dict(document["unstable"]), document["settings_hash"]
        rows = {one["key"]: one for one in document["features"]}
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: is no stability; give the .json of `irai biopsy stability`") from None
    if made_with != settings_hash:
        raise InputError(f"{path}: was made with other settings ({made_with}, here {settings_hash}); run "
                         "`irai biopsy stability` with this --config")
    return Known(rows, {str(key): str(reason) for key, reason in drop.items()})


def dropped(found, known: Known):
    """The feature set without what is unstable, and a warning that counts it. Raises InputError for none left."""
    kept = {key: one for key, one in found.features.items() if key not in known.drop}
    if not kept:
        raise InputError("no feature is stable enough; measure more masks, or choose another --limit")
    unknown = sum(key not in known.table for key in kept)
    lines = [f"{len(found.features) - len(kept)} of {len(found.features)} features left out as unstable"]
    lines += [f"the stability of {unknown} features isn't known; they are kept"] if unknown else []
    return replace(found, features=kept, warnings=(*found.warnings, *lines))
