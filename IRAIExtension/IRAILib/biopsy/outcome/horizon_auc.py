"""Time-dependent AUC of held-out predictions with patients compared within a fold only, as the deciding figure is.

Predictions of different folds come from different fits. Ranks over all folds at once carry the fits' levels: a model
that knows nothing then looks worse than chance, because a fold with many events leaves few to train on (Airola et al.
2011). Weights for censoring are those of Uno et al. 2007, from all evaluated patients.
"""

from __future__ import annotations

import numpy as np

from .evaluate.checks import NotEstimableError
from .evaluate.curves import censoring_curve
from .evaluate.survival import horizon_weights
from .record import HeldOut, Run
from .scoring import Pairs, draws, interval


def horizon_pairs(held: HeldOut, place: int) -> Pairs:
    """Weighted (case, control) pairs of every fold at horizon `place`; see scoring.Pairs.

    Case: the event (of interest) by the horizon; control: free of any event then, or with another event by it.
    Raises: NotEstimableError when nobody is followed to the horizon.
    """
    horizon = float(np.asarray(held.horizons)[place])
    time = np.asarray(held.time, float)
    chance = held.incidence[:, place] if held.incidence is not None else 1 - np.asarray(held.survival)[:, place]
    once = held.averaged()
    curve = censoring_curve(once.time, once.truth > 0)
    weight = horizon_weights(time, held.truth > 0, horizon, curve)
    case = (held.truth == 1) & (time <= horizon) & (weight > 0)
    control = ~case & (weight > 0)
    names, patient = np.unique(held.patient, return_inverse=True)
    made = Pairs([], [], [], [], len(names), 1)
    for repeat, fold in sorted(set(zip(held.repeat.tolist(), held.fold.tolist(), strict=True))):
        rows = np.flatnonzero((held.repeat == repeat) & (held.fold == fold))
        pair = np.outer(weight[rows] * case[rows], weight[rows] * control[rows])
        pair *= patient[rows][:, None] != patient[rows][None]
        score = chance[rows]
        made.contrast.append(0)
        made.patients.append(patient[rows])
        made.pairs.append(pair)
        made.points.append(pair * ((score[:, None] > score[None]) + 0.5 * (score[:, None] == score[None])))
    return made


def score_within_folds(run: Run) -> None:
    """Puts auc@H, worked out within the folds, in the place of the pooled one in run.scores and run.differences.

    Nothing happens for classes. A horizon without a value says so.
    """
    model = run.held_out.get("model")
    if model is None or model.horizons is None or model.time is None:
        return
    for place, horizon in enumerate(np.asarray(model.horizons, float)):
        key = f"auc@{horizon:g}"
        values: dict[str, tuple[float, np.ndarray]] = {}
        for name, held in run.held_out.items():
            try:
                pairs = horizon_pairs(held, place)
            except NotEstimableError:
                continue
            many = pairs.figure(draws(pairs.n_patients, run.plan.bootstraps, run.plan.seed))
            values[name] = float(pairs.figure(np.ones((1, pairs.n_patients)))[0]), many
            if name in run.scores:
                run.scores[name][key] = interval(*values[name], pairs.n_patients)
        for name in ("baseline", "null"):
            if name in values and "model" in values and f"model - {name}" in run.differences:
                gap = values["model"][1] - values[name][1]
                made = interval(values["model"][0] - values[name][0], gap, model.n_patients)
                good = gap[np.isfinite(gap)]
                if len(good):
                    tail = min(int((good <= 0).sum()), int((good >= 0).sum()))
                    made["p"] = min(1.0, 2 * (tail + 1) / (len(good) + 1))
                run.differences[f"model - {name}"][key] = made
