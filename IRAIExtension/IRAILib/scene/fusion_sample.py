"""A session to try the module with, made on this computer: a CT, and a tracked ultrasound recording of it.

The CT is the phantom's: made-up anatomy with exact masks. The recording has a probe that leans and slides over the
liver, a needle that is advanced beside its path, calibration, landmarks as a pointer touched them (with their scatter)
and the truth of it all. Everything bears the word synthetic or SIMULATED.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import Mask, Volume
from ..images.atomic import replacing
from ..images.sequences import TrackedSequence, read_sequence, write_sequence
from ..navigation.probe import ProbeCalibration
from .changes import SceneChange, put_in_folder
from .fusion_guide import ToolTip
from .nodes import points_from_markups
from .write import mask_to_segment, volume_to_node

FOLDER = "IRAI fusion sample (synthetic)"
FILE, CALIBRATION_FILE = "IRAI_fusion_sample.igs.mha", "IRAI_fusion_sample_probe.json"
FRAMES, RATE_HZ = 120, 12.0
SIZE = (320, 240)
"""(columns, rows) of the ultrasound pictures."""
MM_PER_PX = 0.42
TIP_MM, SHAFT = (0.0, 0.0, -180.0), (0.0, 0.0, -1.0)
TIP_SIGMA_MM, SHAFT_SIGMA_DEG, CORNER_SIGMA_MM = 0.4, 0.3, 0.7
TOUCH_SIGMA_MM = 0.6
"""Scatter of the touched landmarks, each axis."""
SKIN = np.array([96.0, 78.0])
"""Half axes of the phantom's torso, R and A, mm."""
LANDMARKS_RAS = {"xiphoid": (6.0, 78.0, 40.0), "navel": (0.0, 78.0, -58.0), "rib right": (66.0, 56.0, 22.0),
                 "rib left": (-62.0, 59.0, 18.0), "flank right": (92.0, 20.0, -30.0),
                 "flank left": (-91.0, 24.0, -40.0), "mark": (44.0, 69.0, -20.0)}
HOLD_OUT = ("mark",)
TARGET_RAS = np.array([40.0, 10.0, 4.0])
ENTRY_RAS = np.array([84.0, 37.0, -8.0])
ASIDE_MM = (2.5, -1.5)
"""The sample's needle runs so far beside its path: at the entry, at the end."""
VALIDATED_ON = "nothing real: made for the sample"
COLORS = {"Tumour": (0.94, 0.45, 0.15), "Liver": (0.86, 0.60, 0.45), "Vessels": (0.30, 0.45, 0.95),
          "Bone": (0.93, 0.90, 0.78)}


@dataclass
class FusionSample:
    """What was made. ras_from_reference, probe_from_image (4, 4): the truth. tips: calibrations for the session.

    sequence: as read back from `path`. tips_ras (n, 3): where the needle's tip was, mm.
    """

    path: Path
    calibration_path: Path
    sequence: TrackedSequence
    calibration: ProbeCalibration
    ras_from_reference: np.ndarray
    tips_ras: np.ndarray
    tips: dict[str, ToolTip]
    nodes: list[Any] = field(default_factory=list)


def sample_case() -> tuple[Volume, dict[str, Mask]]:
    """The CT (HU, RAS) and its structures: Tumour, Liver, Vessels, Bone."""
    from ..ablation.phantom import phantom_case

    case = phantom_case(motion_mm=(0.0, 0.0, 0.0), rotation_deg=0.0)
    bone = Mask(np.asarray(case.pre.array) > 260, case.pre.grid, "bone")
    return case.pre, {"Tumour": case.tumor, "Liver": case.organ_pre, "Vessels": case.vessels, "Bone": bone}


def true_registration() -> np.ndarray:
    """(4, 4) RAS from Reference: a tracker that stands somewhere, turned about every axis."""
    return rigid((23.0, -37.0, 141.0), (-180.0, 420.0, 95.0))


def rigid(angles_deg, translation_mm) -> np.ndarray:
    """(4, 4) of turns about x, then y, then z, and a translation."""
    from scipy.spatial.transform import Rotation

    out = np.eye(4)
    out[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    out[:3, 3] = translation_mm
    return out


def probe_from_image() -> np.ndarray:
    """(4, 4) the sample's calibration: x across, y away from the transducer, the probe's marker above it."""
    matrix = rigid((4.0, -3.0, 6.0), (0.0, 0.0, 0.0)) @ np.diag([MM_PER_PX, MM_PER_PX, MM_PER_PX, 1.0])
    matrix[:3, 3] = (-0.5 * SIZE[0] * MM_PER_PX, 62.0, 8.0)
    return matrix


def image_poses(count: int = FRAMES) -> np.ndarray:
    """(count, 4, 4) RAS from pixels: the probe on the right, looking at the tumour, leaning and sliding.

    The tumour stays in the picture; the plane sweeps through it and back once.
    """
    out = np.zeros((count, 4, 4))
    for number in range(count):
        phase = 2.0 * np.pi * number / count
        aim = TARGET_RAS + np.array([0.0, 2.0, 14.0 * np.sin(phase)])
        angle = np.deg2rad(52.0 + 7.0 * np.cos(phase))
        top = np.array([SKIN[0] * np.cos(angle), SKIN[1] * np.sin(angle), aim[2] - 6.0]) * (0.985, 0.985, 1.0)
        down = (aim - top) / np.linalg.norm(aim - top)
        side = np.cross(down, [0.18 * np.sin(phase), 0.0, 1.0])
        side /= np.linalg.norm(side)
        matrix = np.eye(4)
        matrix[:3, 0], matrix[:3, 1] = side * MM_PER_PX, down * MM_PER_PX
        matrix[:3, 2] = np.cross(side, down) * MM_PER_PX
        matrix[:3, 3] = top - 0.5 * (SIZE[0] - 1) * matrix[:3, 0]
        out[number] = matrix
    return out


def needle_poses(count: int = FRAMES) -> tuple[np.ndarray, np.ndarray]:
    """((count, 4, 4) RAS from Needle, (count, 3) tip RAS): advanced from before the skin to short of the target."""
    axis = (TARGET_RAS - ENTRY_RAS) / np.linalg.norm(TARGET_RAS - ENTRY_RAS)
    aside = np.cross(axis, [0.0, 0.0, 1.0])
    aside /= np.linalg.norm(aside)
    length = float(np.linalg.norm(TARGET_RAS - ENTRY_RAS))
    begin, end = (ENTRY_RAS - 12.0 * axis + ASIDE_MM[0] * aside, TARGET_RAS - 0.1 * length * axis + ASIDE_MM[1] * aside)
    share = np.clip(np.linspace(-0.1, 1.15, count), 0.0, 1.0)
    tips = begin + share[:, None] * (end - begin)
    way = (end - begin) / np.linalg.norm(end - begin)
    poses = np.tile(np.eye(4), (count, 1, 1))
    z = -way  # the shaft runs along -z from the marker to the tip
    x = np.cross([0.0, 0.0, 1.0], z)
    x /= np.linalg.norm(x)
    poses[:, :3, :3] = np.column_stack([x, np.cross(z, x), z])
    poses[:, :3, 3] = tips - poses[0, :3, :3] @ np.array(TIP_MM)
    return poses, tips


def sample_calibration() -> ProbeCalibration:
    """The sample's calibration with errors as a good N-wire calibration has them."""
    return ProbeCalibration(probe_from_image(), SIZE, {"corner": CORNER_SIGMA_MM, "centre": 0.3}, 0.6, 0.5, 0.65, (), 0,
                            (), "made for the sample", VALIDATED_ON, depth_mm=round(SIZE[1] * MM_PER_PX, 1),
                            preset="IRAI sample")


def make_sample(folder: str | Path, *, frames: int = FRAMES, seed: int = 7) -> FusionSample:
    """Simulate the recording into `folder` and read it back as any recording is read. Takes some seconds."""
    from .fusion_sample_pictures import simulate_pictures

    ct, _masks = sample_case()
    ras_from_pixel = image_poses(frames)
    pictures = simulate_pictures(ct, ras_from_pixel, SIZE, seed)
    truth, calibration = true_registration(), sample_calibration()
    reference_from_ras = np.linalg.inv(truth)
    needle, tips = needle_poses(frames)
    probes = reference_from_ras @ ras_from_pixel @ np.linalg.inv(calibration.probe_from_image)
    times = np.arange(frames) / RATE_HZ
    sequence = TrackedSequence(
        frames=pictures, time_s=times,
        transforms={"ProbeToReference": probes, "NeedleToReference": reference_from_ras @ needle},
        status={name: ["OK"] * frames for name in ("ProbeToReference", "NeedleToReference")}, orientation="MFA",
        fields=[{"FrameNumber": str(n), "ImageStatus": "OK", "DepthMm": f"{calibration.depth_mm}",
                 "Preset": "IRAI sample"} for n in range(frames)],
        header={"IRAISimulated": f"seed {seed}", "UltrasoundImageType": "BRIGHTNESS"})
    path, calibration_path = Path(folder) / FILE, Path(folder) / CALIBRATION_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sequence(path, sequence)
    with replacing(calibration_path) as temporary:
        temporary.write_text(json.dumps(calibration.to_dict(), indent=1) + "\n", encoding="utf-8")
    made = {"Needle": ToolTip(TIP_MM, SHAFT, TIP_SIGMA_MM, SHAFT_SIGMA_DEG, VALIDATED_ON)}
    return FusionSample(path, calibration_path, read_sequence(path), calibration, truth, tips, made)


def touched_points(seed: int = 3) -> dict[str, np.ndarray]:
    """{name: (3,) mm in Reference} of the landmarks as a pointer touched them, with its scatter."""
    random = np.random.default_rng(seed)
    matrix = np.linalg.inv(true_registration())
    return {name: matrix[:3, :3] @ (np.array(point) + random.normal(0.0, TOUCH_SIGMA_MM, 3)) + matrix[:3, 3]
            for name, point in LANDMARKS_RAS.items()}


def add_sample_nodes() -> SampleNodes:
    """The sample's CT, structures, landmarks, target and path as nodes; those of before are replaced."""
    import slicer

    ct, masks = sample_case()
    old = [node for role in ROLES for node in _with_role(slicer.mrmlScene, role)]
    with SceneChange(replaces=old) as change:
        volume = volume_to_node(ct, change.add("vtkMRMLScalarVolumeNode", "Sample CT (synthetic)", ROLES[0]))
        volume.SetAttribute("DICOM.Modality", "CT")
        volume.SetAttribute("IRAI.Synthetic", "1")
        volume.GetDisplayNode().SetAutoWindowLevel(False)
        volume.GetDisplayNode().SetWindowLevel(350.0, 60.0)
        structures = change.add("vtkMRMLSegmentationNode", "Sample structures", ROLES[1])
        structures.CreateDefaultDisplayNodes()
        for name, mask in masks.items():
            segment = mask_to_segment(structures, mask, name, COLORS[name])
            structures.GetDisplayNode().SetSegmentOpacity2DFill(segment, 0.0)
            structures.GetDisplayNode().SetSegmentOpacity3D(segment, 0.25 if name in ("Liver", "Bone") else 0.8)
        places = {name: np.array(point) for name, point in LANDMARKS_RAS.items()}
        fixed = _points(change, "Landmarks on the CT", ROLES[2], places)
        moving = _points(change, "Landmarks touched (tracker)", ROLES[3], touched_points())
        moving.GetDisplayNode().SetVisibility(False)
        target = _points(change, "Sample target", ROLES[4], {"target": TARGET_RAS})
        line = change.add("vtkMRMLMarkupsLineNode", "Sample path", ROLES[5])
        line.CreateDefaultDisplayNodes()
        line.GetDisplayNode().SetSelectedColor(1.0, 0.3, 0.8)
        line.GetDisplayNode().SetPropertiesLabelVisibility(False)
        for label, point in (("entry", ENTRY_RAS), ("target", TARGET_RAS)):
            line.AddControlPoint([float(v) for v in point], label)
        put_in_folder(change.added, FOLDER)
    return SampleNodes(volume, structures, fixed, moving, target, line)


ROLES = tuple(f"fusion.sample.{part}" for part in ("ct", "structures", "fixed", "moving", "target", "path"))


@dataclass
class SampleNodes:
    """The sample's nodes."""

    volume: Any
    structures: Any
    fixed: Any
    moving: Any
    target: Any
    path: Any

    @property
    def nodes(self) -> list[Any]:
        return [self.volume, self.structures, self.fixed, self.moving, self.target, self.path]


def use_sample(parameters, sample: FusionSample) -> None:
    """Add the sample's nodes and choose them, its recording and its calibration in a module's parameter node."""
    made = add_sample_nodes()
    sample.nodes = made.nodes
    parameters.volume1, parameters.volume2, parameters.volume3 = made.volume, None, None
    parameters.structures, parameters.leaveOut, parameters.organ = made.structures, "Liver, Tumour", "Liver"
    parameters.source, parameters.recording, parameters.loop = "replay", sample.path, True
    parameters.calibration, parameters.lagMs = sample.calibration_path, 0.0
    parameters.tool, parameters.method = "NeedleToReference", "landmarks"
    parameters.fixedPoints, parameters.movingPoints = made.fixed, made.moving
    parameters.exclude, parameters.holdOut = "", ", ".join(HOLD_OUT)
    parameters.target, parameters.plan = made.target, made.path
    assert len(points_from_markups(made.path)) == 2


def _points(change: SceneChange, name: str, role: str, points: dict[str, np.ndarray]) -> Any:
    node = change.add("vtkMRMLMarkupsFiducialNode", name, role)
    node.CreateDefaultDisplayNodes()
    for label, point in points.items():
        node.AddControlPoint([float(value) for value in point], label)
    node.GetDisplayNode().SetPropertiesLabelVisibility(False)
    node.GetDisplayNode().SetTextScale(2.5)
    return node


def _with_role(scene, role: str) -> list[Any]:
    from .changes import ROLE

    return [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())
            if scene.GetNthNode(n).GetAttribute(ROLE) == role]


def sample_folder() -> Path:
    """Where the sample is kept while Slicer runs."""
    import slicer

    return Path(slicer.app.temporaryPath) / "IRAI"
