"""The chain of transforms from the live picture to the patient: every link with its age, its error, its status.

Names as PLUS has them: `ProbeToReference` maps points of Probe to Reference, mm. A link that is lost, stale or absent
breaks the chain, and a broken chain gives no number. Two ways between the same frames must agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..geometry import InputError, RefusedError

OK, LOST, STALE, MISSING = "OK", "LOST", "STALE", "MISSING"
LIVE, CALIBRATION, REGISTRATION, ASSUMED = "live", "calibration", "registration", "assumed"
CLOSURE_MM, CLOSURE_DEG = 2.0, 1.0
"""By how much two ways between the same frames may differ before neither is believed."""
REACH_MM = 100.0
"""Where from the origin two ways are compared: a target lies about so far from the tracker's reference."""
HINTS = {("Image", "Probe"): "load or make the probe's calibration in step 2",
         ("Reference", "RAS"): "register in step 3", ("Tracker", "RAS"): "register in step 3",
         ("Probe", "Reference"): "the tracker must see the probe and its reference"}


@dataclass(frozen=True)
class ChainLink:
    """One transform. `matrix` (4, 4) maps points of `source` to `target`, mm; None while it is not known.

    age_s: since it was measured; None for what doesn't age. error_mm: standard deviation (rms, 3D) that it adds;
    None is "not known". status: OK, LOST, STALE. origin: live, calibration, registration, assumed.
    """

    source: str
    target: str
    matrix: np.ndarray | None
    status: str = OK
    origin: str = LIVE
    age_s: float | None = None
    error_mm: float | None = None
    why: str = ""
    validated_on: str = ""

    @property
    def name(self) -> str:
        """As PLUS names it."""
        return f"{self.source}To{self.target}"

    @property
    def usable(self) -> bool:
        """Whether it may be believed now."""
        return self.status == OK and self.matrix is not None

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the matrix as rows."""
        return {"name": self.name, "from": self.source, "to": self.target, "status": self.status,
                "origin": self.origin, "age_s": self.age_s, "error_mm": self.error_mm, "why": self.why,
                "validated_on": self.validated_on, "units": "mm",
                "matrix": None if self.matrix is None else np.asarray(self.matrix, float).tolist()}


@dataclass(frozen=True)
class ChainState:
    """A chain as it stands. `matrix` (4, 4) `to_from`, None when it is broken; then `problem` says where, and what
    to do.

    error_mm: root of the summed squares of the links' errors; None when one isn't known. `unknown` names those.
    age_s: of its oldest live link.
    """

    source: str
    target: str
    links: tuple[ChainLink, ...] = ()
    matrix: np.ndarray | None = None
    problem: str = ""
    error_mm: float | None = None
    unknown: tuple[str, ...] = ()
    age_s: float | None = None
    warnings: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether numbers may be given through it."""
        return self.matrix is not None and not self.problem

    def require(self) -> np.ndarray:
        """(4, 4). Raises RefusedError with the reason while the chain is broken."""
        if self.matrix is None or self.problem:
            raise RefusedError(self.problem or f"{self.source} is not connected to {self.target}")
        return self.matrix

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"from": self.source, "to": self.target, "ok": self.ok, "problem": self.problem, "units": "mm",
                "error_mm": self.error_mm, "unknown": list(self.unknown), "age_s": self.age_s,
                "warnings": list(self.warnings), "links": [link.to_dict() for link in self.links],
                "matrix": None if self.matrix is None else self.matrix.tolist()}


def chain_state(links: Iterable[ChainLink], source: str, target: str) -> ChainState:
    """The chain that leads from `source` to `target`, or why there is none.

    Frames are joined by the fewest links, usable ones preferred; a link may be used backwards. No link at all between
    two parts of the graph is named with what to do; a loop whose two ways disagree by more than `CLOSURE_MM` or
    `CLOSURE_DEG` breaks the chain that it touches.
    Raises InputError: a name given twice, a link from a frame to itself, a matrix that isn't finite and invertible.
    """
    known = _checked(links)
    if source == target:
        return ChainState(source, target, (), np.eye(4), error_mm=0.0)
    way = _way([link for link in known if link.usable], source, target)
    broken = way is None
    if way is None:
        way = _way(known, source, target)
    if way is None:
        return ChainState(source, target, problem=_gap(known, source, target))
    used = tuple(link for link, _forwards in way)
    if broken:
        return ChainState(source, target, used, problem=_why_broken(used))
    matrix = np.eye(4)
    for link, forwards in way:
        part = np.asarray(link.matrix, float)
        matrix = (part if forwards else np.linalg.inv(part)) @ matrix
    unknown = tuple(link.name for link in used if link.error_mm is None)
    error = None if unknown else math.sqrt(sum((link.error_mm or 0.0) ** 2 for link in used))
    ages = [link.age_s for link in used if link.age_s is not None and link.origin == LIVE]
    loops = contradictions(known)
    touched = [text for text, names in loops if names & {link.name for link in used}]
    return ChainState(source, target, used, matrix, "; ".join(touched), error, unknown, max(ages, default=None),
                      tuple(text for text, _names in loops if text not in touched))


def contradictions(links: Iterable[ChainLink]) -> list[tuple[str, set[str]]]:
    """Loops whose ways disagree: (what to say, names of the loop's links)."""
    usable, tree, found = [link for link in links if link.usable], [], []
    for link in usable:
        way = _way(tree, link.source, link.target)
        if way is None:
            tree.append(link)
            continue
        matrix = np.eye(4)
        for part, forwards in way:
            step = np.asarray(part.matrix, float)
            matrix = (step if forwards else np.linalg.inv(step)) @ matrix
        off_mm, off_deg = _difference(matrix, np.asarray(link.matrix, float))
        if off_mm > CLOSURE_MM or off_deg > CLOSURE_DEG:
            names = {link.name, *(part.name for part, _ in way)}
            found.append((f"{link.name} contradicts {' + '.join(part.name for part, _ in way)} by {off_mm:.1f} mm and "
                          f"{off_deg:.1f} degrees: remove the one that is old", names))
    return found


def replaced(links: Iterable[ChainLink], **changes: ChainLink) -> list[ChainLink]:
    """The links with those of the given names replaced (or added at the end)."""
    out = [changes.pop(link.name, link) for link in links]
    return [*out, *changes.values()]


def against(given: ChainLink, heard: ChainLink | None) -> ChainLink:
    """What the user gave, which goes before what a sender says under the same name; STALE where the two contradict."""
    if heard is None or not heard.usable or not given.usable:
        return given
    off_mm, off_deg = _difference(np.asarray(given.matrix, float), np.asarray(heard.matrix, float))
    if off_mm <= CLOSURE_MM and off_deg <= CLOSURE_DEG:
        return given
    return replace(given, status=STALE, why=f"the sender says another {given.name}, off by {off_mm:.1f} mm and "
                                            f"{off_deg:.1f} degrees: end one of the two")


def aged(link: ChainLink, limit_s: float) -> ChainLink:
    """A live link that is older than the limit is LOST, whatever was said of it."""
    if link.origin != LIVE or link.status != OK or link.age_s is None or link.age_s <= limit_s:
        return link
    return replace(link, status=LOST, why=f"nothing for {link.age_s:.1f} s")


def _checked(links: Iterable[ChainLink]) -> list[ChainLink]:
    out = list(links)
    seen: set[str] = set()
    for link in out:
        if not link.source or not link.target or link.source == link.target:
            raise InputError(f"{link.name}: a transform leads from one frame to another")
        if link.name in seen:
            raise InputError(f"{link.name} is there twice: take one of them out")
        seen.add(link.name)
        if link.matrix is None:
            continue
        matrix = np.asarray(link.matrix, float)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
            raise InputError(f"{link.name}: a finite 4x4 matrix that can be inverted is needed")
    return out


def _way(links: list[ChainLink], source: str, target: str) -> list[tuple[ChainLink, bool]] | None:
    """Breadth first: [(link, True when forwards)], or None."""
    ways: dict[str, list[tuple[ChainLink, bool]]] = {source: []}
    queue = [source]
    while queue:
        here = queue.pop(0)
        if here == target:
            return ways[here]
        for link in links:
            for start, end, forwards in ((link.source, link.target, True), (link.target, link.source, False)):
                if start == here and end not in ways:
                    ways[end] = [*ways[here], (link, forwards)]
                    queue.append(end)
    return None


def _reachable(links: list[ChainLink], source: str) -> set[str]:
    return {frame for frame in {name for link in links for name in (link.source, link.target)} | {source}
            if _way(links, source, frame) is not None}


def _gap(links: list[ChainLink], source: str, target: str) -> str:
    """What is missing, named, with what to do."""
    near, far = _reachable(links, source), _reachable(links, target)
    for (start, end), hint in HINTS.items():
        for one, other in ((start, end), (end, start)):
            if one in near and other in far:
                return f"{start}To{end} is missing: {hint}"
    here, there = (", ".join(sorted(frames)) or "nothing" for frames in (near - {source}, far - {target}))
    return f"nothing leads from {source} to {target}: {source} reaches {here}, {target} reaches {there}"


def _why_broken(links: tuple[ChainLink, ...]) -> str:
    bad = [link for link in links if not link.usable]
    return "; ".join(f"{link.name} is {link.status if link.status != OK else MISSING}"
                     f"{f' ({link.why})' if link.why else ''}" for link in bad)


def _difference(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """(mm, degrees) between two maps, over points `REACH_MM` from the origin and in the directions of the axes."""
    points = np.vstack([np.zeros(3), REACH_MM * np.eye(3), -REACH_MM * np.eye(3)])
    off = points @ (a - b)[:3, :3].T + (a - b)[:3, 3]
    turn = np.linalg.inv(a[:3, :3]) @ b[:3, :3]
    u, _, vt = np.linalg.svd(turn)
    cosine = np.clip((np.trace(u @ vt) - 1.0) / 2.0, -1.0, 1.0)
    return float(np.linalg.norm(off, axis=1).max()), float(np.degrees(math.acos(cosine)))


def chain_rows(links: Iterable[ChainLink]) -> list[tuple[str, str, str, str, str]]:
    """(from, to, age, error, status) in words, for a table."""
    rows = []
    for link in links:
        age = {CALIBRATION: "calibrated", REGISTRATION: "registered", ASSUMED: "assumed"}.get(link.origin, "–")
        if link.age_s is not None:
            age = f"{link.age_s:.1f} s" if link.age_s < 600 else f"{link.age_s / 60:.0f} min"
        error = "not known" if link.error_mm is None else f"{link.error_mm:.2f} mm"
        status = link.status if link.matrix is not None or link.status != OK else MISSING
        rows.append((link.source, link.target, age, error, f"{status}{f': {link.why}' if link.why else ''}"))
    return rows
