"""What the coordinator does with sums over sites: standardise, Newton steps, federated averaging, baseline hazards.

It knows no transport. `request()` says what is to be asked of every site, `receive()` takes the sum of the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...geometry import InputError, RefusedError
from .masking import FixedPoint, sum_masked
from .models import Newton, n_statistics
from .network import first_weights, n_weights
from .plan import FederatedPlan, SitePolicy
from .result import FederatedResult, TrainedModel
from .site import REFUSALS, SiteRows, refusal, site_answer, too_small


class Coordinator:
    """One run: moments, then rounds of `fit` until Newton has converged and the network has had its rounds, then
    the baseline hazards of Cox. `request()` is None at the end; then `result()` gives the models."""

    def __init__(self, plan: FederatedPlan) -> None:
        self.plan = plan
        p = len(plan.design_names)
        self.mean, self.scale = np.zeros(p), np.ones(p)
        self.counts = np.zeros(4)
        self.hazard: tuple[float | None, ...] = ()
        self.warnings: list[str] = []
        self.n_requests, self.round, self._phase = 0, 0, "moments"
        self.newton: dict[str, Newton] = {}
        if "logistic" in plan.models:
            self.newton["logistic"] = Newton(np.concatenate([[0.0], np.full(p, plan.ridge)]), plan.tolerance)
        if "cox" in plan.models:
            self.newton["cox"] = Newton(np.full(p, plan.ridge), plan.tolerance)
        self.weights = first_weights(p, plan.hidden, plan.seed)

    def request(self) -> dict[str, Any] | None:
        """The next request to all sites, JSON-ready; None when the run is over."""
        if self._phase == "done":
            return None
        if self._phase == "moments":
            return {"kind": "moments"}
        request: dict[str, Any] = {"kind": self._phase, "mean": self.mean.tolist(), "scale": self.scale.tolist()}
        if self._phase == "baseline":
            return {**request, "cox": self.newton["cox"].beta.tolist()}
        for kind in self._open():
            request[kind] = (self.weights if kind == "network" else self.newton[kind].ask).tolist()
        return request

    def receive(self, total: np.ndarray) -> None:
        """The sum of all sites' answers to the request. Raises InputError for a wrong length, RefusedError when the
        sums can't carry a model."""
        self.n_requests += 1
        if self._phase == "moments":
            self._take_moments(total)
            self._phase = "fit"
        elif self._phase == "baseline":
            self._take_baseline(total)
            self._phase = "done"
            return
        else:
            self._take_fit(total)
        if not self._open():
            self._phase = "baseline" if "cox" in self.newton else "done"

    def result(self) -> FederatedResult:
        """The models. Raises InputError before the end."""
        if self._phase != "done":
            raise InputError("federated: the run is not over")
        models = {}
        for kind in self.plan.models:
            n, events = self.counts[2:] if kind == "cox" else self.counts[:2]
            if kind == "network":
                models[kind] = TrainedModel(kind, tuple(self.weights.tolist()), n_patients=int(n),
                                            n_events=int(events), rounds=self.round)
                continue
            newton = self.newton[kind]
            if not newton.done:
                self.warnings.append(f"{kind}: {self.plan.rounds} rounds were too few; the last step was "
                                     f"{newton.largest_step:.2g}")
            models[kind] = TrainedModel(
                kind, tuple(newton.beta.tolist()), tuple(np.sqrt(np.diag(newton.covariance)).tolist()),
                self.hazard if kind == "cox" else (), newton.likelihood, int(n), int(events), newton.n_steps,
                newton.done)
        return FederatedResult(self.plan, tuple(self.mean.tolist()), tuple(self.scale.tolist()), models,
                               self.plan.n_sites, self.n_requests, self.plan.secure, warnings=tuple(self.warnings))

    def _open(self) -> list[str]:
        if self.round >= self.plan.rounds:
            return []
        return [kind for kind in ("logistic", "cox", "network") if kind in self.plan.models
                and (kind == "network" or not self.newton[kind].done)]

    def _take_moments(self, total: np.ndarray) -> None:
        p = len(self.plan.design_names)
        if len(total) != 1 + 3 * p + 4:
            raise InputError(f"federated: {len(total)} numbers came where {3 * p + 5} belong")
        present, sums, squares = total[1:1 + p], total[1 + p:1 + 2 * p], total[1 + 2 * p:1 + 3 * p]
        self.counts = total[1 + 3 * p:].round()
        with np.errstate(invalid="ignore", divide="ignore"):
            self.mean = sums / present
            variance = squares / present - self.mean ** 2
        flat = ~(variance > 1e-12 * np.maximum(self.mean ** 2, 1e-300))
        if flat.any():
            names = [name for name, no in zip(self.plan.design_names, flat, strict=True) if no]
            raise RefusedError(f"federated: {', '.join(names)} has one value at all sites; take it out of the plan")
        self.scale = np.sqrt(variance)

    def _take_fit(self, total: np.ndarray) -> None:
        p, start = len(self.plan.design_names), 0
        for kind in self._open():
            size = 1 + n_weights(p, self.plan.hidden) if kind == "network" else n_statistics(p + (kind == "logistic"))
            part = total[start:start + size]
            start += size
            if len(part) != size:
                raise InputError("federated: the sites' sum is too short")
            if kind == "network":
                self.weights = part[1:] / max(part[0], 1.0)
            else:
                self.newton[kind].receive(part)
        self.round += 1

    def _take_baseline(self, total: np.ndarray) -> None:
        k = len(self.plan.horizons)
        if len(total) != 2 * k:
            raise InputError("federated: the sites' sum is too short")
        self.hazard = tuple(float(events / at_risk) if at_risk > 1e-9 else None
                            for events, at_risk in zip(total[:k].round(), total[k:], strict=True))


def train_in_process(plan: FederatedPlan, sites: Sequence[SiteRows],
                     policy: SitePolicy | None = None) -> FederatedResult:
    """The same run without a network, for pooled (one element) and simulated federated training: the sums go through
    the same fixed-point numbers. Raises RefusedError when a site's policy (if given) refuses.
    """
    limits = policy or SitePolicy("", "", (), min_events=1, min_rows=1)
    for rows in sites:
        code = refusal(plan, policy) or too_small(rows, plan, policy) if policy else ""
        if code:
            raise RefusedError(f"federated: a site stays out: {REFUSALS[code]}")
    coordinator, numbers = Coordinator(plan), FixedPoint()
    while (request := coordinator.request()) is not None:
        answers = [numbers.encode(site_answer(request, rows, plan, limits)) for rows in sites]
        coordinator.receive(numbers.decode(sum_masked(answers)))
    return coordinator.result()
