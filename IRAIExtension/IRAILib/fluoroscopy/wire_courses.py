"""Courses of simulated catheters, guide-wires, vessels and leads, and how a tube lies on pixels."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

TIPS = ("straight", "soft", "angled", "J", "pigtail")


def random_course(rng: np.random.Generator, size_px: int, *, tip: str | None = None, margin_px: float = 25.0
                  ) -> np.ndarray:
    """(n, 2) x, y a pixel apart, from outside a square frame to a tip at least `margin_px` inside.

    tip: one of TIPS, drawn when None. Bends over 25 px and more; guide-wires wind, catheters sweep.
    """
    while True:
        start, heading = _entry(rng, size_px)
        length = int(rng.uniform(0.2, 1.1) * size_px)
        bend = _wander(rng, length, rng.uniform(0.15, 1.0))
        turn = _tip_turn(rng, tip or str(rng.choice(TIPS)))
        angle = heading + np.cumsum(np.concatenate([bend, turn]))
        course = start + np.cumsum(np.stack([np.cos(angle), np.sin(angle)], axis=1), axis=0)
        end = course[-1]
        inside = np.all((course >= 0) & (course < size_px), axis=1)
        left = np.flatnonzero(inside)
        if (end > margin_px).all() and (end < size_px - margin_px).all() and left.size > 50 \
                and inside[left[0]:].mean() > 0.97:
            return course


def _entry(rng: np.random.Generator, size_px: int) -> tuple[np.ndarray, float]:
    """A place 12 px outside one side and a heading into the frame."""
    along, side = rng.uniform(0.1, 0.9) * size_px, int(rng.integers(4))
    place = [(along, -12.0), (size_px + 12.0, along), (along, size_px + 12.0), (-12.0, along)][side]
    return np.array(place), [0.5, 1.0, -0.5, 0.0][side] * math.pi + rng.uniform(-0.6, 0.6)


def _wander(rng: np.random.Generator, length: int, strength: float) -> np.ndarray:
    """(length,) turn per pixel, smooth over 15 to 60 px."""
    noise = ndimage.gaussian_filter1d(rng.normal(size=length + 200), rng.uniform(15.0, 60.0))[100:-100]
    return noise / (noise.std() + 1e-9) * strength * 0.018 if length else noise


def _tip_turn(rng: np.random.Generator, tip: str) -> np.ndarray:
    """Turn per pixel of the end."""
    sign = rng.choice((-1.0, 1.0))
    radius, degrees = {"straight": (100.0, 0.0), "soft": (rng.uniform(25, 60), rng.uniform(20, 70)),
                       "angled": (rng.uniform(7, 16), rng.uniform(45, 110)),
                       "J": (rng.uniform(6, 18), rng.uniform(120, 200)),
                       "pigtail": (rng.uniform(9, 18), rng.uniform(300, 480))}[tip]
    count = int(radius * math.radians(degrees))
    straight = int(rng.uniform(6, 40)) if tip == "angled" else int(rng.uniform(2, 8))
    return np.concatenate([np.full(count, sign / radius), np.zeros(straight)])


def random_tree(rng: np.random.Generator, start: np.ndarray, heading: float, size_px: int, width_px: float
                ) -> list[tuple[np.ndarray, np.ndarray]]:
    """Branches of a contrast-filled vessel tree: (course (n, 2), width (n,)), tapering; at most twelve."""
    branches, waiting = [], [(np.asarray(start, float), heading, width_px)]
    while waiting and len(branches) < 12:
        place, angle, width = waiting.pop(0)
        length = int(rng.uniform(0.15, 0.7) * size_px * min(1.0, width / 6.0 + 0.3))
        angles = angle + np.cumsum(_wander(rng, length, rng.uniform(0.05, 0.8)))
        course = place + np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1), axis=0)
        widths = np.maximum(np.linspace(width, width * rng.uniform(0.5, 0.9), length), 1.2)
        branches.append((course, widths))
        for _ in range(int(rng.integers(2, 5) if len(branches) < 3 else rng.integers(0, 3))):
            at = int(rng.uniform(0.1, 1.0) * (length - 1))
            waiting.append((course[at], angles[at] + rng.choice((-1, 1)) * rng.uniform(0.4, 1.2),
                            widths[at] * rng.uniform(0.55, 0.95)))
    return [branch for branch in branches if len(branch[0]) > 8]


def crossing(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """(n, 2) of a lead or a line that enters and leaves the frame, nearly straight."""
    start, heading = _entry(rng, size_px)
    angle = heading + np.cumsum(_wander(rng, int(1.6 * size_px), rng.uniform(0.0, 0.4)))
    return start + np.cumsum(np.stack([np.cos(angle), np.sin(angle)], axis=1), axis=0)


def nearest(course: np.ndarray, shape: tuple[int, int], reach_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each pixel to a course and the number of the nearest point; inf and 0 beyond `reach_px`.

    course: (n, 2) x, y in pixels of the picture, at most a pixel apart; parts outside are left out.
    """
    reach = math.ceil(reach_px)
    numbers = np.arange(0.0, len(course) - 0.5, 0.5)
    fine = np.stack([np.interp(numbers, np.arange(len(course)), course[:, a]) for a in (0, 1)], axis=1)
    keep = ((fine > -reach) & (fine < np.array(shape[::-1]) + reach)).all(axis=1)
    fine, numbers = fine[keep], (numbers[keep] * 2).astype(np.int64)
    window = np.arange(-reach, reach + 1)
    base = np.rint(fine).astype(np.int64)
    columns = base[:, 0, None, None] + window[None, None, :]
    rows = base[:, 1, None, None] + window[None, :, None]
    square = (columns - fine[:, 0, None, None]) ** 2 + (rows - fine[:, 1, None, None]) ** 2
    ok = (columns >= 0) & (columns < shape[1]) & (rows >= 0) & (rows < shape[0]) & (square < reach_px**2)
    key = (np.sqrt(square) * 1024.0).astype(np.int64) * 2**20 + numbers[:, None, None]
    best = np.full(shape[0] * shape[1], 2**62, np.int64)
    np.minimum.at(best, (rows * shape[1] + columns)[ok], key[ok])
    best = best.reshape(shape)
    hit = best < 2**62
    distance = np.where(hit, (best >> 20) / 1024.0, np.inf)
    return distance, np.where(hit, (best & (2**20 - 1)) // 2, 0)
