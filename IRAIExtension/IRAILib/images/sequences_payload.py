"""The pixels of a sequence file: inflated straight into their array, never beyond what the header promised.

A header may lie. Nothing is set aside before the compressed data can hold it (deflate packs 1032 to 1 at best),
and inflating stops one block after the promised length, so a small file can't fill the memory.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..geometry import InputError
from .headers import MAX_IMAGE_BYTES, damaged

CHUNK = 2**20
DEFLATE_BEST = 1032
LEVEL = 3  # of speckle 0.4 % larger than level 6, and 2.4 times as fast
RAW, ZLIB, GZIP = "raw", "zlib", "gzip"


def read_pixels(data: Path, start: int, shape: tuple[int, ...], dtype: np.dtype, encoding: str, *, shown: Path,
                mapped: bool = False) -> np.ndarray:
    """Array of `shape` and native byte order from `data` behind byte `start`.

    `mapped`: leave uncompressed pixels of native byte order in the file (read-only memory map).
    Raises InputError (it names `shown`): too much, too little, damaged.
    """
    expected = math.prod(shape) * dtype.itemsize
    available = data.stat().st_size - start
    if expected > MAX_IMAGE_BYTES:
        raise InputError(f"{shown}: the header asks for {expected / 2**30:.0f} GiB of pixels; it is damaged, or the "
                         "recording must be cut into parts")
    if encoding == RAW:
        if available != expected:
            raise _wrong_length(shown, available, expected)
        if mapped and dtype.isnative:
            return np.memmap(data, dtype, "r", start, shape)
        array = np.fromfile(data, dtype, math.prod(shape), offset=start).reshape(shape)
    else:
        if expected > available * DEFLATE_BEST + CHUNK:
            raise _wrong_length(shown, available * DEFLATE_BEST, expected)
        array = np.empty(shape, dtype)
        with data.open("rb") as file:
            file.seek(start)
            _inflate(file, array, encoding, shown)
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def _wrong_length(shown: Path, length: int, expected: int) -> InputError:
    if length > expected:
        return InputError(f"{shown}: holds more pixels than its header says ({length} instead of {expected} bytes); "
                          "the header is damaged, export it again")
    return InputError(f"{shown}: truncated: the header promises {expected} bytes of pixels, at most {length} are "
                      "there; copy or export it again")


def _inflate(file: BinaryIO, array: np.ndarray, encoding: str, shown: Path) -> None:
    """Fill `array` from a zlib or gzip stream (several gzip members in a row count as one)."""
    view, filled = array.reshape(-1).view(np.uint8), 0
    engine, rest = zlib.decompressobj(wbits=47), b""
    try:
        while True:
            rest = rest or file.read(CHUNK)
            if not rest:
                break
            block = engine.decompress(rest, CHUNK)
            if filled + len(block) > view.size:
                raise _wrong_length(shown, filled + len(block), view.size)
            view[filled:filled + len(block)] = np.frombuffer(block, np.uint8)
            filled += len(block)
            rest = engine.unconsumed_tail
            if engine.eof:
                rest = engine.unused_data
                if encoding != GZIP or not rest.startswith(b"\x1f\x8b"):
                    break
                engine = zlib.decompressobj(wbits=47)
    except zlib.error as error:
        raise damaged(shown, error) from error
    if not engine.eof:
        raise InputError(f"{shown}: truncated: its compressed data ends early; copy or export it again")
    if filled != view.size:
        raise _wrong_length(shown, filled, view.size)


def write_pixels(file: BinaryIO, frames: np.ndarray, encoding: str) -> int:
    """Append frames (frame first) in little-endian order; returns how many bytes went out. One frame at a time."""
    start = file.tell()
    for block in _packed(frames, encoding):
        file.write(block)
    return file.tell() - start


def _packed(frames: np.ndarray, encoding: str) -> Iterator[bytes | memoryview]:
    little = frames.dtype.newbyteorder("<")
    plain = (np.ascontiguousarray(frame, little).data.cast("B") if frame.size else b"" for frame in frames)
    if encoding == RAW:
        yield from plain
        return
    engine = zlib.compressobj(level=LEVEL, wbits=31 if encoding == GZIP else 15)
    for frame in plain:
        yield engine.compress(frame)
    yield engine.flush()
