"""What a simulated case should be, where its tumour lies, and masks as a reader draws them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from ..geometry import InputError, Mask, Volume
from ..geometry.distance import euclidean_distance_mm
from .breathing import LARGEST_BREATHING_MM
from .paint import PHASES
from .source import Source, largest_part

PLACES = ("deep", "subcapsular", "dome", "vessel")
CONTRASTS = ("hypo", "hyper")
SHAPES = ("sphere", "ellipsoid", "lobulated")


@dataclass(frozen=True)
class CaseSpec:
    """One simulated case. Millimetres, HU, degrees; the same spec gives the same case.

    Attributes:
        seed: of every random choice.
        tumor_radius_mm: radius of the ball of the tumour's volume, about.
        tumor_shape: "sphere", "ellipsoid" or "lobulated".
        margin_mm: minimal margin that the zone is sized for, before the organ's edge cuts it; may be negative.
        place: "deep", "subcapsular" (1.5 to 4 mm under the capsule), "dome" (under the diaphragm), "vessel"
            (beside the nearest large vessel).
        contrast: "hypo" or "hyper"-dense tumour.
        breathing_mm: largest displacement in the organ between the scans.
        contraction_percent: how much shorter the treated tissue gets in each direction (not part of the
            Jacobian's range for breathing).
        pre_phase, post_phase: "arterial", "portal" or "native".
        pre_slice_mm, post_slice_mm, pre_pixel_mm, post_pixel_mm: voxels; slices are contiguous.
        noise_hu: standard deviation in the middle of the body.
        rotation_deg, shift_mm: largest difference in how the patient lies.
    """

    seed: int = 1
    tumor_radius_mm: float = 10.0
    tumor_shape: str = "lobulated"
    margin_mm: float = 4.0
    place: str = "deep"
    contrast: str = "hypo"
    breathing_mm: float = 12.0
    contraction_percent: float = 3.0
    pre_phase: str = "portal"
    post_phase: str = "portal"
    pre_slice_mm: float = 1.5
    post_slice_mm: float = 1.5
    pre_pixel_mm: float = 1.4
    post_pixel_mm: float = 1.3
    noise_hu: float = 11.0
    rotation_deg: float = 2.0
    shift_mm: float = 10.0

    def __post_init__(self) -> None:
        for name, options in (("place", PLACES), ("contrast", CONTRASTS), ("tumor_shape", SHAPES),
                              ("pre_phase", tuple(PHASES)), ("post_phase", tuple(PHASES))):
            if getattr(self, name) not in options:
                raise InputError(f"{name} {getattr(self, name)!r}: choose one of {', '.join(options)}")
        limits = {"tumor_radius_mm": (3, 40), "margin_mm": (-10, 20), "breathing_mm": (0, LARGEST_BREATHING_MM),
                  "contraction_percent": (0, 30), "pre_slice_mm": (0.5, 10), "post_slice_mm": (0.5, 10),
                  "pre_pixel_mm": (0.5, 3), "post_pixel_mm": (0.5, 3), "noise_hu": (0, 60), "rotation_deg": (0, 10),
                  "shift_mm": (0, 40)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name} {getattr(self, name)}: choose {low} to {high}")

    def to_dict(self) -> dict:
        return asdict(self)


def tumor_centre(source: Source, spec: CaseSpec, rng: np.random.Generator, reach_mm: float) -> np.ndarray:
    """(3,) RAS mm of a tumour of that reach at the place the spec names.

    Raises InputError when the organ has no such place.
    """
    grid = source.organ_distance.grid
    depth = -source.organ_distance.array
    height = grid.all_points_ras()[..., 2]
    inside = depth > reach_mm + 1.5
    levels = np.percentile(height[depth > 0.0], [12.0, 75.0, 88.0])
    central = inside & (height > levels[0])
    vessels = source.vessels
    away = np.full(grid.shape, np.inf)
    if vessels.array.any():
        free = euclidean_distance_mm(~vessels.array, vessels.grid.spacing_kji_mm)
        away = Volume(free, vessels.grid).sample(grid.all_points_ras().reshape(-1, 3), outside=99.0).reshape(grid.shape)
    zone = reach_mm + max(spec.margin_mm, 0.0)
    if spec.place == "deep":
        chosen = _first(central & (depth > zone + 8.0) & (away > reach_mm + 3.0), central & (depth > zone + 4.0))
    elif spec.place == "subcapsular":
        chosen = _first(central & (depth < reach_mm + 4.0) & (height < levels[1]), central & (depth < reach_mm + 4.0))
    elif spec.place == "dome":
        chosen = _first(inside & (height > levels[2]) & (depth < reach_mm + 10.0), inside & (height > levels[1]))
    else:
        beside = (away > reach_mm + 0.5) & (away < reach_mm + 3.5)
        chosen = _first(central & beside & (depth > zone), central & beside)
    candidates = np.argwhere(chosen)
    if not len(candidates):
        raise InputError(f"no {spec.place} place for a tumour of {2.0 * reach_mm:.0f} mm in this organ; "
                         "choose a smaller tumour or another place")
    return grid.points_ras(candidates[rng.integers(len(candidates))][None])[0]


def _first(*choices: np.ndarray) -> np.ndarray:
    return next((c for c in choices if c.any()), choices[-1])


def reader_mask(mask: Mask, rng: np.random.Generator, shift_mm: float = 0.0, erode_mm: float = 0.0,
                rough_mm: float = 0.0) -> Mask:
    """The mask as a reader would draw it: shifted, drawn too small (or too large), its outline uneven.

    Args:
        mask: the exact structure.
        rng: direction of the shift and the outline.
        shift_mm: length of the shift, in a random direction.
        erode_mm: how far the outline lies inside the true one; negative lies outside.
        rough_mm: standard deviation of a smooth unevenness with a grain of about 6 mm.
    Returns: a mask on the same grid; an empty mask stays empty.
    Raises InputError when so much is eroded that nothing is left.
    """
    from scipy import ndimage

    direction = rng.standard_normal(3)
    direction *= shift_mm / np.linalg.norm(direction)
    if not mask.array.any():
        return mask
    room = mask.bounding_box_kji(abs(shift_mm) + abs(erode_mm) + 4.0 * rough_mm + 4.0)
    part = mask.crop(*room)
    spacing = part.grid.spacing_kji_mm
    distance = _fine_distance(part, abs(shift_mm) + abs(erode_mm) + 4.0 * rough_mm + 1.0)
    uneven = ndimage.gaussian_filter(rng.standard_normal(part.grid.shape), 3.0 / spacing)
    uneven *= rough_mm / max(float(uneven.std()), 1e-9)
    back = part.grid.indices_kji(part.grid.all_points_ras().reshape(-1, 3) - direction).T
    moved = ndimage.map_coordinates(distance, back, order=1, mode="nearest").reshape(part.grid.shape)
    drawn = moved + erode_mm + uneven < 0.0
    if not drawn.any():
        raise InputError(f"{mask.name or 'mask'}: eroding by {erode_mm} mm leaves nothing")
    out = np.zeros(mask.array.shape, bool)
    out[tuple(slice(a, a + n) for a, n in zip(*room, strict=True))] = largest_part(drawn)
    return mask.with_array(out)


def _fine_distance(mask: Mask, band_mm: float) -> np.ndarray:
    """(k, j, i) signed distance to the outline drawn smoothly through the voxel faces, mm, exact within a band."""
    from scipy import ndimage
    from scipy.spatial import cKDTree
    from skimage import measure

    spacing = mask.grid.spacing_kji_mm
    soft = ndimage.gaussian_filter(mask.array.astype(np.float32), 0.7, mode="constant")
    points, triangles = measure.marching_cubes(np.pad(soft, 1), 0.5)[:2]
    points = np.vstack([points, points[triangles].mean(axis=1)]) - 1.0
    distance = euclidean_distance_mm(~mask.array, spacing) + euclidean_distance_mm(mask.array, spacing)
    near = distance < band_mm + spacing.max()
    distance[near] = cKDTree(points * spacing).query(np.argwhere(near) * spacing)[0]
    return np.where(soft > 0.5, -distance, distance)


def study_specs(first_seed: int, count: int = 12) -> list[CaseSpec]:
    """Specs that go round the places, contrasts, phases and slice thicknesses; a third of each is harder.

    Case n differs from case n of another `first_seed` in everything that isn't part of the design.
    """
    specs = []
    for n in range(count):
        rng = np.random.default_rng([first_seed, n])
        contrast = CONTRASTS[(n // 4) % 2] if n < 8 else CONTRASTS[n % 2]
        phase_differs = n % 3 == 1
        spec = CaseSpec(
            seed=first_seed * 1000 + n,
            place=PLACES[n % 4],
            contrast=contrast,
            tumor_shape=SHAPES[int(rng.integers(3))],
            tumor_radius_mm=round(float(rng.uniform(7.0, 13.0)), 1),
            margin_mm=round(float(rng.uniform(-1.0, 7.0)), 1),
            breathing_mm=round(float(rng.uniform(6.0, 20.0)), 1),
            contraction_percent=round(float(rng.uniform(0.0, 2.0)), 1),
            pre_phase="arterial" if contrast == "hyper" else "portal",
            noise_hu=round(float(rng.uniform(8.0, 14.0)), 1))
        post_phase = {"arterial": "portal", "portal": "arterial"}[spec.pre_phase] if phase_differs else spec.pre_phase
        slices = [(1.5, 1.5), (2.5, 1.5), (1.5, 3.0), (1.0, 2.0)][(n + n // 4) % 4]
        specs.append(replace(spec, post_phase=post_phase, pre_slice_mm=slices[0], post_slice_mm=slices[1]))
    return specs
