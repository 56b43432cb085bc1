"""Small pieces of HTML that the training report is put together from. Every text that comes from data is escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from ..biopsy.outcome.facts import Figure

MORE_STYLE = """
nav { font-size: .85rem; margin: .4rem 0 0; } nav a { margin-right: .8rem; color: #1f5fa8; }
.verdict { font-size: 1.12rem; padding: .8rem 1rem; border-radius: 6px; margin: 1rem 0; border-left: 8px solid; }
.v-better { background: #e9f6ec; border-color: #33a04a; }
.v-same, .v-none { background: #fff6df; border-color: #f2b824; }
.v-worse { background: #fdeaea; border-color: #d62728; }
.red-text { color: #b71c1c; font-weight: 600; } .small { font-size: .85rem; color: #55606e; }
.warn { background: #fdeaea; border-left: 4px solid #c62828; padding: .5rem .8rem; margin: .4rem 0; }
.flow { display: flex; flex-wrap: wrap; align-items: stretch; gap: .5rem; margin: .6rem 0; }
.flow div { border: 1px solid #d7dde5; border-radius: 6px; padding: .5rem .8rem; min-width: 8rem; }
.flow .arrow { border: none; min-width: 0; padding: .5rem 0; align-self: center; } .flow .out { background: #f6f7f9; }
.plots { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; } .plots figure { max-width: 640px; }
.plots img { max-width: 100%; } details { margin: .5rem 0; } summary { cursor: pointer; color: #1f5fa8; }
.scroll { overflow-x: auto; } code { font-size: .85rem; overflow-wrap: anywhere; } td.n, th.n { white-space: nowrap; }
td.why { text-align: left; font-size: .85rem; color: #555; }
th.n { text-align: right; }
"""


def section(title: str, anchor: str, *parts: str) -> str:
    """A headed section; nothing when every part is empty."""
    body = "".join(parts)
    return f'<h2 id="{anchor}">{escape(title)}</h2>{body}' if body else ""


def paragraph(text: str, kind: str = "") -> str:
    return f'<p{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}>{escape(text)}</p>' if text else ""


LONGEST_NUMBER = 30


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], numeric: Sequence[int] = (), *,
          red: Sequence[int] = ()) -> str:
    """An HTML table; cells are escaped. numeric: columns set to the right; red: rows in red. Empty rows: nothing."""
    lines = []
    for place, row in enumerate(rows):
        cells = "".join(f'<td{_number_class(column in numeric, str(cell))}>{escape(str(cell))}</td>'
                        for column, cell in enumerate(row))
        lines.append(f'<tr{" class=red-text" if place in red else ""}>{cells}</tr>')
    if not lines:
        return ""
    top = "".join(f'<th{" class=n" if column in numeric else ""}>{escape(name)}</th>'
                  for column, name in enumerate(head))
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _number_class(numeric: bool, text: str) -> str:
    """Numbers stay on one line; a sentence that says why there is none may break."""
    return "" if not numeric else " class=n" if len(text) <= LONGEST_NUMBER else " class=why"


def picture(png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode("ascii")
    return (f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>")


def plots(pictures: Sequence[str]) -> str:
    return f'<div class="plots">{"".join(pictures)}</div>' if pictures else ""


def details(summary: str, body: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{body}</details>" if body else ""


def card(value: str, words: str, colour: str = "") -> str:
    return f'<div class="card {colour}"><b>{escape(value)}</b><span>{escape(words)}</span></div>'


def interval(figure: Figure | None, digits: int = 2) -> str:
    """'0.71 (0.60 to 0.81)', '-' for nothing."""
    return "-" if figure is None else figure.text(digits)


def p_text(p: float | None) -> str:
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
