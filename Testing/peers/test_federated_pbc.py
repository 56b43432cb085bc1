"""Three sites made of the Mayo PBC trial by age: federated Cox against lifelines on the pooled rows, stratified."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from IRAILib.cohort.federated import Column, FederatedPlan, read_rows, train_in_process
from IRAILib.cohort.federated.result import concordance

NAMES = ("age", "bili", "albumin", "protime", "edema")
PLAN = FederatedPlan("pbc", tuple(Column(name) for name in NAMES), ("cox",), time="time", event="status",
                     event_value="2", horizons=(365.0, 1461.0), ridge=0.0, rounds=15, tolerance=1e-8)


@pytest.fixture
def sites(data: Path, tmp_path: Path) -> list[Path]:
    """One table for each site: under 45 years, 45 to 55, 55 and over."""
    with open(data / "radiomics" / "pbc_mayo.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    head, rows = rows[0], rows[1:]
    paths = []
    for k in range(3):
        paths.append(tmp_path / f"site{k}.csv")
        with open(paths[-1], "w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([head, *(row for row in rows if np.digitize(float(row[head.index("age")]),
                                                                                    [45, 55]) == k)])
    return paths


def test_coefficients_are_those_of_the_stratified_pooled_rows(sites: list[Path]) -> None:
    lifelines = pytest.importorskip("lifelines")
    import pandas

    result = train_in_process(PLAN, [read_rows(path, PLAN, "id") for path in sites])
    table = pandas.concat([pandas.read_csv(path).assign(site=k) for k, path in enumerate(sites)])
    table = table[[*NAMES, "time", "status", "site"]].assign(status=lambda rows: (rows.status == 2).astype(int))
    table = table.fillna(dict(zip(NAMES, result.mean, strict=True)))
    peer = lifelines.CoxPHFitter().fit(table, "time", "status", strata=["site"])
    ours = result.coefficients("cox")
    assert result.models["cox"].n_patients == 418
    assert result.models["cox"].n_events == 161
    for name in NAMES:
        assert ours[name]["coefficient"] == pytest.approx(peer.params_[name], rel=1e-3, abs=1e-5)


def test_the_federated_model_ranks_every_site_as_well_as_the_pooled_one(sites: list[Path]) -> None:
    rows = [read_rows(path, PLAN, "id") for path in sites]
    index = [np.arange(len(part.x)) % 3 for part in rows]
    train = [part.take(np.flatnonzero(i != 0)) for part, i in zip(rows, index, strict=True)]
    federated = train_in_process(PLAN, train)
    together = train_in_process(PLAN, [type(rows[0])(*(np.concatenate([getattr(part, name) for part in train])
                                                       for name in ("x", "y", "time", "event")))])
    for part, i in zip(rows, index, strict=True):
        held = part.take(np.flatnonzero(i == 0))
        ours, theirs = (concordance(held.time, held.event, model.log_risk("cox", held.x))
                        for model in (federated, together))
        assert ours > 0.7
        assert abs(ours - theirs) < 0.03
