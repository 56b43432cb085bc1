"""The parts of a MONAI bundle's configuration that inference needs, read without running what it says.

A bundle's configuration is a program: `_target_` imports and calls anything, a text that starts with `$` is
evaluated as Python. So it is read here as data. Only the network, the preprocessing and the inferer are looked
at; inside them a `$` text or a target that is not on the lists below is refused, unless the caller trusts the
bundle as they would trust a program from the same people.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..geometry import InputError, MissingPackageError, RefusedError
from .card import read_json

NETWORK_MODULE = "monai.networks.nets"
INTENSITY_TRANSFORMS = {"ScaleIntensityRange", "ScaleIntensity", "NormalizeIntensity", "ThresholdIntensity",
                        "ScaleIntensityRangePercentiles", "ClipIntensityPercentiles"}
WITHOUT_EFFECT = {"LoadImage", "EnsureChannelFirst", "EnsureType", "ToTensor", "ToDevice", "CastToType", "Identity",
                  "CropForeground", "SpatialPad", "DivisiblePad", "AddChannel"}
"""Steps done by our own code (reading, padding) or that only save time: left out without changing the result."""
SECTIONS = ("network_def", "network", "preprocessing", "inferer", "postprocessing")
DOWNLOADS = ("pretrained", "use_pretrained", "pretrained_url", "pretrained_model_name_or_path")
TRUST_HINT = "pass trust=True (--trust) only if you would run a program from the same source"
MAX_DEPTH = 32


@dataclass(frozen=True)
class InferencePlan:
    """What a bundle asks for, as plain data.

    Attributes:
        network: class name and arguments.
        orientation: axis codes that the network wants along i, j, k, or None for the image's own.
        spacing_mm: (3,) along those axes, None for the image's own; an entry of 0 or less also keeps the image's.
        intensity: transform class names with their arguments, in order.
        roi_size, overlap, batch: sliding window. mode: blending.
        sigmoid: whether every channel is a structure of its own; None leaves it to the number of channels.
    """

    network: tuple[str, dict[str, Any]]
    orientation: str | None = None
    spacing_mm: tuple[float, float, float] | None = None
    intensity: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    roi_size: tuple[int, int, int] = (96, 96, 96)
    overlap: float = 0.25
    batch: int = 1
    mode: str = "gaussian"
    sigmoid: bool | None = None


def read_config(folder: Path) -> dict[str, Any]:
    """configs/inference.json, .yaml or .yml as plain data. Raises InputError, MissingPackageError (YAML)."""
    for name in ("inference.yaml", "inference.yml"):
        path = folder / "configs" / name
        if not path.is_file() or (folder / "configs" / "inference.json").is_file():
            continue
        try:
            import yaml
        except ImportError as error:
            raise MissingPackageError(f"{path}: reading YAML needs PyYAML: pip install pyyaml") from error
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: is damaged or holds Python objects; download the bundle again") from error
        if not isinstance(content, dict):
            raise InputError(f"{path}: should hold one mapping; download the bundle again")
        return content
    return read_json(folder / "configs" / "inference.json", of="a MONAI bundle")


def inference_plan(folder: Path, config: dict[str, Any]) -> InferencePlan:
    """The plan of a configuration. Raises InputError (missing part), RefusedError (would run code)."""
    def part(key: str) -> Any:
        return resolved(config, config[key], f"{folder.name}: {key}") if key in config else None

    network = part("network_def") or part("network")
    if not isinstance(network, dict) or "_target_" not in network:
        raise InputError(f"{folder}: the configuration names no network (network_def); is it an inference bundle?")
    target = str(network["_target_"])
    name = target.rpartition(".")[2]
    if target not in (name, f"{NETWORK_MODULE}.{name}") and not target.startswith(f"{NETWORK_MODULE}."):
        raise RefusedError(f"{folder.name}: its network is {target}, code outside MONAI's networks; {TRUST_HINT}")
    arguments = _arguments(network)
    asked = [key for key in DOWNLOADS if arguments.get(key)]
    if asked:
        raise RefusedError(f"{folder.name}: its network wants to download weights ({asked[0]}); "
                           "models run offline here, choose a complete bundle")
    values: dict[str, Any] = {"network": (name, arguments)}
    _read_preprocessing(folder, part("preprocessing"), values)
    _read_inferer(folder, part("inferer"), values)
    values["sigmoid"] = _wants_sigmoid(config.get("postprocessing"))
    return InferencePlan(**values)


def resolved(config: dict[str, Any], value: Any, where: str, depth: int = 0) -> Any:
    """A copy with `@` references replaced. Raises RefusedError at a `$` text, InputError at a broken reference."""
    if depth > MAX_DEPTH:
        raise InputError(f"{where}: references go round in a circle; the bundle is damaged")
    if isinstance(value, dict):
        if "_mode_" in value and value["_mode_"] not in ("default", None):
            raise RefusedError(f"{where}: asks for _mode_ {value['_mode_']!r}, which runs code; {TRUST_HINT}")
        return {key: resolved(config, item, f"{where}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(config, item, f"{where}[{n}]", depth + 1) for n, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    if value.startswith("$"):
        raise RefusedError(f"{where}: holds a Python expression ({value[:40]!r}), not run; {TRUST_HINT}")
    if value.startswith("%"):
        raise InputError(f"{where}: points into another file ({value[:60]!r}), which is not supported")
    return resolved(config, _reference(config, value, where), where, depth + 1) if value.startswith("@") else value


def _reference(config: dict[str, Any], text: str, where: str) -> Any:
    item: Any = config
    for key in text[1:].replace("::", "#").split("#"):
        try:
            item = item[int(key)] if isinstance(item, list) else item[key]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise InputError(f"{where}: refers to {text!r}, which the configuration doesn't hold") from error
    return item


def _arguments(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items()
            if not (key.startswith("_") and key.endswith("_")) and key not in ("keys", "allow_missing_keys")}


def _read_preprocessing(folder: Path, section: Any, values: dict[str, Any]) -> None:
    steps = section.get("transforms", []) if isinstance(section, dict) else section or []
    values["intensity"] = []
    for step in steps:
        if not isinstance(step, dict) or "_target_" not in step:
            raise InputError(f"{folder}: a preprocessing step has no _target_; the configuration is damaged")
        if step.get("_disabled_") is True:
            continue
        target = str(step["_target_"])
        name = _array_transform(target)
        arguments = _arguments(step)
        if name == "Orientation":
            values["orientation"] = str(arguments.get("axcodes", "RAS")).upper()
        elif name == "Spacing":
            pixdim = arguments.get("pixdim", 1.0)
            values["spacing_mm"] = _triple(folder, pixdim, "pixdim", float)
        elif name in INTENSITY_TRANSFORMS:
            values["intensity"].append((name, arguments))
        elif name not in WITHOUT_EFFECT:
            raise RefusedError(f"{folder.name}: preprocessing uses {target}, which is not on the list of known steps; "
                               "running without it would give a wrong result")


def _array_transform(target: str) -> str:
    """The array transform of a dictionary transform's target; the text itself when it isn't MONAI's."""
    head, _, name = target.rpartition(".")
    if head and not head.startswith("monai.transforms"):
        return target
    for ending in ("Dict", "D", "d"):
        stem = name.removesuffix(ending)
        if stem != name and (stem in INTENSITY_TRANSFORMS | WITHOUT_EFFECT or stem in ("Orientation", "Spacing")):
            return stem
    return name


def _read_inferer(folder: Path, section: Any, values: dict[str, Any]) -> None:
    if not isinstance(section, dict):
        return
    name = str(section.get("_target_", "")).rpartition(".")[2]
    if name not in ("SlidingWindowInferer", "SimpleInferer", "SlidingWindowInfererAdapt"):
        raise RefusedError(f"{folder.name}: its inferer is {name or 'not named'}; only sliding windows are supported")
    try:
        if "roi_size" in section:
            values["roi_size"] = _triple(folder, section["roi_size"], "roi_size", int)
        values["overlap"] = min(0.9, max(0.0, float(section.get("overlap", 0.25))))
        values["batch"] = max(1, int(section.get("sw_batch_size", 1)))
        values["mode"] = "constant" if section.get("mode") == "constant" else "gaussian"
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder}: the inferer's numbers can't be read ({error})") from error


def _wants_sigmoid(section: Any) -> bool | None:
    """Read from the words alone, so that expressions in the postprocessing are neither run nor refused."""
    steps = section.get("transforms", []) if isinstance(section, dict) else section
    for step in steps if isinstance(steps, list) else []:
        if isinstance(step, dict) and step.get("sigmoid") is True:
            return True
        if isinstance(step, dict) and (step.get("softmax") is True or step.get("argmax") is True):
            return False
    return None


def _triple(folder: Path, value: Any, name: str, kind: type) -> tuple:
    try:
        numbers = [kind(v) for v in (value if isinstance(value, list) else [value] * 3)]
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder}: {name} {value!r} is no list of three numbers") from error
    if len(numbers) != 3:
        raise InputError(f"{folder}: {name} {value!r} has {len(numbers)} numbers; only 3D bundles are supported")
    return tuple(numbers)


def trusted_network(folder: Path, config: dict[str, Any]):
    """The network made by MONAI's own parser: runs whatever the configuration says. Only for trust=True."""
    from monai.bundle.config_parser import ConfigParser

    key = "network_def" if "network_def" in config else "network"
    sys.path.insert(0, str(folder))
    try:
        parser = ConfigParser({**config, "bundle_root": str(folder)})
        return parser.get_parsed_content(key)
    except Exception as error:
        raise InputError(f"{folder}: the network could not be made ({error})") from error
    finally:
        sys.path.remove(str(folder))
