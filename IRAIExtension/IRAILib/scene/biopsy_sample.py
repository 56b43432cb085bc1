"""The sample: a painted liver with a lesion, and a table of other painted patients. Made here; nothing is downloaded.

Everything carries the word SYNTHETIC: the voxels, the nodes' attribute, the table's name and first column. The painted
outcome depends on the lesion's dark core and on albumin, by a known formula; it says nothing about patients.
"""

from __future__ import annotations

import csv
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..geometry import CancelledError, Grid, Mask, Volume
from ..images.atomic import replacing
from ..images.dicom_write import SYNTHETIC_WORD, burn_word
from .biopsy_case import SYNTHETIC, BiopsyCase
from .changes import SceneChange, put_in_folder
from .nodes import SegmentRef
from .write import mask_to_segment, volume_to_node

FOLDER = "Virtual biopsy sample (synthetic)"
NAME = "Synthetic liver"
SHAPE, SPACING_KJI_MM = (40, 112, 128), (2.0, 1.2, 1.2)
CENTRE_RAS = np.array([18.0, 6.0, -4.0])
LIVER_COLOR, LESION_COLOR = (0.86, 0.60, 0.45), (0.94, 0.45, 0.15)
PATIENTS = 60
SEED = 40
WINDOW, LEVEL = 300.0, 90.0
TABLE = "synthetic_cohort.csv"


@dataclass(frozen=True)
class Painted:
    """One painted patient. core: share of the lesion's radius that is dark; radius_mm: mean of its three radii."""

    volume: Volume
    lesion: Mask
    organ: Mask
    radius_mm: float
    core: float
    albumin_g_per_l: float
    age_years: float


def paint_patient(seed: int, *, small: bool = False) -> Painted:
    """A portal-venous CT of a liver with one lesion, HU, RAS mm; the same for the same seed.

    small: only the box round the lesion, for the table of others; texture and noise are alike, not the same.
    """
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    radii = rng.uniform(7.0, 12.0) * rng.uniform(0.85, 1.15, 3)
    core, rim, grain = rng.uniform(0.2, 0.85), rng.uniform(5.0, 35.0), rng.uniform(6.0, 22.0)
    shape = (24, 40, 40) if small else SHAPE
    grid = _grid(shape, CENTRE_RAS if small else np.zeros(3))
    points = grid.points_ras(np.argwhere(np.ones(shape, bool)).astype(float)).reshape(*shape, 3)
    wobble = gaussian_filter(rng.normal(size=shape), 3.0)
    distance = np.linalg.norm((points - CENTRE_RAS) / radii, axis=-1) + 0.10 * wobble / wobble.std()
    organ = np.linalg.norm((points - np.array([8.0, 2.0, -2.0])) / np.array([56.0, 46.0, 34.0]), axis=-1) < 1.0
    body = np.linalg.norm(points[..., :2] / np.array([74.0, 62.0]), axis=-1) < 1.0
    lesion = (distance < 1.0) & organ
    values = np.where(body, 45.0, -1000.0)
    values[organ] = 108.0
    texture = gaussian_filter(rng.normal(size=shape), (0.7, 1.1, 1.1))
    values[lesion] = 95.0 + rim + grain * (texture / texture.std())[lesion]
    dark = lesion & (distance < core)
    values[dark] = 42.0 + 0.5 * grain * (texture / texture.std())[dark]
    noise = gaussian_filter(rng.normal(size=shape), (0.0, 0.7, 0.7))
    values = gaussian_filter(values, (0.3, 0.6, 0.6)) + 9.0 * noise / noise.std() * body
    array = burn_word(np.round(values).astype(np.int16), SYNTHETIC_WORD) if not small else \
        np.round(values).astype(np.int16)
    return Painted(Volume(array, grid, NAME, metadata={"modality": "CT"}), Mask(lesion, grid, "Lesion"),
                   Mask(organ, grid, "Liver"), float(radii.mean()), float(core), float(rng.normal(37.0, 5.0)),
                   float(rng.uniform(45.0, 82.0)))


def _grid(shape: tuple[int, int, int], centre: np.ndarray) -> Grid:
    """Columns run to the patient's left and rows to the back, as scanners write them."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(SPACING_KJI_MM[::-1]) * np.array([-1.0, -1.0, 1.0])
    matrix[:3, 3] = centre - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2.0)
    return Grid(shape, matrix)


def load_sample(seed: int = SEED) -> tuple[BiopsyCase, Painted]:
    """Put the sample patient into the scene: volume, lesion and liver as segments. Returns the case and its truth."""
    painted = paint_patient(seed)
    with SceneChange() as change:
        volume = volume_to_node(painted.volume, change.add("vtkMRMLScalarVolumeNode", f"{NAME} ({SYNTHETIC_WORD})",
                                                           "biopsy.sample.volume"))
        volume.SetAttribute("DICOM.Modality", "CT")
        volume.SetAttribute(SYNTHETIC, "1")
        volume.GetDisplayNode().SetAutoWindowLevel(False)
        volume.GetDisplayNode().SetWindowLevel(WINDOW, LEVEL)
        node = change.add("vtkMRMLSegmentationNode", f"Segments ({SYNTHETIC_WORD})", "biopsy.sample.segmentation")
        node.CreateDefaultDisplayNodes()
        refs = [SegmentRef(node, mask_to_segment(node, mask, name, color)) for mask, name, color in (
            (painted.lesion, "Lesion", LESION_COLOR), (painted.organ, "Liver", LIVER_COLOR))]
        display = node.GetDisplayNode()
        display.SetOpacity2DFill(0.0)
        display.SetSegmentOpacity3D(refs[1].segment_id, 0.15)
        put_in_folder(change.added, FOLDER)
    return BiopsyCase(volume, *refs), painted


def sample_folder() -> Path:
    """Where the sample's table and model lie: a folder of this computer's temporary files, one a version."""
    folder = Path(tempfile.gettempdir()) / f"irai-virtual-biopsy-{__version__}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def response_probability(painted: Painted) -> float:
    """The formula by which the painted patients respond: a darker core and more albumin make it likelier."""
    return 1.0 / (1.0 + math.exp(-(5.0 * (painted.core - 0.5) + 0.12 * (painted.albumin_g_per_l - 37.0))))


def sample_cohort(settings: Any, patients: int = PATIENTS, progress=None, cancelled=None) -> Path:
    """The table of other painted patients in `sample_folder`, painted in a worker process when it isn't there yet."""
    from ..jobs import run_job

    folder = sample_folder()
    path = folder / TABLE
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as stream:
            hashes = [row.get("settings_hash") for row in csv.DictReader(stream)]
        if hashes == [settings.hash] * patients:
            return path
    return run_job("IRAILib.scene.biopsy_sample:make_cohort",
                   {"folder": folder, "settings": settings, "patients": patients}, progress=progress,
                   cancelled=cancelled)


def make_cohort(folder: Path, settings: Any, patients: int = PATIENTS, progress=None, cancelled=None) -> Path:
    """Write the table of other painted patients: clinical columns, features, response. Returns the file.

    Args: settings: radiomics Settings, the same as this patient's. Runs long enough for a worker process.
    """
    from ..biopsy.radiomics import extract

    rows: list[dict[str, Any]] = []
    for number in range(patients):
        if cancelled is not None and cancelled():
            raise CancelledError("the sample was cancelled; nothing was written")
        if progress is not None:
            progress(number / patients, f"Painting patient {number + 1} of {patients}")
        painted = paint_patient(1000 + number, small=True)
        found = extract(painted.volume, painted.lesion, settings)
        yes = np.random.default_rng(5000 + number).uniform() < response_probability(painted)
        rows.append({"patient": f"{SYNTHETIC_WORD}-{number + 1:03d}", "settings_hash": settings.hash,
                     "age_years": round(painted.age_years), "albumin_g_per_l": round(painted.albumin_g_per_l, 1),
                     "response": "yes" if yes else "no",
                     **{key: feature.value for key, feature in found.features.items()}})
    path = Path(folder) / TABLE
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    return path
