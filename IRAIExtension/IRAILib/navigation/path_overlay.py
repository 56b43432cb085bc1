"""A planned path drawn on an X-ray frame (live or DRR), with a band for how sure its place is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import CArmGeometry, InputError, MissingPackageError
from .poses import plain

POINTS = 60
BAND_SIGMAS = 2.0


@dataclass(frozen=True, eq=False)
class ProjectedPath:
    """A path in a picture.

    pixels: (n, 2) column, row from the first point to the last, NaN behind the source. band_px: (n,) half width of the
    band, `BAND_SIGMAS` standard deviations across the line. entry_px, tip_px: (2,). seen: any of it is in the picture.
    foreshortening: its length in the picture against its length seen from the side: 0 is bull's eye.
    """

    pixels: np.ndarray
    band_px: np.ndarray
    entry_px: np.ndarray
    tip_px: np.ndarray
    seen: bool
    foreshortening: float
    sigma_mm: float

    def to_dict(self) -> dict[str, Any]:
        return plain({
            "frame": "pixels (column, row)", "entry_px": self.entry_px, "tip_px": self.tip_px, "pixels": self.pixels,
            "band_px": self.band_px, "seen": self.seen, "foreshortening": self.foreshortening,
            "uncertainty": {"sigma_mm": self.sigma_mm, "band_sigmas": BAND_SIGMAS},
            "validated_on": "the pinhole's own formula"})


def project_path(points_ras: object, geometry: CArmGeometry, *, table_from_ras: np.ndarray | None = None,
                 sigma_mm: float = 0.0) -> ProjectedPath:
    """Where a path lies in an X-ray picture.

    Args:
        points_ras: (n, 3) RAS mm, n >= 2, skin (or entry) first, tip last. table_from_ras: (4, 4) of the 2D/3D
            registration; None where the geometry is in RAS already. sigma_mm: 1 SD of the path's place (registration
            and plan together).
    Raises: InputError.
    """
    points = np.asarray(points_ras, float)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < 2 or not np.isfinite(points).all():
        raise InputError("path: at least two points of three finite numbers are needed")
    if not np.isfinite(sigma_mm) or sigma_mm < 0:
        raise InputError(f"sigma_mm: {sigma_mm} given; a finite number from 0 on is needed")
    matrix = np.eye(4) if table_from_ras is None else np.asarray(table_from_ras, float)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise InputError("table_from_ras: a finite 4x4 matrix is needed")
    points = points @ matrix[:3, :3].T + matrix[:3, 3]
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    places = np.linspace(0.0, length[-1], POINTS)
    dense = np.column_stack([np.interp(places, length, points[:, axis]) for axis in range(3)])
    pixels = geometry.project(dense)
    columns, rows = geometry.size
    seen = ((pixels >= -0.5) & (pixels <= np.array([columns, rows]) - 0.5)).all(axis=1)
    # mm at the path to pixels: by how much the pinhole magnifies there, along the finer of both pixel steps
    depth = (dense - geometry.source_mm) @ geometry.normal
    magnified = geometry.source_to_detector_mm / np.where(depth > 1e-6, depth, np.nan)
    pixel_mm = min(np.linalg.norm(geometry.column_mm), np.linalg.norm(geometry.row_mm))
    step = (pixels[-1] - pixels[0])[:, None] * np.stack([geometry.column_mm, geometry.row_mm])
    shadow = float(np.linalg.norm(step.sum(axis=0)))
    side = float(length[-1] * np.nanmean(magnified)) if np.isfinite(magnified).any() else 0.0
    return ProjectedPath(pixels, BAND_SIGMAS * sigma_mm * magnified / pixel_mm, pixels[0], pixels[-1],
                         bool(seen.any()), shadow / side if side > 0 else 0.0, float(sigma_mm))


def draw_paths(image: np.ndarray, paths: list[ProjectedPath], *,
               colours: tuple[tuple[int, int, int], ...] = ((255, 210, 0), (0, 220, 255)),
               needle_radius_px: float = 0.0) -> np.ndarray:
    """(rows, columns, 3) uint8: the picture in grey with the paths, their bands, ring at the entry, disc at the tip.

    Args: image: (rows, columns) numbers; shown between its 1st and 99th percentile. An empty list draws none.
    Raises: InputError for another shape, MissingPackageError without Pillow.
    """
    values = np.asarray(image, float)
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"picture of shape {values.shape}; one grey frame (rows, columns) is needed")
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        raise MissingPackageError("drawing a path needs Pillow: `pip install pillow`") from None
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
    grey = np.clip((np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-9), 0, 1) * 255
    base = Image.fromarray(np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2))
    for n, path in enumerate(paths):
        keep = np.asarray(np.isfinite(path.pixels).all(axis=1))
        if not path.seen or keep.sum() < 2:
            continue
        base = _with_band(base, path, keep, colours[n % len(colours)])
        pen = ImageDraw.Draw(base)
        line = [(round(float(x)), round(float(y))) for x, y in path.pixels[keep]]
        pen.line(line, fill=colours[n % len(colours)], width=max(1, round(2 * needle_radius_px)))
        for place, radius, full in ((path.entry_px, 5.0, False), (path.tip_px, 2.5, True)):
            if np.isfinite(place).all():
                box = [place[0] - radius, place[1] - radius, place[0] + radius, place[1] + radius]
                pen.ellipse(box, outline=colours[n % len(colours)], fill=colours[n % len(colours)] if full else None)
    return np.asarray(base)


def _with_band(base: Any, path: ProjectedPath, keep: np.ndarray, colour: tuple[int, int, int]) -> Any:
    """Every place within the band of the line, half transparent."""
    from PIL import Image, ImageDraw

    stencil = Image.new("L", base.size, 0)
    pen = ImageDraw.Draw(stencil)
    for (x, y), radius in zip(path.pixels[keep], path.band_px[keep], strict=True):
        if radius > 0.5:
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=70)
    return Image.composite(Image.new("RGB", base.size, colour), base, stencil)
