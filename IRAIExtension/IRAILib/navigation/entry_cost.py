"""Soft costs of many straight paths at once: each 0 (best) to 1, weighted and added."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry import Grid, InputError, Mask, Volume
from .entry_field import nearest_along

SAMPLE_MM = 2.0
ROOM_ENOUGH_MM = 10.0
BREATHING_FULL_MM = 20.0
SHALLOWEST_DEG = 75.0


@dataclass(frozen=True)
class EntryOptions:
    """What counts in a plan.

    max_length_mm: of the needle, from skin to target. needle_radius_mm: added to every margin.
    *_weight: of each cost (relative). breathing_ras_mm: (3,) the target's motion, end to end.
    registration_sigma_mm: 1 SD of where the plan's frame lies in the patient. max_tilt_deg: largest angle out of the
    slice plane (gantry), None for any. tilt_weight: above 0 prefers paths in the slice plane. top: paths wanted.
    apart_deg, apart_mm: two paths differ by both at least.
    """

    max_length_mm: float = 150.0
    needle_radius_mm: float = 0.65
    candidates: int = 10_000
    top: int = 5
    apart_deg: float = 12.0
    apart_mm: float = 15.0
    length_weight: float = 1.0
    skin_weight: float = 0.5
    capsule_weight: float = 0.7
    room_weight: float = 1.0
    crossing_weight: float = 1.0
    breathing_weight: float = 0.5
    tilt_weight: float = 0.0
    max_tilt_deg: float | None = None
    breathing_ras_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    registration_sigma_mm: float = 0.0

    def __post_init__(self) -> None:
        limits = {"max_length_mm": (5, 500), "needle_radius_mm": (0, 10), "candidates": (10, 1_000_000),
                  "top": (1, 100), "apart_deg": (0, 180), "apart_mm": (0, 500), "registration_sigma_mm": (0, 100),
                  "max_tilt_deg": (0, 90)} | {name: (0, 1000) for name in self.__dataclass_fields__ if "weight" in name}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{name}: {value} given; {low} to {high} can be used")
        if not np.isfinite(self.breathing_ras_mm).all() or np.shape(self.breathing_ras_mm) != (3,):
            raise InputError("breathing_ras_mm: three finite numbers (R, A, S in mm) are needed")


@dataclass(frozen=True, eq=False)
class Measures:
    """(n,) of n paths; crossed_mm: {name: (n,)}; capsule_deg is NaN without an organ; outside_mm: way through air."""

    length_mm: np.ndarray
    skin_deg: np.ndarray
    capsule_deg: np.ndarray
    tilt_deg: np.ndarray
    along_mm: np.ndarray
    across_mm: np.ndarray
    crossed_mm: dict[str, np.ndarray]
    outside_mm: np.ndarray


class Capsule:
    """The surface of the organ that holds the target, for the angle at which a needle enters it."""

    def __init__(self, organ: Mask) -> None:
        from scipy import ndimage

        organ = organ.require_not_empty().crop_to_content(15.0)
        spacing = organ.grid.spacing_kji_mm
        steps = np.maximum(1, np.floor(2.0 / spacing)).astype(int)
        width = max(4.0, 1.3 * float(spacing.max()))
        smooth = ndimage.gaussian_filter(organ.array.astype(np.float32), width / spacing, mode="nearest")
        window = tuple(slice(None, None, int(s)) for s in steps)
        matrix = organ.grid.ras_from_ijk.copy()
        matrix[:3, :3] *= steps[::-1]
        self.smooth = smooth[window]
        self.grid = Grid(self.smooth.shape, matrix)
        self.inside = np.pad(self.smooth[1:-1, 1:-1, 1:-1] > 0.5, 1)
        if min(self.smooth.shape) < 3:
            raise InputError(f"{organ.name or 'organ'}: too thin to have a capsule; leave the organ out")
        self.slopes = [np.gradient(self.smooth, self.grid.spacing_kji_mm[a], axis=a) for a in range(3)]

    def angles_deg(self, target: np.ndarray, points: np.ndarray, share: np.ndarray) -> np.ndarray:
        """(n,) angle between the paths from target to points (n, 3) and the capsule's normal where each leaves the
        organ for good, looked for at the shares (m,); NaN if never."""
        inside = nearest_along(self.inside, self.grid, target, points, share)
        last = len(share) - 1 - inside[:, ::-1].argmax(axis=1)
        has = inside.any(axis=1) & (last < len(share) - 1)
        away = points - target
        unit = away / np.maximum(np.linalg.norm(away, axis=1), 1e-9)[:, None]
        place = target + share[last][:, None] * away
        slope = np.stack([Volume(s, self.grid).sample(place) for s in self.slopes], axis=1)
        normal = -slope @ self.grid.directions[:, ::-1].T
        size = np.linalg.norm(normal, axis=1)
        cosine = (normal * unit).sum(axis=1) / np.maximum(size, 1e-9)
        return np.where(has & (size > 1e-3), np.degrees(np.arccos(np.clip(cosine, -1, 1))), np.nan)


def measure(field, skin, capsule: Capsule | None, target: np.ndarray, points: np.ndarray, normals: np.ndarray,
            slice_normal: np.ndarray, options: EntryOptions) -> Measures:
    """What the costs are made of, for paths from `target` (3,) to `points` (n, 3), RAS mm."""
    away = points - target
    length = np.linalg.norm(away, axis=1)
    unit = away / np.maximum(length, 1e-9)[:, None]
    count = max(2, int(np.ceil(length.max(initial=1.0) / SAMPLE_MM)))
    share = (np.arange(count) + 0.5) / count
    bits = field.along(target, points, share)
    step = length / count
    crossed = {name: (bits & bits.dtype.type(1 << n) > 0).sum(axis=1) * step
               for n, (name, o) in enumerate(zip(field.names, field.obstacles, strict=True)) if not o.hard}
    outside = ~nearest_along(skin.body.array, skin.body.grid, target, points, share)
    outside &= (1.0 - share)[None, :] * length[:, None] > 4.0
    motion = np.asarray(options.breathing_ras_mm, float)
    along = np.abs(unit @ motion)
    return Measures(length, np.degrees(np.arccos(np.clip((unit * normals).sum(axis=1), -1, 1))),
                    capsule.angles_deg(target, points, share) if capsule else np.full(len(points), np.nan),
                    np.degrees(np.arcsin(np.clip(unit @ slice_normal, -1, 1))), along,
                    np.sqrt(np.maximum(motion @ motion - along**2, 0.0)), crossed, outside.sum(axis=1) * step)


def soft_costs(m: Measures, room_mm: np.ndarray, options: EntryOptions) -> dict[str, np.ndarray]:
    """Weighted costs by name, (n,) each; their sum ranks the paths. room_mm: beyond the margins."""
    crossing = np.sum([np.clip(v / np.maximum(m.length_mm, 1.0), 0, 1) for v in m.crossed_mm.values()], axis=0) \
        if m.crossed_mm else np.zeros_like(m.length_mm)
    motion = np.linalg.norm(options.breathing_ras_mm)
    capsule = np.nan_to_num(1.0 - np.cos(np.radians(np.minimum(m.capsule_deg, 90.0))), nan=0.0)
    return {
        "length": options.length_weight * m.length_mm / options.max_length_mm,
        "angle to skin": options.skin_weight * (1.0 - np.cos(np.radians(np.minimum(m.skin_deg, 90.0)))),
        "angle to capsule": options.capsule_weight * capsule,
        "room": options.room_weight * (1.0 - np.clip(room_mm / ROOM_ENOUGH_MM, 0.0, 1.0)) ** 2,
        "crossing": options.crossing_weight * crossing,
        "breathing": options.breathing_weight * (np.clip(m.across_mm / BREATHING_FULL_MM, 0, 1) if motion else
                                                 np.zeros_like(m.length_mm)),
        "tilt": options.tilt_weight * np.abs(np.sin(np.radians(m.tilt_deg))),
    }


def pareto(values: np.ndarray) -> np.ndarray:
    """(n,) whether no other row of (n, m) is at most as large everywhere and smaller somewhere."""
    out = np.ones(len(values), bool)
    for n, row in enumerate(values):
        out[n] = not ((values <= row + 1e-9).all(axis=1) & (values < row - 1e-9).any(axis=1)).any()
    return out
