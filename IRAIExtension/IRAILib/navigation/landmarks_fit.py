"""Maps through pairs of points: rigid, similarity, thin plate; and the error to expect elsewhere."""

from __future__ import annotations

import numpy as np

from ..geometry import InputError, LinearTransform, Transform

KINDS = ("rigid", "similarity", "thin_plate")
UNKNOWNS = {"rigid": 6, "similarity": 7}
MAX_CONDITION = 1e9
MIN_OFF_LINE_SHARE = 1e-3
FEWEST = {"rigid": 3, "similarity": 3, "thin_plate": 5}


class ThinPlateTransform(Transform):
    """Passes through all landmarks and bends least between them (kernel r in 3D, plus an affine map).

    Raises InputError where the points don't fix the affine part (they lie in one plane).
    Source: Bookstein 1989; Duchon 1977 for the kernel in three dimensions.
    """

    def __init__(self, source_mm: np.ndarray, target_mm: np.ndarray, to_frame: str, from_frame: str) -> None:
        super().__init__(to_frame, from_frame)
        self.source_mm = np.array(source_mm, float)
        count = len(self.source_mm)
        self.centre = self.source_mm.mean(axis=0)
        self.scale = float(np.sqrt(((self.source_mm - self.centre) ** 2).sum(axis=1).mean())) or 1.0
        system = np.zeros((count + 4, count + 4))
        system[:count, :count] = self._kernel(self.source_mm)
        system[:count, count:] = self._affine(self.source_mm)
        system[count:, :count] = system[:count, count:].T
        if not np.linalg.cond(system) < MAX_CONDITION:
            raise InputError(f"{self}: landmarks in one plane don't fix a thin plate in space; add points off it")
        self.weights = np.linalg.solve(system, np.vstack([np.asarray(target_mm, float), np.zeros((4, 3))]))

    def apply(self, points_ras: np.ndarray) -> np.ndarray:
        points = np.asarray(points_ras, float).reshape(-1, 3)
        return np.hstack([self._kernel(points), self._affine(points)]) @ self.weights

    def to_sitk(self):
        raise InputError(f"{self}: a thin plate can't be written as a transform; sample it into a displacement field")

    def _kernel(self, points: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points[:, None] - self.source_mm[None], axis=2) / self.scale

    def _affine(self, points: np.ndarray) -> np.ndarray:
        return np.column_stack([np.ones(len(points)), (points - self.centre) / self.scale])


def linear_fit(source: np.ndarray, target: np.ndarray, *, scaled: bool, mirrored: bool = False) -> np.ndarray:
    """(4, 4) least-squares rigid or similarity map of (n, 3) source to target points; n >= 3, not on one line.

    mirrored: the best improper map instead (to recognise points whose sides were swapped). Source: Umeyama 1991.
    """
    a, b = source.mean(axis=0), target.mean(axis=0)
    x, y = source - a, target - b
    u, values, vt = np.linalg.svd(y.T @ x)
    sign = np.sign(np.linalg.det(u) * np.linalg.det(vt)) * (-1.0 if mirrored else 1.0)
    flip = np.array([1.0, 1.0, sign])
    matrix = np.eye(4)
    rotation = u @ (flip[:, None] * vt)
    scale = float((values * flip).sum() / (x**2).sum()) if scaled else 1.0
    matrix[:3, :3] = scale * rotation
    matrix[:3, 3] = b - matrix[:3, :3] @ a
    return matrix


def fit(source: np.ndarray, target: np.ndarray, kind: str, to_frame: str, from_frame: str) -> Transform:
    """The map of a kind that takes (n, 3) source points nearest to (n, 3) target points."""
    if kind == "thin_plate":
        return ThinPlateTransform(source, target, to_frame, from_frame)
    return LinearTransform(linear_fit(source, target, scaled=kind == "similarity"), to_frame, from_frame)


def localisation_error(residuals: np.ndarray, kind: str) -> float:
    """FLE (rms, 3D, mm) that explains (n, 3) residuals of a rigid or similarity fit; NaN when nothing is left over.

    Source: Sibson 1979, Fitzpatrick 1998 (rigid: FRE^2 = (1 - 2/N) FLE^2).
    """
    free = residuals.size - UNKNOWNS[kind]
    return float(np.sqrt(3.0 * (residuals**2).sum() / free)) if free > 0 else float("nan")


def error_factor(points: np.ndarray, at: np.ndarray, kind: str) -> np.ndarray:
    """(m,) TRE / FLE (both rms) at (m, 3) targets of a fit to (n, 3) points.

    Source: Fitzpatrick, West, Maurer 1998, for isotropic error; with the variance of the scale for a similarity.
    """
    centre = points.mean(axis=0)
    x = points - centre
    _, values, vt = np.linalg.svd(x, full_matrices=False)
    away = (np.atleast_2d(at) - centre) @ vt.T
    squared_axis = values**2 / len(points)
    total = np.zeros(len(away))
    for axis in range(3):
        others = [n for n in range(3) if n != axis]
        lever = (away[:, others] ** 2).sum(axis=1)
        about = squared_axis[others].sum()
        total += lever / about if about > 0 else np.where(lever > 0, np.inf, 0.0)
    factor = (1.0 + total / 3.0) / len(points)
    if kind == "similarity":
        factor = factor + (away**2).sum(axis=1) / (3.0 * (x**2).sum())
    return np.sqrt(factor)


def left_out(source: np.ndarray, target: np.ndarray, kind: str) -> np.ndarray:
    """(n, 3) by how much every point is missed by the map through the others; NaN where the others fix no map."""
    errors = np.full((len(source), 3), np.nan)
    for number in range(len(source)):
        rest = np.arange(len(source)) != number
        spread = np.linalg.svd(source[rest] - source[rest].mean(axis=0), compute_uv=False)
        if spread[1 if kind != "thin_plate" else 2] > MIN_OFF_LINE_SHARE * spread[0]:
            made = fit(source[rest], target[rest], kind, "fixed", "moving")
            errors[number] = made.apply(source[number:number + 1])[0] - target[number]
    return errors
