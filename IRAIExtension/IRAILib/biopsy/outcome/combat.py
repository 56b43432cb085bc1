"""Harmonisation of imaging columns between sites: ComBat, parametric empirical Bayes.

Source: Johnson, Li & Rabinovic, Biostatistics 2007; Fortin et al., NeuroImage 2018 for images. No covariate of the
patient and never the target enters: what the sites' patients differ in is taken out with the scanner's part, which the
report has to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...geometry import InputError, RefusedError
from .matrix import Matrix
from .outcome import Outcome

MIN_ROWS = 3
ROUNDS, TOLERANCE = 200, 1e-6


class ComBat:
    """mean, sd (q,): pooled over sites; shift, scale (S, q): each site's additive and multiplicative part.

    A site with fewer than 3 training rows, and one that training never saw, is refused (RefusedError) or passed
    without harmonisation (refuse_unseen=False).
    """

    kind = "combat"

    def __init__(self, columns: Sequence[str], *, refuse_unseen: bool = True) -> None:
        self.columns, self.refuse_unseen = list(columns), refuse_unseen
        self.names: list[str] = []
        self.sites: list[str] = []
        self.mean, self.sd = np.zeros(0), np.zeros(0)
        self.shift, self.scale = np.zeros((0, 0)), np.zeros((0, 0))

    def fit(self, data: Matrix, outcome: Outcome, random: np.random.Generator) -> ComBat:
        if data.site is None:
            raise InputError("harmonisation with ComBat needs the site column; name it in the plan")
        place = self._place(data)
        self.names = [data.names[n] for n in place]
        values, site = data.values[:, place], np.asarray(data.site).astype(str)
        self.sites = [s for s in sorted(set(site.tolist())) if (site == s).sum() >= MIN_ROWS]
        known = np.isin(site, self.sites)
        q = len(place)
        if not self.sites or not q:
            self.mean, self.sd = np.zeros(q), np.ones(q)
            self.shift, self.scale = np.zeros((0, q)), np.ones((0, q))
            return self
        member = np.searchsorted(self.sites, site[known])
        means = np.array([values[known][member == s].mean(axis=0) for s in range(len(self.sites))])
        counts = np.bincount(member)
        self.mean = counts @ means / counts.sum()
        self.sd = np.sqrt(((values[known] - means[member]) ** 2).mean(axis=0))
        self.sd[self.sd <= 1e-12 * np.maximum(1, np.abs(self.mean))] = 1.0
        standard = (values[known] - self.mean) / self.sd
        fits = [_empirical_bayes(standard[member == s]) for s in range(len(self.sites))]
        self.shift, self.scale = (np.array([fit[part] for fit in fits]) for part in (0, 1))
        return self

    def _place(self, data: Matrix) -> list[int]:
        return [n for n, (name, source) in enumerate(zip(data.names, data.source, strict=True))
                if source in self.columns and name == source]

    def transform(self, data: Matrix) -> Matrix:
        place = self._place(data)
        if not len(data) or not place:
            return data
        if data.site is None:
            raise InputError("the model harmonises by site; the table needs the site column")
        values, site = data.values.copy(), np.asarray(data.site).astype(str)
        unseen = sorted(set(site.tolist()) - set(self.sites))
        if unseen and self.refuse_unseen:
            raise RefusedError(f"site '{unseen[0]}' was not (or hardly) in the training; ComBat has no parameters for "
                               "it; set unseen_site to 'unharmonised' to pass it as it is")
        for s, name in enumerate(self.sites):
            rows = np.flatnonzero(site == name)
            cells = np.ix_(rows, np.array(place))
            standard = (values[cells] - self.mean) / self.sd
            values[cells] = (standard - self.shift[s]) / np.sqrt(self.scale[s]) * self.sd + self.mean
        return Matrix(values, data.names, data.source, data.site)

    def state(self) -> dict[str, Any]:
        return {"columns": self.columns, "refuse_unseen": self.refuse_unseen, "names": self.names, "sites": self.sites,
                **{name: getattr(self, name).tolist() for name in ("mean", "sd", "shift", "scale")}}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ComBat:
        made = cls(state["columns"], refuse_unseen=bool(state["refuse_unseen"]))
        made.names, made.sites = list(state["names"]), list(state["sites"])
        made.mean, made.sd = np.asarray(state["mean"], float), np.asarray(state["sd"], float)
        shape = (len(made.sites), len(made.mean))
        made.shift = np.asarray(state["shift"], float).reshape(shape)
        made.scale = np.asarray(state["scale"], float).reshape(shape)
        return made


def _empirical_bayes(standard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(shift (q,), variance (q,)) of one site's standardised rows (n, q), shrunk towards their mean over columns."""
    n = len(standard)
    mean, variance = standard.mean(axis=0), standard.var(axis=0, ddof=1)
    variance = np.maximum(variance, 1e-8)
    if standard.shape[1] < 2:
        return mean, variance
    centre, between = mean.mean(), mean.var(ddof=1)
    m, s2 = variance.mean(), max(variance.var(ddof=1), 1e-12)
    shape, rate = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    shift, scale = mean.copy(), variance.copy()
    for _ in range(ROUNDS):
        new_shift = (between * n * mean + scale * centre) / (between * n + scale)
        squares = ((standard - new_shift) ** 2).sum(axis=0)
        new_scale = (0.5 * squares + rate) / (n / 2 + shape - 1)
        change = max(float(np.abs(new_shift - shift).max()), float(np.abs(new_scale - scale).max()))
        shift, scale = new_shift, new_scale
        if change < TOLERANCE:
            break
    return shift, scale
