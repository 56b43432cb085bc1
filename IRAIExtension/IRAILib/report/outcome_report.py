"""report.html of a training run: what was asked, of whom, what came out and how sure, what it can't say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from .. import RESEARCH_NOTICE, __version__
from ..biopsy.outcome import facts
from ..biopsy.outcome.record import Run
from ..biopsy.outcome.sheets import STATUS_WORDS, Sheet, fill_sheets
from ..biopsy.outcome.table import Table
from ..geometry import InputError
from ..images.atomic import replacing
from . import outcome_evidence as evidence
from . import outcome_sections as sections
from .html import STYLE
from .outcome_formula import apparent, formula, optimism_words
from .outcome_html import MORE_STYLE, card, details, interval, paragraph, section, table
from .outcome_patients import Characteristic, Subgroup, characteristics, subgroups
from .outcome_weights import Spread, coefficient_spread

COLOUR = {"better": "green", "same": "yellow", "worse": "red", "none": "yellow"}
PARTS = (("asked", "Asked"), ("patients", "Patients"), ("columns", "Columns and leaks"), ("made", "How it was made"),
         ("performance", "Performance"), ("calibration", "Calibration"), ("decision", "Decisions"),
         ("chance", "Chance"), ("weights", "What the model uses"), ("groups", "Groups"), ("use", "At use"),
         ("limits", "Limits"), ("sheets", "Sheets"), ("versions", "Versions"))


@dataclass
class Report:
    """All that report.html, the sheets and the card are made of. hashes: file name to sha256 of the model's files."""

    run: Run
    characteristics: list[Characteristic] = field(default_factory=list)
    subgroups: list[Subgroup] = field(default_factory=list)
    evidence: evidence.Evidence = field(default_factory=evidence.Evidence)
    sheets: list[Sheet] = field(default_factory=list)
    spread: Spread | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    command: str = ""
    apparent: float | None = None


def make_report(run: Run, data: Table | None = None, *, bootstraps: int = 300, command: str = "",
                progress: Callable[[float, str], None] | None = None,
                cancelled: Callable[[], bool] | None = None) -> Report:
    """Works out tables, curves and sheets of a run; nothing is written.

    data: the table that the run read; without it there is no table of patients and no groups. bootstraps: resamples
    for bands and groups. Raises InputError: a run without held-out rows; CancelledError.
    """
    if not len(run.held_out.get("model", ())):
        raise InputError("this run holds no held-out predictions; train again")
    tell = progress or (lambda share, text: None)
    tell(0.0, "curves")
    found = evidence.gather(run, n=bootstraps, cancelled=cancelled)
    tell(0.7, "groups of patients")
    people = characteristics(run, data) if data is not None else []
    groups = subgroups(run, data, n=bootstraps) if data is not None else []
    tell(0.8, "stability of the coefficients")
    spread = None if data is None else coefficient_spread(run, data, cancelled=cancelled)
    shown = {"calibration"} if found.calibration else set()
    shown |= {"decision"} if found.decision else set()
    shown |= {"characteristics"} if people else set()
    shown |= {"subgroups"} if any(group.figure for group in groups) else set()
    tell(0.9, "sheets")
    own_rows = None if data is None else apparent(run, data)
    return Report(run, people, groups, found, fill_sheets(run, shown), spread, {}, command, own_rows)


def write_outcome_report(report: Report, path: str | Path) -> Path:
    """Write report.html: one file with its pictures inside, no script, nothing fetched. Raises InputError: no place."""
    run = report.run
    title = f"Training report: {run.plan.target}"
    text = (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            f"<style>{STYLE}{MORE_STYLE}</style></head><body><h1>{escape(title)}</h1>{_top(report)}"
            f"{''.join(_body(report))}<footer>IRAI {escape(__version__)}. "
            f"{escape(RESEARCH_NOTICE)}</footer></body></html>")
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def _top(report: Report) -> str:
    run = report.run
    said = facts.verdict(run)
    kept = [leak for leak in run.leaks if leak.action == "kept"]
    parts = [f'<p class="notice">{escape(RESEARCH_NOTICE)} Validated on: held-out patients of the training table only; '
             "no other hospital.</p>",
             f'<p class="verdict v-{said.level}">{escape(said.text)}</p>']
    if kept:
        parts.append(f'<p class="warn red-text">{escape(_kept_words([leak.column for leak in kept]))}</p>')
    metric = said.metric
    boxes = [card(interval(facts.score(run, "model", metric)), f"model: {facts.words_of(metric)}, held out, 95 % "
                                                               f"interval")]
    if facts.score(run, "baseline", metric):
        boxes.append(card(interval(facts.score(run, "baseline", metric)),
                          f"baseline: {', '.join(facts.baseline_columns(run)) or 'clinical'}"))
    if said.difference is not None and said.difference.estimate is not None:
        boxes.append(card(said.difference.text(sign=True), f"model minus "
                                                           f"{said.against if said.against != 'null' else 'no model'}"
                          ", paired", COLOUR[said.level]))
    boxes.append(card(str(run.summary.get("n_patients")), "patients; " + ", ".join(
        f"{facts.outcome_words(run, name)}: {n}" for name, n in facts.counts(run).items())))
    links = "".join(f'<a href="#{anchor}">{escape(words)}</a>' for anchor, words in PARTS)
    return "".join(parts) + f'<div class="headline">{"".join(boxes)}</div><nav>{links}</nav>'


def _kept_words(columns: list[str]) -> str:
    return (f"Columns that look like leaks were kept because the user asked for it: {', '.join(columns)}. The figures "
            "below may be far too good and must not be quoted without this sentence.")


def _body(report: Report) -> list[str]:
    run, found = report.run, report.evidence
    warnings = "".join(paragraph(text, "warn") for text in run.warnings)
    return [
        section("What was asked", "asked", sections.asked(run), warnings),
        section("Patients", "patients", sections.flow(run), sections.sample_size(run),
                sections.patients(run, report.characteristics)),
        section("Columns, missing values and leaks", "columns", sections.leaks(run), sections.missing(run),
                sections.columns(run)),
        section("How it was made", "made", sections.made(run), sections.folds(run), sections.chosen(run)),
        section("Performance on held-out patients", "performance", sections.performance(run),
                paragraph(optimism_words(run, report.apparent)), evidence.discrimination(run, found)),
        section("Calibration", "calibration", evidence.calibration(run, found)),
        section("Use for decisions", "decision", evidence.decision(run, found)),
        section("Could it be chance?", "chance", sections.permutation(run), sections.learning(run)),
        section("What the model uses", "weights", sections.weights(run, report.spread), formula(run),
                sections.sensitivity(run)),
        section("Groups of patients", "groups", sections.groups(run, report.subgroups)),
        section("At use: sets, likeness, refusal", "use", sections.use(run)),
        section("Limits", "limits", f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in facts.limits(run))}</ul>"),
        section("Reporting sheets", "sheets", _sheets(report.sheets)),
        section("Versions and how to repeat it", "versions", sections.versions(run, report.hashes, report.command)),
    ]


def _sheets(sheets: list[Sheet]) -> str:
    rows: list[list[Any]] = []
    for sheet in sheets:
        count = sheet.count()
        rows.append([f"{sheet.name} ({sheet.version})", *(count[status] for status in STATUS_WORDS),
                     sheet.score["words"] if sheet.score else sheet.note or "no score by design"])
    top = paragraph("Filled from the run; an item that only the author can know is left to the author. Topics are in "
                    "our "
                    "own words; see each sheet's source. The same lines are in sheets.csv and sheets.json.")
    body = table(["sheet", *STATUS_WORDS.values(), "score"], rows, (1, 2, 3, 4))
    for sheet in sheets:
        lines = [[item.number, item.section, item.topic, STATUS_WORDS[item.status], item.evidence,
                  "" if item.weight is None and item.points is None else item.weight if item.points is None
                  else f"{item.points:g} of {item.highest:g}"] for item in sheet.items]
        body += details(f"{sheet.name}: {len(sheet.items)} items ({sheet.source})",
                        paragraph(sheet.source_note, "small") + paragraph(sheet.note, "small")
                        + table(["no.", "section", "topic", "status", "evidence, or what is left to write",
                                 "weight or points"], lines, (5,)))
    return top + body
