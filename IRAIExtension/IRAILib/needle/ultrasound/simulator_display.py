"""From envelope to picture: gain, dynamic range, smoothing, near-field clutter, compression, user interface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from .simulator_domain import Domain, draw
from .simulator_geometry import LINES, SAMPLES, Layout, ScanConverter

_QUANT = 8.0 + 5.0 * np.add.outer(np.arange(8.0), np.arange(8.0))  # coarser for higher frequencies


@dataclass
class Display:
    """Settings of one machine; `near` holds the clutter at the probe's face, (SAMPLES, LINES) envelope."""

    dynamic_range: float
    level: float
    gamma: float
    smoothing: float
    persistence: float
    blur: float
    compress: float
    near: np.ndarray | None
    overlay_seed: int

    def picture(self, envelope: np.ndarray, converter: ScanConverter, overlay: np.ndarray | None) -> np.ndarray:
        """(h, w) uint8 of a (SAMPLES, LINES) envelope."""
        if self.near is not None:
            envelope = envelope + self.near
        if self.smoothing > 0:
            mean = uniform_filter1d(uniform_filter1d(np.square(envelope), 5, 0, mode="nearest"), 3, 1, mode="nearest")
            envelope = np.sqrt(np.maximum(self.smoothing * mean + (1 - self.smoothing) * np.square(envelope), 0))
        grey = self.level + 20 * np.log10(np.maximum(envelope, 1e-6)) / self.dynamic_range
        grey = np.clip(grey, 0, 1) ** self.gamma
        picture = converter.convert(grey.astype(np.float32) * 255)
        if self.blur > 0.3:
            picture = gaussian_filter1d(gaussian_filter1d(picture, self.blur, 0, truncate=2.5), self.blur, 1,
                                        truncate=2.5)
        if overlay is not None:
            picture = np.where(overlay > 0, overlay, picture)
        if self.compress > 0:
            picture = _compressed(picture, self.compress)
        return np.clip(picture + 0.5, 0, 255).astype(np.uint8)

    def overlay(self, layout: Layout) -> np.ndarray | None:
        """(h, w) float grey levels of rulers, letters, bars and guides; None for a plain picture."""
        if self.overlay_seed == 0:
            return None
        rng = np.random.default_rng(self.overlay_seed)
        shape = (layout.height, layout.width)
        canvas = np.zeros(shape, np.float32)
        size = max(layout.width / 250, 1.0)
        for _ in range(int(rng.integers(1, 9))):
            _letters(rng, canvas, size)
        if rng.random() < 0.7:
            _ruler(rng, canvas, layout)
        if rng.random() < 0.3:  # grey bar
            x, y, h = int(rng.integers(0, shape[1] - 8)), int(rng.integers(0, shape[0] // 2)), shape[0] // 4
            canvas[y:y + h, x:x + int(2 + 2 * size)] = np.linspace(250, 5, h)[:, None]
        if rng.random() < 0.22:
            _dotted(rng, canvas)
        return canvas


def random_display(rng: np.random.Generator, domain: Domain) -> Display:
    """Draws a machine's settings."""
    near = None
    if rng.random() < 0.55:
        z = np.arange(SAMPLES) / SAMPLES
        profile = np.exp(-z / draw(rng, (0.01, 0.07)))
        for n in range(1, int(rng.integers(1, 7))):
            profile += np.exp(-np.square((z - n * draw(rng, (0.02, 0.035))) / 0.004)) * 0.7 ** n
        streak = gaussian_filter1d(rng.standard_normal(LINES), draw(rng, (2, 12)))
        near = (10 ** (draw(rng, (-8, 26)) / 20) * profile[:, None] * (1 + 0.5 * np.tanh(streak))).astype(np.float32)
    return Display(draw(rng, domain.dynamic_range), draw(rng, domain.mean_level),
                   draw(rng, (0.75, 1.35)), draw(rng, (0, 0.9)) if rng.random() < 0.6 else 0.0,
                   draw(rng, (0.1, 0.6)) if rng.random() < 0.35 else 0.0,
                   draw(rng, (0.3, 1.3)) if rng.random() < 0.3 else 0.0,
                   draw(rng, (0.1, 1.2)) if rng.random() < 0.4 else 0.0, near,
                   int(rng.integers(1, 2**31)) if rng.random() < 0.5 else 0)


def _compressed(picture: np.ndarray, strength: float) -> np.ndarray:
    """Block-wise cosine transform with coarse coefficients: looks like a JPEG of low quality."""
    h, w = picture.shape[0] // 8 * 8, picture.shape[1] // 8 * 8
    blocks = picture[:h, :w].reshape(h // 8, 8, w // 8, 8).swapaxes(1, 2)
    step = (_QUANT * strength).astype(np.float32)
    coarse = np.rint(np.asarray(dctn(blocks, axes=(2, 3), norm="ortho")) / step) * step
    result = picture.copy()
    result[:h, :w] = idctn(coarse, axes=(2, 3), norm="ortho").swapaxes(1, 2).reshape(h, w)
    return result


def _letters(rng: np.random.Generator, canvas: np.ndarray, size: float) -> None:
    """A short line of letter-like blots, mostly near the picture's edges."""
    height = max(int(draw(rng, (3, 6)) * size), 3)
    count = int(rng.integers(1, 14))
    width = count * height
    edge = rng.random() < 0.8
    y = int(rng.choice([draw(rng, (0, 0.12)), draw(rng, (0.86, 0.97))]) * canvas.shape[0]) if edge else int(
        rng.uniform(0, 0.95) * canvas.shape[0])
    x = int(rng.uniform(0, max(canvas.shape[1] - width, 1)))
    glyphs = (rng.random((7, count, 6)) < 0.5).astype(np.float32)
    glyphs[..., 5] = 0
    pattern = glyphs.reshape(7, count * 6)
    rows = np.arange(height) * 7 // height
    columns = np.arange(width) * (count * 6) // max(width, 1)
    patch = pattern[rows][:, columns] * draw(rng, (90, 255))
    target = canvas[y:y + height, x:x + width]
    target[:] = np.maximum(target, patch[:target.shape[0], :target.shape[1]])


def _ruler(rng: np.random.Generator, canvas: np.ndarray, layout: Layout) -> None:
    """Ticks every 5 or 10 mm beside the picture, at times with a line."""
    x = int(np.clip(rng.choice([draw(rng, (0, 0.1)), draw(rng, (0.88, 0.99))]) * layout.width, 0, layout.width - 6))
    step = (5 if rng.random() < 0.5 else 10) / layout.mm_per_px
    level = draw(rng, (80, 255))
    for n in range(int(layout.height / max(step, 2)) + 1):
        y = int(layout.origin_px[1] + n * step)
        if 0 <= y < layout.height:
            canvas[y, x:x + (5 if n % 5 == 0 else 3)] = level
    if rng.random() < 0.4:
        canvas[:, x] = level


def _dotted(rng: np.random.Generator, canvas: np.ndarray) -> None:
    """A straight guide drawn by the machine: dots or dashes across the picture."""
    start, end = rng.uniform(0, 1, 2), rng.uniform(0, 1, 2)
    n = int(np.hypot(*(np.array(canvas.shape) * (end - start)))) + 1
    at = np.linspace(start, end, n) * (np.array(canvas.shape) - 1)
    period = int(rng.integers(4, 14))
    on = np.arange(n) % period < max(1, int(period * draw(rng, (0.15, 0.6))))
    rows = np.rint(at[on]).astype(int)
    canvas[rows[:, 0], rows[:, 1]] = draw(rng, (90, 255))
