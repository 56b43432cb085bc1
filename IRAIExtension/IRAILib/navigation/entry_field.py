"""Obstacles on the way of a needle: a conservative distance field for thousands of rays, exact boxes for a few.

An obstacle is the union of its voxels as boxes. The field holds, cell by cell, a lower bound of how much room is left
beyond the margins; distance changes by at most 1 mm a mm, so a march by that bound can't step over anything, however
thin (sphere tracing, Hart 1996). What the bound can't decide is "close", and is decided by the exact distance of a
segment to boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..geometry import Grid, InputError, Mask
from ..geometry.distance import euclidean_distance_mm

MARGINS_MM = {"bone": 1.0, "vessel": 3.0, "lung": 2.0, "bowel": 5.0, "nerve": 5.0, "organ": 2.0, "other": 3.0}
"""What is kept free round each kind unless the user says otherwise: starting values to choose from, not a guideline."""
CELL_MM = 1.5
LEAST_STEP_MM = 0.75
NEAR_MM = 10.0
"""Beyond that more room doesn't matter, and the march takes longer steps."""
FREE, CLOSE, FORBIDDEN = 0, 1, 2
MOST_OBSTACLES = 32


@dataclass(frozen=True, eq=False)
class Obstacle:
    """A structure on the way.

    Attributes:
        mask: any orthogonal grid, RAS. margin_mm: kept free round it (None: by its kind).
        kind: bone, vessel, lung, bowel, nerve, organ or other. hard: never crossed; else its crossing costs.
    """

    mask: Mask
    margin_mm: float | None = None
    kind: str = "other"
    hard: bool = True

    def __post_init__(self) -> None:
        if self.kind not in MARGINS_MM:
            raise InputError(f"obstacle of kind {self.kind!r}: choose one of {', '.join(MARGINS_MM)}")
        margin = MARGINS_MM[self.kind] if self.margin_mm is None else float(self.margin_mm)
        if not 0.0 <= margin <= 100.0:
            raise InputError(f"{self.mask.name or 'obstacle'}: a margin of {margin:g} mm; give 0 to 100 mm")
        require_orthogonal(self.mask.grid, self.mask.name)
        object.__setattr__(self, "margin_mm", margin)


def require_orthogonal(grid: Grid, name: str) -> None:
    """Raises InputError for sheared voxels: distances along their axes would not be distances."""
    if np.abs(grid.directions.T @ grid.directions - np.eye(3)).max() > 1e-3:
        raise InputError(f"{name or 'image'}: its voxel axes aren't at right angles (gantry tilt); resample it first")


@dataclass(frozen=True)
class Clearance:
    """How near a needle comes to an obstacle: its surface to the voxels as boxes (0: touches), where, how sure.

    point_ras: on the needle's axis. sigma_mm: 1 SD of the obstacle's border by its voxel size, along the line to it.
    nearest_ras: centre of the nearest voxel.
    """

    name: str
    distance_mm: float
    margin_mm: float
    point_ras: tuple[float, float, float]
    sigma_mm: float
    nearest_ras: tuple[float, float, float] | None = None

    @property
    def free(self) -> bool:
        return self.distance_mm > 0.0 and self.distance_mm >= self.margin_mm


class BoxObstacle:
    """The boundary voxels of a mask as boxes, for exact distances."""

    def __init__(self, mask: Mask, name: str, margin_mm: float, needle_radius_mm: float = 0.0) -> None:
        self.mask, self.name, self.margin_mm, self.radius = mask, name, margin_mm, needle_radius_mm
        self.half = 0.5 * mask.grid.spacing_kji_mm
        self.reach = float(np.linalg.norm(self.half))
        if mask.array.any():
            start, shape = mask.bounding_box_kji()
            box = mask.array[tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))]
            self.centres = ((np.argwhere(_border(box)) + start) * mask.grid.spacing_kji_mm).astype(np.float32)
        else:
            self.centres = np.zeros((0, 3), np.float32)

    def clearance(self, start_ras: np.ndarray, end_ras: np.ndarray) -> Clearance:
        """Exact distance of the needle round the segment to the boxes; infinite for an empty mask."""
        grid = self.mask.grid
        start, end = grid.indices_kji(np.stack([start_ras, end_ras])) * grid.spacing_kji_mm
        along = end - start
        if not len(self.centres):
            return Clearance(self.name, np.inf, self.margin_mm, _triple(start_ras), 0.0)
        if self._holds(start):
            return Clearance(self.name, 0.0, self.margin_mm, _triple(start_ras), self.reach / np.sqrt(3.0))
        gap = self.centres - start.astype(np.float32)
        share = np.clip(gap @ (along / max(along @ along, 1e-12)).astype(np.float32), 0.0, 1.0)
        square = (gap**2).sum(axis=1) - share * (2.0 * (gap @ along.astype(np.float32))
                                                 - share * np.float32(along @ along))
        nearest = float(np.sqrt(max(float(square.min()), 0.0)))
        chosen = np.flatnonzero(square <= (nearest + self.reach + 0.05) ** 2)
        distance, place = segment_to_boxes(start, along, self.centres[chosen].astype(float), self.half)
        best = int(distance.argmin())
        point = start + place[best] * along
        away = self.centres[chosen[best]].astype(float) - point
        direction = np.abs(away) / max(float(np.linalg.norm(away)), 1e-9)
        sigma = float(np.linalg.norm(direction * 2.0 * self.half) / np.sqrt(12.0))
        return Clearance(self.name, max(0.0, float(distance[best]) - self.radius), self.margin_mm,
                         _triple(grid.points_ras((point / grid.spacing_kji_mm)[None])[0]), sigma,
                         _triple(grid.points_ras(self.centres[chosen[best]] / grid.spacing_kji_mm)[0]))

    def _holds(self, local: np.ndarray) -> bool:
        index = np.rint(local / self.mask.grid.spacing_kji_mm).astype(int)
        inside = (index >= 0).all() and (index < self.mask.array.shape).all()
        return bool(inside and self.mask.array[tuple(index)])


def segment_to_boxes(start: np.ndarray, along: np.ndarray, centres: np.ndarray,
                     half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) distance of the segment start + t along (0 <= t <= 1) to boxes (n, 3) of half size `half`, and (n,) t.

    The squared distance is convex in t, its slope piecewise linear with a break where a coordinate enters or leaves a
    slab, so the zero of the slope is found exactly.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        breaks = np.concatenate([(centres - half - start) / along, (centres + half - start) / along], axis=1)
    breaks = np.clip(np.nan_to_num(breaks, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)
    ends = np.zeros((len(centres), 2))
    ends[:, 1] = 1.0
    times = np.sort(np.concatenate([ends, breaks], axis=1), axis=1)

    def excess(t: np.ndarray) -> np.ndarray:
        away = start + t[..., None] * along - centres.reshape(len(centres), *([1] * (t.ndim - 1)), 3)
        return np.sign(away) * np.maximum(np.abs(away) - half, 0.0)

    slope = excess(times) @ along
    last = np.clip((slope <= 0.0).sum(axis=1) - 1, 0, times.shape[1] - 2)
    rows = np.arange(len(centres))
    t0, t1, s0, s1 = times[rows, last], times[rows, last + 1], slope[rows, last], slope[rows, last + 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where((s0 < 0) & (s1 > 0), t0 - s0 * (t1 - t0) / (s1 - s0), np.where(s1 <= 0, t1, t0))
    return np.linalg.norm(excess(t), axis=-1), t


class ObstacleField:
    """Lower bound of the room left beyond the margins of all hard obstacles, and what lies in each voxel.

    Made once for a CT and its obstacles; each target then costs milliseconds.
    """

    def __init__(self, grid: Grid, obstacles: Mapping[str, Obstacle], needle_radius_mm: float,
                 start: tuple[int, int, int], shape: tuple[int, int, int]) -> None:
        require_orthogonal(grid, "CT")
        if len(obstacles) > MOST_OBSTACLES:
            raise InputError(f"{len(obstacles)} obstacles; at most {MOST_OBSTACLES}: put alike ones into one mask")
        self.names, self.obstacles = list(obstacles), list(obstacles.values())
        steps = np.maximum(1, np.floor(CELL_MM / grid.spacing_kji_mm)).astype(int)
        self.fine = grid.cropped_grid(start, shape)
        matrix = self.fine.ras_from_ijk.copy()
        matrix[:3, :3] *= steps[::-1]
        matrix[:3, 3] = self.fine.points_ras(((steps - 1) / 2.0)[None])[0]
        k, j, i = (-(-n // int(s)) for n, s in zip(shape, steps, strict=True))
        self.grid = Grid((k, j, i), matrix)
        self.reach = float(np.linalg.norm(self.grid.spacing_kji_mm)) / 2.0
        self.slack = self.reach
        window = tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))
        kind = np.uint16 if len(obstacles) <= 16 else np.uint32
        self.bits = np.zeros(shape, kind)
        groups: dict[float, np.ndarray] = {}
        for n, obstacle in enumerate(self.obstacles):
            same = obstacle.mask.grid.same_grid(grid)
            fine = obstacle.mask.array[window] if same else _carried(obstacle.mask, self.fine)
            box = extent(fine, steps)
            part = fine[box]
            self.bits[box] |= np.multiply(part, kind(1 << n), dtype=kind)
            if not obstacle.hard:
                continue
            slack = 0.0 if same else float(np.linalg.norm(obstacle.mask.spacing_mm)) / 2.0
            key = round(float(obstacle.margin_mm or 0.0) + needle_radius_mm + slack, 6)
            cells = groups.setdefault(key, np.zeros(self.grid.shape, bool))
            if same:
                blocks = _blocks(part, steps)
                low = [b.start // s for b, s in zip(box, steps, strict=True)]
                cells[tuple(slice(a, a + m) for a, m in zip(low, blocks.shape, strict=True))] |= blocks
            else:
                cells |= _cells(obstacle.mask, self.grid)
                self.slack = max(self.slack, self.reach + slack)
        self.hard_bits = kind(sum(1 << n for n, o in enumerate(self.obstacles) if o.hard and
                                  o.mask.grid.same_grid(grid)))
        self.room = np.full(self.grid.shape, 1000.0, np.float32)
        for margin, cells in groups.items():
            if cells.any():
                distance = euclidean_distance_mm(~cells, self.grid.spacing_kji_mm)
                np.minimum(self.room, distance - np.float32(margin + self.reach), out=self.room)

    def trace(self, start_ras: np.ndarray, ends_ras: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """March from one point to (n, 3) ends, RAS mm.

        Returns: (n,) FREE (surely no hard obstacle within its margin), FORBIDDEN (surely one) or CLOSE (not decided);
        (n,) lower bound of the least room beyond the margins, mm; (n, 3) RAS where that is.
        """
        spacing = self.grid.spacing_kji_mm
        start = self.grid.indices_kji(start_ras)[0] * spacing
        along = self.grid.indices_kji(ends_ras) * spacing - start
        length = np.linalg.norm(along, axis=1)
        unit = along / np.maximum(length, 1e-9)[:, None]
        state = np.zeros(len(unit), np.uint8)
        least, place = np.full(len(unit), np.inf), np.zeros(len(unit))
        active, t = np.arange(len(unit)), np.zeros(len(unit))
        upper = np.array(self.grid.shape) - 1
        scale, fine_upper = self.grid.shape, np.array(self.fine.shape) - 1
        ratio = spacing / self.fine.spacing_kji_mm
        flat_room = self.room.ravel()
        before, gap = np.full(len(unit), np.inf), np.zeros(len(unit))
        while len(active):
            point = start + t[:, None] * unit[active]
            index = np.clip(np.rint(point / spacing), 0, upper).astype(np.int64)
            away = np.sqrt(((point - index * spacing) ** 2).sum(axis=1))
            room = flat_room[(index[:, 0] * scale[1] + index[:, 1]) * scale[2] + index[:, 2]] - away
            # between two points the room is at least half of what both leave of the way between them
            bound = np.minimum(room, 0.5 * (room + before - gap))
            better = bound < least[active]
            least[active[better]], place[active[better]] = bound[better], t[better]
            tight = np.flatnonzero(room <= 0.0)
            if len(tight):
                fine = np.rint(point[tight] / spacing * ratio + (ratio - 1.0) / 2.0).astype(np.int64)
                hit = (self.bits[tuple(np.clip(fine, 0, fine_upper).T)] & self.hard_bits) > 0
                hit |= room[tight] + 2.0 * (away[tight] + self.slack) < 0.0
                state[active[tight]] = np.where(hit, FORBIDDEN, CLOSE)
                t[tight[hit]] = np.inf
            step = np.maximum(np.maximum(0.5 * room, room - NEAR_MM), LEAST_STEP_MM)
            left = length[active] - t
            # the end is looked at too, unless the room reaches beyond it
            ended = left <= 0.0
            reached = ~ended & (left < room - NEAR_MM)
            least[active[reached]] = np.minimum(least[active[reached]], (room - left)[reached])
            going = ~(ended | reached)
            gap, before = np.minimum(step, left)[going], room[going]
            active, t = active[going], t[going] + gap
        return state, least, start_ras + (place / np.maximum(length, 1e-9))[:, None] * (ends_ras - start_ras)

    def along(self, start_ras: np.ndarray, ends_ras: np.ndarray, share: np.ndarray) -> np.ndarray:
        """(n, m) bit b set where obstacle b lies, at the shares (m,) of the ways from one point to (n, 3) RAS mm."""
        return nearest_along(self.bits, self.fine, start_ras, ends_ras, share)


def nearest_along(array: np.ndarray, grid: Grid, start_ras: np.ndarray, ends_ras: np.ndarray,
                  share: np.ndarray) -> np.ndarray:
    """(n, m) nearest voxels (the grid's edge beyond it) at the shares (m,) of the ways from start to (n, 3) ends."""
    start = grid.indices_kji(start_ras)[0].astype(np.float32)
    step = grid.indices_kji(ends_ras).astype(np.float32) - start
    flat = np.zeros((len(step), len(share)), np.int32)
    for axis, size in enumerate(grid.shape):
        index = step[:, axis, None] * share.astype(np.float32) + (start[axis] + np.float32(0.5))
        np.clip(index, 0, size - 1, out=index)
        flat *= size
        flat += index.astype(np.int32)
    return array.ravel()[flat]


def extent(array: np.ndarray, steps: np.ndarray) -> tuple[slice, ...]:
    """The box round what is True, from whole cells; empty slices when nothing is."""
    box = [slice(0, n) for n in array.shape]
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        hit = np.flatnonzero(array[tuple(box)].any(axis=others))
        if not len(hit):
            return (slice(0, 0),) * 3
        step = int(steps[axis])
        box[axis] = slice(int(hit[0]) // step * step, min(array.shape[axis], -(-int(hit[-1] + 1) // step) * step))
    return tuple(box)


def _border(box: np.ndarray) -> np.ndarray:
    """Voxels with a face towards the outside."""
    inner = np.pad(box, 1)
    covered = box.copy()
    for axis in range(3):
        for side in (0, 2):
            window = [slice(1, -1)] * 3
            window[axis] = slice(side, side + box.shape[axis])
            covered &= inner[tuple(window)]
    return box & ~covered


def _blocks(fine: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Cells that hold any voxel."""
    short = [(-n) % s for n, s in zip(fine.shape, steps, strict=True)]
    if any(short):
        fine = np.pad(fine, [(0, s) for s in short])
    for axis, step in enumerate(steps):
        parts = np.moveaxis(fine, axis, 0)
        whole = parts[0::step].copy()
        for n in range(1, step):
            whole |= parts[n::step]
        fine = np.moveaxis(whole, 0, axis)
    return np.ascontiguousarray(fine)


def _cells(mask: Mask, grid: Grid) -> np.ndarray:
    """Cells of `grid` that hold the centre of a voxel of a mask on another grid."""
    out = np.zeros(grid.shape, bool)
    index = np.rint(grid.indices_kji(mask.grid.points_ras(np.argwhere(mask.array)))).astype(int)
    index = index[((index >= 0) & (index < grid.shape)).all(axis=1)]
    out[tuple(index.T)] = True
    return out


def _carried(mask: Mask, grid: Grid) -> np.ndarray:
    """A mask's nearest voxels on another grid."""
    from ..geometry import resample_mask

    return resample_mask(mask, grid).array


def _triple(point: np.ndarray) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])
