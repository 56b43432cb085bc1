"""Writes the trained network as ONNX with its card beside it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ....geometry import InputError, MissingPackageError

MAX_BYTES = 1_000_000
LIMITS = (
    "Trained and tested on voids computed from a needle's field and painted into real MR; no real needle MR was seen.",
    "It marks the shaft; the tip and the direction come from the void model.",
    "Voids shorter than about 25 mm, in tissue darker than a third of its surroundings, or beside air may be missed.",
    "Trained on few scans: heads, a thigh and a liver's diffusion map.",
    "Research software, not a medical device.",
)


def write_onnx(net: Any, path: Path) -> None:
    """The torch module `net` to an ONNX file. Raises: MissingPackageError without onnx, InputError over 1 MB."""
    import torch

    names = {2: "k", 3: "j", 4: "i"}
    try:
        torch.onnx.export(net.cpu().eval(), (torch.zeros(1, 2, 16, 16, 16),), str(path), input_names=["cells"],
                          output_names=["logits"], dynamic_axes={"cells": names, "logits": names}, opset_version=17,
                          dynamo=False)
    except ImportError as error:
        raise MissingPackageError(f"writing the network needs onnx: pip install onnx ({error})") from None
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes; at most {MAX_BYTES} are kept in the repository")


def write_card(path: Path, *, operation: dict[str, float], calibration: dict[str, Any],
               training: dict[str, Any]) -> dict[str, Any]:
    """The card of the ONNX file `path`, written beside it as JSON; gives what was written."""
    card = {
        "name": "needle voids in MR",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": "Apache-2.0",
        "input": "cells (1, 2, K, J, I) float32: mean and least of the voxels of cells of about 2 mm in parts of the "
                 "tissue round them, less 1; K, J, I multiples of 4",
        "output": "logits (1, 1, K, J, I) of a needle's shaft in the cell",
        "intended_use": "proposing and judging needle voids in MR volumes, for research and teaching",
        "limits": list(LIMITS),
        "validated_on": "voids painted into real MR",
        "operation": operation,
        "calibration": calibration,
        "training": training,
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    return card
