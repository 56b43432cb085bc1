"""Needles and the line-like things that are no needles, as reflecting curves for the ultrasound simulator."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .simulator_domain import Domain, draw
from .simulator_geometry import LINES, SAMPLES, BeamGeometry

IN_PLANE_SIGMAS = 1.5  # a tip further off the plane than this many elevational sigmas doesn't count as in it
STEP_MM = 0.15


@dataclass
class Needle:
    """One needle in the image plane's coordinates: (x, z) mm, `off` mm out of the plane.

    The curve is an arc: `tip`, unit `direction` at the tip, `curvature` 1/mm. `reach` mm are simulated backwards.
    """

    tip: np.ndarray
    direction: np.ndarray
    curvature: float
    gauge_mm: float
    reach_mm: float
    off_tip_mm: float
    off_slope: float  # mm out of the plane per mm along the shaft
    contrast_db: float
    specular_deg: float
    diffuse_db: float
    steer_deg: float
    tip_gain: float
    bounce_mm: float
    bounces: int
    bounce_decay: float
    shadow_db: float
    speed_mm_s: float
    gaps: list[tuple[float, float, float]] = field(default_factory=list)  # (start, end) mm from the tip, dB
    phase: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def arc(self, back_mm: np.ndarray, advance_mm: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """((n, 2) points, (n, 2) unit tangents) at `back_mm` behind the tip, after the tip moved on by advance_mm."""
        s = advance_mm - np.asarray(back_mm, float)
        normal = np.array([-self.direction[1], self.direction[0]])
        turn = self.curvature * s
        along = s * np.sinc(turn / np.pi)
        across = s * np.sinc(turn / 2 / np.pi) * np.sin(turn / 2)
        tangent = np.cos(turn)[:, None] * self.direction + np.sin(turn)[:, None] * normal
        return self.tip + along[:, None] * self.direction + across[:, None] * normal, tangent

    def off_mm(self, back_mm: np.ndarray, advance_mm: float = 0.0) -> np.ndarray:
        """Distance from the image plane, mm."""
        return self.off_tip_mm + self.off_slope * (advance_mm - np.asarray(back_mm, float))


def random_needle(rng: np.random.Generator, geometry: BeamGeometry, domain: Domain, slice_mm: float) -> Needle:
    """A needle whose tip lies in the field of view (or, now and then, beyond it, or out of the plane)."""
    half, _, depth = geometry.extent_mm()
    outside = rng.random() < domain.tip_outside
    side = 1.0 if rng.random() < 0.5 else -1.0
    for _ in range(40):
        angle = np.radians(rng.triangular(2, 35, 82))
        direction = np.array([side * np.cos(angle), np.sin(angle)])
        line = draw(rng, (0.04, 0.96)) * (LINES - 1)
        tip = np.array(geometry.mm_from_beam(draw(rng, (0.08, 0.93)) * (SAMPLES - 1), line), float).ravel()
        back = np.arange(0.0, 2.5 * depth + 2 * half, 1.0)
        inside = geometry.inside(*(tip - back[:, None] * direction).T)
        length = float(back[inside][-1]) if inside.any() else 0.0
        if length >= max(12.0, 0.18 * depth):
            break
    if outside:
        beyond = np.arange(0.0, 3 * depth + 2 * half, 1.0)
        left = ~geometry.inside(*(tip + beyond[:, None] * direction).T)
        tip = tip + (beyond[left][0] + draw(rng, (3, 15))) * direction
    bend = draw(rng, domain.bend) * (1 if rng.random() < 0.5 else -1) if rng.random() < 0.45 else 0.0
    gauge = draw(rng, domain.gauge_mm)
    off_tip, slope = _off_plane(rng, domain, slice_mm, length)
    gaps = [(start := draw(rng, (5, max(length, 7))), start + length * draw(rng, (0.05, 0.3)), -draw(rng, (8, 40)))
            for _ in range(int(rng.integers(1, 4)))] if rng.random() < 0.35 else []
    moving = rng.random() < 0.55
    tail = rng.random() < 0.5
    return Needle(tip, direction, 8 * bend / max(length, 20.0), gauge, 2.5 * depth + 2 * half, off_tip, slope,
                  draw(rng, domain.needle_contrast), draw(rng, domain.specular_width_deg), draw(rng, domain.diffuse),
                  draw(rng, (0, 22)) if rng.random() < 0.5 else 0.0, draw(rng, (0.8, 2.2)),
                  gauge * draw(rng, (0.45, 1.3)), int(rng.integers(2, 9)) if tail else int(rng.integers(0, 3)),
                  draw(rng, (0.3, 0.8)), draw(rng, (0, 9)) if rng.random() < 0.5 else 0.0,
                  draw(rng, domain.speed_mm_s) if moving else 0.0, gaps, rng.uniform(0, 6.3, 2))


def _off_plane(rng: np.random.Generator, domain: Domain, slice_mm: float, length: float) -> tuple[float, float]:
    """(offset of the tip mm, slope): leaving the plane before the tip, or staying in it."""
    sign = 1.0 if rng.random() < 0.5 else -1.0
    if rng.random() < domain.out_of_plane / (1 - domain.needle_free):
        off = slice_mm * draw(rng, (2.6, 7))
        start = slice_mm * draw(rng, (-0.8, 0.8))  # at the entry
        return sign * off, sign * (off - start) / max(length, 10.0)
    off = slice_mm * min(abs(rng.normal(0, 0.45)), 1.2)
    start = slice_mm * rng.normal(0, 0.6)
    return sign * off, (sign * off - start) / max(length, 10.0)


@dataclass
class Curve:
    """A reflector that is no needle: points (n, 2) mm, amplitude (n,) against average tissue, speed mm/s."""

    points: np.ndarray
    amplitude: np.ndarray
    velocity: np.ndarray
    bounces: int = 0
    bounce_mm: float = 1.0


def random_distractors(rng: np.random.Generator, geometry: BeamGeometry, empty: bool) -> list[Curve]:
    """Lines across the whole field, arcs, valve-like moving strands, wires, short strands in parallel."""
    half, _, depth = geometry.extent_mm()
    curves: list[Curve] = []
    kinds = rng.choice(5, size=int(rng.integers(1, 3)), replace=False, p=[0.3, 0.2, 0.15, 0.2, 0.15])
    for kind in kinds:
        level = 10 ** (draw(rng, (6, 28)) / 20)
        centre = np.array([draw(rng, (-0.8, 0.8)) * half, draw(rng, (0.1, 0.95)) * depth])
        angle = rng.normal(0, np.radians(14))
        if kind == 0:  # one side to the other: fascia, bottom of a tank, membrane
            s = np.arange(-2.5 * half, 2.5 * half, STEP_MM)
            curves.append(_strand(rng, centre, angle, s, level, rng.normal(0, 0.2) / half))
        elif kind == 1:  # strongly bent: diaphragm, bone surface, vessel wall
            s = np.arange(0, draw(rng, (0.15, 0.8)) * depth, STEP_MM) - 0.2 * depth
            bend = rng.choice([-1, 1]) * draw(rng, (0.7, 3.0)) / depth
            curves.append(_strand(rng, centre, angle, s, level, bend))
        elif kind == 2:  # moving strand (valve, catheter of another kind, bowel wall)
            s = np.arange(0, draw(rng, (0.05, 0.25)) * depth, STEP_MM)
            strand = _strand(rng, centre, angle * 2, s, level, rng.normal(0, 1.5) / depth)
            strand.velocity = rng.normal(0, 30, 2)
            curves.append(strand)
        elif kind == 3:  # wires across the plane: points
            for _ in range(int(rng.integers(2, 10))):
                at = np.array([draw(rng, (-0.9, 0.9)) * half, draw(rng, (0.1, 0.95)) * depth])
                tail = int(rng.integers(0, 4))
                curves.append(Curve(at + rng.normal(0, 0.05, (4, 2)), np.full(4, 4 * level), np.zeros(2), tail,
                                    draw(rng, (0.5, 1.5))))
        else:  # several short parallel strands
            for _ in range(int(rng.integers(3, 9))):
                shift = rng.normal(0, 0.12, 2) * depth
                s = np.arange(0, draw(rng, (0.03, 0.2)) * depth, STEP_MM)
                curves.append(_strand(rng, centre + shift, angle, s, level * draw(rng, (0.3, 1)),
                                      rng.normal(0, 0.3) / depth))
    return curves


def _strand(rng: np.random.Generator, centre: np.ndarray, angle: float, s: np.ndarray, level: float,
            bend: float) -> Curve:
    turn = angle + bend * s
    step = np.stack([np.cos(turn), np.sin(turn)], -1) * STEP_MM
    points = np.cumsum(step, 0)
    points += centre - points[len(points) // 2]
    wave = 0.6 + 0.4 * np.sin(s / draw(rng, (1, 12)) + rng.uniform(0, 6.3))
    fade = np.exp(-np.square(np.degrees(turn) / draw(rng, (18, 60))))
    return Curve(points, level * wave * (0.15 + 0.85 * fade), np.zeros(2), int(rng.integers(0, 4)) // 2,
                 draw(rng, (0.6, 3)))
