"""A recording to try the module with: our own simulator's needle as a PLUS file with a tracked probe, marked so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..images.sequences import TrackedSequence, read_sequence, write_sequence
from .changes import ROLE, put_in_folder
from .needle import FOLDER

SEED, DOMAIN = 18, "held-out"
"""A linear probe and a plainly visible needle: chosen to be an easy one, from ranges that no network was trained on."""
FRAMES, RATE_HZ = 90, 15.0
SIZE = (320, 240)
FILE = "IRAI_needle_sample.igs.mha"
PLAN_NAME = "Sample plan"
AHEAD_MM, ASIDE_MM = 12.0, 1.5
"""The sample plan's target lies so far ahead of the last tip, and so far beside its way."""


@dataclass
class NeedleSample:
    """The recording's file, what is in it, and the truth of each frame: tip (3,) in Reference, mm, or None."""

    path: Path
    sequence: TrackedSequence
    mm_per_px: float
    tips_mm: list[np.ndarray | None]
    directions: list[np.ndarray | None]


def sample_pose() -> np.ndarray:
    """(4, 4) ProbeToReference of the sample: a probe that is held askew, so that no axis can be mixed up."""
    tilt, turn = np.deg2rad([25.0, 40.0])
    across = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    about = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = about @ across, (12.0, -30.0, 45.0)
    return pose


def make_sample(folder: str | Path, *, frames: int = FRAMES, seed: int = SEED) -> NeedleSample:
    """Simulate the sample into `folder` and read it back as any recording is read. Takes some seconds."""
    from ..needle.ultrasound.simulator import simulate_sequence

    made = simulate_sequence(frames, seed, domain=DOMAIN, needle=True, size=SIZE, frame_rate_hz=RATE_HZ)
    to_probe = np.diag([made.mm_per_px, made.mm_per_px, made.mm_per_px, 1.0])
    to_probe[0, 3] = -0.5 * (SIZE[0] - 1) * made.mm_per_px
    pose = sample_pose()
    count = len(made.frames)
    sequence = TrackedSequence(
        frames=np.stack([_marked(frame) for frame in made.frames]), time_s=made.time_s,
        transforms={"ProbeToReference": np.tile(pose, (count, 1, 1))}, status={"ProbeToReference": ["OK"] * count},
        orientation="MFA", fields=[{"FrameNumber": str(n), "ImageStatus": "OK"} for n in range(count)],
        header={"ImageToProbeTransform": " ".join(f"{value:.9g}" for value in to_probe.ravel()),
                "IRAISimulated": f"seed {seed}, {DOMAIN}"},
        spacing=(made.mm_per_px, made.mm_per_px))
    path = Path(folder) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sequence(path, sequence)
    whole = pose @ to_probe
    tips = [None if t.tip_px is None else whole[:3, :3] @ (*t.tip_px, 0.0) + whole[:3, 3] for t in made.truth]
    ways = [None if t.direction is None else _unit(whole[:3, :3] @ (*t.direction, 0.0)) for t in made.truth]
    return NeedleSample(path, read_sequence(path), made.mm_per_px, tips, ways)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _marked(frame: np.ndarray) -> np.ndarray:
    """A copy of (h, w) uint8 with the word SIMULATED in the lower right corner."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(frame)
    draw = ImageDraw.Draw(picture)
    width = draw.textlength("SIMULATED")
    draw.text((frame.shape[1] - width - 6, frame.shape[0] - 16), "SIMULATED", fill=200)
    return np.asarray(picture)


def add_plan(sample: NeedleSample, scene=None) -> Any:
    """The sample's plan line (entry, target) as a markups line node, found again when it is there already."""
    import slicer

    scene = scene if scene is not None else slicer.mrmlScene
    last = max(n for n, tip in enumerate(sample.tips_mm) if tip is not None)
    tip, way = sample.tips_mm[last], sample.directions[last]
    assert tip is not None
    assert way is not None
    aside = _unit(np.cross(sample_pose()[:3, 2], way))
    target = tip + AHEAD_MM * way + ASIDE_MM * aside
    node = scene.GetFirstNode(PLAN_NAME, "vtkMRMLMarkupsLineNode")
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", PLAN_NAME)
        node.SetAttribute(ROLE, "needle.plan")
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetSelectedColor(1.0, 0.3, 0.8)
        node.GetDisplayNode().SetPropertiesLabelVisibility(False)
        put_in_folder([node], FOLDER)
    node.RemoveAllControlPoints()
    for point in (target - 60.0 * way, target):
        node.AddControlPoint([float(value) for value in point])
    return node


def first_frame(sample: NeedleSample, scene=None) -> Any:
    """The sample's first picture as a volume node, where the probe holds it."""
    import slicer

    from .nodes import matrix_to_vtk

    assert sample.sequence.frames is not None
    node = slicer.util.addVolumeFromArray(sample.sequence.frames[:1], name="Needle sample, first frame")
    to_probe = sample.sequence.header_transform("ImageToProbe")
    node.SetIJKToRASMatrix(matrix_to_vtk(sample_pose() @ to_probe))
    node.SetAttribute("DICOM.Modality", "US")
    node.SetAttribute("IRAI.Synthetic", "1")
    node.CreateDefaultDisplayNodes()
    return node


def sample_folder() -> Path:
    """Where the sample is kept while Slicer runs."""
    import slicer

    return Path(slicer.app.temporaryPath) / "IRAI"
