"""Files appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..geometry import InputError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`; when the block ends well it takes the place of `path`, else it is removed.

    The temporary name keeps the whole suffix, so that writers which choose a format by name work. A file
    or a folder may be made; a folder replaces only a folder. Missing parent folders are made.
    Raises InputError when the place can't be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".writing-{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _move(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: can't be written ({error.strerror or error}); choose another place") from error
    finally:
        _remove(temporary)


def _move(temporary: Path, path: Path) -> None:
    if not temporary.exists():
        raise InputError(f"{path}: nothing was written")
    if temporary.is_dir() and path.is_dir():
        old = path.with_name(f".old-{uuid.uuid4().hex[:8]}-{path.name}")
        os.replace(path, old)
        os.replace(temporary, path)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(temporary, path)


def _remove(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    elif temporary.exists():
        temporary.unlink()
