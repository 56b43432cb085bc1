"""Texture matrices and features straight from the definitions of the IBSI manual: dense arrays, loops over voxels.

Slow and short on purpose, and shares nothing with the library: the referee of test_radiomics_textures.py.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

Matrix = np.ndarray


def neighbours(reach: int, flat: bool) -> list[tuple[int, int, int]]:
    steps = itertools.product(range(-reach, reach + 1), repeat=3)
    return [s for s in steps if any(s) and not (flat and s[0])]


def half(flat: bool) -> list[tuple[int, int, int]]:
    return [s for s in neighbours(1, flat) if s > (0, 0, 0)]


def at(levels: np.ndarray, place: tuple[int, ...]) -> int:
    return int(levels[place]) if all(0 <= p < n for p, n in zip(place, levels.shape, strict=True)) else 0


def moved(place, step, times: int = 1) -> tuple[int, ...]:
    return tuple(int(p) + times * s for p, s in zip(place, step, strict=True))


def voxels(levels: np.ndarray):
    return [tuple(int(x) for x in p) for p in np.argwhere(levels > 0)]


def glcm(levels: np.ndarray, n: int, step, distance: int) -> Matrix:
    counts = np.zeros((n, n))
    for place in voxels(levels):
        for sign in (1, -1):
            other = at(levels, moved(place, step, sign * distance))
            if other:
                counts[at(levels, place) - 1, other - 1] += 1
    return counts


def glrlm(levels: np.ndarray, n: int, step) -> Matrix:
    counts = np.zeros((n, max(levels.shape)))
    for place in voxels(levels):
        level = at(levels, place)
        if at(levels, moved(place, step, -1)) != level:
            length = 1
            while at(levels, moved(place, step, length)) == level:
                length += 1
            counts[level - 1, length - 1] += 1
    return counts


def zones(levels: np.ndarray, flat: bool) -> list[list[tuple[int, ...]]]:
    seen, found = set(), []
    for start in voxels(levels):
        if start in seen:
            continue
        zone, todo = [], [start]
        seen.add(start)
        while todo:
            place = todo.pop()
            zone.append(place)
            for step in neighbours(1, flat):
                there = moved(place, step)
                if there not in seen and at(levels, there) == at(levels, start):
                    seen.add(there)
                    todo.append(there)
        found.append(zone)
    return found


def glszm(levels: np.ndarray, n: int, flat: bool) -> Matrix:
    counts = np.zeros((n, int((levels > 0).sum())))
    for zone in zones(levels, flat):
        counts[at(levels, zone[0]) - 1, len(zone) - 1] += 1
    return counts


def gldzm(levels: np.ndarray, n: int, flat: bool, mask: np.ndarray) -> Matrix:
    """Distance of a voxel: least city-block way to any voxel outside the mask, the outside of the image included."""
    outside = np.argwhere(~np.pad(mask, 1)) - 1
    counts = np.zeros((n, sum(mask.shape)))
    for zone in zones(levels, flat):
        near = []
        for place in zone:
            away = np.abs(outside - place)
            near.append(away[away[:, 0] == 0].sum(axis=1).min() if flat else away.sum(axis=1).min())
        counts[at(levels, zone[0]) - 1, min(near) - 1] += 1
    return counts


def ngldm(levels: np.ndarray, n: int, flat: bool, reach: int, alpha: float) -> Matrix:
    steps = neighbours(reach, flat)
    counts = np.zeros((n, len(steps) + 1))
    for place in voxels(levels):
        others = [at(levels, moved(place, s)) for s in steps]
        counts[at(levels, place) - 1, sum(o > 0 and abs(o - at(levels, place)) <= alpha for o in others)] += 1
    return counts


def ngtdm(levels: np.ndarray, n: int, flat: bool) -> Matrix:
    """Rows: how often each level occurs with a neighbour, and its summed difference to the neighbours' mean."""
    found = np.zeros((2, n))
    for place in voxels(levels):
        others = [o for s in neighbours(1, flat) if (o := at(levels, moved(place, s)))]
        if others:
            found[:, at(levels, place) - 1] += 1, abs(at(levels, place) - np.mean(others))
    return found


def _log(p: np.ndarray) -> np.ndarray:
    return np.log2(np.where(p > 0, p, 1.0))


def glcm_features(counts: Matrix) -> dict[str, float] | None:
    if not counts.sum():
        return None
    n = len(counts)
    p = counts / counts.sum()
    i, j = np.mgrid[1:n + 1, 1:n + 1].astype(float)
    px, gap = p.sum(axis=1), np.abs(i - j)
    levels = np.arange(1.0, n + 1)
    mu = (i * p).sum()
    var = ((levels - mu) ** 2 * px).sum()
    diff = np.array([p[gap == k].sum() for k in range(n)])
    summed = np.array([p[i + j == k].sum() for k in range(2, 2 * n + 1)])
    k, both = np.arange(n), np.arange(2, 2 * n + 1)
    hx, hxy = -(px * _log(px)).sum(), -(p * _log(p)).sum()
    hxy1 = -(p * _log(np.outer(px, px))).sum()
    hxy2 = -(np.outer(px, px) * _log(np.outer(px, px))).sum()
    edge = i + j - 2 * mu
    return {"joint_max": p.max(), "joint_avg": mu, "joint_var": ((i - mu) ** 2 * p).sum(), "joint_entr": hxy,
            "diff_avg": (k * diff).sum(), "diff_var": ((k - (k * diff).sum()) ** 2 * diff).sum(),
            "diff_entr": -(diff * _log(diff)).sum(), "sum_avg": (both * summed).sum(),
            "sum_var": ((both - (both * summed).sum()) ** 2 * summed).sum(),
            "sum_entr": -(summed * _log(summed)).sum(), "energy": (p**2).sum(), "contrast": (gap**2 * p).sum(),
            "dissimilarity": (gap * p).sum(), "inv_diff": (p / (1 + gap)).sum(),
            "inv_diff_norm": (p / (1 + gap / n)).sum(), "inv_diff_mom": (p / (1 + gap**2)).sum(),
            "inv_diff_mom_norm": (p / (1 + gap**2 / n**2)).sum(),
            "inv_var": 2 * sum(p[a, b] / (a - b) ** 2 for a in range(n) for b in range(a + 1, n)),
            "corr": ((i - mu) * (j - mu) * p).sum() / var if var > 1e-12 else 1.0, "auto_corr": (i * j * p).sum(),
            "clust_tend": (edge**2 * p).sum(), "clust_shade": (edge**3 * p).sum(), "clust_prom": (edge**4 * p).sum(),
            "info_corr1": (hxy - hxy1) / hx if hx > 1e-12 else math.nan,
            "info_corr2": math.sqrt(max(0.0, 1 - math.exp(-2 * (hxy2 - hxy))))}


def size_features(counts: Matrix, n_voxels: int, names: tuple[str, ...]) -> dict[str, float] | None:
    total = counts.sum()
    if not total:
        return None
    i, j = np.mgrid[1:counts.shape[0] + 1, 1:counts.shape[1] + 1].astype(float)
    p = counts / total
    ri, rj = counts.sum(axis=1), counts.sum(axis=0)
    mi, mj = (i * p).sum(), (j * p).sum()
    values = [(p / j**2).sum(), (p * j**2).sum(), (p / i**2).sum(), (p * i**2).sum(), (p / (i * j) ** 2).sum(),
              (p * i**2 / j**2).sum(), (p * j**2 / i**2).sum(), (p * (i * j) ** 2).sum(), (ri**2).sum() / total,
              (ri**2).sum() / total**2, (rj**2).sum() / total, (rj**2).sum() / total**2, total / n_voxels,
              ((i - mi) ** 2 * p).sum(), ((j - mj) ** 2 * p).sum(), -(p * _log(p)).sum(), (p**2).sum()]
    return dict(zip(names, values, strict=False))


def ngtdm_features(found: Matrix) -> dict[str, float] | None:
    n, s = found
    if not n.sum():
        return None
    p = n / n.sum()
    held = [k for k in range(len(n)) if n[k]]
    pairs = [(a, b) for a in held for b in held]
    weighted = (p * s).sum()
    apart = sum(abs((a + 1) * p[a] - (b + 1) * p[b]) for a, b in pairs)
    contrast = 0.0
    if len(held) > 1:
        contrast = sum(p[a] * p[b] * (a - b) ** 2 for a, b in pairs) / len(held) / (len(held) - 1) * s.sum() / n.sum()
    complexity = sum(abs(a - b) * (p[a] * s[a] + p[b] * s[b]) / (p[a] + p[b]) for a, b in pairs) / n.sum()
    strength = sum((p[a] + p[b]) * (a - b) ** 2 for a, b in pairs)
    return {"coarseness": 1 / weighted if weighted > 1e-6 else 1e6, "contrast": contrast,
            "busyness": weighted / apart if apart > 1e-12 else 0.0, "complexity": complexity,
            "strength": strength / s.sum() if s.sum() > 0 else 0.0}


def mean_of(rows: list[dict[str, float] | None]) -> dict[str, float]:
    """By name, over the rows that exist and the values that are defined."""
    rows = [row for row in rows if row]
    out = {}
    for name in rows[0] if rows else ():
        known = [row[name] for row in rows if not math.isnan(row[name])]
        out[name] = float(np.mean(known)) if known else math.nan
    return out


def _pooled(matrix_of, features_of, slices: list[np.ndarray], levels: np.ndarray) -> dict[str, dict[str, float]]:
    """A family with directions: features by aggregation. matrix_of(levels, step), features_of(matrix, voxels)."""
    flat, whole, n = half(True), half(False), int((levels > 0).sum())
    table = [[matrix_of(piece, step) for step in flat] for piece in slices]
    size = [int((piece > 0).sum()) for piece in slices]
    deep = [matrix_of(levels, step) for step in whole]
    return {"2D_avg": mean_of([features_of(m, v) for row, v in zip(table, size, strict=True) for m in row]),
            "2D_comb": mean_of([features_of(sum(row), v * len(flat)) for row, v in zip(table, size, strict=True)]),
            "2_5D_avg": mean_of([features_of(sum(row[d] for row in table), n) for d in range(len(flat))]),
            "2_5D_comb": mean_of([features_of(sum(sum(row) for row in table), n * len(flat))]),
            "3D_avg": mean_of([features_of(m, n) for m in deep]),
            "3D_comb": mean_of([features_of(sum(deep), n * len(whole))])}


def _plain(matrix_of, features_of, slices: list[np.ndarray], levels: np.ndarray) -> dict[str, dict[str, float]]:
    """A family without directions. matrix_of(levels, flat), with all slices' matrices of one shape."""
    n = int((levels > 0).sum())
    table = [matrix_of(piece, True) for piece in slices]
    return {"2D": mean_of([features_of(m, int((piece > 0).sum()))
                           for m, piece in zip(table, slices, strict=True)]),
            "2_5D": mean_of([features_of(sum(table), n)]), "3D": mean_of([features_of(matrix_of(levels, False), n)])}


def all_features(levels: np.ndarray, n: int, names: dict[str, tuple[str, ...]], *, mask: np.ndarray | None = None,
                 distance: int = 1, reach: int = 1, alpha: float = 0.0) -> dict[str, float]:
    """Every key of the library, by the definitions; names: the tags of the four families of (level, size)."""
    mask = levels > 0 if mask is None else mask
    slices = []
    for k in range(len(levels)):
        if (levels[k] > 0).any():
            slices.append(np.zeros_like(levels))
            slices[-1][k] = levels[k]

    def wide(matrix: np.ndarray) -> np.ndarray:
        return np.pad(matrix, ((0, 0), (0, levels.size - matrix.shape[1])))

    def sized(tag: str):
        return lambda matrix, v: size_features(matrix, v, names[tag])

    found = {
        "cm": _pooled(lambda a, s: glcm(a, n, s, distance), lambda m, _: glcm_features(m), slices, levels),
        "rlm": _pooled(lambda a, s: glrlm(a, n, s), sized("rlm"), slices, levels),
        "szm": _plain(lambda a, flat: wide(glszm(a, n, flat)), sized("szm"), slices, levels),
        "dzm": _plain(lambda a, flat: gldzm(a, n, flat, mask), sized("dzm"), slices, levels),
        "ngt": _plain(lambda a, flat: ngtdm(a, n, flat), lambda m, _: ngtdm_features(m), slices, levels),
        "ngl": _plain(lambda a, flat: ngldm(a, n, flat, reach, alpha), sized("ngl"), slices, levels)}
    return {f"{tag}_{name}_{way}": value for tag, ways in found.items() for way, row in ways.items()
            for name, value in row.items()}
