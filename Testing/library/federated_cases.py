"""Three hospitals by formula: known coefficients, different mixes of patients, different baselines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from IRAILib.cohort.federated import Column, FederatedPlan, SiteRows

LOG_ODDS = np.array([0.9, -0.7, 0.5, 0.8])
LOG_HAZARD = np.array([0.6, -0.4, 0.3, 0.5])
NAMES = ("size", "albumin", "afp", "stage=b")
MIXES = ((-0.7, 1.0, 0.15, -0.4), (0.0, 0.6, 0.5, 0.2), (0.9, 1.3, 0.8, -1.2))
"""Per site: shift of the inputs, their spread, share of stage b, log odds of the mean patient."""
UNITS = np.array([[42.0, 15.0], [36.0, 5.0], [310.0, 140.0]])
"""Typical value and spread of size (mm), albumin (g/L) and AFP (ug/L)."""

PLAN = FederatedPlan("three sites", (Column("size"), Column("albumin"), Column("afp"), Column("stage", ("a", "b"))),
                     ("logistic", "cox", "network"), target="response", target_value="yes", time="months",
                     event="status", event_value="2", time_unit="months", horizons=(6.0, 12.0, 24.0), rounds=6,
                     tolerance=1e-3, local_epochs=40)


def hospital(site: int, n: int, seed: int, missing: float = 0.0) -> SiteRows:
    """n patients of one site. Log odds and log hazard are linear in the typical units with the coefficients above."""
    random = np.random.default_rng([seed, site])
    shift, spread, share, level = MIXES[site]
    standard = np.column_stack([shift * np.array([1, -0.5, 0.7]) + spread * random.normal(size=(n, 3)),
                                random.random(n) < share])
    y = (random.random(n) < 1 / (1 + np.exp(-(level + standard @ LOG_ODDS)))).astype(float)
    death = random.exponential((9.0, 16.0, 25.0)[site] * np.exp(-standard @ LOG_HAZARD))
    censored = random.uniform(4, 40, n)
    time = np.maximum(np.minimum(death, censored), 0.01).round(3)
    x = np.column_stack([standard[:, :3] * UNITS[:, 1] + UNITS[:, 0], standard[:, 3]])
    x[random.random(x.shape) < missing] = np.nan
    return SiteRows(x, y, time, (death <= censored).astype(float))


def write_table(path: Path, rows: SiteRows, identifiers: list[str]) -> None:
    """The rows as a hospital's table with a patient column `hospital_number` and two more inputs z1 and z2."""
    random = np.random.default_rng(len(identifiers))
    lines = ["hospital_number,size,albumin,afp,stage,response,months,status,z1,z2"]
    for i, name in enumerate(identifiers):
        cells = ["" if np.isnan(value) else repr(float(value)) for value in rows.x[i, :3]]
        stage = "" if np.isnan(rows.x[i, 3]) else "ab"[int(rows.x[i, 3])]
        z = [repr(float(value)) for value in random.normal(5, 2, 2)]
        lines.append(",".join([name, *cells, stage, "yes" if rows.y[i] else "no", repr(float(rows.time[i])),
                               "2" if rows.event[i] else "0", *z]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def pooled(sites: list[SiteRows]) -> SiteRows:
    """All rows under one roof."""
    return SiteRows(*(np.concatenate([getattr(rows, name) for rows in sites])
                      for name in ("x", "y", "time", "event")))
