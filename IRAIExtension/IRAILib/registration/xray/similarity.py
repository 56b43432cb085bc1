"""Gradient correlation of a radiograph and an X-ray frame, blind to what scatter, windowing and sign do to grey values.

Gradients are divided by their mean size in a neighbourhood, so that a lung's edge, a needle or a bed doesn't outweigh
the spine (after Penney 1998, gradient correlation; local normalisation as in Grupp 2018's patch variant).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...geometry import CArmGeometry, InputError
from .drr import require_torch

SMOOTHING_PX, SPREAD_PX = 1.0, 7.0
FLOOR = 0.25
"""Share of the median gradient under which a neighbourhood counts as flat."""
LARGEST = 3.0
"""Gradients of the X-ray frame more than this above their neighbourhood (a needle, a bed's edge) are cut."""
BORDER_PX = 3


def blur(images: Any, sigma: float) -> Any:
    """torch (b, rows, columns), Gaussian, zero beyond the borders."""
    torch = require_torch()
    reach = max(1, int(np.ceil(3.0 * sigma)))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=images.device, dtype=torch.float32) / sigma) ** 2)
    taps = taps / taps.sum()
    conv = torch.nn.functional.conv2d
    out = conv(images[:, None], taps[None, None, None], padding=(0, reach))
    return conv(out, taps[None, None, :, None], padding=(reach, 0))[:, 0]


def slopes(images: Any) -> Any:
    """torch (b, rows, columns) to (b, 2, rows, columns): central differences along columns, rows; zero at borders."""
    torch = require_torch()
    out = torch.zeros((len(images), 2, *images.shape[1:]), device=images.device)
    out[:, 0, :, 1:-1] = 0.5 * (images[:, :, 2:] - images[:, :, :-2])
    out[:, 1, 1:-1] = 0.5 * (images[:, 2:] - images[:, :-2])
    return out


def smooth(images: Any, valid: Any) -> Any:
    """Blur that takes nothing from beyond `valid` (b or 1, rows, columns) float."""
    return blur(images * valid, SMOOTHING_PX) / blur(valid, SMOOTHING_PX).clamp(min=1e-3)


def shrink(valid: Any, pixels: int = BORDER_PX) -> Any:
    """Erode (b, rows, columns) float masks; the image's border counts as invalid."""
    torch = require_torch()
    padded = torch.nn.functional.pad(1.0 - valid[:, None], [pixels] * 4, value=1.0)
    return 1.0 - torch.nn.functional.max_pool2d(padded, 2 * pixels + 1, stride=1)[:, 0]


def local_size(gradient: Any, valid: Any) -> Any:
    """(b, rows, columns): mean length of the gradient round each pixel, never under a share of its median."""
    torch = require_torch()
    length = gradient.square().sum(dim=1).sqrt() * valid
    weight = blur(valid, SPREAD_PX).clamp(min=1e-3)
    local = blur(length, SPREAD_PX) / weight
    usual = torch.stack([(near[good > 0].median() if bool((good > 0).any()) else near.mean())
                         for near, good in zip(local, valid.expand_as(local), strict=True)])
    return local + FLOOR * usual[:, None, None] + 1e-12


def features(images: Any, valid: Any, limit: float | None = None) -> tuple[Any, Any, Any]:
    """Locally normalised gradients: (b, 2, rows, columns), where they hold (b, rows, columns), their local size.

    Args:
        images: torch (b, rows, columns). valid: the same, 1 where pixels are known. limit: cut at so many local sizes.
    """
    good = shrink(valid)
    gradient = slopes(smooth(images, valid))
    size = local_size(gradient, good)
    if limit is not None:
        for _ in range(2):
            length = gradient.square().sum(dim=1).sqrt()
            gradient = gradient * (limit * size / length.clamp(min=1e-12)).clamp(max=1.0)[:, None]
            size = local_size(gradient, good)
    return gradient / size[:, None], good, size


@dataclass(frozen=True, eq=False)
class LevelView:
    """An X-ray frame at one pixel size. target: torch (1, 2, rows, columns) gradients; valid: (1, rows, columns);
    away: torch (n, 3) rays; geometry: of the binned pixels."""

    geometry: CArmGeometry
    target: Any
    valid: Any
    away: Any

    def flipped(self, sign: float) -> LevelView:
        """Itself, or with the other contrast where `sign` is negative."""
        return self if sign > 0 else replace(self, target=-self.target)


def correlation(target: Any, moving: Any, valid: Any) -> Any:
    """(b,) normalised correlation of gradients (b, 2, rows, columns) where `valid`; 0 where nothing is left."""
    weight = valid[:, None]
    both = (weight * target * moving).sum(dim=(1, 2, 3))
    return both / ((weight * target.square()).sum(dim=(1, 2, 3)) * (weight * moving.square()).sum(dim=(1, 2, 3))
                   ).clamp(min=1e-12).sqrt()


def binned(image: np.ndarray, valid: np.ndarray, geometry: CArmGeometry, factor: int
           ) -> tuple[np.ndarray, np.ndarray, CArmGeometry]:
    """Means of factor x factor pixels (the rest at the right and at the bottom falls away) with their geometry."""
    rows, columns = (n // factor for n in image.shape)
    cut = np.where(valid, image, 0.0)[:rows * factor, :columns * factor].reshape(rows, factor, columns, factor)
    count = valid[:rows * factor, :columns * factor].reshape(rows, factor, columns, factor).sum(axis=(1, 3))
    first = geometry.pixel0_mm + (factor - 1) / 2.0 * (geometry.column_mm + geometry.row_mm)
    out = CArmGeometry(geometry.source_mm, first, geometry.column_mm * factor, geometry.row_mm * factor,
                       (columns, rows), geometry.frame)
    return cut.sum(axis=(1, 3)) / np.maximum(count, 1), count > 0.5 * factor**2, out


def prepare_frame(image: np.ndarray, geometry: CArmGeometry, intensities: bool = False
                  ) -> tuple[np.ndarray, np.ndarray]:
    """An X-ray frame as float line integrals up to scale, offset and sign, and where it shows something.

    Args:
        image: (rows, columns) grey values. intensities: True for detector counts (their log is taken), False for values
            that are log already.
    Returns: float64 image, bool mask (without collimated borders and values that aren't finite).
    Raises: InputError for a wrong shape or a flat image.
    """
    pixels = np.asarray(image, float)
    if pixels.shape != (geometry.size[1], geometry.size[0]):
        raise InputError(f"X-ray frame: {pixels.shape} (rows, columns), its geometry is of {geometry.size[::-1]}")
    valid = np.isfinite(pixels)
    if valid.mean() < 0.1 or min(pixels.shape) < 32:
        raise InputError("X-ray frame: smaller than 32 pixels, or hardly a pixel is a number")
    pixels = np.where(valid, pixels, np.median(pixels[valid]))
    low, high = np.percentile(pixels[valid], [0.05, 99.95])
    if not high > low:
        raise InputError("X-ray frame: all pixels are the same; give a frame with a patient in it")
    pixels = np.clip(pixels, low, high)
    valid &= _lit(pixels)
    if intensities:
        pixels = -np.log(np.maximum(pixels - min(low, 0.0), 1e-3 * (high - min(low, 0.0))))
    return (pixels - pixels[valid].mean()) / (pixels[valid].std() + 1e-12), valid


def _lit(pixels: np.ndarray) -> np.ndarray:
    """False in straight borders (collimator blades) that are flat: hardly any change against the image's middle."""
    out = np.ones(pixels.shape, bool)
    for axis in (0, 1):
        lines = np.moveaxis(pixels, axis, 0)
        noise = np.abs(np.diff(lines, axis=1)).mean(axis=1) + np.abs(lines - lines.mean(axis=1, keepdims=True)
                                                                     ).mean(axis=1)
        usual = np.median(noise[len(noise) // 4: -len(noise) // 4])
        dull = noise < 0.1 * usual
        count = len(dull)
        head = int(np.argmin(dull)) if dull[0] else 0
        tail = int(np.argmin(dull[::-1])) if dull[-1] else 0
        if head + tail < 0.7 * count:
            kept = np.zeros(count, bool)
            kept[head + (2 if head else 0):count - tail - (2 if tail else 0)] = True
            out &= kept[:, None] if axis == 0 else kept[None, :]
    return out


def level_view(image: np.ndarray, valid: np.ndarray, geometry: CArmGeometry, pixel_mm: float, centre_mm: np.ndarray,
               device: str = "cpu") -> LevelView:
    """The frame binned to about `pixel_mm` at `centre_mm` (table frame) with its normalised gradients."""
    torch = require_torch()
    from .drr import pixel_rays

    depth = float(geometry.normal @ (centre_mm - geometry.source_mm))
    own = float(np.linalg.norm(geometry.column_mm)) * depth / geometry.source_to_detector_mm
    factor = int(np.clip(round(pixel_mm / own), 1, min(geometry.size) // 24))
    small, good, coarse = binned(image, valid, geometry, factor)
    tensor = torch.as_tensor(small, dtype=torch.float32, device=device)[None]
    known = torch.as_tensor(good, dtype=torch.float32, device=device)[None]
    target, holds, _ = features(tensor, known, LARGEST)
    away = torch.as_tensor(pixel_rays(coarse)[1], dtype=torch.float32, device=device)
    return LevelView(coarse, target, holds, away)
