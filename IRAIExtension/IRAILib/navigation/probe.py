"""Where the pixels of a tracked ultrasound image are: the fit, the result, and what the live image must match."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ..geometry import InputError, RefusedError
from .poses import check_points, plain

MIN_POINTS = 6
MIN_SPREAD_SHARE = 0.10  # spread of the pixels across, against along, their main direction (standard deviations)
MIN_MM_PER_PX, MAX_MM_PER_PX = 0.005, 5.0
MAX_SHEAR_DEG = 8.0  # published N-wire calibrations reach 3 degrees
MAX_ASPECT = 3.0
OUTLIER_SIGMAS = 3.0
SCALE_AGREEMENT = 0.02  # as the live scale of the needle detectors: two sources agree within 2 %
DEPTH_BINS = 4
FOLDS = 5
GROUPS = 10


@dataclass(frozen=True)
class ProbeCalibration:
    """ImageToProbe with what it holds for.

    probe_from_image: (4, 4); columns 0 and 1 carry a pixel's x (column) and y (row) to mm, pixel centres at integers,
        image oriented as `orientation` says; column 2 is normal to the image, so that the matrix has an inverse.
    sigma_mm: standard deviation of where the fit puts the image's corners (the worst) and its centre: random error.
    rms_mm: fit residual in 3D. held_out_rms_mm: of points that the fit had not seen, whole stretches of time left
        out in turn. by_depth: [row from, row to, points, held-out rms mm].
    depth_mm, preset: of the scanner, where known; `check_image` refuses a live image that differs.
    """

    probe_from_image: np.ndarray
    size_px: tuple[int, int] | None
    sigma_mm: dict[str, float]
    rms_mm: float
    mean_mm: float
    held_out_rms_mm: float
    by_depth: tuple[tuple[float, float, int, float], ...]
    points_used: int
    outliers: tuple[int, ...]
    method: str
    validated_on: str
    depth_mm: float | None = None
    preset: str | None = None
    orientation: str = "MF"
    image: str = "Image"
    probe: str = "Probe"
    notes: tuple[str, ...] = field(default=())

    @property
    def mm_per_px(self) -> tuple[float, float]:
        """(x, y) length of a pixel in mm."""
        lengths = np.linalg.norm(self.probe_from_image[:3, :2], axis=0)
        return float(lengths[0]), float(lengths[1])

    @property
    def shear_deg(self) -> float:
        """By how much the angle between rows and columns departs from 90 degrees."""
        x, y = (self.probe_from_image[:3, n] / np.linalg.norm(self.probe_from_image[:3, n]) for n in range(2))
        return float(np.degrees(np.arcsin(np.clip(x @ y, -1, 1))))

    def points_mm(self, points_px: object) -> np.ndarray:
        """(n, 2) pixels (x, y) to (n, 3) mm in the probe's frame."""
        points = check_points(points_px, 2, "pixels")
        return points @ self.probe_from_image[:3, :2].T + self.probe_from_image[:3, 3]

    def check_image(self, *, size_px: tuple[int, int] | None = None, mm_per_px: tuple[float, float] | None = None,
                    depth_mm: float | None = None, preset: str | None = None, orientation: str | None = None
                    ) -> tuple[str, ...]:
        """Refuse a live image that this calibration doesn't hold for.

        Args: what the live image says: (width, height) px, mm per pixel (x, y), depth, preset, orientation letters.
        Returns: what could not be compared, because one side doesn't know it (show it to the user).
        Raises RefusedError: pixel size or depth differ by more than 2 %, size, preset or orientation differ.
        """
        wrong, unknown = [], []
        pairs = (("image size", self.size_px, size_px, "px"), ("preset", self.preset, preset, ""),
                 ("orientation", self.orientation[:2], orientation and orientation[:2].upper(), ""))
        for name, own, live, unit in pairs:
            if own is None or live is None:
                unknown.append(name)
            elif _words(own) != _words(live):
                wrong.append(f"{name} {_text(own)} in the calibration, {_text(live)} live {unit}".rstrip())
        depths = ("depth", self.depth_mm, depth_mm)
        sizes = [(f"pixel size {axis}", self.mm_per_px[n], None if mm_per_px is None else mm_per_px[n])
                 for n, axis in enumerate("xy")]
        for name, own, live in (depths, *sizes):
            if own is None or live is None:
                unknown.append(name)
            elif not abs(live - own) <= SCALE_AGREEMENT * own:
                wrong.append(f"{name} {own:.4g} mm in the calibration, {live:.4g} mm live")
        if wrong:
            raise RefusedError(f"this calibration doesn't hold for the live image ({'; '.join(wrong)}): set the "
                               "scanner back, or calibrate for this setting")
        return tuple(unknown)

    def to_dict(self) -> dict[str, Any]:
        x, y = self.mm_per_px
        return plain({
            "kind": "image_to_probe", "units": "mm", "frame": self.probe, "from_frame": self.image,
            "from_units": "px, centres at integers, x column, y row",
            f"{self.image}To{self.probe}": self.probe_from_image, "mm_per_px": [x, y], "shear_deg": self.shear_deg,
            "size_px": self.size_px, "depth_mm": self.depth_mm, "preset": self.preset,
            "orientation": self.orientation,
            "uncertainty": {"sigma_mm": self.sigma_mm, "rms_mm": self.rms_mm, "mean_mm": self.mean_mm,
                            "held_out_rms_mm": self.held_out_rms_mm, "by_depth": [
                                {"row_from": a, "row_to": b, "points": n, "held_out_rms_mm": r}
                                for a, b, n, r in self.by_depth]},
            "points_used": self.points_used, "outliers": self.outliers, "method": self.method,
            "notes": self.notes, "validated_on": self.validated_on})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ProbeCalibration:
        """A calibration back from `to_dict()`. Raises InputError: something is missing or no number."""
        try:
            frame, image, sure = str(values["frame"]), str(values["from_frame"]), values["uncertainty"]
            matrix = np.array(values[f"{image}To{frame}"], float).reshape(4, 4)
            bins = tuple((float(b["row_from"]), float(b["row_to"]), int(b["points"]), _number(b["held_out_rms_mm"]))
                         for b in sure["by_depth"])
            size = values["size_px"]
            result = cls(matrix, None if size is None else (int(size[0]), int(size[1])),
                         {k: _number(v) for k, v in sure["sigma_mm"].items()}, float(sure["rms_mm"]),
                         float(sure["mean_mm"]), _number(sure["held_out_rms_mm"]), bins, int(values["points_used"]),
                         tuple(int(n) for n in values["outliers"]), str(values["method"]),
                         str(values["validated_on"]), values.get("depth_mm"), values.get("preset"),
                         str(values["orientation"]), image, frame, tuple(values.get("notes", ())))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise InputError(f"this is no probe calibration of IRAI ({type(error).__name__}: {error}); calibrate "
                             "again") from error
        if not np.isfinite(matrix).all():
            raise InputError("the matrix of this probe calibration holds a number that is not finite")
        return result


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _words(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else tuple(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else " x ".join(str(v) for v in value)


def fit_image_to_probe(points_px: object, points_probe_mm: object, groups: object = None, *, size_px=None,
                       method: str, validated_on: str, depth_mm: float | None = None, preset: str | None = None,
                       orientation: str = "MF", least_points: int = MIN_POINTS) -> ProbeCalibration:
    """The affine map of pixels to mm with the least squared residual, each axis on its own, 3 sd rejection per axis.

    Args:
        points_px: (n, 2) x, y. points_probe_mm: (n, 3) the same points in the probe's frame.
        groups: (n,) number of the frame a point is from, in the order of time (default: each its own).
        size_px: (width, height) of the image, for the error at its corners.
    Raises InputError; RefusedError: too few points, on one line of the image (one depth), no plausible pixels.
    Source: Chen 2009 (closed form); rejection and normal as PLUS's probe calibration.
    """
    pixels = check_points(points_px, 2, "points in the image")
    points = check_points(points_probe_mm, 3, "points in the probe's frame")
    if len(pixels) != len(points):
        raise InputError(f"{len(pixels)} points in the image and {len(points)} in the probe's frame; they must pair")
    frames = np.arange(len(pixels)) if groups is None else np.asarray(groups)
    if len(frames) != len(pixels):
        raise InputError(f"{len(frames)} frame numbers for {len(pixels)} points")
    check_spread(pixels, least_points)
    matrix, used = _fit(pixels, points)
    check_spread(pixels[used], least_points)
    residual = _map(matrix, pixels) - points
    distance = np.linalg.norm(residual, axis=1)
    held, bins = _held_out(pixels, points, frames, used)
    result = ProbeCalibration(
        matrix, None if size_px is None else (int(size_px[0]), int(size_px[1])),
        _sigmas(pixels[used], points[used], frames[used], size_px),
        float(np.sqrt((distance[used] ** 2).mean())), float(distance[used].mean()), held, bins, int(used.sum()),
        tuple(int(n) for n in np.nonzero(~used)[0]), method, validated_on, depth_mm, preset, orientation)
    _check_plausible(result)
    return result


def with_setting(calibration: ProbeCalibration, *, depth_mm: float | None = None, preset: str | None = None
                 ) -> ProbeCalibration:
    """The calibration with the scanner's depth and preset noted."""
    return replace(calibration, depth_mm=depth_mm, preset=preset)


def check_spread(pixels: np.ndarray, least: int = MIN_POINTS) -> None:
    """Raises RefusedError unless the pixels fix a plane's map: enough of them, and not on one line of the image."""
    if len(pixels) < least:
        raise RefusedError(f"{len(pixels)} points; at least {least} are needed to calibrate a probe: segment more "
                           "frames")
    singular = np.linalg.svd(pixels - pixels.mean(axis=0), compute_uv=False)
    if not singular[1] > MIN_SPREAD_SHARE * singular[0]:
        raise RefusedError("the points lie on one line of the image (one depth only), so that the other direction "
                           "stays unknown: add points at other depths and at both sides")


def _fit(pixels: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((4, 4), (n,) bool: points that no axis rejected)."""
    system = np.column_stack([pixels, np.ones(len(pixels))])
    matrix = np.eye(4)
    used = np.ones(len(pixels), bool)
    for axis in range(3):
        inside = np.arange(len(pixels))
        while True:
            row = np.linalg.lstsq(system[inside], points[inside, axis], rcond=None)[0]
            error = points[inside, axis] - system[inside] @ row
            keep = np.abs(error - error.mean()) <= OUTLIER_SIGMAS * error.std(ddof=1) + 1e-9
            if keep.all() or keep.sum() < 4:
                break
            inside = inside[keep]
        matrix[axis, [0, 1, 3]] = row
        used[np.setdiff1d(np.arange(len(pixels)), inside)] = False
    normal = np.cross(matrix[:3, 0], matrix[:3, 1])
    size = np.linalg.norm(normal)
    if not size > 0:
        raise RefusedError("the points of the probe's frame lie on one line; move the probe to other places and depths")
    matrix[:3, 2] = normal / size * np.linalg.norm(matrix[:3, :2], axis=0).mean()
    return matrix, used


def _map(matrix: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    return pixels @ matrix[:3, :2].T + matrix[:3, 3]


def _sigmas(pixels: np.ndarray, points: np.ndarray, frames: np.ndarray, size_px) -> dict[str, float]:
    """Standard deviation (3D) of the fit at the image's centre and at its worst corner.

    Jackknife over stretches of time, since neighbouring frames err alike; over single points where there are few.
    """
    low, high = (np.zeros(2), np.array(size_px, float) - 1) if size_px is not None else (pixels.min(0), pixels.max(0))
    places = np.array([[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])] + [(low + high) / 2])
    order = np.unique(frames)
    groups = np.array_split(order, GROUPS) if len(order) >= 2 * GROUPS else np.array_split(order, len(order))
    system, found = np.column_stack([pixels, np.ones(len(pixels))]), []
    for group in groups:
        rest = ~np.isin(frames, group)
        if rest.sum() >= 4 and np.linalg.matrix_rank(system[rest]) == 3:
            found.append(np.column_stack([places, np.ones(5)]) @ np.linalg.lstsq(system[rest], points[rest],
                                                                                 rcond=None)[0])
    if len(found) < 3:
        return {"corner": float("nan"), "centre": float("nan")}
    spread = ((np.array(found) - np.mean(found, axis=0)) ** 2).sum(axis=(0, 2)) * (len(found) - 1) / len(found)
    return {"corner": float(np.sqrt(spread[:4].max())), "centre": float(np.sqrt(spread[4]))}


def _held_out(pixels, points, frames, used) -> tuple[float, tuple[tuple[float, float, int, float], ...]]:
    """Error of points whose stretch of time was left out of the fit: rms, and by depth."""
    order = np.unique(frames[used])
    if len(order) < 2 * FOLDS:
        return float("nan"), ()
    errors = np.full(len(pixels), np.nan)
    for part in np.array_split(order, FOLDS):
        out = np.isin(frames, part) & used
        rest = used & ~out
        if rest.sum() >= MIN_POINTS:
            errors[out] = np.linalg.norm(_map(_fit(pixels[rest], points[rest])[0], pixels[out]) - points[out], axis=1)
    known = np.isfinite(errors)
    rows = pixels[known, 1]
    edges = np.linspace(rows.min(), rows.max() + 1e-6, DEPTH_BINS + 1)
    bins = []
    for low, high in pairwise(edges):
        here = errors[known][(rows >= low) & (rows < high)]
        if len(here):
            bins.append((float(low), float(high), len(here), float(np.sqrt((here**2).mean()))))
    return float(np.sqrt((errors[known] ** 2).mean())), tuple(bins)


def _check_plausible(result: ProbeCalibration) -> None:
    x, y = result.mm_per_px
    if not (min(x, y) >= MIN_MM_PER_PX and max(x, y) <= MAX_MM_PER_PX and max(x, y) <= MAX_ASPECT * min(x, y)):
        raise RefusedError(f"pixels of {x:.3g} x {y:.3g} mm come out, which no ultrasound image has: check that frames "
                           "and poses are of the same time, and the phantom's geometry")
    if abs(result.shear_deg) > MAX_SHEAR_DEG:
        raise RefusedError(f"rows and columns come out {90 - abs(result.shear_deg):.0f} degrees apart, not 90: points "
                           "are paired wrongly, or too few and too close together")
