"""`irai biopsy features`: radiomics of one or more masks of an image."""

from __future__ import annotations

import argparse
import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..geometry import InputError
from ..images.atomic import replacing
from . import biopsy_features_more as more
from .progress import terminal_progress

SHELL = {"outer_mm", "inner_mm", "intensity_range"}
ENDING = "Exit status: 0 done, 2 bad input (mask empty, on another grid, unknown key), 3 refused (region too large)."
DESCRIPTION = """\
IBSI radiomics features of the voxels of a mask, named by the tags of the IBSI reference tables with the aggregation
(cm_contrast_3D_comb), one row a mask and label. Docs/radiomics.md explains them.

keys of --config (YAML; unknown keys are an error):
  spacing_mm            voxels to interpolate to: one number, [j, i] in the slice only, [k, j, i]; none: as they are
  interpolation         nearest | linear | cubic                                             (linear)
  mask_interpolation    nearest | linear; mask_threshold: share that makes a voxel inside    (linear, 0.5)
  round_intensity       true: whole numbers after interpolation, for HU                      (false)
  resegment             [low, high]: intensities beyond are left out, one may be null        (none)
  outlier_sigma         beyond mean +- so many standard deviations are left out              (none)
  discretisation        [fbn, levels] | [fbs, width, start] | [none]                         ([fbn, 32])
  ivh_discretisation    the same for the intensity-volume histogram    ([none] for whole numbers, else [fbn, 1000])
  families              of: {families}
  aggregations          of: {aggregations};
                        2D, 2_5D, 3D stand for both of a kind                                (all)
  filters               list of filters, each with type (mean, log, laws, gabor, wavelet, simoncelli) and its numbers,
                        as {{type: log, sigma_mm: 2}}; their features stand beside those of the image
  filter                one filter in place of the image
  filtered_discretisation   for filter responses                                            ([fbn, 32])
  intensity_unit        HU, SUV, ...; nothing: arbitrary
  regions               all | largest: of a mask in unconnected parts                        (all)
  resample_mask         true: a mask on another grid is put on the image's                   (false)
  glcm_distance, ngldm_alpha   voxels, grey levels                                           (1, 0)
  most_voxels           of the box that is measured; more are refused                        (20000000)
  shell                 {{outer_mm: 5, inner_mm: 0, intensity_range: [-200, null]}}: the ring around the mask in its
                        place, without what lies beyond the intensities (air)

examples (--example ct|mr|pet writes one to the screen):
"""


def add_step(commands) -> None:
    """Add `features` to the steps of `irai biopsy`."""
    from ..biopsy.radiomics.names import AGGREGATIONS, FAMILIES
    from ..biopsy.radiomics.presets import PRESETS

    text = DESCRIPTION.format(families=", ".join(FAMILIES), aggregations=", ".join(AGGREGATIONS))
    text += "\n".join(f"  {name}:\n" + "".join(f"    {line}\n" for line in preset.strip().splitlines())
                      for name, preset in PRESETS.items())
    parser = commands.add_parser("features", help="radiomics of a mask: IBSI features, filters, shell",
                                 description=text.replace("%", "%%"), epilog=ENDING,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, metavar="IMAGE", help="image: DICOM folder, NIfTI, NRRD, MetaImage")
    parser.add_argument("masks", type=Path, nargs="+", metavar="MASK",
                        help="label map, .seg.nrrd, DICOM SEG or RTSTRUCT; several give a row each")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="result: .json or .csv")
    parser.add_argument("--config", type=Path, metavar="YAML", help="settings, see above")
    parser.add_argument("--label", action="append", metavar="N|NAME", help="which label; may be given several times, "
                        "each gives a row. Needed where a mask holds more than one")
    parser.add_argument("--format", choices=("wide", "long"), default="wide",
                        help="of the CSV: a row a region, or a row a feature with unit, name and IBSI code")
    parser.add_argument("--resample-mask", action="store_true", help="put a mask on another grid on the image's")
    parser.add_argument("--largest", action="store_true", help="only the largest of unconnected parts")
    parser.add_argument("--diagnostics", action="store_true", help="in the JSON, what each step of the preprocessing "
                        "did (the diagnostic values of the IBSI tables)")
    more.add_options(parser)
    parser.add_argument("--timeout", type=float, metavar="S", help="give up after so many seconds")
    parser.add_argument("--example", action=_Example, choices=tuple(PRESETS), help="show a configuration and end")
    parser.set_defaults(run=run_features)


class _Example(argparse.Action):
    """Prints a configuration, as --version prints the version."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        from ..biopsy.radiomics.presets import PRESETS

        print(PRESETS[str(values)].strip())
        parser.exit(0)


def run_features(arguments: argparse.Namespace) -> int:
    """Read, measure in a worker, write. Raises InputError, RefusedError."""
    from ..images import read_volume

    out = arguments.out
    if out.suffix.lower() not in (".json", ".csv"):
        raise InputError(f"{out}: the result is written as .json or .csv; choose one of these names")
    if arguments.diagnostics and out.suffix.lower() != ".json":
        raise InputError(f"{out}: --diagnostics go into the JSON; write to a .json file")
    if any(out.exists() and path.exists() and out.samefile(path) for path in (arguments.image, *arguments.masks)):
        raise InputError(f"{out}: is an input; choose another name for the result")
    settings, shell = _settings(arguments)
    more.check_options(arguments, shell)
    known = more.read_known(arguments.stable, settings.hash) if arguments.stable else None
    image = read_volume(arguments.image)
    wanted = [(path, label) for path in arguments.masks for label in arguments.label or [None]]
    masks = [_mask(image, path, label, settings, shell) for path, label in wanted]
    rows = [_measure(image, mask, label, settings, shell, arguments)
            for (_, label), mask in zip(wanted, masks, strict=True)]
    known = more.measure_stability([image] * len(masks), masks, settings, arguments) or known
    if known is not None and (arguments.stable or arguments.drop_unstable):
        rows = [row | {"set": more.dropped(row["set"], known)} for row in rows]
    with replacing(out) as temporary:
        if out.suffix.lower() == ".json":
            _write_json(rows, temporary, known)
        elif arguments.format == "long":
            _write_long(rows, temporary, known)
        else:
            _write_wide(rows, temporary)
    _say(rows, known, out)
    return 0


def _say(rows: list[dict[str, Any]], known: more.Known | None, out: Path) -> None:
    for row in rows:
        found = row["set"]
        shown = f"{found.mask}" + (f" label {row['label']}" if row["label"] else "")
        for warning in found.warnings:
            print(f"note: {shown}: {warning}")
        missing = len(found.undefined())
        print(f"{shown}: {len(found.features) - missing} features of {found.voxels} voxels"
              + (f", {missing} not defined (the JSON and the long CSV say why)" if missing else ""))
    if known is not None and known.document is not None:
        for warning in known.warnings:
            print(f"note: stability: {warning}")
        print(f"stability: {len(known.drop)} of {len(known.table)} features are unstable (the JSON and the long CSV "
              "show each)")
    print(f"{out}: {len(rows)} region{'s' * (len(rows) != 1)}, settings {rows[0]['set'].settings.hash}")


def _settings(arguments: argparse.Namespace):
    """Settings and the shell's numbers of the configuration and the options."""
    from ..biopsy.radiomics.settings import Settings, read_yaml

    values = read_yaml(arguments.config) if arguments.config else {}
    shell = values.pop("shell", None)
    if shell is not None and (not isinstance(shell, dict) or set(shell) - SHELL or "outer_mm" not in shell):
        raise InputError(f"{arguments.config}: shell must hold outer_mm and may hold inner_mm and intensity_range, "
                         f"not {shell!r}")
    if shell is not None:
        _check_shell(shell, arguments.config)
    if arguments.resample_mask:
        values["resample_mask"] = True
    if arguments.largest:
        values["regions"] = "largest"
    try:
        settings = Settings.from_dict(values)
        for spec in (settings.filter, *settings.filters):
            if spec is not None:
                from ..biopsy.radiomics.filters import check_spec

                check_spec(spec)
    except InputError as error:
        raise InputError(f"{arguments.config}: {error}" if arguments.config else str(error)) from None
    return settings, shell


def _check_shell(shell: dict[str, Any], path: Path) -> None:
    limits = shell.get("intensity_range")
    limits = [None, None] if limits is None else limits
    if not (isinstance(limits, list) and len(limits) == 2 and all(map(_is_limit, limits))):
        raise InputError(f"{path}: shell: intensity_range must be [low, high], one may be null, not {limits!r}")


def _is_limit(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))


def _mask(image, path: Path, label: str | None, settings, shell: dict | None):
    mask = more.read_mask_in_place(path, label, image)
    return mask if shell is None else _shell(image, mask, settings, shell)


def _measure(image, mask, label: str | None, settings, shell: dict | None, arguments: argparse.Namespace
             ) -> dict[str, Any]:
    from ..jobs import run_job

    beside = more.keywords(image, arguments, lambda later, its: its if shell is None
                           else _shell(later, its, settings, shell))
    found = run_job("IRAILib.biopsy.radiomics.extended:lesion_features",
                    {"image": image, "mask": mask, "settings": settings, **beside},
                    progress=terminal_progress(Path(mask.name).name), timeout_s=arguments.timeout)
    row = {"label": label or "", "set": found, "shell": shell}
    for name, option in (("ablation", arguments.ablation), ("second", arguments.second), ("days", arguments.days)):
        if option is not None:
            row[name] = str(option) if name == "ablation" else option
    if arguments.second is not None:
        row["second"] = {"image": str(arguments.second[0]), "mask": str(arguments.second[1])}
    if arguments.diagnostics:
        row["diagnostics"] = run_job("IRAILib.biopsy.radiomics.diagnostics:diagnostics",
                                     {"image": image, "mask": mask, "settings": settings},
                                     timeout_s=arguments.timeout)
    return row


def _shell(image, mask, settings, shell: dict[str, Any]):
    """The ring around a mask, on the image's grid. Raises InputError."""
    from ..biopsy.radiomics.region import on_grid_of
    from ..biopsy.radiomics.regions import shell as ring

    found = ring(on_grid_of(image, mask, settings, []), **shell, image=image)
    for warning in found.metadata.get("warnings", ()):
        print(f"note: {mask.name}: {warning}")
    return replace(found, name=f"{mask.name} {found.name}")


def _write_json(rows: list[dict[str, Any]], path: Path, known: more.Known | None) -> None:
    documents = [row["set"].to_dict() | {key: value for key, value in row.items() if key != "set"}
                 | {"label": row["label"] or None} for row in rows]
    whole: dict[str, Any] = documents[0] if len(documents) == 1 else {"regions": documents}
    if known is not None and known.document is not None:
        whole["stability"] = known.document
    path.write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _head(row: dict[str, Any]) -> dict[str, Any]:
    found = row["set"]
    return {"image": found.image, "mask": found.mask, "label": row["label"], "settings_hash": found.settings.hash,
            "mask_volume_ml": f"{found.volume_ml:.9g}", "voxels": found.voxels}


def _write_wide(rows: list[dict[str, Any]], path: Path) -> None:
    table = [_head(row) | {key: _cell(f.value) for key, f in row["set"].features.items()} for row in rows]
    _write_table(table, path)


STABILITY_COLUMNS = {"cohort": ("icc", "icc_low", "icc_high", "stable"), "patient": ("cv", "stable")}


def _write_long(rows: list[dict[str, Any]], path: Path, known: more.Known | None) -> None:
    shown = () if known is None or known.document is None else STABILITY_COLUMNS[known.document["kind"]]
    table = [_head(row) | {"feature": key, "value": _cell(f.value), "unit": f.unit, "name": f.name,
                           "family": f.family, "aggregation": f.aggregation, "ibsi_code": f.ibsi_code,
                           "not_defined_because": f.reason}
             | {name: known.table.get(key, {}).get(name) for name in shown if known is not None}
             for row in rows for key, f in row["set"].features.items()]
    _write_table(table, path)


def _cell(value: float | None) -> str:
    """Empty where there is none, so that no reader takes it for a number."""
    return "" if value is None else repr(float(value))


def _write_table(table: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in table for key in row)), restval="")
        writer.writeheader()
        writer.writerows(table)
