"""Step 6: the volume under the C-arm. Frames, DRRs and registrations as nodes; a verdict in words.

A frame is a slice that lies where its detector is: it knows its geometry (table frame, isocentre as origin) and, once
registered, where the patient's volume lies in it. A registration that is refused moves nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import CArmGeometry, InputError, LinearTransform
from ..geometry.projection import angles_of, geometry_from_angles
from ..jobs import run_job
from ..navigation.carm import ArmLimits, bulls_eye, progression
from .changes import ROLE, SceneChange, put_in_folder
from .fusion_eyes import only_in_green
from .fusion_views import polylines
from .nodes import matrix_to_vtk, points_from_markups, volume_from_node
from .transforms import transform_to_node

FOLDER = "FusionNav, C-arm"
GEOMETRY, POSE, VERDICT = "IRAI.Fusion.XrayGeometry", "IRAI.Fusion.TableFromRas", "IRAI.Fusion.XrayVerdict"
REGISTERED = "IRAI.Fusion.XrayInPlaneMm"
"""Of a frame whose pose was found and accepted: one standard deviation in its plane, mm."""
FRAME_ROLE, DRR_ROLE, PATH_ROLE, POSE_ROLE = ("fusion.xray", "fusion.drr", "fusion.xray.path", "fusion.xray.pose")
DRR_SPACING_MM = 1.4
LARGEST_PX = 400
"""A DRR for looking at is computed with at most so many pixels a side."""
Progress = Callable[[float, str], None] | None
Cancelled = Callable[[], bool] | None


def isocentre_pose(isocentre_ras: np.ndarray) -> np.ndarray:
    """(4, 4) table_from_ras of a patient head first, supine, who is not turned on the table: a shift alone."""
    point = np.asarray(isocentre_ras, float)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise InputError("isocentre: three finite numbers (R, A, S in mm) are needed")
    pose = np.eye(4)
    pose[:3, 3] = -point
    return pose


def isocentre_of(point_node, volume_node) -> np.ndarray:
    """(3,) RAS: the first point of a list, else the middle of the volume. Raises InputError without either."""
    points = points_from_markups(point_node)
    if len(points):
        return points[0]
    if volume_node is None:
        raise InputError("choose the CT in step 1, or place the isocentre")
    return volume_from_node(volume_node).grid.centre_ras


def geometry_for(size_px: tuple[int, int], *, primary_deg: float, secondary_deg: float, source_to_detector_mm: float,
                 source_to_isocentre_mm: float, mm_per_px: float) -> CArmGeometry:
    """A C-arm's geometry, its angles as DICOM has them (LAO and CRA positive). Raises InputError."""
    return geometry_from_angles(primary_deg, secondary_deg, source_to_detector_mm, source_to_isocentre_mm, mm_per_px,
                                size_px)


def geometry_of(node) -> CArmGeometry | None:
    """What a frame's node knows of its projection; None for a plain volume. Raises InputError for a damaged one."""
    if node is None:
        return None
    text = node.GetAttribute(GEOMETRY)
    if not text:
        return None
    try:
        return CArmGeometry.from_dict(json.loads(text))
    except ValueError as error:
        raise InputError(f"{node.GetName()}: its X-ray geometry is damaged ({error})") from None


def pose_of_frame(node) -> np.ndarray | None:
    """(4, 4) table_from_ras of a frame's node, None while it isn't known."""
    text = node.GetAttribute(POSE) if node is not None else None
    return np.array(json.loads(text), float) if text else None


def registered_sigma_mm(node) -> float | None:
    """One standard deviation in the plane of a frame that was registered and accepted; None for any other."""
    text = node.GetAttribute(REGISTERED) if node is not None else None
    return float(text) if text else None


def turn_to(node, run, number: int) -> None:
    """Lay a run's frame where the detector was at that frame: in a rotational run each has its own geometry."""
    pose = pose_of_frame(node)
    if pose is None or geometry_of(node) is None:
        return
    place_frame(node, run.geometry(number), pose)


def place_frame(node, geometry: CArmGeometry, table_from_ras: np.ndarray) -> None:
    """Lay a frame's node where its detector is, and note its geometry and its pose on it."""
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = geometry.column_mm, geometry.row_mm, geometry.normal
    matrix[:3, 3] = geometry.pixel0_mm
    node.SetIJKToRASMatrix(matrix_to_vtk(np.linalg.inv(table_from_ras) @ matrix))
    node.SetAttribute(GEOMETRY, json.dumps(geometry.to_dict()))
    node.SetAttribute(POSE, json.dumps(np.asarray(table_from_ras, float).tolist()))


def write_frame(node, pixels: np.ndarray, window: tuple[float, float] | None = None) -> None:
    """(rows, columns) into a frame's node; its window is set the first time, or as given (black, white)."""
    import slicer

    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(pixels)[None])
    display = node.GetDisplayNode()
    if display is None:
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        low, high = window or tuple(float(v) for v in np.percentile(pixels, (0.5, 99.5)))
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(max(high - low, 1e-6), (low + high) / 2.0)


def add_frame(name: str, pixels: np.ndarray, geometry: CArmGeometry, table_from_ras: np.ndarray,
              role: str = FRAME_ROLE, replaces: Any = None) -> Any:
    """A frame as a volume node of one slice, at its detector; `replaces` goes when it is there."""
    with SceneChange(replaces=[replaces]) as change:
        node = change.add("vtkMRMLScalarVolumeNode", name, role)
        write_frame(node, pixels)
        place_frame(node, geometry, table_from_ras)
        node.SetAttribute("DICOM.Modality", "XA")
        put_in_folder([node], FOLDER)
    return node


def load_run(path: str | Path, table_from_ras: np.ndarray, frame: int = 0) -> tuple[Any, Any, list[str]]:
    """(frame's node, XARun, notes) of a DICOM XA or RF run. Raises InputError for a file that can't be used.

    A run whose header has no full geometry is loaded all the same and says what is missing: it can be subtracted and
    searched for vessels, not registered.
    """
    from ..images.xa import read_xa

    run = read_xa(path)
    number = int(np.clip(frame, 0, len(run.frames) - 1))
    notes = list(run.notes)
    try:
        geometry = run.geometry(number)
    except InputError as error:
        notes.append(str(error))
        geometry = None
    pixels = np.asarray(run.frames[number])
    if geometry is None:
        with SceneChange() as change:
            node = change.add("vtkMRMLScalarVolumeNode", Path(path).stem, FRAME_ROLE)
            write_frame(node, pixels)
            put_in_folder([node], FOLDER)
    else:
        node = add_frame(Path(path).stem, pixels, geometry, table_from_ras)
    return node, run, notes


def take_live(frame, table_from_ras: np.ndarray, before: Any = None) -> Any:
    """The newest frame that a C-arm sent (link.carm.CArmFrame), as a node with its geometry; `before` is replaced.

    Raises InputError when none came, or the one that came says too little of its geometry (then in its own words).
    """
    if frame is None:
        raise InputError("no frame of a C-arm has come over the link (IMAGE Fluoro_Detector, see Docs/OpenIGTLink.md)")
    if frame.geometry is None:
        raise InputError(frame.reason)
    pixels = np.array(frame.image.array[0])
    pixels = pixels if pixels.ndim == 2 else pixels[..., 0]
    name = f"Live X-ray {angle_text(*angles_of(frame.geometry.center_mm - frame.geometry.source_mm))}"
    return add_frame(name, pixels.astype(pixels.dtype.newbyteorder("="), copy=False), frame.geometry, table_from_ras,
                     replaces=before if before is not None and before.GetAttribute(ROLE) == FRAME_ROLE else None)


def compute_drr(volume_node, geometry: CArmGeometry, table_from_ras: np.ndarray, *, progress: Progress = None,
                cancelled: Cancelled = None) -> Any:
    """The radiograph that a geometry would see of the CT, as a node. The one of before is replaced.

    Raises InputError, CancelledError, MissingPackageError (torch): the scene stays.
    """
    import slicer

    if volume_node is None:
        raise InputError("choose the CT in step 1")
    if progress is not None:
        progress(0.1, "computing the radiograph")
    smaller = _smaller(geometry)
    image = run_job("IRAILib.registration.xray:render_drr",
                    {"volume": _plain(volume_node), "geometry": smaller, "table_from_ras": table_from_ras,
                     "spacing_mm": DRR_SPACING_MM}, cancelled=cancelled)
    if not np.ptp(image) > 0:
        raise InputError("this geometry sees nothing of the CT; check isocentre, angles and distances")
    primary, secondary = angles_of(geometry.center_mm - geometry.source_mm)
    before = next((node for node in _with_role(slicer.mrmlScene, DRR_ROLE)), None)
    return add_frame(f"DRR (computed) {angle_text(primary, secondary)}", image, smaller, table_from_ras, DRR_ROLE,
                     before)


@dataclass(frozen=True)
class XrayVerdict:
    """What a 2D/3D registration says: accepted or not, in one line, with its rows for a table."""

    accepted: bool
    text: str
    rows: tuple[tuple[str, str], ...]


def register_frame(volume_node, frame_node, init: np.ndarray, *, geometry: CArmGeometry | None = None,
                   progress: Progress = None, cancelled: Cancelled = None) -> XrayVerdict:
    """Find where the CT lies in an X-ray frame. Accepted: the frame moves to where the patient was seen.

    Args: init: (4, 4) table_from_ras to start from, up to about 20 mm and 10 degrees off. geometry: of a plain volume.
    Returns: the verdict, also of a refused result, which moves nothing. Raises InputError, CancelledError,
    MissingPackageError: the scene stays.
    """
    if volume_node is None or frame_node is None:
        raise InputError("choose the CT in step 1 and the X-ray frame here")
    own = geometry_of(frame_node) or geometry
    if own is None:
        raise InputError(f"{frame_node.GetName()}: its projection is not known; give angles and distances")
    import slicer

    image = np.array(slicer.util.arrayFromVolume(frame_node)[0])
    result = run_job("IRAILib.registration.xray:register_xray",
                     {"ct": _plain(volume_node), "images": [image], "geometries": [own], "init": init},
                     progress=progress, cancelled=cancelled)
    frame_node.SetAttribute(VERDICT, json.dumps(result.to_dict()))
    if result.accepted:
        before = next((node for node in _with_role(slicer.mrmlScene, POSE_ROLE)), None)
        with SceneChange(replaces=[before]) as change:
            node = change.add("vtkMRMLLinearTransformNode", "TableToRAS", POSE_ROLE)
            transform_to_node(LinearTransform(result.table_from_ras, "Table", "RAS"), node)
            put_in_folder([node], FOLDER)
            place_frame(frame_node, own, result.table_from_ras)
            frame_node.SetAttribute(REGISTERED, repr(float(result.in_plane_mm)))
    return _verdict(result)


def drawn_path(scene) -> Any:
    """The node of the path that is drawn on a frame, or None."""
    return next(iter(_with_role(scene, PATH_ROLE)), None)


def _verdict(result) -> XrayVerdict:
    rows = (("Similarity", f"{result.similarity:.2f}"), ("In the plane", f"± {result.in_plane_mm:.1f} mm"),
            ("In depth", f"± {result.depth_mm:.1f} mm"), ("Moved from the start", f"{result.moved_mm:.1f} mm, "
                                                          f"{result.turned_deg:.1f}°"),
            ("Starts that agree", f"{100 * result.agreement:.0f} %"), ("Took", f"{result.seconds:.0f} s"))
    word = "ACCEPTED" if result.accepted else "REFUSED, nothing was moved"
    return XrayVerdict(bool(result.accepted), f"{word}: {result.reason}. Validated on: {result.validated_on}", rows)


def draw_path_on(frame_node, path: tuple[np.ndarray, np.ndarray] | None, sigma_mm: float = 0.0) -> str:
    """Draw a path (entry, target) on a frame, with its band of two standard deviations. Returns what to say.

    Without a path the drawing goes. Raises InputError for a frame without geometry.
    """
    import slicer

    from ..navigation.path_overlay import project_path

    scene = slicer.mrmlScene
    node = drawn_path(scene)
    if path is None:
        if node is not None:
            scene.RemoveNode(node)
        return ""
    geometry, pose = geometry_of(frame_node), pose_of_frame(frame_node)
    if geometry is None or pose is None:
        raise InputError("the path is drawn on a frame whose geometry is known: register it, or compute a DRR")
    found = project_path(np.array(path), geometry, table_from_ras=pose, sigma_mm=sigma_mm)
    if not found.seen:
        if node is not None:
            scene.RemoveNode(node)
        return "The path is not in this picture."
    keep = np.isfinite(found.pixels).all(axis=1)
    along = np.gradient(found.pixels[keep], axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.maximum(np.linalg.norm(along, axis=1), 1e-9)[:, None]
    band = np.nan_to_num(found.band_px[keep])[:, None]
    lines = [found.pixels[keep]]
    if sigma_mm > 0:
        lines += [found.pixels[keep] + sign * band * across for sign in (-1.0, 1.0)]
    circle = np.linspace(0.0, 2.0 * np.pi, 25)
    lines.append(found.tip_px + 4.0 * np.stack([np.cos(circle), np.sin(circle)], axis=1))
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLModelNode", "Path on the X-ray")
        node.SetAttribute(ROLE, PATH_ROLE)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetColor(1.0, 0.82, 0.0)
        display.SetLineWidth(3)
        display.SetVisibility2D(True)
        display.SetSliceDisplayModeToProjection()
        only_in_green(node)
        put_in_folder([node], FOLDER)
    node.SetAndObservePolyData(polylines([to_ras(frame_node, line) for line in lines]))
    doubt = f" The band is ± {2.0 * sigma_mm:.1f} mm: two standard deviations." if sigma_mm > 0 else ""
    return f"The path is foreshortened to {100 * found.foreshortening:.0f} %: 0 % is the bull's eye.{doubt}"


def to_ras(frame_node, pixels: np.ndarray) -> np.ndarray:
    """(n, 3) RAS of (n, 2) pixels (column, row) of a frame, on its detector."""
    from .needle import image_to_ras

    matrix = image_to_ras(frame_node)
    return np.asarray(pixels, float) @ matrix[:3, :2].T + matrix[:3, 3]


def angles_for_path(path: tuple[np.ndarray, np.ndarray], table_from_ras: np.ndarray
                    ) -> tuple[tuple[float, float], list[tuple[str, str]]]:
    """((primary, secondary) of the bull's eye, rows for a table): the C-arm looks down the path, and from its side.

    Of the two ways along a line the one that the arm reaches, with the tube further down, is taken. Raises InputError
    for a path of no length.
    """
    entry, target = (np.asarray(point, float) for point in path)
    axis = np.asarray(table_from_ras, float)[:3, :3] @ (target - entry)
    if not np.linalg.norm(axis) > 1e-6:
        raise InputError("the path has no length: its two points lie on each other")
    best, side = bulls_eye(axis)[0], progression(axis)[0]
    rows = [("Bull's eye", _view_text(best)), ("From the side", _view_text(side)),
            ("Limits", f"{ArmLimits().name}: set your own in scripts")]
    return (best.primary_deg, best.secondary_deg), rows


def _view_text(view) -> str:
    text = angle_text(view.primary_deg, view.secondary_deg)
    return text if view.reachable else f"{text}, {view.deviation_deg:.0f}° off: the arm doesn't reach the view itself"


def angle_text(primary_deg: float, secondary_deg: float) -> str:
    """LAO 30° CRA 10°, as on the C-arm's display."""
    return (f"{'LAO' if primary_deg >= 0 else 'RAO'} {abs(primary_deg):.0f}° "
            f"{'CRA' if secondary_deg >= 0 else 'CAU'} {abs(secondary_deg):.0f}°")


def _smaller(geometry: CArmGeometry) -> CArmGeometry:
    """The same view with fewer, larger pixels."""
    step = max(geometry.size) / LARGEST_PX
    if step <= 1:
        return geometry
    size = tuple(max(int(n / step), 1) for n in geometry.size)
    shift = (step - 1.0) / 2.0
    return CArmGeometry(geometry.source_mm, geometry.pixel0_mm + shift * (geometry.column_mm + geometry.row_mm),
                        geometry.column_mm * step, geometry.row_mm * step, (size[0], size[1]), geometry.frame)


def _plain(volume_node):
    from .fusion_volumes import plain_volume

    return plain_volume(volume_from_node(volume_node))


def _with_role(scene, role: str) -> list[Any]:
    nodes = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
    return [node for node in nodes if node.GetAttribute(ROLE) == role]
