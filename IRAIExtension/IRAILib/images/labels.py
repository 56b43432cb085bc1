"""One structure out of several, chosen by number or name."""

from __future__ import annotations

from dataclasses import dataclass

from ..geometry import InputError

_MOST_LISTED = 40


@dataclass(frozen=True)
class Label:
    """A structure of a mask file: its number there, and its name in one line ('' if it has none)."""

    number: int
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", " ".join(self.name.split()))

    def __str__(self) -> str:
        return f"{self.number} '{self.name}'" if self.name else str(self.number)


def listed(labels: list[Label]) -> str:
    """`1 'Liver', 2 'Tumour'`, cut after `_MOST_LISTED`."""
    more = len(labels) - _MOST_LISTED
    return ", ".join(map(str, labels[:_MOST_LISTED])) + (f" and {more} more" if more > 0 else "")


def choose_label(labels: list[Label], wanted: int | str | None, where: str) -> Label:
    """The label that is meant: the only one, that of a number, or that of a name (any case; digits
    are a number where no name fits).

    Raises InputError that lists the labels: none or several fit.
    """
    if not labels:
        raise InputError(f"{where}: holds no segment")
    if wanted is None:
        if len(labels) > 1:
            raise InputError(f"{where}: holds {len(labels)} labels, choose one (label=...): {listed(labels)}")
        return labels[0]
    text = " ".join(str(wanted).split())
    hits: list[Label] = []
    if isinstance(wanted, str):
        hits = [x for x in labels if x.name == text] or [x for x in labels if x.name and x.name.lower() == text.lower()]
    hits = hits or [x for x in labels if str(x.number) == text]
    if not hits:
        raise InputError(f"{where}: holds no label {wanted!r}; there are: {listed(labels)}")
    if len(hits) > 1:
        way = "name" if len({x.number for x in hits}) < len(hits) else "number"
        raise InputError(f"{where}: several labels are {wanted!r}, choose one by its {way}: {listed(labels)}")
    return hits[0]
