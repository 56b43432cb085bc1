"""Writes the trained network as ONNX with its card beside it."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ....geometry import InputError
from ..features import CANVAS, STACK
from ..simulator_domain import DOMAINS, SIMULATOR_VERSION
from ..simulator_visibility import (
    LEAST_D,
    LEAST_FRACTION,
    LEAST_GREY,
    LEAST_LENGTH_PX,
    STRETCH_PX,
    TIP_PART,
    TIP_PX,
)

MAX_BYTES = 5_000_000
LIMITS = (
    "Trained and calibrated on simulated B-mode pictures only; the covariance was checked on simulation.",
    "One needle at a time, seen along its length; a needle across the plane is not looked for.",
    "A straight bright strand that ends inside tissue looks like a needle and may be taken for one.",
    "The probe's side is taken to be the picture's top: a needle doesn't rise towards its tip.",
    "Where the tip is not visible the position given is where the visible shaft ends.",
    "The line is the needle's upper (leading) echo, not its axis.",
    "Research software, not a medical device.",
)

RULE = (
    f"A needle is counted when an observer can see it in the picture on the canvas: pieces of shaft of {STRETCH_PX} px "
    f"with a line contrast of at least {LEAST_GREY:g} grey levels and {LEAST_D:g} times the spread of the same filter "
    "beside them in the same picture without the needle (d'), in all at least "
    f"{LEAST_LENGTH_PX:g} px and {LEAST_FRACTION:.0%} of the shaft, {TIP_PART:.0%} of the last {TIP_PX} px before the "
    f"tip among them, which are {LEAST_GREY:g} grey levels brighter than what follows; tip in picture and plane. "
    "Frames with a needle for which this can't be said are 'unclear': neither right nor wrong, told apart."
)


def write_onnx(net: Any, path: Path) -> None:
    """The torch module `net` to an ONNX file. Raises: MissingPackageError without onnx, InputError over 5 MB."""
    import torch

    from ....geometry import MissingPackageError

    net = net.cpu().eval()
    example = torch.zeros(1, STACK, CANVAS[1], CANVAS[0])
    try:
        torch.onnx.export(net, (example,), str(path), input_names=["frames"], output_names=["maps", "scalars"],
                          opset_version=17, dynamo=False)
    except ImportError as error:
        raise MissingPackageError(f"writing the network needs onnx: pip install onnx ({error})") from None
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes; at most {MAX_BYTES} are kept in the repository")


def write_int8(path: Path, frames: np.ndarray) -> None:
    """The ONNX file at `path` with its inner convolutions in 8 bits: a third faster and smaller on one core.

    Args: frames: (n, 3, 192, 256) uint8 that show the range of every layer, none of those that are reported. The
        first convolution and the last three stay in 32 bits. Weights take 7 bits, so that processors that add pairs
        of products in 16 bits don't overflow.
    Raises: MissingPackageError without onnxruntime or onnx.
    """
    from ....geometry import MissingPackageError

    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise MissingPackageError(f"8-bit weights need onnx and onnxruntime: pip install onnx onnxruntime ({error})"
                                  ) from None

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.waiting = iter(frames)

        def get_next(self) -> Any:
            frame = next(self.waiting, None)
            return None if frame is None else {"frames": frame[None].astype(np.float32) / 255}

    with tempfile.TemporaryDirectory(prefix="irai-needle-") as scratch:
        prepared = str(Path(scratch) / "prepared.onnx")
        quant_pre_process(str(path), prepared)
        names = [node.name for node in onnx.load(prepared).graph.node if node.op_type == "Conv"]
        quantize_static(prepared, str(path), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                        reduce_range=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                        op_types_to_quantize=["Conv"], nodes_to_exclude=[names[0], *names[-3:]])


def write_card(path: Path, *, operation: dict[str, float], held_out: dict[str, Any], training: dict[str, Any],
               seed: int) -> dict[str, Any]:
    """The card of the ONNX file `path`, written beside it as JSON; gives what was written."""
    card = {
        "name": "needle in 2D ultrasound",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": "Apache-2.0",
        "input": f"frames (1, {STACK}, {CANVAS[1]}, {CANVAS[0]}) float32 0..1, newest last, proportions kept, centred",
        "output": "maps (1, 2, 96, 128): logits of tip and shaft; scalars (1, 6): logits of a visible needle, of a tip "
                  "in the plane and of the visible fraction; logarithms of the tip's sigma along and across (map "
                  "pixels) and of the angle's (not used)",
        "intended_use": "finding one needle along its length in live 2D ultrasound, for research and teaching",
        "limits": list(LIMITS),
        "validated_on": "simulation",
        "operation": operation,
        "held_out_simulator": held_out,
        "rule": RULE,
        "simulator": {"version": SIMULATOR_VERSION, "train": _plain("train"), "held_out": _plain("held-out")},
        "training": training | {"seed": seed},
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    return card


def _plain(domain: str) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(DOMAINS[domain]).items()}
