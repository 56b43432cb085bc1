"""The model card: one page that travels with a model and says what it is for, what it isn't, and how good it was."""

from __future__ import annotations

from collections.abc import Mapping

from ... import RESEARCH_NOTICE, __version__
from . import facts
from .record import Run
from .sheet_rules import RULES, flow_words, sample_words

MAX_NAMED = 40


def model_card(run: Run, hashes: Mapping[str, str] | None = None) -> str:
    """card.md as text (Mitchell et al. 2019: the headings of a model card). Raises InputError: a run without scores.

    hashes: name to sha256 of the model's files. No patient and no row of the table is in it.
    """
    parts = [f"# Model card: {_safe(run.plan.target)}", f"**{RESEARCH_NOTICE}**", facts.verdict(run).text,
             _kept(run), "## What it is", _what(run), "## What it is for", _use(run), "## Training data", _data(run),
             "## Performance on held-out patients", _performance(run), "## Limits",
             "\n".join(f"- {text}" for text in facts.limits(run)), "## At use", _at_use(run), "## Files and versions",
             _files(run, hashes or {})]
    return "\n\n".join(part for part in parts if part) + "\n"


def _safe(text: object) -> str:
    """Text of the table inside markdown: no line ends, no markup."""
    return "".join("\\" + letter if letter in "\\`*_{}[]<>#|!" else letter for letter in " ".join(str(text).split()))


def _kept(run: Run) -> str:
    kept = [leak.column for leak in run.leaks if leak.action == "kept"]
    return ("**WARNING: columns that look like leaks were kept on request: "
            f"{', '.join(_safe(name) for name in kept)}. The figures may be far too good.**") if kept else ""


def _what(run: Run) -> str:
    text = RULES["model_building"](run, frozenset()).evidence
    names = [_safe(column.name) for column in facts.used(run)]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return (f"{text} It predicts {facts.KIND_WORDS.get(facts.kind(run), '')}: {_safe(run.plan.target)}.\n\n"
            f"Takes {len(names)} columns: {', '.join(names[:MAX_NAMED])}{more}.")


def _use(run: Run) -> str:
    said = run.plan.intended_use or ("Not stated by the author. Research on patients like those it was trained on; "
                                     "to be "
                                     "tested on other hospitals' patients before anything else.")
    return (f"{_safe(said)}\n\nNot for: decisions on a patient; patients unlike the training cohort (they are "
            f"refused); "
            "claims of cause; times or places where the outcome is counted in another way.")


def _data(run: Run) -> str:
    dropped = [leak.column for leak in run.leaks if leak.action == "dropped"]
    lines = [flow_words(run), RULES["flow"](run, frozenset()).evidence.removeprefix(flow_words(run)).strip(),
             RULES["missing"](run, frozenset()).evidence, sample_words(run)]
    if dropped:
        lines.append(f"Left out as leaks: {', '.join(_safe(name) for name in dropped[:MAX_NAMED])}"
                     + (f" and {len(dropped) - MAX_NAMED} more." if len(dropped) > MAX_NAMED else "."))
    return "\n".join(f"- {line}" for line in lines if line)


def _performance(run: Run) -> str:
    names = [name for name in ("model", "baseline", "null") if run.scores.get(name)]
    first = facts.primary_metric(run)
    against = "baseline" if run.differences.get("model - baseline") else "null"
    head = f"| figure | {' | '.join(names)} | model - {against} |"
    lines = [head, "|---" * (len(names) + 2) + "|"]
    for metric in sorted(facts.metric_names(run), key=lambda name: name != first)[:12]:
        cells = [(found.text() if (found := facts.score(run, name, metric)) else "-") for name in names]
        gap = facts.difference(run, metric, against)
        lines.append(f"| {facts.words_of(metric, run.plan.time_unit)} | {' | '.join(cells)} | "
                     f"{gap.text(sign=True) if gap else '-'} |")
    return "\n".join(lines) + "\n\n" + RULES["partition"](run, frozenset()).evidence + " All of it is in report.html."


def _at_use(run: Run) -> str:
    return (RULES["output"](run, frozenset()).evidence + "\n\n" + RULES["input_at_use"](run, frozenset()).evidence
            + "\n\nRun it: `irai biopsy predict MODEL_DIR TABLE.csv --out CSV`. Watch it: "
              "`irai biopsy drift MODEL_DIR TABLE.csv --period COL` compares later patients with those of the "
              "training, and events with those expected.")


def _files(run: Run, hashes: Mapping[str, str]) -> str:
    lines = [f"- IRAI {__version__}; " + ", ".join(f"{name} {version}" for name, version in run.versions.items())
             + f"; seed {run.plan.seed}",
             f"- licence of the model: {_safe(run.plan.licence) or 'not stated by the author'}"]
    return "\n".join(lines + [f"- {name}: sha256 `{value}`" for name, value in hashes.items()])
