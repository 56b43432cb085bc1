"""Regression trees as plain arrays: walked, explained and saved without any library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Trees:
    """All nodes of all trees, one after the other. roots (K,): first node of each tree.

    column (N,) int, -1 at a leaf; threshold (N,): a value <= threshold goes left; left, right (N,) int;
    value (N, C): what a leaf adds (an inner node holds the mean of its training rows). Missing values don't occur:
    the chain has filled them.
    """

    roots: np.ndarray
    column: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray

    def leaves(self, values: np.ndarray) -> np.ndarray:
        """(n, K) index of the leaf that each row reaches in each tree."""
        place = np.tile(self.roots, (len(values), 1))
        rows = np.arange(len(values))[:, None]
        inner = self.column[place] >= 0
        while inner.any():
            went_left = values[rows, np.maximum(self.column[place], 0)] <= self.threshold[place]
            place = np.where(inner, np.where(went_left, self.left[place], self.right[place]), place)
            inner = self.column[place] >= 0
        return place

    def paths(self, values: np.ndarray, n_columns: int) -> np.ndarray:
        """(n, p, C): each column's share of (leaf - root), summed over the trees (path attribution, Saabas 2014)."""
        place = np.tile(self.roots, (len(values), 1))
        rows = np.arange(len(values))[:, None]
        parts = np.zeros((len(values), n_columns, self.value.shape[1]))
        inner = self.column[place] >= 0
        while inner.any():
            column = np.maximum(self.column[place], 0)
            went_left = values[rows, column] <= self.threshold[place]
            following = np.where(inner, np.where(went_left, self.left[place], self.right[place]), place)
            np.add.at(parts, (np.broadcast_to(rows, place.shape), column),
                      np.where(inner[:, :, None], self.value[following] - self.value[place], 0.0))
            place = following
            inner = self.column[place] >= 0
        return parts

    def usage(self, n_columns: int) -> np.ndarray:
        """(p,): how many splits each column has."""
        return np.bincount(self.column[self.column >= 0], minlength=n_columns).astype(float)

    def state(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Trees:
        """Raises ValueError when an index points outside or a walk could not end (a child must come after its node)."""
        roots, column, left, right = (np.asarray(state[name]).astype(int).reshape(-1)
                                      for name in ("roots", "column", "left", "right"))
        threshold = np.asarray(state["threshold"], float).reshape(-1)
        value = np.asarray(state["value"], float).reshape(len(column), -1)
        inner, index = column >= 0, np.arange(len(column))
        for child in (left, right):
            if len(child) != len(column) or (child[inner] <= index[inner]).any() or (child[inner] >= len(column)).any():
                raise ValueError("a tree's child lies outside or before its node")
        if (roots < 0).any() or (roots >= len(column)).any() or len(threshold) != len(column):
            raise ValueError("a tree's root lies outside")
        return cls(roots, column, threshold, left, right, value)


def joined(trees: list[dict[str, np.ndarray]]) -> Trees:
    """Trees given one by one with node numbers of their own; a child comes after its node."""
    sizes = np.array([len(tree["column"]) for tree in trees])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)

    def together(name: str) -> np.ndarray:
        return np.concatenate([tree[name] for tree in trees])
    shift = np.repeat(starts, sizes)
    return Trees(starts, together("column").astype(int), together("threshold").astype(float),
                 together("left").astype(int) + shift, together("right").astype(int) + shift,
                 np.concatenate([tree["value"].reshape(len(tree["column"]), -1) for tree in trees]))
