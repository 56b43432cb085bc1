"""The sums from which logistic and Cox models are fitted: log likelihood, its gradient and its curvature.

Both are sums over patients (over sites, for the site-stratified Cox model), so that adding what the sites send gives
exactly what the pooled rows would give.
"""

from __future__ import annotations

import numpy as np

from ...geometry import InputError, RefusedError


def n_statistics(p: int) -> int:
    """Length of a statistics vector of p coefficients: log likelihood, gradient, upper triangle."""
    return 1 + p + p * (p + 1) // 2


def logistic_statistics(x: np.ndarray, y: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """(n, p) inputs, (n,) 0/1, (p + 1,) coefficients with the intercept first -> packed statistics.

    No rows give zeros.
    """
    design = np.column_stack([np.ones(len(x)), x])
    eta = design @ beta
    probability = 0.5 * (1 + np.tanh(0.5 * eta))
    likelihood = float(np.sum(y * eta - np.logaddexp(0, eta)))
    curvature = (design * (probability * (1 - probability))[:, None]).T @ design
    return pack(likelihood, design.T @ (y - probability), curvature)


def cox_statistics(x: np.ndarray, time: np.ndarray, event: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """(n, p), (n,) times, (n,) 0/1 events, (p,) -> packed statistics of one stratum's partial likelihood, Efron's
    treatment of ties (Efron B, JASA 1977). No events give zeros.
    """
    p = x.shape[1]
    gradient, curvature, likelihood = np.zeros(p), np.zeros((p, p)), 0.0
    if not np.any(event):
        return pack(likelihood, gradient, curvature)
    order = np.argsort(-time, kind="stable")
    x, time, event = x[order], time[order], event[order]
    eta = x @ beta
    shift = float(eta.max())
    weight = np.exp(eta - shift)
    s0 = np.cumsum(weight)
    s1 = np.cumsum(weight[:, None] * x, axis=0)
    s2 = np.cumsum(weight[:, None, None] * x[:, :, None] * x[:, None, :], axis=0)
    for moment in np.unique(time[event > 0]):
        last = int(np.searchsorted(-time, -moment, side="right")) - 1
        tied = (time == moment) & (event > 0)
        deaths = int(tied.sum())
        d0, d1 = weight[tied].sum(), weight[tied] @ x[tied]
        d2 = (x[tied] * weight[tied][:, None]).T @ x[tied]
        likelihood += float(eta[tied].sum())
        gradient += x[tied].sum(axis=0)
        for share in np.arange(deaths) / deaths:
            total = s0[last] - share * d0
            mean = (s1[last] - share * d1) / total
            likelihood -= float(np.log(total)) + shift
            gradient -= mean
            curvature += (s2[last] - share * d2) / total - np.outer(mean, mean)
    return pack(likelihood, gradient, curvature)


def baseline_statistics(x: np.ndarray, time: np.ndarray, event: np.ndarray, beta: np.ndarray,
                        cuts: np.ndarray) -> np.ndarray:
    """Events and risk-weighted time in each interval ended by `cuts` (rising): (2 * k,). What piecewise-constant
    baseline hazards are made of; sums over sites."""
    starts = np.concatenate([[0.0], cuts[:-1]])
    weight = np.exp(x @ beta)
    inside = np.clip(time[:, None], starts, cuts) - starts
    fell = (event[:, None] > 0) & (time[:, None] > starts) & (time[:, None] <= cuts)
    return np.concatenate([fell.sum(axis=0), weight @ inside]).astype(np.float64)


def pack(likelihood: float, gradient: np.ndarray, curvature: np.ndarray) -> np.ndarray:
    """Log likelihood, (p,) gradient, (p, p) minus Hessian -> one vector."""
    return np.concatenate([[likelihood], gradient, curvature[np.triu_indices(len(gradient))]])


def unpack(vector: np.ndarray, p: int) -> tuple[float, np.ndarray, np.ndarray]:
    """The inverse of pack. Raises InputError for a vector of another length."""
    if len(vector) != n_statistics(p):
        raise InputError(f"federated: {len(vector)} numbers came where {n_statistics(p)} belong")
    curvature = np.zeros((p, p))
    rows, columns = np.triu_indices(p)
    curvature[rows, columns] = curvature[columns, rows] = vector[1 + p:]
    return float(vector[0]), vector[1:1 + p].copy(), curvature


class Newton:
    """Ridge-penalised Newton steps with halving, fed with sums of statistics.

    `penalty` (p,): lambda of each coefficient. `ask` holds the coefficients at which statistics are wanted next,
    `done` whether the last step (which is taken) was below the tolerance, `beta` the best so far.
    """

    def __init__(self, penalty: np.ndarray, tolerance: float) -> None:
        self.penalty = np.asarray(penalty, dtype=np.float64)
        self.tolerance = tolerance
        self.beta = self.ask = np.zeros(len(self.penalty))
        self.likelihood, self.objective = -np.inf, -np.inf
        self.curvature = np.diag(self.penalty)
        self.largest_step, self.n_steps, self.done = np.inf, 0, False

    def receive(self, vector: np.ndarray) -> None:
        """Take the summed statistics at `ask` and choose the next. Raises RefusedError when there is no maximum."""
        likelihood, gradient, curvature = unpack(vector, len(self.penalty))
        if not np.isfinite(vector).all():
            raise RefusedError("federated: the sums are not finite; the fit has run away")
        objective = likelihood - 0.5 * float(self.penalty @ self.ask ** 2)
        if objective < self.objective - 1e-9 * (1 + abs(self.objective)):
            self.ask = self.beta + 0.5 * (self.ask - self.beta)
            return
        self.beta, self.likelihood, self.objective = self.ask, likelihood, objective
        self.curvature = curvature + np.diag(self.penalty)
        try:
            step = np.linalg.solve(self.curvature, gradient - self.penalty * self.beta)
        except np.linalg.LinAlgError as error:
            raise RefusedError("federated: two inputs say the same; leave one out or raise 'ridge'") from error
        self.n_steps += 1
        self.largest_step = float(np.abs(step).max())
        self.done = self.largest_step < self.tolerance
        self.ask = self.beta + step
        if self.done:
            self.beta = self.ask

    @property
    def covariance(self) -> np.ndarray:
        """(p, p) inverse of the penalised information at `beta`."""
        return np.linalg.inv(self.curvature)
