"""Intensity histogram features of the grey levels (IBSI manual, section 3.4)."""

from __future__ import annotations

import numpy as np

from .statistics import moments


def histogram(levels: np.ndarray, n: int) -> dict[str, float | str]:
    """The 23 histogram features.

    Args:
        levels: (m,) whole numbers from 1 to n, m >= 1.
        n: number of levels.
    Returns: by tag; a text says why one isn't defined. The mode nearest to the mean is taken where several are;
    the lowest level of the steepest gradients.
    """
    x = np.asarray(levels, np.float64).ravel()
    shared = moments(x)
    counts = np.bincount(np.asarray(levels).ravel(), minlength=n + 1)[1:].astype(np.float64)
    share = counts[counts > 0] / x.size
    out: dict[str, float | str] = {f"ih_{name}": value for name, value in shared.items()}
    modes = np.flatnonzero(counts == counts.max()) + 1
    out |= {"ih_min": float(x.min()), "ih_max": float(x.max()), "ih_range": float(np.ptp(x)),
            "ih_mode": float(modes[np.abs(modes - x.mean()).argmin()]),
            "ih_entropy": float(-(share * np.log2(share)).sum()) + 0.0, "ih_uniformity": float((share**2).sum())}
    if len(counts) < 2:
        out |= dict.fromkeys(("ih_max_grad", "ih_max_grad_g", "ih_min_grad", "ih_min_grad_g"), "one grey level only")
        return out
    slope = np.gradient(counts)
    out |= {"ih_max_grad": float(slope.max()), "ih_max_grad_g": float(slope.argmax() + 1),
            "ih_min_grad": float(slope.min()), "ih_min_grad_g": float(slope.argmin() + 1)}
    return out
