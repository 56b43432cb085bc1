"""A small made-up case with exact truth: two CT-like images of a torso that moved as one, tumour and zone spheres.

For trying the modules offline and for their self-tests. Nothing here looks at anatomy: `simulate` does that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..geometry import Grid, LinearTransform, Mask, Volume

SPACING_MM = (2.0, 2.0, 2.5)
SHAPE = (60, 88, 104)
NOISE_HU = 9.0
EDGE_MM = 1.2
"""Width over which one tissue turns into the next, in place of partial volume."""
TORSO_HU, LIVER_HU, VESSEL_HU, TUMOR_HU, ZONE_HU, BONE_HU, AIR_HU = 45.0, 105.0, 175.0, 60.0, 38.0, 420.0, -1000.0
LIVER_CENTRE, LIVER_RADII = np.array([18.0, 6.0, 0.0]), np.array([62.0, 48.0, 52.0])
VESSELS = (((18.0, 6.0, -5.0), (1.0, 0.25, 0.35), 5.0), ((30.0, 0.0, 10.0), (-0.35, 0.3, 1.0), 3.5),
           ((5.0, 18.0, 8.0), (0.6, -1.0, 0.25), 3.0))


@dataclass(frozen=True)
class PhantomCase:
    """Images, exact masks and truth. `tumor`, `organ_pre` on `pre`; `ablation`, `organ_post`, `vessels` on `post`."""

    pre: Volume
    post: Volume
    tumor: Mask
    ablation: Mask
    organ_pre: Mask
    organ_post: Mask
    vessels: Mask
    post_from_pre: LinearTransform
    true_mam_mm: float
    true_thinnest_ras: np.ndarray


@lru_cache(maxsize=2)
def phantom_case(*, tumor_radius_mm: float = 11.0, zone_radius_mm: float = 19.0, zone_offset_mm: float = 6.0,
                 motion_mm: tuple[float, float, float] = (3.0, -4.0, 8.0), rotation_deg: float = 3.0,
                 seed: int = 0) -> PhantomCase:
    """Make the case.

    Args:
        tumor_radius_mm, zone_radius_mm, zone_offset_mm: spheres; the zone's centre lies that far beside the tumour's.
        motion_mm, rotation_deg: rigid motion of the whole body from before to after (RAS; about the S axis).
        seed: of the noise; before and after never share it.
    Returns: the case, the same one for the same arguments: don't write into its arrays. Its true MAM is
        zone radius - offset - tumour radius, in mm.
    """
    rng = np.random.default_rng(seed)
    grid = _grid()
    motion = _rigid(motion_mm, rotation_deg)
    tumor_centre = LIVER_CENTRE + (22.0, 4.0, 4.0)
    direction = np.array([0.48, -0.6, 0.64])
    zone_centre = tumor_centre + zone_offset_mm * direction
    points = grid.all_points_ras().reshape(-1, 3)
    back = motion.inverse().apply(points)
    tumor = _sphere(points, tumor_centre, tumor_radius_mm)
    zone = _sphere(back, zone_centre, zone_radius_mm)
    pre = _paint(_body(points, rng), [(tumor, TUMOR_HU)])
    post = _paint(_body(back, np.random.default_rng(seed)), [(zone, ZONE_HU)])
    noise = np.random.default_rng(seed + 1)

    def image(values: np.ndarray, name: str) -> Volume:
        noisy = values + noise.normal(0.0, NOISE_HU, len(values))
        return Volume(np.clip(np.round(noisy), -1024, 3071).astype(np.int16).reshape(SHAPE), grid, name,
                      metadata={"modality": "CT", "synthetic": True})

    def mask(distance: np.ndarray, name: str) -> Mask:
        return Mask((distance < 0.0).reshape(SHAPE), grid, name)

    thinnest = motion.apply((tumor_centre - tumor_radius_mm * direction)[None])[0]
    return PhantomCase(image(pre, "Phantom before"), image(post, "Phantom after"), mask(tumor, "tumour"),
                       mask(zone, "ablation zone"), mask(_liver(points), "liver before"),
                       mask(_liver(back), "liver after"), mask(_vessels(back), "vessels"), motion,
                       zone_radius_mm - zone_offset_mm - tumor_radius_mm, thinnest)


def _grid() -> Grid:
    matrix = np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0])
    matrix[:3, 3] = -matrix[:3, :3] @ (np.array(SHAPE[::-1]) - 1.0) / 2.0
    return Grid(SHAPE, matrix)


def _rigid(motion_mm, rotation_deg: float) -> LinearTransform:
    angle = np.deg2rad(rotation_deg)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = motion_mm
    return LinearTransform(matrix, "post", "pre")


def _sphere(points: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    return np.linalg.norm(points - centre, axis=1) - radius


def _ellipsoid(points: np.ndarray, centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    return (np.linalg.norm((points - centre) / radii, axis=1) - 1.0) * radii.min()


def _liver(points: np.ndarray) -> np.ndarray:
    return _ellipsoid(points, LIVER_CENTRE, LIVER_RADII)


def _vessels(points: np.ndarray) -> np.ndarray:
    out = np.full(len(points), np.inf)
    for start, axis, radius in VESSELS:
        unit = np.array(axis) / np.linalg.norm(axis)
        relative = points - np.array(start)
        out = np.minimum(out, np.linalg.norm(relative - (relative @ unit)[:, None] * unit, axis=1) - radius)
    return np.maximum(out, _liver(points) + 4.0)


def _body(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n,) HU without tumour and zone; a texture that moves with the tissue gives registration something to hold."""
    torso = _ellipsoid(points, np.zeros(3), np.array([96.0, 78.0, 300.0]))
    texture = np.zeros(len(points))
    for _ in range(10):
        wave = rng.normal(size=3) * 2.0 * np.pi / rng.uniform(22.0, 60.0)
        texture += np.cos(points @ wave + rng.uniform(0.0, 2.0 * np.pi))
    values = _paint(np.full(len(points), AIR_HU), [(torso, TORSO_HU), (_liver(points), LIVER_HU)])
    values += np.where(torso < 0.0, 5.0 * texture, 0.0)
    spine = np.maximum(_sphere(points * (1.0, 1.0, 0.0), np.array([0.0, -52.0, 0.0]), 17.0),
                       np.abs((points[:, 2] + 200.0) % 32.0 - 16.0) - 13.0)
    ribs = np.abs(_ellipsoid(points, np.zeros(3), np.array([88.0, 70.0, 300.0]))) - 3.5
    ribs = np.maximum(ribs, np.abs((points[:, 2] - 0.35 * points[:, 1] + 300.0) % 26.0 - 13.0) - 4.5)
    return _paint(values, [(_vessels(points), VESSEL_HU), (spine, BONE_HU), (ribs, BONE_HU)])


def _paint(values: np.ndarray, layers) -> np.ndarray:
    """Blend layers (signed distance, HU) over values, one after the other, with soft edges."""
    for distance, level in layers:
        inside = 1.0 / (1.0 + np.exp(np.clip(4.0 * distance / EDGE_MM, -50.0, 50.0)))
        values = values * (1.0 - inside) + level * inside
    return values
