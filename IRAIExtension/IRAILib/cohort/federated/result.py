"""What a federated run leaves: coefficients, their uncertainty, and no row of anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ...geometry import InputError
from .network import forward
from .plan import FederatedPlan
from .site import SiteRows


@dataclass(frozen=True)
class TrainedModel:
    """One model on standardised inputs.

    `parameters`: logistic (p + 1, intercept first), cox (p,), network (n_weights,). `standard_errors` of the same
    length, or empty (network). `hazard` (k,): Cox baseline events per time unit in the intervals ended by the plan's
    horizons, None where there was no time at risk. `converged`: the last Newton step was below the tolerance; the
    network never claims it.
    """

    kind: str
    parameters: tuple[float, ...]
    standard_errors: tuple[float, ...] = ()
    hazard: tuple[float | None, ...] = ()
    log_likelihood: float | None = None
    n_patients: int = 0
    n_events: int = 0
    rounds: int = 0
    converged: bool = False


@dataclass(frozen=True)
class FederatedResult:
    """The models, how inputs are standardised (mean and scale, (p,), raw units) and the plan they came from."""

    plan: FederatedPlan
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    models: dict[str, TrainedModel]
    n_sites: int
    n_requests: int
    secure: bool
    validated_on: str = "not validated; each site evaluates the model on rows that took no part in training"
    warnings: tuple[str, ...] = field(default_factory=tuple)

    def standardise(self, x: np.ndarray) -> np.ndarray:
        """(n, p) raw design to standardised inputs; a missing value becomes the federated mean (0)."""
        x = np.asarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise InputError(f"federated model: rows of {len(self.mean)} design columns are needed, got {x.shape}")
        return np.where(np.isfinite(x), (x - np.array(self.mean)) / np.array(self.scale), 0.0)

    def log_risk(self, kind: str, x: np.ndarray) -> np.ndarray:
        """(n, p) raw design -> (n,) log odds (logistic, network) or log hazard ratio to the mean patient (cox)."""
        model, inputs = self._model(kind), self.standardise(x)
        parameters = np.array(model.parameters)
        if kind == "logistic":
            return parameters[0] + inputs @ parameters[1:]
        if kind == "cox":
            return inputs @ parameters
        return forward(parameters, inputs, self.plan.hidden)[0]

    def probability(self, kind: str, x: np.ndarray) -> np.ndarray:
        """(n,) probability of the target. Raises InputError for cox: ask for survival."""
        if kind == "cox":
            raise InputError("federated model: cox gives survival at horizons, not a probability")
        return 0.5 * (1 + np.tanh(0.5 * self.log_risk(kind, x)))

    def survival(self, x: np.ndarray) -> np.ndarray:
        """(n, k) probability of being free of the event at each of the plan's horizons; NaN beyond the follow-up."""
        hazard = np.array([np.nan if value is None else value for value in self._model("cox").hazard])
        widths = np.diff([0.0, *self.plan.horizons])
        return np.exp(-np.exp(self.log_risk("cox", x))[:, None] * np.cumsum(hazard * widths))

    def coefficients(self, kind: str) -> dict[str, dict[str, float]]:
        """Logistic or Cox: per design column the coefficient of one raw unit with its 95 % interval (Wald)."""
        model = self._model(kind)
        skip = 1 if kind == "logistic" else 0
        rows = {}
        for i, name in enumerate(self.plan.design_names):
            value, error = model.parameters[i + skip] / self.scale[i], model.standard_errors[i + skip] / self.scale[i]
            rows[name] = {"coefficient": value, "low95": value - 1.959964 * error, "high95": value + 1.959964 * error}
        return rows

    def _model(self, kind: str) -> TrainedModel:
        if kind not in self.models:
            raise InputError(f"federated model: no {kind} in it; it has {', '.join(self.models)}")
        return self.models[kind]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the coefficients per raw unit stand beside the parameters."""
        return {"kind": "IRAI federated model", "frame": "none (table rows)", "plan": self.plan.to_dict(),
                "plan_digest": self.plan.digest, "mean": list(self.mean), "scale": list(self.scale),
                "models": {name: asdict(model) for name, model in self.models.items()},
                "coefficients": {name: self.coefficients(name) for name in self.models if name != "network"},
                "n_sites": self.n_sites, "n_requests": self.n_requests, "secure": self.secure,
                "validated_on": self.validated_on, "warnings": list(self.warnings)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FederatedResult:
        """The inverse of to_dict. Raises InputError when it isn't one."""
        try:
            models: dict[str, TrainedModel] = {}
            for name, entry in data["models"].items():
                fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value
                                          for key, value in entry.items()}
                models[name] = TrainedModel(**fields)
            return cls(FederatedPlan.from_dict(data["plan"]), tuple(data["mean"]), tuple(data["scale"]), models,
                       int(data["n_sites"]), int(data["n_requests"]), bool(data["secure"]),
                       str(data["validated_on"]), tuple(data["warnings"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"federated model: {error} is missing or of the wrong kind") from error


def evaluate(result: FederatedResult, rows: SiteRows) -> dict[str, Any]:
    """AUC (logistic, network) and Harrell's C (cox) of a model on a site's own rows, at the site.

    Returns per model {"metric", "estimate", "ci95" (bootstrap over patients, 500 draws, None below 10 events),
    "n_patients", "n_events", "observed_to_expected"}; estimate None where the rows hold one class or no comparable
    pair. The last is events over the sum of predicted probabilities (1 is right on average; None for cox): a site
    whose level differs from the others' sees it here and recalibrates.
    """
    found: dict[str, Any] = {}
    for kind in result.models:
        chosen = rows.has_follow_up if kind == "cox" else rows.has_target
        part = rows.take(np.flatnonzero(chosen))
        risk = result.log_risk(kind, part.x)
        arrays = (part.time, part.event, risk) if kind == "cox" else (part.y, risk)
        score = concordance if kind == "cox" else auc
        outcome = part.event if kind == "cox" else part.y
        events = int(np.sum(outcome == 1))
        value = score(*arrays)
        interval = bootstrap_interval(score, arrays, 500, 0) if events >= 10 else None
        found[kind] = {"metric": "Harrell C" if kind == "cox" else "AUC",
                       "estimate": None if np.isnan(value) else value, "ci95": interval,
                       "n_patients": len(outcome), "n_events": events,
                       "observed_to_expected": None if kind == "cox" or not len(outcome) else
                       events / float(np.sum(result.probability(kind, part.x)))}
    return found


def auc(y: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve, ties one half; NaN when one class is empty."""
    high, low = score[y == 1], score[y == 0]
    if not len(high) or not len(low):
        return float("nan")
    low = np.sort(low)
    below = np.searchsorted(low, high, side="left")
    return float(np.mean(below + 0.5 * (np.searchsorted(low, high, side="right") - below)) / len(low))


def concordance(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float:
    """Harrell's C: of the pairs whose earlier time is an event, the share with the higher risk; ties one half.
    A patient censored at the time of an event outlived it. NaN when no pair can be compared."""
    first = (event[:, None] == 1) & ((time[:, None] < time) | ((time[:, None] == time) & (event == 0)))
    pairs = int(first.sum())
    if not pairs:
        return float("nan")
    return float((first & (risk[:, None] > risk)).sum() + 0.5 * (first & (risk[:, None] == risk)).sum()) / pairs


def bootstrap_interval(score, arrays: tuple[np.ndarray, ...], n: int, seed: int) -> list[float] | None:
    """95 % percentile interval of score(*arrays) over draws of patients; None when no draw gives a value."""
    random = np.random.default_rng(seed)
    size = len(arrays[0])
    draws = [score(*(array[index] for array in arrays))
             for index in (random.integers(0, size, size) for _ in range(n if size else 0))]
    kept = [value for value in draws if not np.isnan(value)]
    return [float(value) for value in np.percentile(kept, [2.5, 97.5])] if kept else None
