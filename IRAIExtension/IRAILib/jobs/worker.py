"""What runs inside the worker process. Started by `runner`, as a file: `python -P worker.py FOLDER`."""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import os
import pickle
import shutil
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

TELL_EVERY_S = 0.05


class Channel:
    """Lines to the parent: progress and log records, in a file that it reads as it grows."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()
        self._last = 0.0

    def progress(self, share: float, text: str = "") -> None:
        """At most twenty a second; the end always gets through."""
        now = time.monotonic()
        if now - self._last < TELL_EVERY_S and share < 1.0:
            return
        self._last = now
        self.send({"share": min(1.0, max(0.0, float(share))), "text": str(text)})

    def send(self, message: dict) -> None:
        with self._lock:
            self._file.write(json.dumps(message) + "\n")


class ToParent(logging.Handler):
    """Log records of the library, handed to the parent's logger."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.INFO)
        self.channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        self.channel.send({"log": record.getMessage(), "level": record.levelno, "logger": record.name})


def end_with_parent(folder: Path) -> None:
    """When the parent dies, the pipe on our standard input ends: then end the group and remove the folder."""
    parent = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def wait() -> None:
        while os.read(parent, 1024):
            pass
        shutil.rmtree(folder, ignore_errors=True)
        if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def call(target: str, kwargs: dict, channel: Channel):
    """`package.module:function` with `kwargs`, and `progress` where it takes one."""
    module, _, name = target.partition(":")
    function: Any = importlib.import_module(module)
    for part in name.split("."):
        function = getattr(function, part)
    takes = inspect.signature(function).parameters
    if "progress" in takes or any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        kwargs = {**kwargs, "progress": channel.progress}
    return function(**kwargs)


def describe(error: BaseException) -> dict:
    """An exception in plain values: its class (when it is one of ours), its text, where it happened."""
    lines = traceback.format_exception(error)
    ours = any(base.__name__ == "IRAIError" for base in type(error).__mro__)
    text = str(error) or type(error).__name__
    memory = isinstance(error, MemoryError) or any(
        word in text.lower() for word in ("can't allocate memory", "bad_alloc", "out of memory", "bad allocation"))
    return {"ours": type(error).__name__ if ours else None, "kind": type(error).__name__, "text": text,
            "memory": memory, "traceback": "".join(lines)}


def main(folder: Path) -> int:
    end_with_parent(folder)
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    sys.path += [entry for entry in request["path"] if entry not in sys.path]
    channel = Channel(folder / "messages")
    logger = logging.getLogger("IRAI")
    logger.setLevel(logging.INFO)
    logger.addHandler(ToParent(channel))
    try:
        with (folder / "arguments.pickle").open("rb") as file:
            kwargs = pickle.load(file)
        outcome = {"result": call(request["target"], kwargs, channel)}
        name = "result"
    except BaseException as error:  # the parent must hear of everything
        outcome, name = describe(error), "error"
    try:
        write(folder / f"{name}.pickle", outcome)
    except Exception as error:
        write(folder / "error.pickle", describe(error))
        return 1
    return 0 if name == "result" else 1


def write(path: Path, value) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        pickle.dump(value, file, protocol=5)
    os.replace(partial, path)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
