"""Texture features of a discretised region: six families, each aggregated as IBSI names it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import numpy as np

from ...geometry import InputError
from . import glcm, ngtdm
from .glrlm import run_length_cells
from .neighbours import look_around
from .ngldm import dependence_cells
from .texture_cells import EMPHASES, Array, Cells, LevelRegion, emphasis_features, half_directions, level_region
from .zones import edge_distance, find_zones, zone_distance_cells, zone_size_cells

TEXTURE_FAMILIES = ("glcm", "glrlm", "glszm", "gldzm", "ngtdm", "ngldm")
PREFIX = {"glcm": "cm", "glrlm": "rlm", "glszm": "szm", "gldzm": "dzm", "ngtdm": "ngt", "ngldm": "ngl"}
AGGREGATIONS = ("2D_avg", "2D_comb", "2_5D_avg", "2_5D_comb", "3D_avg", "3D_comb")
DIMENSIONS = ("2D", "2_5D", "3D")
WEIGHTINGS = ("euclidean", "manhattan", "chebyshev")
FLAT = 4  # in-plane directions among the thirteen, which come first


def texture_features(levels: Array, n_levels: int, *, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
                     families: Collection[str] = TEXTURE_FAMILIES, aggregations: Collection[str] = AGGREGATIONS,
                     morphological: Array | None = None, ngldm_alpha: float = 0.0, glcm_distance: int = 1,
                     ngldm_distance: int = 1, weighting: str | None = None,
                     check: Callable[[], None] = lambda: None) -> dict[str, float]:
    """Texture features by their IBSI tag, such as "cm_joint_max_2D_avg" or "szm_sze_3D".

    Args:
        levels: (k, j, i) integers, 0 outside the region, 1 .. n_levels inside.
        n_levels: of the discretisation; enters the co-occurrence matrix's normalised inverse differences.
        spacing_mm: (k, j, i); used by `weighting` alone.
        aggregations: of AGGREGATIONS ("2D_avg" by slice and direction, "2D_comb" directions merged in a slice,
            "2_5D_avg" slices merged in a direction, "2_5D_comb" and "3D_comb" everything merged, "3D_avg" by
            direction), or "2D", "2_5D", "3D" for both of a kind. Zones and neighbourhoods, which have no directions,
            take the dimension alone. Averages are over the slices and directions that hold anything.
        morphological: (k, j, i) bool, whose edge the distance zones look at; joined with the region itself, which
            alone counts where None.
        glcm_distance: voxels along each of the 13 directions.
        ngldm_distance: Chebyshev radius of the neighbourhood; ngldm_alpha: levels that still count as alike.
        weighting: None as in IBSI's references, or the norm of the step d in mm by whose exp(-d^2) co-occurrence and
            run length matrices are weighted before they are merged.
        check: called between the families, may raise CancelledError.
    Returns: by key in IBSI's order; nan where a feature is undefined (`why_undefined` says why), and everywhere for
    an empty region. Raises InputError for levels out of range or of another shape, and for unknown names.
    Source: IBSI reference manual, arXiv:1612.07003v11, sections 3.6 to 3.11.
    """
    levels = _checked(levels, n_levels, morphological)
    wanted = _wanted(families, aggregations, weighting)
    names = texture_names(families, aggregations)
    if not 0.0 <= ngldm_alpha < math.inf:
        raise InputError(f"ngldm_alpha must be a number of grey levels from 0 up, not {ngldm_alpha}")
    reach = max(1, _natural(glcm_distance, "glcm_distance"), _natural(ngldm_distance, "ngldm_distance"))
    if not names or not (levels > 0).any():
        return dict.fromkeys(names, math.nan)
    region = level_region(levels, n_levels, reach)
    dimensions = [d for d in DIMENSIONS if any(_of(place) == d for place in wanted)]
    flat_only, by_slice = "3D" not in dimensions, "2D" in dimensions
    found: dict[str, float] = {}
    check()
    if "glcm" in families:
        cells = glcm.cooccurrence_cells(region, int(glcm_distance), flat_only, by_slice)
        found |= _directional(cells, region, wanted, "cm", _weights(spacing_mm, weighting, int(glcm_distance)))
    check()
    if "glrlm" in families:
        cells = run_length_cells(region, flat_only, by_slice)
        found |= _directional(cells, region, wanted, "rlm", _weights(spacing_mm, weighting, 1))
    check()
    if "glszm" in families or "gldzm" in families:
        found |= _zonal(region, dimensions, families, morphological)
    check()
    if "ngtdm" in families or "ngldm" in families:
        found |= _neighbourly(region, dimensions, families, int(ngldm_distance), ngldm_alpha)
    return {name: found[name] for name in names}


def texture_names(families: Collection[str] = TEXTURE_FAMILIES,
                  aggregations: Collection[str] = AGGREGATIONS) -> list[str]:
    """Every tag texture_features gives for these choices, in IBSI's order."""
    wanted = _wanted(families, aggregations, None)
    names = []
    for family in TEXTURE_FAMILIES:
        if family not in families:
            continue
        prefix = PREFIX[family]
        features = {"cm": glcm.NAMES, "ngt": ngtdm.NAMES}.get(prefix) or EMPHASES[prefix]
        places = wanted if prefix in ("cm", "rlm") else [d for d in DIMENSIONS if any(_of(w) == d for w in wanted)]
        names += [f"{prefix}_{feature}_{place}" for place in places for feature in features]
    return names


def why_undefined(key: str) -> str:
    """Why texture_features gave nan for this tag (with or without a filter's prefix before it)."""
    key = key.rsplit("__", 1)[-1]
    if key.startswith("cm_info_corr1"):
        return "no two voxels of the region at the co-occurrence distance, or a single grey level: 0 divided by 0"
    if key.startswith("cm_"):
        return "no two voxels of the region at the co-occurrence distance"
    if key.startswith("ngt_"):
        return "no voxel of the region has a neighbour in it"
    return "the region is empty"


def _checked(levels: Array, n_levels: int, morphological: Array | None) -> Array:
    levels = np.asarray(levels)
    if levels.ndim != 3 or levels.dtype.kind not in "iub":
        raise InputError(f"grey levels must be an integer array (k, j, i), not {levels.dtype} of shape {levels.shape}")
    if levels.size and (int(levels.min()) < 0 or int(levels.max()) > n_levels):
        raise InputError(f"grey levels run from {levels.min()} to {levels.max()}: expected 0 (outside) to {n_levels}")
    if morphological is not None and np.shape(morphological) != levels.shape:
        raise InputError(f"the morphological mask has shape {np.shape(morphological)}, the levels {levels.shape}")
    return levels


def _wanted(families: Collection[str], aggregations: Collection[str], weighting: str | None) -> list[str]:
    """The chosen of AGGREGATIONS, in order."""
    for given, known, what in ((families, TEXTURE_FAMILIES, "texture family"),
                               (aggregations, AGGREGATIONS + DIMENSIONS, "aggregation"),
                               ([weighting] if weighting else [], WEIGHTINGS, "weighting")):
        wrong = [name for name in given if name not in known]
        if wrong:
            raise InputError(f"unknown {what} '{wrong[0]}': choose from {', '.join(known)}")
    return [name for name in AGGREGATIONS if name in aggregations or _of(name) in aggregations]


def _of(aggregation: str) -> str:
    """Its dimension: 2D, 2_5D or 3D."""
    return aggregation.rpartition("_")[0]


def _natural(value: float, what: str) -> int:
    if value != int(value) or value < 1:
        raise InputError(f"{what} must be a whole number of voxels from 1 up, not {value}")
    return int(value)


def _weights(spacing_mm: tuple[float, float, float], weighting: str | None, distance: int) -> Array | None:
    """(13,) of the directions, or None."""
    if weighting is None:
        return None
    if np.shape(spacing_mm) != (3,) or not (np.isfinite(spacing_mm).all() and np.min(spacing_mm) > 0):
        raise InputError(f"spacing_mm must be three lengths above 0 (k, j, i), not {spacing_mm}")
    steps = np.abs(np.array(half_directions(), float) * np.asarray(spacing_mm, float)) * distance
    norm = {"euclidean": lambda: np.linalg.norm(steps, axis=1), "manhattan": lambda: steps.sum(axis=1),
            "chebyshev": lambda: steps.max(axis=1)}[weighting]()
    return np.exp(-(norm**2) + norm.min() ** 2)


def _directional(cells: Cells, region: LevelRegion, wanted: list[str], prefix: str,
                 weights: Array | None) -> dict[str, float]:
    """Co-occurrence or run length features by aggregation; cells' groups: direction * n + slice."""
    n_groups = len(cells.voxels)
    size = n_groups // (len(half_directions()) if any(_of(w) == "3D" for w in wanted) else FLAT)
    direction, piece = np.divmod(np.arange(n_groups), size)
    groups = {"2D_avg": np.arange(n_groups), "2D_comb": piece, "2_5D_avg": direction, "2_5D_comb": 0 * piece,
              "3D_avg": direction, "3D_comb": 0 * piece}
    found = {}
    for place in wanted:
        kept = direction < (FLAT if _of(place) != "3D" else len(direction))
        merged = cells
        if weights is not None and place.endswith("comb"):
            even = weights / weights[direction[kept]].mean()
            merged = Cells(cells.group, cells.i, cells.j, cells.count * even[direction[cells.group]],
                           cells.voxels * even[direction])
        merged = merged.regroup(np.where(kept, groups[place], -1))
        values = (glcm.cooccurrence_features(merged, region.n_levels) if prefix == "cm"
                  else emphasis_features(merged, prefix))
        found |= {f"{prefix}_{name}_{place}": value for name, value in values.items()}
    return found


def _zonal(region: LevelRegion, dimensions: list[str], families: Collection[str],
           morphological: Array | None) -> dict[str, float]:
    found = {}
    for in_plane in (True, False):
        places = [d for d in dimensions if (d != "3D") == in_plane]
        if not places:
            continue
        zones = find_zones(region, in_plane)
        distance = edge_distance(region, morphological, in_plane) if "gldzm" in families else None
        for place in places:
            if "glszm" in families:
                values = emphasis_features(zone_size_cells(region, zones, place == "2D"), "szm")
                found |= {f"szm_{name}_{place}": value for name, value in values.items()}
            if distance is not None:
                values = emphasis_features(zone_distance_cells(region, zones, distance, place == "2D"), "dzm")
                found |= {f"dzm_{name}_{place}": value for name, value in values.items()}
    return found


def _neighbourly(region: LevelRegion, dimensions: list[str], families: Collection[str], distance: int,
                 alpha: float) -> dict[str, float]:
    tones = look_around(region, 1, alpha) if "ngtdm" in families else None
    alike = None
    if "ngldm" in families:
        alike = tones if tones is not None and distance == 1 else look_around(region, distance, alpha)
    found = {}
    for place in dimensions:
        volume, by_slice = int(place == "3D"), place == "2D"
        if tones is not None:
            values = ngtdm.tone_features(region, tones[volume], by_slice)
            found |= {f"ngt_{name}_{place}": value for name, value in values.items()}
        if alike is not None:
            values = emphasis_features(dependence_cells(region, alike[volume], by_slice), "ngl")
            found |= {f"ngl_{name}_{place}": value for name, value in values.items()}
    return found
