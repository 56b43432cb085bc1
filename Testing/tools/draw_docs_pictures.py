"""Draws the pictures of Docs/AblationMargin.md from the sample case: the panel on real Qt, the views from real Slicer.

    python Testing/tools/draw_docs_pictures.py      # needs slicer-core and PySide6-Essentials
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "Docs" / "images"
COLORS = 256
PANEL_WIDTH = 440
RIGID = 1

sys.path.insert(0, str(ROOT / "Testing" / "gui"))


def main() -> None:
    from IRAILib import headless

    headless.start()
    import pythonqt

    pythonqt.install()
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        host = pythonqt.ModuleHost("AblationMargin", PANEL_WIDTH)
        host.enter()
        do_the_job(host)
        panel_pictures(host, work)
        view_pictures(host, work)


def do_the_job(host) -> None:
    """What the tutorial does: sample case, rigid registration, accept, margin."""
    ui = host.ui
    ui.sampleButton.click()
    ui.modelSelector.setCurrentIndex(RIGID)
    ui.registerButton.click()
    ui.acceptButton.click()
    ui.marginButton.click()
    host.process()
    if host.widget.panel.parameters.margin is None:
        raise SystemExit("the sample case gave no margin: no picture was drawn")


def panel_pictures(host, work: Path) -> None:
    """One picture a group of steps: the others are folded."""
    ui = host.ui
    sections = {"case": ui.caseCollapsibleButton, "zone": ui.zoneCollapsibleButton,
                "register": ui.registerCollapsibleButton, "margin": ui.marginCollapsibleButton,
                "report": ui.reportCollapsibleButton}
    for picture, opened in (("panel_case", {"case", "zone"}), ("panel_register", {"register"}),
                            ("panel_margin", {"margin"})):
        for name, section in sections.items():
            section.setCollapsed(name not in opened)
        compress(host.picture(work / f"{picture}.png", PANEL_WIDTH), f"ablation_margin_{picture}.png")


def view_pictures(host, work: Path) -> None:
    """The coloured surface, the slices through the thinnest place, the checkerboard."""
    from AblationMarginLib.Parameters import caseFrom
    from IRAILib.scene.ablation_pictures import render_case

    parameters = host.widget.panel.parameters
    drawn = render_case(caseFrom(parameters), parameters.margin, work, registration=parameters.registration,
                        mark="SYNTHETIC")
    for name in ("surface", "after_axial", "after_coronal", "checker_axial"):
        compress(drawn[name][0], f"ablation_margin_{name}.png")


def compress(source: Path, name: str) -> None:
    """PNG with a palette: a quarter of the size, the same to the eye."""
    from PIL import Image

    image = Image.open(source).convert("RGB")
    image.quantize(COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    main()
