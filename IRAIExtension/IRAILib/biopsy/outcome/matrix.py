"""What a fold's transformers work on: raw rows, the matrix made of them, and the one interface they all have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from .outcome import Outcome
from .table import Table


@dataclass(frozen=True)
class Rows:
    """Raw candidates of n rows: numbers (n, p) float64 with NaN, words (n, q) object of str or None.

    site (n,) object or None. groups[name]: "imaging", "clinical", "score" ... of each column. crops (n,) object of
    biopsy.deep.Crop, or None where no deep columns were asked for.
    """

    numbers: np.ndarray
    number_names: tuple[str, ...]
    words: np.ndarray
    word_names: tuple[str, ...]
    groups: dict[str, str]
    site: np.ndarray | None = None
    crops: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: np.ndarray) -> Rows:
        return replace(self, numbers=self.numbers[rows], words=self.words[rows],
                       site=None if self.site is None else self.site[rows],
                       crops=None if self.crops is None else self.crops[rows])

    def beside(self, names: Sequence[str], values: np.ndarray, group: str) -> Rows:
        """These rows with further number columns, values (n, len(names))."""
        return replace(self, numbers=np.hstack([self.numbers, values]), number_names=(*self.number_names, *names),
                       groups={**self.groups, **dict.fromkeys(names, group)})

    def only(self, names: Sequence[str]) -> Rows:
        """The columns in `names`, in this object's order."""
        numbers = [n for n, name in enumerate(self.number_names) if name in names]
        words = [n for n, name in enumerate(self.word_names) if name in names]
        return replace(self, numbers=self.numbers[:, numbers], words=self.words[:, words],
                       number_names=tuple(self.number_names[n] for n in numbers),
                       word_names=tuple(self.word_names[n] for n in words))

    @property
    def names(self) -> tuple[str, ...]:
        return self.number_names + self.word_names


def rows_of(table: Table, names: Sequence[str], groups: dict[str, str], site: str | None = None) -> Rows:
    """The named columns of a table as Rows; a column is words when its kind is "category"."""
    words = [name for name in names if table.kinds[name] == "category"]
    numbers = [name for name in names if table.kinds[name] != "category"]
    n = len(table)
    number_values = [table.values[name].astype(float) for name in numbers]
    word_values = [table.values[name] for name in words]
    return Rows(np.column_stack(number_values) if numbers else np.zeros((n, 0)), tuple(numbers),
                np.column_stack(word_values) if words else np.zeros((n, 0), object), tuple(words),
                {name: groups.get(name, "other") for name in names}, None if site is None else table.text[site])


@dataclass(frozen=True)
class Matrix:
    """values (n, p) float64; names[p]; source[p]: the table's column each came from; site (n,) or None."""

    values: np.ndarray
    names: tuple[str, ...]
    source: tuple[str, ...]
    site: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def keep(self, columns: np.ndarray) -> Matrix:
        index = np.flatnonzero(columns) if np.asarray(columns).dtype == bool else np.asarray(columns, int)
        return replace(self, values=self.values[:, index], names=tuple(self.names[n] for n in index),
                       source=tuple(self.source[n] for n in index))


class FoldTransformer(Protocol):
    """Learns from the training rows of one fold only. state() is JSON-ready (plain lists of numbers and words)."""

    kind: str

    def fit(self, data: Matrix, outcome: Outcome, random: np.random.Generator) -> FoldTransformer: ...

    def transform(self, data: Matrix) -> Matrix: ...

    def state(self) -> dict[str, Any]: ...

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> FoldTransformer: ...


def is_flag(values: np.ndarray) -> np.ndarray:
    """(p,) bool: columns of (n, p) that hold 0 and 1 only (missing aside)."""
    return np.all((values == 0) | (values == 1) | ~np.isfinite(values), axis=0)
