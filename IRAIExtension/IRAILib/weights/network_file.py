"""A network as it is shipped: an ONNX file with its card (JSON) beside it, run by onnxruntime on the CPU."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..geometry import InputError, MissingPackageError


def read_card(path: Path, what: str, command: str, check: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The card beside the weights.

    Args: what: "the needle network", for the message. command: which makes the weights. check: reads what the card must
        hold; its ValueError, KeyError or TypeError means a damaged card.
    Raises: InputError when a file is missing, the card is damaged, or describes other weights (SHA-256).
    """
    card_path = path.with_suffix(".json")
    for needed in (path, card_path):
        if not needed.is_file():
            raise InputError(f"{what}'s file {needed} is missing; make it with: {command}")
    try:
        card = json.loads(card_path.read_text("utf-8"))
        digest = card["sha256"]
        check(card)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{what}'s card {card_path} is damaged ({error})") from None
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise InputError(f"{path} is not the file that its card {card_path.name} describes: the checksum differs")
    return card


def require_onnxruntime(what: str, instead: str = "") -> Any:
    """The module onnxruntime. Raises MissingPackageError, with `instead` as another way."""
    try:
        import onnxruntime
    except ImportError:
        other = f" ({instead})" if instead else ""
        raise MissingPackageError(f"{what} needs onnxruntime: pip install onnxruntime{other}") from None
    return onnxruntime


def open_session(path: Path, what: str, threads: int) -> Any:
    """An InferenceSession on so many threads of the CPU, none of which spins while it waits.

    Raises: MissingPackageError without onnxruntime, InputError for a file that it can't load.
    """
    onnxruntime = require_onnxruntime(what)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own kinds, without a common base
        raise InputError(f"{what} {path} can't be loaded: {str(error).splitlines()[0]}") from None
