"""Sections of the training report that are words and tables: asked, patients, leaks, procedure, figures, limits."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from .. import __version__
from ..biopsy.outcome import facts
from ..biopsy.outcome.record import Run
from ..biopsy.outcome.sheet_rules import RULES, rows_read, sample_words
from . import outcome_figures as figures
from .outcome_figures import BASELINE, COLOURS, MODEL, Row
from .outcome_html import details, interval, p_text, paragraph, picture, plots, table
from .outcome_patients import Characteristic, Subgroup
from .outcome_weights import Spread

MAX_ROWS = 60
"""Longer lists are cut, and say so; everything is in metrics.json."""
NO_SHOW: frozenset[str] = frozenset()


def _said(name: str, run: Run) -> str:
    return RULES[name](run, NO_SHOW).evidence


def asked(run: Run) -> str:
    plan = run.plan
    rows: list[list[Any]] = [["Outcome", f"{plan.target}" + (f", value '{plan.event}' counts" if plan.event else "")],
                             ["Kind", facts.KIND_WORDS.get(facts.kind(run), facts.kind(run))]]
    if plan.time:
        rows.append(["Time", f"{plan.time}" + (f", {plan.time_unit}" if plan.time_unit else ", unit not given")])
        horizons = run.summary.get("horizons") or list(plan.horizons)
        rows.append(["Horizons", ", ".join(f"{h:g}" for h in horizons)])
    rows += [["Unit that is kept together", plan.patient or "the row (no patient column was named)"],
             ["Site", plan.site or "no column"],
             ["Model", facts.model_words(run)],
             ["Run beside it", ", ".join(facts.family_words(name, facts.kind(run)) for name in facts.others_beside(run))
              or "nothing"],
             ["Baseline", ", ".join(facts.baseline_columns(run)) or "none but the model that knows no column"],
             ["Figure that decides, fixed before", facts.words_of(facts.primary_metric(run))],
             ["Left out on request", ", ".join(plan.exclude) or "nothing"],
             ["Intended use", plan.intended_use or "research only; the author has not said more"]]
    return table(["", ""], rows)


def flow(run: Run) -> str:
    """Boxes: rows read, left out with the reason, used, patients and events."""
    held = run.held_out["model"]
    once = held.averaged()
    read, dropped = rows_read(run)
    boxes = [f"<div><b>{read}</b> rows read</div>"]
    if dropped:
        boxes += ['<div class="arrow">&rarr;</div>'] + [
            f'<div class="out"><b>{int(n)}</b> left out: {_plain(why)}</div>' for why, n in dropped.items()]
    boxes += ['<div class="arrow">&rarr;</div>', f"<div><b>{len(once)}</b> rows of <b>{held.n_patients}</b> patients "
              "used</div>", '<div class="arrow">&rarr;</div>']
    boxes += [f"<div><b>{n}</b> "
              f"{_plain(facts.outcome_words(run, name))}</div>" for name, n in facts.counts(run).items()]
    seen = facts.follow_up(held)
    words = ""
    if seen:
        unit = f" {run.plan.time_unit}" if run.plan.time_unit else ""
        median = "not reached" if seen["median"] is None else f"{seen['median']:.3g}{unit}"
        words = (f"Median follow-up {median} (reverse Kaplan-Meier); times from {seen['shortest']:.3g} to "
                 f"{seen['longest']:.3g}{unit}.")
    return f'<div class="flow">{"".join(boxes)}</div>' + paragraph(words)


def _plain(text: Any) -> str:
    return escape(str(text))


def sample_size(run: Run) -> str:
    said = sample_words(run)
    enough = run.summary.get("sample_size")
    short = isinstance(enough, dict) and enough.get("enough") is False
    return (paragraph(f"Sample size. {said}", "warn" if short else "") if said else "") + paragraph(
        f"Rule of events: {run.summary['events_rule']}" if run.summary.get("events_rule") else "")


def patients(run: Run, lines: list[Characteristic]) -> str:
    if not lines:
        return ""
    heads = list(lines[0].cells)
    counts = facts.counts(run)
    head = ["", "", *(f"{facts.outcome_words(run, name)} (n = "
                      f"{counts.get(name, sum(counts.values()))})" for name in heads),
            "missing"]
    body = table(head, [[line.name, line.level, *(line.cells[name] for name in heads),
                         line.missing if line.name else ""] for line in lines[:MAX_ROWS * 2]],
                 tuple(range(2, len(head))))
    return "<h3>Characteristics, by outcome</h3>" + body + paragraph(
        "Medians with quartiles, or counts with shares of the known values. No test of differences: the groups are "
        "described, not compared.", "small")


def leaks(run: Run) -> str:
    if not run.leaks:
        return paragraph("No column, patient or row order looked like a leak.")
    order = {"kept": 0, "refused": 1, "dropped": 2, "warned": 3}
    found = sorted(run.leaks, key=lambda leak: (order.get(leak.action, 9), leak.column))
    red = [place for place, leak in enumerate(found) if leak.action == "kept"]
    rows = [[leak.column, leak.kind, leak.evidence, leak.action + (" ON REQUEST" if leak.action == "kept" else "")]
            for leak in found]
    return "<h3>What would have leaked</h3>" + table(["column or patient", "kind", "evidence", "what was done"], rows,
                                                     red=red)


def missing(run: Run) -> str:
    gaps = sorted((column for column in run.columns if column.used and column.missing > 0), key=lambda c: -c.missing)
    if not gaps:
        return paragraph("No used column has a missing value.")
    body = table(["column", "missing %"], [[c.name, f"{100 * c.missing:.1f}"] for c in gaps[:MAX_ROWS]], (1,))
    return "<h3>Missing values</h3>" + paragraph(_said("missing", run)) + details(f"{len(gaps)} columns", body)


def columns(run: Run) -> str:
    rows = [[c.name, c.role, c.group, c.kind, c.unit, "yes" if c.used else f"no: {c.reason}" if c.reason else "no"]
            for c in sorted(run.columns, key=lambda c: (not c.used, c.group))]
    counted: dict[str, int] = {}
    for column in facts.used(run):
        counted[column.group] = counted.get(column.group, 0) + 1
    words = ", ".join(f"{n} of group {name}" for name, n in counted.items()) or "none"
    deep = facts.deep_words(run)
    return paragraph(f"Used: {len(facts.used(run))} of {len(run.columns)} columns ({words}).") + (
        paragraph(f"And from the images {deep}") if deep else "") + details(
        "every column", table(["column", "role", "group", "kind", "unit", "used"], rows))


def made(run: Run) -> str:
    names = ("partition", "preprocessing", "selection", "model_building", "imbalance", "prediction_rule")
    return "<ul>" + "".join(f"<li>{_plain(_said(name, run))}</li>" for name in names) + "</ul>"


def folds(run: Run) -> str:
    rows = [[row["repeat"], row["fold"], row["held_out"], row["held_out_events"], row["trained_on"],
             row["trained_on_events"]] for row in facts.fold_table(run)]
    words = "Events: rows with any class but the first." if facts.kind(run) != "multiclass" else ""
    return details(f"{len(rows)} outer folds", table(
        ["repeat", "fold", "patients held out", "events among them", "patients trained on", "events among them"], rows,
        tuple(range(6))) + paragraph(words, "small"))


def chosen(run: Run) -> str:
    if not run.choices:
        return ""
    keys = list(dict.fromkeys(key for choice in run.choices for key in choice))
    rows = [[_short(choice.get(key)) for key in keys] for choice in run.choices[:MAX_ROWS]]
    return details("what each outer fold chose in its inner folds", table([str(key) for key in keys], rows))


def _short(value: Any) -> str:
    if isinstance(value, dict):
        text = ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    elif isinstance(value, list | tuple):
        text = ", ".join(_short(item) for item in value)
    else:
        text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return text if len(text) <= 220 else text[:217] + "..."


def performance(run: Run) -> str:
    """Every figure of model, baseline and null with intervals, and the paired difference; the deciding one on top."""
    names = [name for name in ("model", "baseline", "null", *facts.others_beside(run)) if run.scores.get(name)]
    first = facts.primary_metric(run)
    metrics = sorted(facts.metric_names(run), key=lambda metric: metric != first)
    against = "baseline" if run.differences.get("model - baseline") else "null"
    rows = []
    for metric in metrics:
        found = facts.difference(run, metric, against)
        arrow = {1: "higher is better", -1: "lower is better"}.get(facts.direction(metric), "")
        digits = 3 if metric.startswith(("brier", "ibs", "integrated_brier", "log_loss", "ici", "ece")) else 2
        own = [interval(facts.score(run, name, metric), digits) for name in names]
        rows.append([facts.words_of(metric, run.plan.time_unit), arrow, *own,
                     "-" if found is None else found.text(digits, sign=True), p_text(found.p) if found else ""])
    head = ["figure", "", *names, f"model - {against}", "p"]
    methods = list(dict.fromkeys(found.method for metric in metrics if (found := facts.score(run, "model", metric))
                                 and found.method))
    first_how, others_how = (methods[0], methods[-1]) if methods else ("none", "none")
    text = paragraph(f"Held-out predictions only, {run.plan.repeats} "
                     f"{'repeat' if run.plan.repeats == 1 else 'repeats'} averaged. 95 % intervals of the deciding "
                     f"figure: {first_how}; of others: {others_how}. Differences are paired: the same patients, folds "
                     "and resamples. p is two-sided and not adjusted for the number of figures (one is added to the "
                     "count of resamples, so it may lie just above 0.05 where the interval just leaves 0 out); only "
                     "the first line was fixed beforehand to decide.")
    if facts.kind(run) == "binary":
        text += paragraph("Sensitivity, specificity and their like are at a probability of 0.5; this is no threshold "
                          "to "
                          "use, the decision curve shows all of them.", "small")
    picture_of = _forest(run, first, names, against)
    return plots([picture_of] if picture_of else []) + table(head, rows, tuple(range(2, len(head)))) + text


def _forest(run: Run, metric: str, names: list[str], against: str) -> str:
    rows = []
    for name in names:
        one = facts.score(run, name, metric)
        if one is not None and one.estimate is not None:
            rows.append(Row(name, one.estimate, one.low, one.high, COLOURS.get(name, MODEL)))
    return picture(figures.forest_figure(rows, facts.words_of(metric), None),
                   f"{facts.words_of(metric)} with 95 % intervals.") if len(rows) > 1 else ""


def permutation(run: Run) -> str:
    test = run.permutation
    if not test:
        return paragraph("No permutation test was run; --permutations N makes one.")
    null = np.asarray([value for value in test.get("null") or [] if value is not None], float)
    p, observed = test.get("p"), test.get("observed")
    least = 1.0 / (len(null) + 1)
    said = (f"The whole procedure, selection and tuning included, was run again on {len(null)} shuffled outcomes: p = "
            f"{p:.3g} ((b + 1) / (m + 1); with {len(null)} shuffles it can't be below {least:.3g}).") if p is not None \
        else "The test gave no value."
    if p is None or observed is None or not len(null):
        return paragraph(said)
    words = facts.words_of(str(test.get("metric") or facts.primary_metric(run)))
    return plots([picture(figures.permutation_figure(null, float(observed), words, p), said)])


def learning(run: Run) -> str:
    if not run.learning_curve:
        return ""
    keys = list(dict.fromkeys(key for point in run.learning_curve for key in point))
    return "<h3>Learning curve</h3>" + table(keys, [[_short(point.get(key)) for key in keys]
                                                    for point in run.learning_curve], tuple(range(len(keys))))


def weights(run: Run, spread: Spread | None) -> str:
    """How often each column carried weight, and the coefficients of the final model with their bootstrap range."""
    parts = []
    shares = sorted(((name, share) for name, share in run.selected.items() if share > 0), key=lambda pair: -pair[1])
    if shares:
        parts.append(picture(figures.stability_figure(shares[:25], "% of the outer folds in which it carried weight"),
                             f"Stability of the chosen columns over {len(facts.fold_table(run))} outer folds"
                             + (f" (the first 25 of {len(shares)})" if len(shares) > 25 else "") + "."))
    else:
        parts.append(paragraph("No column carried weight in any outer fold: the model is the model that knows no "
                               "column."))
    body = ""
    if spread is not None and spread.rows:
        bars = [Row(one.name + (f" ({facts.outcome_words(run, one.of)})" if one.of else ""), one.value, one.low,
                    one.high) for one in spread.rows[:25]]
        parts.append(picture(figures.forest_figure(bars, "coefficient per standard deviation, or per category"),
                             f"Coefficients of the final model. {spread.words}"))
        body = table(["column", *(["outcome"] if any(one.of for one in spread.rows) else []), "final model",
                      "2.5 to 97.5 % of resamples", "not zero in"],
                     [[one.name, *([one.of] if any(row.of for row in spread.rows) else []), f"{one.value + 0.0:.3g}",
                       "-" if one.low is None else f"{one.low:.3g} to {one.high:.3g}",
                       "-" if one.share is None else f"{100 * one.share:.0f} %"] for one in spread.rows])
    words = paragraph("A column with weight predicts in this table; that shows no cause, and of two columns that say "
                      "the "
                      "same either may be chosen.")
    return plots(parts) + (details(f"{len(spread.rows)} coefficients", body) if spread and body else "") + words


def sensitivity(run: Run) -> str:
    if not run.sensitivity:
        return ""
    metric = facts.primary_metric(run)
    own = facts.score(run, "model", metric)
    rows = [Row("all columns (the model)", own.estimate, own.low, own.high)] if own and own.estimate is not None else []
    lines = []
    for part in run.sensitivity:
        found, gap = facts.as_figure(metric, part), facts.as_figure(metric, part.get("difference"))
        if found is not None and found.estimate is not None:
            rows.append(Row(str(part.get("name")), found.estimate, found.low, found.high, BASELINE))
        columns = part.get("columns")
        lines.append([part.get("name"), columns if isinstance(columns, int) else len(columns or []), interval(found),
                      "-" if gap is None else gap.text(sign=True)])
    return ("<h3>Groups of columns left out, and alone</h3>"
            + plots([picture(figures.forest_figure(rows, facts.words_of(metric), None), "The same procedure on the "
                                                                                        "folds "
                             "of the first repeat with a group of columns left out, or with one group only; 95 %.")])
            + table(["columns", "number", facts.words_of(metric), "minus the model, paired"], lines, (1, 2, 3)))


def groups(run: Run, found: list[Subgroup]) -> str:
    if not found:
        return paragraph("The table has no column of sex, age, site or the like that was examined: nothing is known of "
                         "fairness between groups.")
    metric = facts.primary_metric(run)
    rows = [Row(f"{one.column}: {one.level}", one.figure.estimate, one.figure.low, one.figure.high, MODEL,
                f"(n = {one.n_patients})") for one in found if one.figure and one.figure.estimate is not None]
    events = "events" if facts.kind(run) != "multiclass" else "rows"
    body = table(["group", "patients", events, facts.words_of(metric)],
                 [[f"{one.column}: {one.level}", one.n_patients, one.n_events,
                   interval(one.figure) if one.figure else one.note] for one in found], (1, 2, 3))
    drawn = [picture(figures.forest_figure(rows, facts.words_of(metric), None), "95 % intervals.")] if rows else []
    words = paragraph("Groups are those of the table's columns, a number split at its median; the intervals are not "
                      "adjusted for their number, and a difference between groups was not tested.", "small")
    return plots(drawn) + body + words


def _sets(sets: Any) -> list[list[Any]]:
    """Measured coverage of the sets, in all and by class."""
    rows: list[list[Any]] = []
    for level, one in (getattr(sets, "coverage", None) or {}).items():
        rows.append([f"sets at {100 * (1 - float(level)):g} %: truth in the set, held out", _share(one)])
        rows += [[f"of class {name}", _share(part)] for name, part in one.get("by_class", {}).items()]
        rows.append(["classes in a set, mean; sets that hold every class",
                     f"{one['size']:.2f}; {100 * one['full']:.0f} %"])
    return rows


def _share(one: dict[str, Any]) -> str:
    return f"{100 * one['coverage']:.0f} % ({100 * one['low']:.0f} to {100 * one['high']:.0f}), n = {one['n']}"


def _bounds(run: Run, sets: Any) -> list[list[Any]]:
    """What the conformal bounds of times rest on, and their measured coverage where the run has it."""
    rows: list[list[Any]] = [
        ["lower bound of the time to the event, read up to", f"{sets.horizon:.4g} {run.plan.time_unit}".strip()],
        ["patients whose time up to there is known", f"{sets.known} of {sets.n}"],
        ["largest weight for censoring", f"{sets.largest_weight:.2f}"], ["assumes", sets.assumption]]
    measured = getattr(sets, "coverage", None) or {}
    for level, one in measured.items():
        for key, words in (("lower_bound", "times not before the lower bound"), ("interval", "times in the interval")):
            found = facts.as_figure(key, one.get(key))
            if found is not None:
                rows.append([f"{words}, wanted {100 * (1 - float(level)):g} %, held out", found.text()])
        if one.get("no_bound") is not None:
            rows.append(["patients without a lower bound", f"{100 * one['no_bound']:.0f} %"])
    if not measured:
        rows.append(["measured coverage", "not measured in this run"])
    return rows


def use(run: Run) -> str:
    """Conformal sets with their measured coverage, and the gate, from the final model."""
    sets = getattr(run.final, "conformal", None)
    gate = getattr(run.final, "similarity", None)
    rows = _bounds(run, sets) if hasattr(sets, "horizon") else _sets(sets)
    if sets is None:
        rows.append(["conformal sets or bounds", "none: not estimable, or not made for this kind of outcome"])
    if gate is None:
        rows.append(["likeness gate", "none: no input that the model uses varies enough"])
    else:
        rows.append(["likeness gate", f"distance {gate.gate:.3g}, robust SD {gate.z_gate:.3g}, over "
                     f"{len(gate.names)} inputs of {gate.n} rows; made so that about {100 * gate.alpha:g} % of like "
                     "patients are refused"])
        rows += [["", note] for note in gate.notes]
    return paragraph(_said("output", run)) + paragraph(_said("input_at_use", run)) + table(["", ""], rows)


def versions(run: Run, hashes: dict[str, str], command: str) -> str:
    rows = [["IRAI", __version__], *([name, version] for name, version in run.versions.items() if name != "IRAI"),
            ["seed", run.plan.seed]]
    if run.summary.get("table"):
        rows.append(["table", run.summary["table"]])
    if run.summary.get("table_sha256"):
        rows.append(["sha256 of the table", run.summary["table_sha256"]])
    rows += [[f"sha256 of {name}", value] for name, value in hashes.items()]
    said = table(["", ""], rows)
    return said + (f"<p>Made by: <code>{_plain(command)}</code></p>" if command else "")

