"""Ultrasound-like pictures of the sample's CT: echo by tissue, bone that shadows, speckle; SIMULATED stands in them."""

from __future__ import annotations

import numpy as np

from ..geometry import Volume

STEP = 2
"""The tissue is looked up on every second pixel; the speckle is at full size."""
FAN_HALF_DEG, APEX_SHARE = 33.0, 0.45


def simulate_pictures(ct: Volume, ras_from_pixel: np.ndarray, size_px: tuple[int, int], seed: int) -> np.ndarray:
    """(n, rows, columns) uint8 for (n, 4, 4) poses; (columns, rows) = size_px. Bone, vessels and liver by their HU."""
    from scipy import ndimage

    random = np.random.default_rng(seed)
    columns, rows = size_px
    x, y = np.meshgrid(np.arange(0, columns, STEP), np.arange(0, rows, STEP))
    pixels = np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size), np.ones(x.size)])
    fan = _fan(columns, rows)
    out = np.zeros((len(ras_from_pixel), rows, columns), np.uint8)
    for picture, matrix in zip(out, ras_from_pixel, strict=True):
        hu = ct.sample((pixels @ matrix.T)[:, :3], order=1, outside=-1000.0).reshape(x.shape)
        echo, shadow = _echo(hu)
        echo = np.asarray(ndimage.zoom(echo * shadow, STEP, order=1))[:rows, :columns]
        speckle = ndimage.gaussian_filter(random.normal(size=(rows, columns)), (0.8, 1.6))
        speckle = np.exp(0.45 * speckle / speckle.std())
        grey = 120.0 + 42.0 * np.log(np.maximum(echo * speckle, 1e-3))
        picture[:] = np.where(fan, np.clip(grey, 0, 255), 0).astype(np.uint8)
        _mark(picture)
    return out


def _echo(hu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(echo, what is left of the beam) by HU: liver grey, vessels and tumour dark, bone a bright edge that shadows."""
    echo = np.interp(hu, [-1000, -200, 30, 60, 80, 105, 140, 175, 250, 420],
                     [0.02, 0.05, 0.75, 0.35, 0.8, 1.0, 0.6, 0.12, 0.5, 2.5])
    slope = np.abs(np.gradient(hu, axis=0))
    echo = echo + np.clip(slope / 60.0, 0.0, 1.5) * (hu > -300)
    lost = np.cumsum(np.where(hu > 260, 0.5, np.where(hu < -500, 0.02, 0.0)), axis=0)
    return echo, np.exp(-lost)


def _fan(columns: int, rows: int) -> np.ndarray:
    """(rows, columns) bool of a convex probe's field."""
    x, y = np.meshgrid(np.arange(columns) - (columns - 1) / 2.0, np.arange(rows) + APEX_SHARE * rows)
    depth = np.hypot(x, y)
    return (np.abs(np.degrees(np.arctan2(x, y))) < FAN_HALF_DEG) & (depth > APEX_SHARE * rows * 1.02) & (
        depth < rows * (1.0 + APEX_SHARE) * 0.99)


def _mark(picture: np.ndarray) -> None:
    from PIL import Image, ImageDraw

    drawn = Image.fromarray(picture)
    draw = ImageDraw.Draw(drawn)
    draw.text((picture.shape[1] - draw.textlength("SIMULATED") - 4, picture.shape[0] - 14), "SIMULATED", fill=200)
    picture[:] = np.asarray(drawn)
