"""Rigid registration of points to a surface or to centrelines, robust to missing parts and stray points.

Points touched or segmented on one side (tracked pointer, ultrasound skin or vessel) against the other side's surface
(point to plane) or vessel centrelines (point to line). What the shape can't fix, a sphere's turn or a straight vessel's
shift, is named and refused rather than guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import CancelledError, InputError, LinearTransform
from .rigid_search import Poses, distinct, random_poses, rms_mm, rotation_from_vector

KINDS = ("surface", "centreline")
FEWEST_POINTS = 12
ITERATIONS = 60
SETTLED_MM = 1e-4
NEIGHBOURS = 10
FREE_RATIO = 0.02
LARGEST_SIGMA_MM = 2.0
LARGEST_RMS_MM = 3.0
RIVAL_RATIO = 1.25
RIVAL_APART_MM = 4.0
LEAST_NOISE_MM = 0.05
FREE_SIGMA_MM = 10.0
VALIDATED_ON = "shapes with known truth, noise, missing parts and stray points; small_gicp on the same points"


@dataclass(frozen=True, eq=False)
class IcpRegistration:
    """A rigid map of points onto a surface or centrelines, and whether the shape fixes it.

    target_from_source: (source points, RAS mm, to the target's frame). rms_mm: of the kept points' distances.
    kept: (n,) bool, points that count (the rest are stray or have no partner). sigma_mm: standard deviation (3D) over
    the kept points that the noise in the distances causes. free: directions that the shape leaves open, in words; with
    any, the map is refused. covariance: (6, 6), shift (mm) and turn (rad) about the points' middle.
    """

    target_from_source: LinearTransform
    accepted: bool
    reason: str
    rms_mm: float
    sigma_mm: float
    kept: np.ndarray
    free: tuple[str, ...]
    covariance: np.ndarray
    centre_mm: np.ndarray
    kind: str
    rival_ratio: float | None = None
    validated_on: str = VALIDATED_ON

    def tre_mm(self, points_target: np.ndarray) -> np.ndarray:
        """(m,) expected error (rms, 3D) of mapped points at (m, 3) places in the target's frame."""
        arms = np.asarray(points_target, float).reshape(-1, 3) - self.centre_mm
        jacobian = np.concatenate([np.broadcast_to(np.eye(3), (len(arms), 3, 3)), -_cross(arms)], axis=2)
        return np.sqrt(np.einsum("nij,jk,nik->n", jacobian, self.covariance, jacobian))

    def to_dict(self) -> dict[str, Any]:
        """Numbers as JSON takes them; the frame is that of the target."""
        return {"kind": f"{self.kind} ICP", "frame": self.target_from_source.to_frame,
                "from_frame": self.target_from_source.from_frame, "units": "mm",
                "target_from_source": self.target_from_source.matrix.tolist(), "accepted": self.accepted,
                "reason": self.reason, "rms_mm": round(self.rms_mm, 4),
                "uncertainty": {"sigma_mm": round(self.sigma_mm, 4) if np.isfinite(self.sigma_mm) else None},
                "kept": int(self.kept.sum()), "points": len(self.kept), "free": list(self.free),
                "rival_ratio": self.rival_ratio, "validated_on": self.validated_on}


def register_icp(source_mm: object, target_mm: object, *, kind: str = "surface", target_normals: object = None,
                 init: np.ndarray | None = None, overlap: float = 0.8, shift_mm: float = 20.0, turn_deg: float = 15.0,
                 starts: int = 24, noise_mm: float | None = None, seed: int = 1, source_frame: str = "source",
                 target_frame: str = "target", progress: Callable[[float, str], None] | None = None,
                 cancelled: Callable[[], bool] | None = None) -> IcpRegistration:
    """Trimmed ICP from several starts, with a check of what the shape fixes.

    Args:
        source_mm: (n, 3) points, at least 12. target_mm: (m, 3) points of the surface or of the centrelines, dense
            (closer together than the accuracy wanted). kind: surface (point to plane) or centreline (point to line).
        target_normals: (m, 3) unit normals (surface) or tangents (centreline); default: from each point's neighbours.
        init: (4, 4) target_from_source to start round. overlap: share of the source points that have a partner, at
            least; farther ones are trimmed. shift_mm, turn_deg: how far starts are spread. noise_mm: of a point,
            if known (default: from the distances).
    Raises: InputError (empty, wrong shape, not finite, too few points), CancelledError. A shape that leaves a
    direction open gives a result that is not accepted and names the direction.
    Source: Chen and Medioni 1992 (point to plane); Chetverikov 2005 (trimmed); Gelfand 2003 (what a shape fixes).
    """
    source, target = _cloud(source_mm, "source"), _cloud(target_mm, "target")
    if kind not in KINDS:
        raise InputError(f"kind {kind!r}: choose {' or '.join(KINDS)}")
    if not 0.2 <= overlap <= 1.0 or starts < 1:
        raise InputError(f"overlap {overlap}, starts {starts}: choose a share of 0.2 to 1 and at least one start")
    base = np.eye(4) if init is None else np.asarray(init, float)
    if base.shape != (4, 4) or not np.isfinite(base).all():
        raise InputError("init: a finite 4x4 matrix (target from source) is needed")
    match = _Match(source, target, kind, target_normals, overlap)
    centre = source.mean(axis=0)
    radius = max(float(np.sqrt(((source - centre) ** 2).sum(axis=1).mean())), 5.0)
    poses = Poses(base, centre, radius)
    found = []
    for n, p in enumerate(random_poses(starts, shift_mm, turn_deg, radius, seed)):
        if cancelled is not None and cancelled():
            raise CancelledError("registration cancelled")
        if progress is not None:
            progress(n / starts, "fitting points to the shape")
        matrix = match.fit(poses.matrix(p), ITERATIONS)
        found.append((-match.cost(matrix), matrix))
    ranked = distinct(found, source, RIVAL_APART_MM)
    best = match.fit(ranked[0][1], ITERATIONS)
    return _conclude(match, best, ranked, noise_mm, LinearTransform(best, target_frame, source_frame))


def _cloud(points: object, name: str) -> np.ndarray:
    array = np.asarray(points, float)
    if array.size == 0:
        raise InputError(f"{name} points: none were given")
    if array.ndim != 2 or array.shape[1] != 3:
        raise InputError(f"{name} points: an (n, 3) table is needed, not an array of shape {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{name} points: number {int(np.argmin(np.isfinite(array).all(axis=1))) + 1} is not finite")
    if len(array) < FEWEST_POINTS:
        raise InputError(f"{name} points: {len(array)} are too few; at least {FEWEST_POINTS} are needed")
    return array


def neighbour_frames(points: np.ndarray) -> np.ndarray:
    """(n, 3, 3) principal directions of each point's neighbourhood as columns, the widest first."""
    from scipy.spatial import cKDTree

    near = points[cKDTree(points).query(points, k=min(NEIGHBOURS, len(points)))[1]]
    near = near - near.mean(axis=1, keepdims=True)
    return np.linalg.eigh(np.einsum("nki,nkj->nij", near, near))[1][:, :, ::-1]


def _cross(vectors: np.ndarray) -> np.ndarray:
    x, y, z = vectors.T
    zero = np.zeros(len(vectors))
    return np.stack([np.stack([zero, -z, y], 1), np.stack([z, zero, -x], 1), np.stack([-y, x, zero], 1)], 1)


class _Match:
    """The target's tree and its directions across, and one trimmed least squares step after the other."""

    def __init__(self, source: np.ndarray, target: np.ndarray, kind: str, given: object, overlap: float) -> None:
        from scipy.spatial import cKDTree

        self.source, self.target, self.kind, self.overlap = source, target, kind, overlap
        self.tree = cKDTree(target)
        frames = neighbour_frames(target)
        if given is not None:
            along = np.asarray(given, float)
            if along.shape != target.shape or not np.isfinite(along).all():
                raise InputError(f"target_normals: one finite vector a target point is needed, not {along.shape}")
            along = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-12)
            self.across = along[:, :, None] if kind == "surface" else _perpendicular(along)
        else:
            self.across = frames[:, :, 2:] if kind == "surface" else frames[:, :, 1:]

    def residuals(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(n, 3) moved points, (n, 3, c) directions across, (n, c) signed distances, (n,) distance to the partner."""
        moved = self.source @ matrix[:3, :3].T + matrix[:3, 3]
        far, index = self.tree.query(moved)
        across = self.across[index]
        signed = np.einsum("nic,ni->nc", across, moved - self.target[index])
        return moved, across, signed, far

    def keep(self, far: np.ndarray) -> np.ndarray:
        """(n,) bool: the trimmed share, and beyond it what lies no farther than three spreads of the nearer ones."""
        order = np.sort(far)
        limit = order[max(0, int(np.ceil(self.overlap * len(far))) - 1)]
        spread = 1.4826 * float(np.median(order[: max(1, int(self.overlap * len(far)))]))
        return far <= min(max(3.0 * spread, 1e-6), max(limit, 3.0 * spread))

    def cost(self, matrix: np.ndarray) -> float:
        """Root mean square distance of the nearest `overlap` share of points, mm."""
        far = np.sort(self.residuals(matrix)[3])
        return float(np.sqrt((far[: max(1, int(np.ceil(self.overlap * len(far))))] ** 2).mean()))

    def system(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(rows, 6) slopes about the kept points' middle, (rows,) distances, (n,) kept, (3,) middle."""
        moved, across, signed, far = self.residuals(matrix)
        kept = self.keep(far)
        centre = moved[kept].mean(axis=0)
        turn = np.einsum("nij,nic->njc", -_cross(moved[kept] - centre), across[kept])
        rows = np.concatenate([across[kept], turn], axis=1)
        return np.moveaxis(rows, 1, 2).reshape(-1, 6), signed[kept].ravel(), kept, centre

    def fit(self, matrix: np.ndarray, iterations: int) -> np.ndarray:
        for _ in range(iterations):
            rows, signed, kept, centre = self.system(matrix)
            scale = np.sqrt((rows**2).mean(axis=0)) + 1e-9
            scaled = rows / scale
            normal = scaled.T @ scaled
            step = np.linalg.solve(normal + 1e-6 * np.trace(normal) / 6 * np.eye(6), -scaled.T @ signed) / scale
            length = np.linalg.norm(step[3:])
            if length > 0.3:
                step *= 0.3 / length
            move = np.eye(4)
            move[:3, :3] = rotation_from_vector(step[3:])
            move[:3, 3] = centre - move[:3, :3] @ centre + step[:3]
            after = move @ matrix
            if rms_mm(after, matrix, self.source[kept]) < SETTLED_MM:
                return after
            matrix = after
        return matrix


def _perpendicular(along: np.ndarray) -> np.ndarray:
    helper = np.where(np.abs(along[:, :1]) < 0.8, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    first = np.cross(along, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return np.stack([first, np.cross(along, first)], axis=2)


def _conclude(match: _Match, best: np.ndarray, ranked: list, noise_mm: float | None, transform: LinearTransform
              ) -> IcpRegistration:
    rows, signed, kept, centre = match.system(best)
    rms = float(np.sqrt((signed**2).mean()))
    noise = noise_mm if noise_mm is not None else max(
        LEAST_NOISE_MM, float(np.sqrt((signed**2).sum() / max(1, len(signed) - 6))))
    moved = match.source[kept] @ best[:3, :3].T + best[:3, 3]
    radius = max(float(np.sqrt(((moved - centre) ** 2).sum(axis=1).mean())), 1e-6)
    free, covariance, sigma = observability(rows, centre, radius, noise)
    rival = None
    if len(ranked) > 1:
        rival = float(max(-ranked[1][0], LEAST_NOISE_MM) / max(-ranked[0][0], LEAST_NOISE_MM))
    reason = _reason(free, sigma, rms, rival, kept)
    good = (f"{int(kept.sum())} of {len(kept)} points fit to {rms:.2f} mm; the shape fixes the place within "
            f"{sigma:.2f} mm")
    return IcpRegistration(transform, reason is None, reason or good, rms, sigma, kept, free, covariance, centre,
                           match.kind, rival)


def _reason(free: tuple[str, ...], sigma: float, rms: float, rival: float | None, kept: np.ndarray) -> str | None:
    if free:
        return f"the shape leaves open: {'; '.join(free)}; add points where the surface faces another way"
    if kept.sum() < FEWEST_POINTS:
        return f"only {int(kept.sum())} points found a partner; give more points or a start nearer the truth"
    if rms > LARGEST_RMS_MM:
        return f"the points lie {rms:.1f} mm from the shape (at most {LARGEST_RMS_MM:g} mm is accepted); check the pair"
    if rival is not None and rival < RIVAL_RATIO:
        return ("another place fits nearly as well (its distances are only "
                f"{100 * (rival - 1):.0f} % larger); add points or give a start nearer the truth")
    if sigma > LARGEST_SIGMA_MM:
        return f"the place is uncertain by {sigma:.1f} mm (at most {LARGEST_SIGMA_MM:g} mm is accepted); add points"
    return None


def observability(rows: np.ndarray, centre: np.ndarray, radius_mm: float, noise_mm: float
                  ) -> tuple[tuple[str, ...], np.ndarray, float]:
    """What a set of distances fixes: (words for free directions, (6, 6) covariance, sigma over the points, mm).

    rows: (m, 6) slopes of each distance by shift (mm) and turn (rad) about `centre`. radius_mm: rms distance of the
    points from it, by which turns are weighed against shifts. noise_mm: of one distance.
    """
    weight = np.array([1.0] * 3 + [1.0 / radius_mm] * 3)
    normal = (rows * weight).T @ (rows * weight) / max(1, len(rows))
    values, vectors = np.linalg.eigh(normal)
    sigmas = noise_mm / np.sqrt(np.maximum(values * len(rows), 1e-12))
    open_ = (values < FREE_RATIO * values[-1]) & ((values < 0.1 * FREE_RATIO * values[-1]) | (sigmas > FREE_SIGMA_MM))
    free = tuple(_words(vectors[:, n]) for n in np.flatnonzero(open_))
    covariance = (vectors * sigmas**2) @ vectors.T * np.outer(weight, weight)
    sigma = float("inf") if free else float(np.sqrt((sigmas**2).sum()))
    return free, covariance, sigma


def _words(direction: np.ndarray) -> str:
    shift, turn = direction[:3], direction[3:]

    def text(vector: np.ndarray) -> str:
        unit = vector / max(np.linalg.norm(vector), 1e-12)
        unit = unit * np.sign(unit[np.argmax(np.abs(unit))])
        return "(" + ", ".join(f"{value:.2f}" for value in unit + 0.0) + ")"

    a, b = np.linalg.norm(shift), np.linalg.norm(turn)
    if b < 0.3 * a:
        return f"shift along {text(shift)}"
    if a < 0.3 * b:
        return f"turn about {text(turn)}"
    return f"a screw: shift along {text(shift)} with a turn about {text(turn)}"
