"""Figures for reports, drawn without a display."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..images.atomic import replacing

RED, YELLOW, GREEN = "#d62728", "#f2b824", "#33a04a"
BIN_MM = 1.0
SHOWN_MM = (-15.0, 30.0)


def margin_histogram(margin_mm: np.ndarray, areas_mm2: np.ndarray, threshold_mm: float, path: Path,
                     interval_mm: tuple[float, float] | None = None) -> Path:
    """Area-weighted histogram of the margin in traffic-light colours, as PNG.

    Args:
        margin_mm, areas_mm2: (n,) per vertex of the evaluated surface; may be empty.
        interval_mm: 95 % interval of the MAM, drawn as a band.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, 2.9), dpi=110, layout="constrained")
    axes = figure.subplots()
    if len(margin_mm):
        values = np.clip(margin_mm, *SHOWN_MM)
        edges = np.arange(np.floor(values.min()), np.ceil(values.max()) + BIN_MM, BIN_MM)
        if len(edges) < 2:
            edges = np.array([edges[0], edges[0] + BIN_MM])
        counts, _ = np.histogram(values, edges, weights=areas_mm2)
        middle = 0.5 * (edges[:-1] + edges[1:])
        colours = np.where(middle < 0.0, RED, np.where(middle < threshold_mm, YELLOW, GREEN))
        axes.bar(middle, 100.0 * counts / max(float(np.sum(areas_mm2)), 1e-9), width=0.9 * BIN_MM, color=colours)
    if interval_mm is not None:
        axes.axvspan(*interval_mm, color="#4a6fa5", alpha=0.15, label="95 % interval of the MAM")
        axes.legend(fontsize=8, frameon=False)
    axes.axvline(0.0, color="0.3", linewidth=0.8)
    axes.axvline(threshold_mm, color="0.3", linewidth=0.8, linestyle="--")
    axes.set_xlabel("margin (mm)")
    axes.set_ylabel("share of the tumour's surface (%)")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
    return path
