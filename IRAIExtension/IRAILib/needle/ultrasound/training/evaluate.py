"""Measures the network on simulated samples that it was not trained on, and finds its operating point."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..detection import FrameDetection
from ..features import CANVAS, STRIDE, map_from_frame_px
from ..network import decode, read_maps
from .samples import FIELDS, Samples

NEUTRAL: dict[str, Any] = {"threshold": 0.0, "in_plane_threshold": 0.5, "sigma_along_factor": 1.0,
                           "sigma_across_factor": 1.0, "sigma_angle_factor": 1.0, "sigma_factor": 1.0}
RIDGE = 2.0
SHAPE = (CANVAS[1], CANVAS[0])
TARGET_FALSE = 0.005  # of needle-free simulated frames in which a needle may be seen
RIGHT_MM, RIGHT_DEG = 5.0, 10.0  # a tip given is the needle's when place and direction are this near
Predict = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # (n, 3, 192, 256) float -> maps, scalars


def predicted(predict: Predict, samples: Samples, batch: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Network output for all samples: (n, 2, 96, 128), (n, 6)."""
    results = [predict(samples.frames[start:start + batch].astype(np.float32) / 255)
               for start in range(0, len(samples.facts), batch)]
    return np.concatenate([maps for maps, _ in results]), np.concatenate([scalars for _, scalars in results])


def _tip_error(found: FrameDetection, facts: dict[str, float]) -> tuple[float, float, float]:
    """(along, across the true needle, in mm; angle in degrees) of a detection on the canvas."""
    assert found.tip_px is not None
    assert found.direction is not None
    error = (map_from_frame_px(found.tip_px, SHAPE) - [facts["tip_x"], facts["tip_y"]]) * facts["mm_per_map_px"]
    direction = np.array([facts["dir_x"], facts["dir_y"]])
    angle = math.degrees(math.acos(float(np.clip(found.direction @ direction, -1, 1))))
    return float(error @ direction), float(error @ [-direction[1], direction[0]]), angle


def _facts(samples: Samples, number: Any) -> dict[str, float]:
    return dict(zip(FIELDS, samples.facts[number].tolist(), strict=True))


def _mahalanobis(found: FrameDetection, facts: dict[str, float]) -> float:
    """Squared distance of the true tip from the one found, in units of its covariance."""
    assert found.tip_px is not None
    assert found.covariance_px is not None
    miss = (map_from_frame_px(found.tip_px, SHAPE) - [facts["tip_x"], facts["tip_y"]]) * STRIDE
    return float(miss @ np.linalg.solve(found.covariance_px, miss))


def operating_point(maps: np.ndarray, scalars: np.ndarray, samples: Samples) -> dict[str, Any]:
    """Thresholds and factors of the uncertainty, from samples kept for that (not those that are reported).

    Presence is learned from frames with a shaft that is seen and without a needle, `in_plane` (that the tip given is
    the needle's) from all clear frames. Of the pairs of thresholds with at most TARGET_FALSE of the needle-free frames
    said to show a needle, that with the best F score of tips (precision weighs twice) is taken; the factors make 95 %
    of the tips fall within the ellipse for 95 %.
    """
    signs = np.stack([decode(m, s)[2] for m, s in zip(maps, scalars, strict=True)])
    counted, free = samples.fact("counted") > 0, samples.fact("present") == 0
    seen, clear = samples.fact("shaft_seen") > 0, samples.fact("unclear") == 0
    point = dict(NEUTRAL, presence=_logistic(signs[free | seen], seen[free | seen]),
                 in_plane=_logistic(signs[clear], counted[clear]))
    found = [read_maps(m, s, SHAPE, point) for m, s in zip(maps, scalars, strict=True)]
    sure = np.array([f.confidence if f.found else 0.0 for f in found])
    plane = np.array([f.in_plane or 0.0 for f in found])
    quiet = float(np.quantile(sure[free], 1 - TARGET_FALSE)) + 1e-3 if free.any() else 0.5
    best, score = (min(quiet, 0.99), 0.5), -1.0
    for threshold in np.linspace(quiet, 0.995, 12) if quiet < 0.99 else ():
        for limit in np.arange(0.06, 0.95, 0.04):
            given = (sure >= threshold) & (plane >= limit)
            hit, false = (given & counted).sum(), (given & clear & ~counted).sum()
            value = 1.25 * hit / max(1.25 * hit + false + 0.25 * (counted & ~given).sum(), 1)
            if value > score:
                best, score = (float(threshold), float(limit)), float(value)
    point.update(threshold=best[0], in_plane_threshold=best[1])
    given = np.flatnonzero(counted & (sure >= best[0]) & (plane >= best[1]))
    ratios = []
    for number in given:
        along, across, angle = _tip_error(found[number], _facts(samples, number))
        sigma = np.exp(np.clip(scalars[number, 3:5], -2.5, 3.0)) * float(samples.fact("mm_per_map_px")[number])
        ratios.append([abs(along) / sigma[0], abs(across) / sigma[1], angle / (found[number].direction_sigma_deg or 1)])
    if len(ratios) > 20:
        factors = np.percentile(np.array(ratios), 68.3, axis=0)
        for name, factor in zip(("along", "across", "angle"), factors, strict=True):
            point[f"sigma_{name}_factor"] = float(np.clip(factor, 0.05, 20))
        square = [_mahalanobis(read_maps(maps[number], scalars[number], SHAPE, dict(point, threshold=0.0)),
                               _facts(samples, number)) for number in given]
        point["sigma_factor"] = math.sqrt(float(np.percentile(square, 95)) / 5.991)
    return {name: np.round(value, 4).tolist() for name, value in point.items()}


def _logistic(signs: np.ndarray, truth: np.ndarray) -> list[float]:
    """Weights and a constant of a ridge-regularised logistic regression, by Newton's method."""
    mean, spread = signs.mean(0), signs.std(0) + 1e-6
    design = np.concatenate([(signs - mean) / spread, np.ones((len(signs), 1))], 1)
    ridge = np.diag([RIDGE] * signs.shape[1] + [1e-6])
    weights = np.zeros(design.shape[1])
    for _ in range(30):
        likely = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        slope = design.T @ (likely - truth) + ridge @ weights
        weights -= np.linalg.solve((design * (likely * (1 - likely))[:, None]).T @ design + ridge, slope)
    plain = weights[:-1] / spread
    return [*plain.tolist(), float(weights[-1] - plain @ mean)]


def measured(maps: np.ndarray, scalars: np.ndarray, samples: Samples, point: dict[str, Any]) -> dict[str, Any]:
    """Figures on samples: errors in mm and degrees, precision and recall, false alarms, coverage.

    Counted is a needle whose shaft and tip a careful observer can see (`simulator_visibility`), the tip in the image
    and in its plane. A detection is a tip that is given (found and in plane); it is right within RIGHT_MM and
    RIGHT_DEG of a counted needle's, and false otherwise: on another line, without a needle, or where the needle's tip
    is out of plane or picture. Errors are those of all tips given for counted needles. A false alarm is a needle
    found, tip or not, where there is none. Frames in which an observer couldn't tell are left out of precision and
    recall; `by_visible_part` says what is done with them.
    """
    found = [read_maps(m, s, SHAPE, point) for m, s in zip(maps, scalars, strict=True)]
    claimed = np.array([f.found for f in found])
    given = claimed & np.array([(f.in_plane or 0) >= 0.5 for f in found])
    counted, free = samples.fact("counted") > 0, samples.fact("present") == 0
    unclear = samples.fact("unclear") > 0
    errors, inside = [], []
    for number in np.flatnonzero(counted & given):
        facts = _facts(samples, number)
        along, across, angle = _tip_error(found[number], facts)
        errors.append((math.hypot(along, across), abs(along), abs(across), angle))
        inside.append(_mahalanobis(found[number], facts))
    tip = np.array(errors).reshape(-1, 4)
    hits = int(((tip[:, 0] <= RIGHT_MM) & (tip[:, 3] <= RIGHT_DEG)).sum())
    false = int((given & ~unclear).sum()) - hits
    square = np.array(inside)

    def percentile(values: np.ndarray, part: float) -> float | None:
        return round(float(np.percentile(values, part)), 3) if len(values) else None

    return {
        "frames": len(found), "counted": int(counted.sum()), "needle_free": int(free.sum()),
        "unclear": int(unclear.sum()),
        "tip_mm_median": percentile(tip[:, 0], 50), "tip_mm_p95": percentile(tip[:, 0], 95),
        "across_mm_median": percentile(tip[:, 2], 50), "across_mm_p95": percentile(tip[:, 2], 95),
        "angle_deg_median": percentile(tip[:, 3], 50), "angle_deg_p95": percentile(tip[:, 3], 95),
        "precision": round(hits / max(hits + false, 1), 4), "recall": round(hits / max(int(counted.sum()), 1), 4),
        "false_alarms_needle_free": round(float(claimed[free].mean()), 5) if free.any() else None,
        "needle_found_recall": round(float(claimed[counted].mean()), 4) if counted.any() else None,
        "by_visible_part": _strata(found, given, samples),
        "given_out_of_plane": int((given & ~counted & ~free & ~unclear).sum()),
        "coverage_68": round(float((square < 2.296).mean()), 3) if len(square) else None,
        "coverage_95": round(float((square < 5.991).mean()), 3) if len(square) else None,
    }


def _strata(found: list[FrameDetection], given: np.ndarray, samples: Samples) -> dict[str, dict[str, Any]]:
    """Counted needles by the visible part of the shaft, and those that an observer couldn't tell: how many, in how
    many of them a tip was given, and its error in mm."""
    seen, counted, unclear = (samples.fact(name) for name in ("visible_fraction", "counted", "unclear"))
    groups = {"0.8..1": (counted > 0) & (seen >= 0.8), "0.5..0.8": (counted > 0) & (seen >= 0.5) & (seen < 0.8),
              "0.2..0.5": (counted > 0) & (seen < 0.5), "unclear": unclear > 0}
    table = {}
    for name, group in groups.items():
        facts = [(number, _facts(samples, number)) for number in np.flatnonzero(group & given)]
        errors = [math.hypot(*_tip_error(found[number], fact)[:2]) for number, fact in facts]
        table[name] = {"frames": int(group.sum()), "tip_given": len(errors)} | ({
            "tip_mm_median": round(float(np.median(errors)), 3),
            "tip_mm_p95": round(float(np.percentile(errors, 95)), 3)} if errors else {})
    return table
