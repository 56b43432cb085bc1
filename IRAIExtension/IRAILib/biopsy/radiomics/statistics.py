"""Intensity-based statistics of the intensity mask (IBSI manual, section 3.3)."""

from __future__ import annotations

import numpy as np

FLAT = "all intensities are equal"
_ROUNDING = 1e-12


def statistics(values: np.ndarray) -> dict[str, float | str]:
    """The 18 statistics.

    Args:
        values: (n,) finite intensities, n >= 1, any number type.
    Returns: by tag; a text says why one isn't defined: skewness and kurtosis of equal intensities, ratios over zero.
    Kurtosis is in excess of a normal distribution's 3. Percentiles are interpolated between ranks, variances are
    those of the region itself (divided by n).
    """
    x = np.asarray(values, np.float64).ravel()
    shared = moments(x)
    low, high = float(x.min()), float(x.max())
    square = float(x @ x)
    out: dict[str, float | str] = {f"stat_{name}": value for name, value in shared.items()}
    out |= {"stat_min": low, "stat_max": high, "stat_range": high - low, "stat_energy": square,
            "stat_rms": float(np.sqrt(square / x.size))}
    return out


def moments(x: np.ndarray) -> dict[str, float | str]:
    """What statistics and histogram share, by the last part of the tag. (n,) float64, n >= 1."""
    mean = float(x.mean())
    centred = x - mean
    variance = float(centred @ centred / x.size)
    flat = x.min() == x.max() or variance == 0.0
    if flat:
        mean, variance = float(x[0]), 0.0
        centred = np.zeros_like(x)
    z = centred / np.sqrt(variance or 1.0)
    p10, p25, median, p75, p90 = (float(p) for p in np.percentile(x, (10, 25, 50, 75, 90)))
    robust = x[(x >= p10) & (x <= p90)]
    out: dict[str, float | str] = {
        "mean": mean, "var": variance, "median": median, "p10": p10, "p90": p90, "iqr": p75 - p25,
        "mad": float(np.abs(centred).mean()), "medad": float(np.abs(x - median).mean()),
        "rmad": float(np.abs(robust - robust.mean()).mean()) if robust.size else "no voxel between the percentiles",
        "skew": FLAT if flat else float((z**3).mean()),
        "kurt": FLAT if flat else float((z**4).mean()) - 3.0,
    }
    scale = float(np.abs(x).max())
    out["cov"] = "the mean is zero" if abs(mean) <= _ROUNDING * scale else float(np.sqrt(variance) / mean)
    out["qcod"] = "the quartiles add up to zero" if abs(p25 + p75) <= _ROUNDING * scale else (p75 - p25) / (p75 + p25)
    return out
