"""What a run shows, in numbers and words that the report, the sheets and the card share."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...geometry import InputError
from .leaks import limits_of_leaks
from .record import Column, HeldOut, Run

WORDS = {
    "auc": "area under the ROC curve", "auc_ovr": "area under the ROC curve, one class against the rest, mean",
    "average_precision": "average precision", "brier": "Brier score", "brier_scaled": "scaled Brier score",
    "log_loss": "logarithmic loss", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity", "specificity": "specificity", "ppv": "positive predictive value",
    "npv": "negative predictive value", "f1": "F1 score", "mcc": "Matthews correlation", "kappa": "Cohen's kappa",
    "c_index": "Harrell's concordance index", "c_harrell": "Harrell's concordance index",
    "c_uno": "Uno's concordance index", "ibs": "integrated Brier score",
    "integrated_brier": "integrated Brier score", "calibration_intercept": "calibration in the large (intercept)",
    "calibration_slope": "calibration slope", "ece": "expected calibration error",
    "ici": "integrated calibration index",
    "o_e": "observed over expected", "e_o": "expected over observed", "oe": "observed over expected events",
    "ipa": "index of prediction accuracy", "integrated_ipa": "integrated index of prediction accuracy",
    "auc_macro": "area under the ROC curve, each class against the rest, mean",
    "auc_weighted": "area under the ROC curve, each class against the rest, weighted by prevalence",
    "average_precision_macro": "average precision, mean over classes", "f1_macro": "F1 score, mean over classes",
    "prevalence": "share of cases", "c_wolbers": "concordance for the event of interest (Wolbers)",
    "c_wolbers_ipcw": "concordance for the event of interest (Wolbers, weighted for censoring)",
}
CONCORDANCE = ("auc", "c_index", "c_harrell", "c_uno", "c_", "cindex", "concordance")
LOWER_IS_BETTER = ("brier", "ibs", "log_loss", "integrated_brier", "ece", "ici", "emax", "e50", "e90", "mae", "rps")
NO_DIRECTION = ("slope", "intercept", "o_e", "e_o", "oe@", "observed", "threshold", "prevalence")
MODEL_WORDS = {"linear": {"survival": "Cox regression with elastic-net penalty",
                          "competing": "cause-specific Cox regressions with elastic-net penalty",
                          "": "logistic regression with elastic-net penalty"},
               "boosting": {"": "gradient-boosted trees"},
               "forest": {"": "random survival forest", "binary": "random forest", "multiclass": "random forest"}}
KIND_WORDS = {"binary": "a class (yes or no)", "multiclass": "one of several classes", "survival": "time to an event",
              "competing": "time to an event with competing events"}
IBSI_STARTS = ("morph", "loc", "stat", "ih", "ivh", "cm", "rlm", "szm", "dzm", "ngt", "ngl")
SUBGROUP_NAME = re.compile(
    r"(sex|gender|age|age_?(group|gp|class|y|years)?|site|centre|center|hospital|race|ethnic\w*)", re.IGNORECASE)


@dataclass(frozen=True)
class Figure:
    """One figure with its 95 % interval. None where it has no value; `note` says why."""

    metric: str
    estimate: float | None
    low: float | None
    high: float | None
    n: int
    method: str
    note: str = ""
    p: float | None = None

    def text(self, digits: int = 2, *, sign: bool = False) -> str:
        """'0.71 (0.60 to 0.81)'; 'not estimable (why)'."""
        if self.estimate is None:
            return f"not estimable ({self.note})" if self.note else "not estimable"
        plus = "+" if sign else ""
        ends = [abs(value) for value in (self.low, self.high) if value]
        if sign and ends and min(ends) < 0.5 * 10**-digits:
            digits += 1  # a limit of -0.00 would not say on which side of 0 it lies
        middle = f"{self.estimate:{plus}.{digits}f}"
        if self.low is None or self.high is None:
            return f"{middle} (no interval{': ' + self.note if self.note else ''})"
        return f"{middle} ({self.low:{plus}.{digits}f} to {self.high:{plus}.{digits}f})"


@dataclass(frozen=True)
class Verdict:
    """Plain sentences. level: "better", "same" or "worse" than `against` ("baseline", or "null" where no clinical
    baseline ran and the interval holds or lies below 0); "none": nothing could be compared but a model that knows no
    column, which is beaten, or no difference has an interval."""

    level: str
    text: str
    against: str
    metric: str
    difference: Figure | None


def as_figure(metric: str, value: Any) -> Figure | None:
    """From what a run stores ({"estimate", "low", "high", ...}); None where there is nothing."""
    if value is None:
        return None
    get = value.get
    return Figure(metric, get("estimate"), get("low"), get("high"), int(get("n") or 0), str(get("method") or ""),
                  str(get("note") or ""), get("p"))


def score(run: Run, name: str, metric: str) -> Figure | None:
    """A figure of run.scores; None where it was not computed."""
    return as_figure(metric, run.scores.get(name, {}).get(metric))


def difference(run: Run, metric: str, against: str = "baseline") -> Figure | None:
    """Model minus `against` ("baseline", "null"), paired."""
    return as_figure(metric, run.differences.get(f"model - {against}", {}).get(metric))


def words_of(metric: str, unit: str = "") -> str:
    """What a metric is called in a sentence ('brier@24' is the Brier score at 24, in the unit of the times)."""
    if metric in WORDS:
        return WORDS[metric]
    name, at, horizon = metric.partition("@")
    if at:
        return f"{WORDS.get(name, name.replace('_', ' '))} at {horizon} {unit}".rstrip()
    part, _, of = metric.partition("_")
    if of and part in ("auc", "sensitivity", "specificity", "ppv", "npv"):
        return f"{WORDS[part]}, {of} against the rest"
    return metric.replace("_", " ")


def direction(metric: str) -> int:
    """1: higher is better; -1: lower; 0: neither."""
    lower = metric.lower()
    if any(part in lower for part in NO_DIRECTION):
        return 0
    return -1 if lower.startswith(LOWER_IS_BETTER) and "scaled" not in lower and "skill" not in lower else 1


def primary_metric(run: Run) -> str:
    """The metric that decides. Raises InputError for a run without scores."""
    named = run.summary.get("primary_metric")
    if named:
        return str(named)
    have = run.scores.get("model", {})
    for name in have:
        if name.startswith(CONCORDANCE):
            return name
    if not have:
        raise InputError("this run holds no scores of a model; train again")
    return next(iter(have))


def metric_names(run: Run) -> list[str]:
    """The figures of the model, in the run's order; those of a class that has another name are left out."""
    held = run.held_out.get("model")
    classes = held.classes if held is not None else ()
    numbered = re.compile(r"(auc|sensitivity|specificity|ppv|npv)_(\d+)")
    return [name for name in run.scores.get("model", {})
            if not (found := numbered.fullmatch(name)) or found.group(2) in classes]


def kind(run: Run) -> str:
    """binary, multiclass, survival or competing."""
    held = run.held_out.get("model")
    found = held.kind if held is not None else run.summary.get("kind") or run.plan.kind
    return str(found)


def model_words(run: Run) -> str:
    """The model in words (the first of the plan's; the others run beside it, see others_beside)."""
    return family_words(run.plan.models[0], kind(run))


def family_words(name: str, what: str) -> str:
    """What a family is called for a kind of outcome."""
    known = MODEL_WORDS.get(name, {})
    return known.get(what) or known.get("") or name


def others_beside(run: Run) -> list[str]:
    """Further families of the plan that were held out on the same folds; none of them is the final model."""
    return [name for name in run.plan.models[1:] if name in run.scores]


def baseline_columns(run: Run) -> tuple[str, ...]:
    """Columns of the clinical baseline; empty where the null model is the only baseline."""
    held = run.held_out.get("baseline")
    return tuple(held.columns) if held is not None else tuple(run.plan.baseline)


def verdict(run: Run) -> Verdict:
    """The one sentence: better, no better or worse than the baseline, with the paired difference and its interval."""
    metric = primary_metric(run)
    against = "baseline" if difference(run, metric, "baseline") is not None else "null"
    found = difference(run, metric, against)
    name = f"the baseline ({', '.join(baseline_columns(run))})" if against == "baseline" and baseline_columns(run) \
        else "the baseline" if against == "baseline" else "a model that knows no column"
    own = score(run, "model", metric)
    value = f"{words_of(metric)} {own.text()}" if own is not None else "no figure"
    if found is None or found.estimate is None or found.low is None or found.high is None:
        why = found.note if found is not None and found.note else "no paired difference"
        return Verdict("none", f"Nothing can be said against {name}: {why}. Held-out {value}.", against, metric, found)
    sign = direction(metric) or 1
    better, worse = (found.low > 0, found.high < 0) if sign > 0 else (found.high < 0, found.low > 0)
    level = "better" if better else "worse" if worse else "same"
    digits = 3 if min(abs(found.low), abs(found.high)) < 0.01 else 2
    start = {"better": "Better than", "worse": "Worse than", "same": "No better than"}[level]
    level = "none" if against == "null" and better else level
    text = (f"{start} {name}: difference in {words_of(metric)} {found.estimate:.{digits}f}, 95 % interval "
            f"{found.low:.{digits}f} to {found.high:.{digits}f}. Held-out {value} in {own.n if own else found.n} "
            "patients.")
    text += _beside_chance(run, metric) if against == "baseline" else ""
    return Verdict(level, text + _doubt_of_baseline(run, against), against, metric, found)


def _doubt_of_baseline(run: Run, against: str) -> str:
    """What is weak in the comparison itself: no clinical baseline, one guessed by names, or one of the same columns."""
    if against == "null":
        return (" No clinical baseline was named, so nothing is said of what the model adds to what the clinic has "
                "already: name its columns with --baseline.")
    if run.plan.deep is None and set(baseline_columns(run)) == {column.name for column in used(run)}:
        return (" The baseline holds the same columns as the model, so this is a difference of the fitting (penalty, "
                "selection), not of what is known: name the clinical columns with --baseline.")
    if not run.plan.baseline:
        return " The baseline's columns were told by their names, not named: check them, or name yours with --baseline."
    return ""


def _beside_chance(run: Run, metric: str) -> str:
    found = difference(run, metric, "null")
    if found is None or found.estimate is None or found.low is None or found.high is None:
        return ""
    sign = direction(metric) or 1
    if (found.low > 0) if sign > 0 else (found.high < 0):
        return ""
    return f" Nor is it shown to be better than a model that knows no column (difference {found.text(sign=True)})."


def used(run: Run) -> list[Column]:
    """Columns that reached the models."""
    return [column for column in run.columns if column.used]


def imaging(run: Run) -> list[Column]:
    """Used columns that come from images."""
    return [column for column in used(run) if column.group in ("imaging", "deep")]


def deep_words(run: Run) -> str:
    """What made the deep image columns, in a sentence; "" where there are none."""
    if run.plan.deep is None or run.final is None:
        return ""
    columns = run.final.pipeline.deep
    names, options = ", ".join(columns.names), columns.options
    crop = options.crop
    seen = f"a cube of {crop.side_mm:g} mm round the lesion, {crop.pixels} voxels a side" if crop.mode == "3d" else \
        f"three planes of {crop.side_mm:g} mm through the lesion, {crop.pixels} pixels a side"
    if options.backbone is not None:
        card = options.backbone.card
        return (f"{names}: principal components of what the public network '{card['name']}' ({card['architecture']}, "
                f"licence {card['licence']}, sha256 {card['sha256'][:12]}) gives for {seen}. The network was not "
                "trained here, the components are fitted inside each fold; whether it saw any of these patients isn't "
                "known.")
    size = sum(value.size for value in columns.network.arrays.values())
    return (f"{names}: the score of a DenseNet of {size} weights for {seen}, trained inside every outer fold for "
            f"{options.training.epochs} epochs with MixUp ({options.training.mixup:g}) and simulated changes of dose, "
            f"kernel, slices, tube voltage and pose. Training patients get scores of networks that never saw them "
            f"({options.inner_folds} inner folds); nothing stopped or chose a network by its test patients.")


def families(run: Run) -> dict[str, int]:
    """IBSI families of the imaging columns by their names, with counts; names that follow no scheme are 'other'."""
    found: Counter[str] = Counter()
    for column in imaging(run):
        parts = column.name.lower().split("_")
        found[next((part for part in parts if part in IBSI_STARTS), "other")] += 1
    return dict(found)


def patients_apart(run: Run) -> bool:
    """True when, in the held-out rows of every repeat, no patient lies in two folds (counted, not assumed)."""
    held = run.held_out.get("model")
    if held is None or not len(held):
        return False
    for repeat in np.unique(held.repeat):
        one = held.of_repeat(int(repeat))
        pairs = set(zip(one.patient.tolist(), one.fold.tolist(), strict=True))
        if len(pairs) != len(set(one.patient.tolist())):
            return False
    return True


def fold_table(run: Run) -> list[dict[str, Any]]:
    """Each outer fold: repeat, fold, patients and events held out, patients and events trained on."""
    held = run.held_out.get("model")
    rows = []
    if held is None:
        return rows
    for repeat in np.unique(held.repeat):
        one = held.of_repeat(int(repeat))
        everyone = len(set(one.patient.tolist()))
        for fold in np.unique(one.fold):
            part = one.fold == fold
            out = len(set(one.patient[part].tolist()))
            rows.append({"repeat": int(repeat) + 1, "fold": int(fold) + 1, "held_out": out,
                         "held_out_events": int((one.truth[part] > 0).sum()), "trained_on": everyone - out,
                         "trained_on_events": int((one.truth[~part] > 0).sum())})
    return rows


def counts(run: Run) -> dict[str, int]:
    """Rows of each class among the evaluated rows, each counted once."""
    held = run.held_out.get("model")
    if held is None or not len(held):
        return {}
    once = held.averaged()
    return {name: int((once.truth == index).sum()) for index, name in enumerate(once.classes)}


def outcome_words(run: Run, name: str) -> str:
    """A class as a reader understands it: "1" becomes "target = 1"."""
    plain = name.strip().lower() in ("yes", "no", "true", "false", "y", "n") or re.fullmatch(r"-?[\d.,]+", name.strip())
    return f"{run.plan.target} = {name}" if plain else name


def radiomic(run: Run) -> bool:
    """Whether a used column is a radiomic or deep feature by its name or group (a diameter read by eye is not)."""
    if run.plan.deep is not None or any(column.group == "deep" for column in used(run)):
        return True
    return any(name != "other" for name in families(run)) or any(
        re.match(r"(original|wavelet|log[-_]sigma|gradient|lbp|square|exponential|logarithm)[-_]", column.name,
                 re.IGNORECASE) for column in imaging(run))


def follow_up(held: HeldOut) -> dict[str, float | None] | None:
    """Median follow-up by reverse Kaplan-Meier (Schemper and Smith 1996), its range; None without times."""
    if held.time is None or not len(held):
        return None
    once = held.averaged()
    time, censored = np.asarray(once.time, float), once.truth == 0
    at_risk, survival, median = len(time), 1.0, None
    for value in np.unique(time):
        here = time == value
        events = int((here & censored).sum())
        survival *= 1.0 - events / at_risk
        if survival <= 0.5 and median is None:
            median = float(value)
        at_risk -= int(here.sum())
    return {"median": median, "shortest": float(time.min()), "longest": float(time.max())}


def subgroup_columns(run: Run) -> list[str]:
    """Columns by whose values performance is looked at: sex, age, site, and their like."""
    names = [column.name for column in run.columns
             if SUBGROUP_NAME.fullmatch(column.name.strip()) or column.role == "site"]
    return list(dict.fromkeys(names))


def limits(run: Run) -> list[str]:
    """What the run itself shows to be weak, in sentences."""
    said = ["Tested only inside the table it was trained on: how it does at another hospital, on other scanners or in "
            "later years is not known."]
    sample = run.summary.get("sample_size")
    if isinstance(sample, dict) and sample.get("enough") is False:
        said.append("Fewer patients or events than the sample-size rule asks for: coefficients and intervals are "
                    "unstable and a good figure may be luck.")
    said += limits_of_leaks(run.leaks, run.summary.get("coefficients") or [], run.plan.harmonise == "combat")
    kept = [leak.column for leak in run.leaks if leak.action == "kept"]
    if kept:
        said.append(f"Columns that look like leaks were kept on request ({', '.join(kept)}): the figures may be far "
                    "too good.")
    heavy = [f"{column.name} ({100 * column.missing:.0f} %)" for column in used(run) if column.missing > 0.2]
    if heavy:
        said.append(f"More than a fifth of the values are missing in {', '.join(heavy[:12])}"
                    + (f" and {len(heavy) - 12} more" if len(heavy) > 12 else "")
                    + "; they were filled in, which is sound only if they are missing at random.")
    if not run.permutation:
        said.append("No permutation test was run.")
    if run.plan.site is None:
        said.append("No site column: differences between hospitals were not examined.")
    times = kind(run) in ("survival", "competing")
    if run.plan.models[0] == "linear":
        more = (", and hazards are taken as proportional over time: the calibration at several horizons is the only "
                "check of that") if times else ""
        said.append(f"Numbers act linearly in this model{more}; interactions were not looked for.")
    if times:
        said.append("Censoring is taken as independent of the outcome; patients lost because they did badly would bend "
                    "every figure.")
    said.append("The intervals come from resampling patients with the fitted models held fixed: they leave out the "
                "variation of fitting anew and are, if anything, too narrow.")
    said.append("Choices made before this run (which patients, which columns, which outcome) are outside of what "
                "cross-validation can protect.")
    return said
