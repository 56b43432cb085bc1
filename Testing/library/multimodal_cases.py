"""Known poses applied to one image of a pair, and plain SimpleITK registration for comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from IRAILib.geometry import Grid, Volume
from IRAILib.geometry.itk import lps_matrix, to_sitk
from IRAILib.images import read_mask, read_volume
from scipy.spatial.transform import Rotation

MODALITIES = ("CT", "MR_T1", "PET")
PAIRS = (("CT", "MR_T1"), ("CT", "PET"), ("MR_T1", "PET"))
CASES = ("STS_019", "STS_025")
SHIFT_MM, TURN_DEG = 20.0, 15.0


def scan(data: Path, case: str, modality: str) -> Volume:
    """One image of a patient of the IBSI validation set."""
    return read_volume(data / "registration" / f"ibsi_validation_{case}" / f"{modality}_image.nii.gz")


def lesion(data: Path, case: str, modality: str) -> np.ndarray:
    """(n, 3) RAS mm points of its GTV."""
    mask = read_mask(data / "registration" / f"ibsi_validation_{case}" / f"{modality}_mask.nii.gz")
    return mask.grid.points_ras(np.argwhere(mask.array))


def known_pose(rng: np.random.Generator, centre: np.ndarray, shift_mm: float = SHIFT_MM, turn_deg: float = TURN_DEG
               ) -> np.ndarray:
    """(4, 4) random rigid map about a centre, evenly up to a shift and a turn."""
    direction, axis = rng.normal(size=3), rng.normal(size=3)
    out = np.eye(4)
    out[:3, :3] = Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.radians(turn_deg) * rng.random()).as_matrix()
    out[:3, 3] = centre - out[:3, :3] @ centre + direction / np.linalg.norm(direction) * shift_mm * rng.random()
    return out


def moved_by(volume: Volume, pose: np.ndarray) -> Volume:
    """The image with its header moved: no voxel is touched."""
    return Volume(volume.array, Grid(volume.grid.shape, pose @ volume.grid.ras_from_ijk), volume.name)


def distances(a: np.ndarray, b: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n,) mm between where two (4, 4) maps bring points."""
    return np.linalg.norm(points @ (a - b)[:3, :3].T + (a - b)[:3, 3], axis=1)


def plain_simpleitk(fixed: Volume, moving: Volume, seed: int = 1) -> np.ndarray:
    """(4, 4) moving_from_fixed of SimpleITK's usual recipe: Mattes information, three levels, from the headers."""
    import SimpleITK as sitk

    a, b = to_sitk(fixed, np.float32), to_sitk(moving, np.float32)
    transform = sitk.Euler3DTransform()
    transform.SetCenter((fixed.grid.centre_ras * [-1, -1, 1]).tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.05, seed)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescent(1.0, 100, 1e-6, 10)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(transform, inPlace=True)
    method.SetNumberOfThreads(1)
    method.Execute(a, b)
    matrix = np.eye(4)
    centre = np.array(transform.GetCenter())
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    return lps_matrix(matrix)
