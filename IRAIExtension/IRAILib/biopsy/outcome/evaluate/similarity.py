"""Whether a patient is like those a model was made from; outside, the model's number should not be shown.

Two rules share the nominal rejection rate alpha: the Mahalanobis distance on all inputs together, and the largest
robust z of one input. Both gates are the finite-sample quantile of the training cohort's own values, each patient
measured by the others (leave-one-out). Besides: a category never seen, too much missing, a constant
that moved.
What is kept are means, quantiles and a covariance, no patient's row.

Sources: Mahalanobis 1936; Ledoit and Wolf 2004 (shrinkage, so that p > n and collinear inputs work); Hampel 1974 (MAD).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....geometry import InputError
from .checks import NotEstimableError, plain

QUANTILES = np.linspace(0.0, 1.0, 21)
MOST_NAMED = 5
LEAST_ROWS = 5
CONSTANT = 1e-9
REFIT_ROWS, REFIT_WORK = 200, 2e10
MISSING_FLOOR = 0.2
"""A share of missing inputs below this is never refused."""


@dataclass(frozen=True)
class ForeignFeature:
    """One input of a foreign patient. z: robust, from the training median in MADs; share: of the distance squared, what
    this input adds given all others; range: 1st to 99th percentile of training."""

    name: str
    value: float | str | None
    z: float | None
    share: float
    range: tuple[float, float] | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return plain(self.__dict__)


@dataclass(frozen=True)
class Likeness:
    """One patient against the training cohort. inside False: refuse; reasons say why, features which inputs.

    percentile: share of training patients nearer to the cohort (0..100). distance None: no input was given.
    """

    inside: bool
    distance: float | None
    gate: float
    percentile: float | None
    missing: float
    reasons: tuple[str, ...]
    features: tuple[ForeignFeature, ...]

    def to_dict(self) -> dict[str, Any]:
        return plain({**self.__dict__, "features": [one.to_dict() for one in self.features]})


def ledoit_wolf(z: np.ndarray) -> tuple[np.ndarray, float]:
    """(shrunk covariance (p, p), shrinkage 0..1) of centred rows z (n, p), divisor n; target: mean variance times I."""
    n, p = z.shape
    sample = z.T @ z / n
    mean = float(np.trace(sample)) / p
    spread = float((sample**2).sum()) - p * mean**2
    squared = z**2
    noise = (float((squared.sum(axis=1) ** 2).sum()) / n - float((sample**2).sum())) / n
    share = 0.0 if spread <= 1e-15 * max(1.0, mean**2) else float(np.clip(noise / spread, 0.0, 1.0))
    if spread <= 1e-15 * max(1.0, mean**2):
        share = 1.0
    shrunk = (1 - share) * sample
    shrunk[np.diag_indices(p)] += share * mean
    return shrunk, share


def distance_and_shares(z: np.ndarray, seen: np.ndarray, covariance: np.ndarray, p: int) -> tuple[float, np.ndarray]:
    """Distance of standardised z (k,) on the inputs `seen`, scaled to all p, and each one's share given the others."""
    inverse = np.linalg.inv(covariance[np.ix_(seen, seen)])
    solved = inverse @ z[seen]
    squared = float(z[seen] @ solved)
    shares = np.zeros(len(z))
    if squared > 0:
        shares[seen] = solved**2 / np.diag(inverse) / squared
    return math.sqrt(max(0.0, squared) * p / seen.sum()), shares


@dataclass(frozen=True)
class _Cohort:
    """Location, scale and shrunk covariance of rows with NaN for missing; see Similarity."""

    median: np.ndarray
    scale: np.ndarray
    centre: np.ndarray
    sd: np.ndarray
    covariance: np.ndarray
    shrinkage: float

    @classmethod
    def of(cls, matrix: np.ndarray) -> _Cohort:
        median = np.nanmedian(matrix, axis=0)
        centre, sd = np.nanmean(matrix, axis=0), np.nanstd(matrix, axis=0)
        sd = np.where(sd > CONSTANT * np.maximum(1.0, np.abs(centre)), sd, 0.0)
        scale = 1.4826 * np.nanmedian(np.abs(matrix - median), axis=0)
        scale = np.where(scale > 1e-3 * sd, scale, sd)
        covariance, share, moving = np.zeros((matrix.shape[1],) * 2), 0.0, sd > 0
        if moving.any():
            z = np.where(np.isnan(matrix), 0.0, (matrix - centre) / np.where(moving, sd, 1.0))[:, moving]
            shrunk, share = ledoit_wolf(z)
            shrunk[np.diag_indices(len(shrunk))] += 1e-12
            covariance[np.ix_(moving, moving)] = shrunk
        return cls(median, scale, centre, sd, covariance, share)

    def measure(self, row: np.ndarray) -> tuple[float, float]:
        """(distance, largest |robust z|) of one row (p,)."""
        seen = (self.sd > 0) & np.isfinite(row)
        if not seen.any():
            return 0.0, 0.0
        z = (row - self.centre) / np.where(self.sd > 0, self.sd, 1.0)
        robust = np.abs(row - self.median)[seen] / self.scale[seen]
        return distance_and_shares(z, seen, self.covariance, int((self.sd > 0).sum()))[0], float(robust.max())

    def each_by_the_others(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(distances, largest |z|) (n,) of the rows, each left out: refitted in a small cohort, by formula in a large
        one, where one patient hardly moves the shrinkage, the scales and the medians that the formula keeps."""
        n, p = matrix.shape
        if n <= REFIT_ROWS and n * p**3 <= REFIT_WORK:
            # an input without a value among the others is passed over, as one that doesn't vary
            left = [np.delete(matrix, row, axis=0) for row in range(n)]
            found = [_Cohort.of(np.where(np.isnan(rest).all(axis=0), 0.0, rest)).measure(matrix[row])
                     for row, rest in enumerate(left)]
            return np.array([one for one, _ in found]), np.array([other for _, other in found])
        moving = self.sd > 0
        z = np.where(np.isnan(matrix), 0.0, (matrix - self.centre) / np.where(moving, self.sd, 1.0))[:, moving]
        shrunk = self.covariance[np.ix_(moving, moving)]
        robust = np.abs(matrix - self.median)[:, moving] / self.scale[moving]
        return (leave_one_out(z, np.isnan(matrix)[:, moving], shrunk, self.shrinkage),
                np.nanmax(robust, axis=1, initial=0.0))


@dataclass(frozen=True)
class Similarity:
    """Gate of a training cohort: `fit` it, `score` patients, keep it with the model (to_dict, from_dict).

    Arrays over the p inputs: median, scale (MAD * 1.4826, or the SD where the MAD is 0), centre, sd, low, high (1st and
    99th percentile); covariance (p, p) of the standardised inputs, shrunk. gate: of the distance; z_gate: of the
    largest |z|. distances, (21,) quantiles of the leave-one-out distances.
    """

    names: tuple[str, ...]
    n: int
    alpha: float
    median: np.ndarray
    scale: np.ndarray
    centre: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray
    covariance: np.ndarray
    shrinkage: float
    gate: float
    z_gate: float
    missing_gate: float
    distances: np.ndarray
    categories: dict[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()

    @classmethod
    def fit(cls, matrix: Any, names: Sequence[str], *, categories: Mapping[str, Sequence[Any]] | None = None,
            alpha: float = 0.05) -> Similarity:
        """Gate from the training inputs.

        Args: matrix (n, p) as the model sees them, NaN for missing; names (p,); categories: column to its (n,) values,
            of columns that are not numbers; alpha: share of patients like the training ones that may be refused.
        Raises: InputError on shapes; NotEstimableError with fewer than 5 patients or no input that varies.
        """
        matrix = _rows(matrix, len(names))
        if not 0 < alpha < 1:
            raise InputError("alpha: a share between 0 and 1 is needed")
        if len(matrix) < LEAST_ROWS:
            raise NotEstimableError(f"similarity needs {LEAST_ROWS} training patients, there are {len(matrix)}")
        empty = [name for name, column in zip(names, matrix.T, strict=True) if np.isnan(column).all()]
        if empty:
            raise InputError(f"similarity: input '{empty[0]}' has no value in any training patient; leave it out")
        low, high = np.nanquantile(matrix, [0.01, 0.99], axis=0)
        cohort = _Cohort.of(matrix)
        if not (cohort.sd > 0).any():
            raise NotEstimableError("no input varies among the training patients")
        alone, extreme = cohort.each_by_the_others(matrix)
        missing = np.isnan(matrix).mean(axis=1)
        note = () if len(matrix) + 1 >= 2 / alpha else (
            f"{len(matrix)} patients are too few for a gate at {alpha:g}: the largest training value is the gate",)
        levels = {name: tuple(sorted({str(value) for value in values if not _absent(value)}))
                  for name, values in (categories or {}).items()}
        return cls(tuple(map(str, names)), len(matrix), alpha, cohort.median, cohort.scale, cohort.centre, cohort.sd,
                   low, high, cohort.covariance, cohort.shrinkage, upper_quantile(alone, alpha / 2),
                   upper_quantile(extreme, alpha / 2), max(MISSING_FLOOR, float(np.quantile(missing, 0.99))),
                   np.quantile(alone, QUANTILES), levels, note)

    def score(self, rows: Any, categories: Mapping[str, Sequence[Any]] | None = None) -> list[Likeness]:
        """One Likeness a row of rows (m, p) (or (p,)), NaN for missing; categories: column to its (m,) values."""
        rows = np.asarray(rows, dtype=float)
        rows = _rows(rows[None] if rows.ndim == 1 else rows, len(self.names))
        return [self._one(row, {name: values[place] for name, values in (categories or {}).items()})
                for place, row in enumerate(rows)]

    def _one(self, row: np.ndarray, labels: Mapping[str, Any]) -> Likeness:
        moving, here = self.sd > 0, np.isfinite(row)
        seen = moving & here
        missing = float((~here).mean())
        reasons, distance, shares = [], None, np.zeros(len(row))
        if seen.any():
            z = (row - self.centre) / np.where(moving, self.sd, 1.0)
            distance, shares = distance_and_shares(z, seen, self.covariance, int(moving.sum()))
            if distance > self.gate:
                reasons.append(f"distance {distance:.3g} to the training cohort, the gate is {self.gate:.3g}")
        z = np.where(seen, (row - self.median) / np.where(self.scale > 0, self.scale, 1.0), 0.0)
        far = np.flatnonzero(np.abs(z) > self.z_gate)
        features = [self._feature(int(k), row, z, shares, "far from the training values") for k in far]
        reasons += [f"{self.names[k]} = {row[k]:.4g}: {abs(z[k]):.1f} robust SD from the training median" for k in far]
        for k in np.flatnonzero(here & ~moving):
            if abs(row[k] - self.centre[k]) > 1e-6 * max(1.0, abs(self.centre[k])):
                reasons.append(f"{self.names[k]} = {row[k]:.4g}: was {self.centre[k]:.4g} in every training patient")
                features.append(self._feature(int(k), row, z, shares, "constant in training"))
        for name, value in labels.items():
            if name in self.categories and not _absent(value) and str(value) not in self.categories[name]:
                reasons.append(f"{name} = {value}: never seen in training ({', '.join(self.categories[name][:6])})")
                features.append(ForeignFeature(name, str(value), None, 0.0, None, "category never seen"))
        if missing > self.missing_gate or not here.any():
            reasons.append(f"{100 * missing:.0f} % of the inputs are missing, at most {100 * self.missing_gate:.0f} %")
        if distance is not None and distance > self.gate:
            named = {feature.name for feature in features}
            features += [self._feature(int(k), row, z, shares, "unusual given the other inputs")
                         for k in np.argsort(-shares)[:MOST_NAMED] if shares[k] > 0 and self.names[k] not in named]
        percentile = None if distance is None else float(100 * np.interp(distance, self.distances, QUANTILES))
        return Likeness(not reasons, distance, self.gate, percentile, missing, tuple(reasons), tuple(features))

    def _feature(self, k: int, row: np.ndarray, z: np.ndarray, shares: np.ndarray, reason: str) -> ForeignFeature:
        return ForeignFeature(self.names[k], float(row[k]) if np.isfinite(row[k]) else None,
                              float(z[k]) if self.sd[k] > 0 else None, float(shares[k]),
                              (float(self.low[k]), float(self.high[k])), reason)

    def to_dict(self) -> dict[str, Any]:
        return plain({**self.__dict__, "kind": "Mahalanobis with Ledoit-Wolf shrinkage, robust z, categories, missing"})

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Similarity:
        given = {name: np.asarray(value, dtype=float) if name in _ARRAYS else value
                 for name, value in document.items() if name != "kind"}
        given["categories"] = {name: tuple(values) for name, values in given["categories"].items()}
        return cls(**{**given, "names": tuple(given["names"]), "notes": tuple(given["notes"])})


_ARRAYS = ("median", "scale", "centre", "sd", "low", "high", "covariance", "distances")


def leave_one_out(z: np.ndarray, absent: np.ndarray, shrunk: np.ndarray, share: float) -> np.ndarray:
    """(n,) distances of each row from mean and covariance of the others, shrinkage kept, without refitting.

    With S the covariance (divisor n), S without row i is n/(n-1) S - n/(n-1)^2 z z', and z moves to n/(n-1) z; the
    rank-one inverse gives (n/(n-1))^2 q / (1 - b q), q = z' A^-1 z. Rows with missing inputs use their own block.
    """
    n, p = z.shape
    grow, b = n / (n - 1), (1 - share) * n / (n - 1) ** 2
    target = np.zeros(p)
    if share > 0:
        target[:] = share * np.trace(shrunk) / p
    base = (shrunk - np.diag(target)) * grow + np.diag(target)
    base += 1e-12 * np.trace(base) / p * np.eye(p)
    full = ~absent.any(axis=1)
    q = np.zeros(n)
    q[full] = np.einsum("ij,ij->i", z[full], np.linalg.solve(base, z[full].T).T)
    scale = np.ones(n)
    for row in np.flatnonzero(~full):
        here = ~absent[row]
        if here.any():
            q[row] = z[row, here] @ np.linalg.solve(base[np.ix_(here, here)], z[row, here])
            scale[row] = p / here.sum()
    return np.sqrt(scale * grow**2 * q / np.maximum(1 - b * q, 1e-12))


def upper_quantile(values: np.ndarray, alpha: float) -> float:
    """Value that a further one like these exceeds with chance alpha: order statistic (n + 1)(1 - alpha), interpolated,
    at most the largest (Hyndman and Fan 1996, type 6)."""
    return float(np.quantile(values, 1 - alpha, method="weibull"))


def _rows(matrix: Any, p: int) -> np.ndarray:
    try:
        matrix = np.asarray(matrix, dtype=float)
    except (TypeError, ValueError):
        raise InputError("similarity: inputs that are not numbers go to `categories`") from None
    if matrix.ndim != 2 or matrix.shape[1] != p or not p:
        raise InputError(f"similarity: rows of {p} inputs are needed, not shape {matrix.shape}")
    if np.isinf(matrix).any():
        raise InputError("similarity: an input is infinite")
    return matrix


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value).strip() == ""
