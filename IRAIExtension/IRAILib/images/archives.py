"""Zip and tar archives, unpacked into a temporary folder that is removed again."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from ..geometry import InputError

MAX_UNPACKED_BYTES = 16 * 2**30
MAX_MEMBERS = 50_000
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
_OPENERS = {b"\x1f\x8b": gzip.open, b"\xfd7": lzma.open, b"BZ": bz2.open}
_TAR_BLOCK = 512


def is_archive(path: Path) -> bool:
    """Whether a name ends as an archive's does."""
    return path.name.lower().endswith(SUFFIXES)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A temporary folder with the regular files of an archive; it is removed when the block ends.

    Raises InputError: damaged, truncated, encrypted, too large; a member that is a link, a device or lies
    outside of the archive.
    """
    with tempfile.TemporaryDirectory(prefix="irai-archive-") as name:
        folder = Path(name)
        try:
            if path.name.lower().endswith(".zip"):
                _unzip(path, folder)
            else:
                _untar(path, folder)
        except (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path}: the archive is truncated or damaged ({text}); copy it again") from error
        yield folder


class _Budget:
    """Counts what was unpacked; an archive's own figures are not believed."""

    def __init__(self, path: Path) -> None:
        self.path, self.left, self.members = path, MAX_UNPACKED_BYTES, 0

    def copy(self, source: IO[bytes], target: Path) -> int:
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise InputError(f"{self.path}: the archive holds over {MAX_MEMBERS} files; unpack the series by hand")
        if target.exists():
            raise InputError(f"{self.path}: the archive holds {target.name} twice at one place; unpack it by hand")
        target.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        with target.open("wb") as file:
            while chunk := source.read(2**20):
                size += len(chunk)
                if size > self.left:
                    raise InputError(f"{self.path}: unpacks to over {MAX_UNPACKED_BYTES // 2**30} GiB; "
                                     "unpack the series by hand")
                file.write(chunk)
        self.left -= size
        return size


def _target(folder: Path, name: str, path: Path) -> Path:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise InputError(f"{path}: the archive wants to write outside of its folder ({name!r}); "
                         "it is not safe to unpack")
    return folder.joinpath(*parts)


def _unzip(path: Path, folder: Path) -> None:
    budget = _Budget(path)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            target = _target(folder, info.filename, path)
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                raise InputError(f"{path}: the archive is encrypted; unpack it with its password first")
            if (info.external_attr >> 16) & 0o170000 == 0o120000:
                raise InputError(f"{path}: the archive holds a link ({info.filename}); it is not safe to unpack")
            try:
                with archive.open(info) as source:
                    budget.copy(source, target)
            except NotImplementedError as error:
                raise InputError(f"{path}: packed by a method that can't be read; unpack it by hand") from error


def _untar(path: Path, folder: Path) -> None:
    """Also reads behind the last member: only there do the compressed formats keep their checksum."""
    budget = _Budget(path)
    with path.open("rb") as raw:
        magic = raw.read(2)
    opener = _OPENERS.get(magic, open)
    with opener(path, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[operator]
        for member in archive:
            if member.isdir():
                continue
            if not member.isfile():
                raise InputError(f"{path}: the archive holds a link or device ({member.name}); "
                                 "it is not safe to unpack")
            source = archive.extractfile(member)
            if source is None or budget.copy(source, _target(folder, member.name, path)) != member.size:
                raise EOFError(f"{member.name} is cut off")
    _require_tar_end(path, opener)


def _require_tar_end(path: Path, opener) -> None:
    """A whole tar ends in zero blocks; one cut between two members lacks them and looks complete otherwise."""
    tail = b""
    with opener(path, "rb") as stream:
        while chunk := stream.read(2**20):
            tail = (tail + chunk)[-2 * _TAR_BLOCK:]
    if tail.strip(b"\0"):
        raise EOFError("its end is missing")

