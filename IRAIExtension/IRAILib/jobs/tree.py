"""A worker and everything it started: begun as a group, ended as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

JOB_VARIABLE = "IRAI_JOB"
"""Every process that a worker starts inherits it, even one that left the worker's process group."""
PATIENCE_S = 5.0


def group_options() -> dict:
    """Keyword arguments for Popen, so that the worker leads a group of its own."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def end_tree(process: subprocess.Popen, job: str) -> None:
    """End the worker, its group and its descendants, and wait until they are gone. Ending twice is harmless."""
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
    else:
        for _ in range(3):
            found = _descendants(process.pid) | _tagged(job)
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                found.add(process.pid) if process.poll() is None else None
            if not _kill(found):
                break
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(PATIENCE_S)


def _kill(pids: set[int]) -> bool:
    """Whether any was still there."""
    hit = False
    for pid in pids - {os.getpid()}:
        try:
            os.kill(pid, signal.SIGKILL)
            hit = True
        except (ProcessLookupError, PermissionError):
            continue
    if hit:
        time.sleep(0.02)
    return hit


def _descendants(pid: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found: set[int] = set()
    todo = [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            if child not in found:
                found.add(child)
                todo.append(child)
    return found


def _parents() -> list[tuple[int, int]]:
    """(process, parent) of every process that can be seen, without the dead that wait for their parents."""
    proc = Path("/proc")
    if (proc / "self" / "stat").exists():
        pairs = []
        for entry in proc.iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (OSError, UnicodeDecodeError):
                continue
            if fields and fields[0] != "Z":
                pairs.append((int(entry.name), int(fields[1])))
        return pairs
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=False).stdout
    rows = [line.split() for line in listing.splitlines()]
    return [(int(row[0]), int(row[1])) for row in rows if len(row) >= 3 and not row[2].startswith("Z")]


def _tagged(job: str) -> set[int]:
    """Processes that carry the job's mark (Linux only; elsewhere the group and the descendants are all we see)."""
    mark = f"{JOB_VARIABLE}={job}".encode()
    found = set()
    for pid, _parent in _parents() if Path("/proc/self/environ").exists() else []:
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(pid)
        except OSError:
            continue
    return found
