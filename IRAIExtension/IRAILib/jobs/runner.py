"""Work in a process of its own, so that it can be watched, cancelled, timed out, or crash without harm."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..geometry import CancelledError, InputError, IRAIError, errors
from .interpreter import python_executable
from .tree import JOB_VARIABLE, end_tree, group_options

POLL_S = 0.03
REMOVE_TRIES = 20

log = logging.getLogger("IRAI.jobs")


def run_job(target: str, kwargs: dict[str, Any], *, progress: Callable[[float, str], None] | None = None,
            timeout_s: float | None = None, cancelled: Callable[[], bool] | None = None) -> Any:
    """Call a function in a worker process and wait for what it returns.

    Args:
        target: "package.module:function", importable in a fresh Python.
        kwargs: its keyword arguments; must pickle. A function that takes `progress` is given one.
        progress: called here, in the caller's thread, with (share 0 to 1, what is being done).
        timeout_s: the work is ended after so many seconds.
        cancelled: asked about thirty times a second; True ends the work.
    Returns: what the function returned (through pickle).
    Raises: the worker's own IRAIError; CancelledError on cancel or time-out; IRAIError when the worker crashed,
        was killed or ran out of memory; InputError for arguments that can't be handed over. Whatever happens,
        no process and no temporary file is left behind: the worker's temporary folder lies inside the job's.
    """
    folder = _make_folder(target, kwargs)
    job = uuid.uuid4().hex
    try:
        process = _start(folder, job)
        try:
            _wait(process, folder, progress, timeout_s, cancelled, target)
        finally:
            end_tree(process, job)
            if process.stdin is not None:
                process.stdin.close()
        return _outcome(process.returncode, folder, target)
    finally:
        _remove(folder)


def _make_folder(target: str, kwargs: dict[str, Any]) -> Path:
    if target.count(":") != 1:
        raise InputError(f"job target {target!r}: write it as package.module:function")
    try:
        folder = Path(tempfile.mkdtemp(prefix="irai-job-"))
    except OSError as error:
        raise InputError(f"no temporary folder can be made ({error.strerror}); free some disk space") from error
    try:
        (folder / "tmp").mkdir()
        request = {"target": target, "path": [entry for entry in sys.path if entry]}
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        with (folder / "arguments.pickle").open("wb") as file:
            pickle.dump(kwargs, file, protocol=5)
    except OSError as error:
        _remove(folder)
        raise InputError(f"the job's images can't be handed over ({error.strerror}); free some disk space") from error
    except Exception as error:
        _remove(folder)
        raise InputError(f"the arguments of {target} can't be handed to a worker: {error}") from error
    return folder


def _start(folder: Path, job: str) -> subprocess.Popen:
    # Threads that spin while they wait make a busy machine ten times slower.
    temporary = str(folder / "tmp")
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, JOB_VARIABLE: job, "PYTHONUNBUFFERED": "1",
                   "PYTHONIOENCODING": "utf-8", "TMPDIR": temporary, "TMP": temporary, "TEMP": temporary}
    worker = str(Path(__file__).with_name("worker.py"))
    try:
        with (folder / "output").open("wb") as output:
            return subprocess.Popen([python_executable(), "-P", worker, str(folder)], stdin=subprocess.PIPE,
                                    stdout=output, stderr=subprocess.STDOUT, env=environment, **group_options())
    except OSError as error:
        raise IRAIError(f"the worker process can't be started ({error.strerror or error})") from error


def _wait(process: subprocess.Popen, folder: Path, progress, timeout_s, cancelled, target: str) -> None:
    start, position = time.monotonic(), 0
    while True:
        ended = process.poll() is not None
        position = _relay(folder / "messages", position, progress)
        if ended:
            return
        if cancelled is not None and cancelled():
            raise CancelledError(f"{_what(target)} was cancelled; nothing was changed")
        if timeout_s is not None and time.monotonic() - start > timeout_s:
            raise CancelledError(f"{_what(target)} did not end within {timeout_s:g} s and was stopped; allow more "
                                 "time or use smaller images")
        time.sleep(POLL_S)


def _relay(messages: Path, position: int, progress) -> int:
    """Hand on the complete lines after `position`; returns where the next ones begin."""
    if not messages.exists():
        return position
    with messages.open("rb") as file:
        file.seek(position)
        text = file.read()
    whole = text[:text.rfind(b"\n") + 1]
    for line in whole.splitlines():
        message = json.loads(line)
        if "log" in message:
            logging.getLogger(message["logger"]).log(message["level"], "%s", message["log"])
        elif progress is not None:
            progress(message["share"], message["text"])
    return position + len(whole)


def _outcome(code: int, folder: Path, target: str) -> Any:
    for name in ("error", "result"):
        path = folder / f"{name}.pickle"
        if path.exists():
            with path.open("rb") as file:
                outcome = pickle.load(file)
            if name == "result":
                return outcome["result"]
            raise _error(outcome, target)
    tail = (folder / "output").read_text("utf-8", "replace").strip().splitlines()[-20:]
    if tail:
        log.error("the worker's last words:\n%s", "\n".join(tail))
    if code in (-9, 137):
        raise IRAIError(f"{_what(target)}: the worker was killed by the system, most often because memory ran out; "
                        "close other programs or crop the images")
    last = f" ({tail[-1][:200]})" if tail else ""
    raise IRAIError(f"{_what(target)}: the worker crashed with code {code}{last}; details are in the log")


def _error(outcome: dict, target: str) -> IRAIError:
    kind = getattr(errors, outcome["ours"] or "", None)
    if kind is not None:
        return kind(outcome["text"])
    log.error("%s failed in the worker:\n%s", target, outcome["traceback"])
    if outcome["memory"]:
        return IRAIError(f"{_what(target)}: not enough memory; close other programs or crop the images")
    first = outcome["text"].strip().splitlines()[0][:300]
    return IRAIError(f"{_what(target)} failed: {outcome['kind']}: {first}")


def _what(target: str) -> str:
    return target.partition(":")[2].replace("_", " ")


def _remove(folder: Path) -> None:
    """Windows lets go of a dead process's files a moment later."""
    for _ in range(REMOVE_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)
    log.warning("%s could not be removed", folder)
