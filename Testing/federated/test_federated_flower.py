"""Flower for real: three SuperNodes and a SuperLink as processes on loopback, their traffic read byte by byte.

All runs share one federation and start together, because Flower's SuperNodes look for work every three seconds.
"""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from federated_cases import PLAN
from flower_federation import SECURE_PLAN, Z_PLAN
from IRAILib.cohort.federated import (
    Coordinator,
    FederatedResult,
    FixedPoint,
    SitePolicy,
    site_answer,
    train_in_process,
)
from IRAILib.cohort.federated.masking import to_bytes
from traffic import found_in, number_forms, table_forms

LIMITS = SitePolicy("", "", ())


@pytest.fixture(scope="session")
def runs(federation) -> SimpleNamespace:
    """The masked run, beside it an unmasked one, then a thief's app."""
    secure = federation.submit(SECURE_PLAN)
    unmasked = federation.submit(Z_PLAN)
    plain = FederatedResult.from_dict(federation.wait(unmasked))
    thief = federation.add_site(0, own_code_only=False)
    theft = federation.submit(Z_PLAN, app=federation.leaking_app())
    result = FederatedResult.from_dict(federation.wait(secure))
    loot = federation.wait(theft)
    return SimpleNamespace(secure=result, unmasked=plain, loot=loot,
                           record=[recorder.bytes_both() for recorder in federation.recorders[:3]],
                           thief=thief.bytes_up())


def secrets_of(federation, site: int) -> dict[str, set[bytes]]:
    """What must not leave a site, by kind."""
    rows = federation.rows[site]
    raw = np.column_stack([rows.x[:, :3], federation.z_rows[site].x, rows.time])
    return {"values": table_forms(raw), "identifiers": {name.encode() for name in federation.identifiers[site]},
            "names": {b"hospital_number", b"CANARY", b"group.secret", b"site.json", federation.secret,
                      f"site{site}.csv".encode(), str(federation.home).encode()}}


def test_the_masked_run_gives_the_models_of_the_pooled_sums(federation, runs) -> None:
    expected = train_in_process(SECURE_PLAN, federation.rows)
    assert runs.secure.secure
    assert runs.secure.n_sites == 3
    for kind in ("logistic", "cox", "network"):
        found, wanted = runs.secure.models[kind], expected.models[kind]
        np.testing.assert_allclose(found.parameters, wanted.parameters, rtol=1e-9, atol=1e-9)
        assert (found.n_patients, found.n_events) == (wanted.n_patients, wanted.n_events)
        assert found.converged == (kind != "network")
    np.testing.assert_allclose(runs.secure.models["cox"].hazard, expected.models["cox"].hazard, rtol=1e-9)
    assert runs.unmasked.models["logistic"].parameters == pytest.approx(
        train_in_process(Z_PLAN, federation.z_rows).models["logistic"].parameters)


@pytest.mark.parametrize("site", [0, 1, 2])
def test_nothing_of_a_patient_is_in_the_traffic_of_a_site(federation, runs, site: int) -> None:
    """Not in the masked run, not in the unmasked one, and not when a thief's app asks for it."""
    assert len(runs.record[site]) > 20_000
    for kind, forms in secrets_of(federation, site).items():
        assert len(forms) > (500 if kind == "values" else 3)
        assert not found_in(runs.record[site], forms), kind


def test_the_search_finds_a_table_that_an_app_gives_away(federation, runs) -> None:
    secrets = secrets_of(federation, 0)
    for kind in ("values", "identifiers"):
        assert len(found_in(runs.thief, secrets[kind], most=5)) == 5, kind
    assert b"hospital_number" in runs.thief


@pytest.mark.parametrize("kind", ["<f8", ">f8", "<f4", ">f4", "base64", "standardised"])
def test_the_search_knows_binary_forms(federation, kind: str) -> None:
    import base64

    values = federation.rows[1].x[:, :3]
    forms = table_forms(values)
    noise = np.random.default_rng(0).bytes(300_000)
    assert not found_in(noise, forms)
    if kind == "standardised":
        forms = {form for value in values[:, 0][np.isfinite(values[:, 0])] for form in number_forms((value - 40) / 15)}
        leak = ((values[:, 0] - 40) / 15).tobytes()
    else:
        leak = base64.b64encode(values[3].tobytes()) if kind == "base64" else values[3:5].astype(kind).tobytes()
    assert found_in(noise[:1000] + leak + noise[1000:], forms)


def test_a_site_runs_its_own_code_and_not_what_is_shipped(federation, runs) -> None:
    """The thief's app reached all four nodes; only the one that runs shipped code gave its table."""
    assert runs.loot == {"loot": (federation.home / "site0.csv").stat().st_size, "nodes": 4}
    for site in range(3):
        assert b"steal" in runs.record[site]


def own_sums(plan, rows, requests: list[dict]) -> set[bytes]:
    """The ring elements that a site would send without masks, where they are not small whole numbers."""
    vectors = np.concatenate([site_answer(request, rows, plan, LIMITS) for request in requests])
    telling = vectors[(np.abs(vectors) > 1e-6) & (np.abs(vectors * 64 - np.round(vectors * 64)) > 1e-6)]
    elements = FixedPoint().encode(telling)
    forms = {to_bytes([element]) for element in elements}
    for value in telling:
        forms |= number_forms(float(value))
    return forms


def requests_of(plan, sites, most: int = 3) -> list[dict]:
    """The first requests of a run."""
    coordinator, made = Coordinator(plan), []
    while len(made) < most and (request := coordinator.request()) is not None:
        made.append(request)
        coordinator.receive(np.sum([site_answer(request, rows, plan, LIMITS) for rows in sites], axis=0))
    return made


@pytest.mark.parametrize("site", [0, 1, 2])
def test_a_sites_own_sums_are_in_the_traffic_only_without_masks(federation, runs, site: int) -> None:
    up = federation.recorders[site].bytes_up()
    bare = own_sums(Z_PLAN, federation.z_rows[site], requests_of(Z_PLAN, federation.z_rows, 1))
    assert len(found_in(up, bare, most=3)) == 3, "the search must find what is sent without masks"
    hidden = own_sums(SECURE_PLAN, federation.rows[site], requests_of(SECURE_PLAN, federation.rows))
    hidden -= own_sums(Z_PLAN, federation.z_rows[site], requests_of(Z_PLAN, federation.z_rows))  # -n log 2 is in both
    assert len(hidden) > 200
    assert not found_in(up, hidden)


def test_every_process_ends_and_its_port_is_free(federation) -> None:
    """Runs last: ends the federation."""
    groups = {str(process.process.pid) for process in federation.processes}
    federation.stop()
    left = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            fields = []  # ended while we looked
        left += [stat.parent.name] if fields and fields[2] in groups and fields[0] != "Z" else []
    assert not left
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", federation.link_port))


def test_the_plan_of_the_ring_is_the_librarys_example() -> None:
    assert SECURE_PLAN.models == PLAN.models == ("logistic", "cox", "network")
    assert SECURE_PLAN.secure
