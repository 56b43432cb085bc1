"""A vertebra in its own axes: left, front, up; its canal, its body, on cubes of 0.8 mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry import Mask, RefusedError
from .vertebra_labels import SpineLabels, Vertebra

CUBE_MM = 0.8
HALF_MM = np.array([52.0, 75.0, 34.0])
"""How far the cubes reach to the left and right, back and front, down and up."""
CANAL_AREA_MM2 = (60.0, 1100.0)
CLOSING_MM = 2.5


@dataclass(frozen=True, eq=False)
class VertebraFrame:
    """A vertebra sampled along its own axes; arrays are (x, y, z): left, front, up.

    Attributes:
        vertebra: what it is. axes: (3, 3) unit vectors left, front, up as columns, RAS. origin_ras: (3,) canal centre.
        bone, others, canal: bool; others is the bone of its neighbours. wall_mm: y of the body's rear wall.
        low_mm: (3,) coordinates of cube (0, 0, 0).
    """

    vertebra: Vertebra
    axes: np.ndarray
    origin_ras: np.ndarray
    bone: np.ndarray
    others: np.ndarray
    canal: np.ndarray
    wall_mm: float
    low_mm: np.ndarray

    def ras(self, local_mm: np.ndarray) -> np.ndarray:
        """(n, 3) left, front, up from the canal's centre, mm, to RAS."""
        return self.origin_ras + np.asarray(local_mm, float) @ self.axes.T

    def local(self, points_ras: np.ndarray) -> np.ndarray:
        """(n, 3) RAS to left, front, up, mm."""
        return (np.asarray(points_ras, float) - self.origin_ras) @ self.axes

    def index(self, local_mm: np.ndarray) -> np.ndarray:
        """(n, 3) mm to fractional cubes."""
        return (np.asarray(local_mm, float) - self.low_mm) / CUBE_MM

    def holds(self, array: np.ndarray, local_mm: np.ndarray) -> np.ndarray:
        """(...) value of the nearest cube at (..., 3) mm; False beyond."""
        index = np.rint(self.index(local_mm)).astype(int)
        inside = np.asarray(((index >= 0) & (index < array.shape)).all(axis=-1))
        index = np.where(inside[..., None], index, 0)
        return np.asarray(array[tuple(np.moveaxis(index, -1, 0))] & inside)


def vertebra_frame(labels: SpineLabels, name: str, canal: Mask | None = None) -> VertebraFrame:
    """Axes, canal and cubes of one vertebra.

    Args: canal: mask of the spinal canal or cord (TotalSegmentator's spinal_cord); without it the ring of bone is
        looked for, slice by slice.
    Raises: InputError (no such vertebra), RefusedError (no canal: the mask lacks the arch).
    """
    vertebra = labels.named(name)
    up = _tangent(labels, vertebra)
    front = np.array([0.0, 1.0, 0.0]) - up[1] * up
    axes = _axes(up, front)
    first = _sampled(labels, vertebra, canal, axes, vertebra.centre_ras)
    center = _canal_centre(first)
    origin = first.ras(center[None])[0]
    for _ in range(2):
        frame = _sampled(labels, vertebra, canal, axes, origin)
        body = np.argwhere(frame.bone)[::3] * CUBE_MM + frame.low_mm
        body = body[(body[:, 1] > frame.wall_mm + 2.0) & (np.abs(body[:, 0]) < 28.0)]
        if len(body) < 50:
            raise RefusedError(f"{name}: the mask holds no vertebral body in front of the canal; check the label")
        towards = frame.ras(body.mean(axis=0)[None])[0] - origin
        axes = _axes(up, towards - (towards @ up) * up)
    return _sampled(labels, vertebra, canal, axes, origin)


def _axes(up: np.ndarray, front: np.ndarray) -> np.ndarray:
    front = front / np.linalg.norm(front)
    return np.column_stack([np.cross(up, front), front, up])


def _tangent(labels: SpineLabels, vertebra: Vertebra) -> np.ndarray:
    """Along the spine, headward, through the neighbours that are whole; straight up without any."""
    column = [v for v in labels.vertebrae if v.name != "S1"]
    place = next(n for n, v in enumerate(column) if v is vertebra)
    near = [v for v in column[max(0, place - 1):place + 2] if v is vertebra or not v.cut]
    if vertebra.cut and len(near) > 1:  # half a vertebra's centre is no place on the spine
        near = [v for v in column[max(0, place - 2):place + 3] if not v.cut]
    if len(near) < 2:
        return np.array([0.0, 0.0, 1.0])
    along = near[0].centre_ras - near[-1].centre_ras
    return along / np.linalg.norm(along)


def _sampled(labels: SpineLabels, vertebra: Vertebra, canal: Mask | None, axes: np.ndarray,
             origin: np.ndarray) -> VertebraFrame:
    low = -HALF_MM
    shape = tuple(int(n) for n in np.floor(2 * HALF_MM / CUBE_MM))
    place = (origin + low @ axes.T, axes * CUBE_MM, shape)
    bone = _at(vertebra.mask, *place)
    others = np.zeros(shape, bool)
    for other in labels.vertebrae:
        if other is not vertebra and np.linalg.norm(other.centre_ras - vertebra.centre_ras) < 70.0:
            others |= _at(other.mask, *place)
    others &= ~bone
    hollow = _at(canal, *place) & ~bone if canal is not None else _rings(bone | others)
    frame = VertebraFrame(vertebra, axes, origin, bone, others, hollow, 0.0, low)
    wall = _wall(frame)
    return VertebraFrame(vertebra, axes, origin, bone, others, hollow, wall, low)


def _at(mask: Mask, first_ras: np.ndarray, steps_ras: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The voxels at the lattice first + steps @ (x, y, z), an array of `shape`; False outside the mask's grid."""
    start = mask.grid.indices_kji(first_ras)[0]
    move = mask.grid.indices_kji(first_ras + steps_ras.T) - start
    flat, inside = np.zeros(shape, np.int32), np.ones(shape, bool)
    x, y, z = np.ogrid[tuple(slice(0, n) for n in shape)]
    for axis, size in enumerate(mask.array.shape):
        index = np.floor(start[axis] + 0.5 + (x * move[0, axis]).astype(np.float32)
                         + (y * move[1, axis]).astype(np.float32) + (z * move[2, axis]).astype(np.float32))
        inside &= (index >= 0) & (index < size)
        flat = flat * size + np.clip(index, 0, size - 1).astype(np.int32)
    return mask.array.ravel()[flat] & inside


def _rings(bone: np.ndarray) -> np.ndarray:
    """Holes of the ring of bone, plane by plane, of a canal's size."""
    from scipy import ndimage

    reach = round(CLOSING_MM / CUBE_MM)
    disc = np.hypot(*np.ogrid[-reach:reach + 1, -reach:reach + 1]) <= reach
    out = np.zeros_like(bone)
    for z in range(bone.shape[2]):
        plane = bone[:, :, z]
        if not plane.any():
            continue
        closed = np.asarray(ndimage.binary_closing(np.pad(plane, reach), disc))[reach:-reach, reach:-reach]
        filled = ndimage.binary_fill_holes(closed)
        assert filled is not None
        holes = filled & np.logical_not(closed)
        labels, count = ndimage.label(holes)  # type: ignore[misc]
        for n, size in enumerate(np.bincount(labels.ravel(), minlength=count + 1)[1:], 1):
            if CANAL_AREA_MM2[0] <= size * CUBE_MM**2 <= CANAL_AREA_MM2[1]:
                out[:, :, z] |= labels == n
    return out


def _planes(frame: VertebraFrame) -> np.ndarray:
    """Planes (z) that hold both bone and canal."""
    return np.flatnonzero(frame.canal.any(axis=(0, 1)) & (frame.bone.sum(axis=(0, 1)) * CUBE_MM**2 > 150.0))


def _canal_centre(frame: VertebraFrame) -> np.ndarray:
    planes = _planes(frame)
    if not len(planes):
        raise RefusedError(f"{frame.vertebra.name}: no spinal canal found in the mask; give a mask of the canal, or a "
                           "label with the whole arch")
    index = np.argwhere(frame.canal[:, :, planes]).astype(float)
    index[:, 2] = planes[index[:, 2].astype(int)]
    return np.median(index, axis=0) * CUBE_MM + frame.low_mm


def _wall(frame: VertebraFrame) -> float:
    """y of the canal's front: the median over planes of the foremost canal cube near the middle."""
    planes = _planes(frame)
    if not len(planes):
        return 0.0
    index = np.argwhere(frame.canal[:, :, planes])
    front = [index[index[:, 2] == n, 1].max() for n in np.unique(index[:, 2])]
    return float(np.median(front) + 0.5) * CUBE_MM + float(frame.low_mm[1])
