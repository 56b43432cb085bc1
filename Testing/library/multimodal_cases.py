"""Known poses applied to one image of a pair, and plain SimpleITK registration for comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from IRAILib.geometry import Grid, Mask, Volume
from IRAILib.geometry.itk import lps_matrix, to_sitk
from IRAILib.images import read_mask, read_volume
from scipy import ndimage, optimize
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

MODALITIES = ("CT", "MR_T1", "PET")
PAIRS = (("CT", "MR_T1"), ("CT", "PET"), ("MR_T1", "PET"))
CASES = ("STS_019", "STS_025")
SHIFT_MM, TURN_DEG = 20.0, 15.0
SHAPE = (34, 44, 48)
SPACING = (2.5, 2.5, 3.0)


def scan(data: Path, case: str, modality: str) -> Volume:
    """One image of a patient of the IBSI validation set."""
    return read_volume(data / "registration" / f"ibsi_validation_{case}" / f"{modality}_image.nii.gz")


def lesion(data: Path, case: str, modality: str) -> np.ndarray:
    """(n, 3) RAS mm points of its GTV."""
    mask = gtv(data, case, modality)
    return mask.grid.points_ras(np.argwhere(mask.array))


def gtv(data: Path, case: str, modality: str) -> Mask:
    """Its GTV, drawn once and carried to the other images by the data's authors."""
    return read_mask(data / "registration" / f"ibsi_validation_{case}" / f"{modality}_mask.nii.gz")


def mask_reference(data: Path, case: str, pair: tuple[str, str]) -> tuple[np.ndarray, float]:
    """((4, 4) moving_from_fixed that lays one GTV mask on the other, root mean square of what is left, mm).

    By their signed distances, within 7 mm of the fixed surface.
    """
    sides = [_signed_distance(gtv(data, case, modality)) for modality in pair]
    points, other = (lesion(data, case, modality) for modality in pair)
    centre = points.mean(axis=0)
    drawn = np.random.default_rng(0).uniform(points.min(axis=0) - 8.0, points.max(axis=0) + 8.0, (12000, 3))
    wanted = _read(sides[0], drawn)
    drawn, wanted = drawn[np.abs(wanted) < 7.0], wanted[np.abs(wanted) < 7.0]

    def matrix(p: np.ndarray) -> np.ndarray:
        out = np.eye(4)
        out[:3, :3] = Rotation.from_rotvec(p[3:] / 30.0).as_matrix()
        out[:3, 3] = centre + p[:3] - out[:3, :3] @ centre
        return out

    def left(p: np.ndarray) -> np.ndarray:
        m = matrix(p)
        return _read(sides[1], drawn @ m[:3, :3].T + m[:3, 3]) - wanted

    found = optimize.least_squares(left, np.r_[other.mean(axis=0) - centre, 0, 0, 0], loss="soft_l1").x
    return matrix(found), float(np.sqrt(np.mean(left(found) ** 2)))


def _signed_distance(mask: Mask, grow: int = 12) -> tuple[np.ndarray, np.ndarray]:
    array, spacing = np.pad(mask.array.astype(bool), grow), mask.grid.spacing_kji_mm
    matrix = mask.grid.ras_from_ijk.copy()
    matrix[:3, 3] -= matrix[:3, :3] @ np.full(3, grow)
    edt = ndimage.distance_transform_edt
    return edt(~array, sampling=spacing) - edt(array, sampling=spacing), np.linalg.inv(matrix)


def _read(side: tuple[np.ndarray, np.ndarray], points: np.ndarray) -> np.ndarray:
    index = points @ side[1][:3, :3].T + side[1][:3, 3]
    return ndimage.map_coordinates(side[0], index.T[::-1], order=1, mode="nearest")


def skins(data: Path, case: str) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) RAS mm points on the skin in CT and in MR, by a threshold in each, without the pictures' edges."""
    from skimage import measure

    out = []
    for modality in ("CT", "MR_T1"):
        image, points = scan(data, case, modality), lesion(data, case, modality)
        array = ndimage.gaussian_filter(image.array, (0.3, 0.8, 0.8))
        level = -300.0 if modality == "CT" else 0.35 * np.median(image.sample(points))
        tissue, _ = ndimage.label(ndimage.binary_opening(array > level, np.ones((1, 5, 5))))
        own = np.bincount(tissue[tuple(np.rint(image.grid.indices_kji(points)).astype(int).T)])
        own[0] = 0
        solid = np.pad(tissue == own.argmax(), ((0, 0), (12, 12), (12, 12)))
        solid = np.stack([ndimage.binary_fill_holes(ndimage.binary_closing(plane, iterations=5)) for plane in solid])
        seen = np.ones(image.grid.shape, bool)
        if modality == "MR_T1":  # what a resampling filled with 0 is no air
            empty = ndimage.binary_opening(image.array == 0, np.ones((1, 5, 5)))
            seen = ~ndimage.binary_dilation(empty, np.ones((1, 3, 3)), iterations=4)
        seen[:2] = seen[-2:] = seen[:, :3] = seen[:, -3:] = seen[..., :3] = seen[..., -3:] = False
        soft = ndimage.gaussian_filter(solid[:, 12:-12, 12:-12].astype(np.float32), 1.0 / image.grid.spacing_kji_mm)
        places = measure.marching_cubes(soft, 0.5)[0]
        out.append(image.grid.points_ras(places[seen[tuple(np.rint(places).astype(int).T)]]))
    return out[0], out[1]


def skin_distance_mm(surfaces: tuple[np.ndarray, np.ndarray], matrix: np.ndarray, points: np.ndarray) -> float:
    """Mean distance from the MR's skin, brought to the CT by a moving_from_fixed, to the CT's, 40 mm round points.

    NaN where no skin of the MR comes near them.
    """
    back = np.linalg.inv(matrix)
    home = surfaces[1] @ back[:3, :3].T + back[:3, 3]
    near = home[cKDTree(points).query(home)[0] < 40.0]
    if len(near) < 100:
        return float("nan")
    return float(cKDTree(surfaces[0]).query(near)[0].mean())


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
    method.SetMetricSamplingPercentage(0.2, seed)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.01, 200, 0.6)
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


def grid() -> Grid:
    """Of the made-up body."""
    matrix = np.diag([*SPACING, 1.0])
    matrix[:3, 3] = (-60.0, -55.0, -50.0)
    return Grid(SHAPE, matrix)


def body(seed: int = 0) -> np.ndarray:
    """(k, j, i) kind of tissue: 0 air, 1 fat, 2 muscle, 3 bone, 4 lesion; lumps without symmetry."""
    points = grid().all_points_ras()
    x, y, z = np.moveaxis(points, -1, 0)
    rng = np.random.default_rng(seed)
    inside = (x / 45) ** 2 + ((y + 5) / 38) ** 2 < 1 + 0.15 * np.sin(z / 25 + 1)
    muscle = ((x + 3) / 36) ** 2 + ((y + 8) / 29) ** 2 < 1 + 0.2 * np.sin(z / 18)
    kind = inside * 1 + muscle * 1
    bone = ((x - 8 - 0.15 * z) / 9) ** 2 + ((y + 8) / 8) ** 2 < 1
    kind[bone & inside] = 3
    for _ in range(6):
        centre, size = rng.uniform(-25, 25, 3), rng.uniform(6, 12, 3)
        kind[(((points - centre) / size) ** 2).sum(-1) < 1] = rng.choice([1, 3, 4])
    kind[(((points - (-15, 10, -5)) / (12, 9, 14)) ** 2).sum(-1) < 1] = 4
    return kind * inside


def contrast(kind: np.ndarray, values: tuple[float, ...], noise: float, seed: int, blur: float = 0.5,
             shading: bool = False) -> Volume:
    """The body in a contrast: one value a kind of tissue, blurred, perhaps shaded as by a surface coil, noisy."""
    array = ndimage.gaussian_filter(np.array(values)[kind], blur)
    if shading:
        array = array * np.exp(-grid().all_points_ras()[..., 1] / 60.0)
    array = array + np.random.default_rng(seed).normal(size=array.shape) * noise
    return Volume(array.astype(np.float32), grid(), "made up")
