"""Tumour or ablation zone from a few clicks.

Two classes of tissue are learned round the clicks, a closed surface is found on rays from the inside click
(`rays`), bumps and satellites that the surface can't reach are added where they are surrounded by the same
tissue, and the voxels near the surface decide for themselves. Needs numpy and SciPy only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..geometry import CancelledError, EmptyMaskError, Grid, InputError, Mask, RefusedError, Volume
from .growth import add_satellites, components, voxel_evidence
from .rays import boundary_radii, cast_rays, sphere
from .tissue import SEED_EVIDENCE, SEED_RADIUS_MM, Tissue, guess_outside, median_and_spread, values_near

Progress = Callable[[float, str], None]
NOISE_FILTER_MM = 0.7
MOST_SEEDS = 24
"""Scribbles are thinned to this many points of each kind."""
MOST_VOXELS = 3_000_000
CLICK_JITTER_MM = 1.5
MIXED, MIXED_SPREADS, EDGE_RADIUS_MM = 1.5, 3.0, 1.0
"""An outside click whose surroundings spread over more contrasts, or inside spreads, than this lies on an edge:
only what is right under it counts."""
DOUBT_CLICK = "the outside click fits no boundary and was only used as a place; check the result, or move the click"
DOUBT_SURFACE = "no clear boundary round the inside click; check the result, add clicks or set a smaller radius"
MODEL_SIGMA_MM = 0.8
"""What clicks and contrast can't tell: readers' habits at the rim (see Docs/benchmarks.md, seeded segmentation)."""


@dataclass(frozen=True)
class SeededOptions:
    """How far and how thoroughly to look.

    Attributes:
        max_radius_mm: nothing further than this from an inside seed is looked at or taken.
        satellites: whether connected bumps and satellites may join (False: one star-shaped blob).
        ensemble: number of surfaces from jittered clicks behind `boundary_sigma_mm`; below 2 leaves that part out.
    """

    max_radius_mm: float = 60.0
    satellites: bool = True
    ensemble: int = 3


@dataclass(frozen=True, eq=False)
class SeededResult:
    """What the clicks gave.

    Attributes:
        mask: on the grid of the input volume.
        probability: float32 volume in 0..1 on the same grid; 0.5 is the boundary.
        boundary_sigma_mm: 1-sigma uncertainty of the boundary's position, for the margin's interval.
        inside_value, outside_value: what the two tissues measure, in the image's unit.
        seconds: time it took.
        doubt: what a user should check, or None. Without a doubt the result can still be wrong.
        validated_on: what the accuracy was measured on.
    """

    mask: Mask
    probability: Volume
    boundary_sigma_mm: float
    inside_value: float
    outside_value: float
    seconds: float
    doubt: str | None = None
    validated_on: str = "one LiTS liver CT with expert masks (8 metastases); research use only"

    def to_dict(self) -> dict:
        return {"volume_ml": self.mask.volume_ml, "boundary_sigma_mm": self.boundary_sigma_mm,
                "inside_value": self.inside_value, "outside_value": self.outside_value,
                "seconds": self.seconds, "doubt": self.doubt, "validated_on": self.validated_on}


@dataclass(frozen=True, eq=False)
class _Region:
    """The part of the image round the clicks; points are index times spacing, k j i."""

    image: np.ndarray
    slope: np.ndarray
    grid: Grid
    start_kji: tuple[int, int, int]
    inside_mm: np.ndarray
    outside_mm: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        return self.grid.spacing_kji_mm


def segment_seeded(volume: Volume, inside_ras: np.ndarray, outside_ras: np.ndarray | None = None, *,
                   options: SeededOptions | None = None, progress: Progress | None = None,
                   cancelled: Callable[[], bool] | None = None) -> SeededResult:
    """Segment the structure under the inside clicks.

    Args:
        volume: CT, MR or any scalar image.
        inside_ras: (n, 3) RAS mm, at least one, in the structure (near its middle is best).
        outside_ras: (m, 3) RAS mm in the tissue round it; None or empty guesses that tissue.
        progress: called with a fraction and a text. cancelled: asked between steps; True raises CancelledError.
    Raises: InputError (no inside seed, a seed outside the image, the same place on both sides),
        RefusedError (no visible contrast between inside and outside).
    Accuracy: Docs/benchmarks.md, seeded segmentation.
    """
    began = time.perf_counter()
    options = options or SeededOptions()
    tell = _reporter(progress, cancelled)
    inside = _checked_seeds(volume, inside_ras, "inside")
    outside = _checked_seeds(volume, outside_ras if outside_ras is not None else np.zeros((0, 3)), "outside")
    if not len(inside):
        raise InputError(f"{volume.name or 'image'}: at least one inside seed is needed; click into the lesion")
    tell(0.0, "Reading the region")
    region = _region(volume, inside, outside, options)
    tell(0.2, "Learning the tissue")
    tissue, centre, radii, doubt = _first_surface(region, options)
    tell(0.5, "Growing")
    evidence, start = _grow(region, tissue, centre, radii, options)
    tell(0.8, "Estimating the uncertainty")
    probability = _probability(evidence, region, start)
    sigma = _boundary_sigma(region, tissue, centre, radii, probability, options)
    array = np.zeros(volume.array.shape, np.float32)
    offset = np.array(region.start_kji) + start
    array[tuple(slice(a, a + n) for a, n in zip(offset, probability.shape, strict=True))] = probability
    tell(1.0, "Done")
    mask = Mask(array >= 0.5, volume.grid, f"{volume.name} seeded".strip(), volume.frame_of_reference)
    return SeededResult(mask, volume.with_array(array), sigma, tissue.inside, tissue.outside,
                        time.perf_counter() - began, doubt)


def segment_labels(volume: Volume, labels: np.ndarray, **kwargs) -> SeededResult:
    """As `segment_seeded`, from scribbles: (k, j, i) array on the image's grid, 1 inside, 2 outside, 0 nothing."""
    labels = np.asarray(labels)
    if labels.shape != volume.array.shape:
        raise InputError(f"scribbles of shape {labels.shape} on an image of {volume.array.shape}; paint on its grid")
    if not (labels == 1).any():
        raise EmptyMaskError("the scribbles hold no inside label (1); paint inside the lesion")
    points = [volume.grid.points_ras(_spread(np.argwhere(labels == value))) for value in (1, 2)]
    return segment_seeded(volume, points[0], points[1], **kwargs)


def _spread(points: np.ndarray) -> np.ndarray:
    """At most `MOST_SEEDS` rows, evenly over the list."""
    if len(points) <= MOST_SEEDS:
        return points
    return points[np.linspace(0, len(points) - 1, MOST_SEEDS).round().astype(int)]


def _reporter(progress: Progress | None, cancelled: Callable[[], bool] | None) -> Progress:
    def tell(fraction: float, text: str) -> None:
        if cancelled is not None and cancelled():
            raise CancelledError("seeded segmentation was cancelled")
        if progress is not None:
            progress(fraction, text)

    return tell


def _checked_seeds(volume: Volume, points_ras, side: str) -> np.ndarray:
    try:
        points = np.asarray(points_ras, float).reshape(-1, 3)
    except ValueError as error:
        raise InputError(f"{side} seeds must be (n, 3) RAS millimetres") from error
    points = _spread(points)
    index = volume.grid.indices_kji(points) if len(points) else points
    beyond = (index < -0.5) | (index > np.array(volume.array.shape) - 0.5) | ~np.isfinite(index)
    if beyond.any():
        bad = points[beyond.any(axis=1)][0]
        raise InputError(f"{volume.name or 'image'}: the {side} seed at RAS {np.round(bad, 1).tolist()} mm lies "
                         "outside the image; seeds are RAS millimetres")
    return points


def _region(volume: Volume, inside: np.ndarray, outside: np.ndarray, options: SeededOptions) -> _Region:
    from scipy import ndimage

    spacing = volume.grid.spacing_kji_mm
    index = volume.grid.indices_kji(inside)
    reach = options.max_radius_mm / spacing
    low = np.maximum(np.floor(index.min(axis=0) - reach), 0).astype(int)
    high = np.minimum(np.ceil(index.max(axis=0) + reach) + 1, volume.array.shape).astype(int)
    start = (int(low[0]), int(low[1]), int(low[2]))
    part = Volume(volume.array, volume.grid).crop(start, tuple(high - low))
    image, grid = part.array.astype(np.float32), part.grid
    if not np.isfinite(image).all():
        image = np.nan_to_num(image, nan=float(np.nanmin(image)))
    sigma = NOISE_FILTER_MM / spacing
    image = ndimage.gaussian_filter(image, np.where(sigma < 0.25, 0.0, sigma), truncate=3.0)
    out_index = volume.grid.indices_kji(outside) if len(outside) else np.zeros((0, 3))
    slope = np.sqrt(sum(g * g for g in _gradient(image, spacing)))
    return _Region(image, slope, grid, start, (index - low) * spacing, (out_index - low) * spacing)


def _gradient(image: np.ndarray, spacing_kji_mm: np.ndarray) -> list[np.ndarray]:
    return [np.gradient(image, float(s), axis=a) for a, s in enumerate(spacing_kji_mm) if image.shape[a] > 1]


def _with_seeds(evidence: np.ndarray, points_mm: np.ndarray, region: _Region) -> np.ndarray:
    """Evidence of samples at (..., 3) k j i mm, with what the clicks themselves say added."""
    for seeds, sign in ((region.inside_mm, 1.0), (region.outside_mm, -1.0)):
        for seed in seeds:
            squared = ((points_mm - seed) ** 2).sum(axis=-1)
            evidence = evidence + sign * SEED_EVIDENCE * np.exp(-0.5 * squared / SEED_RADIUS_MM**2)
    return evidence


def _surface(region: _Region, tissue: Tissue, centre: np.ndarray, reach_mm: float, *, soft: bool = False):
    rays = cast_rays(region.image, region.spacing, centre, reach_mm)
    slope = cast_rays(region.slope, region.spacing, centre, reach_mm).values
    evidence = _with_seeds(tissue.evidence(rays.values, slope), rays.points_mm, region)
    return rays, boundary_radii(evidence, rays.distances_mm, _smallest(region), soft=soft)


def _smallest(region: _Region) -> float:
    return max(1.5, float(region.spacing.min()))


def _clicked_tissue(region: _Region, inside: float, spread: float) -> Tissue | None:
    """The two classes round the clicks; None without an outside click in the region. Raises InputError."""
    inner = np.array([p for p in region.outside_mm
                      if np.all((p >= 0) & (p <= (np.array(region.image.shape) - 1) * region.spacing))])
    if not len(inner):
        return None
    if np.linalg.norm(inner[:, None] - region.inside_mm[None], axis=2).min() < 0.5:
        raise InputError("an inside and an outside seed are at the same place; move one of them")
    middles = np.array([np.median(values_near(region.image, region.spacing, p[None])) for p in inner])
    unlike = np.abs(middles - inside) >= 0.5 * np.median(np.abs(middles - inside))
    tissue = Tissue(inside, spread, *median_and_spread(values_near(region.image, region.spacing, inner[unlike])))
    if tissue.outside_spread > MIXED * tissue.contrast or tissue.outside_spread > MIXED_SPREADS * spread:
        near = values_near(region.image, region.spacing, inner[unlike], EDGE_RADIUS_MM)
        tissue = Tissue(inside, spread, float(np.median(near)), spread)
    return tissue


def _first_surface(region: _Region, options: SeededOptions) -> tuple[Tissue, np.ndarray, np.ndarray, str | None]:
    """Tissue, centre (3,) k j i mm and radii of the main blob, and what is doubtful about it.

    An outside click on a vessel, or on another lesion, gives a surface that collapses or runs away. Then the
    surrounding tissue is guessed from the image instead, and taken when that gives a sound surface.
    """
    middle = region.inside_mm.mean(axis=0)
    centre = region.inside_mm[np.argmin(((region.inside_mm - middle) ** 2).sum(axis=1))]
    inside, spread = median_and_spread(values_near(region.image, region.spacing, region.inside_mm))
    clicked = _clicked_tissue(region, inside, spread)
    first = None
    if clicked is not None and clicked.contrast > 1e-6 * max(1.0, abs(inside)):
        first = (*_settled(region, clicked, centre, options), None)
        if _is_sound(first[2], region, options):
            return first
    rays = cast_rays(region.image, region.spacing, centre, min(40.0, options.max_radius_mm))
    if np.nanmax(rays.values) - np.nanmin(rays.values) < 1e-6 * max(1.0, abs(inside)):
        raise RefusedError("the image is the same inside and outside the seeds: nothing to segment; "
                           "move the seeds or choose another image")
    second = _settled(region, guess_outside(rays, inside, spread, _smallest(region)), centre, options)
    if _is_sound(second[2], region, options):
        return *second, None if first is None else DOUBT_CLICK
    return (*(first[:3] if first is not None else second), DOUBT_SURFACE)


def _settled(region: _Region, tissue: Tissue, centre: np.ndarray, options: SeededOptions):
    """Tissue, centre and radii after two rounds of learning and re-centring."""
    for turn in range(3):
        rays, radii = _surface(region, tissue, centre, options.max_radius_mm, soft=turn == 2)
        if turn < 2:
            tissue = tissue.relearned(rays, radii, careful=turn == 0)
            centre = _recentred(centre, radii)
    return tissue, centre, radii


def _is_sound(radii: np.ndarray, region: _Region, options: SeededOptions) -> bool:
    return bool(np.median(radii) > 1.8 * _smallest(region) and np.percentile(radii, 90) < 0.8 * options.max_radius_mm)


def _recentred(centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Towards the centroid of the enclosed body, never out of it."""
    vectors = sphere()[0]
    shift = 0.75 * (vectors * radii[:, None] ** 4).sum(axis=0) / (radii**3).sum()
    length = float(np.linalg.norm(shift))
    if length < 1e-6:
        return centre
    free = radii[np.argmax(vectors @ (shift / length))]
    return centre + shift * min(1.0, 0.6 * free / length)


def _grow(region: _Region, tissue: Tissue, centre: np.ndarray, radii: np.ndarray, options: SeededOptions):
    """Voxel evidence (k, j, i) and its start (3,) inside the region."""
    wide = 0.5 * float(np.median(radii)) + 12.0 if options.satellites else 4.0
    points = centre + sphere()[0] * radii[:, None]
    points = np.vstack([points, region.inside_mm])
    low = np.maximum(np.floor((points.min(axis=0) - wide) / region.spacing), 0).astype(int)
    high = np.minimum(np.ceil((points.max(axis=0) + wide) / region.spacing) + 1, region.image.shape).astype(int)
    if np.prod(high - low) > MOST_VOXELS and options.satellites:
        return _grow(region, tissue, centre, radii, SeededOptions(options.max_radius_mm, False, options.ensemble))
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    image, shift = region.image[window], low * region.spacing
    raw = tissue.evidence(image, region.slope[window])
    evidence = voxel_evidence(raw, region.spacing, centre - shift, radii)
    for seed in region.inside_mm:  # clicks that the first surface misses bring their own
        at = np.minimum(np.round((seed - shift) / region.spacing).astype(int), np.array(image.shape) - 1)
        if evidence[tuple(at)] <= -1.0 and np.linalg.norm(seed - centre) > 1.0:
            _, own = _surface(region, tissue, seed, options.max_radius_mm, soft=True)
            evidence = np.maximum(evidence, voxel_evidence(raw, region.spacing, seed - shift, own))
    if options.satellites:
        seeds = np.round((region.outside_mm - shift) / region.spacing).astype(int)
        seeds = seeds[((seeds >= 0) & (seeds < image.shape)).all(axis=1)]
        evidence = add_satellites(evidence, raw, np.abs(image - tissue.outside) < 0.5 * tissue.contrast,
                                  region.spacing, float(np.median(radii)), seeds)
    return _seeded_voxels(evidence, region, shift), low


def _seeded_voxels(evidence: np.ndarray, region: _Region, shift: np.ndarray) -> np.ndarray:
    for seeds, sign in ((region.inside_mm, 1.0), (region.outside_mm, -1.0)):
        for seed in seeds - shift:
            low = np.maximum(np.ceil((seed - 3 * SEED_RADIUS_MM) / region.spacing), 0).astype(int)
            high = np.minimum(np.floor((seed + 3 * SEED_RADIUS_MM) / region.spacing) + 1, evidence.shape).astype(int)
            if (high <= low).any():
                continue
            window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            axes = [np.arange(a, b) * s - p for a, b, s, p in zip(low, high, region.spacing, seed, strict=True)]
            k, j, i = np.meshgrid(*axes, indexing="ij", sparse=True)
            evidence[window] += sign * SEED_EVIDENCE * np.exp(-0.5 * (k * k + j * j + i * i) / SEED_RADIUS_MM**2)
    return evidence


def _probability(evidence: np.ndarray, region: _Region, start: np.ndarray) -> np.ndarray:
    """(k, j, i) float32 in 0..1, >= 0.5 exactly in the connected structure under the inside seeds."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(np.clip(evidence, -4.0, 4.0), np.minimum(0.7, 0.7 / region.spacing))
    inside = smooth > 0
    at = np.round(region.inside_mm / region.spacing).astype(int) - start
    at = tuple(np.clip(at, 0, np.array(smooth.shape) - 1).T)
    inside[at] = True
    label = components(inside)
    keep = np.isin(label, np.unique(label[at]))
    filled = np.asarray(ndimage.binary_fill_holes(keep))
    holes = components(filled & ~keep)
    wanted = _wanted_holes(holes, region, start)
    keep |= (holes > 0) & wanted[holes]
    probability = 1.0 / (1.0 + np.exp(-2.0 * smooth))
    return np.where(keep, np.maximum(probability, 0.5), np.minimum(probability, 0.499)).astype(np.float32)


def _wanted_holes(holes: np.ndarray, region: _Region, start: np.ndarray) -> np.ndarray:
    """Per label of the holes whether it is filled: not where somebody clicked outside."""
    wanted = np.ones(int(holes.max()) + 1, bool)
    at = np.round(region.outside_mm / region.spacing).astype(int) - start
    at = at[((at >= 0) & (at < holes.shape)).all(axis=1)]
    wanted[holes[tuple(at.T)]] = False
    return wanted


def _boundary_sigma(region: _Region, tissue: Tissue, centre: np.ndarray, radii: np.ndarray,
                    probability: np.ndarray, options: SeededOptions) -> float:
    """1 sigma of the boundary in mm: surfaces from jittered clicks, the blur of the boundary, the voxel."""
    gradient = _gradient(probability, region.spacing)
    edge = (probability > 0.25) & (probability < 0.75)
    steep = np.sqrt(sum(g[edge] ** 2 for g in gradient)) if edge.any() else np.array([1.0])
    blur = 0.34 / max(float(np.median(steep)), 0.05)
    voxel = float(np.cbrt(np.prod(region.spacing))) / np.sqrt(12.0)
    spread = 0.0
    if options.ensemble > 1:
        random = np.random.default_rng(0)
        reach = min(options.max_radius_mm, 1.6 * float(radii.max()) + 6.0)
        runs = []
        for _ in range(options.ensemble):
            jitter = random.normal(0.0, min(CLICK_JITTER_MM, 0.2 * float(radii.min())), 3)
            _, other = _surface(region, tissue, centre + jitter, reach)
            runs.append(other + sphere()[0] @ jitter)
        spread = float(np.sqrt(np.mean(np.var(np.stack(runs), axis=0, ddof=1))))
    return float(np.sqrt(spread**2 + blur**2 + voxel**2 + MODEL_SIGMA_MM**2))
