"""Which program runs a worker: inside an application that embeds Python, `sys.executable` is not Python."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from ..geometry import InputError


def python_executable() -> str:
    """Path of a Python that has this process's packages.

    A desktop Slicer carries `PythonSlicer`, beside its own binary; elsewhere it is `sys.executable`.
    Raises InputError when none is found.
    """
    own = Path(sys.executable) if sys.executable else None
    if own is not None and own.is_file() and own.stem.lower().startswith("python"):
        return str(own)
    for folder in _folders(own):
        for name in ("PythonSlicer", "PythonSlicer.exe"):
            if (folder / name).is_file():
                return str(folder / name)
    found = shutil.which("PythonSlicer")
    if found:
        return found
    for name in ("bin/python3", "bin/python", "python.exe", "bin/python-real"):
        if (Path(sys.prefix) / name).is_file():
            return str(Path(sys.prefix) / name)
    raise InputError("no Python interpreter was found to run the worker; reinstall Slicer, or start IRAI from Python")


def _folders(own: Path | None) -> list[Path]:
    roots = [Path(os.environ[name]) for name in ("SLICER_HOME", "PYTHONHOME") if os.environ.get(name)]
    folders = [own.parent, own.parent.parent / "bin"] if own is not None else []
    for root in roots:
        folders += [root / "bin", root.parent / "bin", root.parent.parent / "bin"]
    return folders
