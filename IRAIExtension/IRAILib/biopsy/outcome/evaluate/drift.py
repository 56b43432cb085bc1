"""Whether patients seen now still look like those a model was made from, input by input.

PSI on bins of the reference, Kolmogorov-Smirnov, chi-square of categories, missing values (Fisher); p values corrected
over all inputs (Holm, or Benjamini-Hochberg). A reference kept without rows holds bin counts and a coarse distribution
function; its KS statistic, read at those knots only, can only be too small (it errs to 'no drift').
PSI has no fixed meaning: without any drift its expectation is about (B - 1)(1/n + 1/m) for B bins, n and m patients
(0.27 with ten bins and 67 against 67), so it is shown beside that and its 95 % limit, not against 0.1 and 0.25.

Sources: Yurdakul and Naranjo 2020 (PSI and its chi-square law); Holm 1979; Benjamini and Hochberg 1995.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import chi2, chi2_contingency, fisher_exact, ks_2samp, kstwo

from ....geometry import InputError
from .checks import plain

LEAST = 20
BINS = 10
CORRECTIONS = ("holm", "benjamini-hochberg")


@dataclass(frozen=True)
class ReferenceSummary:
    """A cohort without its rows. numbers: name to {"edges", "counts" (one more), "knots", "shares", "missing", "n"};
    labels: name to {"counts": category to number, "missing", "n"}. missing: number of patients without a value."""

    n: int
    numbers: dict[str, dict[str, Any]]
    labels: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return plain(self.__dict__)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ReferenceSummary:
        return cls(int(document["n"]), dict(document["numbers"]), dict(document.get("labels", {})))


@dataclass(frozen=True)
class InputDrift:
    """One input. None: not estimable, `note` says why. psi beside its expectation and 95 % limit without drift; test,
    statistic and p of the distribution (KS or chi-square), p_missing of the share missing; *_corrected over inputs."""

    name: str
    n: int
    psi: float | None
    psi_expected: float | None
    psi_limit: float | None
    bins: int
    test: str
    statistic: float | None
    p: float | None
    p_corrected: float | None
    missing_before: float
    missing_now: float
    p_missing: float | None
    p_missing_corrected: float | None
    drifted: bool
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return plain(self.__dict__)


@dataclass(frozen=True)
class Drift:
    """Verdict: "no drift seen", "drift" or "too few patients"; line: the same in a sentence with numbers."""

    verdict: str
    line: str
    n_reference: int
    n_current: int
    alpha: float
    correction: str
    inputs: list[InputDrift]

    def to_dict(self) -> dict[str, Any]:
        return plain({**self.__dict__, "inputs": [one.to_dict() for one in self.inputs]})


def summarise(matrix: Any, names: Sequence[str], *, labels: Mapping[str, Sequence[Any]] | None = None,
              bins: int = BINS) -> ReferenceSummary:
    """Reference of a cohort without its rows.

    Args: matrix (n, p), NaN for missing; names (p,); labels: column of categories to its (n,) values. Bins hold about
        equal numbers, never fewer than 5 patients on average; knots lie every 5 % or coarser.
    Raises: InputError on shapes.
    """
    matrix = np.asarray(matrix, dtype=float)
    if matrix.ndim != 2 or matrix.shape[1] != len(names) or np.isinf(matrix).any():
        raise InputError(f"drift: rows of {len(names)} finite inputs are needed, not shape {matrix.shape}")
    of_numbers = {}
    for name, column in zip(names, matrix.T, strict=True):
        there = column[np.isfinite(column)]
        count = int(np.clip(len(there) // 5, 1, bins))
        edges = np.unique(np.quantile(there, np.arange(1, count) / count)) if len(there) else np.zeros(0)
        steps = int(np.clip(len(there) // 5, 1, 20))
        knots = np.unique(np.quantile(there, np.arange(1, steps) / steps)) if len(there) else np.zeros(0)
        of_numbers[str(name)] = {"edges": edges.tolist(), "counts": _counts(there, edges).tolist(),
                                 "knots": knots.tolist(), "missing": int(len(column) - len(there)), "n": len(there),
                                 "shares": [float((there <= knot).mean()) for knot in knots]}
    of_labels = {}
    for name, values in (labels or {}).items():
        there = [str(value) for value in values if not _absent(value)]
        of_labels[str(name)] = {"counts": {kind: there.count(kind) for kind in sorted(set(there))},
                                "missing": len(values) - len(there), "n": len(there)}
    n = len(matrix) if len(names) else max((len(values) for values in (labels or {}).values()), default=0)
    return ReferenceSummary(n, of_numbers, of_labels)


def drift(reference: Any, current: Any, names: Sequence[str], *, labels: Mapping[str, Sequence[Any]] | None = None,
          reference_labels: Mapping[str, Sequence[Any]] | None = None, alpha: float = 0.05, correction: str = "holm",
          least: int = LEAST) -> Drift:
    """Compares the inputs of current patients with a reference.

    Args: reference: ReferenceSummary, or rows (n, p) (then KS uses them in full); current (m, p), names (p,), NaN for
        missing; labels, reference_labels: columns of categories. An input with fewer than `least` values on a side is
        not tested. correction over inputs: "holm" (any false alarm at most alpha) or "benjamini-hochberg".
    Raises: InputError on shapes, an input that the reference doesn't know, an unknown correction.
    """
    if correction not in CORRECTIONS:
        raise InputError(f"correction '{correction}' is unknown; {' or '.join(CORRECTIONS)}")
    rows = None
    if not isinstance(reference, ReferenceSummary):
        rows = np.asarray(reference, dtype=float)
        reference = summarise(rows, names, labels=reference_labels)
    current = np.asarray(current, dtype=float)
    if current.ndim != 2 or current.shape[1] != len(names) or np.isinf(current).any():
        raise InputError(f"drift: rows of {len(names)} finite inputs are needed, not shape {current.shape}")
    strange = [name for name in names if name not in reference.numbers]
    strange += [name for name in labels or {} if name not in reference.labels]
    if strange:
        raise InputError(f"drift: input '{strange[0]}' is not in the reference")
    found = [_number(str(name), reference.numbers[name], column, None if rows is None else rows[:, place], least)
             for place, (name, column) in enumerate(zip(names, current.T, strict=True))]
    found += [_label(name, reference.labels[name], values, least) for name, values in (labels or {}).items()]
    return _verdict(found, reference.n, len(current), alpha, correction)


def _number(name: str, before: Mapping[str, Any], column: np.ndarray, rows: np.ndarray | None,
            least: int) -> dict[str, Any]:
    there = column[np.isfinite(column)]
    out = _start(name, before, len(there), len(column), "Kolmogorov-Smirnov", least)
    if out["note"]:
        return out
    counts = np.asarray(before["counts"], dtype=float)
    _add_psi(out, counts, _counts(there, np.asarray(before["edges"], dtype=float)))
    if rows is not None:
        result: Any = ks_2samp(rows[np.isfinite(rows)], there, method="auto")
        out["statistic"], out["p"] = float(result.statistic), float(result.pvalue)
    elif len(before["knots"]):
        share = np.searchsorted(np.sort(there), before["knots"], side="right") / len(there)
        out["statistic"] = float(np.abs(share - np.asarray(before["shares"])).max())
        size = before["n"] * len(there) / (before["n"] + len(there))
        out["p"] = float(np.clip(kstwo.sf(out["statistic"], max(1, round(size))), 0.0, 1.0))
        out["test"] += " at the reference's knots (its p errs to no drift)"
    else:
        out["note"] = "constant in the reference" if len(counts) < 2 else "too few different values"
    return out


def _label(name: str, before: Mapping[str, Any], values: Sequence[Any], least: int) -> dict[str, Any]:
    there = [str(value) for value in values if not _absent(value)]
    out = _start(name, before, len(there), len(values), "chi-square", least)
    if out["note"]:
        return out
    kinds = sorted({*before["counts"], *there})
    table = np.array([[before["counts"].get(kind, 0) for kind in kinds], [there.count(kind) for kind in kinds]], float)
    _add_psi(out, *table)
    if len(kinds) < 2:
        out["note"] = "one category only"
        return out
    result: Any = chi2_contingency(table, correction=False)
    out["statistic"], out["p"] = float(result[0]), float(result[1])
    if result[3].min() < 5:
        result = chi2_contingency(table, correction=False, method=_shuffles())
        out["p"], out["test"] = float(result.pvalue), "chi-square by permutation (an expected count is below 5)"
    unseen = [kind for kind in kinds if kind not in before["counts"]]
    out["note"] = f"new: {', '.join(unseen[:5])}" if unseen else ""
    return out


def _shuffles() -> Any:
    from scipy.stats import PermutationMethod

    return PermutationMethod(n_resamples=1999, rng=np.random.default_rng(0))


def _start(name: str, before: Mapping[str, Any], n: int, m: int, test: str, least: int) -> dict[str, Any]:
    total = before["n"] + before["missing"]
    out: dict[str, Any] = {
        "name": name, "n": n, "psi": None, "psi_expected": None, "psi_limit": None, "bins": 0, "test": test,
        "statistic": None, "p": None, "missing_before": before["missing"] / max(total, 1),
        "missing_now": (m - n) / max(m, 1), "p_missing": None, "note": ""}
    if min(total, m) >= least and (before["missing"] or m > n):
        result: Any = fisher_exact([[before["missing"], before["n"]], [m - n, n]])
        out["p_missing"] = float(result[1])
    if min(before["n"], n) < least:
        out["note"] = f"{before['n']} and {n} values, {least} on each side are needed"
    return out


def _add_psi(out: dict[str, Any], before: np.ndarray, now: np.ndarray) -> None:
    out["bins"] = len(before)
    if len(before) < 2:
        return
    out["psi"] = psi(before, now)
    unit = 1 / before.sum() + 1 / now.sum()
    out["psi_expected"] = float((len(before) - 1) * unit)
    out["psi_limit"] = float(chi2.ppf(0.95, len(before) - 1) * unit)


def psi(before: Any, now: Any) -> float:
    """Population stability index of two counts (B,): sum of (q - p) log(q / p); 0.5 is added to each count of a side
    with an empty bin. Raises: InputError on other lengths or empty sides."""
    before, now = np.asarray(before, dtype=float), np.asarray(now, dtype=float)
    if before.shape != now.shape or before.ndim != 1 or before.sum() <= 0 or now.sum() <= 0:
        raise InputError("psi: two lists of counts of the same bins are needed")
    if (before == 0).any() or (now == 0).any():
        before, now = before + 0.5, now + 0.5
    p, q = before / before.sum(), now / now.sum()
    return float(((q - p) * np.log(q / p)).sum())


def corrected(p: Any, method: str = "holm") -> np.ndarray:
    """Adjusted p values, (k,), Holm (any false alarm) or Benjamini-Hochberg (share of false alarms)."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p, kind="stable")
    k, out = len(p), np.empty(len(p))
    if method == "holm":
        out[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * (k - np.arange(k))))
    elif method == "benjamini-hochberg":
        out[order] = np.minimum(1.0, np.minimum.accumulate((p[order] * k / np.arange(1, k + 1))[::-1])[::-1])
    else:
        raise InputError(f"correction '{method}' is unknown; {' or '.join(CORRECTIONS)}")
    return out


def _verdict(found: list[dict[str, Any]], n: int, m: int, alpha: float, correction: str) -> Drift:
    places = [(one, key) for one in found for key in ("p", "p_missing") if one[key] is not None]
    for one in found:
        one["p_corrected"] = one["p_missing_corrected"] = None
    adjusted = corrected([one[key] for one, key in places], correction) if places else np.zeros(0)
    for (one, key), value in zip(places, adjusted, strict=True):
        one[f"{key}_corrected"] = float(value)
    for one in found:
        one["drifted"] = any(one[key] is not None and one[key] < alpha for key in ("p_corrected",
                                                                                   "p_missing_corrected"))
    inputs = [InputDrift(**one) for one in found]
    moved = [one.name for one in inputs if one.drifted]
    if not places:
        verdict, line = "too few patients", f"{m} current and {n} reference patients: too few to look for drift"
    elif moved:
        verdict = "drift"
        line = (f"{len(moved)} of {len(inputs)} inputs have moved ({', '.join(moved[:5])}) in {m} patients against {n} "
                f"({correction}, {alpha:g}): check the model before it is used on")
    else:
        verdict, smallest = "no drift seen", float(min(adjusted))
        line = (f"no input of {len(inputs)} has moved in {m} patients against {n} (smallest corrected p "
                f"{smallest:.3f}); a small change can stay unseen")
    return Drift(verdict, line, n, m, alpha, correction, inputs)


def _counts(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value)) or str(value).strip() == ""
