"""Discrimination, calibration and decision curves of a run: worked out once, then drawn and said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..biopsy.outcome import HeldOut, facts
from ..biopsy.outcome.evaluate import NotEstimableError
from ..biopsy.outcome.evaluate.calibration import calibration as class_calibration
from ..biopsy.outcome.evaluate.decision import DecisionCurve, decision_curve, decision_curve_survival
from ..biopsy.outcome.evaluate.survival_calibration import horizon_calibration
from ..biopsy.outcome.record import Run
from ..geometry import CancelledError
from . import outcome_curves as curves
from . import outcome_figures as figures
from .outcome_figures import COLOURS, Curve
from .outcome_html import interval, paragraph, picture, plots, table

THRESHOLDS = np.round(np.arange(0.02, 0.99, 0.02), 2)
MAX_HORIZONS = 3
FIGURES = (("o_e", "observed over expected (1 is perfect)"), ("intercept", "intercept (0)"), ("slope", "slope (1)"),
           ("ici", "integrated calibration index (0)"), ("e50", "median error of the curve"),
           ("e90", "90th percentile of the error"), ("ece", "expected calibration error (depends on its bins)"))


@dataclass
class Evidence:
    """calibration: label to {"model", "baseline"} results of evaluate; decision: label to DecisionCurve; notes."""

    calibration: dict[str, dict[str, Any]] = field(default_factory=dict)
    decision: dict[str, DecisionCurve] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    draws: int = curves.BAND_DRAWS

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; no patient in it."""
        return {"calibration": {label: {name: one.to_dict() for name, one in parts.items()}
                                for label, parts in self.calibration.items()},
                "decision": {label: one.to_dict() for label, one in self.decision.items()}, "notes": list(self.notes)}


def gather(run: Run, *, n: int = 300, cancelled: Callable[[], bool] | None = None) -> Evidence:
    """Calibration and decision curves of the held-out predictions; what has no value is named in the notes."""
    made = Evidence(draws=n)
    for label, outcome, names in _targets(run):
        for name in ("model", "baseline"):
            held = run.held_out.get(name)
            if held is None:
                continue
            try:
                made.calibration.setdefault(label, {})[name] = _calibrate(held, outcome, n, run.plan.seed, cancelled)
            except (NotEstimableError, FloatingPointError) as error:
                made.notes.append(f"Calibration of the {name}, {label}: not estimable: {error}.")
        if not made.calibration.get(label):
            made.calibration.pop(label, None)
        if cancelled is not None and cancelled():
            raise CancelledError("the report was cancelled")
        if names:
            try:
                made.decision[label] = _decide(run, outcome, n, cancelled)
            except NotEstimableError as error:
                made.notes.append(f"Decision curve, {label}: not estimable: {error}.")
    return made


def _targets(run: Run) -> list[tuple[str, Any, bool]]:
    """(label, class code or horizon place, whether a decision curve is drawn)."""
    held = run.held_out["model"]
    if held.kind == "binary":
        return [(held.classes[1], 1, True)]
    if held.kind == "multiclass":
        return [(name, code, False) for code, name in enumerate(held.classes)]
    horizons = np.asarray(held.horizons if held.horizons is not None else [], float)
    places = np.unique(np.linspace(0, len(horizons) - 1, min(MAX_HORIZONS, len(horizons))).astype(int)) \
        if len(horizons) else []
    middle = places[len(places) // 2] if len(places) else -1
    return [(f"{horizons[k]:g} {run.plan.time_unit}".strip(), int(k), bool(k == middle)) for k in places]


def chance(held: HeldOut, outcome: int) -> np.ndarray:
    """(m,) predicted chance of the class, or of the event (of interest) by the horizon of that place."""
    if held.probability is not None:
        return held.probability[:, outcome]
    if held.incidence is not None:
        return np.clip(held.incidence[:, outcome], 0.0, 1.0)
    return np.clip(1.0 - np.asarray(held.survival, float)[:, outcome], 0.0, 1.0)


def _calibrate(held: HeldOut, outcome: int, n: int, seed: int, cancelled: Any) -> Any:
    named: dict[str, Any] = {"patients": held.patient, "repeats": held.repeat, "n": n, "seed": seed,
                             "cancelled": cancelled}
    if held.probability is not None:
        return class_calibration(held.truth == outcome, chance(held, outcome), **named)
    horizon = float(np.asarray(held.horizons)[outcome])
    return horizon_calibration(held.time, held.truth, chance(held, outcome), horizon,
                               cause=1 if held.kind == "competing" else None, **named)


def _decide(run: Run, outcome: int, n: int, cancelled: Any) -> DecisionCurve:
    held, beside = run.held_out["model"], run.held_out.get("baseline")
    named: dict[str, Any] = {"patients": held.patient, "repeats": held.repeat, "n": min(n, 200), "seed": run.plan.seed,
                             "thresholds": THRESHOLDS, "cancelled": cancelled}
    if beside is not None and np.array_equal(beside.row, held.row) and np.array_equal(beside.repeat, held.repeat):
        named["baseline"] = chance(beside, outcome)
    if held.probability is not None:
        return decision_curve(held.truth == outcome, chance(held, outcome), **named)
    return decision_curve_survival(held.time, held.truth, chance(held, outcome),
                                   float(np.asarray(held.horizons)[outcome]),
                                   cause=1 if held.kind == "competing" else None, **named)


def discrimination(run: Run, found: Evidence) -> str:
    """ROC curves, or risk groups and figures over the horizons."""
    held = run.held_out["model"]
    unit = f" ({run.plan.time_unit})" if run.plan.time_unit else ""
    if held.probability is not None:
        return plots([picture(figures.roc_figure(curves.roc_curves(run, run.plan.seed, found.draws)),
                              "ROC of held-out predictions, drawn within each fold and averaged; band: 95 %, "
                              "patients resampled.")])
    made = []
    groups = curves.risk_groups(run)
    if groups:
        times, at_risk = curves.numbers_at_risk(groups)
        competing = held.kind == "competing"
        what = "cumulative incidence" if competing else "share free of the event"
        made.append(picture(figures.survival_figure([group.curve for group in groups], at_risk, times,
                                                    f"time{unit}", what, curves.shown_until(groups)),
                            ("Aalen-Johansen" if competing else "Kaplan-Meier") + " curves by thirds of the held-out "
                                                                                  "risk,"
                            " 95 % band (log-log). The cut-offs are thirds of these patients, not cut-offs to use."))
    for metric, words, level in (("auc", "time-dependent AUC", 0.5), ("brier", "Brier score", None)):
        lines = curves.over_horizons(run, metric)
        lines = [line for line in lines if metric != "auc" or line.name != "null"]
        if lines:
            made.append(picture(figures.over_time_figure(lines, f"horizon{unit}", words, level),
                                f"{words[:1].upper()}{words[1:]} at the horizons, weighted for censoring; "
                                "bars: 95 % intervals."))
    return plots(made)


def calibration(run: Run, found: Evidence) -> str:
    """Curve with band and its figures, for each class or horizon."""
    held = run.held_out["model"]
    parts = []
    for label, made in found.calibration.items():
        lines = [Curve(name, one.curve.predicted, one.curve.observed, one.curve.low, one.curve.high, COLOURS[name])
                 for name, one in made.items() if one.curve is not None]
        model = made.get("model") or next(iter(made.values()))
        place = next(code for name, code, _ in _targets(run) if name == label)
        points = [(one.predicted, one.observed, one.low, one.high) for one in model.bins
                  if one.observed is not None and one.low is not None and one.high is not None]
        seen = held.truth == place if held.probability is not None else None
        png = figures.calibration_figure(lines, chance(held, place), seen, points=points,
                                         what=f"'{label}'" if held.probability is not None else f"event by {label}")
        rows = [[words, *(interval(facts.as_figure(name, getattr(one, name).to_dict())) for one in made.values())]
                for name, words in FIGURES if hasattr(model, name)]
        parts.append(plots([picture(png, f"Calibration, {label}: curve with 95 % band; squares: groups of patients "
                                         f"by the "
                                     "model's prediction. Below: all held-out predictions of the model."),
                            "<div>" + table(["", *made], rows, tuple(range(1, len(made) + 1)))
                            + "".join(paragraph(note, "small") for note in model.notes) + "</div>"]))
    notes = "".join(paragraph(note, "small") for note in found.notes if note.startswith("Calibration"))
    notes += paragraph("The predictions of different folds come from different fits. Where a model says little, the "
                       "folds' different levels remain, and the slope may fall to 0 or below. Errors taken as absolute "
                       "values (the last lines) grow when patients are resampled: their intervals may lie above the "
                       "estimate.", "small")
    return "".join(parts) + notes


def decision(run: Run, found: Evidence) -> str:
    """Net benefit with band; model minus the better default."""
    parts = []
    for label, made in found.decision.items():
        lines = [_line("model", made.thresholds, made.model)]
        if made.baseline:
            lines.append(_line("baseline", made.thresholds, made.baseline))
        what = f"'{label}'" if run.held_out["model"].probability is not None else f"the event by {label}"
        png = figures.decision_figure(lines, _line("all", made.thresholds, made.treat_all, band=False), what)
        better = [f"{t:g}" for t, one in zip(made.thresholds, made.difference, strict=True)
                  if one.low is not None and one.low > 0]
        said = ("Where one acts on a patient at a chance between the thresholds shown, the model gains over acting on "
                "everybody or nobody only where its curve lies above both. ")
        said += (f"Its 95 % interval lies above both at thresholds {better[0]} to {better[-1]}"
                 + (" (not at all between)." if len(better) < _span(better) else ".") if better else
                 "At no threshold does its 95 % interval lie above both.")
        parts.append(plots([picture(png, f"Decision curve, {label}; bands: 95 %, for one threshold chosen "
                                         f"beforehand.")])
                     + paragraph(said))
    notes = "".join(paragraph(note, "small") for note in found.notes if note.startswith("Decision"))
    return "".join(parts) + notes


def _span(thresholds: list[str]) -> int:
    step = float(THRESHOLDS[1] - THRESHOLDS[0])
    return round((float(thresholds[-1]) - float(thresholds[0])) / step) + 1


def _line(name: str, x: np.ndarray, found: list[Any], band: bool = True) -> Curve:
    def side(which: str) -> np.ndarray:
        return np.array([np.nan if getattr(one, which) is None else getattr(one, which) for one in found], float)

    return Curve(name, np.asarray(x, float), side("estimate"), side("low") if band else None,
                 side("high") if band else None, COLOURS.get(name, "#555"))
