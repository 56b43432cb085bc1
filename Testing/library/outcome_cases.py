"""Simulated tables with a known truth, for the tests of outcome models."""

from __future__ import annotations

import numpy as np
from IRAILib.biopsy.outcome import Table


def patients(n: int) -> list[str]:
    return [f"P{k:04d}" for k in range(n)]


def class_columns(n: int, seed: int, *, noise: int = 4, strength: float = 1.5) -> dict[str, list]:
    """A label made of morph_a and lab_a by a logistic model; the other columns are noise."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 2 + noise))
    label = strength * (x[:, 0] - x[:, 1]) + random.logistic(size=n) > 0
    columns: dict[str, list] = {"patient": patients(n), "morph_a": x[:, 0].tolist(), "lab_a": x[:, 1].tolist()}
    columns |= {f"lab_n{k}": x[:, 2 + k].tolist() for k in range(noise)}
    return columns | {"label": ["yes" if value else "no" for value in label]}


def survival_columns(n: int, seed: int, *, noise: int = 3, beta: tuple[float, float] = (0.9, -0.6)) -> dict[str, list]:
    """Exponential times with log hazard ratios beta for morph_a and lab_a, independent censoring."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 2 + noise))
    time = random.exponential(20 * np.exp(-(x[:, 0] * beta[0] + x[:, 1] * beta[1])))
    stop = random.uniform(5, 60, n)
    columns: dict[str, list] = {"patient": patients(n), "morph_a": x[:, 0].tolist(), "lab_a": x[:, 1].tolist()}
    columns |= {f"lab_n{k}": x[:, 2 + k].tolist() for k in range(noise)}
    return columns | {"months": np.minimum(time, stop).tolist(), "died": (time <= stop).astype(int).tolist()}


def table(columns: dict[str, list], **more: list) -> Table:
    return Table.from_columns({**columns, **more}, "simulated")
