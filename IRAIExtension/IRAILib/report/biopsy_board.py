"""The sheet for a tumour board: one A4 page on which every number links to the node that it came from.

Nothing is worked out here: `scene.biopsy_board` fills a Board from the scene, this file prints it. What does not fit a
page is counted and named ("and 3 more"), never dropped in silence.
"""

from __future__ import annotations

import base64
import math
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from .. import RESEARCH_NOTICE
from ..geometry import InputError
from ..images.atomic import replacing

MOST = {"lesion": 8, "scores": 5, "features": 7, "reasons": 5, "unknown": 7, "sources": 12, "pictures": 2}
LONGEST = 120
"""Characters of a free text on the page; the whole of it stands in the JSON."""
LARGEST_PT, SMALLEST_PT = 7.5, 4.8
ROOMY = 68.0
"""Lines that a page takes in the largest letters."""


@dataclass(frozen=True)
class Figure:
    """One number on the sheet. source: key of the BoardSource that it came from; stale: that no longer holds."""

    label: str
    value: str
    source: str
    note: str = ""
    stale: bool = False


@dataclass(frozen=True)
class ScoreLine:
    """A clinical score: its result, the inputs as they were given, its warnings and its paper."""

    result: Figure
    inputs: str
    paper: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class FeatureLine:
    """A feature of this patient. percentile: 0 to 100 among `n` other patients, None where there is no cohort.

    place_source, note_source: keys of the BoardSource that percentile and note came from, "" for none."""

    value: Figure
    percentile: float | None = None
    n: int = 0
    place_source: str = ""
    note_source: str = ""

    @property
    def place(self) -> Figure | None:
        """The percentile as a number that names its source; None where there is none."""
        if self.percentile is None:
            return None
        return Figure(f"percentile of {self.value.label}",
                      f"{ordinal(round(self.percentile))} percentile, n = {self.n}", self.place_source)


@dataclass(frozen=True)
class Prediction:
    """What a model says. refused: why it says nothing; then there is no figure, only the reason.

    figures: probability or risk with set or interval. reasons: (feature, contribution, share -1 to 1).
    """

    title: str
    figures: tuple[Figure, ...]
    refused: str
    similarity: Figure | None
    validated_on: str
    intended_use: str
    performance: str
    source: str
    reasons: tuple[tuple[str, str, float], ...] = ()


@dataclass(frozen=True)
class BoardSource:
    """A node that numbers of the sheet came from. stale: what changed since, empty while nothing did."""

    key: str
    role: str
    name: str
    node_id: str
    sha256: str
    link: str
    stale: str = ""


@dataclass
class Board:
    """Everything on the sheet. pictures: (file, caption, key of its source); unknown_sources: keys by text."""

    title: str
    created: str
    software: str
    synthetic: bool
    sources: list[BoardSource]
    lesion: list[Figure] = field(default_factory=list)
    scores: list[ScoreLine] = field(default_factory=list)
    prediction: Prediction | None = None
    features: list[FeatureLine] = field(default_factory=list)
    features_of: str = ""
    unknown: list[str] = field(default_factory=list)
    pictures: list[tuple[Path, str, str]] = field(default_factory=list)
    timeline: list[dict[str, str]] = field(default_factory=list)
    unknown_sources: dict[str, str] = field(default_factory=dict)

    def figures(self) -> list[Figure]:
        """Every number on the sheet."""
        out = [*self.lesion, *(line.result for line in self.scores), *(line.value for line in self.features),
               *(line.place for line in self.features if line.place is not None)]
        if self.prediction is not None:
            out += [*self.prediction.figures, *filter(None, [self.prediction.similarity])]
        return out

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; lengths lie in no frame, points are RAS mm."""
        return {**asdict(self), "pictures": [{"caption": caption, "source": source}
                                             for _path, caption, source in self.pictures],
                "notice": RESEARCH_NOTICE, "frame": "RAS mm"}


STYLE = """
@page { size: A4; margin: 8mm 9mm; }
:root { color-scheme: light; }
* { box-sizing: border-box; }
@media screen { body { padding: 8mm 0; } }
body { font-family: "Segoe UI", "Helvetica Neue", Helvetica, Arial, "DejaVu Sans", sans-serif; line-height: 1.22;
  color: #18202b; background: #fff; width: 190mm; margin: 0 auto; }
h1 { font-size: 1.75em; margin: 0; } h2 { font-size: 1.2em; margin: .65em 0 .25em; border-bottom: .3mm solid #3b5876;
  color: #26405c; } p { margin: .2em 0; }
header { display: flex; justify-content: space-between; align-items: baseline; gap: 4mm; }
header span { color: #566; font-size: .93em; }
.notice { background: #fff6df; border-left: 1mm solid #e0a100; padding: .25em 2mm; font-size: .93em; }
.bad { background: #fdeaea; border-left: 1mm solid #c62828; padding: .25em 2mm; }
.grey { background: #ededed; border-left: 1mm solid #8c8c8c; color: #555; padding: .35em 2mm; }
.row { display: flex; gap: 4mm; } .row > div { flex: 1; min-width: 0; }
figure { margin: 0; flex: 1; min-width: 0; } figure img { width: 100%; display: block; max-height: 17em;
  object-fit: contain; background: #000; } figcaption { font-size: .87em; color: #566; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top;
  padding: .07em 1.5mm .07em 0; border-bottom: .15mm solid #e3e8ee; font-weight: normal; overflow-wrap: anywhere; }
th { color: #566; font-size: .93em; } td.v { font-weight: 600; } small { color: #566; font-size: .87em; }
a { color: inherit; text-decoration: none; border-bottom: .2mm dotted #6a7f96; } a sup { color: #3b6ea5;
  font-size: .67em; line-height: 0; font-weight: normal; }
td.place { white-space: nowrap; }
.stale, .stale a { color: #b00020; } .stale::after { content: " STALE"; font-size: .8em; font-weight: 700; }
.bar { display: inline-block; position: relative; width: 20mm; height: .75em; background: linear-gradient(90deg,
  #dfe5ec 5%, #b9c7d6 5%, #b9c7d6 95%, #dfe5ec 95%); vertical-align: middle; }
.bar i { position: absolute; top: -.2em; width: .8mm; height: 1.15em; background: #c8102e; }
.push { display: inline-block; height: .7em; background: #c46a1b; vertical-align: middle; }
.push.minus { background: #2f6fa8; }
ul { margin: .15em 0; padding-left: 3.5mm; font-size: .93em; }
.sources td, .sources th { font-size: .8em; padding-right: 1mm; } .sources code { font-size: .92em; }
footer { margin-top: .4em; font-size: .8em; color: #566; }
"""


def write_board(board: Board, path: Path) -> Path:
    """Write the sheet as one self-contained HTML file.

    Raises InputError where a number names no source of the board: a number that can't be traced is not printed.
    """
    known = {source.key: source for source in board.sources}
    foreign = sorted({figure.label for figure in board.figures() if figure.source not in known})
    if foreign:
        raise InputError(f"board: {', '.join(foreign)} came from no node that is known; nothing was written")
    page = _Page(board, known)
    text = ('<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f"<title>{escape(board.title)}</title><style>{STYLE}</style></head>"
            f'<body style="font-size: {page.size_pt():.2f}pt">{page.body()}</body></html>\n')
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


class _Page:
    def __init__(self, board: Board, known: dict[str, BoardSource]) -> None:
        self.board, self.known = board, known

    def body(self) -> str:
        board = self.board
        parts = [f"<header><h1>{escape(board.title)}</h1><span>{escape(board.created)} · {escape(board.software)}"
                 f"</span></header>", f'<p class="notice">{escape(RESEARCH_NOTICE)}</p>']
        if board.synthetic:
            parts.append('<p class="bad"><b>SYNTHETIC</b>: image, table and values were made by a program. '
                         "Not a patient.</p>")
        stale = [source for source in board.sources if source.stale]
        if stale:
            said = "; ".join(escape(source.stale) for source in stale[:3]) + _more(stale, 3)
            parts.append(f'<p class="bad"><b>Out of date</b>: {said}. Numbers marked STALE no longer belong to what is '
                         "in the scene: run their step again.</p>")
        low = [part for part in (self._features(), self._unknown()) if part]
        parts += [self._lesion(), self._scores(), self._prediction(),
                  f'<div class="row">{"".join(f"<div>{part}</div>" for part in low)}</div>' if low else "",
                  self._sources()]
        parts.append("<footer>Dotted numbers link to their node (irai://node/…): paste the link in step 6 of Virtual "
                     "Biopsy, or choose the node there. ± is one standard deviation. Percentiles compare with the "
                     "loaded table only, whoever was in it.</footer>")
        return "".join(part for part in parts if part)

    def size_pt(self) -> float:
        """Size of the letters: smaller the more there is to say, so that it stays one page."""
        return max(LARGEST_PT * min(1.0, math.sqrt(ROOMY / self._lines())), SMALLEST_PT)

    def _lines(self) -> float:
        """About how many lines of the largest letters the page takes."""
        board, found = self.board, self.board.prediction
        scores = sum(max(_rows(line.inputs, 85), _rows(line.paper[:70], 38)) + bool(line.warnings)
                     for line in board.scores[:MOST["scores"]])
        features = sum(max(_rows(line.value.label[:44], 24), 1) + 0.9 * _rows(line.value.note[:56], 28)
                       for line in board.features[:MOST["features"]])
        unknown = sum(_rows(text[:170], 58) for text in board.unknown[:MOST["unknown"]])
        sources = 0.85 * sum(max(_rows(source.name[:60], 34), _rows(source.stale[:60], 20), 1)
                             for source in board.sources[:MOST["sources"]])
        model = 0.0
        if found is not None:
            ground = sum(_rows(text[:210], 130) for text in (found.validated_on, found.performance, found.intended_use))
            model = ground + 2 + max(len(found.figures) + _rows(found.refused[:240], 110) + 2,
                                     min(len(found.reasons), MOST["reasons"]) + 2)
        top = max(18.0 if board.pictures else 0.0, 1.3 * min(len(board.lesion), MOST["lesion"]) + 2)
        return (6 + top + (scores + 3 if scores else 0) + model + (max(features, unknown) + 4) + sources + 4
                + 2 * any(source.stale for source in board.sources))

    def number(self, figure: Figure) -> str:
        source = self.known[figure.source]
        link = (f'<a href="{escape(source.link)}" data-node-id="{escape(source.node_id)}" '
                f'data-sha256="{escape(source.sha256)}">{escape(_short(figure.value))}<sup>{escape(source.key)}</sup>'
                "</a>")
        return f'<span class="stale">{link}</span>' if figure.stale else link

    def cite(self, key: str) -> str:
        """The small number of a source as a link, behind a text whose numbers came from it."""
        source = self.known.get(key)
        return "" if source is None else (f'<a href="{escape(source.link)}" data-node-id="{escape(source.node_id)}">'
                                          f"<sup>{escape(key)}</sup></a>")

    def _lesion(self) -> str:
        board = self.board
        rows = "".join(f'<tr><td>{escape(f.label)}</td><td class="v">{self.number(f)}</td></tr>'
                       + (f'<tr><td colspan="2"><small>{escape(_short(f.note))}</small></td></tr>' if f.note else "")
                       for f in board.lesion[:MOST["lesion"]]) or "<tr><td>No lesion was measured.</td></tr>"
        pictures = "".join(self._picture(*entry) for entry in board.pictures[:MOST["pictures"]])
        table = (f"<h2>Lesion</h2><table>{rows}</table>{_more_line(board.lesion, 'lesion')}"
                 f"{_more_line(board.pictures, 'pictures')}")
        if not pictures:
            return table
        return f'<div class="row" style="margin-top:1.5mm">{pictures}<div>{table}</div></div>'

    def _picture(self, path: Path, caption: str, key: str) -> str:
        data = base64.b64encode(Path(path).read_bytes()).decode("ascii")
        said = escape(caption) + self.cite(key)
        return (f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
                f"<figcaption>{said}</figcaption></figure>")

    def _scores(self) -> str:
        if not self.board.scores:
            return ""
        rows = "".join(
            f'<tr><td>{escape(line.result.label)}</td><td class="v">{self.number(line.result)}</td>'
            f"<td>{escape(_short(line.inputs))}{self.cite(line.result.source)}"
            + "".join(f"<br><small>! {escape(_short(text, 105))}</small>" for text in line.warnings[:1])
            + _more(line.warnings, 1) + f"</td><td><small>{escape(_short(line.paper, 70))}</small></td></tr>"
            for line in self.board.scores[:MOST["scores"]])
        return ("<h2>Clinical scores</h2><table><tr><th>Score</th><th>Result</th><th>From</th><th>Formula</th></tr>"
                f"{rows}</table>{_more_line(self.board.scores, 'scores')}")

    def _prediction(self) -> str:
        found = self.board.prediction
        if found is None:
            return ""
        head = f"<h2>Model: {escape(found.title)}</h2>"
        similar = f"<p>Similarity to the training cohort: {self.number(found.similarity)}" \
            f"{_note(found.similarity.note)}{self.cite(found.source)}</p>" if found.similarity is not None else ""
        cite = self.cite(found.source)
        ground = "".join(f"<p><small><b>{title}</b>: {escape(_short(text, 210))}{cite}</small></p>" for title, text in (
            ("Validated on", found.validated_on), ("Performance", found.performance),
            ("Intended use", found.intended_use)) if text)
        if found.refused:
            return (f'{head}<p class="grey"><b>REFUSED.</b> No prediction for this patient: '
                    f"{escape(_short(found.refused, 240))}{cite}</p>{similar}{ground}")
        rows = "".join(f'<tr><td>{escape(f.label)}</td><td class="v">{self.number(f)}</td><td>{escape(f.note)}'
                       f"{self.cite(f.source) if f.note else ''}</td></tr>" for f in found.figures)
        pushes = "".join(
            f"<tr><td>{escape(_short(name, 44))}</td><td>{self.number(Figure(name, amount, found.source))}</td><td>"
            f'<span class="push{" minus" if share < 0 else ""}" style="width:{20 * min(abs(share), 1.0):.1f}mm"></span>'
            "</td></tr>" for name, amount, share in found.reasons[:MOST["reasons"]])
        why = f"<div><table><tr><th>Pushed most by</th><th></th><th></th></tr>{pushes}</table>" \
            f"{_more_line(found.reasons, 'reasons')}</div>" if pushes else ""
        return f'{head}<div class="row"><div><table>{rows}</table>{similar}</div>{why}</div>{ground}'

    def _features(self) -> str:
        if not self.board.features:
            return ""
        rows = "".join(
            f"<tr><td>{escape(_short(line.value.label, 44))}"
            + (f"<br><small>{escape(_short(line.value.note, 56))}{self.cite(line.note_source)}</small>"
               if line.value.note else "")
            + f'</td><td class="v">{self.number(line.value)}</td><td class="place">{self._bar(line)}</td></tr>'
            for line in self.board.features[:MOST["features"]])
        of = f"<p><small>{escape(_short(self.board.features_of))}</small></p>" if self.board.features_of else ""
        return (f"<h2>Key features, with percentile</h2>{of}<table>{rows}</table>"
                f"{_more_line(self.board.features, 'features')}")

    def _bar(self, line: FeatureLine) -> str:
        if line.percentile is None or line.place is None:
            return "<small>no cohort</small>"
        place = min(max(line.percentile, 0.0), 100.0)
        return (f'<span class="bar"><i style="left:{0.192 * place:.2f}mm"></i></span> '
                f"<small>{self.number(line.place)}</small>")

    def _unknown(self) -> str:
        cited = self.board.unknown_sources
        items = "".join(f"<li>{escape(_short(text, 170))}{self.cite(cited.get(text, ''))}</li>"
                        for text in self.board.unknown[:MOST["unknown"]])
        return f"<h2>What is not known</h2><ul>{items}</ul>{_more_line(self.board.unknown, 'unknown')}" if items else ""

    def _sources(self) -> str:
        rows = "".join(
            f'<tr id="source-{escape(s.key)}"><td>{escape(s.key)}</td><td>{escape(s.role)}</td><td><a '
            f'href="{escape(s.link)}" data-node-id="{escape(s.node_id)}">{escape(_short(s.name, 60))}</a></td>'
            f"<td><code>{escape(s.node_id)}</code></td><td><code>{escape(s.sha256[:16])}</code></td>"
            f"<td>{escape(_short(s.stale, 60)) or 'as it was'}</td></tr>"
            for s in self.board.sources[:MOST["sources"]])
        return ('<h2>Sources</h2><table class="sources"><tr><th></th><th>What</th><th>Node</th><th>ID</th>'
                f"<th>SHA-256, first 16</th><th>Now</th></tr>{rows}</table>{_more_line(self.board.sources, 'sources')}")


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _rows(text: str, width: int) -> int:
    """Lines that a text takes."""
    return math.ceil(len(text) / width)


def _short(text: str, limit: int = LONGEST) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= limit else text[:limit - 1].rstrip() + "…"


def _note(text: str) -> str:
    return f" <small>{escape(_short(text))}</small>" if text else ""


def _more(entries, shown: int) -> str:
    return f" <small>and {len(entries) - shown} more</small>" if len(entries) > shown else ""


def _more_line(entries, kind: str) -> str:
    return f"<p><small>and {len(entries) - MOST[kind]} more in the JSON beside this page</small></p>" \
        if len(entries) > MOST[kind] else ""
