"""NIfTI-1 files, read byte by byte.

ITK's reader isn't used: it fills a truncated .nii.gz with other values without an error, and for `a.nii.gz` it
takes the voxels of an `a.nii` that lies beside it.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..geometry import InputError
from .checks import check_matrix, check_shape
from .headers import CHUNK, MAX_IMAGE_BYTES, damaged

FORMS_AGREE_MM = 0.1
"""sform and qform may differ by this much at the corners (float32 rounding is a hundred times less)."""
SPACINGS_AGREE = 0.01
"""pixdim and the spacing of the sform may differ by this share."""
_GZIP_ODD_FLAGS = 0xE2
"""Reserved bits and the header's checksum: no program that is in use sets them."""
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}


@dataclass(frozen=True)
class NiftiHeader:
    """The fields that decide what and where a NIfTI's voxels are.

    Attributes:
        shape: (i, j, k, ...) as stored.
        ras_from_ijk: (4, 4), from the sform where it is set, else the qform.
        dtype, offset: of the stored values; scale: slope and intercept.
    """

    shape: tuple[int, ...]
    ras_from_ijk: np.ndarray
    dtype: np.dtype
    offset: int
    scale: tuple[float, float]

    @property
    def end(self) -> int:
        """Number of bytes that the uncompressed file must have."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(k, j, i) values and (4, 4) ras_from_ijk of a NIfTI-1 file; slope and intercept applied (then float32).

    Raises InputError: truncated or damaged (gzip's CRC is verified), no orientation or two, no scalar 3D image.
    """
    with path.open("rb") as raw:
        magic = raw.read(4)
        raw.seek(0)
        zipped = magic[:2] == b"\x1f\x8b"
        if zipped and len(magic) == 4 and magic[3] & _GZIP_ODD_FLAGS:
            raise InputError(f"{path}: the compressed data is damaged (gzip flags); copy or export it again")
        stream: BinaryIO = gzip.GzipFile(fileobj=raw) if zipped else raw  # type: ignore[assignment]
        try:
            start = stream.read(348)
            header = _nifti_header(start, str(path))
            data = start + stream.read(header.end - len(start))
            _count(stream, header.end)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise damaged(path, error) from error
    if len(data) < header.end:
        raise InputError(f"{path}: truncated: {len(data)} of {header.end} bytes are there; copy or export it again")
    stored = np.frombuffer(data, header.dtype, math.prod(header.shape), header.offset).reshape(header.shape[::-1])
    if header.scale == (1.0, 0.0):
        return stored.astype(header.dtype.newbyteorder("=")), header.ras_from_ijk
    return (stored * np.float64(header.scale[0]) + header.scale[1]).astype(np.float32), header.ras_from_ijk


def _count(stream: BinaryIO, limit: int) -> int:
    """Bytes left in a stream, read to its end, so that a checksum there is verified; stops far beyond `limit`."""
    total = 0
    while chunk := stream.read(CHUNK):
        total += len(chunk)
        if total > limit + 2**30:
            break
    return total


def _nifti_header(start: bytes, where: str) -> NiftiHeader:
    sizes = {order: struct.unpack_from(order + "i", start)[0] if len(start) >= 4 else 0 for order in "<>"}
    if 540 in sizes.values():
        raise InputError(f"{where}: is a NIfTI-2 file; convert it to NIfTI-1 (.nii.gz)")
    if 348 not in sizes.values():
        raise InputError(f"{where}: not a NIfTI file; its header is missing or damaged")
    if len(start) < 348:
        raise InputError(f"{where}: truncated inside its header; copy or export it again")
    if start[344:348] != b"n+1\0":
        raise InputError(f"{where}: an Analyze or two-file NIfTI image, whose orientation is ambiguous; "
                         "convert it to a single .nii.gz")
    order = "<" if sizes["<"] == 348 else ">"
    dims = struct.unpack_from(order + "8h", start, 40)
    kind, bits = struct.unpack_from(order + "2h", start, 70)
    pixdim = struct.unpack_from(order + "8f", start, 76)
    offset, slope, inter = struct.unpack_from(order + "3f", start, 108)
    units = start[123]
    codes = struct.unpack_from(order + "2h", start, 252)
    form = struct.unpack_from(order + "18f", start, 256)
    if not 1 <= dims[0] <= 7 or min(dims[1:dims[0] + 1]) < 1 or not 348 <= offset < 2**31:
        raise InputError(f"{where}: the NIfTI header is damaged (dimensions {list(dims)})")
    if not (math.isfinite(slope) and math.isfinite(inter)):
        raise InputError(f"{where}: the NIfTI header has a slope or intercept that is not a number")
    if units & 7 not in (0, 2):
        raise InputError(f"{where}: the NIfTI header says that lengths are not in millimetres; convert it first")
    shape = tuple(int(n) for n in dims[1:dims[0] + 1])
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    check_shape(shape[::-1], where)
    dtype = np.dtype(order + _TYPES.get(kind, "V1"))
    if kind not in _TYPES or bits != 8 * dtype.itemsize:
        raise InputError(f"{where}: holds colours, complex numbers or another type that is no scalar image "
                         f"(NIfTI type {kind}, {bits} bits)")
    scale = (1.0, 0.0) if slope == 0.0 else (float(slope), float(inter))
    header = NiftiHeader(shape, _nifti_matrix(codes, pixdim, form, shape, where), dtype, int(offset), scale)
    if header.end > MAX_IMAGE_BYTES:
        raise InputError(f"{where}: the header asks for {header.end / 2**30:.0f} GiB of voxels; it is damaged")
    return header


def _nifti_matrix(codes, pixdim, form, shape, where: str) -> np.ndarray:
    """sform or qform; both must agree where both are set."""
    found = []
    if codes[1] > 0:
        found.append(np.vstack([np.reshape(form[6:18], (3, 4)), [0, 0, 0, 1]]).astype(float))
    if codes[0] > 0:
        found.append(_qform(pixdim, form))
    if not found:
        raise InputError(f"{where}: neither sform nor qform is set, so its place and left-right side are unknown; "
                         "export it again with an orientation")
    for matrix in found:
        check_matrix(matrix, shape[::-1], where)
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        if not np.allclose(spacing, np.abs(pixdim[1:4]), rtol=SPACINGS_AGREE):
            raise InputError(f"{where}: the NIfTI header contradicts itself (pixdim against sform); "
                             "write it again with one spacing")
    if len(found) == 2:
        upper = np.array(shape) - 1.0
        corners = np.array([[a, b, c, 1.0] for a in (0, upper[0]) for b in (0, upper[1]) for c in (0, upper[2])])
        apart = np.abs((found[0] - found[1]) @ corners.T).max()
        if apart > FORMS_AGREE_MM:
            raise InputError(f"{where}: sform and qform disagree by up to {apart:.1f} mm; "
                             "decide which is right and write it to both")
    return found[0]


def _qform(pixdim, form) -> np.ndarray:
    b, c, d, x, y, z = (float(v) for v in form[:6])
    a = math.sqrt(max(0.0, 1.0 - b * b - c * c - d * d))
    scale = np.array(pixdim[1:4], float) * [1, 1, -1 if pixdim[0] < 0 else 1]
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c]]) * scale
    matrix[:3, 3] = x, y, z
    return matrix
