"""Cohorts on Dask: values, errors apart, cancel and resume, workers that die, clusters by address."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from cohort_cases import LIBRARY, dask_cluster, kill, read_rows, write_margin_cohort, write_rows
from IRAILib.cohort.manifest import read_manifest
from IRAILib.cohort.results import LOCK_FILE
from IRAILib.cohort.run import run_cohort
from IRAILib.cohort.tasks import run_case
from IRAILib.geometry import CancelledError, InputError, IRAIError

SETTINGS = {"margin": {}, "registration": {}}


def test_values_errors_and_tables(tmp_path: Path) -> None:
    """Four good cases, one whose file is missing, one whose file is no image."""
    manifest = write_margin_cohort(tmp_path, 4)
    rows = read_rows(manifest)
    (tmp_path / "text.nii.gz").write_text("no image")
    extra = [rows[0] | {"case": "lost", "tumor": "nowhere.nii.gz"}, rows[1] | {"case": "text", "tumor": "text.nii.gz"}]
    write_rows(manifest, [*rows[:2], *extra, *rows[2:]])
    told: list[tuple[float, str]] = []
    summary = run_cohort(manifest, "margin", tmp_path / "out", workers=1, progress=lambda *state: told.append(state))
    assert (summary.done, summary.failed, summary.refused, summary.skipped) == (4, 2, 0, 0)
    table = read_rows(tmp_path / "out" / "margins.csv")
    assert [row["case"] for row in table] == ["case 0", "case 1", "case 2", "case 3"]
    assert [row["patient"] for row in table] == ["000", "000", "001", "001"], "leading zeros are lost"
    assert all(float(row["mam_mm"]) == pytest.approx(4.0, abs=0.4) for row in table)
    errors = {row["case"]: row for row in read_rows(tmp_path / "out" / "errors.csv")}
    assert set(errors) == {"lost", "text"}
    assert "nowhere.nii.gz" in errors["lost"]["message"]
    assert errors["lost"]["line"] == "4"
    assert told[-1][0] == 1.0
    assert "6 of 6" in told[-1][1]
    about = json.loads((tmp_path / "out" / "columns.json").read_text())
    assert about["mam_mm"]["unit"] == "mm"
    assert "RAS" in about["mam_mm"]["frame"]
    _check_parquet(tmp_path / "out" / "margins.parquet", table)


def _check_parquet(path: Path, table: list[dict[str, str]]) -> None:
    import pyarrow.parquet as pq

    other = pq.read_table(path).to_pylist()
    assert [row["patient"] for row in other] == [row["patient"] for row in table]
    assert [repr(row["mam_mm"]) for row in other] == [row["mam_mm"] for row in table]
    assert other[0]["age"] == 50.0
    assert other[0]["centre"] == "Nord"


def test_a_run_that_was_cancelled_goes_on(tmp_path: Path) -> None:
    manifest = write_margin_cohort(tmp_path, 5)
    out, seen = tmp_path / "out", []
    with pytest.raises(CancelledError, match="kept"):
        run_cohort(manifest, "margin", out, workers=1, progress=lambda share, text: seen.append(share),
                   cancelled=lambda: any(share > 0 for share in seen))
    kept = {path: path.stat().st_mtime_ns for path in (out / "cases").glob("*.json")}
    assert 1 <= len(kept) < 5
    assert len(read_rows(out / "margins.csv")) == len(kept), "what is done stands in the table even then"
    assert not (out / LOCK_FILE).exists()
    summary = run_cohort(manifest, "margin", out, workers=1)
    assert summary.skipped == len(kept)
    assert summary.done == 5
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items()), "a finished case was done again"
    os.utime(tmp_path / "zone4.nii.gz", ns=(1, 1))
    rows = read_rows(manifest)
    rows[3]["age"] = "80"
    write_rows(manifest, rows)
    assert run_cohort(manifest, "margin", out, workers=1).skipped == 4, "a changed file"
    assert read_rows(out / "margins.csv")[3]["age"] == "80", "a column that is carried along costs no work"
    (out / "cases" / next(iter(kept)).name).write_text("{")
    assert run_cohort(manifest, "margin", out, workers=1).skipped == 4, "a damaged result"
    config = tmp_path / "margin.yaml"
    config.write_text("margin: {threshold_mm: 3}\n")
    assert run_cohort(manifest, "margin", out, workers=1, config=config).skipped == 0, "other settings, other results"
    assert {row["threshold_mm"] for row in read_rows(out / "margins.csv")} == {"3.0"}


def test_a_cluster_by_address_survives_the_loss_of_a_worker(tmp_path: Path) -> None:
    """Two workers on loopback, one and its nanny killed midway: every case once, values as without a cluster."""
    manifest = write_margin_cohort(tmp_path, 14)
    with dask_cluster(tmp_path, 2) as (address, workers):
        state = {"killed": False}

        def tell(share: float, text: str) -> None:
            if share > 0.2 and not state["killed"]:
                state["killed"] = True
                kill(workers[0])

        summary = run_cohort(manifest, "margin", tmp_path / "out", scheduler=address, progress=tell)
        assert state["killed"]
        assert workers[0].poll() is not None
        assert workers[1].poll() is None
    assert (summary.done, summary.failed, summary.workers) == (14, 0, 2)
    table = read_rows(tmp_path / "out" / "margins.csv")
    assert [row["case"] for row in table] == [f"case {number}" for number in range(14)]
    for case, row in zip(read_manifest(manifest, "margin"), table, strict=True):
        alone = run_case("margin", case.to_dict(), SETTINGS)
        assert float(row["mam_mm"]) == pytest.approx(alone["values"]["mam_mm"], abs=1e-9)


def test_a_lost_scheduler_ends_the_run_with_what_is_done(tmp_path: Path) -> None:
    """Killed midway: one line, no case counted as failed, and the rest is done by the next run."""
    manifest, out = write_margin_cohort(tmp_path, 10), tmp_path / "out"
    with dask_cluster(tmp_path, 1) as (address, _):
        (scheduler,) = [child for child in psutil.Process().children() if "distributed.cli.dask_scheduler"
                        in child.cmdline()]

        def tell(share: float, text: str) -> None:
            if 0.2 < share < 1.0:
                scheduler.kill()

        with pytest.raises(IRAIError, match=r"scheduler was lost; \d of 10 cases are done and kept"):
            run_cohort(manifest, "margin", out, scheduler=address, progress=tell)
    kept = len(list((out / "cases").glob("*.json")))
    assert 3 <= kept < 10
    assert not read_rows(out / "errors.csv")
    assert len(read_rows(out / "margins.csv")) == kept
    summary = run_cohort(manifest, "margin", out, workers=1)
    assert (summary.done, summary.skipped) == (10, kept)


KILLER = """
import os
from IRAILib.cohort import margins
def spy(real):
    def margin_values(case, settings):
        if case["name"] == "case 2":
            os._exit(1)
        return real(case, settings)
    margin_values.spied = True
    return margin_values
if not hasattr(margins.margin_values, "spied"):
    margins.margin_values = spy(margins.margin_values)
"""


def test_a_case_that_kills_its_workers_is_set_apart(tmp_path: Path) -> None:
    manifest = write_margin_cohort(tmp_path, 5)
    preload = tmp_path / "killer.py"
    preload.write_text(KILLER)
    with dask_cluster(tmp_path, 1, preload) as (address, _):
        summary = run_cohort(manifest, "margin", tmp_path / "out", scheduler=address)
    assert (summary.done, summary.failed) == (4, 1)
    (error,) = read_rows(tmp_path / "out" / "errors.csv")
    assert error["case"] == "case 2"
    assert error["kind"] == "worker died"
    assert "memory" in error["message"]


def test_an_interrupted_command_leaves_no_process(tmp_path: Path) -> None:
    """Ctrl-C, as a terminal sends it: to the whole group."""
    manifest = write_margin_cohort(tmp_path, 40)
    command = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
               "from IRAILib.cli.main import main; sys.exit(main(sys.argv[1:]))")
    process = subprocess.Popen([sys.executable, "-c", command, "cohort", "run", str(manifest), "--task", "margin",
                                "--out", str(tmp_path / "out"), "--workers", "2"], text=True, start_new_session=True,
                               stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(LIBRARY)})
    try:
        for _ in range(600):
            if list((tmp_path / "out" / "cases").glob("case*.json")) or process.poll() is not None:
                break
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    for _ in range(100):
        if not _group(process.pid):
            break
        time.sleep(0.1)
    assert not _group(process.pid)
    assert not (tmp_path / "out" / LOCK_FILE).exists()
    assert 1 <= len(read_rows(tmp_path / "out" / "margins.csv")) < 40


def _group(leader: int) -> list[str]:
    """Processes of that group that still run."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[2] == str(leader) and fields[0] != "Z":
                found.append(folder.name)
    return found


def test_folders_and_options_that_are_refused(tmp_path: Path) -> None:
    manifest = write_margin_cohort(tmp_path, 1)
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.docx").write_text("mine")
    with pytest.raises(InputError, match="isn't empty"):
        run_cohort(manifest, "margin", full)
    assert sorted(path.name for path in full.iterdir()) == ["thesis.docx"]
    with pytest.raises(InputError, match="no folder"):
        run_cohort(manifest, "margin", full / "thesis.docx")
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        run_cohort(manifest, "margin", tmp_path / "a", scheduler="tcp://127.0.0.1:1")
    with pytest.raises(InputError, match="workers"):
        run_cohort(manifest, "margin", tmp_path / "a", workers=0)
    busy = tmp_path / "busy"
    busy.mkdir()
    parent = {"host": socket.gethostname(), "pid": os.getppid(),
              "started": psutil.Process(os.getppid()).create_time()}
    for held, words in ((parent, f"process {os.getppid()}"), ({**parent, "host": "elsewhere"}, "delete .*running")):
        (busy / LOCK_FILE).write_text(json.dumps(held))
        with pytest.raises(InputError, match=f"another run.*{words}"):
            run_cohort(manifest, "margin", busy)
    (busy / LOCK_FILE).write_text(json.dumps({**parent, "started": 1.0}))
    assert run_cohort(manifest, "margin", busy, workers=1).done == 1, "another process has that number now"
    config = tmp_path / "c.yaml"
    config.write_text("margin: {treshold_mm: 3}\n")
    with pytest.raises(InputError, match="unknown setting 'treshold_mm'"):
        run_cohort(manifest, "margin", tmp_path / "a", config=config)


def test_a_slow_case_is_ended(tmp_path: Path) -> None:
    """The time-out holds for the case alone, in a process of its own."""
    manifest = write_margin_cohort(tmp_path, 1)
    (case,) = read_manifest(manifest, "margin")
    outcome = run_case("margin", case.to_dict(), SETTINGS, timeout_s=0.05)
    assert outcome["status"] == "failed"
    assert outcome["kind"] == "stopped"


def test_the_command_says_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --out beside the manifest; status 1 where a case failed, 2 for a manifest that is none."""
    from IRAILib.cli.main import main

    manifest = write_margin_cohort(tmp_path, 2)
    (tmp_path / "tumor1.nii.gz").unlink()
    assert main(["cohort", "run", str(manifest), "--task", "margin", "--workers", "1"]) == 1
    said = capsys.readouterr().out
    assert "1 of 2 cases done, 1 failed" in said
    assert str(tmp_path / "manifest-margin" / "errors.csv") in said
    assert [row["case"] for row in read_rows(tmp_path / "manifest-margin" / "margins.csv")] == ["case 0"]
    assert main(["cohort", "run", str(tmp_path), "--task", "margin"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
