"""Grey level size zone and distance zone matrices (Thibault 2009, 2014; IBSI reference manual 3.8 and 3.9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .texture_cells import Array, Cells, LevelRegion, count_cells, half_directions


@dataclass(frozen=True)
class Zones:
    """Connected voxels of one grey level. label (n,): zone of each voxel; level, size, slice_of: (n_zones,) each."""

    label: Array
    level: Array
    size: Array
    slice_of: Array


def find_zones(region: LevelRegion, in_plane: bool) -> Zones:
    """Zones of 26-connected voxels, or 8-connected ones slice by slice.

    Neighbouring runs along the rows are the nodes of a graph, whose components are the zones.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    flat, index, level = region.flat, region.index, region.level.astype(region.flat.dtype)
    run = np.cumsum(flat[index - 1] != level) - 1
    run_at = np.zeros(len(flat), np.int32)
    run_at[index] = run
    n_runs = int(run[-1]) + 1
    ones, twos = [], []
    for step in half_directions():
        if step == (0, 0, 1):
            continue
        if in_plane and step[0]:
            break
        there = index + region.offset(step)
        same = np.flatnonzero(flat[there] == level)
        one, two = run[same], run_at[there[same]]
        fresh = np.ones(len(one), bool)
        fresh[1:] = (one[1:] != one[:-1]) | (two[1:] != two[:-1])
        ones.append(one[fresh])
        twos.append(two[fresh])
    one, two = np.concatenate(ones), np.concatenate(twos)
    graph = coo_matrix((np.ones(len(one), np.int8), (one, two)), shape=(n_runs, n_runs))
    n_zones, of_run = connected_components(graph, directed=False)
    label = of_run[run]
    zone_level, zone_slice = np.zeros(n_zones, np.int64), np.zeros(n_zones, np.int64)
    zone_level[label] = region.level
    zone_slice[label] = region.slice_of
    return Zones(label, zone_level, np.bincount(label, minlength=n_zones), zone_slice)


def zone_size_cells(region: LevelRegion, zones: Zones, by_slice: bool) -> Cells:
    """Cells (grey level, voxels in the zone); one matrix a slice or one in all."""
    return _cells(region, zones, zones.size, by_slice)


def zone_distance_cells(region: LevelRegion, zones: Zones, distance: Array, by_slice: bool) -> Cells:
    """Cells (grey level, least distance of the zone to the edge); distance (n,): of each voxel, from 1."""
    least = np.full(len(zones.level), np.iinfo(np.int64).max)
    np.minimum.at(least, zones.label, distance)
    return _cells(region, zones, least, by_slice)


def edge_distance(region: LevelRegion, morphological: Array | None, in_plane: bool) -> Array:
    """(n,) steps over faces from each voxel out of the morphological mask; 1 at its edge, and so at the image's.

    in_plane: over the four faces within the slice. morphological: (k, j, i) bool of the levels' shape (not cropped),
    joined with the levels' own region; None takes that region alone.
    """
    from scipy.ndimage import distance_transform_cdt

    mask = region.flat.reshape(region.shape) > 0
    place = np.array(np.unravel_index(region.index, region.shape))
    if morphological is not None:
        place += (np.array(region.corner) - region.margin)[:, None]
        whole = np.array(morphological, bool)
        whole[tuple(place)] = True
        spans = [np.flatnonzero(whole.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        mask = np.pad(whole[tuple(slice(span[0], span[-1] + 1) for span in spans)], 1)
        place += 1 - np.array([span[0] for span in spans])[:, None]
    if in_plane:  # the slices one below the other in a single plane: the empty rows between them keep them apart
        place = np.stack([place[0] * mask.shape[1] + place[1], place[2]])
        mask = mask.reshape(-1, mask.shape[2])
    distance = np.asarray(distance_transform_cdt(mask, metric="taxicab"))
    return distance[tuple(place)].astype(np.int64)


def _cells(region: LevelRegion, zones: Zones, second: Array, by_slice: bool) -> Cells:
    if by_slice:
        return count_cells(zones.slice_of, zones.level, second, region.slice_voxels.astype(float))
    return count_cells(0, zones.level, second, np.array([float(len(region.index))]))
