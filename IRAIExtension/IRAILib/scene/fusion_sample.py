"""A session to try the module with, made on this computer: a CT, and a tracked ultrasound recording of it.

The CT is the phantom's: made-up anatomy with exact masks. The recording has a probe that leans and slides over the
liver, a needle that is advanced beside its path, calibration, landmarks as a pointer touched them (with their scatter)
and the truth of it all. Everything bears the word synthetic.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import CancelledError, Mask, Volume
from ..images.atomic import replacing
from ..images.sequences import TrackedSequence, read_sequence, write_sequence
from ..navigation.probe import ProbeCalibration
from .changes import SceneChange, put_in_folder
from .fusion_guide import ToolTip
from .nodes import points_from_markups
from .write import mask_to_segment, volume_to_node

Progress = Callable[[float, str], None] | None
Cancelled = Callable[[], bool] | None
FOLDER = "IRAI fusion sample (synthetic)"
FILE, CALIBRATION_FILE = "IRAI_fusion_sample.igs.mha", "IRAI_fusion_sample_probe.json"
FRAMES, RATE_HZ, SEED = 60, 10.0, 8
MM_PER_PX, DEPTH_MM = 0.45, 112.0
GAP_Z_MM, RIB_SLOPE = 6.3, 0.35
"""Between two of the phantom's ribs, at the probe's height, and how they climb from back to front (S over A)."""
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
ENTRY_RAS = np.array([84.0, 37.0, -3.3])
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
    vessels = Mask(case.vessels.array & ~case.tumor.array, case.pre.grid, "vessels")  # the tumour displaces them
    return case.pre, {"Tumour": case.tumor, "Liver": case.organ_pre, "Vessels": vessels, "Bone": bone}


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


def probe() -> Any:
    """The sample's curved array, as `navigation.ct_ultrasound` has it."""
    from ..navigation.ct_ultrasound import Probe

    return Probe(radius_mm=55.0, width=58.0, depth_mm=DEPTH_MM, lines=88, samples=260, mm_per_px=MM_PER_PX)


def size_px() -> tuple[int, int]:
    """(columns, rows) of its pictures."""
    (rows, columns), _matrix = probe().picture()
    return columns, rows


def marker_from_face() -> np.ndarray:
    """(4, 4) from the array's frame to the marker that the tracker sees, which is fixed above it, a little askew."""
    return rigid((4.0, -3.0, 6.0), (5.0, 62.0, 8.0))


def face_poses(count: int = FRAMES) -> np.ndarray:
    """(count, 4, 4) RAS from the array's frame: on the right side, between two ribs, leaning and sliding.

    The plane sweeps through the tumour and back once.
    """
    out = np.tile(np.eye(4), (count, 1, 1))
    for number in range(count):
        phase = 2.0 * np.pi * number / count
        aim = TARGET_RAS + np.array([0.0, 2.0, 13.0 * np.sin(phase)])
        angle = np.deg2rad(48.0 + 4.0 * np.cos(phase))
        top = np.array([SKIN[0] * np.cos(angle), SKIN[1] * np.sin(angle), 0.0]) * (0.965, 0.965, 1.0)
        top[2] = GAP_Z_MM + RIB_SLOPE * (top[1] - 58.0)
        down = (aim - top) / np.linalg.norm(aim - top)
        side = np.array([SKIN[0] * np.sin(angle), -SKIN[1] * np.cos(angle), -RIB_SLOPE * SKIN[1] * np.cos(angle)])
        side -= (side @ down) * down
        side /= np.linalg.norm(side)
        out[number, :3, :3] = np.column_stack([side, down, np.cross(side, down)])
        out[number, :3, 3] = top
    return out


def image_poses(count: int = FRAMES) -> np.ndarray:
    """(count, 4, 4) RAS from pixels of the sample's pictures: the truth."""
    return face_poses(count) @ probe().picture()[1]


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
    matrix = marker_from_face() @ probe().picture()[1]
    return ProbeCalibration(matrix, size_px(), {"corner": CORNER_SIGMA_MM, "centre": 0.3}, 0.6, 0.5, 0.65, (), 0, (),
                            "made for the sample", VALIDATED_ON, depth_mm=DEPTH_MM, preset="IRAI sample")


def simulate_pictures(count: int, seed: int, progress: Progress = None, cancelled: Cancelled = None) -> np.ndarray:
    """(count, rows, columns) uint8: the CT under the probe, by `navigation.ct_ultrasound`; SYNTHETIC stands in them."""
    from ..navigation.ct_ultrasound import simulate_ultrasound, tissue_from_ct

    ct, masks = sample_case()
    labels = Volume(masks["Vessels"].array.astype(np.uint8), ct.grid, "vessels")
    tissue = tissue_from_ct(ct, labels, (1,))
    array, pictures = probe(), []
    for number, pose in enumerate(face_poses(count)):
        if cancelled is not None and cancelled():
            raise CancelledError("the sample was cancelled; nothing was changed")
        if progress is not None:
            progress(number / count, "simulating the ultrasound")
        pictures.append(simulate_ultrasound(tissue, pose, array, seed=seed + number).image)
    return np.stack(pictures)


def make_sample(folder: str | Path, *, frames: int = FRAMES, seed: int = SEED, progress: Progress = None,
                cancelled: Cancelled = None) -> FusionSample:
    """Simulate the recording into `folder` and read it back as any recording is read; one that is there is taken.

    Takes some seconds the first time. Raises CancelledError; nothing is written then.
    """
    path, calibration_path = Path(folder) / FILE, Path(folder) / CALIBRATION_FILE
    mark = f"seed {seed}, {frames} frames"
    _needle, tips = needle_poses(frames)
    calibration = sample_calibration()
    made = {"Needle": ToolTip(TIP_MM, SHAFT, TIP_SIGMA_MM, SHAFT_SIGMA_DEG, VALIDATED_ON)}
    if not (path.is_file() and calibration_path.is_file() and read_sequence(path).header.get("IRAISimulated") == mark):
        _write_sample(path, calibration_path, simulate_pictures(frames, seed, progress, cancelled), mark)
    return FusionSample(path, calibration_path, read_sequence(path), calibration, true_registration(), tips, made)


def _write_sample(path: Path, calibration_path: Path, pictures: np.ndarray, mark: str) -> None:
    frames = len(pictures)
    truth, calibration = true_registration(), sample_calibration()
    reference_from_ras = np.linalg.inv(truth)
    needle, _tips = needle_poses(frames)
    probes = reference_from_ras @ face_poses(frames) @ np.linalg.inv(marker_from_face())
    times = np.arange(frames) / RATE_HZ
    sequence = TrackedSequence(
        frames=pictures, time_s=times,
        transforms={"ProbeToReference": probes, "NeedleToReference": reference_from_ras @ needle},
        status={name: ["OK"] * frames for name in ("ProbeToReference", "NeedleToReference")}, orientation="MFA",
        fields=[{"FrameNumber": str(n), "ImageStatus": "OK", "DepthMm": f"{calibration.depth_mm}",
                 "Preset": "IRAI sample"} for n in range(frames)],
        header={"IRAISimulated": mark, "UltrasoundImageType": "BRIGHTNESS"})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sequence(path, sequence)
    with replacing(calibration_path) as temporary:
        temporary.write_text(json.dumps(calibration.to_dict(), indent=1) + "\n", encoding="utf-8")


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
