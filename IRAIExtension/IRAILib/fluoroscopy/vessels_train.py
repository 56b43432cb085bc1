"""Trains the vessel network; the command is `python -m IRAILib.fluoroscopy.vessels_train_command`.

The weights that come with IRAI were trained on 30 of the 40 coronary angiograms (300 x 300, hand-drawn masks) of
the data set `Coronary` of F. Cervantes-Sanchez and colleagues (github.com/fercer/Coronary, BSD-3-Clause; Automatic
Segmentation of Coronary Arteries in X-ray Angiograms using Multiscale Analysis and Artificial Neural Networks, Applied
Sciences 2019); the other ten are those of `--fold 0`. Frames of one heart stay on one side.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import CancelledError, InputError, MissingPackageError
from ..weights.torch_state import torch_kept
from .vessels_frangi import FOR_NETWORK, ridges
from .vessels_work import channels, make_work

_log = logging.getLogger("IRAI.fluoroscopy.vessels_train")
SAME_HEART = (("2", "3"), ("5", "6"), ("9", "12"), ("14", "15"), ("19", "20"), ("36", "40"))
"""Names in the `Coronary` data set of frames that show one heart twice, as seen by eye."""
WIDTHS = (48, 64, 96, 96)
MULTIPLE = 16
PART_PX, STEPS, BATCH, PEAK_RATE, DECAY, WARM_STEPS, KEEP_SHARE = 192, 1600, 4, 3e-3, 1e-2, 60, 0.995
MAX_BYTES = 2_000_000
VALIDATED_ON = "10 coronary angiograms of the Coronary data set that it was not trained on; masks drawn by hand"
LIMITS = (
    "Trained on 30 coronary angiograms of 300 x 300 pixels from one source; other vessels and systems are unseen.",
    "A catheter or wire filled with contrast is at times marked as a vessel.",
    "Thin vessels, and vessels across the diaphragm's edge, may be missed; the drawn masks leave small branches out.",
    "Research software, not a medical device.",
)
RARE = -2.5
"""Logit to begin with: few pixels are vessel."""


@dataclass(frozen=True)
class Pair:
    """`name`; `channels` (3, h, w) float32 of `vessels_work.channels`; `truth` and `field` (h, w) bool."""

    name: str
    channels: np.ndarray
    truth: np.ndarray
    field: np.ndarray


def read_grey(path: Path) -> np.ndarray:
    """(rows, columns) of a grey picture file. Raises InputError."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise InputError(f"{path}: can't be read as a picture ({error})") from None


def read_frames(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name: (frame (rows, columns) uint8, truth bool) of NAME.png with NAME_gt.png beside it, in order of the names.

    Raises: InputError for a folder without pairs, or a mask of another size.
    """
    found = {}
    for path in sorted(folder.glob("*_gt.png"), key=lambda p: (len(p.name), p.name)):
        name = path.name[:-len("_gt.png")]
        frame, mask = read_grey(path.with_name(f"{name}.png")), read_grey(path)
        if frame.shape != mask.shape:
            raise InputError(f"{path}: its size {mask.shape} differs from its picture's {frame.shape}")
        found[name] = frame, mask > 127
    if not found:
        raise InputError(f"{folder}: holds no pairs NAME.png with NAME_gt.png")
    return found


def make_pair(name: str, frame: np.ndarray, truth: np.ndarray) -> Pair:
    """What the network sees of a frame, with its truth; frames of other sizes keep their size."""
    work = make_work(frame, polarity="dark", work_px=None)
    return Pair(name, channels(work, ridges(work, FOR_NETWORK)), truth, work.field)


def draw_fold(names: Sequence[str], fold: int, *, test: int = 10, together: Sequence[Sequence[str]] = SAME_HEART
              ) -> tuple[list[str], list[str]]:
    """(train, test) names: a random split with the fold's number as its seed, groups of `together` undivided.

    Raises InputError when there are not more names than `test`.
    """
    if not 0 < test < len(names):
        raise InputError(f"{len(names)} frames can't be split with {test} for the test")
    groups = [[n for n in group if n in names] for group in together]
    single = [[n] for n in names if not any(n in group for group in groups)]
    all_groups = [g for g in groups if g] + single
    rng, chosen = np.random.default_rng([2026, fold]), []
    for index in rng.permutation(len(all_groups)):
        if len(chosen) + len(all_groups[index]) <= test:
            chosen += all_groups[index]
    return [n for n in names if n not in chosen], [n for n in names if n in chosen]


def build(widths: Sequence[int] = WIDTHS) -> Any:
    """A torch module: U-Net, (n, 3, h, w) float32 with sides in multiples of MULTIPLE to (n, 1, h, w) logits.

    Its widest level works on 2 x 2 pixels at a time, which costs a processor half as much as one at every pixel.
    Source: Ronneberger, Fischer, Brox, U-Net, MICCAI 2015; Shi and colleagues, Sub-pixel convolution, CVPR 2016.
    Raises MissingPackageError without torch.
    """
    try:
        import torch
        from torch import nn
    except ImportError:
        raise MissingPackageError("training the vessel network needs torch: pip install torch") from None

    def double(before: int, after: int):
        layers = []
        for a in (before, after):
            layers += [nn.Conv2d(a, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.ModuleList(double(a, b) for a, b in zip((12, *widths[:-1]), widths, strict=True))
            pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
            self.fewer = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairs)
            self.up = nn.ModuleList(double(2 * b, b) for _, b in pairs)
            self.last = nn.Conv2d(widths[0], 4, 1)

        def forward(self, values):
            values, kept = nn.functional.pixel_unshuffle(values, 2), []
            for number, layer in enumerate(self.down):
                values = layer(values if number == 0 else nn.functional.max_pool2d(values, 2))
                kept.append(values)
            kept.pop()
            for fewer, layer in zip(self.fewer, self.up, strict=True):
                values = nn.functional.interpolate(fewer(values), scale_factor=2.0, mode="bilinear",
                                                   align_corners=False)
                values = layer(torch.cat([values, kept.pop()], 1))
            return nn.functional.pixel_shuffle(self.last(values), 2)

    net = Net()
    assert net.last.bias is not None
    nn.init.constant_(net.last.bias, RARE)
    return net


def warp_grid(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """(PART_PX, PART_PX, 2) float32 places (x, y in -1 to 1 of a frame of `shape`): turned, scaled, flipped, bent."""
    import torch

    angle = rng.uniform(-np.pi, np.pi) if rng.random() < 0.3 else rng.normal(0.0, 0.45)
    zoom = math.exp(rng.uniform(-0.4, 0.35)) * np.exp(rng.normal(0.0, 0.08, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * zoom
    if rng.random() < 0.5:
        turn = turn @ np.diag([-1.0, 1.0])
    steps = np.arange(PART_PX) - (PART_PX - 1) / 2.0
    places = np.stack(np.meshgrid(steps, steps), -1) @ turn.T
    if rng.random() < 0.6:
        coarse = rng.normal(0.0, rng.uniform(0.0, 5.0), (2, 7, 7))
        fine = torch.nn.functional.interpolate(torch.from_numpy(coarse)[None], size=(PART_PX, PART_PX),
                                               mode="bicubic", align_corners=False)
        places = places + fine[0].permute(1, 2, 0).numpy()
    room = np.array([shape[1], shape[0]], float)
    reach = np.maximum(0.5 * room - 0.35 * PART_PX, 8.0)
    places = places + rng.uniform(-reach, reach)
    return (2.0 * places / (room - 1.0)).astype(np.float32)


def part_of(pair: Pair, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """(channels (3, PART_PX, PART_PX), truth (1, ...) 0 to 1, field (1, ...)) of a random part, its greys changed."""
    import torch

    stack = np.concatenate([pair.channels, pair.truth[None], pair.field[None]]).astype(np.float32)
    grid = torch.from_numpy(warp_grid(rng, pair.truth.shape))[None]
    cut = torch.nn.functional.grid_sample(torch.from_numpy(stack)[None], grid, mode="bilinear",
                                          padding_mode="reflection", align_corners=True)[0]
    values, truth, field = cut[:3], cut[3:4], cut[4:5]
    level = values[0] * math.exp(rng.normal(0.0, 0.25))
    if rng.random() < 0.5:
        noise = torch.from_numpy(rng.normal(0.0, rng.uniform(0.0, 0.25), level.shape).astype(np.float32))
        if rng.random() < 0.5:
            noise = 2.0 * torch.nn.functional.avg_pool2d(noise[None], 3, 1, 1)[0]
        level = level + noise
    ridge = values[1] * math.exp(rng.normal(0.0, 0.2))
    coarse = values[2] * math.exp(rng.normal(0.0, 0.2)) + rng.normal(0.0, 0.3)
    if rng.random() < 0.15:
        ridge = torch.zeros_like(ridge)
    return torch.stack([level, ridge, coarse]) * (field[0] > 0.5), truth, (field > 0.5).float()


def loss_of(logits: Any, truth: Any, field: Any) -> Any:
    """Cross entropy and overlap (Dice) inside the field."""
    import torch

    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth, weight=field, reduction="sum")
    p = torch.sigmoid(logits) * field
    overlap = 1.0 - (2.0 * (p * truth).sum() + 1.0) / ((p + truth * field).sum() + 1.0)
    return entropy / (field.sum() + 1.0) + overlap


def train(pairs: Sequence[Pair], *, steps: int = STEPS, seed: int = 0, threads: int = 1, bfloat16: bool = False,
          keep: Path | None = None, start: Path | None = None, widths: Sequence[int] = WIDTHS,
          progress: Callable[[float, str], None] | None = None, cancelled: Callable[[], bool] | None = None
          ) -> tuple[Any, dict[str, Any]]:
    """(network whose weights are the running mean of the last steps, what was done).

    Args: keep, a file that gets the weights at the end; start, such a file of an earlier run; bfloat16, on processors
    that have it. Raises: InputError without pairs, MissingPackageError without torch, CancelledError.
    """
    if not pairs:
        raise InputError("there are no pairs to train on")
    with torch_kept():
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(seed)
        rng, net = np.random.default_rng([seed, 7]), build(widths)
        if start is not None:
            net.load_state_dict(torch.load(start, weights_only=True))
        net = net.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        mean = {key: value.detach().clone() for key, value in net.state_dict().items()}
        optimiser = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=DECAY)
        running = float("nan")
        for step in range(steps):
            if cancelled is not None and cancelled():
                raise CancelledError("the training was cancelled")
            rate = PEAK_RATE * min(1.0, (step + 1) / WARM_STEPS) * (0.01 + 0.99 * 0.5 * (1 + math.cos(
                math.pi * step / steps)))
            for group in optimiser.param_groups:
                group["lr"] = rate
            parts = [part_of(pairs[int(rng.integers(len(pairs)))], rng) for _ in range(BATCH)]
            values, truth, field = (torch.stack([p[n] for p in parts]) for n in range(3))
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = net(values.to(memory_format=torch.channels_last))
            loss = loss_of(logits.float(), truth, field)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
            optimiser.step()
            share = min(KEEP_SHARE, (step + 1.0) / (step + 20.0))
            with torch.no_grad():
                for key, value in net.state_dict().items():
                    if value.dtype.is_floating_point:
                        mean[key].lerp_(value, 1.0 - share)
                    else:
                        mean[key].copy_(value)
            now = float(loss.detach())
            running = now if step == 0 else 0.98 * running + 0.02 * now
            if progress is not None and (step + 1) % 25 == 0:
                progress((step + 1) / steps, f"step {step + 1}, loss {running:.3f}")
        net.load_state_dict(mean)
        net.eval()
        if keep is not None:
            torch.save(net.state_dict(), keep)
    return net, {"steps": steps, "batch": BATCH, "part_px": PART_PX, "seed": seed, "pairs": [p.name for p in pairs],
                 "loss": round(running, 4)}


def write_onnx(net: Any, path: Path, *, half: bool = False) -> None:
    """The torch module to an ONNX file; `half` keeps the weights in 16 bits. Raises MissingPackageError, InputError."""
    import torch

    names = {0: "n", 2: "rows", 3: "columns"}
    try:
        import onnx

        torch.onnx.export(net.float().cpu().eval(), (torch.zeros(1, 3, 64, 64),), str(path), input_names=["frame"],
                          output_names=["logits"], dynamic_axes={"frame": names, "logits": names}, opset_version=17,
                          dynamo=False)
    except ImportError as error:
        raise MissingPackageError(f"writing the network needs onnx: pip install onnx ({error})") from None
    if half:
        model = onnx.load(str(path))
        _halve(model, onnx)
        onnx.save(model, str(path))
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes; at most {MAX_BYTES} are kept in the repository")


def _halve(model: Any, onnx: Any) -> None:
    """Weights of over a thousand numbers are kept as float16 and widened when the file is loaded."""
    from onnx import numpy_helper

    for tensor in list(model.graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size > 1000:
            name = tensor.name
            model.graph.initializer.remove(tensor)
            model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
            widen = onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT)
            model.graph.node.insert(0, widen)


def write_card(path: Path, *, operation: dict[str, float], training: dict[str, Any], test: dict[str, Any]
               ) -> dict[str, Any]:
    """The card of the ONNX file `path`, written beside it as JSON; gives what was written."""
    card = {
        "name": "vessels in X-ray angiograms", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": "Apache-2.0; the training frames are BSD-3-Clause (Coronary, github.com/fercer/Coronary, "
                   "F. Cervantes-Sanchez and colleagues)",
        "input": "frame (n, 3, rows, columns) float32 of vessels_work.channels at 300 px of the shorter side; sides "
                 f"multiples of {MULTIPLE}",
        "output": "logits (n, 1, rows, columns) of vessel",
        "intended_use": "vessel masks, centrelines and diameters in angiograms, for research and teaching",
        "limits": list(LIMITS), "validated_on": VALIDATED_ON, "operation": operation, "test": test,
        "training": training,
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    return card
