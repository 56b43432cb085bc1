"""Draws the pictures of Docs/VirtualBiopsy.md from the synthetic sample: panel on real Qt, slices from real Slicer.

    python Testing/tools/draw_biopsy_pictures.py [FOLDER]   # needs slicer-core, PySide6-Essentials; takes minutes

FOLDER keeps the sample's table from one run to the next. The board's page is drawn where weasyprint and pypdfium2 are
installed, else in Chromium; without either that one picture is left as it is.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PANEL_WIDTH = 440
PAGE_SCALE = 1.35
STEPS = ("lesion", "features", "scores", "model", "train", "report")
MELD_NA = {"bilirubin": ("2.1", "mg/dL"), "creatinine": ("1.2", "mg/dL"), "inr": ("1.4", None),
           "sodium": ("133", "mmol/L")}
CHILD_PUGH = {"ascites": (None, "mild"), "encephalopathy": (None, "none"), "albumin": ("34", "g/L")}

sys.path.insert(0, str(ROOT / "Testing" / "gui"))
sys.path.insert(0, str(ROOT / "Testing" / "tools"))


def main() -> None:
    from IRAILib import headless

    headless.start()
    import pythonqt

    pythonqt.install()
    from IRAILib.scene import biopsy_sample

    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        keep = Path(sys.argv[1]) if len(sys.argv) > 1 else work
        keep.mkdir(parents=True, exist_ok=True)
        biopsy_sample.sample_folder = lambda: keep
        host = pythonqt.ModuleHost("VirtualBiopsy", PANEL_WIDTH)
        host.enter()
        lesion(host, work)
        features(host, work)
        scores(host, work)
        train(host, work)
        predict(host, work)
        board(host, work)


def lesion(host, work: Path) -> None:
    """The sample, its shell and its habitats."""
    host.ui.sampleButton.click()
    host.ui.regionsGroupBox.collapsed = False
    host.ui.shellButton.click()
    host.ui.habitatsSpinBox.setValue(2)
    host.ui.habitatsButton.click()
    require(host.ui.regionsTable.rowCount == 3, "shell and two habitats")
    panel(host, work, "lesion")
    slices(host, work)
    host.ui.regionsGroupBox.collapsed = True


def slices(host, work: Path) -> None:
    from IRAILib.scene.biopsy_pictures import picture_case
    from PIL import Image
    from VirtualBiopsyLib.Parameters import caseFrom

    drawn = picture_case(caseFrom(host.widget.panel.parameters), work)
    both = np.concatenate([np.asarray(Image.open(path).convert("RGB")) for path, _caption in drawn.values()], 1)
    save(Image.fromarray(both), work, "biopsy_slices")


def features(host, work: Path) -> None:
    host.ui.extractButton.click()
    host.ui.cohortButton.click()
    host.ui.stabilityButton.click()
    require("unstable over" in host.ui.featuresGaveLabel.text, "stability")
    panel(host, work, "features")


def scores(host, work: Path) -> None:
    for name, values in (("meld-na", MELD_NA), ("child-pugh", CHILD_PUGH)):
        host.ui.scoreSelector.setCurrentIndex(host.ui.scoreSelector.findData(name))
        for field, (text, choice) in values.items():
            _item, line, box = host.widget.panel.scores.fields[field]
            if text:
                line.setText(text)
            if choice:
                box.setCurrentIndex(box.findData(choice))
        host.ui.scoreButton.click()
        require(not host.ui.scoreNeedsLabel.text, f"{name}: {host.ui.scoreNeedsLabel.text}")
    panel(host, work, "scores")


def train(host, work: Path) -> None:
    host.ui.effortSelector.setCurrentIndex(0)
    host.ui.trainButton.click()
    require(bool(host.ui.trainVerdictLabel.text), f"training: {host.ui.trainNeedsLabel.text}")
    panel(host, work, "train")


def predict(host, work: Path) -> None:
    host.ui.useModelButton.click()
    host.process()
    for item, field in host.widget.panel.model.fields.values():
        field.setText("38" if "albumin" in item.name else "63")
    host.ui.predictButton.click()
    require(bool(host.ui.predictionLabel.text), f"prediction: {host.ui.modelNeedsLabel.text}")
    panel(host, work, "model")
    for item, field in host.widget.panel.model.fields.values():
        kept = field.text
        field.setText("900")
        host.ui.predictButton.click()
        if host.ui.predictionLabel.text.startswith("REFUSED"):
            panel(host, work, "refused", "model")
        field.setText(kept)
        host.ui.predictButton.click()
        require(not host.ui.predictionLabel.text.startswith("REFUSED"), f"{item.name}: still refused")


def board(host, work: Path) -> None:
    from IRAILib.scene.biopsy_sample import sample_folder

    folder = sample_folder() / "board"
    host.ui.reportFolderSelector.setCurrentPath(str(folder))
    host.ui.reportButton.click()
    require(bool(host.ui.reportGaveLabel.text), "the page")
    panel(host, work, "report")
    try:
        import pypdfium2
        import weasyprint
    except ImportError:
        browser_picture(folder / "board.html", work)
        return
    pages = pypdfium2.PdfDocument(weasyprint.HTML(str(folder / "board.html")).write_pdf())
    require(len(pages) == 1, f"the page has {len(pages)} pages")
    save(pages[0].render(scale=PAGE_SCALE).to_pil(), work, "biopsy_board")


def browser_picture(page: Path, work: Path) -> None:
    """The page in Chromium, at the size of A4 in its pixels."""
    import shutil
    import subprocess

    from PIL import Image

    browser = shutil.which("chromium")
    if browser is None:
        print("no weasyprint with pypdfium2, and no chromium: the picture of the page was not drawn")
        return
    shot = work / "page.png"
    subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                    "--window-size=794,1123", f"--screenshot={shot}", page.as_uri()], check=True, timeout=120,
                   capture_output=True)
    save(Image.open(shot), work, "biopsy_board")


def panel(host, work: Path, name: str, step: str | None = None) -> None:
    """The panel with one step unfolded."""
    from draw_docs_pictures import compress

    for one in STEPS:
        getattr(host.ui, f"{one}CollapsibleButton").setCollapsed(one != (step or name))
    for _ in range(3):
        host.widget.panel.refresh()
        host.process()
    for line in (host.ui.modelPathEdit, host.ui.trainPathEdit, host.ui.cohortPathEdit, host.ui.trainFolderPathEdit,
                 host.ui.reportFolderSelector):
        line.line.deselect()
        line.line.setCursorPosition(len(line.line.text))
        line.line.clearFocus()
    compress(host.picture(work / f"{name}.png", PANEL_WIDTH), f"biopsy_panel_{name}.png")


def save(image, work: Path, name: str) -> None:
    from draw_docs_pictures import compress

    image.convert("RGB").save(work / f"{name}.png")
    compress(work / f"{name}.png", f"{name}.png")


def require(condition: bool, what: str) -> None:
    if not condition:
        raise SystemExit(f"never: {what}; no further picture was drawn")


if __name__ == "__main__":
    main()
