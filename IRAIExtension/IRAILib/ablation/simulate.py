"""Cases with known truth: a tumour and an ablation zone painted into a real CT that breathes in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..geometry import Grid, GridTransform, InputError, Mask, Volume, resample
from .breathing import Contraction, Motion, MotionTransform, breathing_motion
from .cases import CaseSpec, tumor_centre
from .paint import PHASES, Texture, TumorPaint, ZonePaint, in_phase, scan, with_noise
from .shapes import TUMOR_POINTS, StarShape, Zone, margins_mm, star_shape
from .source import Source, prepare_source

TRUTH_GRID_MM = 3.0
FIT_POINTS = 4000
FIT_ZONE_POINTS = 30_000
FIT_ROUNDS = 12
BEYOND_MM = 25.0
CONTRAST_HU = {("hypo", "portal"): -48.0, ("hypo", "arterial"): -34.0, ("hypo", "native"): -14.0,
               ("hyper", "portal"): 30.0, ("hyper", "arterial"): 45.0, ("hyper", "native"): 14.0}
RIM_HU = {"arterial": 22.0, "portal": 12.0, "native": 0.0}


@dataclass(frozen=True, eq=False)
class SimulatedCase:
    """A pre and a post scan, what is in them, and the truth.

    Attributes:
        pre, post: int16 HU, frames "pre" and "post"; they share no noise.
        tumor, organ_pre: exact masks on the pre grid. ablation, organ_post: exact masks on the post grid.
        pre_from_post: the motion on a 3 mm grid, for files; `motion` is exact.
        true_mam_mm: smallest signed distance from the moved exact tumour surface to the exact zone's surface.
        true_mam_free_mm: the same over the surface farther than `capsule_mm` from the organ's edge (NaN if none).
        thinnest_point_ras: (3,) where `true_mam_mm` is found, post frame.
        tumor_shape: exact, pre frame. zone: exact, post frame.
        jacobian_range: smallest and largest Jacobian of the breathing over the organ.
        tumor_volume_change_percent: true change of the tumour's volume by breathing and contraction.
    """

    spec: CaseSpec
    pre: Volume
    post: Volume
    tumor: Mask
    ablation: Mask
    organ_pre: Mask
    organ_post: Mask
    pre_from_post: GridTransform
    motion: Motion
    tumor_shape: StarShape
    zone: Zone
    true_mam_mm: float
    true_mam_free_mm: float
    capsule_mm: float
    thinnest_point_ras: np.ndarray
    jacobian_range: tuple[float, float]
    tumor_volume_change_percent: float

    @property
    def post_from_pre(self) -> MotionTransform:
        """The true motion of a point of the pre scan, exact."""
        return MotionTransform(self.motion, self.pre_from_post.grid, forward=True)

    def to_dict(self) -> dict:
        """Plain values, as truth.json holds them."""
        return {
            "synthetic": True,
            "true_mam_mm": round(self.true_mam_mm, 4),
            "true_mam_beyond_capsule_mm": None if np.isnan(self.true_mam_free_mm) else round(self.true_mam_free_mm, 4),
            "capsule_mm": self.capsule_mm,
            "thinnest_point_ras": [round(float(x), 3) for x in self.thinnest_point_ras],
            "tumor_centre_pre_ras": [round(float(x), 3) for x in self.tumor_shape.centre_ras],
            "zone_centre_post_ras": [round(float(x), 3) for x in self.zone.star.centre_ras],
            "breathing_jacobian": [round(j, 4) for j in self.jacobian_range],
            "tumor_volume_change_percent": round(self.tumor_volume_change_percent, 2),
            "contraction_percent": self.spec.contraction_percent,
            "spec": self.spec.to_dict(),
        }


def simulate_case(ct: Volume, organ: Mask, spec: CaseSpec, *, labels: Volume | None = None, capsule_mm: float = 5.0,
                  progress: Callable[[float, str], None] | None = None) -> SimulatedCase:
    """Paint a tumour, breathe, ablate, scan again.

    Args:
        ct: HU, an adult's trunk with the whole organ; organ: mask on the same grid.
        spec: what to make.
        labels: the wheel's label map, from which other contrast phases know vessels, spleen and kidneys.
        capsule_mm: tumour surface nearer than this to the organ's edge is left out of `true_mam_free_mm`.
    Raises: InputError when the organ has no such place, or the CT is unfit.
    """
    tell = progress or (lambda share, text: None)
    tell(0.0, "taking the noise out of the CT")
    return simulate_from(prepare_source(ct, organ, labels), spec, capsule_mm=capsule_mm, progress=progress)


def simulate_from(source: Source, spec: CaseSpec, *, capsule_mm: float = 5.0,
                  progress: Callable[[float, str], None] | None = None) -> SimulatedCase:
    """`simulate_case` where many cases are made from one prepared CT."""
    tell = progress or (lambda share, text: None)
    rng = np.random.default_rng(spec.seed)
    tell(0.3, "placing tumour and zone")
    motion = breathing_motion(source.organ, rng, spec.breathing_mm, rotation_deg=spec.rotation_deg,
                              shift_mm=spec.shift_mm)
    tumor = _tumor(source, spec, rng)
    zone, motion = _zone(source, spec, rng, tumor, motion)
    pre_grid = _pre_grid(source, spec, rng)
    post_grid = _post_grid(source, spec, rng, motion)
    truth = motion.grid_transform(_grown(post_grid, 30.0).resampled_grid(TRUTH_GRID_MM))
    tell(0.4, "scanning")
    pre, post = _scans(source, spec, rng, tumor, zone, motion, pre_grid, post_grid, truth)
    tell(0.9, "writing down the truth")
    margins, surface = _true_margins(tumor, zone, motion)
    free = source.outside_organ_mm(tumor.surface_points(TUMOR_POINTS)) < -capsule_mm
    inside_organ = source.organ.grid.points_ras(np.argwhere(source.organ.array)[::7])
    jacobian = motion.breathing_jacobian(inside_organ)
    within = tumor.centre_ras + 0.6 * (tumor.surface_points(400) - tumor.centre_ras)
    change = 100.0 * (float(motion.volume_ratio(within).mean()) - 1.0)
    return SimulatedCase(
        spec, pre, post,
        _mask(pre_grid, tumor.level, tumor.centre_ras, tumor.reach_mm, "tumor"),
        _mask(post_grid, zone.level, zone.star.centre_ras, zone.star.reach_mm, "ablation"),
        _organ_mask(source, pre_grid, None), _organ_mask(source, post_grid, truth),
        truth, motion, tumor, zone, float(margins.min()), float(margins[free].min()) if free.any() else float("nan"),
        capsule_mm, surface[int(np.argmin(margins))], (float(jacobian.min()), float(jacobian.max())), change)


def _tumor(source: Source, spec: CaseSpec, rng: np.random.Generator) -> StarShape:
    form = {"sphere": (0.0, 0.0), "ellipsoid": (0.25, 0.0), "lobulated": (0.1, 0.16)}[spec.tumor_shape]
    shape = star_shape(rng, np.zeros(3), spec.tumor_radius_mm, elongation=form[0], roughness=form[1])
    shape = shape.scaled(spec.tumor_radius_mm / shape.mean_radius_mm)
    return replace(shape, centre_ras=tumor_centre(source, spec, rng, shape.reach_mm))


def _zone(source: Source, spec: CaseSpec, rng: np.random.Generator, tumor: StarShape, motion: Motion
          ) -> tuple[Zone, Motion]:
    """A zone somewhat off the tumour, sized so that the uncut margin is the spec's; the contraction goes with it."""
    off = rng.standard_normal(3)
    off *= rng.uniform(1.0, 3.0) / np.linalg.norm(off)
    antenna = rng.standard_normal(3) * [1.0, 1.0, 0.4]
    centre = tumor.centre_ras + off
    if float(source.outside_organ_mm(centre[None])[0]) > -2.0:
        centre = tumor.centre_ras
    radius = tumor.mean_radius_mm + spec.margin_mm + 3.0
    shape = star_shape(rng, np.zeros(3), radius, elongation=0.18, roughness=0.11, axis=antenna)
    for _ in range(3):
        moved = motion if not spec.contraction_percent else replace(
            motion, contraction=Contraction(centre, shape.mean_radius_mm, spec.contraction_percent / 100.0))
        shape = replace(shape, centre_ras=moved.post_from_pre(centre[None])[0])
        shape = _fitted(shape, moved.post_from_pre(tumor.surface_points(FIT_POINTS)), spec.margin_mm)
    return Zone(shape, lambda points: source.outside_organ_mm(moved.pre_from_post(points))), moved


def _fitted(shape: StarShape, tumor_points: np.ndarray, margin_mm: float) -> StarShape:
    """The shape scaled until its smallest margin round the points is `margin_mm`."""
    low, high = 0.3, 3.0
    for _ in range(FIT_ROUNDS):
        middle = 0.5 * (low + high)
        zone = Zone(shape.scaled(middle))
        if margins_mm(tumor_points, zone, zone.surface(FIT_ZONE_POINTS)).min() < margin_mm:
            low = middle
        else:
            high = middle
    return shape.scaled(0.5 * (low + high))


def _true_margins(tumor: StarShape, zone: Zone, motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """Margins (n,) mm and where (n, 3), post frame, over the dense exact tumour surface."""
    moved = motion.post_from_pre(tumor.surface_points(TUMOR_POINTS))
    return margins_mm(moved, zone), moved


def _axial_grid(low_ras: np.ndarray, high_ras: np.ndarray, pixel_mm: float, slice_mm: float) -> Grid:
    """Patient-aligned axial slices (columns to the left, rows to the back, slices to the head) over a box."""
    spacing = np.array([pixel_mm, pixel_mm, slice_mm])
    count = np.maximum(1, np.floor((high_ras - low_ras) / spacing).astype(int))
    matrix = np.diag([-pixel_mm, -pixel_mm, slice_mm, 1.0])
    matrix[:3, 3] = [high_ras[0] - pixel_mm / 2.0, high_ras[1] - pixel_mm / 2.0, low_ras[2] + slice_mm / 2.0]
    return Grid(tuple(count[::-1]), matrix)


def _body_box(source: Source) -> tuple[np.ndarray, np.ndarray]:
    tissue = source.ct.grid.points_ras(np.argwhere(source.ct.array[:, ::3, ::3] > -300.0)[::11] * [1, 3, 3])
    return tissue.min(axis=0) - 12.0, tissue.max(axis=0) + 12.0


def _pre_grid(source: Source, spec: CaseSpec, rng: np.random.Generator) -> Grid:
    low, high = _body_box(source)
    organ = source.organ.grid.points_ras(np.argwhere(source.organ.array)[::13])
    low[2] = max(source.scanned[0], organ[:, 2].min() - rng.uniform(12.0, BEYOND_MM))
    high[2] = min(source.scanned[1], organ[:, 2].max() + rng.uniform(12.0, BEYOND_MM))
    return _axial_grid(low, high, spec.pre_pixel_mm, spec.pre_slice_mm)


def _post_grid(source: Source, spec: CaseSpec, rng: np.random.Generator, motion: Motion) -> Grid:
    """The post scan's own field of view: shifted, another table height, as far as the pre scan holds tissue."""
    low, high = _body_box(source)
    points = source.organ.grid.points_ras(np.argwhere(source.organ.array)[::17])
    middle = motion.post_from_pre(points.mean(axis=0)[None])[0]
    moved = motion.post_from_pre(points)
    shift = middle - points.mean(axis=0)
    shift[:2] += rng.uniform(-8.0, 8.0, 2)
    axis = np.stack([np.full(400, middle[0]), np.full(400, middle[1]), np.linspace(-250, 250, 400) + middle[2]], axis=1)
    seen = motion.pre_from_post(axis)[:, 2]
    held = axis[(seen > source.scanned[0]) & (seen < source.scanned[1]), 2]
    low, high = low + shift, high + shift
    low[2] = max(held.min(), moved[:, 2].min() - rng.uniform(12.0, BEYOND_MM))
    high[2] = min(held.max(), moved[:, 2].max() + rng.uniform(12.0, BEYOND_MM))
    return _axial_grid(low, high, spec.post_pixel_mm, spec.post_slice_mm)


def _grown(grid: Grid, by_mm: float) -> Grid:
    more = np.ceil(by_mm / grid.spacing_kji_mm).astype(int)
    return grid.cropped_grid(tuple(-more), tuple(np.array(grid.shape) + 2 * more))


def _scans(source, spec, rng, tumor, zone, motion, pre_grid, post_grid, truth) -> tuple[Volume, Volume]:
    lesion_texture, zone_texture = Texture.random(rng, 11.0), Texture.random(rng, 9.0)
    antenna = zone.star.axes[:, 0]
    along = rng.uniform(-0.6, 0.6, 4)[:, None] * zone.star.mean_radius_mm
    bubbles = zone.star.centre_ras + along * antenna + rng.uniform(-1.5, 1.5, (4, 3))
    noise_pre, noise_post = rng.spawn(2)

    def lesion(phase: str) -> TumorPaint:
        change = PHASES[phase]["organ" if source.labels is not None else "organ_only"]
        return TumorPaint(tumor, CONTRAST_HU[spec.contrast, phase], source.parenchyma_hu + change, lesion_texture)

    residue = lesion(spec.post_phase)
    shown = replace(zone, outside_organ_mm=lambda points: source.outside_organ_mm(truth.apply(points)))
    ablated = ZonePaint(
        shown, antenna, zone_texture, bubbles, rng.uniform(0.6, 1.6, 4), RIM_HU[spec.post_phase],
        ghost=lambda points: 7.0 * (tumor.level(truth.apply(points)) < 0.0))
    pre = scan(in_phase(source, spec.pre_phase), pre_grid, None,
               [(lesion(spec.pre_phase).over, tumor.centre_ras, tumor.reach_mm + 2.0)])
    moved_centre = motion.post_from_pre(tumor.centre_ras[None])[0]
    post = scan(in_phase(source, spec.post_phase), post_grid, truth, [
        (lambda points, below: residue.over(truth.apply(points), below), moved_centre,
         1.3 * tumor.reach_mm + 4.0),
        (ablated.over, zone.star.centre_ras, ablated.reach_mm)])
    about = {"modality": "CT", "synthetic": True}
    return (Volume(with_noise(pre, pre_grid, noise_pre, spec.noise_hu), pre_grid, "pre", None,
                   {**about, "phase": spec.pre_phase}),
            Volume(with_noise(post, post_grid, noise_post, spec.noise_hu), post_grid, "post", None,
                   {**about, "phase": spec.post_phase}))


def _mask(grid: Grid, level: Callable[[np.ndarray], np.ndarray], centre: np.ndarray, reach: float, name: str) -> Mask:
    """Voxels whose centre lies inside."""
    middle = grid.indices_kji(centre[None])[0]
    half = (reach + 3.0) / grid.spacing_kji_mm
    low = np.maximum(np.floor(middle - half).astype(int), 0)
    high = np.minimum(np.ceil(middle + half).astype(int) + 1, grid.shape)
    if (low >= high).any():
        raise InputError(f"the {name} lies outside the field of view; the CT must hold the whole organ")
    box = grid.cropped_grid(tuple(low), tuple(high - low))
    out = np.zeros(grid.shape, bool)
    out[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = (
        level(box.all_points_ras().reshape(-1, 3)) < 0.0).reshape(box.shape)
    return Mask(out, grid, name)


def _organ_mask(source: Source, grid: Grid, pre_from_scan: GridTransform | None) -> Mask:
    return Mask(resample(source.organ_distance, grid, pre_from_scan, outside=50.0).array <= 0.0, grid, "organ")

