"""Image-to-probe calibration with an N-wire phantom, or with a tracked pointer seen in the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..geometry import InputError, RefusedError
from .poses import check_points, check_poses
from .probe import ProbeCalibration, fit_image_to_probe

MIN_FRAMES = 5
MIN_MOTION_MM = 5.0
MIN_MOTION_DEG = 3.0
MIN_POINTER_POINTS = 8
MAX_OFF_LINE_SHARE = 0.05  # three wires' points must lie on one line of the image
VALIDATED_ON = ("simulated phantoms with known truth; the PLUS test data of the fCal 2.0 phantom, whose published "
                "ImageToProbe is met")
POINTER_VALIDATED_ON = "simulated pointer points with known truth; no recorded pointer calibration was at hand"


@dataclass(frozen=True)
class NPattern:
    """Three wires of an N: two sides and the slanted one between them, in the phantom's frame (mm).

    names: of the wires, side, slanted, side. front, back: (3, 3) their ends.
    """

    names: tuple[str, str, str]
    front: np.ndarray
    back: np.ndarray

    def crossings(self) -> tuple[np.ndarray, np.ndarray]:
        """(3,) twice: where the slanted wire meets the first and the last wire's line.

        Raises InputError: wires that don't lie in one plane, or all parallel.
        """
        return _crossing(self, 0), _crossing(self, 2)


def _crossing(pattern: NPattern, side: int) -> np.ndarray:
    start, along = pattern.front[1], pattern.back[1] - pattern.front[1]
    other, other_along = pattern.front[side], pattern.back[side] - pattern.front[side]
    normal = np.cross(along, other_along)
    size = np.linalg.norm(normal)
    name = "/".join(pattern.names)
    if not size > 0.02 * np.linalg.norm(along) * np.linalg.norm(other_along):
        raise InputError(f"wires {name}: the middle wire is parallel to a side wire; check the phantom's geometry")
    if abs((other - start) @ normal) / size > 0.5:
        raise InputError(f"wires {name}: don't lie in one plane; check the phantom's geometry")
    steps = np.linalg.lstsq(np.column_stack([along, -other_along]), other - start, rcond=None)[0]
    return start + steps[0] * along


def middle_points(points_px: np.ndarray, patterns: Sequence[NPattern]) -> np.ndarray:
    """(frames, patterns, 3): where the image cuts the slanted wires, in the phantom's frame.

    Args: points_px: (frames, 3 * patterns, 2) in the order of the patterns' wires; rows of NaN where not seen.
    The distances along the line of three dots divide the slanted wire alike. Source: Comeau 1998, Chen 2009.
    """
    out = np.full((len(points_px), len(patterns), 3), np.nan)
    for number, pattern in enumerate(patterns):
        first, last = pattern.crossings()
        a, m, b = (points_px[:, 3 * number + wire] for wire in range(3))
        span = np.linalg.norm(b - a, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.linalg.norm(m - a, axis=1) / span
            off = np.abs((b - a)[:, 0] * (m - a)[:, 1] - (b - a)[:, 1] * (m - a)[:, 0]) / span**2
            between = ((m - a) * (b - a)).sum(axis=1) > 0
            good = (off <= MAX_OFF_LINE_SHARE) & (ratio < 1.0) & between
        out[:, number] = first + ratio[:, None] * (last - first)
        out[~good, number] = np.nan
    return out


def calibrate_nwire(points_px: object, patterns: Sequence[NPattern], probe_from_phantom: object, valid: object = None,
                    *, size_px=None, depth_mm: float | None = None, preset: str | None = None, orientation: str = "MF"
                    ) -> ProbeCalibration:
    """ImageToProbe of a probe that looked at an N-wire phantom from several places.

    Args:
        points_px: (frames, 3 * patterns, 2) x, y of the dots in the order of the patterns' wires, NaN where missing.
        probe_from_phantom: (frames, 4, 4) rigid, mm. valid: (frames,) where the tracker saw both.
    Raises: InputError: shapes, a phantom without an N, wires off their line in most frames; RefusedError: too few
    frames, a probe that wasn't moved, one depth only.
    """
    dots = np.asarray(points_px, float)
    if dots.ndim != 3 or dots.shape[1:] != (3 * len(patterns), 2):
        raise InputError(f"{3 * len(patterns)} points (x, y) a frame are needed for {len(patterns)} N-wires, not an "
                         f"array of shape {dots.shape}")
    poses, numbers = check_poses(probe_from_phantom, valid, what="poses of the phantom")
    if len(np.asarray(probe_from_phantom)) != len(dots):
        raise InputError(f"points of {len(dots)} frames, but {len(np.asarray(probe_from_phantom))} poses")
    if len(poses) < MIN_FRAMES:
        raise RefusedError(f"{len(poses)} frames with a pose; an N-wire calibration needs at least {MIN_FRAMES} (some "
                           "hundred are usual): sweep the probe over the wires")
    _check_motion(poses)
    dots = dots[numbers]
    in_phantom = middle_points(dots, patterns)
    middles = dots[:, 1::3]
    in_probe = np.einsum("nij,npj->npi", poses[:, :3, :3], in_phantom) + poses[:, None, :3, 3]
    good = np.isfinite(in_probe).all(axis=2) & np.isfinite(middles).all(axis=2)
    seen = np.isfinite(dots).all(axis=2).reshape(len(dots), -1, 3).all(axis=2)
    if good.sum() < 0.5 * seen.sum():
        raise InputError("most dots of a triple don't lie on one line with the slanted wire in between; check the "
                         "order of the wires and the segmentation")
    frames = np.broadcast_to(numbers[:, None], good.shape)[good]
    result = fit_image_to_probe(middles[good], in_probe[good], frames, size_px=size_px, method="N-wire phantom",
                                validated_on=VALIDATED_ON, depth_mm=depth_mm, preset=preset, orientation=orientation)
    dropped = int(seen.sum() - good.sum())
    return replace(result, notes=(f"{dropped} triples not on a line were left out",)) if dropped else result


def calibrate_pointer(points_px: object, tips_probe_mm: object, *, size_px=None, depth_mm: float | None = None,
                      preset: str | None = None, orientation: str = "MF") -> ProbeCalibration:
    """ImageToProbe from the tip of a tracked pointer: (n, 2) where the image shows it, (n, 3) where the tracker has it
    in the probe's frame (tip offset from a pivot calibration).

    Raises: InputError; RefusedError: fewer than 8 points, or all on one line of the image.
    Source: Muratore 2001 (pointer-based calibration without phantom).
    """
    return fit_image_to_probe(points_px, tips_probe_mm, size_px=size_px, method="tracked pointer",
                              validated_on=POINTER_VALIDATED_ON, depth_mm=depth_mm, preset=preset,
                              orientation=orientation, least_points=MIN_POINTER_POINTS)


def pointer_tips(probe_from_tool: object, tip_mm: object, valid: object = None) -> tuple[np.ndarray, np.ndarray]:
    """((m, 3) tips in the probe's frame, (m,) numbers of their poses) of (n, 4, 4) poses and a tip in the tool's frame.

    Raises InputError: poses that aren't rigid, a tip that isn't three numbers.
    """
    tip = check_points(np.atleast_2d(np.asarray(tip_mm, float)), 3, "tip")[0]
    poses, numbers = check_poses(probe_from_tool, valid, what="poses of the pointer")
    return poses[:, :3, :3] @ tip + poses[:, :3, 3], numbers


def _check_motion(poses: np.ndarray) -> None:
    shift = float(np.linalg.norm(np.ptp(poses[:, :3, 3], axis=0)))
    cosine = (np.einsum("nij,ij->n", poses[:, :3, :3], poses[0, :3, :3]) - 1) / 2
    turn = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).max())
    if shift < MIN_MOTION_MM and turn < MIN_MOTION_DEG:
        raise RefusedError(f"the probe moved by {shift:.1f} mm and {turn:.1f} degrees only; sweep it over the wires "
                           "and tilt it, so that every error isn't the same error")
