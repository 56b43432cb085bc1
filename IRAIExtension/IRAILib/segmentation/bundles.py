"""MONAI bundles and nnU-Net v2 (TotalSegmentator) models from a local folder, offline."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import CancelledError, InputError, Mask, MissingPackageError, RefusedError, Volume
from .bundle_config import TRUST_HINT, InferencePlan, inference_plan, read_config, trusted_network
from .card import BundleCard, read_card
from .orient import network_grid, resample_to_the_edge

Progress = Callable[[float, str], None]
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
STATE_KEYS = ("state_dict", "model", "model_state_dict", "network_weights", "network", "net")


@dataclass(frozen=True, eq=False)
class BundleResult:
    """Labels on the grid of the input, and whose they are.

    Attributes:
        labels: volume of uint8 or uint16, 0 background, others named in `card.labels`.
        validated_on: what the model itself states; nothing was checked here.
    """

    labels: Volume
    card: BundleCard
    validated_on: str

    def names(self) -> dict[int, str]:
        """Value to name of every label that occurs; one that the card doesn't name is "label N"."""
        return {int(n): self.card.labels.get(int(n), f"label {n}") for n in np.unique(self.labels.array) if n}

    def mask(self, label: int | str) -> Mask:
        """One label as a mask, by value or name (case does not matter). Raises InputError."""
        by_name = {name.lower(): value for value, name in {**self.card.labels, **self.names()}.items()}
        value = by_name.get(label.lower()) if isinstance(label, str) else label
        if value is None:
            raise InputError(f"{self.card.name}: has no label {label!r}; it has {', '.join(sorted(by_name)) or 'none'}")
        return Mask(self.labels.array == value, self.labels.grid, str(label), self.labels.frame_of_reference)

    def to_dict(self) -> dict:
        return {"card": self.card.to_dict(), "labels": {str(k): v for k, v in self.names().items()},
                "validated_on": self.validated_on}


def segment_bundle(volume: Volume, folder: str | Path, *, trust: bool = False, device: str = "cpu",
                   progress: Progress | None = None, cancelled: Callable[[], bool] | None = None) -> BundleResult:
    """Run a model from a local folder on an image.

    Args:
        volume: single-channel image, any orientation, oblique or not.
        folder: top folder of a MONAI bundle, or of an nnU-Net v2 model (plans.json, dataset.json, fold_0).
        trust: True lets the folder run its own code (`$` expressions, own classes, TorchScript, pickles): only
            for models from people whose programs you would run. False reads it as data, and refuses what can't be.
        device: torch device. progress, cancelled: asked at every window of the sliding window.
    Returns: labels on exactly the grid of `volume`.
    Raises: InputError (missing or damaged files), RefusedError (would run code), MissingPackageError, CancelledError.
    """
    card = read_card(folder)
    if card.kind == "nnU-Net v2":
        from .nnunet import run_nnunet

        labels = run_nnunet(volume, card, trust=trust, device=device, progress=progress, cancelled=cancelled)
    else:
        labels = _run_monai(volume, card, trust, device, _Watch(progress, cancelled))
    return BundleResult(labels, card, f"as its authors state: {card.training_data}; not checked by IRAI")


class _Watch:
    """Progress and cancel in one, counted in windows."""

    def __init__(self, progress: Progress | None, cancelled: Callable[[], bool] | None) -> None:
        self.progress, self.cancelled = progress, cancelled
        self.done, self.total = 0, 1

    def tell(self, fraction: float, text: str) -> None:
        if self.cancelled is not None and self.cancelled():
            raise CancelledError("the segmentation was cancelled")
        if self.progress is not None:
            self.progress(min(1.0, fraction), text)


@contextmanager
def offline():
    """Hub clients stay off the network for the time of the block; the environment is put back."""
    before = {key: os.environ.get(key) for key in OFFLINE}
    os.environ.update(OFFLINE)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _run_monai(volume: Volume, card: BundleCard, trust: bool, device: str, watch: _Watch) -> Volume:
    try:
        import monai  # noqa: F401
        import torch
    except ImportError as error:
        raise MissingPackageError('a MONAI bundle needs torch and monai: pip install "irai[torch]"') from error
    if volume.array.size == 0 or not np.isfinite(volume.array).all():
        raise InputError(f"{volume.name or 'image'}: is empty or holds values that are no numbers; repair it first")
    watch.tell(0.0, f"Reading {card.name}")
    config = read_config(card.folder)
    plan = _trusted_plan(card, config) if trust else inference_plan(card.folder, config)
    with offline(), torch.inference_mode():
        network = _loaded_network(card, config, plan, trust).to(device).eval()
        watch.tell(0.1, "Resampling")
        grid = network_grid(volume.grid, plan.orientation, plan.spacing_mm)
        image = resample_to_the_edge(volume, grid)
        tensor = torch.from_numpy(np.ascontiguousarray(image.array.transpose(2, 1, 0)))[None]
        tensor = _intensities(tensor, plan, card)[None]
        logits = _slide(network, tensor, plan, device, watch, card)
    watch.tell(0.95, "Back to the image's grid")
    return _labels_on(volume, logits, image, plan)


def _trusted_plan(card: BundleCard, config: dict[str, Any]) -> InferencePlan:
    """The plan with the network left to MONAI's parser; the rest is still read as data where it can be."""
    stand_in = {"_target_": "UNet"}
    plain = {**config, "network_def": stand_in}
    try:
        return inference_plan(card.folder, plain)
    except RefusedError:
        from monai.bundle.config_parser import ConfigParser

        parser = ConfigParser({**config, "bundle_root": str(card.folder)})

        def evaluated(value: Any, name: str) -> Any:
            if isinstance(value, dict):
                return {key: evaluated(item, f"{name}#{key}" if name else key) for key, item in value.items()}
            if isinstance(value, list):
                return [evaluated(item, f"{name}#{n}") for n, item in enumerate(value)]
            runs = isinstance(value, str) and value.startswith("$")
            return parser.get_parsed_content(name) if runs else value

        sections = {key: plain[key] for key in ("preprocessing", "inferer") if key in plain}
        try:
            return inference_plan(card.folder, {**plain, **evaluated(sections, "")})
        except RefusedError:
            raise
        except Exception as error:
            raise InputError(f"{card.folder}: an expression of the configuration failed ({error})") from error


def _loaded_network(card: BundleCard, config: dict[str, Any], plan: InferencePlan, trust: bool):
    """The network with its weights. Source of the rule on weights: torch.load's own documentation on pickles."""
    import torch
    from monai.networks import nets

    weights, script = card.folder / "models" / "model.pt", card.folder / "models" / "model.ts"
    if not weights.is_file():
        if not script.is_file():
            raise InputError(f"{weights}: not found; the bundle is incomplete, download it again")
        if not trust:
            raise RefusedError(f"{script}: TorchScript is a program, not only weights; {TRUST_HINT}")
        return _read_script(script)
    if trust:
        network = trusted_network(card.folder, config)
    else:
        name, arguments = plan.network
        kind = getattr(nets, name, None)
        if not (isinstance(kind, type) and issubclass(kind, torch.nn.Module)):
            raise InputError(f"{card.folder}: MONAI has no network {name!r}; it may need another version of MONAI")
        try:
            network = kind(**arguments)
        except Exception as error:
            raise InputError(f"{card.folder}: the network {name} refuses its arguments "
                             f"({_first_line(error)}); it may need another version of MONAI") from error
    state = _read_weights(weights)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(f"{weights}: its weights don't fit the network of the configuration "
                         f"({_first_line(error, 2)})") from error
    return network


def _read_weights(path: Path) -> dict[str, Any]:
    """A state dict, read without running pickles. Raises InputError, RefusedError."""
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights only" in str(error).lower() or "unsupported" in str(error).lower():
            raise RefusedError(f"{path}: holds more than weights, which could run code when read; not loaded. "
                               "Ask for a file saved from state_dict()") from error
        raise InputError(f"{path}: is damaged ({_first_line(error)}); download the bundle again") from error
    except Exception as error:
        raise InputError(f"{path}: is damaged ({_first_line(error)}); download the bundle again") from error
    for key in STATE_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: holds no weights (state_dict); download the bundle again")
    return {key.removeprefix("module."): value for key, value in content.items()}


def _read_script(path: Path):
    import torch

    try:
        return torch.jit.load(str(path), map_location="cpu")
    except Exception as error:
        raise InputError(f"{path}: is damaged ({_first_line(error)}); download the bundle again") from error


def _first_line(error: Exception, lines: int = 1) -> str:
    return " ".join(str(error).split("\n")[:lines])[:160].strip() or type(error).__name__


def _intensities(tensor, plan: InferencePlan, card: BundleCard):
    """(1, i, j, k) through the plan's intensity transforms."""
    from monai import transforms

    for name, arguments in plan.intensity:
        try:
            tensor = getattr(transforms, name)(**arguments)(tensor)
        except Exception as error:
            raise InputError(f"{card.folder}: preprocessing step {name} failed ({_first_line(error)})") from error
    return tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor


def _slide(network, tensor, plan: InferencePlan, device: str, watch: _Watch, card: BundleCard) -> np.ndarray:
    """(channels, i, j, k) float32 logits."""
    from monai.inferers.utils import sliding_window_inference

    roi = [max(1, r) for r in plan.roi_size]
    windows = [int(np.ceil(max(0, n - r) / max(1, int(r * (1.0 - plan.overlap))))) + 1
               for n, r in zip(tensor.shape[2:], roi, strict=True)]
    watch.total = max(1, int(np.prod(windows) // plan.batch))

    def predict(window):
        watch.tell(0.1 + 0.85 * min(1.0, watch.done / watch.total), "Segmenting")
        watch.done += 1
        out = network(window.to(device))
        out = out[0] if isinstance(out, (tuple, list)) else out
        return out.cpu().float()

    try:
        out = sliding_window_inference(tensor.float(), roi, plan.batch, predict, overlap=plan.overlap, mode=plan.mode)
    except CancelledError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"{card.folder}: the network could not be run on this image ({_first_line(error)}); "
                         "does it expect one channel and this window size?") from error
    return np.asarray(out[0])  # type: ignore[index]


def _labels_on(volume: Volume, logits: np.ndarray, image: Volume, plan: InferencePlan) -> Volume:
    """Every channel interpolated to the input's grid, and only then compared: no stairs, no half-voxel shift."""
    separate = plan.sigmoid if plan.sigmoid is not None else len(logits) == 1
    best = np.zeros(volume.array.shape, np.float32) if separate else None
    labels = np.zeros(volume.array.shape, np.uint8 if len(logits) < 255 else np.uint16)
    for channel, values in enumerate(logits):
        part = Volume(np.ascontiguousarray(values.transpose(2, 1, 0)), image.grid)
        back = resample_to_the_edge(part, volume.grid).array
        if best is None:
            best = back.copy()
            continue
        better = back > best
        labels[better] = channel + 1 if separate else channel
        best[better] = back[better]
    return replace(volume, array=labels, name=f"{volume.name} labels".strip())
