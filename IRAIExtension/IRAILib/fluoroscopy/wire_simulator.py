"""Fluoroscopy with a catheter or guide-wire, simulated: X-ray backgrounds, splines that absorb, motion, photons.

Four frames, newest last. Vessels filled with contrast, leads, clips, sternal wires, ribs and collimators are there to
be mistaken. Everything is in pixels of a square frame; whoever needs mm states the scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from .wire_courses import crossing, nearest, random_course, random_tree

STACK = 4
SIMULATOR_VERSION = 1
DEVICES = ("catheter", "wire", "wire in catheter")


@dataclass(frozen=True, eq=False)
class WireSample:
    """One simulated stack.

    Attributes:
        frames: (4, h, w) uint8, newest last, grey values that grow with the dose.
        course: (n, 2) x, y of the device's axis in the newest frame, pixels, entry first; (0, 2) without a device. It
            goes on outside a cropped picture.
        device: "", or one of DEVICES. tip: (2,) the end of the course, or None; may lie outside a cropped picture.
        contrast: mean depth of the device in units of the frame's noise, about how visible it is.
    """

    frames: np.ndarray
    course: np.ndarray
    device: str
    contrast: float = 0.0

    @property
    def tip(self) -> np.ndarray | None:
        return self.course[-1] if len(self.course) else None


@dataclass
class _Scene:
    """What lies in the beam: tubes that move, tubes that stand still, and a background."""

    rng: np.random.Generator
    size: int
    origin: np.ndarray
    shape: tuple[int, int]
    lit: Callable
    device: str = ""
    course: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    split: int = 0  # where the wire leaves its catheter: points of the course
    parts: tuple = ()
    vessels: list = field(default_factory=list)
    fill: float = 0.0


def simulate_wire(ground: np.ndarray, rng: np.random.Generator, *, size_px: int = 512, crop_px: int | None = None,
                  device: str | None = None, vessels: bool | None = None, dose: float | None = None) -> WireSample:
    """A random stack over a background.

    Args:
        ground: (h, w) line integrals, at least `size_px` on each side (wire_ground.random_grounds).
        crop_px: only so large a piece, most often one with the tip in it. device: "" for none, None to draw.
        vessels: filled vessels in view; None draws. dose: photons per pixel at the median; None draws 60 to 3000.
    """
    size = int(size_px)
    course = np.zeros((0, 2))
    kind = str(rng.choice((*DEVICES, "", ""), p=(0.3, 0.25, 0.15, 0.15, 0.15))) if device is None else device
    lit = _collimator(rng, size)
    for _ in range(30 if kind else 0):
        course = random_course(rng, size)
        if lit(course[-1, 0], course[-1, 1]) > 0.9:  # an end in the blades' shadow is none
            break
    origin, shape = _crop(rng, course, size, crop_px)
    scene = _Scene(rng, size, origin, shape, lit, kind, course)
    if kind:
        _dress(scene)
    if rng.random() < 0.65 if vessels is None else vessels:
        _fill(scene)
    still = _still(scene)
    photons = dose or float(np.exp(rng.uniform(math.log(60.0), math.log(3000.0))))
    return _exposed(scene, ground, still, photons)


def _crop(rng: np.random.Generator, course: np.ndarray, size: int, crop: int | None
          ) -> tuple[np.ndarray, tuple[int, int]]:
    if crop is None:
        return np.zeros(2), (size, size)
    if len(course) and rng.random() < 0.75:
        middle = course[-1] + rng.uniform(-0.4, 0.4, 2) * crop
    else:
        middle = rng.uniform(0.0, size, 2)
    return np.clip(np.rint(middle - crop / 2), 0, size - crop), (crop, crop)


def _dress(scene: _Scene) -> None:
    """Widths and absorption of the device: (from, to, width, depth of the wall, depth of the core, marker)."""
    rng, count = scene.rng, len(scene.course)
    wall, core = rng.uniform(0.12, 0.45), rng.choice((0.05, 0.15, rng.uniform(0.15, 0.6)))
    catheter = (float(rng.uniform(4.0, 9.5)), float(wall), float(core))
    wire = (float(rng.uniform(1.6, 3.6)), 0.0, float(rng.uniform(0.25, 1.0)))
    if scene.device == "catheter":
        scene.parts = ((0, count, *catheter),)
    elif scene.device == "wire":
        scene.parts = ((0, count, *wire),)
    else:
        scene.split = max(20, count - int(rng.uniform(30, 260)))
        scene.parts = ((0, scene.split, *catheter), (0, count, *wire))
    if rng.random() < 0.4:  # a coil or a marker makes the end darker, the shaft of a fine wire fainter
        scene.fill = float(rng.uniform(0.0, 0.7))


def _fill(scene: _Scene) -> None:
    """A vessel tree that begins at the catheter, at the border or anywhere."""
    rng = scene.rng
    if len(scene.course) and rng.random() < 0.6:
        at = scene.split or len(scene.course) - 1
        step = scene.course[at] - scene.course[max(at - 6, 0)]
        start, heading = scene.course[at], math.atan2(step[1], step[0]) + rng.uniform(-0.5, 0.5)
    else:
        middle = scene.origin + rng.uniform(0.0, 1.0, 2) * scene.shape[::-1]
        heading = rng.uniform(0.0, 2 * math.pi)
        start = middle - rng.uniform(0.1, 0.5) * scene.size * np.array([math.cos(heading), math.sin(heading)])
    depth = rng.uniform(0.15, 1.0)
    for course, widths in random_tree(rng, start, heading, scene.size, rng.uniform(5.0, 20.0)):
        scene.vessels.append((course, widths, depth * widths / widths.max() * rng.uniform(0.6, 1.0)))


def _tube(course: np.ndarray, shape: tuple[int, int], widths: np.ndarray | float, wall: float, core: np.ndarray | float,
          ) -> np.ndarray:
    """(h, w) depth of a tube: its wall is darker at the edges, its core in the middle."""
    most, total = float(np.max(widths)) / 2.0, np.zeros(shape)
    ends = np.array(shape[::-1])
    low = np.clip(np.floor(course.min(axis=0) - most - 2.0), 0, ends).astype(int)
    high = np.clip(np.ceil(course.max(axis=0) + most + 3.0), 0, ends).astype(int)
    if (high <= low).any():
        return total
    distance, number = nearest(course - low, (int(high[1] - low[1]), int(high[0] - low[0])), most + 1.5)
    radius = (np.asarray(widths)[number] if np.ndim(widths) else np.asarray(widths)) / 2.0
    with np.errstate(invalid="ignore"):
        outer = np.sqrt(np.clip(1.0 - np.square(distance / radius), 0.0, None))
        inner = 0.65 * np.sqrt(np.clip(1.0 - np.square(distance / (0.65 * radius)), 0.0, None))
    depth = np.asarray(core)[number] if np.ndim(core) else core
    out = wall * (outer - inner) / 0.5 + depth * outer
    total[low[1]:high[1], low[0]:high[0]] = np.where(np.isfinite(distance), out, 0.0)
    return total


def _device(scene: _Scene, course: np.ndarray, gone: int) -> np.ndarray:
    """(h, w) depth of the device in one frame, `gone` pixels short of where it ends."""
    total = np.zeros(scene.shape)
    for low, high, width, wall, core in scene.parts:
        piece = course[low:max(high - gone, low + 10)] - scene.origin
        depth = np.full(len(piece), core)
        if scene.fill and high == len(course):
            depth[:-40] *= 1.0 - scene.fill
            if wall:
                depth[-12:-8] += 0.4
        total = np.maximum(total, _tube(piece, scene.shape, width, wall, depth))
    return total


def _still(scene: _Scene) -> np.ndarray:
    """(h, w) of what doesn't move with the heart: leads, clips, sternal wires, ribs, texture."""
    rng, shape = scene.rng, scene.shape
    total = _texture(scene)
    for _ in range(int(rng.integers(1, 3)) if rng.random() < 0.2 else 0):
        lead = crossing(rng, scene.size) - scene.origin
        total += _tube(lead, shape, rng.uniform(1.5, 4.0), 0.0, rng.uniform(0.03, 0.25))
        if rng.random() < 0.5:
            total += _disc(scene, lead[int(rng.uniform(0.2, 0.8) * len(lead))], rng.uniform(6.0, 16.0))
    for _ in range(int(rng.integers(1, 6)) if rng.random() < 0.25 else 0):
        turn, length = rng.uniform(0, 2 * math.pi), rng.uniform(5.0, 16.0)
        place = rng.uniform(0, scene.size, 2) - scene.origin
        piece = place + np.arange(length)[:, None] * [math.cos(turn), math.sin(turn)]
        total += _tube(piece, shape, rng.uniform(2.0, 5.0), 0.0, rng.uniform(0.3, 1.5))
    for _ in range(int(rng.integers(1, 8)) if rng.random() < 0.3 else 0):
        y, x = np.mgrid[:shape[0], :shape[1]]  # markers, calcium, contrast that leaves the catheter
        wide = rng.choice((rng.uniform(1.0, 3.0), rng.uniform(4.0, 14.0)))
        place = rng.uniform(0, scene.size, 2) - scene.origin
        if len(scene.course) and rng.random() < 0.3:
            place = scene.course[-1] - scene.origin + rng.normal(scale=8.0, size=2)
        square = (np.square(x - place[0]) + np.square(y - place[1])) / wide**2
        total += rng.uniform(0.05, 0.6) * np.exp(-0.5 * square)
    for _ in range(int(rng.integers(1, 5)) if rng.random() < 0.12 else 0):
        angle = np.arange(0.0, rng.uniform(5.0, 9.0), 0.06)
        radius = rng.uniform(6.0, 20.0) * np.array([1.0, rng.uniform(0.3, 1.0)])
        loop = rng.uniform(0, scene.size, 2) - scene.origin + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        total += _tube(loop + 0.6 * angle[:, None], shape, rng.uniform(1.8, 3.5), 0.0, rng.uniform(0.3, 1.2))
    for _ in range(int(rng.integers(1, 6)) if rng.random() < 0.5 else 0):
        total += _edge(scene)
    return total


def _disc(scene: _Scene, place: np.ndarray, radius: float) -> np.ndarray:
    y, x = np.mgrid[:scene.shape[0], :scene.shape[1]]
    distance = np.hypot(x - place[0], y - place[1])
    return scene.rng.uniform(0.05, 0.4) * ((distance < radius) & (distance > scene.rng.choice((0.0, 0.6)) * radius))


def _edge(scene: _Scene) -> np.ndarray:
    """A rib, a diaphragm or a heart's border: a soft band, or a step across a curve."""
    rng = scene.rng
    turn, bend = rng.uniform(0, 2 * math.pi), rng.uniform(-1.0, 1.0) / scene.size
    y, x = np.mgrid[:scene.shape[0], :scene.shape[1]].astype(np.float32)
    x, y = x + scene.origin[0] - rng.uniform(0, scene.size), y + scene.origin[1] - rng.uniform(0, scene.size)
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    across = across - bend * np.square(along)
    if rng.random() < 0.5:
        width = rng.uniform(5.0, 14.0)
        return rng.uniform(0.01, 0.12) * np.exp(-0.5 * np.square(across / width))
    return rng.uniform(0.03, 0.4) / (1.0 + np.exp(-np.clip(across / rng.uniform(1.0, 6.0), -30, 30)))


def _texture(scene: _Scene) -> np.ndarray:
    """Fine structure that a CT's voxels don't carry: clouds of three sizes and faint short lines of lung vessels."""
    rng, shape = scene.rng, scene.shape
    total = np.zeros(shape)
    for sigma, most in ((1.5, 0.012), (4.0, 0.03), (10.0, 0.06)):
        noise = ndimage.gaussian_filter(rng.normal(size=shape).astype(np.float32), sigma)
        total += rng.uniform(0.0, most) * noise / noise.std()
    if rng.random() < 0.6:
        for _ in range(int(rng.integers(5, 30))):
            start = rng.uniform(0, np.array(shape[::-1]))
            turn = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(scale=0.04, size=int(rng.uniform(15, 90))))
            line = start + np.cumsum(np.stack([np.cos(turn), np.sin(turn)], axis=1), axis=0)
            width = rng.uniform(1.5, 6.0)
            total += _tube(line, shape, np.linspace(width, 1.2, len(line)), 0.0, float(rng.uniform(0.005, 0.05)))
    return total


def _moved(rng: np.random.Generator, size: int) -> list:
    """Per frame a function that moves points of the newest frame: beat and drift, smooth over the frame."""
    beat, drift = rng.normal(scale=rng.uniform(0.0, 5.0), size=(STACK, 2, 3)), rng.normal(scale=1.5, size=(STACK, 2))
    beat[-1] = drift[-1] = 0.0
    phase = rng.uniform(0, 2 * math.pi, 2)

    def mover(n):
        def move(points):
            wave = np.stack([np.ones(len(points)), np.sin(points[:, 0] / size * 4.0 + phase[0]),
                             np.cos(points[:, 1] / size * 4.0 + phase[1])], axis=1)
            return points + 0.6 * wave @ beat[n].T + drift[n]
        return move

    return [mover(n) for n in range(STACK)]


def _exposed(scene: _Scene, ground: np.ndarray, still: np.ndarray, photons: float) -> WireSample:
    """Photons through it all, scatter, blur, display."""
    rng = scene.rng
    h, w = scene.shape
    spare = np.array(ground.shape) - scene.size
    corner = (rng.uniform(0.0, 1.0, 2) * spare).astype(int) + scene.origin[::-1].astype(int)
    moves = _moved(rng, scene.size)
    frozen = rng.random() < 0.25  # a single picture, repeated
    slides = np.cumsum(rng.integers(0, 9, STACK)[::-1])[::-1] * (rng.random() < 0.4)
    slides = slides - slides[-1]
    pans = rng.integers(-2, 3, (STACK, 2)) * (rng.random() < 0.4)
    pans[-1] = 0
    growth = np.sort(rng.uniform(0.3, 1.0, STACK)) if rng.random() < 0.4 else np.ones(STACK)
    blur, scatter = rng.uniform(0.4, 1.3), rng.uniform(0.1, 1.2)
    shown = _display(rng)
    y, x = np.mgrid[:h, :w].astype(float)
    shutter = scene.lit(x + scene.origin[0], y + scene.origin[1])
    base = ground[corner[0]:corner[0] + h, corner[1]:corner[1] + w]
    middle, range_ = float(np.median(base)), rng.uniform(0.25, 0.8)  # filters and scatter narrow what the body spans
    frames, clean = [], np.ones((h, w))
    device = np.zeros((h, w))
    for n in range(STACK) if not frozen else (STACK - 1,):
        row, column = np.clip(corner + pans[n], 0, np.array(ground.shape) - (h, w))
        depth = range_ * (ground[row:row + h, column:column + w] - middle) + still
        for course, widths, core in scene.vessels:
            depth = depth + growth[n] * _tube(moves[n](course) - scene.origin, scene.shape, widths, 0.0, core)
        device = _device(scene, moves[n](scene.course), int(slides[n])) if scene.device else device
        primary = np.exp(-np.clip(depth + device, -4.0, 8.0)) * shutter
        spread = scatter * ndimage.zoom(ndimage.gaussian_filter(primary[::8, ::8], 5.0), 8, order=1)[:h, :w]
        clean = ndimage.gaussian_filter(photons * (primary + spread * (0.1 + 0.9 * shutter)), blur)
        frames.append(rng.poisson(np.clip(clean, 0.0, 1e6)) + rng.normal(scale=1.5, size=(h, w)))
    white = float(np.percentile(frames[-1][::4, ::4], 99.0)) + 1.0
    frames = [shown(frame / white) for frame in frames]
    stack = np.stack(frames if not frozen else frames * STACK)
    noise = 1.0 / np.sqrt(max(float(np.median(clean)), 1.0))
    on = device > 0.5 * device.max() if device.max() > 0 else np.zeros((h, w), bool)
    visible = float(device[on].mean() / noise) if on.any() else 0.0
    return WireSample(stack, scene.course - scene.origin if scene.device else scene.course, scene.device, visible)


def _collimator(rng: np.random.Generator, size: int) -> Callable:
    """A function of x, y: 1 in the field; dark beside straight blades or a round aperture."""
    if rng.random() < 0.4:
        return lambda x, y: np.ones(np.broadcast(x, y).shape)
    round_, gaps = rng.random() < 0.4, np.maximum(rng.uniform(-0.08, 0.1, 4), -0.05) * size
    radius, soft, leak = size * rng.uniform(0.48, 0.6), rng.uniform(0.5, 4.0), rng.uniform(0.002, 0.04)
    rim, behind = rng.uniform(2.0, 16.0), rng.uniform(0.2, 1.0) if rng.random() < 0.6 else 0.0  # blades lie on blades

    def light(x, y):
        inside = radius - np.hypot(x - size / 2, y - size / 2) if round_ else np.minimum(
            np.minimum(x - gaps[0], size - gaps[1] - x), np.minimum(y - gaps[2], size - gaps[3] - y))
        first, second = (1.0 / (1.0 + np.exp(-np.clip(part / soft, -30, 30))) for part in (inside, inside + rim))
        return np.maximum((1.0 - behind) * first + behind * second * (0.25 + 0.75 * first), leak)

    return light


def _display(rng: np.random.Generator):
    """A function from photons over the brightest to 8-bit grey values, the same for all frames of a stack."""
    gamma, most = rng.uniform(0.4, 1.0), rng.uniform(0.6, 1.05)
    sharpen, radius = (rng.uniform(0.3, 1.5), rng.uniform(2.0, 6.0)) if rng.random() < 0.35 else (0.0, 1.0)
    smooth = rng.uniform(0.5, 1.0) if rng.random() < 0.25 else 0.0
    lift = rng.uniform(0.0, 50.0)

    def show(counts):
        value = most * np.clip(counts, 0.0, None) ** gamma
        if smooth:
            value = ndimage.gaussian_filter(value, smooth)
        if sharpen:
            value = value + sharpen * (value - ndimage.gaussian_filter(value, radius))
        return np.clip(lift + value * (255.0 - lift), 0, 255).astype(np.uint8)

    return show
