"""Tracked slices (ultrasound, or any picture with a pose) refined against a volume by one rigid correction."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import CancelledError, InputError, LinearTransform, Volume
from .local_fit import Slice, SliceScore
from .rigid_search import Poses, ascend, distinct, random_poses, rms_mm

KEPT, KEPT_FINE = 4, 2
COARSE_MM, FINE_MM = 4.0, 2.0
RADIUS_MM = 40.0
SPREAD_RUNS = 4
LARGEST_SIGMA_MM = 2.5
LARGEST_RIVAL = 0.9
LEAST_SHARE = 0.5
LEAST_CHANCE = 2.6
LEAST_SPAN_DEG, LEAST_SPAN_MM = 5.0, 8.0
VALIDATED_ON = ("ultrasound simulated from a CT at known poses (Docs/benchmarks.md); slices of an MR against its CT, "
                "for repeatability only; no tracked ultrasound of a patient with known truth was at hand")


@dataclass(frozen=True, eq=False)
class SliceRegistration:
    """One rigid correction of tracked slices, and whether to believe it.

    volume_from_tracked: takes points of the tracked frame, RAS mm, to the volume's. sigma_mm: standard deviation (3D,
    over the slices) of the places that halves of the slices find. score, start_score: 0 to 1. rival: gain of the best
    other place as a share of the best one's. chance: spreads by which the place stands above wrong ones.
    """

    volume_from_tracked: LinearTransform
    accepted: bool
    reason: str
    sigma_mm: float
    score: float
    start_score: float
    rival: float | None
    chance: float
    share: float
    moved_mm: float
    measure: str
    slices: int
    seconds: float
    validated_on: str = VALIDATED_ON

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "slices to volume", "frame": "volume from tracked, RAS mm", "units": "mm",
                "volume_from_tracked": self.volume_from_tracked.matrix.tolist(), "accepted": self.accepted,
                "reason": self.reason, "uncertainty": {"sigma_mm": round(self.sigma_mm, 3)},
                "similarity": round(self.score, 4), "similarity_start": round(self.start_score, 4),
                "rival_share": None if self.rival is None else round(self.rival, 4), "chance": round(self.chance, 2),
                "share_met": round(self.share, 4), "moved_mm": round(self.moved_mm, 3), "measure": self.measure,
                "slices": self.slices, "seconds": round(self.seconds, 2), "validated_on": self.validated_on}


def register_slices(images: Sequence[np.ndarray], ras_from_pixel: np.ndarray, volume: Volume, *,
                    seen: Sequence[np.ndarray] | None = None, init: np.ndarray | None = None, measure: str = "fit",
                    shift_mm: float = 15.0, turn_deg: float = 12.0, starts: int = 128, seed: int = 1,
                    progress: Callable[[float, str], None] | None = None,
                    cancelled: Callable[[], bool] | None = None) -> SliceRegistration:
    """The rigid correction that lays tracked slices into a volume.

    Args:
        images: n pictures (rows, columns). ras_from_pixel: (n, 4, 4), (column, row, 0) to mm of the tracked frame.
        seen: n (rows, columns) bool, where the picture shows tissue; default: pixels above 0. volume: RAS mm.
        init: (4, 4) volume_from_tracked, default the identity; the search covers shift_mm and turn_deg round it,
            `starts` poses looked at before the best climb.
        measure: "fit" (values and edges explain each patch) or "mind" (self-similarity in the plane).
    Slices all in one plane, or nearly, are refused: the direction across them is hardly seen.
    Raises: InputError (no slices, shapes, poses, not finite), CancelledError.
    """
    began = time.monotonic()
    slices = check_slices(images, ras_from_pixel, seen)
    base = np.eye(4) if init is None else np.asarray(init, float)
    if base.shape != (4, 4) or not np.isfinite(base).all():
        raise InputError("init: a finite 4x4 matrix (volume from tracked) is needed")
    search = _Search(slices, volume, base, measure, (shift_mm, turn_deg), (starts, seed), cancelled or (lambda: False))
    tell = progress or (lambda share, text: None)
    matrix, rival = search.find(lambda share: tell(0.75 * share, "laying slices into the volume"))
    tell(0.75, "how sure is it?")
    sigma = search.spread(matrix)
    score, start = search.fine.score(matrix), search.fine.score(base)
    chance, share = search.chance(matrix), search.fine.share(matrix)
    reason = _reason(search, matrix, rival, sigma, chance, share, score >= start)
    tell(1.0, "done")
    return SliceRegistration(
        LinearTransform(matrix, "volume", "tracked"), reason is None,
        reason or f"halves of the slices agree within {sigma:.1f} mm and no other place fits as well", sigma, score,
        start, rival, chance, share, rms_mm(matrix, base, search.points), measure, len(slices),
        time.monotonic() - began)


def check_slices(images: Sequence[np.ndarray], ras_from_pixel: np.ndarray, seen: Sequence[np.ndarray] | None
                 ) -> list[Slice]:
    """Checked slices. Raises InputError."""
    poses = np.asarray(ras_from_pixel, float)
    if len(images) == 0:
        raise InputError("slices: none were given")
    if poses.shape != (len(images), 4, 4) or not np.isfinite(poses).all():
        raise InputError(f"slices: {len(images)} pictures need as many finite 4x4 poses, not {poses.shape}")
    if seen is not None and len(seen) != len(images):
        raise InputError(f"slices: {len(images)} pictures and {len(seen)} masks don't pair")
    out = []
    for n, image in enumerate(images):
        picture = np.asarray(image)
        if picture.ndim != 2 or min(picture.shape) < 8:
            raise InputError(f"slice {n + 1}: a grey picture of at least 8x8 pixels is needed, not {picture.shape}")
        picture = picture.astype(np.float32)
        mask = picture > 0 if seen is None else np.asarray(seen[n], bool)
        if mask.shape != picture.shape:
            raise InputError(f"slice {n + 1}: its mask is {mask.shape}, the picture {picture.shape}")
        mask = mask & np.isfinite(picture)
        if np.linalg.norm(poses[n, :3, :2], axis=0).min() < 1e-6:
            raise InputError(f"slice {n + 1}: its pixels have no size")
        out.append(Slice(np.where(mask, picture, 0.0), poses[n], mask))
    return out


class _Search:
    def __init__(self, slices: list[Slice], volume: Volume, base: np.ndarray, measure: str,
                 reach: tuple[float, float], draw: tuple[int, int], cancelled: Callable[[], bool]) -> None:
        self.base, self.reach, self.cancelled = base, reach, cancelled
        self.starts, self.seed = draw
        array = np.asarray(volume.array, np.float32)
        if not np.isfinite(array).all():
            raise InputError(f"{volume.name or 'volume'}: holds values that are not finite")
        points = [s.coarser(6.0) for s in slices]
        self.points = np.concatenate([s.points()[s.seen] for s in points])
        if len(self.points) < 30:
            raise InputError("slices: hardly a pixel shows tissue")
        near = _near(volume.with_array(array), self.points @ base[:3, :3].T + base[:3, 3], reach[0] + 25.0)
        self.coarse = SliceScore(slices, near, COARSE_MM, measure)
        self.fine = SliceScore(slices, near, FINE_MM, measure)
        self.centre = self.points.mean(axis=0)
        self.poses = Poses(base, self.centre, RADIUS_MM)
        self.open = _flat(slices, self.points)
        self.wrong = np.zeros(1)

    def climb(self, score: Callable[[np.ndarray], float], start: np.ndarray, iterations: int
              ) -> tuple[float, np.ndarray]:
        poses = Poses(start, self.centre, RADIUS_MM)

        def at(p: np.ndarray) -> float:
            if self.cancelled():
                raise CancelledError("registration cancelled")
            return score(poses.matrix(p))

        found, value = ascend(at, np.zeros(6), iterations=iterations)
        return value, poses.matrix(found)

    def find(self, tell: Callable[[float], None]) -> tuple[np.ndarray, float | None]:
        screened = []
        for p in random_poses(self.starts, *self.reach, RADIUS_MM, self.seed):
            if self.cancelled():
                raise CancelledError("registration cancelled")
            matrix = self.poses.matrix(p)
            screened.append((self.coarse.score(matrix), matrix))
        tell(0.3)
        if max(score for score, _ in screened) <= 0.0:
            raise InputError("the slices don't meet the volume where they are placed; register by landmarks first")
        starts = [screened[0], *distinct(screened, self.points, 5.0, KEPT - 1)]
        found = []
        for n, (_, start) in enumerate(starts):
            found.append(self.climb(self.coarse.score, start, 10))
            tell(0.3 + 0.5 * n / len(starts))
        kept = distinct(found, self.points, 3.0, KEPT_FINE)
        best = self.climb(self.fine.score, kept[0][1], 6)[1]
        self.wrong = self._wrong(best)
        floor = float(np.median(self.wrong))
        top = self.coarse.score(best)
        others = [(score - floor) / max(top - floor, 1e-9) for score, matrix in distinct(found, self.points, 4.0)
                  if rms_mm(matrix, best, self.points) > 5.0]
        return best, max(others, default=None)

    def _wrong(self, best: np.ndarray) -> np.ndarray:
        poses = Poses(best, self.centre, RADIUS_MM)
        far = [p for p in random_poses(65, 18.0, 14.0, RADIUS_MM, self.seed + 7) if np.linalg.norm(p) > 7.0]
        return np.array([self.coarse.score(poses.matrix(p)) for p in far])

    def chance(self, best: np.ndarray) -> float:
        return float((self.coarse.score(best) - self.wrong.mean()) / max(float(self.wrong.std()), 1e-6))

    def at_edge(self, matrix: np.ndarray) -> bool:
        p = self.poses.parameters(matrix)
        turn = np.degrees(np.linalg.norm(p[3:]) / RADIUS_MM)
        return bool(np.linalg.norm(p[:3]) > 1.15 * self.reach[0] or turn > 1.15 * self.reach[1])

    def spread(self, matrix: np.ndarray) -> float:
        count = len(self.coarse.slices)
        if count < 2:
            return float("inf")
        rng, apart = np.random.default_rng(self.seed + 100), []
        for _ in range(SPREAD_RUNS):
            half = rng.permutation(count)[: max(1, (count + 1) // 2)]
            other = self.climb(lambda m, half=half: self.coarse.score(m, half), matrix, 6)[1]
            apart.append(rms_mm(matrix, other, self.points))
        return float(np.hypot(np.sqrt(np.mean(np.square(apart))), 0.3))


def _near(volume: Volume, points: np.ndarray, margin_mm: float) -> Volume:
    index = volume.grid.indices_kji(points)
    grow = margin_mm / volume.grid.spacing_kji_mm
    shape = np.array(volume.grid.shape)
    low = np.clip(np.floor(index.min(0) - grow), 0, None).astype(int)
    high = np.minimum(np.ceil(index.max(0) + grow).astype(int) + 1, shape)
    if (high - low < 2).any():
        raise InputError("the slices don't meet the volume where they are placed; register by landmarks first")
    return volume.crop(tuple(low), tuple(high - low))


def _flat(slices: list[Slice], points: np.ndarray) -> bool:
    """Whether all slices lie in nearly one plane."""
    normals = np.array([np.cross(s.ras_from_pixel[:3, 0], s.ras_from_pixel[:3, 1]) for s in slices])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    tilt = np.degrees(np.arccos(np.clip(np.abs(normals @ normals[0]), 0, 1))).max()
    across = (points - points.mean(axis=0)) @ normals[0]
    return bool(tilt < LEAST_SPAN_DEG and np.ptp(across) < LEAST_SPAN_MM)


def _reason(search: _Search, matrix: np.ndarray, rival: float | None, sigma: float, chance: float, share: float,
            better: bool) -> str | None:
    if search.open:
        return ("all slices lie in one plane: the shift across it and the turns out of it are hardly seen; sweep the "
                f"probe over {LEAST_SPAN_MM:g} mm or more, or tilt it")
    if share < LEAST_SHARE:
        return f"only {100 * share:.0f} % of the slices lie in the volume; register by landmarks first"
    if search.at_edge(matrix):
        return "the best place lies at the edge of the search; register by landmarks first"
    if not better:
        return "the slices fit worse after registration than before; register by landmarks"
    if chance < LEAST_CHANCE:
        return (f"the place fits hardly better than wrong ones ({chance:.1f} standard deviations, at least "
                f"{LEAST_CHANCE:g} are needed); sweep over vessels or the organ's border")
    if rival is not None and rival > LARGEST_RIVAL:
        return (f"another place, more than 5 mm away, fits nearly as well ({100 * rival:.0f} % of the gain); add "
                "slices in another direction")
    if sigma > LARGEST_SIGMA_MM:
        return (f"halves of the slices disagree by {sigma:.1f} mm (at most {LARGEST_SIGMA_MM:g} mm is accepted); add "
                "slices in another direction")
    return None
