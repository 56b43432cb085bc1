"""Vessels in an angiogram: mask, centrelines, diameters, by a small network, the classical way, or both.

    found = find_vessels(frame)
    found.tree.branches[0].diameter_px
    find_stenoses(found.tree)

Pixels are (column, row) of the frame, centres at whole numbers. A diameter is the full width of the lumen in the
projection; millimetres are at the vessel, not at the detector, when the scale was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ..geometry import CancelledError, InputError, RefusedError
from .vessels_frangi import FOR_NETWORK, FrangiOptions, hysteresis, polarity_of, ridges
from .vessels_network import VesselNetwork, default_network
from .vessels_profile import Tube, fit_profiles, normals_of, sample_profiles, spline_of
from .vessels_tree import VesselTree, make_tree
from .vessels_work import Work, is_uniform, make_work

METHODS = ("network", "frangi", "both")
FRANGI_VALIDATED_ON = "40 coronary angiograms with masks drawn by hand (Coronary, github.com/fercer)"
FRENCH_MM = 1.0 / 3.0
FULLEST_PX = 150
EDGE_BAND_PX, EDGE_RUN_PX = 9.0, 40.0
LEAST_CATHETER_PX, CATHETER_SHARE = 12.0, 0.03
"""Catheters are made to within a few hundredths of a millimetre; the share is what their wall may hide."""


@dataclass(frozen=True)
class Scale:
    """`mm_per_px` at the catheter with its standard error `sigma`; `width_px` of the catheter."""

    mm_per_px: float
    sigma: float
    width_px: float

    def to_dict(self) -> dict[str, float]:
        return {"mm_per_px": self.mm_per_px, "mm_per_px_sigma": self.sigma, "catheter_px": self.width_px}


@dataclass(frozen=True)
class VesselMap:
    """What was found in a frame of (rows, columns).

    Attributes:
        mask: (rows, columns) bool. probability: (rows, columns) float32 of the network, or Frangi's measure.
        tree: centrelines with diameters, pixels. field: (rows, columns) bool, inside the collimator.
        method: "network", "frangi" or "both". polarity: "dark" or "bright" vessels. scale: pixels at work over pixels.
        mm_per_px, mm_per_px_sigma: at the vessel, None where unknown. validated_on: of the mask.
    """

    mask: np.ndarray
    probability: np.ndarray
    tree: VesselTree
    field: np.ndarray
    method: str
    polarity: str
    scale: float
    validated_on: str
    mm_per_px: float | None = None
    mm_per_px_sigma: float = 0.0

    @property
    def found(self) -> bool:
        return bool(self.mask.any())

    @property
    def centrelines(self) -> list[np.ndarray]:
        """(n, 2) column and row of each branch."""
        return [b.points_px for b in self.tree.branches]

    @property
    def diameters_px(self) -> list[np.ndarray]:
        """(n,) of each branch, NaN where it can't be told."""
        return [b.diameter_px for b in self.tree.branches]

    @property
    def diameters_mm(self) -> list[np.ndarray] | None:
        """As `diameters_px`, None without a scale."""
        return None if self.mm_per_px is None else [d * self.mm_per_px for d in self.diameters_px]

    def to_dict(self) -> dict[str, Any]:
        """All but the pictures; frame "Image" (column, row)."""
        return {"frame": "Image (column, row; centre of the first pixel 0, 0)", "found": self.found,
                "rows": int(self.mask.shape[0]), "columns": int(self.mask.shape[1]), "method": self.method,
                "polarity": self.polarity, "vessel_fraction": round(float(self.mask[self.field].mean()), 5),
                "length_px": round(self.tree.length_px, 1), "mm_per_px": self.mm_per_px,
                "mm_per_px_sigma": self.mm_per_px_sigma if self.mm_per_px is not None else None,
                "validated_on": self.validated_on, "tree": self.tree.to_dict(self.mm_per_px)}


def find_vessels(frame: Any, *, mm_per_px: float | None = None, mm_per_px_sigma: float = 0.0, method: str = "network",
                 polarity: str = "auto", network: VesselNetwork | None = None, options: FrangiOptions | None = None,
                 diameters: bool = True, flips: bool = True) -> VesselMap:
    """The vessels of one frame.

    Args: frame (rows, columns) grey values, higher is more X-ray; values below 0 mean a subtraction in logarithms;
    polarity of the vessels, "dark", "bright" or "auto" (`polarity_of`); mm_per_px at the vessel; method "network",
    "frangi", or "both" (the mean of the network's probability and Frangi's measure stretched to it); diameters False
    leaves the tree empty; flips False is faster.
    A frame without vessels gives an empty mask and tree.
    Raises: InputError for a frame that can't be used or an unknown method; MissingPackageError without onnxruntime (not
    for "frangi") or scikit-image.
    """
    if method not in METHODS:
        raise InputError(f"vessels are found by {', '.join(METHODS)}; not by '{method}'")
    checked_scale(mm_per_px, mm_per_px_sigma)
    work = make_work(frame, polarity=polarity_of(frame) if polarity == "auto" else polarity)
    chosen = options or FrangiOptions()
    if method == "frangi":
        probability = ridges(work, chosen)
        low, high, least, validated = chosen.low, chosen.high, chosen.least_px, FRANGI_VALIDATED_ON
    else:
        net = network or default_network()
        probability = net.probability(work, ridges(work, FOR_NETWORK), flips=flips)
        low, high, least = net.operation["threshold"], net.operation["seed"], int(net.operation["least_px"])
        if method == "both":
            stretched = np.interp(ridges(work, chosen), [0, chosen.low, chosen.high, 1], [0.0, low, high, 1.0])
            probability = (0.5 * (probability + stretched)).astype(np.float32)
        validated = net.validated_on
    whole, field = work.to_frame(probability), work.to_frame(work.field.astype(np.float32)) > 0.5
    mask = mask_of(whole, field, low, high, least, work.scale)
    tree = make_tree(full_log(frame, work), mask) if diameters else VesselTree()
    return VesselMap(mask, whole, tree, field, method, work.polarity, work.scale, validated, mm_per_px, mm_per_px_sigma)


def mask_of(values: np.ndarray, field: np.ndarray, low: float, high: float, least_px: int, scale: float = 1.0
            ) -> np.ndarray:
    """(rows, columns) bool: pieces of `values` over `low` that reach `high` somewhere, have at least `least_px` pixels
    at work and don't run along the edge of the `field`. `scale`: pixels at work over pixels of `values`."""
    return hysteresis(without_edges(np.where(field, values, 0.0), field, low, scale), low, high,
                      max(1, round(least_px / scale**2)))


def without_edges(values: np.ndarray, field: np.ndarray, low: float, scale: float) -> np.ndarray:
    """The (rows, columns) values with 0 where what is over `low` runs along the edge of the field or of the frame.

    A collimator's soft edge looks like a long vessel; a true vessel crosses the edge.
    """
    away = ndimage.distance_transform_edt(np.pad(field, 1))
    band = np.asarray(away)[1:-1, 1:-1] <= EDGE_BAND_PX / scale
    labels, _ = ndimage.label(band & (values >= low), structure=np.ones((3, 3)))  # type: ignore[misc]
    out = values.copy()
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if max(s.stop - s.start for s in box) > EDGE_RUN_PX / scale:
            out[box][labels[box] == number] = 0.0
    return out


def find_vessels_in(frames: np.ndarray, numbers: Sequence[int], *, progress: Callable[[float, str], None] | None = None,
                    cancelled: Callable[[], bool] | None = None, **options: Any) -> list[VesselMap]:
    """`find_vessels` in the frames of these numbers of an (n, rows, columns) run; for a worker. No number, no map.

    A uniform frame among several, as the mask of a subtracted run, gives an empty map.
    Raises: as `find_vessels`, InputError for a frame that isn't there; CancelledError.
    """
    out = []
    for done, number in enumerate(numbers):
        if cancelled is not None and cancelled():
            raise CancelledError("vessels: cancelled; nothing was written")
        if not 0 <= number < len(frames):
            raise InputError(f"there is no frame {number}; the run has the frames 0 to {len(frames) - 1}")
        if progress is not None:
            progress(done / len(numbers), f"frame {number}")
        if len(numbers) > 1 and is_uniform(frames[number]):
            out.append(empty_map(frames[number].shape, options))
        else:
            out.append(find_vessels(frames[number], **options))
    return out


def empty_map(shape: tuple[int, ...], options: dict[str, Any]) -> VesselMap:
    """Of a frame of (rows, columns) that shows nothing, with the options of `find_vessels`."""
    nothing, method, polarity = np.zeros(shape, bool), options.get("method", "network"), options.get("polarity", "auto")
    return VesselMap(nothing, nothing.astype(np.float32), VesselTree(), ~nothing, method,
                     "dark" if polarity == "auto" else polarity, 1.0, "nothing: the frame is uniform",
                     options.get("mm_per_px"), options.get("mm_per_px_sigma", 0.0))


def fullest_frame(frames: np.ndarray, *, most: int = 24) -> int:
    """Number of the frame of (n, rows, columns) that shows most vessel; of a long run every k-th is looked at, uniform
    ones (the mask of a subtracted run) are not."""
    step = max(1, -(-len(frames) // most))
    best, chosen = -1.0, 0
    for number in range(0, len(frames), step):
        if is_uniform(frames[number]):
            continue
        work = make_work(frames[number], work_px=FULLEST_PX)
        shown = float(np.square(ridges(work, FrangiOptions(sigmas_px=(1.5, 2.5))) * np.abs(work.level)).sum())
        best, chosen = (shown, number) if shown > best else (best, chosen)
    return chosen


def full_log(frame: Any, work: Work) -> np.ndarray:
    """(rows, columns) float32 logarithm of the frame at its own size, vessels dark: diameters are fitted to it."""
    return work.log if work.scale == 1.0 else make_work(frame, polarity=work.polarity, work_px=None).log


def checked_scale(mm_per_px: float | None, sigma: float = 0.0) -> None:
    """Raises InputError for a scale that no X-ray image has."""
    if mm_per_px is not None and not (np.isfinite(mm_per_px) and 0.005 <= mm_per_px <= 5.0):
        raise InputError(f"a scale of {mm_per_px:g} mm a pixel can't be right; X-ray images have 0.05 to 1")
    if not (np.isfinite(sigma) and sigma >= 0):
        raise InputError(f"the scale's standard error {sigma:g} isn't a number of at least 0")


def scale_from_catheter(frame: Any, line_px: Sequence[Sequence[float]], french: float, *, polarity: str = "dark"
                        ) -> Scale:
    """mm a pixel from a straight stretch of a catheter of known size, which lies about as high as the vessel.

    Args: line_px two points (column, row) on the catheter; french its outer diameter times 3 in mm (3 to 34).
    Raises: InputError for points outside the frame or an impossible size; RefusedError where no even band lies there.
    """
    ends = np.asarray(line_px, float)
    if ends.shape != (2, 2) or not np.isfinite(ends).all():
        raise InputError("the catheter needs two points: column and row of each")
    if not 3.0 <= french <= 34.0:
        raise InputError(f"a catheter of {french:g} French can't be right; give 3 to 34")
    work = make_work(frame, polarity=polarity, work_px=None)
    if (ends < 0).any() or (ends > np.array(work.shape[::-1]) - 1).any():
        raise InputError("the catheter's points lie outside of the frame")
    length = float(np.linalg.norm(ends[1] - ends[0]))
    if length < LEAST_CATHETER_PX:
        raise RefusedError(f"{length:.0f} px of catheter are too short; point at {LEAST_CATHETER_PX:g} px or more")
    points = ends[0] + np.linspace(0.0, 1.0, round(length) + 1)[:, None] * (ends[1] - ends[0])
    normals, picture = normals_of(points), spline_of(work.log)
    values, across = sample_profiles(picture, points, normals, 8.0)
    mean = ndimage.gaussian_filter1d(np.nan_to_num(values, nan=float(np.nanmax(values))), 2.0, axis=1)
    sides = mean.argmin(1)
    slope = np.polyfit(np.arange(len(points)), across[sides], 1)
    points = points + np.polyval(slope, np.arange(len(points)))[:, None] * normals
    fits = fit_profiles(picture, points, normals, np.full(len(points), 4.0), np.zeros(work.shape, bool), Tube())
    good = np.isfinite(fits.diameter_px)
    widths = fits.diameter_px[good]
    if good.mean() < 0.7 or widths.std() > 0.2 * np.median(widths):
        raise RefusedError("no even dark band lies between the two points; point at a straight, clear catheter")
    width = float(np.median(widths))
    error = float(np.hypot(1.25 * widths.std() / np.sqrt(max(len(widths) / 3.0, 1.0)), CATHETER_SHARE * width))
    return Scale(french * FRENCH_MM / width, french * FRENCH_MM / width**2 * error, width)
