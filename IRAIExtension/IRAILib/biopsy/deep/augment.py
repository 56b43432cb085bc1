"""What another scanner, dose, kernel or table position would have made of the same lesion."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

SOFT_TISSUE_HU = 40.0
NOISE_HU = (0.0, 25.0)
ENERGY = (-0.15, 0.15)
CUPPING_HU = (-12.0, 12.0)
BLUR_MM = 1.2
THICKNESS_MM = (0.0, 5.0)
ROTATION_DEG, SCALE, SHIFT = 20.0, 0.1, 2.0


def augmented(intensities: np.ndarray, inside: np.ndarray, step_mm: float, is_ct: bool, random: np.random.Generator
              ) -> tuple[np.ndarray, np.ndarray]:
    """One draw: (p, p, p) intensities and mask of the same shape. A CT's changes are in HU, before any window."""
    values, mask = moved(intensities, inside, random)
    values = ct_physics(values, step_mm, random) if is_ct else mr_physics(values, random)
    return values.astype(np.float32), mask


def moved(intensities: np.ndarray, inside: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Turned, mirrored, scaled and shifted about the middle."""
    angles = np.radians(random.uniform(-ROTATION_DEG, ROTATION_DEG, 3))
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [n for n in range(3) if n != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    matrix = matrix * random.uniform(1.0 - SCALE, 1.0 + SCALE) * random.choice([-1.0, 1.0], 3)
    middle = (np.array(intensities.shape) - 1.0) / 2.0
    offset = middle - matrix @ middle + random.uniform(-SHIFT, SHIFT, 3)
    how: dict[str, Any] = {"matrix": matrix, "offset": offset, "order": 1}
    values = ndimage.affine_transform(intensities, **how, mode="nearest")
    mask = np.asarray(ndimage.affine_transform(inside.astype(np.float32), **how)) > 0.5
    return values, (mask if mask.any() else inside)


def ct_physics(values: np.ndarray, step_mm: float, random: np.random.Generator) -> np.ndarray:
    """Tube voltage, slice thickness, kernel, beam hardening and dose, in that order (noise is not blurred again).

    Voltage: contrast above soft tissue is scaled, as iodine's attenuation falls with the energy. Slices: averaged
    along S. Kernel: a Gaussian blur in the slice, or its bounded inverse. Cupping: a parabola about the middle.
    Dose: noise whose spectrum rises with frequency in the slice, as filtered back-projection makes it.
    """
    out = np.asarray(values, np.float32).copy()
    above = np.maximum(out - SOFT_TISSUE_HU, 0.0)
    out += random.uniform(*ENERGY) * above
    thickness = random.uniform(*THICKNESS_MM) / step_mm
    if thickness > 1.0:
        out = ndimage.uniform_filter1d(out, round(thickness), axis=0, mode="nearest")
    sigma = random.uniform(-BLUR_MM, BLUR_MM) / step_mm
    blurred = ndimage.gaussian_filter(out, (0.0, abs(sigma), abs(sigma)), mode="nearest")
    out = blurred if sigma >= 0 else out + 0.7 * (out - blurred)
    axes = [np.linspace(-1.0, 1.0, n) for n in out.shape[1:]]
    radius = axes[0][:, None] ** 2 + axes[1][None, :] ** 2
    out += random.uniform(*CUPPING_HU) * (radius - radius.mean())
    return out + ct_noise(out.shape, random.uniform(*NOISE_HU), random)


def ct_noise(shape: tuple[int, ...], sd_hu: float, random: np.random.Generator) -> np.ndarray:
    """(k, j, i) noise of that standard deviation; its power in the slice rises with frequency, then rolls off."""
    white = random.normal(size=shape)
    fy, fx = np.fft.fftfreq(shape[1])[:, None], np.fft.rfftfreq(shape[2])[None, :]
    frequency = np.hypot(fy, fx)
    gain = np.sqrt(frequency) * np.exp(-(frequency / 0.35) ** 2)
    shaped = np.fft.irfft2(np.fft.rfft2(white, axes=(1, 2)) * gain, s=shape[1:], axes=(1, 2))
    spread = shaped.std()
    return (shaped * (sd_hu / spread) if spread > 0 else shaped).astype(np.float32)


def mr_physics(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Gain, a smooth coil profile, gamma and Rician noise, relative to the cube's own range."""
    low, high = np.percentile(values, (1.0, 99.0))
    span = max(float(high - low), 1e-6)
    unit = np.clip((values - low) / span, 0.0, 1.5)
    profile = np.asarray(ndimage.zoom(random.normal(0.0, 0.1, (3, 3, 3)), [n / 3 for n in values.shape], order=3,
                                      mode="nearest"))
    unit = unit ** random.uniform(0.8, 1.25) * np.exp(profile[tuple(slice(n) for n in values.shape)])
    sd = random.uniform(0.0, 0.06)
    noisy = np.hypot(unit + random.normal(0.0, sd, unit.shape), random.normal(0.0, sd, unit.shape)) if sd else unit
    return (low + span * random.uniform(0.85, 1.15) * noisy).astype(np.float32)


def mixed(inputs, targets, alpha: float, random: np.random.Generator):
    """MixUp (Zhang 2018): torch (n, ...) inputs and (n, classes) targets, each mixed with another of the batch."""
    import torch

    share = float(random.beta(alpha, alpha)) if alpha > 0 else 1.0
    order = torch.as_tensor(random.permutation(len(inputs)))
    return share * inputs + (1.0 - share) * inputs[order], share * targets + (1.0 - share) * targets[order]
