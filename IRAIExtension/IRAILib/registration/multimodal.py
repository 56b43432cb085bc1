"""CT, MR and PET rigidly onto each other, with a verdict that asks for a second opinion."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..geometry import CancelledError, InputError, LinearTransform, Mask, Volume
from .information import Information, level, padding
from .inputs import Pair, check_pair, crop_to
from .multimodal_verdict import Evidence, judge_multimodal
from .rigid_search import Poses, ascend, distinct, random_poses, rms_mm
from .second_opinion import second_opinion

METHODS = ("auto", "mutual", "mind")
KEPT_COARSE, KEPT_MIDDLE = 6, 3
LEVELS = ((6.0, 2500), (3.0, 6000), (2.0, 12000))
"""Voxel (mm) and points drawn on each side, coarse to fine."""
RADIUS_MM = 40.0
SPREAD_RUNS = 4
SPREAD_SHARE = 0.5
FEWEST_DEEP = 600
EDGE = 0.95
"""A result farther out than this share of the search may be on its way to a place beyond."""
VALIDATED_ON = ("known poses up to 20 mm and 15 degrees on CT, T1 MR and PET of two limb sarcomas: accepted results "
                "lie 3 to 11 mm from where the tumours' outlines put them (Docs/benchmarks.md); no abdomen")
BODY_ONLY = ("the body as a whole was matched: limbs and organs bend between examinations, so a single place may be "
             "off by several millimetres more than stated; give the target's mask to judge the place there")
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class MultimodalOptions:
    """How far and how to look.

    method: "mutual" (normalised mutual information), "mind" (self-similarity refines it), "auto" (mutual information,
        self-similarity only to check it). shift_mm, turn_deg: how far from the start the search looks; at least what
        the start may be wrong by. starts: poses looked at before the best climb. seed: of the drawn points and starts.
    Raises InputError for what makes no sense.
    """

    method: str = "auto"
    shift_mm: float = 30.0
    turn_deg: float = 22.0
    starts: int = 512
    seed: int = 1

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"method {self.method!r}: choose {', '.join(METHODS)}")
        if not 0.0 < self.shift_mm <= 150.0 or not 0.0 < self.turn_deg <= 60.0:
            raise InputError(f"a search over {self.shift_mm} mm and {self.turn_deg} degrees: choose up to 150 and 60")
        if not 8 <= self.starts <= 65536:
            raise InputError(f"{self.starts} starts: choose 8 to 65536")


@dataclass(frozen=True, eq=False)
class MultimodalRegistration:
    """A rigid map and whether to believe it.

    moving_from_fixed: takes fixed RAS points to moving ones. accepted, reason: `reason` is one line either way.
    sigma_mm: one standard deviation (3D, over the target, else the fixed mask, else the body both images show): what
        registrations of random halves of the tissue differ by, what two unlike measures differ by, and what the voxels
        allow, in squares. opinion_mm: how far an unlike measure moves the result (None where torch was missing).
        rival: score of the best other place, as a share of the best one's. inside: spreads by which the place stands
        above wrong ones below the outlines. share: of the smaller image that meets the other. score: 0 to 1.
    """

    moving_from_fixed: LinearTransform
    accepted: bool
    reason: str
    sigma_mm: float
    score: float
    start_score: float
    share: float
    opinion_mm: float | None
    rival: float | None
    inside: float | None
    moved_mm: float
    method: str
    seconds: float
    warnings: list[str] = field(default_factory=list)
    validated_on: str = VALIDATED_ON

    def to_dict(self) -> dict[str, Any]:
        def short(value: float | None) -> float | None:
            return None if value is None or not np.isfinite(value) else round(float(value), 4)

        return {"kind": "multimodal rigid", "frame": "moving from fixed, RAS mm", "units": "mm",
                "moving_from_fixed": self.moving_from_fixed.matrix.tolist(), "accepted": self.accepted,
                "reason": self.reason, "uncertainty": {"sigma_mm": short(self.sigma_mm)}, "method": self.method,
                "similarity": short(self.score), "similarity_start": short(self.start_score),
                "share_met": short(self.share), "second_opinion_mm": short(self.opinion_mm),
                "rival_share": short(self.rival), "chance_inside": short(self.inside),
                "moved_mm": short(self.moved_mm),
                "seconds": round(self.seconds, 2), "warnings": list(self.warnings), "validated_on": self.validated_on}


def register_multimodal(fixed: Volume, moving: Volume, *, init: np.ndarray | None = None,
                        options: MultimodalOptions | None = None, fixed_mask: Mask | None = None,
                        moving_mask: Mask | None = None, target: Mask | None = None, progress: Progress | None = None,
                        cancelled: Callable[[], bool] | None = None) -> MultimodalRegistration:
    """The rigid map between two unlike images of one patient.

    Args:
        fixed, moving: RAS mm, any modality. init: (4, 4) moving_from_fixed to search round; default: as the headers
            say. fixed_mask, moving_mask: tissue to match (it and 10 mm round it); default: the body. Of a
            mask of one image only, that image's tissue alone is matched. target: (fixed frame) where the map will be
            used; the second opinion is asked there and the uncertainty stated for it, the body round it still helps.
        progress: told (share, text). cancelled: asked at every pose; True raises CancelledError.
    Starts spread evenly over the range are screened, the best climb at 6, 3 and 2 mm, halves of the tissue tell how
    sure the place is, self-similarity gives a second opinion.
    Raises: InputError (images, masks or pose unfit, no overlap), CancelledError, MissingPackageError (method mind).
    Source: Studholme 1999 (normalised mutual information); Heinrich 2013 (self-similarity).
    """
    began = time.monotonic()
    options = options or MultimodalOptions()
    base = check_pose(init)
    tell = progress or (lambda share, text: None)
    pair = check_pair(Pair(fixed, moving, fixed_mask, moving_mask))
    if target is not None:
        target = check_pair(Pair(fixed, moving, target)).fixed_organ
    search = _Search(pair, base, options, cancelled or (lambda: False), target)
    tell(0.0, "looking at starts")
    matrix, rival = search.find(lambda share: tell(0.6 * share, "trying starts"))
    tell(0.6, "how sure is it?")
    sigma = search.spread(matrix)
    tell(0.85, "asking an unlike measure")
    other, warnings = second_opinion(search.pair, search.pads, matrix, search.roi, options.method == "mind",
                                     search.checked)
    opinion = None if other is None else rms_mm(matrix, other, search.roi)
    spread, sigma = sigma, float(np.hypot(sigma, (opinion or 0.0) / np.sqrt(2.0)))
    if options.method == "mind" and other is not None:
        matrix = other
    if target is None and fixed_mask is None:
        warnings = [*warnings, BODY_ONLY]
    evidence = Evidence(search.fine.score(matrix), search.fine.score(base), search.fine.share(matrix), sigma, opinion,
                        rival, search.chance(matrix), search.chance_inside(matrix),
                        search.at_edge(matrix))
    reason = judge_multimodal(evidence, options.method)
    tell(1.0, "done")
    return MultimodalRegistration(
        LinearTransform(matrix, "moving", "fixed"), reason is None,
        reason or f"halves of the tissue agree within {spread:.1f} mm and no other place matches as well", sigma,
        evidence.score, evidence.start_score, evidence.share, opinion, rival, evidence.inside,
        rms_mm(matrix, base, search.roi), options.method, time.monotonic() - began, warnings)


def check_pose(init: object) -> np.ndarray:
    """(4, 4) rigid float64; the identity for None. Raises InputError for anything else."""
    if init is None:
        return np.eye(4)
    matrix = np.asarray(init, float)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise InputError("init: a finite 4x4 matrix (moving from fixed, RAS mm) is needed")
    turn = matrix[:3, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > 0.02 or np.linalg.det(turn) < 0:
        raise InputError("init: the pose is not rigid (scaled, sheared or mirrored)")
    u, _, vt = np.linalg.svd(turn)
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = u @ vt, matrix[:3, 3]
    return out


class _Search:
    """Both images at three resolutions, and the ways from a start to the best place."""

    def __init__(self, pair: Pair, base: np.ndarray, options: MultimodalOptions, cancelled: Callable[[], bool],
                 target: Mask | None = None) -> None:
        self.options, self.base, self.cancelled = options, base, cancelled
        near = [crop_to(pair.fixed, pair.fixed_organ, 40.0), crop_to(pair.moving, pair.moving_organ, 40.0)]
        self.pair = Pair(near[0], near[1], pair.fixed_organ, pair.moving_organ)
        self.pads = (padding(near[0]), padding(near[1]))
        self.coarse, self.middle, self.fine = (self._level(*size) for size in LEVELS)
        self.roi = self._roi(pair, target)
        self.centre = self.roi.mean(axis=0)
        self.wrong = np.zeros(1)

    def _level(self, spacing_mm: float, count: int) -> Information:
        self.checked()
        pair, seed = self.pair, self.options.seed
        sides = (level(pair.fixed, self.pads[0], spacing_mm, pair.fixed_organ, count, 2 * seed),
                 level(pair.moving, self.pads[1], spacing_mm, pair.moving_organ, count, 2 * seed + 1))
        masked = pair.fixed_organ is not None, pair.moving_organ is not None
        use = masked if any(masked) else (True, True)
        return Information(*sides, self.base, self.options.shift_mm, use=use)

    def _roi(self, pair: Pair, target: Mask | None) -> np.ndarray:
        target = pair.fixed_organ if target is None else target
        if target is not None:
            points = target.grid.points_ras(np.argwhere(target.array))
        else:
            back = np.linalg.inv(self.base)
            drawn = self.middle.moving_points
            points = np.concatenate([self.middle.fixed_points, drawn @ back[:3, :3].T + back[:3, 3]])
            index = pair.fixed.grid.indices_kji(points)
            there = pair.moving.grid.indices_kji(points @ self.base[:3, :3].T + self.base[:3, 3])
            both = ((index >= 0) & (index < pair.fixed.grid.shape)).all(1) & (
                (there >= 0) & (there < pair.moving.grid.shape)).all(1)
            points = points[both]
        if len(points) < 50:
            raise InputError("the images don't overlap where they are placed; give --init or a pose that brings them "
                             "together")
        return points[:: max(1, len(points) // 600)]

    def checked(self) -> None:
        if self.cancelled():
            raise CancelledError("registration cancelled")

    def climb(self, score: Callable[[np.ndarray], float], start: np.ndarray, iterations: int
              ) -> tuple[float, np.ndarray]:
        poses = Poses(start, self.centre, RADIUS_MM)

        def at(p: np.ndarray) -> float:
            self.checked()
            return score(poses.matrix(p))

        found, value = ascend(at, np.zeros(6), iterations=iterations)
        return value, poses.matrix(found)

    def find(self, tell: Callable[[float], None]) -> tuple[np.ndarray, float | None]:
        """The best place, and the score of the best other one as a share of it."""
        options, poses = self.options, Poses(self.base, self.centre, RADIUS_MM)
        screened = []
        tried = random_poses(options.starts, options.shift_mm, options.turn_deg, RADIUS_MM, options.seed)
        for n, p in enumerate(tried):
            self.checked()
            matrix = poses.matrix(p)
            screened.append((self.coarse.score(matrix), matrix))
            if n % 50 == 0:
                tell(0.2 * n / options.starts)
        if max(score for score, _ in screened) <= 0.0:
            raise InputError("the images don't overlap where they are placed; give --init or a pose that brings them "
                             "together")
        starts = [screened[0], *distinct(screened, self.roi, 8.0, KEPT_COARSE - 1)]
        found = []
        for n, (_, start) in enumerate(starts):
            found.append(self.climb(self.coarse.score, start, 12))
            tell(0.2 + 0.5 * n / len(starts))
        kept = distinct(found, self.roi, 4.0, KEPT_MIDDLE)
        middle = distinct([self.climb(self.middle.score, start, 10) for _, start in kept], self.roi, 4.0)
        tell(0.85)
        _, best = self.climb(self.middle.score, middle[0][1], 10)
        _, best = self.climb(self.fine.score, best, 6)
        tell(1.0)
        self.wrong = self._wrong(best)
        floor = float(np.median(self.wrong))
        others = [(score - floor) / max(middle[0][0] - floor, 1e-9) for score, matrix in middle[1:]
                  if rms_mm(matrix, best, self.roi) > 5.0]
        return best, max(others, default=None)

    def _wrong(self, best: np.ndarray) -> np.ndarray:
        """Scores of wrong places, 8 mm and more off, at the middle resolution."""
        return np.array([self.middle.score(pose) for pose in self._far(best)])

    def _far(self, best: np.ndarray) -> list[np.ndarray]:
        poses = Poses(best, self.centre, RADIUS_MM)
        sample = random_poses(65, 25.0, 15.0, RADIUS_MM, self.options.seed + 7)[1:]
        return [poses.matrix(p) for p in sample if np.linalg.norm(p) > 8.0]

    def chance(self, best: np.ndarray) -> float:
        """By how many spreads of the wrong places' scores the found place stands above their mean."""
        wrong = self.wrong
        return float((self.middle.score(best) - wrong.mean()) / max(float(wrong.std()), 1e-6))

    def chance_inside(self, best: np.ndarray) -> float | None:
        """`chance` of what lies below the outlines alone; None where too little does.

        Another body of a like outline matches along it at its best place, but not inside.
        """
        deep = self.middle.deep
        if sum(len(part) for part in deep) < FEWEST_DEEP:
            return None
        wrong = np.array([self.middle.score(pose, deep) for pose in self._far(best)])
        return float((self.middle.score(best, deep) - wrong.mean()) / max(float(wrong.std()), 1e-6))

    def at_edge(self, matrix: np.ndarray) -> bool:
        """Whether the result lies where the search ended."""
        p = Poses(self.base, self.centre, RADIUS_MM).parameters(matrix)
        turn = np.degrees(np.linalg.norm(p[3:]) / RADIUS_MM)
        return bool(np.linalg.norm(p[:3]) > EDGE * self.options.shift_mm or turn > EDGE * self.options.turn_deg)

    def spread(self, matrix: np.ndarray) -> float:
        """One standard deviation of the place over random halves of the tissue, and of what the voxels allow, mm."""
        rng = np.random.default_rng(self.options.seed + 100)
        apart = []
        for _ in range(SPREAD_RUNS):
            chosen = self.middle.some_blocks(rng, SPREAD_SHARE)
            _, other = self.climb(lambda m, chosen=chosen: self.middle.score(m, chosen), matrix, 8)
            apart.append(rms_mm(matrix, other, self.roi))
        voxel = max(float(np.linalg.norm(image.grid.spacing_mm)) for image in (self.pair.fixed, self.pair.moving))
        # A half tells of the whole with the square root of two more error, and differs from it by as much as it errs.
        return float(np.hypot(np.sqrt(np.mean(np.square(apart))), 0.2 * voxel / np.sqrt(3.0)))
