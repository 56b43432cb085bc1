"""What a filter is told: a plain dictionary, checked, completed with defaults, and turned into a name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ....geometry import InputError

BOUNDARIES = ("mirror", "constant", "nearest", "periodic")
"""IBSI-2: mirror repeats the outermost voxel, constant is zero outside."""
POOLINGS = ("mean", "max", "min")
LAWS_KERNELS = ("L3", "E3", "S3", "L5", "E5", "S5", "W5", "R5")
WAVELET_FAMILIES = re.compile(r"(haar|db\d+|sym\d+|coif\d+)$")
COMMON: dict[str, Any] = {"boundary": "mirror", "by_slice": False}
DEFAULTS: dict[str, dict[str, Any]] = {
    "mean": {"support": 5},
    "log": {"sigma_mm": None, "truncate": 4.0},
    "laws": {"kernels": None, "rotation_invariance": True, "pooling": "max", "energy_distance": 7},
    "gabor": {"sigma_mm": None, "wavelength_mm": None, "aspect": 1.0, "angle_deg": 0.0, "rotation_step_deg": None,
              "response": "modulus", "pooling": "mean", "orthogonal_planes": None},
    "wavelet": {"wavelet": None, "filters": None, "level": 1, "rotation_invariance": True, "pooling": "mean"},
    "simoncelli": {"level": 1, "boundary": "periodic"},
}
"""Filter: its own settings with their defaults; None must be given, or follows from the others. Simoncelli's lives in
the Fourier domain, where the image itself is periodic, and so are the consensus values of IBSI-2."""
LARGEST_LEVEL = 8
LARGEST_SUPPORT = 201


def check_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The specification with every default filled in, so that two equal filters give equal dictionaries.

    `spec["type"]` is one of mean, log, laws, gabor, wavelet, simoncelli; `DEFAULTS` and `COMMON` list the rest.
    `by_slice` filters every slice by itself (2D). Raises InputError naming the setting that can't be used.
    """
    if not isinstance(spec, Mapping) or "type" not in spec:
        raise InputError(f"a filter is a dictionary with a 'type' ({', '.join(DEFAULTS)}), got {spec!r}")
    kind = spec["type"]
    if not isinstance(kind, str) or kind not in DEFAULTS:
        raise InputError(f"filter type {kind!r} is not known; known are {', '.join(DEFAULTS)}")
    known = {"type": kind, **COMMON, **DEFAULTS[kind]}
    unknown = sorted(set(spec) - set(known))
    if unknown:
        raise InputError(f"{kind} filter: unknown setting {', '.join(map(repr, unknown))}; "
                         f"known are {', '.join(known)}")
    full = {**known, **spec}
    _choice(full, "boundary", BOUNDARIES)
    if "pooling" in full:
        _choice(full, "pooling", POOLINGS)
    for name in ("by_slice", "rotation_invariance"):
        if name in full and not isinstance(full[name], bool):
            raise InputError(f"{kind} filter: {name} must be true or false, got {full[name]!r}")
    CHECKS[kind](full)
    return full


def _choice(full: dict[str, Any], name: str, choices: tuple[str, ...]) -> None:
    if full[name] not in choices:
        raise InputError(f"{full['type']} filter: {name} {full[name]!r} is not known; give {', '.join(choices)}")


def _number(full: dict[str, Any], name: str, above: float, below: float = math.inf) -> None:
    value = full[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < below:
        span = f"above {above:g}" + (f" and below {below:g}" if math.isfinite(below) else "")
        raise InputError(f"{full['type']} filter: {name} must be a number {span}, got {value!r}")
    full[name] = float(value)


def _whole(full: dict[str, Any], name: str, low: int, high: int) -> None:
    value = full[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or value != int(value):
        raise InputError(f"{full['type']} filter: {name} must be a whole number from {low} to {high}, got {value!r}")
    full[name] = int(value)


def _check_mean(full: dict[str, Any]) -> None:
    _whole(full, "support", 1, LARGEST_SUPPORT)
    if full["support"] % 2 == 0:
        raise InputError(f"mean filter: support must be odd, got {full['support']}")


def _check_log(full: dict[str, Any]) -> None:
    _number(full, "sigma_mm", 0.0, 1e4)
    _number(full, "truncate", 0.0, 20.0)


def _check_laws(full: dict[str, Any]) -> None:
    axes = 2 if full["by_slice"] else 3
    name = str(full["kernels"]).upper()
    parts = [name[n:n + 2] for n in range(0, len(name), 2)]
    if len(parts) != axes or any(part not in LAWS_KERNELS for part in parts):
        raise InputError(f"laws filter: kernels must be {axes} of {', '.join(LAWS_KERNELS)} in x, y, z order, like "
                         f"{'L5E5E5'[:2 * axes]}, got {full['kernels']!r}; by_slice takes two, volumes three")
    full["kernels"] = name
    if full["energy_distance"] is not None:
        _whole(full, "energy_distance", 0, LARGEST_SUPPORT)


def _check_gabor(full: dict[str, Any]) -> None:
    _number(full, "sigma_mm", 0.0, 1e4)
    _number(full, "wavelength_mm", 0.0, 1e4)
    _number(full, "aspect", 0.0, 100.0)
    _number(full, "angle_deg", -1e4, 1e4)
    _choice(full, "response", ("modulus", "real", "imaginary"))
    if full["orthogonal_planes"] is None:
        full["orthogonal_planes"] = not full["by_slice"]
    if full["orthogonal_planes"] is full["by_slice"]:
        raise InputError("gabor filter: orthogonal_planes and by_slice exclude each other; a Gabor filter is planar, "
                         "and is either used on the slices or averaged over the three planes")
    step = full["rotation_step_deg"]
    if step is not None:
        _number(full, "rotation_step_deg", 0.0, 360.0001)
        if abs(360.0 / step - round(360.0 / step)) > 1e-9:
            raise InputError(f"gabor filter: rotation_step_deg must divide 360, got {step!r}")


def _check_wavelet(full: dict[str, Any]) -> None:
    axes = 2 if full["by_slice"] else 3
    if not WAVELET_FAMILIES.match(str(full["wavelet"])):
        raise InputError(f"wavelet filter: wavelet must be haar, dbN, symN or coifN, got {full['wavelet']!r}")
    name = str(full["filters"]).upper()
    if len(name) != axes or set(name) - {"L", "H"}:
        raise InputError(f"wavelet filter: filters must be {axes} of L and H in x, y, z order, like {'LLH'[-axes:]}, "
                         f"got {full['filters']!r}; by_slice takes two, volumes three")
    full["filters"] = name
    _whole(full, "level", 1, LARGEST_LEVEL)


def _check_simoncelli(full: dict[str, Any]) -> None:
    _whole(full, "level", 1, LARGEST_LEVEL)


CHECKS = {"mean": _check_mean, "log": _check_log, "laws": _check_laws, "gabor": _check_gabor,
          "wavelet": _check_wavelet, "simoncelli": _check_simoncelli}


def filter_prefix(spec: Mapping[str, Any]) -> str:
    """Name of a filter for feature names: `log_sigma2mm`, `wavelet_db3_llh_level1_mean`, `laws_l5e5e5_max_energy7`.

    Says every setting that changes the response; the default boundary and three dimensions are left out.
    Raises InputError as `check_spec`.
    """
    full = check_spec(spec)
    kind = full["type"]
    words = [kind]
    if kind == "mean":
        words += [f"support{full['support']}"]
    elif kind == "log":
        words += [f"sigma{full['sigma_mm']:g}mm"]
        words += [] if full["truncate"] == DEFAULTS["log"]["truncate"] else [f"truncate{full['truncate']:g}"]
    elif kind == "laws":
        words += [full["kernels"].lower(), full["pooling"] if full["rotation_invariance"] else "oriented"]
        words += [] if full["energy_distance"] is None else [f"energy{full['energy_distance']}"]
    elif kind == "gabor":
        words += [f"sigma{full['sigma_mm']:g}mm", f"wavelength{full['wavelength_mm']:g}mm", f"aspect{full['aspect']:g}"]
        step = full["rotation_step_deg"]
        words += [] if step is not None and full["angle_deg"] == 0 else [f"angle{full['angle_deg']:g}"]
        words += [] if step is None else [f"step{step:g}"]
        words += [] if step is None and full["by_slice"] else [full["pooling"]]
        words += [] if full["response"] == "modulus" else [full["response"]]
    elif kind == "wavelet":
        words += [full["wavelet"], full["filters"].lower(), f"level{full['level']}"]
        words += [full["pooling"] if full["rotation_invariance"] else "oriented"]
    else:
        words += [f"level{full['level']}"]
    words += ["2d"] if full["by_slice"] else []
    usual = {**COMMON, **DEFAULTS[kind]}["boundary"]
    words += [] if full["boundary"] == usual else [full["boundary"]]
    return "_".join(words)


def all_wavelets(wavelet: str, level: int = 1, by_slice: bool = False) -> list[dict[str, Any]]:
    """Specifications of every low/high combination: 8 in a volume, 4 by slice.

    With rotation invariance, combinations that are turns of one another (LLH, LHL, HLL) have the same response;
    these therefore come without it.
    """
    axes = 2 if by_slice else 3
    names = ["".join("LH"[n >> axis & 1] for axis in range(axes)) for n in range(2 ** axes)]
    return [check_spec({"type": "wavelet", "wavelet": wavelet, "filters": name, "level": level, "by_slice": by_slice,
                        "rotation_invariance": False}) for name in names]
