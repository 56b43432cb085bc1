"""Intervals by resampling patients, and differences between two models on the same patients.

The unit that is drawn is the patient, with all rows that belong to it: several lesions, or the held-out predictions of
every repeat of a cross-validation. The repeats share their patients, so they are no new evidence: a figure is computed
per repeat and averaged, and the average is resampled as a whole (drawing rows, or taking the spread over repeats for an
interval, makes it too narrow; Bengio and Grandvalet 2004 show that no unbiased variance of cross-validation exists).
The interval speaks of the patients drawn, given the fitted models; it leaves out the variation of fitting anew.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (percentile, BCa with ties counted half);
Field and Welsh, J R Stat Soc B 2007 (clusters).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import norm

from ....geometry import CancelledError, InputError
from .checks import Metrics, NotEstimableError, plain

MAX_DRAWS = 5
"""At most so many draws for each resample wanted; past that the figure is not estimable by bootstrap."""


@dataclass(frozen=True)
class Interval:
    """A figure with its interval; `estimate` None means not estimable, `note` says why.

    n: patients (or rows, where no patients were given). redrawn: resamples without a value, drawn anew.
    """

    estimate: float | None
    low: float | None
    high: float | None
    n: int
    method: str
    level: float = 0.95
    redrawn: int = 0
    note: str = ""

    @property
    def estimable(self) -> bool:
        return self.estimate is not None

    def text(self, digits: int = 2) -> str:
        """'0.71 (95 % interval 0.60 to 0.81)', or 'not estimable: why'."""
        if self.estimate is None:
            return f"not estimable: {self.note}"
        if self.low is None or self.high is None:
            return f"{self.estimate:.{digits}f} (no interval: {self.note})"
        return (f"{self.estimate:.{digits}f} ({100 * self.level:g} % interval "
                f"{self.low:.{digits}f} to {self.high:.{digits}f})")

    def to_dict(self) -> dict[str, Any]:
        return plain(self.__dict__)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Interval:
        return cls(**document)


@dataclass(frozen=True)
class Difference(Interval):
    """Model minus baseline on the same patients. `p`: two-sided, by inversion of the percentile interval."""

    p: float | None = None

    def text(self, digits: int = 2) -> str:
        said = super().text(digits)
        return said if self.p is None else f"{said}, p = {self.p:.3f}"


@dataclass(frozen=True)
class Comparison:
    """Every figure of a model and of its baseline, and their paired differences (empty without a baseline)."""

    model: dict[str, Interval]
    baseline: dict[str, Interval] = field(default_factory=dict)
    difference: dict[str, Difference] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {part: {name: value.to_dict() for name, value in getattr(self, part).items()}
                for part in ("model", "baseline", "difference")}


class Draws:
    """Draws rows: whole patients with replacement, within strata when there are any.

    Args: n_rows; groups (n_rows,) patient of each row or None; strata (n_rows,), the same for all rows of a patient.
    Raises: InputError on other lengths, a patient in two strata.
    """

    def __init__(self, n_rows: int, groups: Any = None, strata: Any = None, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        codes = np.arange(n_rows) if groups is None else np.unique(_labels(groups, n_rows, "groups"),
                                                                   return_inverse=True)[1].ravel()
        self.n = int(codes.max()) + 1 if n_rows else 0
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(self.n))
        self.rows = np.split(order, starts[1:]) if self.n else []
        self.square = np.stack(self.rows) if self.rows and len({len(rows) for rows in self.rows}) == 1 else None
        self.parts = [np.arange(self.n)]
        if strata is not None:
            kinds = np.unique(_labels(strata, n_rows, "strata"), return_inverse=True)[1].ravel()
            first = np.array([kinds[rows[0]] for rows in self.rows], dtype=int)
            if any((kinds[rows] != kinds[rows[0]]).any() for rows in self.rows):
                raise InputError("strata: a patient lies in two strata")
            self.parts = [np.flatnonzero(first == kind) for kind in np.unique(first)]

    def draw(self) -> np.ndarray:
        """Row numbers of one resample."""
        return self._rows_of(np.concatenate([part[self.random.integers(0, len(part), len(part))]
                                             for part in self.parts]))

    def without(self, patient: int) -> np.ndarray:
        """Row numbers with one patient left out."""
        return self._rows_of(np.delete(np.arange(self.n), patient))

    def _rows_of(self, patients: np.ndarray) -> np.ndarray:
        if self.square is not None:
            return self.square[patients].ravel()
        return np.concatenate([self.rows[patient] for patient in patients]) if len(patients) else np.zeros(0, int)


def _labels(values: Any, n: int, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype == object:
        array = array.astype(str)
    if array.shape != (n,):
        raise InputError(f"{name}: {array.shape[0] if array.ndim else 0} labels for {n} rows")
    return array


def replicates(statistic: Callable[..., np.ndarray], arrays: Sequence[np.ndarray], draws: Draws, estimate: np.ndarray,
               n: int, progress: Callable[[float, str], None] | None = None,
               cancelled: Callable[[], bool] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """`n` resampled values of each component of a statistic that gives an array with NaN for 'no value'.

    A component without a value in a resample takes that of a later resample instead; what was passed over is counted.
    Returns: values (n, k), NaN rows where `MAX_DRAWS` * n draws were not enough; redrawn (k,).
    """
    wanted = np.isfinite(estimate)
    values = np.full((n, len(estimate)), np.nan)
    filled, redrawn = np.zeros(len(estimate), int), np.zeros(len(estimate), int)
    columns = np.arange(len(estimate))
    for draw in range(MAX_DRAWS * n):
        short = wanted & (filled < n)
        if not short.any():
            break
        if cancelled is not None and cancelled():
            raise CancelledError("the bootstrap was cancelled")
        if progress is not None and draw % 50 == 0:
            progress(float(filled[wanted].min()) / n, "bootstrap over patients")
        rows = draws.draw()
        value = np.asarray(statistic(*(array[rows] for array in arrays)), dtype=float)
        good = short & np.isfinite(value)
        values[filled[good], columns[good]] = value[good]
        filled += good
        redrawn += short & ~good
    return values, redrawn


def _bca(values: np.ndarray, estimate: float, jackknife: np.ndarray, level: float) -> tuple[float, float]:
    """Bias-corrected and accelerated limits. Raises: NotEstimableError where the correction has no value."""
    share = ((values < estimate).sum() + 0.5 * (values == estimate).sum()) / len(values)
    centred = jackknife.mean() - jackknife if np.isfinite(jackknife).all() else np.zeros(0)
    spread = float((centred**2).sum())
    if not 0 < share < 1 or spread <= 0:
        raise NotEstimableError("BCa has no value here")
    bias, skew = norm.ppf(share), float((centred**3).sum()) / (6 * spread**1.5)
    z = bias + norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(values, norm.cdf(bias + z / (1 - skew * z)))
    return float(low), float(high)


def _interval(values: np.ndarray, estimate: float, draws: Draws, redrawn: int, reason: str,
              jackknife: np.ndarray | None, level: float) -> Interval:
    unit = f"bootstrap over patients, {len(values)} resamples"
    if not math.isfinite(estimate):
        return Interval(None, None, None, draws.n, f"percentile {unit}", level, 0, reason or "no value on these data")
    if not np.isfinite(values).all() or draws.n < 2:
        why = "one patient only" if draws.n < 2 else "too few resamples have a value"
        return Interval(float(estimate), None, None, draws.n, f"percentile {unit}", level, redrawn, why)
    method, note = "percentile", ""
    low, high = (float(value) for value in np.quantile(values, [(1 - level) / 2, (1 + level) / 2]))
    if jackknife is not None:
        try:
            (low, high), method = _bca(values, estimate, jackknife, level), "BCa"
        except NotEstimableError:
            note = "BCa has no value here; percentile limits are given"
    if low == high:
        note = "every resample gave the same value: the width says nothing about the uncertainty"
    return Interval(float(estimate), low, high, draws.n, f"{method} {unit}", level, redrawn, note)


def _run(vector: Callable[..., tuple[np.ndarray, list[str]]], arrays: Sequence[Any], groups: Any, n: int, seed: int,
         strata: Any, method: str, level: float, progress: Any, cancelled: Any) -> tuple[list[Interval], np.ndarray]:
    if method not in ("percentile", "bca"):
        raise InputError(f"bootstrap: method '{method}' is unknown; percentile or bca")
    if n < 1 or not 0 < level < 1:
        raise InputError("bootstrap: at least one resample and a level between 0 and 1 are needed")
    arrays = [np.asarray(array) for array in arrays]
    if not arrays or any(array.ndim == 0 or len(array) != len(arrays[0]) for array in arrays):
        raise InputError("bootstrap: arrays with the same number of rows are needed")
    draws = Draws(len(arrays[0]), groups, strata, seed)
    estimate, reasons = vector(*arrays)
    values, redrawn = replicates(lambda *rows: vector(*rows)[0], arrays, draws, estimate, n, progress, cancelled)
    jackknife = None
    if method == "bca" and draws.n > 2:
        left = [draws.without(patient) for patient in range(draws.n)]
        jackknife = np.stack([vector(*(array[rows] for array in arrays))[0] for rows in left])
    return [_interval(values[:, k], float(estimate[k]), draws, int(redrawn[k]), reasons[k],
                      None if jackknife is None else jackknife[:, k], level) for k in range(len(estimate))], values


def bootstrap(statistic: Callable[..., float], *arrays: Any, groups: Any = None, n: int = 1000, seed: int = 0,
              strata: Any = None, method: str = "percentile", level: float = 0.95,
              progress: Callable[[float, str], None] | None = None,
              cancelled: Callable[[], bool] | None = None) -> Interval:
    """Interval of `statistic(*arrays)` by resampling rows of the arrays, whole groups (patients) at a time.

    Args:
        statistic: gives a number; raises NotEstimableError where there is none (such a resample is drawn anew and
            counted; where the data themselves give none, the interval says so).
        arrays: same length, resampled along their first axis.
        groups: (rows,) patient of each row; None: every row is a patient. strata: (rows,) drawn separately.
        method: "percentile" or "bca" (jackknife over patients).
    Raises: InputError on arrays of other lengths, CancelledError.
    """
    def vector(*rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
        try:
            return np.array([float(statistic(*rows))]), [""]
        except NotEstimableError as error:
            return np.array([np.nan]), [str(error)]

    return _run(vector, arrays, groups, n, seed, strata, method, level, progress, cancelled)[0][0]


def bootstrap_vector(function: Callable[..., np.ndarray], *arrays: Any, groups: Any = None, repeats: Any = None,
                     n: int = 1000, seed: int = 0, strata: Any = None, method: str = "percentile", level: float = 0.95,
                     reason: str = "", progress: Callable[[float, str], None] | None = None,
                     cancelled: Callable[[], bool] | None = None) -> list[Interval]:
    """An interval for each component of `function(*arrays)`, an array (k,) with NaN for 'no value' (`reason` says why).

    repeats: (rows,) the components are averaged over repeats; the rest as bootstrap. The limits are pointwise.
    """
    def call(*rows: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(function(*rows), dtype=float)
        except NotEstimableError:
            return np.full(width, np.nan)

    def vector(*rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
        if repeats is None:
            value = call(*rows)
        else:
            found = [call(*(row[rows[0] == one] for row in rows[1:])) for one in np.unique(rows[0])]
            value = np.mean(found, axis=0) if found else np.full(width, np.nan)
        return value, [reason] * len(value)

    width = len(np.asarray(function(*(np.asarray(array) for array in arrays)), dtype=float))
    given = arrays if repeats is None else (repeats, *arrays)
    return _run(vector, given, groups, n, seed, strata, method, level, progress, cancelled)[0]


def by_repeat(metrics: Callable[..., Any]) -> Callable[..., Any]:
    """`f(repeat, *arrays)`: the mean over repeats of what `metrics(*arrays)` gives in each (a number or Metrics).

    repeat: (rows,) number of the repeat of the cross-validation that each row's prediction was held out in.
    """
    def averaged(repeat: np.ndarray, *arrays: np.ndarray) -> Any:
        found = [metrics(*(array[repeat == one] for array in arrays)) for one in np.unique(repeat)]
        if not found:
            raise NotEstimableError("no patient")
        if not isinstance(found[0], Mapping):
            return float(np.mean(found))
        reasons: dict[str, str] = {}
        for one in found:
            reasons.update(getattr(one, "not_estimable", {}))
        names = [name for name in found[0] if all(name in one for one in found)]
        return Metrics({name: float(np.mean([one[name] for one in found])) for name in names}, reasons)

    return averaged


def compare(metrics: Callable[..., Mapping[str, float]], shared: Sequence[Any], model: Sequence[Any],
            baseline: Sequence[Any] | None = None, *, groups: Any = None, repeats: Any = None, n: int = 1000,
            seed: int = 0, strata: Any = None, method: str = "percentile", level: float = 0.95,
            progress: Callable[[float, str], None] | None = None,
            cancelled: Callable[[], bool] | None = None) -> Comparison:
    """Every figure of `metrics(*shared, *model)` with its interval, the same for the baseline, and the differences.

    One resample serves all figures of both models, so a difference is paired. repeats: (rows,) number of the repeat of
    the cross-validation; figures are averaged over repeats, patients are drawn with all their repeats.
    p of a difference: 2 min(share of resampled differences <= 0, share >= 0), (b + 1) / (n + 1), at most 1.
    Raises: InputError on arrays of other lengths, CancelledError.
    """
    call = metrics if repeats is None else by_repeat(metrics)
    lead = [] if repeats is None else [repeats]
    sizes = len(lead) + len(shared), len(lead) + len(shared) + len(model)
    arrays = [np.asarray(array) for array in (*lead, *shared, *model, *(baseline or ()))]
    sides = [call(*arrays[: sizes[1]])]
    if baseline is not None:
        sides.append(call(*arrays[: sizes[0]], *arrays[sizes[1]:]))
    names = list(dict.fromkeys(name for side in sides for name in (*side, *getattr(side, "not_estimable", {}))))

    def vector(*rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
        found = [call(*rows[: sizes[1]])]
        if baseline is not None:
            found.append(call(*rows[: sizes[0]], *rows[sizes[1]:]))
        values = [np.array([side.get(name, np.nan) for name in names], dtype=float) for side in found]
        reasons = [getattr(side, "not_estimable", {}).get(name, "") for side in found for name in names]
        if baseline is not None:
            values.append(values[0] - values[1])
            reasons += [reasons[k] or reasons[len(names) + k] for k in range(len(names))]
        return np.concatenate(values), reasons

    found, values = _run(vector, arrays, groups, n, seed, strata, method, level, progress, cancelled)
    k = len(names)
    parts = [dict(zip(names, found[start: start + k], strict=True)) for start in range(0, len(found), k)] if k else []
    if baseline is None or not parts:
        return Comparison(parts[0] if parts else {})
    return Comparison(parts[0], parts[1], {name: _with_p(parts[2][name], values[:, 2 * k + position])
                                           for position, name in enumerate(names)})


def _with_p(interval: Interval, values: np.ndarray) -> Difference:
    if interval.low is None:
        return Difference(**interval.__dict__)
    tail = min(int((values <= 0).sum()), int((values >= 0).sum()))
    return Difference(**interval.__dict__, p=min(1.0, 2 * (tail + 1) / (len(values) + 1)))
