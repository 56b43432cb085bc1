"""`irai fusion xray`: where the patient of a CT lies under the C-arm, from one or two X-ray frames."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import CArmGeometry, InputError, RefusedError
from .fusion_drr import as_picture, check_output, write_picture

HELP = """XRAY: a DICOM XA or RF run (its header gives the geometry; --frame picks the frame), a picture (PNG, TIFF), or
NRRD/MetaImage, with the geometry in its --init file. --init: one JSON with the first guess of the pose and, where the
frame brings none, the geometry (see `irai fusion drr --help`); with two frames a second JSON for the second geometry.
The guess may be about 20 mm and 10 degrees off along and about each axis.
OUT: pose (4x4, RAS mm of the CT to the named frame), similarity, accepted, reason, uncertainty, rivals.
Exit status: 0 accepted, 2 bad input, 3 refused: OUT is written all the same, with accepted false and the reason."""


def add_step(commands) -> None:
    """Add `xray` to the steps of `irai fusion`."""
    parser = commands.add_parser("xray", help="2D/3D registration: a CT under one or two X-ray frames",
                                 description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path, metavar="CT", help="DICOM folder, NIfTI, NRRD, MetaImage; HU")
    parser.add_argument("xray", type=Path, metavar="XRAY", nargs="+", help="one or two frames")
    parser.add_argument("--init", type=Path, required=True, nargs="+", metavar="POSE.json")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--frame", type=int, nargs="+", default=[0], metavar="N", help="frame of each run, from 0")
    parser.add_argument("--labels", type=Path, metavar="MASK", help="label map of the CT with one number a vertebra")
    parser.add_argument("--vertebrae", metavar="A-B", help="the numbers in --labels that are vertebrae (default all)")
    parser.add_argument("--bone", choices=("auto", "white", "black"), default="auto",
                        help="contrast of pictures (DICOM says its own)")
    parser.add_argument("--overlay", type=Path, metavar="PNG", help="the registered CT's edges over the (first) frame")
    parser.add_argument("--timeout", type=float, metavar="S", help="give up after so many seconds")
    parser.set_defaults(run=run_xray)


def run_xray(arguments: argparse.Namespace) -> int:
    """Read, register in a worker, write. Raises InputError, RefusedError."""
    from ..images import read_volume
    from ..jobs import run_job
    from .progress import terminal_progress

    check_output(arguments.json, (".json",))
    if arguments.overlay:
        check_output(arguments.overlay, (".png",))
    images, geometries, start, kind = _frames(arguments)
    ct = read_volume(arguments.ct)
    call = {"ct": ct, "images": images, "geometries": geometries, "init": start, **kind}
    if arguments.labels:
        call["labels"], call["vertebrae"] = read_volume(arguments.labels), _numbers(arguments.vertebrae)
        if not call["labels"].grid.same_grid(ct.grid):
            raise InputError(f"{arguments.labels}: isn't on the grid of {arguments.ct}")
    result = run_job("IRAILib.registration.xray:register_xray", call, progress=terminal_progress("xray"),
                     timeout_s=arguments.timeout)
    document = {**result.to_dict(), "geometries": [geometry.to_dict() for geometry in geometries],
                "geometry": geometries[0].to_dict(), "ct": str(arguments.ct),
                "xray": [str(path) for path in arguments.xray]}
    _write_json(document, arguments.json)
    if arguments.overlay:
        drr = run_job("IRAILib.registration.xray:render_drr",
                      {"volume": ct, "geometry": geometries[0], "table_from_ras": result.table_from_ras,
                       "spacing_mm": 1.4})
        known = run_job("IRAILib.registration.xray:covered",
                        {"ct": ct, "geometry": geometries[0], "table_from_ras": result.table_from_ras})
        write_picture(overlay(images[0], drr, known), arguments.overlay)
    if not result.accepted:
        raise RefusedError(f"{arguments.json}: not accepted: {result.reason}")
    print(f"{arguments.json}: accepted, {result.reason}; {result.in_plane_mm:.1f} mm in the plane and "
          f"{result.depth_mm:.1f} mm in depth (1 SD), {result.seconds:.0f} s")
    print(f"validated on {result.validated_on}")
    return 0


def overlay(image: np.ndarray, drr: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """(rows, columns, 3) uint8: the frame in grey, the radiograph's strong edges in yellow where it is `known`.

    Greys go half by value, half by rank, so that counts, which a bright border leaves dark, still show the spine.
    """
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(drr, 1.5)
    down, along = np.gradient(smooth)
    edge = np.hypot(down, along)
    sure = np.ones(drr.shape) if known is None else ndimage.binary_erosion(known, iterations=6, border_value=1) * 1.0
    reach = max(15, min(drr.shape) // 8)
    usual = ndimage.uniform_filter(edge * sure, reach) / (ndimage.uniform_filter(sure, reach) + 1e-6)
    edge = edge * sure / (usual + 1e-6)
    strong = np.clip((edge - 1.6) / 1.2, 0, 1)[..., None]
    rank = np.searchsorted(np.sort(image, axis=None), image) / image.size
    grey = (0.5 * as_picture(image) + 127.5 * rank)[..., None].repeat(3, axis=2)
    return np.round(grey * (1 - strong) + np.array([255.0, 210.0, 0.0]) * strong).astype(np.uint8)


def _frames(arguments: argparse.Namespace) -> tuple[list[np.ndarray], list[CArmGeometry], np.ndarray, dict[str, Any]]:
    """(images, geometries, start, what is known of the grey values)."""
    from ..registration.xray.pose_file import read_pose_file

    paths = arguments.xray
    if len(paths) > 2:
        raise InputError(f"one or two X-ray frames, not {len(paths)}")
    if len(arguments.init) > len(paths):
        raise InputError("--init: more pose files than X-ray frames")
    poses = [read_pose_file(path) for path in arguments.init]
    start = next((pose.table_from_ras for pose in poses if pose.table_from_ras is not None), None)
    if start is None:
        raise InputError(f"{arguments.init[0]}: holds no first guess of the pose (table_from_ras or isocentre_ras_mm)")
    images, geometries, known = [], [], []
    for n, path in enumerate(paths):
        given = poses[n].geometry if n < len(poses) else None
        image, own, why = read_frame(path, arguments.frame[min(n, len(arguments.frame) - 1)], known)
        geometry = given or own
        if geometry is None:
            raise InputError(f"{why or f'{path}: brings no projection geometry'}; put one into its --init file")
        images.append(image)
        geometries.append(geometry)
    kind: dict[str, Any] = {"bone": arguments.bone}
    if all(known):
        kind = {"bone": "black", "intensities": False}
    return images, geometries, start, kind


def read_frame(path: Path, number: int, known: list[bool]) -> tuple[np.ndarray, CArmGeometry | None, str]:
    """(rows, columns), the geometry where the file has one, and why not where it should have one.

    Appends to `known` whether the contrast is sure.
    """
    from ..images import read_volume
    from ..images.dicom_scan import is_dicom
    from ..images.frames import read_frames
    from ..images.xa import read_xa

    if not path.is_file():
        raise InputError(f"{path}: no such file" if not path.exists() else f"{path}: is a folder; give one file")
    geometry, why = None, ""
    dicom = is_dicom(path)
    known.append(dicom)
    if dicom:
        run = read_xa(path)
        stack = run.frames
        _within(path, number, len(stack))
        try:
            geometry = run.geometry(number)
        except InputError as error:
            why = str(error)
        return run.log_frames(number, number + 1)[0], geometry, why
    if path.name.lower().endswith((".nrrd", ".mha", ".mhd", ".nii", ".nii.gz")):
        stack = _flat(path, read_volume)
    else:
        stack = read_frames(path).array
    _within(path, number, len(stack))
    return np.asarray(stack[number], np.float32), None, why


def _flat(path: Path, read_volume: Any) -> np.ndarray:
    """(n, rows, columns) of a 2D or 3D file."""
    import SimpleITK as sitk

    try:
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError:
        return read_volume(path).array
    if array.ndim not in (2, 3):
        raise InputError(f"{path}: isn't one grey picture or a stack of them")
    return array.reshape(-1, *array.shape[-2:])


def _within(path: Path, number: int, count: int) -> None:
    if not 0 <= number < count:
        raise InputError(f"{path}: has frames 0 to {count - 1}, not {number}")


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = text.split("-")
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or int(parts[0]) >= int(parts[1]):
        raise InputError(f"--vertebrae {text}: write the first and the last number as A-B")
    return list(range(int(parts[0]), int(parts[1]) + 1))


def _write_json(document: dict, path: Path) -> None:
    from ..images import replacing

    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
