"""What a trained model says of itself: shown before it is run, stored with what it gave."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..geometry import InputError

NOT_STATED = "not stated"


@dataclass(frozen=True)
class BundleCard:
    """A model's own words; a field that its files don't give reads 'not stated'.

    Attributes:
        kind: "MONAI bundle" or "nnU-Net v2".
        labels: output value to structure name, without the background.
    """

    folder: Path
    kind: str
    name: str = NOT_STATED
    version: str = NOT_STATED
    licence: str = NOT_STATED
    authors: str = NOT_STATED
    training_data: str = NOT_STATED
    intended_use: str = NOT_STATED
    labels: dict[int, str] = field(default_factory=dict)

    def to_dict(self) -> dict:
        return {**asdict(self), "folder": str(self.folder), "labels": {str(k): v for k, v in self.labels.items()}}

    def lines(self) -> list[str]:
        """The card as lines of text for a dialog, a console or a report."""
        labels = ", ".join(f"{n} {name}" for n, name in sorted(self.labels.items())) or NOT_STATED
        return [f"{self.name} {self.version} ({self.kind})", f"Licence: {self.licence}", f"Authors: {self.authors}",
                f"Training data: {self.training_data}", f"Intended use: {self.intended_use}", f"Labels: {labels}"]


def read_json(path: Path, *, of: str) -> dict[str, Any]:
    """A JSON object from a file. Raises InputError that names the file when it is missing, damaged or no object."""
    if not path.is_file():
        raise InputError(f"{path}: not found; {of} needs it. Download the model again or choose its top folder")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: is damaged ({error}); download the model again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: should hold one JSON object; download the model again")
    return content


def read_card(folder: str | Path) -> BundleCard:
    """The card of a MONAI bundle or nnU-Net v2 folder; runs nothing, loads no weights.

    Raises InputError when the folder is neither, or its description is missing or damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; give the top folder of a MONAI bundle or an nnU-Net v2 model")
    if (folder / "plans.json").is_file() or (folder / "dataset.json").is_file():
        return _nnunet_card(folder)
    if (folder / "configs").is_dir() or (folder / "metadata.json").is_file() or (folder / "models").is_dir():
        return _monai_card(folder)
    raise InputError(f"{folder}: neither a MONAI bundle (configs/metadata.json) nor an nnU-Net v2 model (plans.json); "
                     "choose the model's top folder")


def _monai_card(folder: Path) -> BundleCard:
    path = folder / "configs" / "metadata.json"
    meta = read_json(path if path.is_file() or not (folder / "metadata.json").is_file() else folder / "metadata.json",
                     of="a MONAI bundle")
    licence = _text(meta, "license", "licence", "copyright")
    if licence == NOT_STATED and (folder / "LICENSE").is_file():
        lines = (line.strip() for line in (folder / "LICENSE").read_text("utf-8", "replace").splitlines())
        licence = next((line for line in lines if line), NOT_STATED)
    return BundleCard(
        folder, "MONAI bundle", name=_text(meta, "name", "task"), version=_text(meta, "version"), licence=licence,
        authors=_text(meta, "authors"), training_data=_text(meta, "data_source", "dataset", "data_type"),
        intended_use=_text(meta, "intended_use"), labels=_monai_labels(meta))


def _monai_labels(meta: dict[str, Any]) -> dict[int, str]:
    outputs = _dict(_dict(meta.get("network_data_format")).get("outputs"))
    channels = _dict(_dict(next(iter(outputs.values()), None)).get("channel_def"))
    labels = {}
    for key, name in channels.items():
        if str(key).isdigit() and str(name).lower() != "background":
            labels[int(key)] = str(name)
    return labels


def _nnunet_card(folder: Path) -> BundleCard:
    data = read_json(folder / "dataset.json", of="an nnU-Net v2 model")
    labels = {}
    for name, value in _dict(data.get("labels")).items():
        if isinstance(value, int) and value > 0:
            labels[value] = str(name)
    return BundleCard(
        folder, "nnU-Net v2", name=_text(data, "name", default=folder.parent.name), version=_text(data, "release"),
        licence=_text(data, "licence", "license"), authors=_text(data, "authors"),
        training_data=_text(data, "reference", "description"), intended_use=_text(data, "intended_use"), labels=labels)


def _dict(value: Any) -> dict:
    return value if isinstance(value, dict) else {}


def _text(meta: dict[str, Any], *keys: str, default: str = NOT_STATED) -> str:
    for key in keys:
        value = meta.get(key)
        if isinstance(value, list):
            value = ", ".join(str(v) for v in value)
        if isinstance(value, (str, int, float)) and str(value).strip():
            return str(value).strip()
    return default or NOT_STATED
