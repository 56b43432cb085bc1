"""Synthetic minority rows (SMOTE-NC). Used on training rows of a fold only; class weights are the gentler choice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NEIGHBOURS = 5


def smote(values: np.ndarray, label: np.ndarray, blocks: Sequence[Sequence[int]] = (), *,
          seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(values, label) with every class brought to the size of the largest by synthetic rows, appended at the end.

    values (n, p); label (n,) int; blocks: column indices that belong together and are not numbers (0/1 columns of one
    category): a synthetic row takes the most frequent combination among its neighbours, the other columns lie on the
    line to one neighbour. A class of one row can't be filled and stays. Empty in, empty out.
    Distance: Euclidean, half the median standard deviation squared twice for each block that differs.
    Source: Chawla et al., JAIR 2002 (SMOTE and SMOTE-NC).
    """
    random = np.random.default_rng([seed, 7])
    if not len(values):
        return values, label
    nominal = np.array(sorted({n for block in blocks for n in block}), int)
    numeric = np.setdiff1d(np.arange(values.shape[1]), nominal)
    sizes = np.bincount(label)
    made, labels = [values], [label]
    for kind in np.flatnonzero(sizes):
        wanted, members = int(sizes.max() - sizes[kind]), values[label == kind]
        if not wanted or len(members) < 2:
            continue
        spread = float(np.median(members[:, numeric].std(axis=0))) if len(numeric) else 1.0
        near = _neighbours(members, numeric, blocks, spread)
        seeds = random.integers(0, len(members), wanted)
        chosen = near[seeds, random.integers(0, near.shape[1], wanted)]
        rows = members[seeds].copy()
        gap = random.random((wanted, 1))
        rows[:, numeric] += gap * (members[chosen][:, numeric] - members[seeds][:, numeric])
        for block in blocks:
            codes, back = np.unique(members[:, list(block)], axis=0, return_inverse=True)
            votes = back.reshape(-1)[near[seeds]]
            winner = [np.bincount(vote, minlength=len(codes)).argmax() for vote in votes]
            rows[:, list(block)] = codes[winner]
        made.append(rows)
        labels.append(np.full(wanted, kind))
    return np.vstack(made), np.concatenate(labels)


def _neighbours(members: np.ndarray, numeric: np.ndarray, blocks: Sequence[Sequence[int]],
                spread: float) -> np.ndarray:
    """(n, k) indices of the nearest other members."""
    part = members[:, numeric]
    square = (part**2).sum(axis=1)
    distance = square[:, None] + square[None] - 2 * part @ part.T
    for block in blocks:
        cells = members[:, list(block)]
        distance += spread**2 * (cells[:, None] != cells[None]).any(axis=2)
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(members) - 1)]
