"""Digitally reconstructed radiographs: line integrals of a CT along the rays of an X-ray geometry, in torch.

A ray is cut at the volume's box and the rest sampled at midpoints of equal steps (trilinear; zero beyond the voxels),
so that volumes with oblique axes and any pose need no resampling. Differentiable in the pose through torch, and with
the six derivatives of the pose in the same pass (`derivatives`), which Gauss-Newton steps are made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...geometry import CArmGeometry, InputError, MissingPackageError, Volume

AIR_HU, CORTICAL_HU = -1000.0, 1660.0
WATER_PER_MM, CORTICAL_PER_MM = 0.0206, 0.0604
"""Linear attenuation at 60 keV, a C-arm's effective energy: water, cortical bone of 1.92 g/cm3 (NIST, ICRU-44), which
a CT of 70 keV effective energy shows at about 1660 HU."""
CHUNK_SAMPLES = 6_000_000


def require_torch() -> Any:
    """torch, or MissingPackageError with the line that installs it."""
    try:
        import torch
    except ImportError:
        raise MissingPackageError("X-ray registration needs PyTorch: `pip install torch` (in Slicer: the PyTorch "
                                  "extension)") from None
    return torch


def attenuation(hu: np.ndarray) -> np.ndarray:
    """HU to linear attenuation, 1/mm, float32, any shape: air to water, then water to cortical bone, straight lines.

    Below -1000 HU (padding) is air; values that aren't finite are air too.
    """
    hu = np.nan_to_num(np.asarray(hu, np.float32), nan=AIR_HU, posinf=AIR_HU, neginf=AIR_HU)
    slope = np.float32((CORTICAL_PER_MM - WATER_PER_MM) / CORTICAL_HU)
    soft = np.float32(WATER_PER_MM / 1000.0) * np.maximum(hu - np.float32(AIR_HU), 0)
    return np.where(hu > 0, np.float32(WATER_PER_MM) + slope * hu, soft).astype(np.float32)


@dataclass(frozen=True, eq=False)
class DrrVolume:
    """Attenuation on a grid, ready for rays.

    Attributes:
        values: torch (1, 1, k, j, i) or, with derivatives, (1, 4, k, j, i): 1/mm, then its change per voxel along
            i, j, k. ras_from_ijk: (4, 4) float64. step_mm: of a ray.
    """

    values: Any
    ras_from_ijk: np.ndarray
    step_mm: float

    @property
    def device(self) -> Any:
        return self.values.device

    @property
    def size_ijk(self) -> np.ndarray:
        return np.array(self.values.shape[:1:-1], float)

    def longest_mm(self) -> float:
        """Diagonal of the box."""
        return float(np.linalg.norm(self.ras_from_ijk[:3, :3] @ self.size_ijk))


def prepare_volume(mu_per_mm: np.ndarray, ras_from_ijk: np.ndarray, *, spacing_mm: float | None = None,
                   step_mm: float | None = None, with_derivatives: bool = False, device: str = "cpu") -> DrrVolume:
    """(k, j, i) 1/mm on a device, voxels pooled (mean) to about `spacing_mm`, with derivatives if asked.

    Raises InputError when there is nothing to project.
    """
    torch = require_torch()
    if mu_per_mm.ndim != 3 or min(mu_per_mm.shape) < 2:
        raise InputError(f"DRR: the CT must have at least two voxels along each axis, not {mu_per_mm.shape}")
    values = torch.from_numpy(np.ascontiguousarray(mu_per_mm, dtype=np.float32))[None, None]
    matrix = np.array(ras_from_ijk, float)
    if spacing_mm is not None:
        own = np.linalg.norm(matrix[:3, :3], axis=0)
        factor = np.clip(np.round(spacing_mm / own), 1, np.array(mu_per_mm.shape[::-1]) // 2).astype(int)
        short = -np.array(mu_per_mm.shape[::-1]) % factor
        padding = [n for axis in range(3) for n in (0, int(short[axis]))]
        values = torch.nn.functional.avg_pool3d(torch.nn.functional.pad(values, padding),
                                                tuple(int(n) for n in factor[::-1]))
        matrix[:3, 3] += matrix[:3, :3] @ ((factor - 1) / 2.0)
        matrix[:3, :3] *= factor
    if with_derivatives:
        values = torch.cat([values, *(_slope(values, axis) for axis in (4, 3, 2))], dim=1)
        values = values.contiguous(memory_format=torch.channels_last_3d)
    step = step_mm or float(np.linalg.norm(matrix[:3, :3], axis=0).min())
    return DrrVolume(values.to(device), matrix, step)


def _slope(values: Any, axis: int) -> Any:
    """Central differences; zero beyond the grid."""
    torch = require_torch()
    padding = [0, 0, 0, 0, 0, 0]
    padding[2 * (4 - axis)] = padding[2 * (4 - axis) + 1] = 1
    wide = torch.nn.functional.pad(values, padding)
    count = values.shape[axis]
    return (wide.narrow(axis, 2, count) - wide.narrow(axis, 0, count)) * 0.5


def pixel_rays(geometry: CArmGeometry, pixels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Source (3,) mm and (n, 3) vectors from it to pixels (default all, row by row), in the geometry's frame."""
    if pixels is None:
        columns, rows = geometry.size
        grid = np.meshgrid(np.arange(columns), np.arange(rows))
        pixels = np.column_stack([axis.ravel() for axis in grid])
    away = (geometry.pixel0_mm - geometry.source_mm + pixels[:, :1] * geometry.column_mm
            + pixels[:, 1:] * geometry.row_mm)
    return np.asarray(geometry.source_mm, float), away


def integrate(volume: DrrVolume, source: np.ndarray, away: Any, table_from_ras: Any, *,
              moments: bool = False) -> Any:
    """Line integrals of rays that start at `source` (3,) along `away` (n, 3), both in the table frame, mm.

    Args:
        away: torch (n, 3) from the source to the detector. table_from_ras: torch (b, 4, 4), may need gradients.
        moments: also F and F1, the integrals of the attenuation's slope (per voxel) and of the share of the ray times
            it, for `derivatives`; `volume` must hold derivatives then.
    Returns: torch (b, c, n), c = 1 (no unit), or 1 + 3 + 3 with moments.
    """
    torch = require_torch()
    ijk_from_ras = torch.as_tensor(np.linalg.inv(volume.ras_from_ijk), dtype=torch.float32, device=volume.device)
    ijk_from_table = ijk_from_ras @ torch.linalg.inv(table_from_ras)
    start = ijk_from_table[:, :3, :3] @ torch.as_tensor(source, dtype=torch.float32, device=volume.device) \
        + ijk_from_table[:, :3, 3]
    along = away @ ijk_from_table[:, :3, :3].transpose(1, 2)
    size = torch.as_tensor(volume.size_ijk, dtype=torch.float32, device=volume.device)
    first, last = (share.detach() for share in clip_to_box(start[:, None], along, size))
    length = torch.linalg.norm(away, dim=-1) * (last - first)
    count = max(2, int(np.ceil(min(float(length.max()), volume.longest_mm()) / volume.step_mm)))
    share = (torch.arange(count, device=volume.device, dtype=torch.float32) + 0.5) / count
    channels = volume.values if moments else volume.values[:, :1]
    batch, rays = along.shape[:2]
    scale, shift = 2.0 / (size - 1.0), -1.0
    out = []
    chunk = max(64, CHUNK_SAMPLES // (count * batch))
    for low in range(0, rays, chunk):
        part = slice(low, low + chunk)
        t = first[:, part, None] + (last - first)[:, part, None] * share
        places = (start[:, None, None] + t[..., None] * along[:, part, None]) * scale + shift
        seen = torch.nn.functional.grid_sample(channels.expand(batch, -1, -1, -1, -1), places[:, None],
                                               mode="bilinear", padding_mode="zeros", align_corners=True)[:, :, 0]
        step = (length[:, part] / count)[:, None]
        total = seen.sum(-1) * step
        if moments:
            total = torch.cat([total, (seen[:, 1:] * t[:, None]).sum(-1) * step], dim=1)
        out.append(total)
    return torch.cat(out, dim=-1)


def clip_to_box(start: Any, along: Any, size: Any, low: Any = -1.0) -> tuple[Any, Any]:
    """Shares of a ray (start + t along, voxels) inside a box `low` to `size`; by default, of a volume of that `size`,
    where trilinear values aren't zero."""
    torch = require_torch()
    safe = torch.where(along.abs() < 1e-9, torch.full_like(along, 1e-9), along)
    one, two = (low - start) / safe, (size - start) / safe
    first = torch.minimum(one, two).amax(-1).clamp(0.0, 1.0)
    last = torch.maximum(one, two).amin(-1).clamp(0.0, 1.0)
    return first, torch.maximum(last, first)


def derivatives(volume: DrrVolume, source: np.ndarray, away: Any, table_from_ras: Any, pivot: np.ndarray) -> Any:
    """Line integrals and their change with the pose: torch (b, 7, n): value, then per mm along x, y, z of the table
    and per radian about them through `pivot` (3,), for a pose exp(step) table_from_ras.
    """
    torch = require_torch()
    sums = integrate(volume, source, away, table_from_ras, moments=True)
    inverse = torch.as_tensor(np.linalg.inv(volume.ras_from_ijk[:3, :3]).T, dtype=torch.float32, device=volume.device)
    turn = table_from_ras[:, :3, :3] @ inverse
    flat, first = turn @ sums[:, 1:4], turn @ sums[:, 4:7]
    arm = torch.as_tensor(source - pivot, dtype=torch.float32, device=volume.device)[None, :, None].expand_as(flat)
    turned = torch.cross(arm, flat, dim=1) + torch.cross(away.T[None].expand_as(first), first, dim=1)
    return torch.cat([sums[:, :1], -flat, -turned], dim=1)


def render_drr(volume: Volume, geometry: CArmGeometry, *, table_from_ras: np.ndarray | None = None,
               spacing_mm: float | None = None, step_mm: float | None = None, device: str = "cpu") -> np.ndarray:
    """The radiograph of a CT (Siddon's integral by trilinear sampling).

    Args:
        volume: CT in HU; at least 2 voxels along each axis. geometry: in the table frame, mm.
        table_from_ras: (4, 4) rigid pose of the CT; None where the geometry's frame is the CT's RAS.
        spacing_mm: pool the CT's voxels to about this first (3 is fast and coarse); None keeps them.
        step_mm: along a ray; default the smallest voxel size.
        device: "cpu" or "cuda".
    Returns: (rows, columns) float32 line integrals, no unit: -log of the share of photons left. 0 beside the CT.
    Raises: InputError for a pose that isn't finite and rigid, or a CT that can't be projected; MissingPackageError.
    """
    from .pose import rigid

    torch = require_torch()
    pose = rigid(np.eye(4) if table_from_ras is None else table_from_ras, "table_from_ras")
    ready = prepare_volume(attenuation(volume.array), volume.ras_from_ijk, spacing_mm=spacing_mm, step_mm=step_mm,
                           device=device)
    source, away = pixel_rays(geometry)
    with torch.no_grad():
        image = integrate(ready, source, torch.as_tensor(away, dtype=torch.float32, device=device),
                          torch.as_tensor(pose, dtype=torch.float32, device=device)[None])
    return image[0, 0].reshape(geometry.size[1], geometry.size[0]).cpu().numpy()
