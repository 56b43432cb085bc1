"""Needles and applicators in a CT volume or in a thin CT-fluoroscopy slab."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...geometry import InputError, Mask, NeedleStatus, Volume, resample_mask
from .candidates import candidate_points
from .curve import Curve, refine
from .lines import METAL_HU, Found, find_lines
from .result import CtNeedle
from .space import Space, make_space, metal_level
from .tip import FADE_LIMIT, TipFit, fit_tip, within_slice_mm

METHOD = "metal line"
VALIDATED_ON = "needles painted with beam hardening into real CT (two painters); no real needle CT"
MIN_LENGTH_MM = 30.0
"""Shorter metal is a clip, a marker or a wire's end."""
SKIN_MM = 5.0
"""An end less deep than this goes out through the skin."""
SLAB_SLICES = 8
"""So few are CT fluoroscopy: a tip may lie outside of them."""
Box = tuple[tuple[float, float, float], tuple[float, float, float]]


def find_needles_ct(volume: Volume, *, expected: int | None = None, region: Box | Mask | None = None,
                    metal_hu: float | None = None, min_length_mm: float = MIN_LENGTH_MM, tip_cone_mm: float = 0.0,
                    time_s: float = 0.0, progress: Callable[[float, str], None] | None = None) -> list[CtNeedle]:
    """Needles in a CT volume, each with its tip, its curve and how sure that is.

    A needle is metal that is long (`min_length_mm`), thin (dark tissue all round within 4.5 mm), nearly straight and
    at least partly under the skin. Bone, contrast, clips, coils, the table and cables on the skin are not.
    The tip is the end inside the body; the other end leaves through the skin or through the edge of the volume.
    Where both ends are inside, the deeper is given, `ambiguous_end` is set and the covariance spans both; where
    both leave the volume, the status is OUT_OF_PLANE and no tip is given.

    Args:
        volume: HU, (k, j, i); any spacing and direction.
        expected: number of needles that were placed: at most so many (the most convincing) are returned.
        region: where to look: two corners in RAS mm, or a mask in the same frame; None is everywhere.
        metal_hu: lowest HU of a needle's voxels; None adapts to the scan. A lower one finds needles thinner than
            1 mm in 5 mm slices, and may take edges of bone for them.
        min_length_mm: shortest needle within the volume.
        tip_cone_mm: length of a conical or bevelled tip; with 0 the blunt end that fits best is given, which lies
            two thirds of that length behind the point.
        time_s: acquisition time that the result carries.
        progress: called with (part done, text).
    Returns: needles, longest first; an empty list when there is none.
    Raises: InputError for what is no CT in HU, an empty region or a region outside the volume.
    Source: own method; figures in Docs/benchmarks.md.
    """
    tell = progress or (lambda part, text: None)
    if expected is not None and expected < 1:
        raise InputError(f"expected={expected}: give the number of needles, 1 or more, or leave it out")
    tell(0.0, "finding the skin")
    space = make_space(volume)
    level = metal_level(space) if metal_hu is None else float(metal_hu)
    tell(0.2, f"metal above {level:.0f} HU")
    points, values = candidate_points(space, level, _inside(volume, region))
    tell(0.4, f"{len(points)} voxels may be metal lines")
    found = find_lines(space, points, values, level, min_length_mm=min_length_mm, most=24,
                       metal=METAL_HU if metal_hu is None else min(METAL_HU, 1.3 * level))
    needles = []
    for n, line in enumerate(found):
        tell(0.6 + 0.4 * n / len(found), f"needle {n + 1} of {len(found)}")
        others = tuple(f.curve for f in found if f is not line)
        needles.append(_needle(space, line, others, tip_cone_mm, time_s))
    needles.sort(key=lambda needle: -needle.length_mm * needle.confidence)
    tell(1.0, f"{len(needles)} found")
    return needles[:expected]


def find_needle_ct_slice(image: Volume | np.ndarray, *, spacing_mm: tuple[float, float, float] | None = None,
                         metal_hu: float | None = None, min_length_mm: float = 20.0,
                         time_s: float = 0.0) -> CtNeedle:
    """The needle in one CT-fluoroscopy slice or a slab of up to 8.

    Args:
        image: a Volume of 1 to 8 slices, or an array (j, i) or (k, j, i) in HU with `spacing_mm` (i, j, slice).
        metal_hu, min_length_mm, time_s: as in find_needles_ct.
    Returns: the most convincing needle. Its covariance says that within a slice nothing is known but the slice's
        thickness. OUT_OF_PLANE, without a tip, when the shaft fades out or heads out of the slab at its inner end;
        ABSENT when there is none.
    Raises: InputError: more than 8 slices, no spacing, no HU.
    """
    volume = _as_volume(image, spacing_mm)
    found = find_needles_ct(volume, metal_hu=metal_hu, min_length_mm=min_length_mm, time_s=time_s)
    if found:
        return found[0]
    return CtNeedle(NeedleStatus.ABSENT, time_s, "RAS", "mm", "CT", METHOD, VALIDATED_ON)


def _as_volume(image: Volume | np.ndarray, spacing_mm) -> Volume:
    if not isinstance(image, Volume):
        if spacing_mm is None or len(spacing_mm) != 3 or min(spacing_mm) <= 0:
            raise InputError("a CT slice without a header needs spacing_mm=(column, row, slice thickness)")
        from ...geometry import Grid

        array = np.asarray(image)
        array = array[None] if array.ndim == 2 else array
        matrix = np.diag([*(float(s) for s in spacing_mm), 1.0])
        image = Volume(array, Grid(array.shape, matrix), "CT slice")
    if image.array.shape[0] > SLAB_SLICES:
        raise InputError(f"{image.name or 'slab'}: {image.array.shape[0]} slices are a volume; use find_needles_ct")
    return image


def _inside(volume: Volume, region: Box | Mask | None) -> np.ndarray | None:
    if region is None:
        return None
    if isinstance(region, Mask):
        inside = (region if region.grid.same_grid(volume.grid) else resample_mask(region, volume.grid)).array
    else:
        corners = np.asarray(region, float)
        if corners.shape != (2, 3) or not np.isfinite(corners).all():
            raise InputError("a region is two corners in RAS mm, or a mask")
        low, high = corners.min(axis=0), corners.max(axis=0)
        points = volume.grid.all_points_ras()
        inside = ((points >= low) & (points <= high)).all(axis=-1)
    if not inside.any():
        raise InputError(f"{volume.name or 'CT'}: the region to search holds no voxel of the volume")
    return inside


def _needle(space: Space, line: Found, others: tuple[Curve, ...], cone_mm: float, time_s: float) -> CtNeedle:
    """One accepted line as a result: which end is the tip, and where it is."""
    curve, spread = refine(space, line.curve, others)
    spread = spread if np.isfinite(spread) else line.spread_mm
    ends = curve.points(np.array(curve.ends))
    outward = [-curve.tangent(curve.ends[0]), curve.tangent(curve.ends[1])]
    depth = space.depth_mm(ends)
    cut = [space.leaves_volume(e, o) for e, o in zip(ends, outward, strict=True)]
    inner = [not c and d > SKIN_MM for c, d in zip(cut, depth, strict=True)]
    high = bool(inner[1] and (not inner[0] or depth[1] >= depth[0]))
    chosen = int(high)
    fit = fit_tip(space, curve, high, cone_mm=cone_mm, others=others) if inner[chosen] else None
    if fit is not None and _is_slab(space) and fit.fade > FADE_LIMIT:
        fit = None
    common = _common(space, curve, line, time_s, high, ends, spread, fit)
    if fit is None:
        return CtNeedle(status=NeedleStatus.OUT_OF_PLANE, **common)
    return CtNeedle(status=NeedleStatus.SEEN, **common, **_tip(space, fit, all(inner), ends[1 - chosen]),
                    in_plane=_in_plane(space, fit),
                    depth_mm=float(depth[chosen]) if np.isfinite(depth[chosen]) else None)


def _common(space, curve: Curve, line: Found, time_s, high, ends, spread, fit: TipFit | None) -> dict:
    t = np.linspace(*curve.ends, 2 if curve.degree == 1 else 41)
    path = curve.points(t if high else t[::-1])
    if fit is not None:
        path[-1] = fit.tip
    direction = curve.tangent(curve.ends[1]) if high else -curve.tangent(curve.ends[0])
    length = curve.length_mm
    count = max(2.0, length / 4.0)
    freedom = curve.degree
    sigma = np.degrees(spread * np.sqrt(12.0 / count) / length) * freedom**1.5
    sigma = float(np.hypot(sigma, np.degrees(np.arctan(1.5 * within_slice_mm(space, curve).max() / length))))
    confidence = float(np.clip(line.coverage, 0.0, 1.0) * (1.0 - np.exp(-length / 15.0)))
    return {"time_s": time_s, "frame": "RAS", "units": "mm", "modality": "CT", "method": METHOD,
            "validated_on": VALIDATED_ON, "direction": space.directions_ras(direction), "curve": space.ras(path),
            "direction_sigma_deg": max(sigma, 0.05), "confidence": confidence, "visible_fraction": line.coverage,
            "length_mm": length, "bow_mm": curve.bow_mm, "mean_hu": line.mean_hu,
            "other_end": space.ras(ends[:1] if high else ends[1:])[0]}


def _tip(space: Space, fit: TipFit, ambiguous: bool, other: np.ndarray) -> dict:
    axes = space.volume.grid.directions
    covariance = fit.covariance
    if ambiguous:
        covariance = covariance + 0.5 * np.outer(other - fit.tip, other - fit.tip)
    return {"tip": space.ras(fit.tip[None])[0], "covariance": axes @ covariance @ axes.T, "ambiguous_end": ambiguous}


def _is_slab(space: Space) -> bool:
    return space.array.shape[0] <= SLAB_SLICES


def _in_plane(space: Space, fit: TipFit) -> float | None:
    """Only a slab can lose the tip across its slices: how sharp the end is, and whether it lies inside."""
    if not _is_slab(space):
        return None
    return float(np.clip(1.0 - (fit.fade - 1.0) / (FADE_LIMIT - 1.0), 0.05, 0.95))
