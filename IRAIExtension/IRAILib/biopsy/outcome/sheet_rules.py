"""How each item of a reporting sheet is answered from a run. A rule never says more than the run can show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import facts
from .record import Run


@dataclass(frozen=True)
class Answer:
    """status: reported, not done, author or not applicable. points: for sheets that count points."""

    status: str
    evidence: str = ""
    points: float | None = None


Rule = Callable[[Run, frozenset[str]], Answer]
RULES: dict[str, Rule] = {}


def rule(name: str) -> Callable[[Rule], Rule]:
    """Enters a rule under the name that the sheets use."""
    def enter(function: Rule) -> Rule:
        RULES[name] = function
        return function
    return enter


def reported(text: str, points: float | None = None) -> Answer:
    return Answer("reported", text, points)


def undone(text: str, points: float | None = None) -> Answer:
    return Answer("not done", text, points)


def author(text: str = "") -> Answer:
    return Answer("author", text)


@rule("author")
def _author(run: Run, shown: frozenset[str]) -> Answer:
    return author()


@rule("imaging_author")
def _imaging_author(run: Run, shown: frozenset[str]) -> Answer:
    return author() if facts.imaging(run) else Answer("not applicable", "No column comes from images.")


@rule("suggest_title")
def _title(run: Run, shown: frozenset[str]) -> Answer:
    return author(f"Suggested: Prediction of {run.plan.target} by {facts.model_words(run)}: development and internal "
                  f"validation in {run.summary.get('n_patients')} patients.")


@rule("objective")
def _objective(run: Run, shown: frozenset[str]) -> Answer:
    beside = facts.baseline_columns(run)
    return reported(f"Development with internal validation of a model of {facts.KIND_WORDS.get(facts.kind(run), '')} "
                    f"({run.plan.target}), beside " + (f"a clinical baseline ({', '.join(beside)}) and "
                                                       f"" if beside else "")
                    + "a model that knows no column.")


@rule("data_file")
def _data(run: Run, shown: frozenset[str]) -> Answer:
    name = run.summary.get("table")
    return author(f"The run read {rows_read(run)[0]} rows and used those of {run.summary.get('n_patients')} patients, "
                  f"{len(run.columns)} columns" + (f", from {name}." if name else "."))


@rule("sites")
def _sites(run: Run, shown: frozenset[str]) -> Answer:
    held = run.held_out.get("model")
    if held is None or held.site is None:
        return author("The run was told of no site.")
    return author(f"{len(set(held.site.tolist()))} sites in column {run.plan.site}.")


@rule("dropped_rows")
def _dropped(run: Run, shown: frozenset[str]) -> Answer:
    return author(f"{flow_words(run)}")


def flow_words(run: Run) -> str:
    """Rows in and rows left out with the reason, as one sentence."""
    read, dropped = rows_read(run)
    lost = "; ".join(f"{n} left out: {why}" for why, n in dropped.items())
    held = run.held_out.get("model")
    kept = len(held.averaged()) if held is not None and len(held) else run.summary.get("n_rows")
    return f"{read} rows read, {kept} used" + (f" ({lost})." if lost else ".")


def rows_read(run: Run) -> tuple[int, dict[str, int]]:
    """(rows of the table, rows left out by reason); without a record: the rows used, and nothing left out."""
    dropped = run.summary.get("dropped_rows")
    return int(run.summary.get("n_rows_read") or run.summary.get("n_rows") or 0), dict(dropped or {})


@rule("preprocessing")
def _preprocessing(run: Run, shown: frozenset[str]) -> Answer:
    plan = run.plan
    steps = [{"median": "missing values by the median of the training part, with an indicator",
              "chained": "missing values by ridge regression on the other columns, a single prediction without a "
                         "random draw, with an indicator"}[plan.imputation],
             "categories to indicator columns (rare and unknown levels kept apart)", "scaling"]
    if plan.power_transform:
        steps.append("Yeo-Johnson transform")
    if plan.harmonise != "none":
        steps.append(f"harmonisation over sites ({plan.harmonise})")
    if plan.max_correlation < 1:
        steps.append(f"of columns correlated above {plan.max_correlation:g} one is kept")
    return reported("Each step learnt on the training part of the fold only: " + "; ".join(steps) + ".")


@rule("outcome")
def _outcome(run: Run, shown: frozenset[str]) -> Answer:
    plan = run.plan
    text = f"Column {plan.target}" + (f", value {plan.event} counts" if plan.event else "")
    if plan.time:
        text += f"; time in column {plan.time}" + (f" ({plan.time_unit})" if plan.time_unit else "")
        text += f"; predicted at {', '.join(f'{h:g}' for h in run.summary.get('horizons') or plan.horizons)}"
    return author(text + f"; {', '.join(f'{name}: {n}' for name, n in facts.counts(run).items())}.")


@rule("candidate_predictors")
def _candidates(run: Run, shown: frozenset[str]) -> Answer:
    left = sum(leak.action == "dropped" for leak in run.leaks)
    return author(f"{len(facts.used(run))} of {len(run.columns)} columns were candidates; {left} were left out as "
                  "leaks, the others by their role or on request (see the report).")


@rule("predictors")
def _predictors(run: Run, shown: frozenset[str]) -> Answer:
    names = [column.name + (f" ({column.unit})" if column.unit else "") for column in facts.used(run)]
    return author(f"Predictors: {', '.join(names[:30])}" + (f" and {len(names) - 30} "
                                                            f"more." if len(names) > 30 else "."))


@rule("sample_size")
def _sample(run: Run, shown: frozenset[str]) -> Answer:
    text = sample_words(run)
    return reported(text) if text else undone("The run holds no statement on sample size.")


def sample_words(run: Run) -> str:
    """The run's own statement on sample size."""
    said = run.summary.get("sample_size")
    if isinstance(said, dict) and said.get("n_needed") is not None:
        enough = "enough" if said.get("enough") else "too few: shrinkage, optimism and wide intervals must be expected"
        return (f"Riley's rule asks for {said['n_needed']} patients with {said.get('events_needed')} events for "
                f"{said.get('parameters')} candidate parameters (shrinkage 0.9, optimism 0.05, Nagelkerke's R2 taken "
                f"as "
                f"{said.get('assumed_nagelkerke_r2')}); there are {said.get('n_patients')} with "
                f"{said.get('n_events')}: "
                f"{enough}. Source: {said.get('source')}.")
    if isinstance(said, dict):
        said = said.get("text") or said.get("words") or "; ".join(f"{key}: {value}" for key, value in said.items())
    return str(said or "")


@rule("missing")
def _missing(run: Run, shown: frozenset[str]) -> Answer:
    gaps = [column for column in facts.used(run) if column.missing > 0]
    how = {"median": "the training part's median, with an indicator of what was missing",
           "chained": "a regression on the other columns, learnt on the training part (single, no random draw)"}[
               run.plan.imputation]
    worst = max(gaps, key=lambda column: column.missing, default=None)
    return reported(f"{len(gaps)} of {len(facts.used(run))} predictors have missing values"
                    + (f", most in {worst.name} ({100 * worst.missing:.0f} "
                       f"%)" if worst else "") + f"; filled by {how}.")


@rule("partition")
def _partition(run: Run, shown: frozenset[str]) -> Answer:
    plan = run.plan
    apart = "no patient lies in two folds (counted)" if facts.patients_apart(run) else "patients were NOT kept apart"
    folds = facts.fold_table(run)
    per_repeat = max((row["fold"] for row in folds), default=plan.outer_folds)
    how = "one site left out at a time" if plan.validation == "site" else f"{per_repeat} outer folds"
    again = "1 repeat" if plan.repeats == 1 else f"{plan.repeats} repeats"
    text = f"Nested cross-validation: {how}, {again}, {plan.inner_folds} inner folds for tuning; {apart}."
    return reported(text) if facts.patients_apart(run) else undone(text)


@rule("disjoint")
def _disjoint(run: Run, shown: frozenset[str]) -> Answer:
    if not facts.patients_apart(run):
        return undone("A patient lies in two folds of one repeat.")
    return reported("Patient" + (" and site" if run.plan.validation == "site" else "")
                    + ": counted in the held-out rows, no patient lies in two folds of a repeat.")


@rule("model_building")
def _building(run: Run, shown: frozenset[str]) -> Answer:
    plan = run.plan
    pick = "" if plan.selection == "none" else f", columns picked by {plan.selection} selection"
    return reported(f"{facts.model_words(run)[:1].upper()}{facts.model_words(run)[1:]}{pick}; settings tuned in the "
                    f"inner "
                    f"folds, at most one candidate per {plan.events_per_variable:g} events; refitted on all rows at "
                    f"the end.")


@rule("tuning")
def _tuning(run: Run, shown: frozenset[str]) -> Answer:
    return reported(f"{run.plan.inner_folds} inner folds in each of {len(run.choices) or len(facts.fold_table(run))} "
                    f"outer "
                    "training parts; what each chose stands in the report.")


@rule("final_model")
def _final(run: Run, shown: frozenset[str]) -> Answer:
    beside = facts.others_beside(run)
    return reported(f"The kind ({facts.model_words(run)}) was fixed before; settings by the inner folds; the final "
                    f"model "
                    "is the same procedure on all rows, never picked by its held-out figures."
                    + (f" Run beside it for comparison: {', '.join(beside)}." if beside else ""))


@rule("no_ensemble")
def _ensemble(run: Run, shown: frozenset[str]) -> Answer:
    if run.plan.models[0] == "linear":
        return reported("None: one model. Held-out predictions are averaged over repeats for figures only.")
    return reported(f"The model is itself an ensemble of trees ({facts.model_words(run)}).")


@rule("initialisation")
def _start(run: Run, shown: frozenset[str]) -> Answer:
    return reported(f"No pre-trained weights. Penalised regression has one optimum and no random start; whatever is "
                    f"random (folds, trees) follows seed {run.plan.seed}.")


@rule("site_analysis")
def _site_analysis(run: Run, shown: frozenset[str]) -> Answer:
    held = run.held_out.get("model")
    sites = 0 if held is None or held.site is None else len(set(held.site.tolist()))
    if sites < 2:
        return undone("No site column, or one site only.")
    if run.plan.validation == "site":
        return reported(f"Each of {sites} sites was held out in turn.")
    return reported(f"Performance in each of {sites} sites.") if "subgroups" in shown else \
        undone(f"{sites} sites, not examined apart.")


@rule("site_results")
def _site_results(run: Run, shown: frozenset[str]) -> Answer:
    return _site_analysis(run, shown)


@rule("multicentre")
def _multicentre(run: Run, shown: frozenset[str]) -> Answer:
    if not facts.imaging(run):
        return Answer("not applicable", "No column comes from images.")
    held = run.held_out.get("model")
    sites = 0 if held is None or held.site is None else len(set(held.site.tolist()))
    return reported(f"{sites} sites in column {run.plan.site}.") if sites > 1 else author("The run was told of no "
                                                                                          "site.")


@rule("metrics_used")
def _metrics(run: Run, shown: frozenset[str]) -> Answer:
    names = [facts.words_of(name) for name in facts.metric_names(run)]
    extra = [word for word in ("calibration", "decision") if word in shown]
    return reported(f"{', '.join(names)}" + (f"; plots of {' and '.join(extra)} curve" if extra else "") + ". The one "
                    f"that decides was fixed beforehand: {facts.words_of(facts.primary_metric(run))}.")


@rule("no_updating")
def _updating(run: Run, shown: frozenset[str]) -> Answer:
    return Answer("not applicable", "The model was not updated or re-calibrated after testing.")


@rule("prediction_rule")
def _prediction(run: Run, shown: frozenset[str]) -> Answer:
    return reported("Each row was predicted by fits that saw neither it nor another row of its patient; the formula "
                    "and "
                    "all numbers of the final model stand in model.json.")


@rule("imbalance")
def _imbalance(run: Run, shown: frozenset[str]) -> Answer:
    seen = ", ".join(f"{name}: {n}" for name, n in facts.counts(run).items())
    back = ("inside the training part of the fold only; probabilities moved back to the data's shares (King and Zeng "
            "2001), and calibration examined")
    how = {"none": "nothing was done about it", "weights": f"classes weighted {back}", "smote": f"SMOTE {back}"}[
        run.plan.balance]
    return reported(f"{seen}; {how}.")


@rule("fairness")
def _fairness(run: Run, shown: frozenset[str]) -> Answer:
    if "subgroups" in shown:
        return reported("Performance in groups is reported with intervals; no correction between groups was made.")
    return undone("No column of sex, age, site or the like was examined, and no correction was made.")


@rule("output")
def _output(run: Run, shown: frozenset[str]) -> Answer:
    what = {"binary": "a probability", "multiclass": "a probability of each class",
            "survival": "survival at the horizons and a relative risk",
            "competing": "cumulative incidence at the horizons"}.get(facts.kind(run), "a prediction")
    bounds = "" if run.final is not None and run.final.conformal is None else (
        f" a conformal set or bound at {100 * run.plan.coverage:g} % coverage,")
    gate = "" if run.final is not None and run.final.similarity is None else (
        " the likeness to the training cohort and a refusal outside it,")
    return reported(f"{what[:1].upper()}{what[1:]},{bounds}{gate} and what drove it; no class is cut from it.")


@rule("train_versus_test")
def _train_test(run: Run, shown: frozenset[str]) -> Answer:
    return reported("Training and test parts are folds of one table: same setting, criteria, outcome and predictors.")


@rule("software")
def _software(run: Run, shown: frozenset[str]) -> Answer:
    seen = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    return reported(f"IRAI (Apache-2.0) with {seen}; seed {run.plan.seed}; the plan in model.json repeats the run.")
