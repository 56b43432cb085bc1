"""One self-contained HTML file that says what was measured, how sure it is, and shows it."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Any

from .. import RESEARCH_NOTICE, __version__
from ..images.atomic import replacing

SURE = 0.1
"""Above this probability of a margin under the threshold the headline isn't green."""
WIDE = ("surface", "histogram")
"""Pictures shown first and larger."""
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; margin: 0 auto; max-width: 1080px;
  padding: 1.2rem 1.6rem 3rem; color: #1d2530; background: #fff; }
h1 { font-size: 1.5rem; margin: .2rem 0; } h2 { font-size: 1.1rem; margin: 1.6rem 0 .5rem; }
.notice { background: #fff6df; border-left: 4px solid #e0a100; padding: .5rem .8rem; font-size: .9rem; }
.refused { background: #fdeaea; border-left: 4px solid #c62828; padding: .8rem 1rem; font-size: 1.05rem; }
.headline { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
.card { border: 1px solid #d7dde5; border-radius: 8px; padding: .7rem 1rem; min-width: 11rem; }
.card b { display: block; font-size: 1.55rem; } .card span { color: #55606e; font-size: .85rem; }
.red { border-left: 6px solid #d62728; } .yellow { border-left: 6px solid #f2b824; }
.green { border-left: 6px solid #33a04a; }
table { border-collapse: collapse; } td, th { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #eceff3; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 0; } figcaption { font-size: .82rem; color: #55606e; }
.grid { display: flex; flex-wrap: wrap; gap: 1rem; } .grid figure { width: 330px; } .grid .wide { width: 500px; }
.grid img { width: 100%; }
footer { margin-top: 2rem; font-size: .82rem; color: #55606e; }
"""


def write_margin_report(document: dict[str, Any], rows: list[list], pictures: dict[str, tuple[Path, str]],
                        path: Path, *, synthetic: bool = False) -> Path:
    """Write report.html.

    Args:
        document: what margin.json says.
        rows: (quantity, value, unit) of the table of numbers.
        pictures: file and caption by name; embedded, so that the report is one file.
        synthetic: says so at the top.
    """
    parts = ["<h1>Ablation margin</h1>", f'<p class="notice">{escape(RESEARCH_NOTICE)} '
             f'Validated on: {escape(str(document.get("validated_on") or "see Docs/benchmarks.md"))}.</p>']
    if synthetic:
        parts.append('<p class="notice"><b>SYNTHETIC</b>: the tumour, the ablation and the motion were painted into '
                     'a real CT. Not a patient.</p>')
    if document.get("refused"):
        parts.append(f'<p class="refused"><b>No margin is given.</b> {escape(str(document["refused"]))}</p>')
    else:
        parts.append(_headline(document))
    parts += [f'<p class="notice">{escape(note)}</p>' for note in document.get("notes") or []]
    parts.append(_figures(pictures))
    parts.append("<h2>Numbers</h2>" + _table(rows))
    parts.append(_registration(document.get("registration")))
    parts.append(_sureness(document))
    parts.append(f"<footer>IRAI {escape(__version__)}. Coordinates: {escape(str(document.get('frame') or 'RAS mm'))}. "
                 "Margins are positive where tissue beyond the tumour was ablated.</footer>")
    text = (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Ablation margin</title>'
            f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>")
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _headline(document: dict[str, Any]) -> str:
    mam, threshold = document.get("mam_mm"), float(document.get("threshold_mm") or 5.0)
    if mam is None:
        return '<p class="refused">No margin: all of the tumour\'s surface is excluded (subcapsular).</p>'
    unsure = (document.get("probability_mam_below_threshold") or 0.0) > SURE
    colour = "red" if mam < 0.0 else "yellow" if mam < threshold or unsure else "green"
    interval = document.get("mam_ci95_mm")
    place = document.get("thinnest") or {}
    clock = f", {place['clock']} o'clock" if place.get("clock") else ""
    cards = [(colour, f"{mam:.1f} mm", "minimal ablative margin (MAM)"
              + (f", 95 % interval {interval[0]:.1f} to {interval[1]:.1f} mm" if interval else "")),
             (colour, escape(f"{place.get('words', '')}{clock}"), "thinnest place, from the tumour's centre; clock as "
              "seen from the feet"),
             ("green" if document["coverage_percent"] > 99.95 else "red", f"{document['coverage_percent']:.1f} %",
              "of the tumour's volume inside the zone")]
    probability = document.get("probability_mam_below_threshold")
    if probability is not None:
        cards.append((colour, f"{100 * probability:.0f} %", f"probability that the MAM is under {threshold:g} mm"))
    if document.get("screening_only"):
        cards.append(("yellow", "screening only", "slices thicker than 3 mm"))
    boxes = "".join(f'<div class="card {c}"><b>{value}</b><span>{text}</span></div>' for c, value, text in cards)
    return f'<div class="headline">{boxes}</div>'


def _figures(pictures: dict[str, tuple[Path, str]]) -> str:
    if not pictures:
        return ""
    out = []
    for name, (path, caption) in sorted(pictures.items(), key=lambda item: item[0] not in WIDE):
        data = base64.b64encode(Path(path).read_bytes()).decode("ascii")
        wide = ' class="wide"' if name in WIDE else ""
        out.append(f'<figure{wide}><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
                   f"<figcaption>{escape(caption)}</figcaption></figure>")
    return f'<h2>Pictures</h2><div class="grid">{"".join(out)}</div>'


def _table(rows: list[list]) -> str:
    cells = "".join(f'<tr><td>{escape(str(name))}</td><td class="n">{escape(str(value))}</td>'
                    f"<td>{escape(str(unit))}</td></tr>" for name, value, unit in rows)
    return f"<table>{cells}</table>"


def _registration(block: dict[str, Any] | None) -> str:
    if not block:
        return "<h2>Registration</h2><p>None: both masks were taken to lie in one frame.</p>"
    names = {"method": ("Method", ""), "rigid_mam_mm": ("MAM with the rigid registration alone", "mm"),
             "folding_percent": ("Folded share of the organ", "%"),
             "tumor_volume_change_percent": ("Change of the tumour's volume", "%"),
             "tre_mm": ("Target registration error", "mm"), "tre_source": ("Error taken from", "")}
    rows = [[title, f"{block[key]:.2f}" if isinstance(block[key], float) else block[key], unit]
            for key, (title, unit) in names.items() if block.get(key) is not None]
    return "<h2>Registration</h2>" + _table(rows)


def _sureness(document: dict[str, Any]) -> str:
    parts = document.get("uncertainty")
    if not parts:
        return ""
    rows = [["Registration, root mean square 3D error round the zone", f"{parts['registration_tre_mm']:.2f}", "mm"],
            ["Each outline, along its normal", f"{parts['segmentation_sigma_mm']:.2f}", "mm"],
            ["Voxel size, at the thinnest place", f"{parts['voxel_sigma_mm']:.2f}", "mm"],
            ["All together, along the normal", f"{parts['normal_sigma_mm']:.2f}", "mm"]]
    return "<h2>How sure (one standard deviation)</h2>" + _table(rows)
