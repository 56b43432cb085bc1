"""Figures of the training report, drawn without a display; each function returns the bytes of a PNG."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MODEL, BASELINE, NULL, FOURTH = "#1f5fa8", "#d97706", "#7a8594", "#7b3fa0"
COLOURS = {"model": MODEL, "baseline": BASELINE, "null": NULL}
RISK_COLOURS = ("#2a9d5c", "#d9a106", "#c0392b")
SIZE = (5.2, 4.2)


@dataclass(frozen=True)
class Curve:
    """A line with a band: x, y (k,); low, high (k,) or None."""

    name: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    colour: str = MODEL
    steps: bool = False


@dataclass(frozen=True)
class Row:
    """One line of a forest plot; low, high None: no interval."""

    label: str
    estimate: float
    low: float | None = None
    high: float | None = None
    colour: str = MODEL
    note: str = ""


def _axes(width: float = SIZE[0], height: float = SIZE[1]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _png(figure: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _draw(axes: Any, curve: Curve) -> None:
    style = {"drawstyle": "steps-post"} if curve.steps else {}
    axes.plot(curve.x, curve.y, color=curve.colour, linewidth=1.8, label=curve.name, **style)
    if curve.low is not None and curve.high is not None:
        axes.fill_between(curve.x, curve.low, curve.high, color=curve.colour, alpha=0.16, linewidth=0,
                          step="post" if curve.steps else None)


def roc_figure(curves: Sequence[Curve], band: str = "band: 95 %, patients resampled") -> bytes:
    """Sensitivity over 1 - specificity."""
    figure, axes = _axes()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":")
    for curve in curves:
        _draw(axes, curve)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=f"1 - specificity ({band})", ylabel="sensitivity")
    axes.set_aspect("equal")
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return _png(figure)


def calibration_figure(curves: Sequence[Curve], predicted: np.ndarray, observed: np.ndarray | None = None, *,
                       points: Sequence[tuple[float, float, float, float]] = (), what: str = "event") -> bytes:
    """Observed over predicted share, with a histogram of the predictions below.

    predicted (n,): every held-out prediction. observed (n,) 0/1 or None: splits the histogram.
    points: (mean predicted, observed, low, high) of groups.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE[0], 4.9), dpi=120, layout="constrained")
    axes, below = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    for one in (axes, below):
        for side in ("top", "right"):
            one.spines[side].set_visible(False)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":", label="perfect")
    for curve in curves:
        _draw(axes, curve)
    for x, y, low, high in points:
        axes.errorbar(x, y, yerr=[[max(y - low, 0.0)], [max(high - y, 0.0)]], fmt="s", color="0.25", markersize=4,
                      linewidth=1.0)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.02, 1.02), ylabel=f"observed share with {what}")
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    bins = np.linspace(0, 1, 41)
    if observed is None:
        below.hist(predicted, bins, color=MODEL)
    else:
        case = np.asarray(observed).astype(bool)
        below.hist([predicted[case], predicted[~case]], bins, stacked=True, color=[MODEL, "#c9d3de"],
                   label=[what, "none"])
        below.legend(fontsize=7, frameon=False, ncols=2)
    below.set(xlabel=f"predicted chance of {what}", ylabel="predictions")
    return _png(figure)


def decision_figure(curves: Sequence[Curve], treat_all: Curve, what: str = "event") -> bytes:
    """Net benefit over the threshold at which one would act; 'none' is the zero line."""
    figure, axes = _axes()
    axes.axhline(0.0, color="0.3", linewidth=0.9, label="act on nobody")
    axes.plot(treat_all.x, treat_all.y, color="0.55", linewidth=1.0, linestyle="--", label="act on everybody")
    for curve in curves:
        _draw(axes, curve)
    top = max([float(np.nanmax(curve.y)) for curve in (*curves, treat_all) if len(curve.y)] + [0.02])
    axes.set(ylim=(-0.4 * top, 1.15 * top), xlabel=f"threshold: chance of {what} at which one acts",
             ylabel="net benefit (cases gained per patient)")
    axes.legend(fontsize=8, frameon=False)
    return _png(figure)


def survival_figure(curves: Sequence[Curve], at_risk: Sequence[tuple[str, Sequence[int]]], times: Sequence[float],
                    xlabel: str, ylabel: str = "share free of the event", until: float | None = None) -> bytes:
    """Step curves of risk groups with the number at risk below, at `times`; drawn until `until`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.6, 4.2 + 0.22 * len(at_risk)), dpi=120, layout="constrained")
    axes, below = figure.subplots(2, 1, height_ratios=(8, 0.6 + 0.6 * len(at_risk)), sharex=True)
    for curve in curves:
        _draw(axes, curve)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set(ylim=(-0.02, 1.02), ylabel=ylabel, xlabel=xlabel)
    axes.tick_params(labelbottom=True)
    if until is not None:
        axes.set_xlim(-0.02 * until, 1.02 * until)
    axes.legend(fontsize=8, frameon=False)
    below.axis("off")
    below.set_ylim(-len(at_risk) - 0.2, 1.1)
    below.text(0.0, 0.6, "at risk", fontsize=8, color="0.3", transform=below.get_yaxis_transform(), ha="right")
    for line, (name, numbers) in enumerate(at_risk):
        below.text(-0.02, -line, name, fontsize=8, transform=below.get_yaxis_transform(), ha="right", va="center",
                   color=curves[line].colour if line < len(curves) else "0.2")
        for time, number in zip(times, numbers, strict=True):
            below.text(time, -line, str(number), fontsize=8, ha="center", va="center")
    return _png(figure)


def forest_figure(rows: Sequence[Row], xlabel: str, reference: float | None = 0.0) -> bytes:
    """Estimates with intervals, one a line, from top to bottom."""
    longest = max((len(row.label) for row in rows), default=10)
    figure, axes = _axes(4.2 + 0.075 * min(longest, 50), 0.75 + 0.3 * max(len(rows), 1))
    if reference is not None:
        axes.axvline(reference, color="0.5", linewidth=0.9, linestyle="--")
    for place, row in enumerate(rows):
        axes.plot(row.estimate, -place, "s", color=row.colour, markersize=5)
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [-place, -place], color=row.colour, linewidth=1.5)
    labels = [row.label if len(row.label) <= 50 else row.label[:48] + "..." for row in rows]
    axes.set_yticks([-place for place in range(len(rows))], [f"{label}{' ' + row.note if row.note else ''}"
                                                            for label, row in zip(labels, rows, strict=True)],
                    fontsize=8)
    axes.set(ylim=(-len(rows) + 0.4, 0.6), xlabel=textwrap.fill(xlabel, 42))
    return _png(figure)


def permutation_figure(null: np.ndarray, observed: float, xlabel: str, p: float | None) -> bytes:
    """Histogram of what the whole procedure reaches on shuffled outcomes, beside what it reached."""
    figure, axes = _axes(5.2, 3.0)
    null = np.asarray(null, dtype=float)
    axes.hist(null, bins=min(25, max(5, len(null) // 2)), color="#c9d3de", edgecolor="white",
              label=f"{len(null)} shuffled outcomes")
    axes.axvline(observed, color=MODEL, linewidth=2.0, label=f"this run{f' (p = {p:.3g})' if p is not None else ''}")
    axes.set(xlabel=textwrap.fill(xlabel, 60), ylabel="runs")
    axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return _png(figure)


def over_time_figure(curves: Sequence[Curve], xlabel: str, ylabel: str, reference: float | None = 0.5) -> bytes:
    """A figure at each horizon with its interval, as points joined by lines; slightly shifted so that bars show."""
    figure, axes = _axes(5.6, 3.5)
    if reference is not None:
        axes.axhline(reference, color="0.6", linewidth=0.8, linestyle=":")
    for place, curve in enumerate(curves):
        width = float(np.ptp(curve.x)) if len(curve.x) > 1 else max(float(curve.x[0]), 1.0) if len(curve.x) else 1.0
        x = curve.x + (place - (len(curves) - 1) / 2) * 0.012 * width
        axes.plot(x, curve.y, "o-", color=curve.colour, linewidth=1.2, markersize=4, label=curve.name)
        if curve.low is not None and curve.high is not None:
            axes.vlines(x, curve.low, curve.high, color=curve.colour, linewidth=1.4)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return _png(figure)


def stability_figure(shares: Sequence[tuple[str, float]], xlabel: str) -> bytes:
    """How often each column carried weight in the outer folds, the most frequent on top."""
    figure, axes = _axes(4.4 + 0.06 * max((min(len(name), 50) for name, _ in shares), default=10),
                         0.8 + 0.22 * max(len(shares), 1))
    names = [name if len(name) <= 50 else name[:48] + "..." for name, _ in shares]
    axes.barh(range(len(shares)), [100 * share for _, share in shares], color=MODEL, height=0.7)
    axes.set_yticks(range(len(shares)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel=xlabel)
    return _png(figure)
