"""Public networks from a local folder: weights that somebody else trained, used as they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...geometry import InputError, MissingPackageError
from .crops import Crop, CropOptions, network_input

ARCHITECTURES = ("resnet10", "resnet18", "resnet34", "resnet50", "densenet121")
CARD_FILE = "backbone.json"
CARD_KEYS = {"name", "architecture", "weights", "dimensions", "channels", "licence", "source", "prefix", "shortcut",
             "pixels", "side_mm", "window", "scale"}
NEEDED = ("name", "architecture", "weights", "dimensions", "licence")
LEAST_SHARE = 0.95
"""So much of the network must find its weights in the file; the head, which isn't used, is not counted."""
LARGEST_BYTES = 2 * 2**30


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen network. card: what its folder says, with the file's sha256. `crop` is how it wants the lesion."""

    card: dict[str, Any]
    crop: CropOptions
    network: Any

    def embed(self, crops: Sequence[Crop]) -> np.ndarray:
        """(n, features) float64: the network's pooled features; 2.5D: the mean over the three planes."""
        import torch

        out = []
        with torch.no_grad():
            for crop in crops:
                given = network_input(crop.intensities, crop.inside, self.crop, crop.is_ct)
                image = given[:1] if self.crop.mode == "3d" else given[::2]
                batch = torch.from_numpy(image * self.card["scale"])[:, None] if self.crop.mode == "2.5d" else \
                    torch.from_numpy(image * self.card["scale"])[None]
                batch = batch.repeat(1, int(self.card["channels"]), *([1] * (batch.ndim - 2)))
                out.append(self.network(batch).double().mean(dim=0).numpy())
        return np.array(out).reshape(len(out), -1)


def load_backbone(folder: str | Path) -> Backbone:
    """A backbone from a folder with `backbone.json` and its weights.

    backbone.json: name, architecture (resnet10/18/34/50, densenet121), weights (file in the folder: a torch state
        dict as .pt, .pth or .safetensors; read without running any code of it), dimensions (3 or 2), licence; and,
        where they differ from the default, channels (1), source, prefix (that the names in the file have, as
        "module."), shortcut ("A" or "B", of ResNets), pixels, side_mm, window, scale (the input's -1..1 is
        multiplied by it).
    Raises: InputError for a missing or damaged file, an unknown key, weights that don't fit (how many, which first).
    """
    folder = Path(folder)
    card = _read_card(folder)
    path = folder / str(card["weights"])
    if path.parent.resolve() != folder.resolve() or not path.is_file():
        raise InputError(f"{folder / CARD_FILE}: the weights '{card['weights']}' are no file of that folder")
    if path.stat().st_size > LARGEST_BYTES:
        raise InputError(f"{path}: larger than 2 GiB; this is no backbone that is known here")
    card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    crop = CropOptions("3d" if card["dimensions"] == 3 else "2.5d", float(card["side_mm"]), int(card["pixels"]),
                       None if card["window"] is None else tuple(card["window"]))
    network = _build(card)
    _fill(network, _read_weights(path), str(card["prefix"]), path)
    return Backbone(card, crop, network.eval())


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / CARD_FILE
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); a backbone's folder holds this card and its "
                         "weights") from None
    except ValueError as error:
        raise InputError(f"{path}: is no JSON ({error})") from None
    if not isinstance(card, dict) or any(key not in card for key in NEEDED):
        raise InputError(f"{path}: must name {', '.join(NEEDED)}")
    unknown = sorted(set(card) - CARD_KEYS)
    if unknown:
        raise InputError(f"{path}: unknown key '{unknown[0]}'; there are {', '.join(sorted(CARD_KEYS))}")
    if card["architecture"] not in ARCHITECTURES:
        raise InputError(f"{path}: architecture '{card['architecture']}' is none of {', '.join(ARCHITECTURES)}")
    if card["dimensions"] not in (2, 3):
        raise InputError(f"{path}: dimensions must be 2 or 3, not {card['dimensions']!r}")
    return {"channels": 1, "source": "", "prefix": "", "shortcut": "B", "pixels": 64, "side_mm": 64.0, "window": None,
            "scale": 1.0, **card}


def _build(card: dict[str, Any]):
    try:
        import torch
        from monai.networks.nets import densenet, resnet
    except ImportError:
        raise MissingPackageError("backbones need torch and MONAI: pip install torch monai") from None
    dimensions, channels = int(card["dimensions"]), int(card["channels"])
    if card["architecture"] == "densenet121":
        network = densenet.DenseNet121(spatial_dims=dimensions, in_channels=channels, out_channels=2)
        network.class_layers.out = torch.nn.Identity()
        return network
    make = getattr(resnet, card["architecture"])
    return make(spatial_dims=dimensions, n_input_channels=channels, feed_forward=False,
                shortcut_type=card["shortcut"], bias_downsample=False)


def _read_weights(path: Path) -> dict[str, Any]:
    import torch

    if path.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError:
            raise MissingPackageError("this backbone needs safetensors: pip install safetensors") from None
        return dict(load_file(path))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several kinds for what is no state dict
        raise InputError(f"{path}: is no plain state dict ({str(error).splitlines()[0][:120]}); files that need "
                         "code to be read are not opened") from None
    for key in ("state_dict", "model", "net"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path}: holds no state dict")
    return state


def _fill(network, state: dict[str, Any], prefix: str, path: Path) -> None:
    """Put the weights in. Raises InputError where too few fit, or some have another shape."""
    given = {name.removeprefix(prefix): value for name, value in state.items()}
    wanted = network.state_dict()
    counted = {name for name in wanted if not name.endswith("num_batches_tracked")}
    wrong = [name for name in counted & set(given) if given[name].shape != wanted[name].shape]
    if wrong:
        name = min(wrong)
        raise InputError(f"{path}: {name} has the shape {tuple(given[name].shape)}, {tuple(wanted[name].shape)} is "
                         "needed; check dimensions, channels and shortcut in backbone.json")
    found = counted & set(given)
    if len(found) < LEAST_SHARE * len(counted):
        missing, extra = min(counted - found), min(set(given) - counted, default="nothing else")
        raise InputError(f"{path}: holds {len(found)} of {len(counted)} weights of this architecture ({missing} is "
                         f"missing, there is {extra}); check architecture and prefix in backbone.json")
    network.load_state_dict({**wanted, **{name: given[name] for name in found}})
