"""Federated against pooled and local training on held-out rows of each site; what a masked sum costs."""

from __future__ import annotations

import csv
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "library"))

from federated_cases import PLAN, hospital, pooled
from IRAILib.cohort.federated import (
    Column,
    FederatedPlan,
    FederatedResult,
    FixedPoint,
    SiteRows,
    add_masks,
    train_in_process,
)
from IRAILib.cohort.federated.result import auc, bootstrap_interval, concordance

SEED, DRAWS = 2026, 500
PBC = FederatedPlan("pbc", tuple(Column(name) for name in ("age", "log_bili", "albumin", "protime", "edema")),
                    ("logistic", "cox", "network"), target="dead_4y", time="time", event="status", event_value="2",
                    horizons=(365.0, 1461.0, 3650.0), rounds=12)
PBC_SITES = ("under 45 years", "45 to 55", "55 and over")


def score(kind: str):
    """The measure of a model and the arrays that it takes."""
    if kind == "cox":
        return concordance, lambda model, rows: (rows.time, rows.event, model.log_risk(kind, rows.x))
    return auc, lambda model, rows: (rows.y, model.log_risk(kind, rows.x))


def with_outcome(kind: str, rows: SiteRows) -> SiteRows:
    return rows.take(np.flatnonzero(rows.has_follow_up if kind == "cox" else rows.has_target))


def written(value: float, interval: list[float] | None, sign: str = "") -> str:
    return f"{value:{sign}.3f}" + (f" ({interval[0]:{sign}.3f} to {interval[1]:{sign}.3f})" if interval else "")


def difference(kind: str, one: FederatedResult, other: FederatedResult, rows: SiteRows) -> str:
    """Paired difference of two models on the same rows with its bootstrap interval."""
    measure, arrays = score(kind)
    *outcome, first = arrays(one, rows)
    second = arrays(other, rows)[-1]

    def both(*drawn: np.ndarray) -> float:
        return measure(*drawn[:-2], drawn[-2]) - measure(*drawn[:-2], drawn[-1])

    return written(both(*outcome, first, second), bootstrap_interval(both, (*outcome, first, second), DRAWS, SEED),
                   "+")


def compare(plan: FederatedPlan, names: list[str], train: list[SiteRows], held_out: list[SiteRows]) -> list[str]:
    """Markdown table: every model at every site."""
    federated = train_in_process(plan, train)
    together = train_in_process(plan, [pooled(train)])
    local = [train_in_process(plan, [rows]) for rows in train]
    lines = ["| model | site: patients (events), held out | local | pooled | federated | federated - local "
             "| federated - pooled |", "|---|---|---|---|---|---|---|"]
    for kind in plan.models:
        measure, arrays = score(kind)
        for i, name in enumerate(names):
            rows = with_outcome(kind, held_out[i])
            events = int(np.sum((rows.event if kind == "cox" else rows.y) == 1))
            cells = []
            for model in (local[i], together, federated):
                given = arrays(model, rows)
                cells.append(written(measure(*given), bootstrap_interval(measure, given, DRAWS, SEED)))
            cells += [difference(kind, federated, other, rows) for other in (local[i], together)]
            lines.append(f"| {kind} | {name}: {len(rows.y)} ({events}) | {' | '.join(cells)} |")
    lines += ["", "Largest difference of a federated coefficient (of standardised inputs) from the pooled one, and in "
              "standard errors:", ""]
    for kind in ("logistic", "cox"):
        gap = np.abs(np.array(federated.models[kind].parameters) - np.array(together.models[kind].parameters))
        errors = np.array(together.models[kind].standard_errors)
        lines.append(f"- {kind}: {gap.max():.2g}, {(gap / errors).max():.2g} standard errors; "
                     f"{federated.models[kind].rounds} rounds"
                     + ("; the federated model is stratified by site, the pooled one is not" if kind == "cox" else ""))
    return lines


def formula() -> list[str]:
    """Three hospitals by formula (Testing/library/federated_cases.py)."""
    sizes = (150, 90, 110)
    train = [hospital(site, n, SEED) for site, n in enumerate(sizes)]
    held_out = [hospital(site, 400, SEED + 1) for site in range(3)]
    plan = replace(PLAN, rounds=12, tolerance=1e-6)
    return [f"Three hospitals by formula, training rows {', '.join(map(str, sizes))}, 400 held out at each, seed "
            f"{SEED}; logistic and network AUC, Cox Harrell's C, 95 % bootstrap over patients ({DRAWS} draws):", "",
            *compare(plan, ["A", "B", "C"], train, held_out)]


def pbc_sites(path: Path) -> list[tuple[np.ndarray, SiteRows]]:
    """The Mayo PBC trial as three sites by age: (ids, rows). Death within 4 years is unknown (NaN) where follow-up
    ended earlier; a transplant counts as the end of follow-up."""
    with open(path, newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))

    def column(name: str) -> np.ndarray:
        return np.array([float(row[name]) if row[name] not in ("", "NA") else np.nan for row in table])

    days, dead, age = column("time"), (column("status") == 2).astype(float), column("age")
    y = np.where((dead == 1) & (days <= 1461), 1.0, np.where(days > 1461, 0.0, np.nan))
    x = np.column_stack([age, np.log(column("bili")), column("albumin"), column("protime"), column("edema")])
    rows = SiteRows(x, y, days, dead)
    site = np.digitize(age, [45, 55])
    return [(column("id")[site == k], rows.take(np.flatnonzero(site == k))) for k in range(3)]


def pbc(path: Path) -> list[str]:
    """Every third patient number is held out."""
    sites = pbc_sites(path)
    train = [rows.take(np.flatnonzero(ids % 3 != 0)) for ids, rows in sites]
    held_out = [rows.take(np.flatnonzero(ids % 3 == 0)) for ids, rows in sites]
    return ["Mayo PBC trial (418 patients), split by age into three sites; inputs age, log bilirubin, albumin, "
            "prothrombin time, oedema; every third patient number held out. The logistic target, death within 4 "
            "years, leaves out those whose follow-up ended earlier:", "",
            *compare(PBC, list(PBC_SITES), train, held_out)]


def masks() -> list[str]:
    """Time of encoding and masking."""
    lines = []
    for n in (100, 10_000):
        started = time.perf_counter()
        add_masks(FixedPoint().encode(np.random.default_rng(0).normal(size=n)), "a", {"b": b"k" * 32, "c": b"j" * 32},
                  b"run|1")
        lines.append(f"- {n} numbers encoded and masked for two other sites: {time.perf_counter() - started:.4f} s, "
                     f"{16 * n / 1000:g} kB")
    return lines


def run(data: Path) -> list[str]:
    """The section's lines."""
    lines = [*formula(), ""]
    path = data / "radiomics" / "pbc_mayo.csv"
    lines += [*pbc(path), ""] if path.is_file() else [f"{path.name} is not here: the trial was left out.", ""]
    return [*lines, "Masked sums:", "", *masks()]


if __name__ == "__main__":
    from run import data_folder

    print("\n".join(run(data_folder())))
