"""Registration by pairs of points, with what each point says about the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from ..geometry import InputError, LinearTransform, RefusedError, Transform
from .landmarks_fit import FEWEST, KINDS, UNKNOWNS, error_factor, fit, left_out, linear_fit, localisation_error
from .poses import check_points, plain

OUTLIER_CHANCE = 0.01
FLOOR_MM = 0.05
FEWEST_KEPT, MAX_STARTS, CONCENTRATIONS = 4, 120, 3
MIN_OFF_LINE_SHARE = 0.05
MIN_OFF_LINE_MM = 2.0
DUPLICATE_MM = 0.5
MIRROR_SHARE, MIRROR_MM = 0.25, 3.0
VALIDATED_ON = ("points with known truth and noise; SimpleITK's and VTK's fits of the same points; landmarks of a "
                "tracked stylus in the PLUS test data with their published registration")


@dataclass(frozen=True)
class LandmarkRegistration:
    """Result of a registration by landmarks: a map of `moving` points to `fixed` ones, mm.

    transform: fixed_from_moving. residual_mm: per point, NaN for excluded ones' fit but they are given too: the
        distance of the mapped moving point from its partner. left_out_mm: the same with the point left out of the fit
        (NaN where too few others are left). outliers: names of points that don't go with the others. excluded: names
        of points the caller left out. fle_mm: localisation error that explains the residuals (rms, 3D), NaN when no
        residual is left over (thin plate, or no surplus of points).
    source_mm, target_mm: (n, 3) moving and fixed points.
    """

    transform: Transform
    kind: str
    names: tuple[str, ...]
    residual_mm: np.ndarray
    left_out_mm: np.ndarray
    outliers: tuple[str, ...]
    excluded: tuple[str, ...]
    rms_mm: float
    fle_mm: float
    source_mm: np.ndarray
    target_mm: np.ndarray
    targets: tuple[tuple[tuple[float, float, float], float], ...] = ()
    validated_on: str = VALIDATED_ON

    @property
    def used(self) -> np.ndarray:
        """(n,) bool: the points of the fit."""
        return np.array([name not in self.excluded for name in self.names], bool)

    @property
    def left_out_rms_mm(self) -> float:
        """Root mean square of the leave-one-out errors; NaN when none is known."""
        known = self.left_out_mm[self.used & np.isfinite(self.left_out_mm)]
        return float(np.sqrt((known**2).mean())) if len(known) else float("nan")

    def tre_mm(self, points_moving: object, *, fle_mm: float | None = None) -> np.ndarray:
        """(m,) expected target registration error (rms) at (m, 3) points of the moving frame.

        fle_mm: localisation error (rms, 3D) to assume; default: the one estimated from the residuals. A thin plate
        gives its leave-one-out error everywhere. NaN when nothing is known. Source: Fitzpatrick 1998.
        """
        points = check_points(points_moving, 3, "targets")
        if self.kind == "thin_plate":
            return np.full(len(points), self.left_out_rms_mm)
        fle = self.fle_mm if fle_mm is None else float(fle_mm)
        return error_factor(self.source_mm[self.used], points, self.kind) * fle

    def to_dict(self) -> dict[str, Any]:
        matrix = self.transform.matrix if isinstance(self.transform, LinearTransform) else None
        to, of = self.transform.to_frame, self.transform.from_frame
        return plain({
            "kind": "landmarks", "model": self.kind, "units": "mm", "frame": to, "from_frame": of,
            f"{of}To{to}": matrix, "scale": None if matrix is None else float(np.cbrt(np.linalg.det(matrix[:3, :3]))),
            "points": [{"name": name, "moving_mm": self.source_mm[n], "fixed_mm": self.target_mm[n],
                        "residual_mm": self.residual_mm[n], "left_out_mm": self.left_out_mm[n],
                        "used": bool(self.used[n]), "outlier": name in self.outliers}
                       for n, name in enumerate(self.names)],
            "outliers": self.outliers, "excluded": self.excluded,
            "uncertainty": {"rms_mm": self.rms_mm, "fle_mm": self.fle_mm, "left_out_rms_mm": self.left_out_rms_mm,
                            "targets": [{"moving_mm": at, "tre_mm": error} for at, error in self.targets]},
            "validated_on": self.validated_on})


def register_landmarks(moving_mm: object, fixed_mm: object, *, kind: str = "rigid",
                       names: Sequence[str] | None = None, exclude: Sequence[str] = (), fixed: str = "Fixed",
                       moving: str = "Moving", targets_moving: object = None, fle_mm: float | None = None
                       ) -> LandmarkRegistration:
    """The map that takes points to their partners, and which of them don't fit.

    Args:
        moving_mm, fixed_mm: (n, 3) pairs in the same order. kind: rigid, similarity, thin_plate.
        names: of the points (default "1", "2", ...). exclude: names to leave out of the fit.
        fixed, moving: names of the frames. targets_moving: (m, 3) where the error is asked for; fle_mm: see tre_mm.
    Outliers are named, never dropped: exclude them and register again.
    Raises: InputError: lists that don't pair, an unknown kind or name; RefusedError: too few points, on one line (a
    thin plate: in one plane), two in one place, sides swapped.
    Source: Arun 1987, Umeyama 1991, Bookstein 1989; F test on leave-one-out errors for outliers.
    """
    source, target, labels = _check(moving_mm, fixed_mm, kind, names, exclude)
    used = np.array([label not in exclude for label in labels], bool)
    _check_places(source[used], target[used], [label for label, u in zip(labels, used, strict=True) if u], kind)
    transform = fit(source[used], target[used], kind, fixed, moving)
    residuals = transform.apply(source) - target
    distance = np.linalg.norm(residuals, axis=1)
    missed = np.full(len(source), np.nan)
    if used.sum() > FEWEST[kind]:
        missed[used] = np.linalg.norm(left_out(source[used], target[used], kind), axis=1)
    missed[~used] = distance[~used]
    outliers = () if kind == "thin_plate" else _outliers(source, target, used, kind, labels)
    fle = float("nan") if kind == "thin_plate" else localisation_error(residuals[used], kind)
    result = LandmarkRegistration(transform, kind, tuple(labels), distance, missed, outliers,
                                  tuple(label for label in labels if label in exclude),
                                  float(np.sqrt((distance[used] ** 2).mean())), fle, source, target)
    if targets_moving is None:
        return result
    at = check_points(targets_moving, 3, "targets")
    pairs = tuple(((float(p[0]), float(p[1]), float(p[2])), float(e))
                  for p, e in zip(at, result.tre_mm(at, fle_mm=fle_mm), strict=True))
    return replace(result, targets=pairs)


def _check(moving, fixed, kind, names, exclude) -> tuple[np.ndarray, np.ndarray, list[str]]:
    if kind not in KINDS:
        raise InputError(f"'{kind}' is no kind of landmark registration; one of {', '.join(KINDS)}")
    source = check_points(moving, 3, "moving landmarks")
    target = check_points(fixed, 3, "fixed landmarks")
    if len(source) != len(target):
        raise InputError(f"{len(source)} moving and {len(target)} fixed landmarks; place the same points in the same "
                         "order in both")
    labels = [str(n + 1) for n in range(len(source))] if names is None else [str(name) for name in names]
    if len(labels) != len(source) or len(set(labels)) != len(labels):
        raise InputError(f"{len(source)} landmarks need as many different names")
    unknown = [name for name in exclude if name not in labels]
    if unknown:
        raise InputError(f"no landmark is named {', '.join(unknown)}; there are {', '.join(labels)}")
    return source, target, labels


def _check_places(source: np.ndarray, target: np.ndarray, labels: list[str], kind: str) -> None:
    if len(source) < FEWEST[kind]:
        raise RefusedError(f"{len(source)} landmarks; a {kind.replace('_', ' ')} registration needs at least "
                           f"{FEWEST[kind]}, better 6, spread round the target")
    for where, points in (("moving", source), ("fixed", target)):
        gaps = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag(np.full(len(points), np.inf))
        first, second = np.unravel_index(gaps.argmin(), gaps.shape)
        if gaps.min() < DUPLICATE_MM:
            raise RefusedError(f"landmarks {labels[first]} and {labels[second]} are in one place among the {where} "
                               "ones; remove or place one of them anew")
        rms = np.linalg.svd(points - points.mean(axis=0), compute_uv=False) / np.sqrt(len(points))
        wanted = max(MIN_OFF_LINE_SHARE * rms[0], MIN_OFF_LINE_MM)
        if rms[1] < wanted:
            raise RefusedError(f"the {where} landmarks lie on one line, so that the turn about it stays unknown; add "
                               "one well off it")
        if kind == "thin_plate" and (len(rms) < 3 or rms[2] < wanted):
            raise RefusedError(f"the {where} landmarks lie in one plane; a thin plate needs some off it (or use rigid)")
    proper, mirrored = (_rms(source, target, flag) for flag in (False, True))
    if len(source) >= 4 and proper > MIRROR_MM and mirrored < MIRROR_SHARE * proper:
        raise RefusedError(f"the landmarks fit mirrored ({mirrored:.1f} mm) but not as they are ({proper:.1f} mm): "
                           "left and right are swapped, or one list is LPS and the other RAS")


def _rms(source: np.ndarray, target: np.ndarray, mirrored: bool) -> float:
    matrix = linear_fit(source, target, scaled=True, mirrored=mirrored)
    return float(np.sqrt(((source @ matrix[:3, :3].T + matrix[:3, 3] - target) ** 2).sum(axis=1).mean()))


def _outliers(source, target, used, kind: str, labels: list[str]) -> tuple[str, ...]:
    """Names of points that the fit to the others misses by more than those others' errors allow, worst first.

    For one, two, ... points out (a third at most): the best fit of the rest over many small starts, then an F test of
    each of the others; the largest group of which every point fails counts.
    """
    from scipy import stats

    inside = np.nonzero(used)[0]
    x, y, scaled = source[inside], target[inside], kind == "similarity"
    count, found = len(inside), []
    starts = list(combinations(range(count), 3)) if comb(count, 3) <= MAX_STARTS else [
        tuple(np.random.default_rng(n).choice(count, 3, replace=False)) for n in range(MAX_STARTS)]
    for out in range(1, min(count // 3, count - FEWEST_KEPT) + 1):
        rest = _best_rest(x, y, scaled, count - out, starts)
        matrix = linear_fit(x[rest], y[rest], scaled=scaled)
        error = x @ matrix[:3, :3].T + matrix[:3, 3] - y
        others = np.setdiff1d(np.arange(count), rest)
        fle = max(localisation_error(error[rest], kind), FLOOR_MM)
        spread = fle**2 * (1 + error_factor(x[rest], x[others], kind) ** 2)
        chances = stats.f.sf((error[others] ** 2).sum(axis=1) / spread, 3, 3 * len(rest) - UNKNOWNS[kind])
        if (chances < OUTLIER_CHANCE / comb(count, out)).all():
            found = others[np.argsort(chances)].tolist()
    return tuple(labels[inside[n]] for n in found)


def _best_rest(x: np.ndarray, y: np.ndarray, scaled: bool, keep: int, starts: list[tuple[int, ...]]) -> np.ndarray:
    """Numbers of the `keep` points that one map fits best (least trimmed squares by concentration)."""
    best, least = np.arange(keep), np.inf
    for start in starts:
        chosen = np.array(start)
        for _ in range(CONCENTRATIONS):
            matrix = linear_fit(x[chosen], y[chosen], scaled=scaled)
            squared = ((x @ matrix[:3, :3].T + matrix[:3, 3] - y) ** 2).sum(axis=1)
            chosen = np.argpartition(squared, keep - 1)[:keep]
        if squared[chosen].sum() < least:
            best, least = np.sort(chosen), float(squared[chosen].sum())
    return best
