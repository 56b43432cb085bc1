"""Columns and patients that tell what they shouldn't: found, named with a number, dropped unless the user insists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .outcome import Outcome
from .record import Leak, Plan
from .roles import DUPLICATES, known_only_later
from .table import Table

MAX_AUC, MAX_CONCORDANCE, MAX_TIME_CORRELATION = 0.98, 0.95, 0.9
MIN_ROWS, MIN_CLASS = 20, 5
UNIQUE_SHARE = 0.95
SHUFFLED_COUNT = 1.5
"""All-different whole numbers that fill over two thirds of their range: 20 drawn from 30 do so 2 times in 10,000."""
MISSING_P = 0.001
SITE_TELLS = "the site goes with the target"
GAPS_TELL = "missing values go with the target"
MANY_ROWS = 1500
RUNS_Z = -4.0


def find_column_leaks(table: Table, names: Sequence[str], outcome: Outcome, plan: Plan) -> list[Leak]:
    """Leaks among the candidate columns `names` of the n rows of table (those of outcome). First reason a column has.

    Dropped unless in plan.allow ("kept"); missingness that goes with the target is "warned" (dropped where it all but
    gives the target away).
    """
    found = []
    for name in names:
        leak = (_constant(table, name) or _by_name(name) or _identifier(table, name)
                or _same_as_target(table, name, outcome) or _perfect(table, name, outcome)
                or _from_time(table, name, outcome))
        if leak is None:
            leak = _missingness(table, name, outcome, len(names))
        if leak is not None:
            action = leak.action or ("kept" if name in plan.allow else "dropped")
            found.append(Leak(leak.column, leak.kind, leak.evidence, leak.value, action))
    return found


def _constant(table: Table, name: str) -> Leak | None:
    words = {word for word in table.text[name].tolist() if word is not None}
    values = table.values[name]
    one = len(words) <= 1 or (table.kinds[name] == "number" and np.ptp(values[np.isfinite(values)]) == 0)
    return Leak(name, "constant", "the same value in every row", 1.0, "") if one else None


def _by_name(name: str) -> Leak | None:
    word = known_only_later(name)
    return None if word is None else Leak(
        name, "known only after treatment", f"its name says so ('{word}')", None, "")


def _identifier(table: Table, name: str) -> Leak | None:
    """Near-unique whole numbers that rise with the row or are a shuffled count, or near-unique words."""
    words = [word for word in table.text[name].tolist() if word is not None]
    share = len(set(words)) / max(len(words), 1)
    if len(words) < MIN_ROWS or share < UNIQUE_SHARE:
        return None
    if table.kinds[name] == "number":
        values = table.values[name][np.isfinite(table.values[name])]
        if not np.equal(np.mod(values, 1), 0).all():
            return None
        steps = np.diff(values)
        rises = max((steps > 0).mean(), (steps < 0).mean()) > UNIQUE_SHARE
        if not rises and not (share == 1 and np.ptp(values) < SHUFFLED_COUNT * len(values)):
            return None
    return Leak(name, "identifier", f"{share:.0%} of its values are unique and it counts the rows", share, "")


def _codes(table: Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(value (n,) float, known (n,) bool); a category as the number of its level."""
    if table.kinds[name] == "category":
        cells = table.text[name]
        levels = sorted({cell for cell in cells.tolist() if cell is not None})
        codes = np.array([levels.index(cell) if cell is not None else -1 for cell in cells], float)
        return codes, codes >= 0
    return table.values[name], np.isfinite(table.values[name])


def _same_as_target(table: Table, name: str, outcome: Outcome) -> Leak | None:
    """Each value stands for one class and the other way round (0/1 against yes/no)."""
    codes, known = _codes(table, name)
    if known.sum() < MIN_ROWS:
        return None
    pairs = {(c, int(k)) for c, k in zip(codes[known].tolist(), outcome.label[known].tolist(), strict=True)}
    left, right = {c for c, _ in pairs}, {k for _, k in pairs}
    if len(pairs) == len(left) == len(right) >= 2:
        return Leak(name, "equal to the target", f"its values are the target's in {int(known.sum())} rows", 1.0, "")
    if outcome.time is not None and table.kinds[name] == "number" and np.allclose(
            codes[known], outcome.time[known], rtol=1e-9):
        return Leak(name, "equal to the time", f"its values are the time in {int(known.sum())} rows", 1.0, "")
    return None


def _rates(codes: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(n,) share of label among the other rows of the same level (leave one out)."""
    _, back = np.unique(codes, return_inverse=True)
    total, count = np.bincount(back, label), np.bincount(back)
    return (total[back] - label + label.mean()) / count[back]


def _perfect(table: Table, name: str, outcome: Outcome) -> Leak | None:
    codes, known = _codes(table, name)
    if known.sum() < MIN_ROWS:
        return None
    label, codes = outcome.label[known], codes[known]
    best = _class_auc(codes, label, len(outcome.classes), table.kinds[name] == "category")
    if best > MAX_AUC:
        what = "" if outcome.time is None else " for who has the event, whatever the time"
        return Leak(name, "predicts the target alone", f"AUC {best:.3f} by itself{what}", best, "")
    if outcome.time is None:
        return None
    if (label == 1).sum() < 2 * MIN_CLASS or table.kinds[name] == "category":
        return None
    value = _concordance(outcome.time[known], label == 1, codes)
    if value is not None and max(value, 1 - value) > MAX_CONCORDANCE:
        best = max(value, 1 - value)
        return Leak(name, "predicts the target alone", f"concordance {best:.3f} by itself", best, "")
    return None


def _class_auc(codes: np.ndarray, label: np.ndarray, n_classes: int, category: bool) -> float:
    """The largest AUC of the column for one class against the rest, in either direction; 0 where classes are small."""
    best = 0.0
    for kind in range(n_classes):
        truth = (label == kind).astype(float)
        if min(truth.sum(), (1 - truth).sum()) < MIN_CLASS:
            continue
        value = _auc(truth, _rates(codes, truth) if category else codes)
        best = max(best, value, 0.0 if category else 1 - value)
    return best


def _auc(truth: np.ndarray, score: np.ndarray) -> float:
    from scipy.stats import rankdata

    ranks, cases = rankdata(score), truth.sum()
    return float((ranks[truth == 1].sum() - cases * (cases + 1) / 2) / (cases * (len(truth) - cases)))


def _concordance(time: np.ndarray, event: np.ndarray, score: np.ndarray) -> float | None:
    """Harrell's C of at most 1500 rows (every so many rows)."""
    step = -(-len(time) // MANY_ROWS)
    time, event, score = time[::step], event[::step], score[::step]
    pairs = event[:, None] & (time[:, None] < time[None])
    if not pairs.any():
        return None
    return float(((score[:, None] > score[None]) + 0.5 * (score[:, None] == score[None]))[pairs].mean())


def _from_time(table: Table, name: str, outcome: Outcome) -> Leak | None:
    if outcome.time is None or table.kinds[name] != "number":
        return None
    from scipy.stats import spearmanr

    values, known = _codes(table, name)
    for rows, where in ((known, "all rows"), (known & (outcome.label == 1), "rows with an event")):
        if rows.sum() >= MIN_ROWS and np.ptp(values[rows]) > 0 and np.ptp(outcome.time[rows]) > 0:
            rho = float(np.asarray(spearmanr(values[rows], outcome.time[rows]))[0])
            if abs(rho) > MAX_TIME_CORRELATION:
                return Leak(name, "made from the time", f"rank correlation {rho:.2f} with the time in {where}", rho, "")
    return None


def _missingness(table: Table, name: str, outcome: Outcome, n_columns: int) -> Leak | None:
    missing = ~_codes(table, name)[1]
    if min(missing.sum(), (~missing).sum()) < MIN_CLASS:
        return None
    if outcome.time is None:
        from scipy.stats import chi2_contingency

        counts = np.array([[(missing & (outcome.label == k)).sum(), (~missing & (outcome.label == k)).sum()]
                           for k in range(len(outcome.classes))])
        squared, p = (float(value) for value in list(chi2_contingency(counts, correction=False))[:2])
        size = float(np.sqrt(squared / len(outcome)))
    else:
        p, size = _log_rank(outcome.time, outcome.label == 1, missing), 0.0
    if p * n_columns >= MISSING_P:
        return None
    alone = size > 0.9
    return Leak(name, GAPS_TELL, f"p = {p:.1e}" + (f", phi {size:.2f}" if size else ""), p,
                "" if alone else "warned")


def _log_rank(time: np.ndarray, event: np.ndarray, group: np.ndarray) -> float:
    """p of the log-rank test of two groups (n,) bool."""
    from scipy.stats import chi2

    moments = np.unique(time[event])
    at_risk = (time[None] >= moments[:, None])
    n, n1 = at_risk.sum(axis=1), (at_risk & group).sum(axis=1)
    dead = (time[None] == moments[:, None]) & event
    d, d1 = dead.sum(axis=1), (dead & group).sum(axis=1)
    variance = np.where(n > 1, d * (n1 / n) * (1 - n1 / n) * (n - d) / np.maximum(n - 1, 1), 0.0).sum()
    return float(chi2.sf((d1 - d * n1 / n).sum() ** 2 / variance, 1)) if variance > 0 else 1.0


def find_row_leaks(table: Table, names: Sequence[str], outcome: Outcome, patients: np.ndarray,
                   sites: np.ndarray | None, plan: Plan) -> tuple[list[Leak], np.ndarray, np.ndarray]:
    """(leaks, patient (n,) to group by, keep (n,) bool) of duplicate patients, shared sites and sorted rows.

    A row that equals another patient's is dropped; near-equal rows of two patients are kept on one side of every split
    (they share a group). Both stay as they are when "duplicate patients" is in plan.allow.
    """
    leaks, keep, groups = [], np.ones(len(outcome), bool), patients.copy()
    for a, b, same in duplicates(table, names, patients):
        allowed = DUPLICATES in plan.allow
        what = "the same values in every column" if same else "nearly the same values in every column"
        leaks.append(Leak(f"{patients[a]} and {patients[b]}", DUPLICATES, what, None, "kept" if allowed else
                          ("dropped" if same else "kept on one side of every split")))
        if not allowed:
            keep[b] &= not same
            groups[groups == groups[b]] = groups[a]
    rows_of_patient = len(patients) - len(set(patients.tolist()))
    if rows_of_patient:
        leaks.append(Leak(plan.patient or "", "patients with several rows", f"{rows_of_patient} rows more than "
                          "patients; each patient stays on one side of every split", float(rows_of_patient), "warned"))
    if sites is not None:
        several = [name for name in sorted(set(patients.tolist())) if len(set(sites[patients == name].tolist())) > 1]
        if several:
            leaks.append(Leak(plan.site or "", "patients in several sites", f"{len(several)} patients, such as "
                              f"{several[0]}", float(len(several)), "warned"))
        leaks += _site_leak(sites, outcome, plan)
    order = _sorted_rows(outcome)
    if order is not None:
        leaks.append(order)
    return leaks, groups, keep


def _site_leak(sites: np.ndarray, outcome: Outcome, plan: Plan) -> list[Leak]:
    """The site goes with the class: a model may know the scanner instead of the disease, ComBat wipes out both."""
    if outcome.time is not None:
        return []
    from scipy.stats import chi2_contingency

    counts = np.array([[int(((sites == site) & (outcome.label == k)).sum()) for k in range(len(outcome.classes))]
                       for site in sorted(set(sites.tolist()))])
    if min(counts.shape) < 2 or len(outcome) < MIN_ROWS:
        return []
    squared, p = (float(value) for value in list(chi2_contingency(counts, correction=False))[:2])
    size = float(np.sqrt(squared / len(outcome) / (min(counts.shape) - 1)))
    if p >= MISSING_P:
        return []
    pure = int((counts.max(axis=1) == counts.sum(axis=1)).sum())
    said = f"Cramer's V {size:.2f}, p = {p:.1e}"
    said += f"; {pure} of {len(counts)} sites have one class only" if pure else ""
    return [Leak(plan.site or "", SITE_TELLS, said, size, "warned")]


def limits_of_leaks(leaks: Sequence[Leak], coefficients: Sequence[Mapping[str, Any]], combat: bool) -> list[str]:
    """What leaks that were only warned of mean for the figures, in sentences. coefficients: of the final model."""
    said = []
    gaps = [leak.column for leak in leaks if leak.kind == GAPS_TELL and leak.action in ("warned", "kept")]
    if gaps:
        weighed = {str(one["name"]) for one in coefficients}
        inside = [name for name in gaps if f"{name} missing" in weighed]
        text = (f"Whether a value of {', '.join(gaps)} is missing goes with the outcome: perhaps it was measured "
                "because of the outcome, which no patient before treatment can offer.")
        if inside:
            text += (f" The final model weighs that gap itself ({', '.join(inside)}): leave it out with --exclude and "
                     "compare.")
        said.append(text)
    for leak in leaks:
        if leak.kind == SITE_TELLS:
            said.append(f"The site goes with the outcome ({leak.evidence}): the model may know the hospital or scanner "
                        "instead of the patient" + (", and ComBat takes out what differs between sites, the outcome's "
                                                    "part of it too" if combat else "")
                        + ". Only holding out whole sites (--by-site), each with both outcomes, would show it.")
    return said


def duplicates(table: Table, names: Sequence[str], patients: np.ndarray) -> list[tuple[int, int, bool]]:
    """Pairs (earlier row, later row, equal in every column) of different patients, by the numbers that vary most.

    Needs 3 continuous columns for equal, 6 for near-equal (mean difference under 0.02 SD, words the same).
    """
    numbers = [n for n in names if table.kinds[n] == "number" and len(np.unique(table.values[n])) > 0.3 * len(table)]
    words = [n for n in names if n not in numbers]
    if len(numbers) < 3:
        return []
    values = np.column_stack([table.values[n] for n in numbers])
    sd = np.nanstd(values, axis=0)
    scaled = values / np.where(sd > 0, sd, 1.0)
    rest = ["|".join(str(table.text[n][r]) for n in words) for r in range(len(table))]
    pairs = []
    for a in range(len(table) - 1):
        gap = np.abs(scaled[a + 1:] - scaled[a])
        known = np.isfinite(gap)
        same_gaps = (np.isnan(scaled[a + 1:]) == np.isnan(scaled[a])).all(axis=1) & (known.sum(axis=1) >= 3)
        mean = np.where(known, gap, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        near = np.flatnonzero((mean < 0.02) & ((same_gaps & (mean < 1e-9)) | (known.sum(axis=1) >= 6)))
        for b in near + a + 1:
            if patients[a] != patients[b] and rest[a] == rest[b]:
                pairs.append((a, int(b), bool(same_gaps[b - a - 1] and mean[b - a - 1] < 1e-9)))
    return pairs


def _sorted_rows(outcome: Outcome) -> Leak | None:
    """Rows in blocks of the target (fewer runs than chance, Wald & Wolfowitz 1940) or in order of time."""
    if len(outcome) < MIN_ROWS:
        return None
    runs = 1 + int((np.diff(outcome.label) != 0).sum())
    share = np.bincount(outcome.label) / len(outcome)
    mean = len(outcome) * (1 - (share**2).sum()) + 1
    spread = np.sqrt(len(outcome) * max(float((share**2).sum() + (share**2).sum() ** 2 - 2 * (share**3).sum()), 1e-12))
    z = (runs - mean) / spread
    if z < RUNS_Z:
        return Leak("(row order)", "rows sorted by the target", f"{runs} runs of one value where chance gives "
                    f"{mean:.0f}; no column may count the rows", float(z), "warned")
    return None
