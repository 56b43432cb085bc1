"""Entry points from a target: skin map, hard obstacles, soft costs, ranked paths that differ.

Costs and hard constraints after Baissalov 2001 and Villard 2005 (percutaneous trajectory planning), the Pareto view
after Schumann 2010; the conservative march and the exact boxes are described in `entry_field`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..geometry import CancelledError, InputError, Mask, RefusedError, Volume
from .entry_body import Skin, find_skin
from .entry_cost import SHALLOWEST_DEG, Capsule, EntryOptions, Measures, measure, pareto, soft_costs
from .entry_field import FORBIDDEN, FREE, BoxObstacle, Clearance, Obstacle, ObstacleField
from .entry_result import EntryPath, EntryPlan, SkinMap

OTHER_REASONS = ("too long", "leaves the body", "too shallow", "tilted too much")
MOST_EXACT_CHECKS = 300
SEED = 7
THIN_MM = 3.0


class EntryPlanner:
    """Everything that doesn't depend on the target, made once: skin, distance field, boxes.

    Args:
        ct: HU, RAS. obstacles: by name. organ: the one that holds the target, for the angle to its capsule.
        progress: called with (share, text). cancelled: True ends the work with CancelledError.
    Raises: InputError (sheared voxels, more than 32 obstacles, mask beside the CT), RefusedError (no body).
    """

    def __init__(self, ct: Volume, obstacles: Mapping[str, Obstacle], *, organ: Mask | None = None,
                 options: EntryOptions | None = None, progress: Callable[[float, str], None] | None = None,
                 cancelled: Callable[[], bool] | None = None) -> None:
        self.ct, self.obstacles, self.options = ct, dict(obstacles), options or EntryOptions()
        tell = progress or (lambda share, text: None)
        began = time.perf_counter()
        tell(0.0, "finding the skin")
        self.skin: Skin = find_skin(ct)
        _stop(cancelled)
        tell(0.3, "measuring distances to obstacles")
        start, shape = self._window()
        self.field = ObstacleField(ct.grid, self.obstacles, self.options.needle_radius_mm, start, shape)
        _stop(cancelled)
        tell(0.9, "reading the capsule")
        self.capsule = Capsule(organ) if organ is not None else None
        self._boxes: dict[str, BoxObstacle] = {}
        self._tree: tuple[Any, np.ndarray] | None = None
        axis = int(np.abs(ct.grid.directions[2]).argmax())
        normal = ct.grid.directions[:, axis]
        self.slice_normal = normal if normal[2] >= 0 else -normal
        self.seconds = time.perf_counter() - began
        tell(1.0, "ready")

    def _window(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """The body's box in CT voxels, with room for the widest margin."""
        margin = max((float(o.margin_mm or 0.0) for o in self.obstacles.values() if o.hard), default=0.0)
        start, shape = self.skin.body.bounding_box_kji(margin + self.options.needle_radius_mm + 6.0)
        ratio = self.skin.body.grid.spacing_kji_mm / self.ct.grid.spacing_kji_mm
        low = np.floor(np.array(start) * ratio).astype(int)
        high = np.minimum(np.ceil((np.array(start) + shape) * ratio).astype(int) + 1, self.ct.grid.shape)
        return tuple(int(v) for v in low), tuple(int(v) for v in high - low)  # type: ignore[return-value]

    def boxes(self, name: str) -> BoxObstacle:
        """The exact form of a hard obstacle, made when first asked for."""
        if name not in self._boxes:
            obstacle = self.obstacles[name]
            self._boxes[name] = BoxObstacle(obstacle.mask, name, float(obstacle.margin_mm or 0.0),
                                            self.options.needle_radius_mm)
        return self._boxes[name]

    def check(self, entry_ras: np.ndarray, target_ras: np.ndarray, *, stop_at_first: bool = False) -> list[Clearance]:
        """Exact clearance to every hard obstacle, least room first; with `stop_at_first` ends at the first breach."""
        out = []
        for name, obstacle in self.obstacles.items():
            if obstacle.hard:
                found = self.boxes(name).clearance(np.asarray(entry_ras, float), np.asarray(target_ras, float))
                out.append(found)
                if stop_at_first and not found.free:
                    return [found]
        return sorted(out, key=lambda c: c.distance_mm - c.margin_mm)

    def plan(self, target_ras: Sequence[float] | np.ndarray) -> EntryPlan:
        """Paths to a target, ranked. `refused` says why there is none.

        Raises: InputError (not three numbers); RefusedError: the target lies outside the scan or the body, or in a
        hard obstacle or its margin.
        """
        began = time.perf_counter()
        target = self._checked(target_ras)
        points, normals = self._candidates(target)
        state, room, place = self.field.trace(target, points)
        measures = measure(self.field, self.skin, self.capsule, target, points, normals, self.slice_normal,
                           self.options)
        costs = soft_costs(measures, room, self.options)
        total = np.sum(list(costs.values()), axis=0)
        state, reason = self._reasons(state, measures, place)
        chosen, entries, clearances = self._choose(target, points, state, total, reason)
        total = np.where(state == FORBIDDEN, np.nan, total)
        names = (*self.field.names, *OTHER_REASONS)
        skin_map = SkinMap(points, normals, state, total, reason, names)
        paths = self._paths(target, entries, measures, costs, chosen, clearances)
        refused = None if paths else _why_not(skin_map, self.options)
        return EntryPlan(paths, skin_map, _triple(target), refused,
                         {"preparation": self.seconds, "target": time.perf_counter() - began})

    def path_along(self, target_ras: np.ndarray, unit: np.ndarray, *, name: str = "path") -> EntryPath:
        """The path to a target along a given direction (3,), skin to target.

        Raises RefusedError when it is not free, too long, or never reaches the skin.
        """
        target = self._checked(target_ras)
        offsets = np.arange(0.0, self.options.max_length_mm + 25.0, 1.0)
        inside = self.skin.inside(target - offsets[:, None] * unit)
        if inside[-1]:
            raise RefusedError(f"{name}: the skin is farther than {self.options.max_length_mm:g} mm that way")
        last = float(offsets[np.flatnonzero(inside)[-1]])
        entry = self._on_skin(target - last * unit, target)
        nearest = int(np.linalg.norm(self.skin.points_ras - entry, axis=1).argmin())
        points, normals = entry[None], self.skin.normals[nearest][None]
        found = self.check(entry, target)
        if found and not found[0].free:
            raise RefusedError(f"{name}: comes within {found[0].distance_mm:.1f} mm of '{found[0].name}'")
        measures = measure(self.field, self.skin, self.capsule, target, points, normals, self.slice_normal,
                           self.options)
        if measures.length_mm[0] > self.options.max_length_mm or measures.outside_mm[0] > 4.0:
            raise RefusedError(f"{name}: is {measures.length_mm[0]:.0f} mm long, or leaves the body on its way")
        room = np.array([found[0].distance_mm - found[0].margin_mm if found else np.inf])
        costs = soft_costs(measures, room, self.options)
        return self._paths(target, {0: entry}, measures, costs, [0], {0: found})[0]

    def _checked(self, target_ras) -> np.ndarray:
        target = np.asarray(target_ras, float)
        if target.shape != (3,) or not np.isfinite(target).all():
            raise InputError("target: three finite numbers (R, A, S in mm) are needed")
        index = self.ct.grid.indices_kji(target)[0]
        where = f"target {target[0]:.1f}, {target[1]:.1f}, {target[2]:.1f} mm"
        if (index < -0.5).any() or (index > np.array(self.ct.grid.shape) - 0.5).any():
            raise RefusedError(f"{where}: lies outside the CT; give RAS mm in its frame")
        if not self.skin.inside(target)[0]:
            raise RefusedError(f"{where}: lies outside the body; give a point in the patient, RAS mm")
        for found in self.check(target, target, stop_at_first=True):
            if found.distance_mm <= 0.0:
                raise RefusedError(f"{where}: lies in the hard obstacle '{found.name}'; move the target, or make it "
                                   "soft")
            if not found.free:
                raise RefusedError(f"{where}: lies {found.distance_mm:.1f} mm from '{found.name}', within its margin "
                                   f"of {found.margin_mm:g} mm; move the target, or make the margin smaller")
        return target

    def _candidates(self, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        away = np.linalg.norm(self.skin.points_ras - target, axis=1)
        near = np.flatnonzero((away <= self.options.max_length_mm + 20.0) & (away > 1.0))
        if len(near) > self.options.candidates:
            near = np.sort(np.random.default_rng(SEED).choice(near, self.options.candidates, replace=False))
        return self.skin.points_ras[near], self.skin.normals[near]

    def _reasons(self, state: np.ndarray, m: Measures, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """State with the other reasons in it, and (n,) which reason."""
        reason = np.full(len(state), -1, np.int16)
        blocked = state > FREE
        if blocked.any():
            reason[blocked] = self._nearest_obstacle(place[blocked])
        limits = [m.length_mm > self.options.max_length_mm, m.outside_mm > 4.0, m.skin_deg > SHALLOWEST_DEG]
        if self.options.max_tilt_deg is not None:
            limits.append(np.abs(m.tilt_deg) > self.options.max_tilt_deg)
        first = len(self.field.names)
        state = state.copy()
        for n, beyond in enumerate(limits):
            reason[beyond & (state < FORBIDDEN)] = first + n
            state[beyond] = FORBIDDEN
        return state, reason

    def _nearest_obstacle(self, places: np.ndarray) -> np.ndarray:
        """(n,) index of the hard obstacle whose margin is nearest, among boundary voxels thinned to 3 mm."""
        from scipy.spatial import cKDTree

        if self._tree is None:
            points, labels = [np.zeros((0, 3))], [np.zeros(0, np.int16)]
            for n, (name, obstacle) in enumerate(self.obstacles.items()):
                if obstacle.hard and obstacle.mask.array.any():
                    grid, centres = obstacle.mask.grid, self.boxes(name).centres
                    cells = np.rint(centres / THIN_MM).astype(np.int64)
                    key = (cells[:, 0] << 40) + (cells[:, 1] << 20) + cells[:, 2]
                    thin = centres[np.unique(key, return_index=True)[1]]
                    points.append(grid.points_ras(thin / grid.spacing_kji_mm))
                    labels.append(np.full(len(thin), n, np.int16))
            self._tree = cKDTree(np.concatenate(points)), np.concatenate(labels)
        tree, label = self._tree
        distance, nearest = tree.query(places, k=min(4, tree.n))
        distance, nearest = distance.reshape(len(places), -1), nearest.reshape(len(places), -1)
        margins = np.array([float(o.margin_mm or 0.0) for o in self.obstacles.values()])
        best = (distance - margins[label[nearest]]).argmin(axis=1)
        return label[nearest[np.arange(len(places)), best]]

    def _choose(self, target, points, state, total, reason
                ) -> tuple[list[int], dict[int, np.ndarray], dict[int, list[Clearance]]]:
        """Best paths that differ, in the order of cost, where each really enters the skin, and its exact clearances
        from there (a coarse skin point may lie some mm deeper, behind what lies on the skin)."""
        order = np.flatnonzero(state < FORBIDDEN)
        order = order[np.argsort(total[order], kind="stable")]
        unit = (points - target) / np.linalg.norm(points - target, axis=1)[:, None]
        cosine = np.cos(np.radians(self.options.apart_deg))
        chosen: list[int] = []
        entries: dict[int, np.ndarray] = {}
        clearances: dict[int, list[Clearance]] = {}
        checks = 0
        for n in order:
            near = any(unit[n] @ unit[c] > cosine or np.linalg.norm(points[n] - points[c]) < self.options.apart_mm
                       for c in chosen)
            if near:
                continue
            entry = self._on_skin(points[n], target)
            found = self.check(entry, target, stop_at_first=True)
            checks += 1
            if np.linalg.norm(entry - target) > self.options.max_length_mm:
                state[n], reason[n] = FORBIDDEN, len(self.field.names)
            elif all(c.free for c in found):
                state[n], reason[n] = FREE, -1
                entries[int(n)] = entry
                clearances[int(n)] = sorted(found, key=lambda c: c.distance_mm - c.margin_mm)
                chosen.append(int(n))
            else:
                state[n], reason[n] = FORBIDDEN, self.field.names.index(found[0].name)
            if len(chosen) >= self.options.top or checks >= MOST_EXACT_CHECKS:
                break
        return chosen, entries, clearances

    def _paths(self, target, entries, m: Measures, costs, chosen, clearances) -> tuple[EntryPath, ...]:
        out = []
        for n in chosen:
            entry = entries[n]
            out.append(EntryPath(
                _triple(entry), _triple(target), float(sum(c[n] for c in costs.values())),
                {name: float(c[n]) for name, c in costs.items()}, float(np.linalg.norm(entry - target)),
                float(m.skin_deg[n]), None if np.isnan(m.capsule_deg[n]) else float(m.capsule_deg[n]),
                float(m.tilt_deg[n]), tuple(clearances[n]), {k: float(v[n]) for k, v in m.crossed_mm.items()},
                float(m.along_mm[n]), float(m.across_mm[n]), self.options.registration_sigma_mm))
        if out:
            front = pareto(np.array([list(path.costs.values()) for path in out]))
            out = [replace(path, pareto=bool(flag)) for path, flag in zip(out, front, strict=True)]
        return tuple(out)

    def _on_skin(self, point: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Where the path really passes from tissue to air, within 6 mm of a coarse skin point."""
        from .entry_body import AIR_HU

        unit = (point - target) / np.linalg.norm(point - target)
        offsets = np.arange(-6.0, 6.01, 0.25)
        values = self.ct.sample(point + offsets[:, None] * unit, outside=-1000.0)
        dense = np.flatnonzero(values > AIR_HU)
        return point if not len(dense) or dense[-1] == len(offsets) - 1 else point + offsets[dense[-1]] * unit


def plan_entries(ct: Volume, target_ras: Sequence[float] | np.ndarray, obstacles: Mapping[str, Obstacle], *,
                 organ: Mask | None = None, options: EntryOptions | None = None,
                 progress: Callable[[float, str], None] | None = None,
                 cancelled: Callable[[], bool] | None = None) -> EntryPlan:
    """Plan once; keep an `EntryPlanner` where the target moves. Arguments and errors as there."""
    return EntryPlanner(ct, obstacles, organ=organ, options=options, progress=progress,
                        cancelled=cancelled).plan(target_ras)


def _why_not(skin_map: SkinMap, options: EntryOptions) -> str:
    counts = skin_map.counts()
    if not counts:
        return f"no skin lies within {options.max_length_mm:g} mm of the target; allow a longer needle"
    name, number = next(iter(counts.items()))
    share = 100.0 * number / max(len(skin_map.state), 1)
    return (f"no free path within {options.max_length_mm:g} mm: '{name}' blocks most ({share:.0f} % of "
            f"{len(skin_map.state)} skin points); allow a longer needle, a smaller margin or another target")


def _stop(cancelled: Callable[[], bool] | None) -> None:
    if cancelled is not None and cancelled():
        raise CancelledError("the plan was cancelled; nothing was changed")


def _triple(point: np.ndarray) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])
