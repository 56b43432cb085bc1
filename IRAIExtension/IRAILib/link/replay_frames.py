"""Coordinate frames as PLUS names them: `ProbeToTracker` maps points of Probe to Tracker. Chains of such transforms.

Source of the names and of the XML: the user guide of the PLUS toolkit (CoordinateDefinitions, transform names).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ..geometry import InputError

OK = "OK"
MAX_CONFIG_BYTES = 64 << 20
_NAME = re.compile(r"(?P<source>[A-Za-z0-9_]+?)To(?P<target>[A-Z0-9][A-Za-z0-9_]*)")


def split_name(name: str) -> tuple[str, str] | None:
    """("Probe", "Tracker") of "ProbeToTracker"; None when it doesn't name one transform without doubt."""
    splits = [(name[:place], name[place + 2:]) for place in range(1, len(name) - 2)
              if name.startswith("To", place) and (name[place + 2].isupper() or name[place + 2].isdigit())]
    return splits[0] if len(splits) == 1 and _NAME.fullmatch(name) else None


def read_plus_xml(path: str | Path) -> ElementTree.Element:
    """The root of an XML file of PLUS, which declares no entities. Raises InputError."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise InputError(f"{path}: is too large for a file of PLUS")
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror or error})") from error
    if b"<!ENTITY" in text or b"<!DOCTYPE" in text:
        raise InputError(f"{path}: declares entities, which a file of PLUS doesn't; it is not read")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path}: is no XML that can be read ({error})") from error


def read_plus_config(path: str | Path) -> dict[str, np.ndarray]:
    """{"ImageToProbe": (4, 4)} of the CoordinateDefinitions of a PLUS device set configuration.

    Raises InputError: not such a file, a matrix that is no transform, or one name with two matrices.
    """
    found: dict[str, np.ndarray] = {}
    for element in read_plus_xml(path).iterfind(".//CoordinateDefinitions/Transform"):
        source, target = element.get("From", "").strip(), element.get("To", "").strip()
        name = f"{source}To{target}"
        if not source or not target:
            raise InputError(f"{path}: a Transform of its CoordinateDefinitions lacks From or To")
        matrix = _matrix(element.get("Matrix", ""), f"{path}: {name}")
        if name in found and not np.array_equal(found[name], matrix):
            raise InputError(f"{path}: defines {name} twice, differently")
        found[name] = matrix
    if not found:
        raise InputError(f"{path}: no CoordinateDefinitions with transforms in it; a PLUS configuration is needed")
    return found


def _matrix(text: str, where: str) -> np.ndarray:
    try:
        numbers = [float(number) for number in text.split()]
    except ValueError as error:
        raise InputError(f"{where} isn't made of numbers") from error
    if len(numbers) != 16:
        raise InputError(f"{where} has {len(numbers)} instead of 16 numbers")
    return checked_matrix(numbers, where)


def checked_matrix(matrix: object, where: str) -> np.ndarray:
    """(4, 4) float64. Raises InputError unless it is finite, affine and invertible."""
    array = np.asarray(matrix, dtype=np.float64)
    if array.size != 16:
        raise InputError(f"{where} is no 4x4 matrix")
    array = array.reshape(4, 4)
    if not np.isfinite(array).all() or not np.allclose(array[3], (0, 0, 0, 1), atol=1e-6):
        raise InputError(f"{where} is no transform: not finite, or its last row isn't 0 0 0 1")
    lengths = np.linalg.norm(array[:3, :3], axis=0)
    if lengths.min() == 0 or abs(np.linalg.det(array[:3, :3] / lengths)) < 1e-6:
        raise InputError(f"{where} is singular")
    return array


@dataclass(frozen=True)
class Chain:
    """A transform made of others: (name, inverted) from source to target; a single one is a chain of itself."""

    name: str
    steps: tuple[tuple[str, bool], ...]

    def of(self, poses: Mapping[str, tuple[np.ndarray, str]]) -> tuple[np.ndarray, str]:
        """((4, 4), status): OK only if every part is; else the first bad part's word, and what the parts say."""
        matrix, status = np.eye(4), OK
        for name, inverted in self.steps:
            part, word = poses[name]
            status = word if status == OK else status
            if inverted:
                try:
                    part = np.linalg.inv(part)
                except np.linalg.LinAlgError:
                    part, status = np.eye(4), "INVALID" if status == OK else status
            matrix = part @ matrix
        matrix[3] = 0, 0, 0, 1
        return matrix, status


def find_chain(name: str, known: Iterable[str]) -> Chain | None:
    """The shortest chain that gives `name` from transforms of these names or their inverses; None without one.

    Static transforms should come first in `known`: among chains of one length the first found is taken.
    """
    known = list(known)
    if name in known:
        return Chain(name, ((name, False),))
    ends = split_name(name)
    if ends is None:
        return None
    links: dict[str, list[tuple[str, str, bool]]] = {}
    for other in known:
        pair = split_name(other)
        if pair is not None:
            links.setdefault(pair[0], []).append((pair[1], other, False))
            links.setdefault(pair[1], []).append((pair[0], other, True))
    waiting: deque[tuple[str, tuple[tuple[str, bool], ...]]] = deque([(ends[0], ())])
    seen = {ends[0]}
    while waiting:
        frame, steps = waiting.popleft()
        if frame == ends[1]:
            return Chain(name, steps) if steps else None
        for target, other, inverted in links.get(frame, ()):
            if target not in seen:
                seen.add(target)
                waiting.append((target, (*steps, (other, inverted))))
    return None
