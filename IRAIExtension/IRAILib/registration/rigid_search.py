"""Searching the six numbers of a rigid pose: parameters, screening of starts, ascent, and what counts as the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Score = Callable[[np.ndarray], float]
STEP = 0.25
"""Half-width of the difference quotient, in units of a parameter: about a quarter of a millimetre of movement."""


def rotation_from_vector(vector_rad: np.ndarray) -> np.ndarray:
    """(3, 3) rotation about the vector by its length (Rodrigues)."""
    angle = float(np.linalg.norm(vector_rad))
    x, y, z = np.asarray(vector_rad, float) / max(angle, 1e-12)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


def vector_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """(3,) rotation vector in radians, at most pi long."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(rotation).as_rotvec()


def angle_deg(rotation: np.ndarray) -> float:
    """Angle of a (3, 3) rotation, 0 to 180."""
    return float(np.degrees(np.linalg.norm(vector_from_rotation(rotation))))


class Poses:
    """Six parameters for rigid maps near a base: translation in mm, rotation in mm at `radius_mm` from `centre`.

    With both in millimetres one step of an optimiser moves the tissue about as far along every parameter.
    base: (4, 4). centre: (3,) mm in the frame the map starts from.
    """

    def __init__(self, base: np.ndarray, centre: np.ndarray, radius_mm: float) -> None:
        self.base, self.centre, self.radius_mm = np.array(base, float), np.asarray(centre, float), float(radius_mm)

    def matrix(self, parameters: np.ndarray) -> np.ndarray:
        """(6,) to (4, 4): turned about the centre, then the base, then shifted."""
        p = np.asarray(parameters, float)
        turn = np.eye(4)
        turn[:3, :3] = rotation_from_vector(p[3:] / self.radius_mm)
        turn[:3, 3] = self.centre - turn[:3, :3] @ self.centre
        out = self.base @ turn
        out[:3, 3] += p[:3]
        return out

    def parameters(self, matrix: np.ndarray) -> np.ndarray:
        """(4, 4) rigid to (6,)."""
        turn = self.base[:3, :3].T @ matrix[:3, :3]
        moved = matrix[:3, :3] @ self.centre + matrix[:3, 3]
        home = self.base[:3, :3] @ self.centre + self.base[:3, 3]
        return np.concatenate([moved - home, vector_from_rotation(turn) * self.radius_mm])


def random_poses(count: int, shift_mm: float, turn_deg: float, radius_mm: float, seed: int) -> np.ndarray:
    """(count, 6) parameters drawn evenly from a ball of shifts and a ball of rotation vectors; the first is zero."""
    rng = np.random.default_rng(seed)

    def ball(size: float) -> np.ndarray:
        direction = rng.normal(size=(count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        return direction * size * np.cbrt(rng.random((count, 1)))

    out = np.hstack([ball(shift_mm), ball(float(np.radians(turn_deg)) * radius_mm)])
    out[0] = 0.0
    return out


def ascend(score: Score, start: np.ndarray, *, iterations: int = 25, step: float = STEP) -> tuple[np.ndarray, float]:
    """Parameters where a score is largest near the start, and the score there (quasi-Newton, central differences)."""
    from scipy.optimize import minimize

    def cost(p: np.ndarray) -> tuple[float, np.ndarray]:
        slope = np.empty(len(p))
        for n in range(len(p)):
            shift = np.zeros(len(p))
            shift[n] = step
            slope[n] = (score(p - shift) - score(p + shift)) / (2.0 * step)
        return -score(p), slope

    first = max(float(np.linalg.norm(cost(np.asarray(start, float))[1])), 1e-9)
    scale = 1.0 / first  # the first step of the line search is about one unit long

    found = minimize(lambda p: tuple(scale * v for v in cost(p)), start, jac=True, method="L-BFGS-B",
                     options={"maxiter": iterations, "ftol": 1e-5, "gtol": 1e-4, "maxls": 12})
    return found.x, float(score(found.x))


def movement_mm(a: np.ndarray, b: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n,) how far apart two (4, 4) maps bring the same (n, 3) points."""
    return np.linalg.norm(points @ (a - b)[:3, :3].T + (a - b)[:3, 3], axis=1)


def rms_mm(a: np.ndarray, b: np.ndarray, points: np.ndarray) -> float:
    """Root mean square of `movement_mm`."""
    return float(np.sqrt((movement_mm(a, b, points) ** 2).mean()))


def distinct(found: Sequence[tuple[float, np.ndarray]], points: np.ndarray, apart_mm: float, most: int = 100
             ) -> list[tuple[float, np.ndarray]]:
    """(score, (4, 4)) pairs, best first, without those nearer than `apart_mm` to a better one; `most` of them."""
    kept: list[tuple[float, np.ndarray]] = []
    some = points[:: max(1, len(points) // 100)]
    for score, matrix in sorted(found, key=lambda item: -item[0]):
        if len(kept) == most:
            break
        if all(rms_mm(matrix, other, some) > apart_mm for _, other in kept):
            kept.append((score, matrix))
    return kept
