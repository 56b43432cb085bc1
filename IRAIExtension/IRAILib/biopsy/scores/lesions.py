"""Lesions measured at several times, as RECIST and its kin take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...geometry import InputError
from ..quantities import as_quantity, convert

TOO_SMALL_MM = 5.0
"""Put in for a lesion that is there but too small to measure (RECIST 1.1, 4.3.2)."""
LARGEST_MM = 500.0


@dataclass(frozen=True)
class Lesion:
    """A target: its organ, whether it is a lymph node (then short axes), and its diameters in mm, baseline first.

    None stands for a time at which it wasn't evaluated.
    """

    organ: str
    node: bool
    diameters_mm: tuple[float | None, ...]

    @property
    def site(self) -> str:
        """What the limit of two counts by: all lymph nodes are one organ."""
        return "lymph nodes" if self.node else self.organ

    def text(self) -> str:
        sizes = " ".join("NE" if size is None else f"{size:g}mm" for size in self.diameters_mm)
        return f"{'node:' if self.node else ''}{self.organ} {sizes}"

    def to_dict(self) -> dict[str, Any]:
        return {"organ": self.organ, "node": self.node, "diameters_mm": list(self.diameters_mm)}


def read_lesions(value: Any) -> list[Lesion]:
    """From Lesions, from dicts (organ, node, diameters), or from text with ';' between lesions.

    Text: the organ ("node:" before it for a lymph node), then sizes with units, baseline first: "liver 42mm 30mm;
    node:hilum 18mm 9mm". NE: not evaluated; TSM: too small to measure (5 mm); 0mm: gone. All lesions need as many
    sizes. An empty value gives no lesion. Raises InputError.
    """
    if isinstance(value, str):
        lesions = [_of_text(part) for part in value.split(";") if part.strip()]
    elif isinstance(value, Sequence):
        lesions = [_of_item(item) for item in value]
    else:
        raise InputError("lesions must be a list, or text such as 'liver 42mm 30mm; node:hilum 18mm 9mm'")
    if len({len(lesion.diameters_mm) for lesion in lesions}) > 1:
        raise InputError("every lesion needs a size, or NE, at each time; they have different numbers of them")
    return lesions


def _of_text(text: str) -> Lesion:
    words = text.split()
    node = words[0].lower().startswith("node:")
    return _lesion(words[0].partition(":")[2] if node else words[0], node, words[1:])


def _of_item(item: Any) -> Lesion:
    if isinstance(item, Lesion):
        return item
    if not isinstance(item, Mapping) or not {"organ", "diameters"} <= set(item) <= {"organ", "node", "diameters"}:
        raise InputError("a lesion has organ, diameters and, for a lymph node, node")
    if not isinstance(item["diameters"], Sequence) or isinstance(item["diameters"], str):
        raise InputError("diameters must be a list, baseline first")
    if not isinstance(item.get("node", False), bool):
        raise InputError("node must be true or false")
    return _lesion(str(item["organ"]), item.get("node", False), list(item["diameters"]))


def _lesion(organ: str, node: bool, sizes: Sequence[Any]) -> Lesion:
    organ = organ.strip().lower()
    if not organ or organ[0].isdigit():
        raise InputError(f"a lesion begins with its organ, got '{organ}'")
    if len(sizes) < 2:
        raise InputError(f"lesion in {organ}: needs a baseline and at least one later size")
    return Lesion(organ, node, tuple(_size(size, organ) for size in sizes))


def _size(size: Any, organ: str) -> float | None:
    if size is None or (isinstance(size, str) and size.strip().upper() == "NE"):
        return None
    if isinstance(size, str) and size.strip().upper() == "TSM":
        return TOO_SMALL_MM
    number = convert(as_quantity(size), "mm")
    if not 0 <= number <= LARGEST_MM:
        raise InputError(f"lesion in {organ}: {size} is outside of 0 to {LARGEST_MM:g} mm")
    return number
