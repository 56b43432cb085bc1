"""`irai fusion drr`: the radiograph a CT would give under a C-arm."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..geometry import CArmGeometry, InputError

POSE_HELP = """POSE.json holds a geometry and a pose. Geometry: "geometry" with source_mm, pixel0_mm, column_mm, row_mm,
size [columns, rows] and frame; or DICOM's keywords PositionerPrimaryAngle, PositionerSecondaryAngle (degrees),
DistanceSourceToDetector, DistanceSourceToIsocenter, ImagerPixelSpacing (mm), Columns, Rows (then the frame is the
table's: RAS of a patient head first, supine, the isocentre as origin). Pose: "table_from_ras" (or "pose"), a 4x4 from
RAS mm of the CT to that frame; or "isocentre_ras_mm" [x, y, z]. The JSON of `irai fusion xray` can be given."""
ENDING = "Exit status: 0 done, 2 bad input."
FLOATS = (".nrrd", ".mha", ".nii", ".nii.gz")


def add_step(commands) -> None:
    """Add `drr` to the steps of `irai fusion`."""
    parser = commands.add_parser("drr", help="the radiograph that a CT gives under a C-arm",
                                 description=f"{POSE_HELP}\n{ENDING}",
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path, metavar="CT", help="DICOM folder, NIfTI, NRRD, MetaImage; HU")
    parser.add_argument("--pose", type=Path, required=True, metavar="POSE.json")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG",
                        help=".png: a picture marked SYNTHETIC; .nrrd, .mha, .nii.gz: line integrals (no unit)")
    parser.add_argument("--bone", choices=("white", "black"), default="white", help="contrast of the picture")
    parser.add_argument("--spacing", type=float, metavar="MM", help="pool the CT's voxels to this first (faster)")
    parser.set_defaults(run=run_drr)


def run_drr(arguments: argparse.Namespace) -> int:
    """Render in a worker, write."""
    from ..images import read_volume
    from ..jobs import run_job
    from ..registration.xray.pose_file import read_pose_file
    from .progress import terminal_progress

    suffix = check_output(arguments.out, (".png", *FLOATS))
    if arguments.spacing is not None and not 0.1 <= arguments.spacing <= 20:
        raise InputError("--spacing: 0.1 to 20 mm")
    pose = read_pose_file(arguments.pose)
    if pose.geometry is None:
        raise InputError(f"{arguments.pose}: holds no X-ray geometry")
    if pose.table_from_ras is None and pose.geometry.frame.upper() != "RAS":
        raise InputError(f"{arguments.pose}: its geometry is in the frame {pose.geometry.frame}; say where the CT lies "
                         "in it (table_from_ras or isocentre_ras_mm)")
    tell = terminal_progress("drr")
    tell(0.0, "reading the CT")
    image = run_job("IRAILib.registration.xray:render_drr",
                    {"volume": read_volume(arguments.ct), "geometry": pose.geometry,
                     "table_from_ras": pose.table_from_ras, "spacing_mm": arguments.spacing}, progress=tell)
    if not image.any():
        raise InputError(f"{arguments.pose}: no ray meets the CT under this pose")
    if suffix == ".png":
        write_picture(as_picture(image, arguments.bone == "white", synthetic=True), arguments.out)
    else:
        write_integrals(image, pose.geometry, arguments.out)
    tell(1.0, "done")
    columns, rows = pose.geometry.size
    print(f"{arguments.out}: {columns}x{rows} pixels, line integrals up to {image.max():.2f}, frame "
          f"{pose.geometry.frame}")
    return 0


def check_output(path: Path, allowed: tuple[str, ...]) -> str:
    """The ending. Raises InputError for one that can't be written, or a folder that isn't there."""
    ending = next((suffix for suffix in allowed if path.name.lower().endswith(suffix)), None)
    if ending is None:
        raise InputError(f"{path}: must end in {', '.join(allowed)}")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: its folder doesn't exist")
    return ending


def as_picture(image: np.ndarray, white_bone: bool = True, synthetic: bool = False) -> np.ndarray:
    """(rows, columns) numbers as uint8, windowed between percentiles 0.5 and 99.5; marked when synthetic."""
    from ..images.dicom_write import burn_word

    low, high = np.percentile(image, [0.5, 99.5])
    share = np.clip((image - low) / max(float(high - low), 1e-12), 0, 1)
    picture = np.round(255 * (share if white_bone else 1 - share)).astype(np.uint8)
    return burn_word(picture[None], "SYNTHETIC")[0] if synthetic else picture


def write_picture(picture: np.ndarray, path: Path) -> None:
    """(rows, columns) or (rows, columns, 3) uint8 as PNG. Raises MissingPackageError without Pillow."""
    from ..geometry import MissingPackageError
    from ..images import replacing

    try:
        from PIL import Image
    except ImportError:
        raise MissingPackageError("pictures need Pillow: `pip install pillow`") from None
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def write_integrals(image: np.ndarray, geometry: CArmGeometry, path: Path) -> None:
    """Float image with the detector's pixel spacing (mm)."""
    import SimpleITK as sitk

    from ..images import replacing

    out = sitk.GetImageFromArray(image.astype(np.float32))
    out.SetSpacing([float(np.linalg.norm(geometry.column_mm)), float(np.linalg.norm(geometry.row_mm))])
    with replacing(path) as temporary:
        sitk.WriteImage(out, str(temporary))
