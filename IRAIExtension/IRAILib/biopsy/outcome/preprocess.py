"""Transformers of a fold: missing values, categories, shape, scale, columns that say nothing new."""

from __future__ import annotations

from typing import Any

import numpy as np

from .matrix import Matrix, Rows, is_flag
from .outcome import Outcome

RARE_SHARE, RARE_COUNT = 0.02, 3
INDICATOR_SHARE = 0.05
CLIP_SD = 6.0
OTHER = "(other)"
MISSING = "(missing)"


class Encoder:
    """Rows to a matrix: numbers stay (NaN kept), a category becomes 0/1 columns against its most frequent level.

    Rare levels (under 2 % or 3 rows) share one level; a missing cell is a level of its own where at least 5 % are
    missing, else the most frequent level. A level never seen counts as rare, or as the most frequent one when there
    is no rare level; `unknown_levels` tells which rows have one.
    """

    kind = "encode"

    def __init__(self) -> None:
        self.numbers: list[str] = []
        self.levels: dict[str, list[str]] = {}
        self.known: dict[str, list[str]] = {}

    def fit(self, rows: Rows) -> Encoder:
        self.numbers = list(rows.number_names)
        self.levels, self.known = {}, {}
        for n, name in enumerate(rows.word_names):
            cells = [cell for cell in rows.words[:, n] if cell is not None]
            counts = {level: cells.count(level) for level in sorted(set(cells))}
            least = max(RARE_COUNT, RARE_SHARE * len(rows))
            common = sorted((v for v in counts if counts[v] >= least), key=lambda v: (-counts[v], v))
            common = common or sorted(counts, key=lambda v: (-counts[v], v))[:1] or [MISSING]
            levels = list(common)
            if sum(count for level, count in counts.items() if level not in common) >= 1:
                levels.append(OTHER)
            if len(rows) - len(cells) >= max(RARE_COUNT, INDICATOR_SHARE * len(rows)) and common != [MISSING]:
                levels.append(MISSING)
            self.levels[name], self.known[name] = levels, list(counts)
        return self

    def transform(self, rows: Rows) -> Matrix:
        place = {name: n for n, name in enumerate(rows.number_names)}
        parts = [rows.numbers[:, [place[name] for name in self.numbers]]]
        names, source = list(self.numbers), list(self.numbers)
        words = {name: n for n, name in enumerate(rows.word_names)}
        for name, levels in self.levels.items():
            cells = np.array([self._level(name, cell) for cell in rows.words[:, words[name]]], object)
            for level in levels[1:]:
                parts.append((cells == level).astype(float)[:, None])
                names.append(f"{name} = {level}")
                source.append(name)
        return Matrix(np.hstack(parts), tuple(names), tuple(source), rows.site)

    def _level(self, name: str, cell: str | None) -> str:
        levels = self.levels[name]
        if cell is None:
            return MISSING if MISSING in levels else levels[0]
        if cell in levels:
            return cell
        return OTHER if OTHER in levels else levels[0]

    def unknown_levels(self, rows: Rows) -> list[list[str]]:
        """For each row the "column = level" that training never saw."""
        words = {name: n for n, name in enumerate(rows.word_names)}
        return [[f"{name} = {rows.words[r, words[name]]}" for name in self.levels
                 if rows.words[r, words[name]] is not None and rows.words[r, words[name]] not in self.known[name]]
                for r in range(len(rows))]

    def state(self) -> dict[str, Any]:
        return {"numbers": self.numbers, "levels": self.levels, "known": self.known}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Encoder:
        made = cls()
        made.numbers, made.levels, made.known = list(state["numbers"]), dict(state["levels"]), dict(state["known"])
        return made


class MedianImputer:
    """The training median (0/1 columns: the more frequent value), and a 0/1 column "missing" where >= 5 % miss."""

    kind = "impute-median"

    def __init__(self) -> None:
        self.fill = np.zeros(0)
        self.indicators: list[int] = []

    def fit(self, data: Matrix, outcome: Outcome, random: np.random.Generator) -> MedianImputer:
        missing = ~np.isfinite(data.values)
        self.fill = np.array([_middle(column) for column in data.values.T])
        share = missing.mean(axis=0) if len(data) else np.zeros(data.values.shape[1])
        self.indicators = [int(n) for n in np.flatnonzero((share >= INDICATOR_SHARE) & (share < 1))]
        return self

    def transform(self, data: Matrix) -> Matrix:
        missing = ~np.isfinite(data.values)
        return self._with_indicators(data, np.where(missing, self.fill, data.values), missing)

    def _with_indicators(self, data: Matrix, values: np.ndarray, missing: np.ndarray) -> Matrix:
        chosen = self.indicators
        return Matrix(np.hstack([values, missing[:, chosen].astype(float)]),
                      data.names + tuple(f"{data.names[n]} missing" for n in chosen),
                      data.source + tuple(data.source[n] for n in chosen), data.site)

    def state(self) -> dict[str, Any]:
        return {"fill": self.fill.tolist(), "indicators": self.indicators}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> MedianImputer:
        made = cls()
        made.fill, made.indicators = np.asarray(state["fill"], float), [int(n) for n in state["indicators"]]
        return made


def _middle(column: np.ndarray) -> float:
    known = column[np.isfinite(column)]
    if not len(known):
        return 0.0
    if ((known == 0) | (known == 1)).all():
        return float(known.mean() > 0.5)
    return float(np.median(known))


class ChainedImputer(MedianImputer):
    """Each column from the others by ridge regression, `SWEEPS` rounds from the medians (the conditional mean).

    Source: the regression step of chained equations, van Buuren & Groothuis-Oudshoorn 2011, without the random draw:
    a prediction model needs the same answer for the same patient.
    """

    kind = "impute-chained"
    SWEEPS, RIDGE = 5, 1.0

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.sd = np.zeros(0), np.zeros(0)
        self.targets: list[int] = []
        self.weights = np.zeros((0, 0))

    def fit(self, data: Matrix, outcome: Outcome, random: np.random.Generator) -> ChainedImputer:
        super().fit(data, outcome, random)
        missing = ~np.isfinite(data.values)
        filled = np.where(missing, self.fill, data.values)
        self.mean, self.sd = filled.mean(axis=0), filled.std(axis=0)
        self.sd[self.sd == 0] = 1.0
        z = (filled - self.mean) / self.sd
        self.targets = [int(n) for n in np.flatnonzero(missing.any(axis=0) & ~missing.all(axis=0))]
        self.weights = np.zeros((len(self.targets), z.shape[1] + 1))
        for _ in range(self.SWEEPS):
            for t, n in enumerate(self.targets):
                known = ~missing[:, n]
                others = np.delete(np.arange(z.shape[1]), n)
                x, y = z[known][:, others], z[known, n]
                gram = x.T @ x + self.RIDGE * np.sqrt(known.sum()) * np.eye(len(others))
                centre = y.mean()
                self.weights[t] = 0.0
                self.weights[t, others] = np.linalg.solve(gram, x.T @ (y - centre)) if len(others) else 0.0
                self.weights[t, -1] = centre
                z[~known, n] = (z[~known] @ self.weights[t, :-1]) + centre
        return self

    def transform(self, data: Matrix) -> Matrix:
        missing = ~np.isfinite(data.values)
        z = (np.where(missing, self.fill, data.values) - self.mean) / self.sd
        for _ in range(self.SWEEPS):
            for t, n in enumerate(self.targets):
                gap = missing[:, n]
                z[gap, n] = np.clip(z[gap] @ self.weights[t, :-1] + self.weights[t, -1], -CLIP_SD, CLIP_SD)
        return self._with_indicators(data, np.where(missing, z * self.sd + self.mean, data.values), missing)

    def state(self) -> dict[str, Any]:
        return super().state() | {"mean": self.mean.tolist(), "sd": self.sd.tolist(), "targets": self.targets,
                                  "weights": self.weights.tolist()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ChainedImputer:
        made = cls()
        made.fill, made.indicators = np.asarray(state["fill"], float), [int(n) for n in state["indicators"]]
        made.mean, made.sd = np.asarray(state["mean"], float), np.asarray(state["sd"], float)
        made.targets = [int(n) for n in state["targets"]]
        made.weights = np.asarray(state["weights"], float).reshape(len(made.targets), len(made.fill) + 1)
        return made


class YeoJohnson:
    """Power transform of columns that are not 0/1 towards a normal shape. Source: Yeo & Johnson, Biometrika 2000."""

    kind = "yeo-johnson"

    def __init__(self) -> None:
        self.power = np.zeros(0)
        self.scale = np.zeros(0)

    def fit(self, data: Matrix, outcome: Outcome, random: np.random.Generator) -> YeoJohnson:
        from scipy.stats import yeojohnson_normmax

        flags = is_flag(data.values)
        self.scale = np.maximum(np.abs(data.values).max(axis=0, initial=0.0), 1e-300)
        self.power = np.ones(data.values.shape[1])
        for n in np.flatnonzero(~flags):
            column = data.values[:, n] / self.scale[n] * 10
            if column.std() > 1e-9:
                self.power[n] = float(np.clip(yeojohnson_normmax(column, brack=(-2, 2)), -3, 3))
        return self

    def transform(self, data: Matrix) -> Matrix:
        from scipy.stats import yeojohnson

        values = data.values.copy()
        for n in np.flatnonzero(self.power != 1):
            values[:, n] = yeojohnson(values[:, n] / self.scale[n] * 10, self.power[n])
        return Matrix(values, data.names, data.source, data.site)

    def state(self) -> dict[str, Any]:
        return {"power": self.power.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> YeoJohnson:
        made = cls()
        made.power, made.scale = np.asarray(state["power"], float), np.asarray(state["scale"], float)
        return made


class Scaler:
    """Mean 0 and standard deviation 1 in training; 0 for a constant column; later values are held to +-6 SD."""

    kind = "scale"

    def __init__(self) -> None:
        self.mean, self.sd = np.zeros(0), np.zeros(0)

    def fit(self, data: Matrix, outcome: Outcome, random: np.random.Generator) -> Scaler:
        self.mean = data.values.mean(axis=0) if len(data) else np.zeros(data.values.shape[1])
        self.sd = data.values.std(axis=0) if len(data) else np.ones(data.values.shape[1])
        self.sd[self.sd <= 1e-12 * np.maximum(1.0, np.abs(self.mean))] = np.inf
        return self

    def transform(self, data: Matrix) -> Matrix:
        values = np.clip((data.values - self.mean) / self.sd, -CLIP_SD, CLIP_SD)
        return Matrix(values, data.names, data.source, data.site)

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "sd": [None if np.isinf(v) else float(v) for v in self.sd]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Scaler:
        made = cls()
        made.mean = np.asarray(state["mean"], float)
        made.sd = np.array([np.inf if v is None else v for v in state["sd"]], float)
        return made


class RedundancyFilter:
    """Leaves out constant columns and, of two columns with |r| above `limit`, the one correlated more with the rest."""

    kind = "redundancy"

    def __init__(self, limit: float = 0.95) -> None:
        self.limit = limit
        self.kept: list[int] = []

    def fit(self, data: Matrix, outcome: Outcome, random: np.random.Generator) -> RedundancyFilter:
        sd = data.values.std(axis=0) if len(data) else np.zeros(data.values.shape[1])
        candidates = np.flatnonzero(sd > 1e-12)
        kept = list(range(len(candidates)))
        if len(candidates) > 1 and self.limit < 1:
            corr = np.abs(np.corrcoef(data.values[:, candidates], rowvar=False))
            np.fill_diagonal(corr, 0.0)
            mean, alive = corr.mean(axis=0), np.ones(len(candidates), bool)
            pairs = np.argwhere(np.triu(corr > self.limit))
            for a, b in pairs[np.argsort(-corr[tuple(pairs.T)], kind="stable")]:
                if alive[a] and alive[b]:
                    alive[a if mean[a] > mean[b] else b] = False
            kept = list(np.flatnonzero(alive))
        self.kept = [int(candidates[n]) for n in kept]
        return self

    def transform(self, data: Matrix) -> Matrix:
        return data.keep(np.array(self.kept, int))

    def state(self) -> dict[str, Any]:
        return {"limit": self.limit, "kept": self.kept}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> RedundancyFilter:
        made = cls(float(state["limit"]))
        made.kept = [int(n) for n in state["kept"]]
        return made
