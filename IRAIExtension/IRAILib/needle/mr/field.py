"""What a paramagnetic needle does to the static field around it.

A thin rod of radius a, susceptibility difference X (SI) in B0 along z is a line of magnetic dipoles, each parallel to
B0: the field along z changes by B0 * X * a^2 / 4 * integral of (3 (z.R)^2 - R^2) / R^5 ds. The integral has a closed
form for a straight rod; for an infinite one it is the textbook result X / 2 * sin^2(theta) * a^2 / r^2 * cos(2 phi)
(Haacke, Brown, Thompson, Venkatesan: Magnetic Resonance Imaging, chapter 25; Ladd et al., MRM 36, 646, 1996). The
ends of the rod add a term that grows with cos(theta): the ball ahead of the tip of a needle along B0.
"""

from __future__ import annotations

import numpy as np

GYROMAGNETIC_HZ_PER_T = 42.577e6
"""Protons."""
LEAST_RADIUS = 0.6
"""Of the rod's radius: nearer to the axis the line of dipoles isn't the rod; there it is metal, or just ahead of it."""


def rod_shift(axial_mm: np.ndarray, across_mm: np.ndarray, tangent: np.ndarray, *, radius_mm: float, length_mm: float,
              susceptibility_ppm: float, b0_axis: np.ndarray) -> np.ndarray:
    """Relative change (ppm) of the field along B0 round a straight rod that ends at axial_mm = 0.

    Args:
        axial_mm: (n,) place along the rod, 0 at the tip, negative on the shaft, positive ahead.
        across_mm: (n, 3) vector from the axis to the point.
        tangent: (3,) or (n, 3) unit vector of the rod, towards the tip. b0_axis: (3,) unit.
        susceptibility_ppm: of the metal less that of tissue, SI.
    Returns: (n,) ppm; an empty input gives an empty result.
    """
    c = np.asarray(tangent) @ b0_axis
    p = across_mm @ b0_axis
    square = np.maximum(np.einsum("na,na->n", across_mm, across_mm), (LEAST_RADIUS * radius_mm) ** 2)
    total = _antiderivative(axial_mm + length_mm, c, p, square) - _antiderivative(axial_mm, c, p, square)
    return susceptibility_ppm * radius_mm**2 / 4.0 * total


def _antiderivative(w, c, p, square) -> np.ndarray:
    """Of (3 (w c + p)^2 - R^2) / R^5 over w, with R^2 = w^2 + square."""
    r = np.sqrt(w * w + square)
    cube = r**3
    fifth = w / (3.0 * square * cube) + 2.0 * w / (3.0 * square * square * r)
    return 3.0 * (c * c * w**3 / (3.0 * square * cube) - 2.0 * c * p / (3.0 * cube) + p * p * fifth) - w / (square * r)


def infinite_cylinder_shift(radius_mm: float, distance_mm: np.ndarray, azimuth_rad: np.ndarray,
                            angle_to_b0_rad: float, susceptibility_ppm: float) -> np.ndarray:
    """Relative change (ppm) of the field outside an infinite cylinder (Haacke et al., chapter 25).

    `azimuth_rad` is counted from the plane that holds the cylinder's axis and B0.
    """
    return (0.5 * susceptibility_ppm * np.sin(angle_to_b0_rad) ** 2
            * (radius_mm / np.asarray(distance_mm, float)) ** 2 * np.cos(2.0 * np.asarray(azimuth_rad)))
