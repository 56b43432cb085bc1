"""Catheters painted into X-ray frames by attenuation and photons: nothing of the finder is used."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.interpolate import CubicSpline


def clutter(shape=(320, 320), seed=0) -> np.ndarray:
    """(h, w) photons a pixel, smooth anatomy: a heart's edge, ribs as soft bands, the spine; no thin line."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:shape[0], :shape[1]].astype(float)
    depth = 1.2 + 0.5 * ndimage.gaussian_filter(rng.normal(size=shape), 40) / 0.01 * 0.02
    depth += 0.5 / (1.0 + np.exp(-(x - shape[1] * rng.uniform(0.5, 0.7)) / 5.0))
    for n in range(4):
        centre = shape[0] * (0.15 + 0.25 * n) + 25.0 * np.sin(x / shape[1] * 2.5 + rng.uniform(0, 2))
        depth += 0.10 * np.exp(-0.5 * np.square((y - centre) / 11.0))
    return 4000.0 * np.exp(-depth)


def random_course(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(n, 2) x, y a quarter of a pixel apart, from outside the frame to a tip well inside; bends over 25 px."""
    while True:
        height, width = shape
        side = int(rng.integers(4))
        along = rng.uniform(0.2, 0.8)
        start = np.array([(along * width, -12.0), (width + 12.0, along * height), (along * width, height + 12.0),
                          (-12.0, along * height)][side])
        heading = np.array([(0.0, 1.0), (-1.0, 0.0), (0.0, -1.0), (1.0, 0.0)][side])
        points = [start]
        angle = np.arctan2(heading[1], heading[0]) + rng.uniform(-0.4, 0.4)
        for _ in range(int(rng.integers(4, 8))):
            points.append(points[-1] + 30.0 * np.array([np.cos(angle), np.sin(angle)]))
            angle += rng.uniform(-0.45, 0.45)
        spline = CubicSpline(np.arange(len(points)), np.array(points))
        fine = spline(np.linspace(0, len(points) - 1, 120 * len(points)))
        low, high = fine[-1] - 40.0, np.array([width, height]) - 40.0 - fine[-1]
        if (low > 0).all() and (high > 0).all():
            return fine


def painted(photons: np.ndarray, course: np.ndarray, *, width_px=5.0, depth=0.3, blur_px=0.9, dose=1.0,
            rng: np.random.Generator) -> np.ndarray:
    """(h, w) 8-bit frame: a cylinder of that width and attenuation, blurred, with Poisson noise at `dose`."""
    up = 3
    canvas = np.zeros((photons.shape[0] * up, photons.shape[1] * up), bool)
    at = np.rint((course + 0.5) * up - 0.5).astype(int)
    ok = ((at >= 0) & (at < np.array(canvas.shape[::-1]))).all(axis=1)
    canvas[at[ok, 1], at[ok, 0]] = True
    distance = ndimage.distance_transform_edt(~canvas) / up
    chord = np.sqrt(np.maximum(0.0, 1.0 - np.square(distance / (width_px / 2.0))))
    beyond = (np.stack(np.meshgrid(*(np.arange(n) for n in canvas.shape[::-1])), -1) / up - course[-1])
    chord[(beyond @ (course[-1] - course[-8]) > 0) & (np.linalg.norm(beyond, axis=2) < width_px)] = 0.0
    path = chord.reshape(photons.shape[0], up, photons.shape[1], up).mean(axis=(1, 3))
    clean = photons * dose * np.exp(-depth * path)
    frame = rng.poisson(ndimage.gaussian_filter(clean, blur_px)).astype(float)
    return np.clip(frame / np.percentile(frame, 99.5) * 235.0, 0, 255).astype(np.uint8)
