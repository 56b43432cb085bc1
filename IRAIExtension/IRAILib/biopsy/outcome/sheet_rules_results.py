"""Rules of the reporting sheets that speak of results, comparison and sharing (see sheet_rules)."""

from __future__ import annotations

from . import facts
from .record import Run
from .sheet_rules import RULES, Answer, author, flow_words, reported, rule, undone

__all__ = ["RULES"]


@rule("flow")
def _flow(run: Run, shown: frozenset[str]) -> Answer:
    text = flow_words(run) + f" {run.summary.get('n_patients')} patients; "
    text += ", ".join(f"{name}: {n}" for name, n in facts.counts(run).items())
    held = run.held_out.get("model")
    seen = facts.follow_up(held) if held is not None else None
    if seen:
        median = "not reached" if seen["median"] is None else f"{seen['median']:g}"
        text += (f"; median follow-up (reverse Kaplan-Meier) {median}, times {seen['shortest']:g} to "
                 f"{seen['longest']:g} {run.plan.time_unit}").rstrip()
    return reported(text + ".")


@rule("characteristics")
def _characteristics(run: Run, shown: frozenset[str]) -> Answer:
    if "characteristics" in shown:
        return reported("Table of the patients in the report, with missing values, by outcome; the folds are parts "
                        "of the "
                        "same patients.")
    return undone("The report holds no table of the patients.")


@rule("events_each")
def _events(run: Run, shown: frozenset[str]) -> Answer:
    rows = facts.fold_table(run)
    if not rows:
        return undone("No held-out rows are kept in this run.")
    trained = [row["trained_on"] for row in rows]
    events = [row["trained_on_events"] for row in rows]
    return reported(f"Final model: {run.summary.get('n_patients')} patients, "
                    + ", ".join(f"{name}: {n}" for name, n in facts.counts(run).items())
                    + f". Outer training parts: {min(trained)} to {max(trained)} patients with {min(events)} to "
                    f"{max(events)} events.")


@rule("specification")
def _specification(run: Run, shown: frozenset[str]) -> Answer:
    return reported(f"{facts.model_words(run)}: every coefficient or tree, pre-processing number and baseline hazard "
                    "stands in model.json (and weights.npz), with hashes; coefficients also in the report.")


@rule("performance")
def _performance(run: Run, shown: frozenset[str]) -> Answer:
    metric = facts.primary_metric(run)
    own = facts.score(run, "model", metric)
    said = (f"{facts.words_of(metric)} {own.text() if own else ''}; {len(run.scores.get('model', {}))} figures with "
            f"95 % ")
    groups = "; groups in the report" if "subgroups" in shown else "; no groups were examined"
    return reported(said + "intervals, beside the baseline's" + groups + ".")


@rule("not_external")
def _external(run: Run, shown: frozenset[str]) -> Answer:
    return undone("No data from elsewhere were used: all figures come from within one table.")


@rule("internal_test")
def _internal(run: Run, shown: frozenset[str]) -> Answer:
    if not facts.patients_apart(run):
        return undone("Patients were not kept apart.")
    return reported(f"Internal: nested cross-validation with {run.plan.repeats} "
                    f"{'repeat' if run.plan.repeats == 1 else 'repeats'}; every figure is of held-out "
                    f"rows. "
                    "External: none.")


@rule("limits")
def _limits(run: Run, shown: frozenset[str]) -> Answer:
    return author(" ".join(facts.limits(run)))


@rule("input_at_use")
def _input(run: Run, shown: frozenset[str]) -> Answer:
    how = {"median": "the training median", "chained": "a regression on the other inputs"}[run.plan.imputation]
    gate = "" if run.final is not None and run.final.similarity is None else (
        "; a patient unlike the training cohort is refused with the distance")
    return reported("A missing column that carries weight or an unknown unit is refused; a missing value is filled by "
                    f"{how}, and a row with most inputs missing is refused{gate}.")


@rule("identifiers")
def _identifiers(run: Run, shown: frozenset[str]) -> Answer:
    names = [column.name for column in run.columns if column.role in ("identifier", "patient")]
    return author((f"Identifying columns were not used ({', '.join(names)}); " if names else "")
                  + "the model file holds no patient's row.")


@rule("uncertainty")
def _uncertainty(run: Run, shown: frozenset[str]) -> Answer:
    own = facts.score(run, "model", facts.primary_metric(run))
    if own is None or own.low is None:
        return undone("No intervals were computed.")
    text = f"95 % intervals: {own.method}"
    if run.permutation:
        text += (f"; permutation test of the whole procedure, p = {run.permutation.get('p'):.3g} of "
                 f"{run.permutation.get('n')}")
    return reported(text + ".")


@rule("sensitivity")
def _sensitivity(run: Run, shown: frozenset[str]) -> Answer:
    if not run.sensitivity:
        return undone("The groups of predictors were not left out in turn.")
    return reported("Groups of predictors left out, and alone: " + ", ".join(str(part.get("name"))
                                                                             for part in run.sensitivity) + ".")


@rule("explanation")
def _explanation(run: Run, shown: frozenset[str]) -> Answer:
    return reported("Coefficients with their spread over folds, how often each column was chosen, and each patient's "
                    "own "
                    "contributions at prediction. None of this shows cause.")


@rule("failures")
def _failures(run: Run, shown: frozenset[str]) -> Answer:
    held = run.held_out.get("model")
    if held is None or held.probability is None or not len(held):
        return author("Not done for times to an event.")
    once = held.averaged()
    assert once.probability is not None
    top = once.probability.argmax(axis=1)
    wrong = top != once.truth
    sure = wrong & (once.probability.max(axis=1) > 0.8)
    return author(f"The likeliest class was wrong in {int(wrong.sum())} of {len(top)} held-out patients, in "
                  f"{int(sure.sum())} of them at a probability above 0.8.")


@rule("technical_detail")
def _technical(run: Run, shown: frozenset[str]) -> Answer:
    return reported("The report's section on how it was made, and the plan in model.json, give every step and setting.")


@rule("guidelines")
def _guidelines(run: Run, shown: frozenset[str]) -> Answer:
    return reported("TRIPOD+AI, CLAIM, CLEAR, METRICS and RQS are filled from the run (sheets.csv, sheets.json); the "
                    "items left to the author are named.")


@rule("confounders")
def _confounders(run: Run, shown: frozenset[str]) -> Answer:
    if run.plan.harmonise != "none":
        return reported(f"Differences between sites taken out inside the fold ({run.plan.harmonise}).")
    beside = facts.baseline_columns(run)
    return author(f"Compared with a baseline of {', '.join(beside)}; nothing else was done." if beside else "")


@rule("robust_features")
def _robust(run: Run, shown: frozenset[str]) -> Answer:
    if not facts.imaging(run):
        return Answer("not applicable", "No column comes from images.")
    return author("The run does not see how the features were measured.")


@rule("redundant_features")
def _redundant(run: Run, shown: frozenset[str]) -> Answer:
    if run.plan.max_correlation >= 1:
        return undone("No filter of correlated columns.")
    return reported(f"Inside the fold, of columns correlated above {run.plan.max_correlation:g} one is kept.")


@rule("dimension")
def _dimension(run: Run, shown: frozenset[str]) -> Answer:
    seen = facts.counts(run)
    if facts.kind(run) in ("survival", "competing"):
        events = list(seen.values())[1] if len(seen) > 1 else 0
    else:
        events = min(seen.values(), default=0)
    columns = len(facts.used(run))
    text = (f"{columns} candidate columns for {events} events (or patients of the smallest class); a model may use "
            f"at most "
            f"one per {run.plan.events_per_variable:g} events, and the penalty shrinks the rest.")
    return reported(text) if columns <= events / 10 else undone(text + " More than one candidate per ten events.")


@rule("not_deep")
def _not_deep(run: Run, shown: frozenset[str]) -> Answer:
    words = facts.deep_words(run)
    return reported(words) if words else Answer("not applicable", "No network from image to outcome.")


@rule("calibration")
def _calibration(run: Run, shown: frozenset[str]) -> Answer:
    return reported("Calibration curve with band, intercept and slope.") if "calibration" in shown else \
        undone("The report holds no calibration.")


@rule("comparison")
def _comparison(run: Run, shown: frozenset[str]) -> Answer:
    said = facts.verdict(run)
    return reported(f"Paired differences on the same patients and folds. "
                    f"{said.text}") if said.difference is not None else \
        undone("No paired difference.")


@rule("classical_comparison")
def _classical(run: Run, shown: frozenset[str]) -> Answer:
    if run.differences.get("model - baseline"):
        return reported(f"Regression on {', '.join(facts.baseline_columns(run))} on the same folds.")
    return reported("The model is itself a penalised regression.") if run.plan.models[0] == "linear" else \
        undone("No clinical baseline; only a model that knows no column.")


@rule("imaging_comparison")
def _imaging_comparison(run: Run, shown: frozenset[str]) -> Answer:
    if not facts.imaging(run):
        return Answer("not applicable", "No column comes from images.")
    images = {column.name for column in facts.imaging(run)}
    beside = set(facts.baseline_columns(run))
    if beside and not beside & images:
        return reported(f"Baseline without images: {facts.verdict(run).text}")
    parts = [part for part in run.sensitivity if "imaging" in str(part.get("name"))]
    return reported("Model without, and with only, the columns from images.") if parts else \
        undone("No comparison without the columns from images.")


@rule("imaging_families")
def _families(run: Run, shown: frozenset[str]) -> Answer:
    found = facts.families(run)
    if not found:
        return Answer("not applicable", "No column comes from images.")
    return reported("By their names: " + ", ".join(f"{name} {n}" for name, n in found.items()) + ".")


@rule("imaging_count")
def _count(run: Run, shown: frozenset[str]) -> Answer:
    n = len(facts.imaging(run))
    return reported(f"{n} columns from images were candidates.") if n else \
        Answer("not applicable", "No column comes from images.")


@rule("selection")
def _selection(run: Run, shown: frozenset[str]) -> Answer:
    plan = run.plan
    steps = ["constant columns dropped"]
    if plan.max_correlation < 1:
        steps.append(f"correlation filter at {plan.max_correlation:g}")
    if plan.selection != "none":
        steps.append(f"{plan.selection} selection")
    if plan.models[0] == "linear":
        steps.append("elastic-net penalty")
    return reported("All inside the fold: " + ", ".join(steps) + ".")


@rule("feature_stability")
def _stability(run: Run, shown: frozenset[str]) -> Answer:
    if not run.selected:
        return undone("The run kept no record of the chosen columns.")
    best = sorted(run.selected.items(), key=lambda pair: -pair[1])[:5]
    return reported("Share of outer folds in which a column carried weight, most often: "
                    + ", ".join(f"{name} {100 * share:.0f} %" for name, share in best) + "; all in the report.")


@rule("settings_shared")
def _settings(run: Run, shown: frozenset[str]) -> Answer:
    return author("model.json holds the plan and every pre-processing number.")


@rule("model_file")
def _model_file(run: Run, shown: frozenset[str]) -> Answer:
    return author("The model is a plain, hashed file (model.json, weights.npz) without any patient's row.")


@rule("ready_to_use")
def _ready(run: Run, shown: frozenset[str]) -> Answer:
    return author("irai biopsy predict MODEL_DIR TABLE.csv --out CSV runs it.")


@rule("rqs_reduction")
def _rqs_reduction(run: Run, shown: frozenset[str]) -> Answer:
    reduces = run.plan.max_correlation < 1 or run.plan.selection != "none" or run.plan.models[0] == "linear"
    return reported(_selection(run, shown).evidence, 3.0) if reduces else undone("Features were not reduced.", -3.0)


@rule("rqs_multivariable")
def _rqs_multivariable(run: Run, shown: frozenset[str]) -> Answer:
    others = [column.name for column in facts.used(run) if column.group != "imaging"]
    return reported(f"Fitted together with {', '.join(others[:12])}.", 1.0) if others and facts.imaging(run) else \
        undone("No columns other than those from images.", 0.0)


@rule("rqs_cutoff")
def _rqs_cutoff(run: Run, shown: frozenset[str]) -> Answer:
    return reported("The risk is given as a continuous number; no cut-off was tuned.", 1.0)


@rule("rqs_discrimination")
def _rqs_discrimination(run: Run, shown: frozenset[str]) -> Answer:
    own = facts.score(run, "model", facts.primary_metric(run))
    if own is None or own.estimate is None:
        return undone("No figure of discrimination.", 0.0)
    points = 1.0 if own.low is not None else 0.0
    return reported(f"{facts.words_of(own.metric)} {own.text()}, held out and resampled.", points + 1.0)


@rule("rqs_calibration")
def _rqs_calibration(run: Run, shown: frozenset[str]) -> Answer:
    return reported("Intercept and slope with intervals, on held-out rows, resampled.", 2.0) \
        if "calibration" in shown else undone("The report holds no calibration.", 0.0)


@rule("rqs_validation")
def _rqs_validation(run: Run, shown: frozenset[str]) -> Answer:
    return undone("Cross-validation refits the model: it is no validation on data set apart, in the sense of this "
                  "score.",
                  -5.0)


@rule("rqs_standard")
def _rqs_standard(run: Run, shown: frozenset[str]) -> Answer:
    beside = facts.baseline_columns(run)
    if run.plan.baseline and beside:
        return reported(f"Compared with {', '.join(beside)}, named by the author as the present standard.", 2.0)
    return author("No baseline was named; say what the present standard is and name its columns with --baseline.")


@rule("rqs_utility")
def _rqs_utility(run: Run, shown: frozenset[str]) -> Answer:
    return reported("Decision curve with band.", 2.0) if "decision" in shown else undone("No decision curve.", 0.0)
