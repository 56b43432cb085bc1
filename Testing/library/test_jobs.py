"""Work in a worker process: results, progress, errors, and that nothing is left behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from IRAILib.geometry import CancelledError, EmptyMaskError, InputError, IRAIError
from IRAILib.jobs import run_job
from IRAILib.jobs.interpreter import python_executable

TASKS = """
    import logging, os, signal, subprocess, sys, tempfile, time
    import numpy as np

    def double(array, progress):
        for n in range(5):
            progress(n / 5, f"step {n}")
            time.sleep(0.06)
        progress(1.0, "done")
        return {"array": array * 2, "pid": os.getpid()}

    def plain(a, b=2):
        print("noise on standard output")
        logging.getLogger("IRAI.test").warning("a word from the worker")
        return a + b

    def empty():
        from IRAILib.geometry import EmptyMaskError
        raise EmptyMaskError("liver.nrrd: the mask is empty")

    def bug():
        return {}["missing"]

    def killed():
        os.kill(os.getpid(), signal.SIGKILL)

    def segfault():
        import ctypes
        ctypes.string_at(0)

    def silent():
        os._exit(0)

    def hungry():
        raise MemoryError()

    def odd():
        return lambda: 0

    def slow(note, progress):
        handle, path = tempfile.mkstemp()
        open(path, "w").write("left behind?")
        code = "import time; time.sleep(120)"
        child = subprocess.Popen([sys.executable, "-c", code])
        runaway = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        open(note, "w").write(f"{os.getpid()} {child.pid} {runaway.pid}")
        progress(0.5, "sleeping")
        time.sleep(120)
"""


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    (tmp_path / "tasks_for_jobs.py").write_text(textwrap.dedent(TASKS))
    (tmp_path / "temporary").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    yield tmp_path
    assert list((tmp_path / "temporary").iterdir()) == []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids: list[int], within_s: float = 5.0) -> bool:
    end = time.monotonic() + within_s
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


def test_result_and_progress_come_back(tasks):
    heard = []
    result = run_job("tasks_for_jobs:double", {"array": np.arange(6.0).reshape(2, 3)},
                     progress=lambda share, text: heard.append((share, text)))
    np.testing.assert_array_equal(result["array"], 2 * np.arange(6.0).reshape(2, 3))
    assert result["pid"] != os.getpid()
    assert heard[-1] == (1.0, "done")
    assert [share for share, _ in heard] == sorted(share for share, _ in heard)
    assert len(heard) >= 4


def test_function_without_progress_and_log(tasks, caplog):
    with caplog.at_level(logging.INFO, "IRAI"):
        assert run_job("tasks_for_jobs:plain", {"a": 3}) == 5
    assert "a word from the worker" in caplog.text


def test_own_errors_keep_their_class_and_text(tasks):
    with pytest.raises(EmptyMaskError, match=r"^liver\.nrrd: the mask is empty$"):
        run_job("tasks_for_jobs:empty", {})


@pytest.mark.parametrize(("name", "text"), [
    ("bug", "KeyError"), ("killed", "memory"), ("segfault", "crashed"), ("silent", "crashed with code 0"),
    ("hungry", "not enough memory"), ("odd", "failed"), ("missing", "AttributeError")])
def test_every_end_of_a_worker_is_a_clear_error(tasks, name, text):
    with pytest.raises(IRAIError, match=text) as error:
        run_job(f"tasks_for_jobs:{name}", {})
    assert "\n" not in str(error.value)


def test_arguments_that_cannot_be_handed_over(tasks):
    with pytest.raises(InputError, match="can't be handed"):
        run_job("tasks_for_jobs:plain", {"a": lambda: 1})
    with pytest.raises(InputError, match="write it as package"):
        run_job("tasks_for_jobs", {})


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("how", ["cancel", "time-out", "error in the caller"])
def test_nothing_is_left_behind(tasks, how):
    note = tasks / "note"
    begun = []

    def watch(share, text):
        begun.append(text)
        if how == "error in the caller":
            raise ZeroDivisionError

    expected = ZeroDivisionError if how == "error in the caller" else CancelledError
    with pytest.raises(expected):
        run_job("tasks_for_jobs:slow", {"note": str(note)}, progress=watch,
                cancelled=(lambda: bool(begun)) if how == "cancel" else None,
                timeout_s=3.0 if how == "time-out" else None)
    pids = [int(pid) for pid in note.read_text().split()]
    assert len(pids) == 3
    assert gone(pids)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_worker_ends_when_its_parent_is_killed(tasks):
    note = tasks / "note"
    code = (f"import sys, tempfile; sys.path.insert(0, {str(tasks)!r}); "
            f"tempfile.tempdir = {str(tasks / 'temporary')!r}; from IRAILib.jobs import run_job; "
            f"run_job('tasks_for_jobs:slow', {{'note': {str(note)!r}}})")
    parent = subprocess.Popen([sys.executable, "-c", code])
    end = time.monotonic() + 20.0
    while not (note.exists() and len(note.read_text().split()) == 3) and time.monotonic() < end:
        time.sleep(0.05)
    worker, child, runaway = (int(pid) for pid in note.read_text().split())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    try:
        assert gone([worker, child])
    finally:
        if alive(runaway):
            os.kill(runaway, signal.SIGKILL)


def test_interpreter_inside_an_application(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    for name in ("SlicerApp-real", "PythonSlicer"):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\nexec {sys.executable} \"$@\"\n")
        (tmp_path / "bin" / name).chmod(0o755)
    assert python_executable() == sys.executable
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "SlicerApp-real"))
    assert python_executable() == str(tmp_path / "bin" / "PythonSlicer")
    if os.name == "posix":
        assert run_job("os.path:basename", {"p": "a/b"}) == "b"
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.setenv("SLICER_HOME", str(tmp_path))
    assert python_executable() == str(tmp_path / "bin" / "PythonSlicer")
