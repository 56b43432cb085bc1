"""Margin against analytic truth, beside the methods that others use, and how long it takes."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "library"))

from analytic import Ellipsoid, random_pair, rasterised, rotation, sphere
from IRAILib.ablation import ablative_margin
from IRAILib.geometry import Mask
from IRAILib.geometry.itk import to_sitk

CASES = 100
SPACINGS = {"1 mm isotropic": (1.0, 1.0, 1.0), "2.5 mm slices, 0.75 mm pixels": (2.5, 0.75, 0.75),
            "5 mm slices, 0.75 mm pixels": (5.0, 0.75, 0.75)}
TARGETS = {"1 mm isotropic": "0.10 / 0.10", "2.5 mm slices, 0.75 mm pixels": "0.15 / 0.30",
           "5 mm slices, 0.75 mm pixels": "0.20 / 0.55"}
SEED = 2026
REPEATS = 7


def irai(tumor: Mask, ablation: Mask, _: Mask) -> float:
    """Each mask on a grid of its own, as two scans have them."""
    return ablative_margin(tumor, ablation).mam_mm


def border_voxels(tumor: Mask, _: Mask, same_grid: Mask) -> float:
    """Distance between border voxels, as the QAM study's published method describes it (own code)."""
    edge_t, edge_a = _edge(_framed_as(tumor, same_grid)), _edge(same_grid.array)
    distance = ndimage.distance_transform_edt(~edge_a, sampling=same_grid.grid.spacing_kji_mm)
    return float(np.where(same_grid.array, distance, -distance)[edge_t].min())


def maurer(tumor: Mask, _: Mask, same_grid: Mask) -> float:
    """SimpleITK's signed Maurer distance of the ablation at the tumour's border voxels."""
    import SimpleITK as sitk

    distance = sitk.SignedMaurerDistanceMap(to_sitk(same_grid), insideIsPositive=True, squaredDistance=False,
                                            useImageSpacing=True)
    return float(sitk.GetArrayFromImage(distance)[_edge(_framed_as(tumor, same_grid))].min())


def surface_distance(tumor: Mask, _: Mask, same_grid: Mask) -> float:
    """google surface-distance 0.1: smallest distance. It has no sign: NaN where the tumour leaves the zone."""
    import surface_distance as google

    t, a = _framed_as(tumor, same_grid), same_grid.array
    distances = google.compute_surface_distances(t, a, same_grid.grid.spacing_kji_mm)["distances_gt_to_pred"]
    return float("nan") if (t & ~a).any() else float(distances.min())


def _edge(array: np.ndarray) -> np.ndarray:
    return array & ~ndimage.binary_erosion(array, ndimage.generate_binary_structure(3, 1))


def _framed_as(tumor: Mask, same_grid: Mask) -> np.ndarray:
    pad = _pad(tumor)
    return np.pad(tumor.array, [(int(p), int(p)) for p in pad])


def _pad(tumor: Mask) -> np.ndarray:
    return np.ceil(22.0 / tumor.grid.spacing_kji_mm).astype(int)


def _on_grid_of(tumor: Mask, shape: Ellipsoid) -> Mask:
    """The peers' best case: the ablation drawn on the tumour's own grid, grown so that it fits."""
    pad = _pad(tumor)
    start = tuple(int(-p) for p in pad)
    grid = tumor.grid.cropped_grid(start, tuple(int(n + 2 * p) for n, p in zip(tumor.array.shape, pad, strict=True)))
    return Mask(shape.inside(grid.all_points_ras()), grid)


def methods() -> dict[str, Callable[[Mask, Mask, Mask], float]]:
    """IRAI and the peers that are installed."""
    out = {"IRAI": irai, "border voxels (QAM's definition)": border_voxels, "SimpleITK Maurer": maurer}
    if find_spec("surface_distance"):
        out["google surface-distance (covered cases only)"] = surface_distance
    return out


def accuracy(cases: int = CASES) -> list[str]:
    """Bias and spread of the MAM on grids rotated at random: one for each mask for IRAI, one for both for peers."""
    lines = [f"{cases} random cases a row, seed {SEED}: tumour radius 5 to 14 mm (ellipsoids: axes vary by 30 %), true "
             "MAM -4 to 10 mm, grids rotated and shifted at random (IRAI: one for each mask; the peers need and "
             "get both masks drawn on one grid). Error = measured - analytic MAM, mm.", "",
             "| grid | shapes | method | bias | SD | worst | target bias / SD |", "|---|---|---|---|---|---|---|"]
    for name, spacing in SPACINGS.items():
        for kind in ("sphere", "ellipsoid"):
            rng = np.random.default_rng(SEED)
            errors: dict[str, list[float]] = {method: [] for method in methods()}
            for _ in range(cases):
                tumor, ablation, truth = random_pair(rng, kind)
                before, after = rasterised(tumor, spacing, rng), rasterised(ablation, spacing, rng)
                masks = before, after, _on_grid_of(before, ablation)
                for method, measure in methods().items():
                    errors[method].append(measure(*masks) - truth)
            for method, values in errors.items():
                e = np.array(values)[~np.isnan(values)]
                target = TARGETS[name] if method == "IRAI" else ""
                lines.append(f"| {name} | {kind}s | {method} | {e.mean():+.3f} | {e.std(ddof=1):.3f} | "
                             f"{np.abs(e).max():.2f} | {target} |")
    return lines


def speed() -> list[str]:
    """Whole result (surfaces, distances, coverage, interval, region at risk), median of some runs."""
    rng = np.random.default_rng(SEED)
    tumor, ablation = sphere([0, 0, 0], 11.0), sphere([2, 1, 0], 18.0)
    lines = ["| masks | median | slowest |", "|---|---|---|"]
    directions = rotation(rng)
    crop = [_framed(rasterised(s, (1.0, 0.8, 0.8), rng, directions=directions), (64, 128, 128))
            for s in (tumor, ablation)]
    full = [_framed(mask, (200, 512, 512)) for mask in crop]
    for name, masks in (("crop, 64x128x128", crop), ("full, 200x512x512", full)):
        ablative_margin(*masks)
        times = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            ablative_margin(*masks)
            times.append(time.perf_counter() - began)
        lines.append(f"| {name} | {1000 * statistics.median(times):.0f} ms | {1000 * max(times):.0f} ms |")
    return lines


def _framed(mask: Mask, shape: tuple[int, int, int]) -> Mask:
    before = [(n - m) // 2 for n, m in zip(shape, mask.array.shape, strict=True)]
    array = np.zeros(shape, bool)
    array[tuple(slice(b, b + m) for b, m in zip(before, mask.array.shape, strict=True))] = mask.array
    return Mask(array, mask.grid.cropped_grid(tuple(-b for b in before), shape))


def run(data_folder: Path | None = None, cases: int = CASES) -> list[str]:
    """Markdown; needs no data."""
    return ["### Accuracy", "", *accuracy(cases), "", "### Speed", "", *speed()]


if __name__ == "__main__":
    print("\n".join(run(cases=int(sys.argv[1]) if len(sys.argv) > 1 else CASES)))
