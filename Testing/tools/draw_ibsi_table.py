"""Prints the IBSI-1 compliance table of Docs/validation.md as Markdown: reference, tolerance and our value of each tag.

    python Testing/tools/draw_ibsi_table.py > table.md                # needs the IBSI files of $IRAI_TEST_DATA
    python Testing/tools/draw_ibsi_table.py --into Docs/validation.md  # in place, between its two markers
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- ibsi-table: begin -->", "<!-- ibsi-table: end -->"
sys.path[:0] = [str(ROOT / "IRAIExtension"), str(ROOT / "Testing" / "peers"), str(ROOT / "Testing")]


def table() -> str:
    """The whole table, a summary first."""
    from conftest import data_folder
    from ibsi_reference import CONFIGURATIONS, compare

    found = {name: compare(data_folder(), name) for name in CONFIGURATIONS}
    lines = ["| configuration | values with a consensus | within tolerance | without a consensus |",
             "|---|---|---|---|"]
    for name, rows in found.items():
        known = [row for row in rows if row.has_reference]
        lines.append(f"| {name} | {len(known)} | {sum(row.agrees for row in known)} | {len(rows) - len(known)} |")
    tags = list(dict.fromkeys(row.tag for rows in found.values() for row in rows))
    by_tag = {name: {row.tag: row for row in rows} for name, rows in found.items()}
    lines += ["", "Each cell: reference +- tolerance, ours. `fail` marks a value beyond its tolerance, "
              "`(no consensus)` one that the initiative gives no reference for.", "",
              "| tag | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    lines += [f"| {tag} | " + " | ".join(_cell(by_tag[name].get(tag)) for name in found) + " |" for tag in tags]
    return "\n".join(lines) + "\n"


def _cell(row) -> str:
    if row is None:
        return ""
    ours = "none" if row.ours is None else f"{row.ours:.5g}"
    if not row.has_reference:
        return f"(no consensus) {ours}"
    return f"{row.reference:g} +- {row.tolerance:g}, {ours}" + ("" if row.agrees else " **fail**")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--into", type=Path, metavar="FILE.md", help="replace what stands between its markers")
    arguments = parser.parse_args()
    text = table()
    if arguments.into is None:
        print(text, end="")
        return
    whole = arguments.into.read_text(encoding="utf-8")
    before, rest = whole.split(BEGIN)
    arguments.into.write_text(f"{before}{BEGIN}\n{text}{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
