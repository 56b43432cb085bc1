"""Draws the pictures of Docs/FusionNav.md from the synthetic sample: panel on real Qt, views from real Slicer.

    python Testing/tools/draw_fusion_pictures.py      # needs slicer-core, PySide6-Essentials; torch for the DRR
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PANEL_WIDTH = 440
PATIENCE_S = 300.0
BUSY_S = 15.0
VIEW = (400, 320)
STEPS = ("volumes", "link", "register", "plan", "guide", "carm")

sys.path.insert(0, str(ROOT / "Testing" / "gui"))
sys.path.insert(0, str(ROOT / "Testing" / "tools"))


def main() -> None:
    from IRAILib import headless

    headless.start()
    import pythonqt

    pythonqt.install()
    from IRAILib.scene import fusion_sample

    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if len(sys.argv) > 1:  # a folder that keeps the simulated recording from one run to the next
            fusion_sample.sample_folder = lambda: Path(sys.argv[1])
        host = pythonqt.ModuleHost("FusionNav", PANEL_WIDTH)
        host.enter()
        host.ui.sampleButton.click()
        patient(host)
        until(host, lambda: host.ui.statusLabel.text in ("GUIDING", "NEAR A STRUCTURE"), "guiding")
        modes(host, work)
        eyes(host, work)
        panels(host, work)
        xray(host, work)
        lost(host, work)


def patient(host) -> None:
    """A machine that is busy drawing must not look like a lost tool in the pictures: it gets more seconds."""
    from IRAILib.scene import fusion_session, needle

    session = session_of(host)
    fusion_session.FRESH_S = needle.STALE_S = session.bridge.stale_s = session.live.lost_s = BUSY_S
    session.live.set_calibration(session.live.calibration, check=False)


def panels(host, work: Path) -> None:
    """Steps 1 and 2, 3, 4, 5, each with the others folded."""
    host.widget.panel.parameters.mode = "blend"
    for name, opened in (("connect", {"volumes", "link"}), ("register", {"register"}), ("guide", {"guide"}),
                         ("plan", {"plan"})):
        if name == "plan":
            host.ui.planButton.click()
            until(host, lambda: host.ui.proposalSelector.count > 0, "paths")
        until(host, lambda: host.ui.statusLabel.text in ("GUIDING", "NEAR A STRUCTURE"), "guiding")
        panel(host, work, name, opened)


def panel(host, work: Path, name: str, opened: set[str]) -> None:
    from draw_docs_pictures import compress

    for step in STEPS:
        getattr(host.ui, f"{step}CollapsibleButton").setCollapsed(step not in opened)
    for _ in range(15):  # unfolded, a section shows what was shown before: the next beats put it right
        host.process()
        time.sleep(0.02)
    compress(host.picture(work / f"{name}.png", PANEL_WIDTH), f"fusion_panel_{name}.png")


def session_of(host):
    return host.widget.logic.session


def quiet(host) -> None:
    """Labels and landmarks away: the pictures are small."""
    import slicer

    for node in slicer.util.getNodesByClass("vtkMRMLMarkupsNode"):
        role = node.GetAttribute("IRAI.Role") or ""
        if role == "fusion.path" or (role.startswith("fusion.sample") and role != "fusion.sample.path"):
            node.SetDisplayVisibility(False)
    structures = host.widget.panel.parameters.structures
    if structures is not None and structures.GetDisplayNode() is not None:
        structures.GetDisplayNode().SetVisibility2D(False)
    host.process()


def modes(host, work: Path) -> None:
    """The live picture alone, blended, by fields, and the volume cut there."""
    from IRAILib.headless.views import SliceView
    from IRAILib.scene import fusion_eyes

    quiet(host)
    session = session_of(host)
    host.widget.panel.parameters.follow = False  # there is no red and no green view here: one at a time is drawn
    session.views.only_in([])
    views, pictures = session.views, []
    until(host, lambda: deep(host, 30.0), "the needle on its way")
    for mode, part in (("side", "picture"), ("blend", "fused"), ("checker", "fused"), ("side", "cut")):
        host.widget.panel.parameters.mode = mode
        views._cut_s = float("-inf")
        images = session.live.images
        until(host, lambda images=images: session.live.images > images + 1, "a picture")
        matrix, width = fusion_eyes.live_plane(*views.planes[part])
        with SliceView("Axial", VIEW, letters=False) as view:
            view.show(views.node(part))
            fusion_eyes.place(view.node, matrix, width)
            pictures.append(np.asarray(view.image())[..., :3])
    save(np.concatenate([np.concatenate(pictures[:2], 1), np.concatenate(pictures[2:], 1)], 0), work, "fusion_modes")


def deep(host, less_than_mm: float) -> bool:
    distance = session_of(host).state().guidance.distance_mm
    return distance is not None and 8.0 < distance < less_than_mm


def eyes(host, work: Path) -> None:
    """Bull's eye and down the path with the needle under way; the probe's eye in 3D."""
    from IRAILib.headless.views import SliceView, ThreeDView
    from IRAILib.scene import fusion_eyes
    from IRAILib.scene.needle_guidance import plan_from_node

    parameters, session = host.widget.panel.parameters, session_of(host)
    session.views.only_in(["the live plane alone"])
    path, pictures = plan_from_node(parameters.plan), []
    for eye in ("bullseye", "path"):
        until(host, lambda: deep(host, 30.0), "the needle on its way")
        tip = session.estimate().tip
        plane = (fusion_eyes.bulls_eye_plane(*path, tip) if eye == "bullseye" else fusion_eyes.path_planes(*path)[0])
        with SliceView("Axial", VIEW, letters=True) as view:
            view.show(parameters.volume1)
            fusion_eyes.place(view.node, plane, 60.0 if eye == "bullseye" else 120.0)
            pictures.append(np.asarray(view.image())[..., :3])
    save(np.concatenate(pictures, 1), work, "fusion_eyes")
    until(host, lambda: deep(host, 40.0) and session.views.ras_from_pixel is not None, "the needle on its way")
    parameters.structures.CreateClosedSurfaceRepresentation()
    eye, at, up = fusion_eyes.eye_camera("probe", session.views, path)
    matrix, width = fusion_eyes.live_plane(session.views.ras_from_pixel, session.views.size_px)
    with SliceView("Axial", VIEW, letters=False) as live, ThreeDView((640, 440)) as view:
        live.show(session.views.node("picture"))
        fusion_eyes.place(live.node, matrix, width)
        live.node.SetSliceVisible(True)
        live.image()
        view.look_from(eye - at, up).target(at, 58.0)
        save(np.asarray(view.image())[..., :3], work, "fusion_threed")


def xray(host, work: Path) -> None:
    """A DRR from 25 degrees beside the bull's eye with the path on it, and the panel of step 6."""
    import slicer
    from IRAILib.headless.views import SliceView
    from IRAILib.scene import fusion_eyes
    from IRAILib.scene.needle import image_to_ras

    parameters, ui = host.widget.panel.parameters, host.ui
    ui.bullsEyeAnglesButton.click()
    parameters.primaryDeg = parameters.primaryDeg + 25.0
    ui.drrButton.click()
    frame = next(node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
                 if node.GetAttribute("IRAI.Role") == "fusion.drr")
    ui.bullsEyeAnglesButton.click()
    panel(host, work, "carm", {"carm"})
    matrix, width = fusion_eyes.live_plane(image_to_ras(frame), frame.GetImageData().GetDimensions()[:2])
    for node in slicer.util.getNodesByClass("vtkMRMLMarkupsNode"):
        node.SetDisplayVisibility(False)
    slicer.mrmlScene.GetFirstNode("Path on the X-ray", "vtkMRMLModelNode").GetDisplayNode().RemoveAllViewNodeIDs()
    with SliceView("Axial", (400, 400), letters=True) as view:
        view.show(frame)
        fusion_eyes.place(view.node, matrix, 0.62 * width)
        save(np.asarray(view.image())[..., :3], work, "fusion_drr")


def lost(host, work: Path) -> None:
    """The plug is pulled."""
    session_of(host).server.close()
    until(host, lambda: host.ui.statusLabel.text in ("NO GUIDANCE", "NOT CONNECTED"), "grey")
    until(host, lambda: host.ui.guideTable.isHidden(), "no numbers")
    panel(host, work, "lost", {"guide"})


def save(pixels: np.ndarray, work: Path, name: str) -> None:
    from draw_docs_pictures import compress
    from PIL import Image

    Image.fromarray(np.ascontiguousarray(pixels)).save(work / f"{name}.png")
    compress(work / f"{name}.png", f"{name}.png")


def until(host, condition, what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"never: {what}; no further picture was drawn")
        host.process()
        time.sleep(0.005)


if __name__ == "__main__":
    main()
