"""What every figure of this package checks first, and how it says that it can't be given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ....geometry import InputError, RefusedError


class NotEstimableError(RefusedError):
    """The figure has no value on these data (one class only, no event, horizon past follow-up); the text says why."""


class Metrics(dict[str, float]):
    """Figures that have a value, by name; `not_estimable` says why the others have none.

    Never holds NaN: `metrics["auc"]` raises NotEstimableError with the reason where there is no value, `.get("auc")`
    gives None.
    """

    def __init__(self, values: Mapping[str, float] | None = None, not_estimable: Mapping[str, str] | None = None):
        super().__init__(values or {})
        self.not_estimable: dict[str, str] = dict(not_estimable or {})

    def __missing__(self, name: str) -> float:
        if name in self.not_estimable:
            raise NotEstimableError(f"{name}: not estimable: {self.not_estimable[name]}")
        raise KeyError(name)

    def put(self, name: str, function: Any, *arguments: Any, **named: Any) -> None:
        """Stores what `function` gives under `name`, or the reason why it gives nothing."""
        try:
            value = float(function(*arguments, **named))
        except NotEstimableError as error:
            self.not_estimable[name] = str(error)
            return
        if math.isfinite(value):
            self[name] = value
        else:
            self.not_estimable[name] = "the formula divides by zero on these data"

    def to_dict(self) -> dict[str, Any]:
        """{"values": name to number or None, "not_estimable": name to reason}, ready for JSON."""
        return {"values": {**dict(self), **dict.fromkeys(self.not_estimable)},
                "not_estimable": dict(self.not_estimable)}


def plain(value: Any) -> Any:
    """JSON-ready copy: arrays to lists, numpy numbers to Python's, NaN and infinity to None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def numbers(values: Any, name: str, *, n: int | None = None, ndim: int = 1) -> np.ndarray:
    """Finite float array of the given dimension and length. Raises: InputError naming `name`."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"{name}: not numbers") from None
    if array.ndim != ndim:
        raise InputError(f"{name}: an array of {ndim} dimension(s) is needed, not of shape {array.shape}")
    if n is not None and len(array) != n:
        raise InputError(f"{name}: {len(array)} rows, {n} expected")
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise InputError(f"{name}: {bad} value(s) are missing or infinite; evaluate only rows with a prediction")
    return array


def truths(values: Any, name: str = "truth", n: int | None = None) -> np.ndarray:
    """Boolean array (n,) from 0/1 or bool. Raises: InputError on anything else."""
    array = numbers(values, name, n=n)
    if not ((array == 0) | (array == 1)).all():
        raise InputError(f"{name}: only 0 and 1 are allowed")
    return array.astype(bool)


def probabilities(values: Any, name: str = "probability", n: int | None = None, ndim: int = 1) -> np.ndarray:
    """Finite array of numbers in 0..1 (a rounding of 1e-9 beyond is clipped). Raises: InputError."""
    array = numbers(values, name, n=n, ndim=ndim)
    if array.size and (array.min() < -1e-9 or array.max() > 1 + 1e-9):
        raise InputError(f"{name}: probabilities lie between 0 and 1, found {array.min():g} to {array.max():g}")
    return np.clip(array, 0.0, 1.0)


def follow_up(time: Any, event: Any, n: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(time (n,) >= 0, event (n,) bool). Raises: InputError on missing or negative times, other codes than 0/1."""
    time = numbers(time, "time", n=n)
    if len(time) and time.min() < 0:
        raise InputError(f"time: {int((time < 0).sum())} value(s) below zero")
    return time, truths(event, "event", len(time))


def both_classes(truth: np.ndarray) -> None:
    """Raises: NotEstimableError unless both classes are there."""
    if not len(truth):
        raise NotEstimableError("no patient")
    if truth.all() or not truth.any():
        raise NotEstimableError(f"only one class among {len(truth)} rows")
