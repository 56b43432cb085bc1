"""The classical detector: line integrals, RANSAC, and a noise-adapted test for where the brightness ends.

Baseline of the network and its fallback: no training, numpy and scipy only. It says `found` only for a straight
bright line that begins at (or points to) the top or a side of the ultrasound and ends inside it: what crosses the
whole picture is a layer, and its end is nowhere to be seen.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ...geometry import RefusedError
from .detection import FrameDetection, checked_frames
from .lines import FittedLine, Piece, filled_outside, line_pieces, refine_line, ridge_image, sample_band
from .region import Region, find_region, whole_picture

LOGGER = logging.getLogger("IRAI.needle.ultrasound")
SEARCH_SIDE_PX = 128  # side of the image that lines are searched in
PROFILE_SIDE_PX = 320  # side of the image that profiles are read in
CORE_HALF_PX = (1.5, 3.0, 6.0)  # half widths of a shaft tried in the profile image
TOUCH = 0.035  # of the image's diagonal: an end this near to the border touches it
CANDIDATES = 10
MIN_LENGTH = 0.12  # of the image's diagonal
MIN_VISIBLE = 0.3  # of the way from the border to the tip
TILT_DEG = 8.0  # flatter than this, depth doesn't tell which end is the tip
ECHO_SMEAR_PX = 6.0  # standard deviation of the echo's end about the tip: 1.5 mm at usual depths, on 21 simulated ones
# Logistic weights, set by hand on the simulator's training domain and on the real frames: intercept, evidence,
# contrast, occupancy, flatness, edge, length, change, visible part, steepness, depth of the tip, half width
WEIGHTS = (-10.0, 0.3, 0.8, 3.5, -3.5, -1.5, -1.0, 0.2, 4.5, -4.5, 0.0, 0.0)


@dataclass(frozen=True)
class Candidate:
    """One line of the profile image, in its pixels: shaft from entry to tip, and what speaks for it."""

    line: FittedLine
    entry: np.ndarray
    tip: np.ndarray
    sigma_along: float
    visible: float
    half: float
    features: np.ndarray  # the columns of WEIGHTS after the intercept

    @property
    def confidence(self) -> float:
        total = WEIGHTS[0] + float(np.dot(WEIGHTS[1:], self.features))
        return 1.0 / (1.0 + math.exp(-max(min(total, 30.0), -30.0)))


class ClassicalDetector:
    """Straight bright shaft that ends inside the ultrasound.

    Args:
        region: where the ultrasound lies; None finds it in the first frames (and keeps it while the size stays).
        threshold: confidence from which a needle counts as found.
    """

    stack_length = 4
    method = "classical"

    def __init__(self, region: Region | None = None, threshold: float = 0.5) -> None:
        self._given = region
        self.threshold = threshold
        self.reset()

    def reset(self) -> None:
        """Forget the region that was found: another probe, depth or picture comes."""
        self._found: Region | None = None
        self._seen = 0
        self._low: np.ndarray | None = None
        self._high: np.ndarray | None = None

    def region(self, frames: np.ndarray) -> Region:
        """Region in use for these frames; searched again after 1, 2, 4, 8 and 16 frames as more of it lights up."""
        newest = frames[-1]
        if self._given is not None and self._given.mask.shape == newest.shape:
            return self._given
        low, high = self._low, self._high
        if low is None or high is None or low.shape != newest.shape:
            self.reset()
            low, high = frames.min(0), frames.max(0)
            self._low, self._high = low, high
        self._seen += 1
        if self._found is None or self._seen in (2, 4, 8, 16):
            low, high = np.minimum(low, newest), np.maximum(high, newest)
            self._low, self._high = low, high
            try:
                self._found = find_region(np.stack([low, high, newest]))
            except RefusedError:
                LOGGER.debug("no outline of the ultrasound in the picture: all of it is searched")
                self._found = whole_picture(newest.shape)
        return self._found

    def detect(self, frames: np.ndarray, *, mm_per_px: tuple[float, float] | None = None) -> FrameDetection:
        """See `Detector.detect`. Directions and covariances are in pixels; the scale is not needed here."""
        frames = checked_frames(frames)
        best = self.best_candidate(frames)
        if best is None:
            return FrameDetection(found=False, confidence=0.0, method=self.method)
        candidate, origin, factor = best
        confidence = candidate.confidence
        if confidence < self.threshold:
            return FrameDetection(found=False, confidence=confidence, method=self.method)
        to_full = (factor - 1) / 2.0 + origin  # centre of the first block
        direction = (candidate.tip - candidate.entry) / np.linalg.norm(candidate.tip - candidate.entry)
        normal = np.array([-direction[1], direction[0]])
        across = math.hypot(candidate.line.sigma_across, 0.15 * candidate.half) + 0.3
        covariance = (candidate.sigma_along**2 * np.outer(direction, direction)
                      + across**2 * np.outer(normal, normal)) * factor**2
        return FrameDetection(
            found=True, tip_px=candidate.tip * factor + to_full, direction=direction,
            entry_px=candidate.entry * factor + to_full, covariance_px=covariance,
            direction_sigma_deg=math.hypot(candidate.line.sigma_deg, 0.3), confidence=confidence,
            visible_fraction=candidate.visible, in_plane=None, method=self.method)

    def best_candidate(self, frames: np.ndarray) -> tuple[Candidate, np.ndarray, int] | None:
        """The most confident line with its origin and factor to full pixels, found or not; None without any."""
        candidates, origin, factor = self.candidates(frames)
        if not candidates:
            return None
        return max(candidates, key=lambda candidate: candidate.confidence), origin, factor

    def candidates(self, frames: np.ndarray) -> tuple[list[Candidate], np.ndarray, int]:
        """All lines looked at in the newest frame; origin and factor that bring them to full pixels."""
        region = self.region(frames)
        x0, y0, x1, y1 = region.box
        cropped = frames[:, y0:y1 + 1, x0:x1 + 1]
        inside = region.mask[y0:y1 + 1, x0:x1 + 1]
        factor = max(1, math.ceil(max(cropped.shape[1:]) / PROFILE_SIDE_PX))
        image = _shrunk(cropped[-1], factor)
        before = [_shrunk(frame, factor) for frame in cropped[-self.stack_length:-1]]
        mask = None if inside.all() else ndimage.binary_erosion(_shrunk(inside, factor) > 0.5, iterations=2)
        if mask is not None:
            image = filled_outside(image, mask, 2.0)
        change = _change(image, before)
        coarse = max(1, math.ceil(max(image.shape) / SEARCH_SIDE_PX))
        searched = _shrunk(image, coarse)
        pieces = line_pieces(ridge_image(searched, 1.2, None if mask is None else _shrunk(mask, coarse) > 0.5),
                             layer_weight=0.5)
        smooth = ndimage.gaussian_filter(image, 0.8)
        candidates = [_examined(smooth, mask, change, piece, coarse) for piece in _distinct(pieces, CANDIDATES)]
        return ([candidate for candidate in candidates if candidate is not None], np.array([x0, y0], float), factor)


def _shrunk(image: np.ndarray, factor: int) -> np.ndarray:
    """Mean of blocks of factor x factor pixels, float32; what is left over at the right and bottom is dropped."""
    if factor == 1:
        return image.astype(np.float32)
    height, width = (side // factor * factor for side in image.shape)
    rows = image[:height, :width].reshape(height // factor, factor, width).sum(1, dtype=np.float32)
    return rows.reshape(height // factor, width // factor, factor).sum(2) / factor**2


def _change(image: np.ndarray, before: list[np.ndarray]) -> np.ndarray | None:
    """How much brighter than in the frames before, in noise units; None without frames, or when all of it moves."""
    if not before:
        return None
    difference = ndimage.uniform_filter(image - np.mean(before, axis=0), 5)
    noise = 1.4826 * float(np.median(np.abs(difference - np.median(difference)))) + 0.5
    return difference / noise


def _distinct(pieces: list[Piece], count: int) -> list[Piece]:
    """The best pieces that are not the same line twice (within 7 degrees and 4 pixels)."""
    kept: list[Piece] = []
    for piece in pieces:
        along = (piece.end - piece.start) / max(piece.length, 1e-9)
        middle = 0.5 * (piece.start + piece.end)
        for other in kept:
            axis = (other.end - other.start) / max(other.length, 1e-9)
            apart = middle - other.start
            if (abs(along @ axis) > 0.9925 and abs(apart[0] * axis[1] - apart[1] * axis[0]) < 4.0):
                break
        else:
            kept.append(piece)
            if len(kept) == count:
                break
    return kept


@dataclass(frozen=True)
class _Profile:
    """Contrast along a line across the whole image: core minus flanks, and its noise from parallel lines."""

    contrast: np.ndarray  # (n,)
    noise: np.ndarray  # (n, m) the same, on m parallel lines
    edge: np.ndarray  # (n,) difference of the two flanks
    brightness: np.ndarray  # (n,) of the core
    start: np.ndarray
    half: float


def _profile(image: np.ndarray, mask: np.ndarray | None, line: FittedLine, half: float) -> _Profile | None:
    """Core minus flanks along the line from border to border, or None when too little of it lies inside."""
    first, last = _clipped(line.point, line.direction, image.shape)
    if mask is not None and last - first >= 16:
        first, last = _inside(mask, line, first, last)
    if last - first < 16:
        return None
    start = line.point + first * line.direction
    reach = 16.0 * half
    values, _, across = sample_band(image, start, line.direction, last - first, reach, 1.0, max(half / 2.0, 0.75))
    step = across[1] - across[0]
    inner, outer = max(round(half / step), 1), max(round(2.0 * half / step), 2)
    width = round(1.5 * half / step) + 1
    filled = np.where(np.isfinite(values), values, np.nanmedian(values)).astype(np.float32)
    core = ndimage.uniform_filter1d(filled, 2 * inner - 1 if inner > 1 else 1, axis=1)
    flank = ndimage.uniform_filter1d(filled, width, axis=1)
    middle = values.shape[1] // 2
    contrast = core - 0.5 * (np.roll(flank, outer + width // 2, 1) + np.roll(flank, -outer - width // 2, 1))
    away = 4 * inner + outer
    usable = np.r_[outer + width:middle - away, middle + away:values.shape[1] - outer - width]
    if len(usable) < 3:
        return None
    shift = outer + width // 2
    edge = np.abs(flank[:, middle + shift] - flank[:, middle - shift])
    return _Profile(contrast[:, middle], contrast[:, usable], edge, core[:, middle], start, half)


def _inside(mask: np.ndarray, line: FittedLine, first: float, last: float) -> tuple[float, float]:
    """The same distances, from where the line enters the mask to where it leaves it for good."""
    places = np.arange(first, last, 1.0)
    x, y = (np.round(line.point[axis] + places * line.direction[axis]).astype(int) for axis in (0, 1))
    within = np.flatnonzero(mask[np.clip(y, 0, mask.shape[0] - 1), np.clip(x, 0, mask.shape[1] - 1)])
    if len(within) == 0:
        return 0.0, 0.0
    return float(places[within[0]]), float(places[within[-1]])


def _clipped(point: np.ndarray, direction: np.ndarray, shape: tuple[int, ...]) -> tuple[float, float]:
    """Distances along the line from `point` at which it enters and leaves the image; (0, 0) for no direction."""
    if not (np.isfinite(direction).all() and np.linalg.norm(direction) > 0.5):
        return 0.0, 0.0
    low, high = -1e9, 1e9
    for value, step, size in zip(point, direction, (shape[1], shape[0]), strict=True):
        if abs(step) < 1e-9:
            if not 0 <= value <= size - 1:
                return 0.0, 0.0
            continue
        a, b = sorted(((0.0 - value) / step, (size - 1.0 - value) / step))
        low, high = max(low, a), min(high, b)
    return low, high


def _segment(contrast: np.ndarray, noise: float) -> tuple[int, int]:
    """First and last sample of the stretch that stands out most (gaps forgiven)."""
    smooth = ndimage.uniform_filter1d(contrast, 5)
    level = max(float(np.percentile(smooth, 90)), 1e-3)
    gain = np.clip(smooth / max(0.5 * level, 1.5 * noise) - 1.0, -1.0, 1.0)
    total = np.concatenate([[0.0], np.cumsum(gain)])
    lowest = np.minimum.accumulate(total)
    last = int(np.argmax(total - lowest))
    first = int(np.argmin(total[: last + 1]))
    return first, max(last - 1, first)


def _tip_position(contrast: np.ndarray, first: int, last: int, noise: float) -> tuple[float, float]:
    """Where the brightness ends near `last`: mean and standard deviation of the change point's posterior.

    Two levels (shaft, background) with their own spread; neighbouring samples count as `CORRELATED` one.
    """
    window = max(8, (last - first) // 4)
    begin, stop = max(first, last - 2 * window), min(len(contrast), last + window + 1)
    samples = contrast[begin:stop]
    if len(samples) < 10:
        return float(last), float(window)
    on_samples = contrast[max(first, last - 2 * window):max(last - 3, first + 3)]
    off_samples = contrast[min(last + 3, len(contrast) - 1):stop]
    on = float(np.median(on_samples))
    off = float(np.median(off_samples)) if len(off_samples) > 4 else 0.0
    spread_on = max(float(np.std(on_samples)), noise, 0.1 * abs(on), 0.5)
    spread_off = max(float(np.std(off_samples)) if len(off_samples) > 4 else noise, noise, 0.5)
    cost_on = 0.5 * ((samples - on) / spread_on) ** 2 + math.log(spread_on)
    cost_off = 0.5 * ((samples - off) / spread_off) ** 2 + math.log(spread_off)
    before = np.concatenate([[0.0], np.cumsum(cost_on)])
    after = np.concatenate([np.cumsum(cost_off[::-1])[::-1], [0.0]])
    log_posterior = -(before + after) / CORRELATED
    posterior = np.exp(log_posterior - log_posterior.max())
    posterior /= posterior.sum()
    places = begin + np.arange(len(posterior)) - 0.5
    mean = float(posterior @ places)
    return mean, math.sqrt(max(float(posterior @ (places - mean) ** 2), 0.0) + ECHO_SMEAR_PX**2)


CORRELATED = 4.0  # samples of a profile that share their speckle


def _examined(image: np.ndarray, mask: np.ndarray | None, change: np.ndarray | None, piece: Piece,
              coarse: int) -> Candidate | None:
    """The piece refined at the profile's resolution, its two ends told apart, and what speaks for it."""
    offset = (coarse - 1) / 2.0
    line = refine_line(image, piece.start * coarse + offset, piece.end * coarse + offset, 3.0 * coarse)
    read = max((_read(image, mask, line, half) for half in CORE_HALF_PX), key=lambda read: -1.0 if read is None
               else read.value)
    if read is None or read.last <= read.first:
        return None  # a single bright sample has no direction
    begin = read.profile.start
    line = refine_line(image, begin + read.first * line.direction, begin + read.last * line.direction,
                       2.0 * read.profile.half + 2.0)  # once more, along what was found
    read = _read(image, mask, line, read.profile.half)
    return None if read is None else _candidate(image, change, line, read)


@dataclass(frozen=True)
class _Reading:
    """A profile, its brightest stretch, its noise, and by how many deviations it stands out from parallel lines."""

    profile: _Profile
    first: int
    last: int
    sigma: float
    evidence: float

    @property
    def value(self) -> float:
        return max(self.evidence, 0.0) * math.sqrt(self.last - self.first + 1.0)


def _read(image: np.ndarray, mask: np.ndarray | None, line: FittedLine, half: float) -> _Reading | None:
    profile = _profile(image, mask, line, half)
    if profile is None:
        return None
    sigma = 1.4826 * float(np.median(np.abs(profile.noise))) + 0.5
    first, last = _segment(profile.contrast, sigma)
    mean = float(profile.contrast[first:last + 1].mean())
    null = profile.noise[first:last + 1].mean(0)
    evidence = (mean - float(np.median(null))) / (float(np.std(null)) + 0.5 + 0.02 * abs(mean))
    return _Reading(profile, first, last, sigma, evidence)


def _candidate(image: np.ndarray, change: np.ndarray | None, line: FittedLine, read: _Reading) -> Candidate | None:
    """The segment as a needle: which end is the tip, where it is; None when it can't be a needle with its tip in."""
    profile, first, last, sigma = read.profile, read.first, read.last, read.sigma
    diagonal = math.hypot(*image.shape)
    if last - first < MIN_LENGTH * diagonal:
        return None
    count = len(profile.contrast)
    turned = _tip_is_first(profile.start, line.direction, first, last, count, image.shape)
    if turned is None:
        return None
    contrast, direction, start = profile.contrast, line.direction, profile.start
    if turned:
        contrast, direction = contrast[::-1], -direction
        start, first, last = start + (count - 1) * line.direction, count - 1 - last, count - 1 - first
    place, sigma_along = _tip_position(contrast, first, last, sigma)
    place = min(max(place, first + 2.0), count - 1.0)
    used = contrast[first:max(int(place), first + 2)]
    on = used > max(1.5 * sigma, 0.3 * float(np.median(used)))
    visible = float(on.sum()) / max(place, 1.0)
    if visible < MIN_VISIBLE:
        return None
    local = float(np.std(image)) + 1.0
    angle = abs(math.degrees(math.asin(min(abs(direction[1]), 1.0))))
    segment = slice(count - 1 - last, count - first) if turned else slice(first, last + 1)
    tip = start + place * direction
    moved = 0.0
    if change is not None:
        x, y = np.clip(np.round(tip - 2.0 * direction).astype(int), 0, [image.shape[1] - 1, image.shape[0] - 1])
        moved = min(max(float(change[y, x]), 0.0), 5.0)
    features = np.array([
        min(read.evidence, 12.0), min(float(used.mean()) / local, 2.5), float(on.mean()),
        max(0.0, 1.0 - angle / TILT_DEG),
        min(float(profile.edge[segment].mean()) / (float(profile.contrast[segment].mean()) + 1.0), 2.0),
        min((last - first) / diagonal, 0.6), moved, min(visible, 1.0), max(0.0, (angle - 60.0) / 30.0),
        tip[1] / image.shape[0], profile.half])
    refined = replace(line, direction=direction)
    return Candidate(refined, start + first * direction, tip, sigma_along, min(visible, 1.0), profile.half, features)


def _tip_is_first(start: np.ndarray, direction: np.ndarray, first: int, last: int, count: int,
                  shape: tuple[int, ...]) -> bool | None:
    """Is the segment's first end the tip? None when neither can be: it crosses the picture, or leaves it below."""
    touch = TOUCH * math.hypot(*shape)
    ends = start + first * direction, start + last * direction
    touching = first < touch, count - 1 - last < touch
    deeper = 0 if ends[0][1] > ends[1][1] else 1
    tilt = math.degrees(math.asin(min(abs(direction[1]), 1.0)))
    if touching[0] and touching[1]:
        return None
    if touching[deeper] and tilt > TILT_DEG:
        return None  # the shaft goes out of the picture: its tip is not in it
    if touching[0] or touching[1]:
        return touching[1]
    if tilt > TILT_DEG:
        return deeper == 0
    return first > count - 1 - last  # flat: the end further from its side is the tip
