"""Own simulator of B-mode ultrasound with a needle: speckle by convolution of scatterers on the beam grid.

Complex scatterers on (sample, line), weighted by tissue level and attenuation, are convolved with a separable
Gaussian pulse whose width grows away from the focus; the envelope is log-compressed and scan-converted. A needle is
a coherent line whose echo falls with its angle to the beam and with its distance from the image plane, followed by
bounces below it. It trains and tests the network; it proves nothing about real tissue (the independent simulator
and the recordings do that). Source of the scheme: Meunier and Bertrand 1995 (Gaussian PSF on point scatterers).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ...geometry import InputError
from .phantom import IN_PLANE_SIGMAS, STEP_MM, Curve, Needle, random_distractors, random_needle
from .simulator_display import Display, random_display
from .simulator_domain import DOMAINS, TRAIN, Domain, draw, generator
from .simulator_geometry import (
    LINES,
    MARGIN_LINES,
    MARGIN_SAMPLES,
    SAMPLES,
    BeamGeometry,
    Layout,
    ScanConverter,
    psf_samples,
    random_geometry,
    random_layout,
)
from .simulator_visibility import LEAST_FRACTION, LEAST_LENGTH_PX, sight_of
from .tissue import PADDED, random_tissue

MOST_RESIDUAL_DB = 10.0  # loss or gain with depth that the machine's compensation leaves
WINDOW_DB, LEAST_WINDOW = 15.0, 0.6  # so much of the field of view must lose less than this


@dataclass
class NeedleTruth:
    """Where the needle of one frame is, in pixels of the picture (x = column, y = row).

    The line is the needle's leading (upper) echo. `direction` is the tangent at the tip. Without a needle in the
    field of view `present` is False and the points are None. `in_plane`: the tip lies within IN_PLANE_SIGMAS
    elevational sigmas of the image plane. `visible` says what a careful observer can see (`simulator_visibility`),
    `visible_fraction` is its part of the shaft between entry and tip, `tip_seen` whether the end stands out.
    """

    present: bool
    tip_px: np.ndarray | None = None
    entry_px: np.ndarray | None = None
    direction: np.ndarray | None = None
    curve_px: np.ndarray | None = None
    visible: np.ndarray | None = None  # (n,) bool along curve_px
    visible_fraction: float = 0.0
    visible_length_px: float = 0.0  # of a picture fitted to 256 x 192
    off_plane_mm: float = 0.0
    off_plane_sigmas: float = 0.0
    in_plane: bool = False
    tip_in_image: bool = False
    tip_seen: bool = False

    @property
    def shaft_seen(self) -> bool:
        """Enough of the shaft is visible to say that a needle is there: a fifth of it and 8 % of the picture."""
        return (self.present and self.visible_fraction >= LEAST_FRACTION
                and self.visible_length_px >= LEAST_LENGTH_PX)

    @property
    def counted(self) -> bool:
        """A detector is expected to give the tip: shaft and tip's end seen, tip in the image and in the plane."""
        return self.shaft_seen and self.tip_in_image and self.in_plane and self.tip_seen

    @property
    def unclear(self) -> bool:
        """A needle is there, but an observer couldn't say so or couldn't say where it ends: nothing is expected."""
        return self.present and not self.counted and not (self.shaft_seen and not (self.in_plane and self.tip_in_image))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON; floats rounded to 4 digits."""

        def plain(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                return (value if value.dtype == bool else value.round(4)).tolist()
            return round(value, 4) if isinstance(value, float) else value

        return {name: plain(value) for name, value in asdict(self).items()} | {
            "counted": self.counted, "unclear": self.unclear}


@dataclass
class UltrasoundSequence:
    """Frames (t, h, w) uint8, time_s (t,), isotropic mm_per_px, truth per frame, and what was drawn."""

    frames: np.ndarray
    time_s: np.ndarray
    mm_per_px: float
    truth: list[NeedleTruth]
    seed: int
    domain: str
    probe: str
    info: dict[str, Any] = field(default_factory=dict)


@dataclass
class Scene:
    """Everything that is fixed within one sequence."""

    geometry: BeamGeometry
    needle: Needle | None
    distractors: list[Curve]
    incoherent: np.ndarray  # padded, complex scatterers
    coherent: np.ndarray  # padded, complex interfaces
    weight: np.ndarray  # padded, amplitude of the incoherent part
    loss: np.ndarray  # padded, amplitude left after attenuation
    psf: tuple[float, float, float]
    slice_mm: float
    noise: np.ndarray  # (SAMPLES,) level of the electronic noise
    decorrelation: float
    sway: np.ndarray  # (4,) amplitude of the probe's motion, samples and lines, phase, rate Hz
    follow: float  # how much of it the needle takes part in
    display: Display


def _complex_noise(rng: np.random.Generator, shape) -> np.ndarray:
    return (rng.standard_normal((*shape, 2), dtype=np.float32) * np.float32(0.7071)).view(np.complex64)[..., 0]


def build_scene(rng: np.random.Generator, domain: Domain, with_needle: bool,
                geometry: BeamGeometry | None = None) -> Scene:
    """Draws probe, tissue, needle, distractors and display settings."""
    geometry = geometry or random_geometry(rng)
    axial, lateral, wide = psf_samples(geometry, domain, rng)
    slice_mm = draw(rng, domain.slice_mm)
    for _ in range(6):  # a hand on the probe looks for a window: not one behind bone or gas
        tissue = random_tissue(rng, geometry, domain)
        decay, window = _decay(tissue.absorb, draw(rng, domain.attenuation), geometry)
        if window >= LEAST_WINDOW:
            break
    empty = bool(tissue.level_db.mean() < -22 and tissue.interface.max() == 0)
    needle = random_needle(rng, geometry, domain, slice_mm) if with_needle else None
    chance = (0.25 if with_needle else 0.45) + (0.25 if empty else 0)
    distractors = random_distractors(rng, geometry, empty) if rng.random() < chance else []
    loss = 10 ** (-np.clip(decay, -20, 90) / 20).astype(np.float32)
    weight = (10 ** (tissue.level_db / 20) * loss * np.sqrt(4 * np.pi * axial * lateral)).astype(np.float32)
    scatter = _complex_noise(rng, PADDED)
    if rng.random() < 0.3:  # few scatterers a cell: grainy
        scatter *= (rng.random(PADDED, dtype=np.float32) ** 3 * 2.6).astype(np.float32)
    phase = gaussian_filter1d(rng.standard_normal(PADDED).astype(np.float32), 3, axis=1) * draw(rng, (1, 8))
    coherent = tissue.interface * loss * np.float32(np.sqrt(2 * np.pi) * axial) * np.exp(1j * phase)
    floor = draw(rng, domain.noise) + np.linspace(0, draw(rng, (0, 22)), SAMPLES)
    moving = rng.random() < 0.6
    sway = np.array([rng.uniform(0, 14), rng.uniform(0, 8), rng.uniform(0, 6.3), rng.uniform(0.1, 1.0)])
    return Scene(geometry, needle, distractors, scatter, coherent.astype(np.complex64), weight, loss,
                 (axial, lateral, wide), slice_mm, (10 ** (floor / 20)).astype(np.float32),
                 draw(rng, (0.0, 0.6)) if rng.random() < 0.4 else 0.0, sway * np.array([moving, moving, 1, 1]),
                 1.0 if rng.random() < 0.6 else draw(rng, (0, 1)), random_display(rng, domain))


def _decay(absorb: np.ndarray, residual: float, geometry: BeamGeometry) -> tuple[np.ndarray, float]:
    """(loss in dB down the padded grid, part of the field where it stays under WINDOW_DB).

    What the gain's setting over depth leaves, `residual` dB/cm, is at most MOST_RESIDUAL_DB in all: an operator
    would have turned the knobs.
    """
    depth_cm = geometry.depth_mm / 10
    residual = float(np.clip(residual, -MOST_RESIDUAL_DB / depth_cm, MOST_RESIDUAL_DB / depth_cm))
    decay = np.cumsum(absorb + residual, axis=0) * (geometry.sample_mm() / 10)
    return decay, float((decay < WINDOW_DB).mean())


def _splat(field_: np.ndarray, sample: np.ndarray, line: np.ndarray, value: np.ndarray) -> None:
    """Adds complex `value` bilinearly at fractional positions of a (SAMPLES, LINES) field."""
    ok = (sample >= 0) & (sample < SAMPLES - 1) & (line >= 0) & (line < LINES - 1)
    if not ok.any():
        return
    sample, line, value = sample[ok], line[ok], value[ok]
    row, column = sample.astype(np.intp), line.astype(np.intp)
    down, right = sample - row, line - column
    index = np.concatenate([row * LINES + column, row * LINES + column + 1, (row + 1) * LINES + column,
                            (row + 1) * LINES + column + 1])
    weights = np.concatenate([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right])
    values = weights * np.tile(value, 4)
    size = SAMPLES * LINES
    field_ += (np.bincount(index, values.real, size) + 1j * np.bincount(index, values.imag, size)).reshape(
        SAMPLES, LINES).astype(np.complex64)


def _line_values(scene: Scene, sample: np.ndarray, line: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """What each point must add so that the line's echo has `amplitude` after the convolution."""
    axial, lateral, _ = scene.psf
    da, dl = np.gradient(sample), np.gradient(line)
    length = np.hypot(da, dl)
    spread = np.hypot(axial * dl, lateral * da) / np.maximum(length, 1e-9)
    return amplitude * length * np.sqrt(2 * np.pi) * np.maximum(spread, 0.4)


def _sampled(padded: np.ndarray, sample: np.ndarray, line: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    rows = np.clip(np.rint(sample).astype(int) + MARGIN_SAMPLES - shift[0], 0, PADDED[0] - 1)
    columns = np.clip(np.rint(line).astype(int) + MARGIN_LINES - shift[1], 0, PADDED[1] - 1)
    return padded[rows, columns]


def _add_needle(scene: Scene, field_: np.ndarray, advance_mm: float, shift: tuple[int, int],
                layout: Layout) -> NeedleTruth:
    """Puts the needle's echo, bounces and shadow into `field_`; gives the truth."""
    needle, geometry = scene.needle, scene.geometry
    assert needle is not None
    back = np.arange(0.0, needle.reach_mm, STEP_MM)
    points, tangent = needle.arc(back, advance_mm)
    sample, line = geometry.beam_from_mm(points[:, 0], points[:, 1])
    sample, line = sample + shift[0] * scene.follow, line + shift[1] * scene.follow
    x, z = geometry.mm_from_beam(sample, line)
    inside = geometry.inside(x, z)
    if not inside.any():
        return NeedleTruth(False)
    last = len(inside) - int(np.argmax(inside[::-1]))  # the shaft ends where it leaves for good
    gap_at = np.flatnonzero(~inside[np.argmax(inside):last])
    if len(gap_at):  # leaves and comes back (sector): only the part next to the tip counts
        last = int(np.argmax(inside)) + int(gap_at[0])
    first = int(np.argmax(inside))
    if last - first < 8:
        return NeedleTruth(False)
    part = slice(first, last)
    sample, line, x, z, back, tangent = sample[part], line[part], x[part], z[part], back[part], tangent[part]
    off = needle.off_mm(back, advance_mm)
    beam = geometry.beam_angle(x, z)
    tilt = np.degrees(np.arcsin(np.clip(np.abs(tangent[:, 0] * np.sin(beam) + tangent[:, 1] * np.cos(beam)), 0, 1)))
    tilt = np.maximum(tilt - needle.steer_deg, 0)
    echo = np.maximum(np.exp(-np.square(tilt / needle.specular_deg)), 10 ** (needle.diffuse_db / 20))
    echo = echo * 10 ** (needle.contrast_db / 20) * np.exp(-np.square(off / scene.slice_mm) / 2)
    for start, end, level in needle.gaps:
        echo = np.where((back > start) & (back < end), echo * 10 ** (level / 20), echo)
    left = _sampled(scene.loss, sample, line, shift)
    echo = echo * left * (0.8 + 0.3 * np.sin(back / 3.1 + needle.phase[1]))
    if first == 0:
        echo = np.where(back < 1.2, echo * needle.tip_gain, echo)
    value = _line_values(scene, sample, line, echo) * np.exp(
        1j * (needle.phase[0] + 0.8 * np.sin(back / 4.3 + needle.phase[1])))
    if needle.shadow_db > 0:
        _shade(field_, sample, line, 10 ** (-needle.shadow_db / 20 * np.clip(np.cos(np.radians(tilt)).mean(), 0, 1)))
    for bounce in range(needle.bounces + 1):
        step = bounce * needle.bounce_mm / geometry.sample_mm()
        _splat(field_, sample + step, line, value * needle.bounce_decay ** bounce * np.exp(2.4j * bounce * bounce))
    curve = layout.px_from_mm(x, z)[::-1]
    direction = curve[-1] - curve[-min(len(curve), 14)]
    return NeedleTruth(
        True, curve[-1], curve[0], direction / np.linalg.norm(direction), curve,
        off_plane_mm=float(off[0]), off_plane_sigmas=float(abs(off[0]) / scene.slice_mm),
        in_plane=bool(abs(off[0]) <= IN_PLANE_SIGMAS * scene.slice_mm), tip_in_image=first == 0)


def _shade(field_: np.ndarray, sample: np.ndarray, line: np.ndarray, left: float) -> None:
    """Darkens what lies below a line."""
    columns = np.clip(np.rint(line).astype(int), 0, LINES - 1)
    top = np.full(LINES, SAMPLES, float)
    np.minimum.at(top, columns, sample)
    field_[np.arange(SAMPLES)[:, None] > top[None] + 2] *= np.float32(left)


def _add_distractors(scene: Scene, field_: np.ndarray, time_s: float, shift: tuple[int, int]) -> None:
    for number, curve in enumerate(scene.distractors):
        points = curve.points + curve.velocity * time_s
        sample, line = scene.geometry.beam_from_mm(points[:, 0], points[:, 1])
        sample, line = sample + shift[0], line + shift[1]
        amplitude = curve.amplitude * _sampled(scene.loss, sample, line, shift)
        value = _line_values(scene, sample, line, amplitude) * np.exp(
            1j * (number + 0.8 * np.sin(np.arange(len(line)) * STEP_MM / 3.7)))
        for bounce in range(curve.bounces + 1):
            step = bounce * curve.bounce_mm / scene.geometry.sample_mm()
            _splat(field_, sample + step, line, value * 0.5 ** bounce * np.exp(2.4j * bounce * bounce))


def _envelope(scene: Scene, field_: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pulse convolution, electronic noise, magnitude."""
    axial, lateral, wide = scene.psf
    field_ = gaussian_filter1d(field_, axial, axis=0, truncate=2.7)
    near = gaussian_filter1d(field_, lateral, axis=1, truncate=2.7)
    if wide > 1.15 * lateral:
        far = gaussian_filter1d(field_, wide, axis=1, truncate=2.4) * np.float32(np.sqrt(wide / lateral))
        blend = np.abs(np.linspace(-0.4, 0.6, SAMPLES, dtype=np.float32))[:, None] / 0.6
        near = near + (far - near) * blend
    noise = _complex_noise(rng, (SAMPLES // 2, LINES))
    near += np.concatenate([noise, noise[::-1, ::-1]]) * scene.noise[:, None]
    return np.abs(near)


def render(scene: Scene, layout: Layout, times_s: np.ndarray, rng: np.random.Generator,
           speed_scale: float = 1.0, judge_all: bool = True) -> tuple[np.ndarray, list[NeedleTruth]]:
    """((t, h, w) uint8, truths) of a scene; the needle's tip is where it was drawn at the last time.

    What can be seen of it is judged in every frame, or, to save time, in the last one only.
    """
    converter = ScanConverter(scene.geometry, layout)
    overlay = scene.display.overlay(layout)
    pictures, truths, previous = [], [], None
    for time_s in times_s:
        swing = np.sin(2 * np.pi * scene.sway[3] * time_s + scene.sway[2])
        shift = round(float(scene.sway[0] * swing)), round(float(scene.sway[1] * swing))
        rows = slice(MARGIN_SAMPLES - shift[0], MARGIN_SAMPLES - shift[0] + SAMPLES)
        lines = slice(MARGIN_LINES - shift[1], MARGIN_LINES - shift[1] + LINES)
        scatter = scene.incoherent[rows, lines]
        if scene.decorrelation > 0:
            part = scene.decorrelation
            scatter = scatter * np.float32(np.sqrt(1 - part)) + _complex_noise(rng, scatter.shape) * np.float32(
                np.sqrt(part))
        field_ = scatter * scene.weight[rows, lines] + scene.coherent[rows, lines]
        _add_distractors(scene, field_, float(time_s - times_s[-1]), shift)
        truth, without = NeedleTruth(False), field_
        if scene.needle is not None:
            without = field_.copy()
            advance = scene.needle.speed_mm_s * speed_scale * float(time_s - times_s[-1])
            truth = _add_needle(scene, field_, advance, shift, layout)
        truths.append(truth)
        noise = rng.bit_generator.state
        envelope = _envelope(scene, field_, rng)
        if previous is not None and scene.display.persistence > 0:
            envelope = envelope + (previous - envelope) * np.float32(scene.display.persistence)
        previous = envelope
        pictures.append(scene.display.picture(envelope, converter, overlay))
        if truth.curve_px is not None and (judge_all or len(pictures) == len(times_s)):
            rng.bit_generator.state = noise  # the same noise again
            empty = scene.display.picture(_envelope(scene, without, rng), converter, overlay)
            sight = sight_of(pictures[-1], empty, truth.curve_px)
            truth.visible, truth.visible_length_px, truth.tip_seen = sight.visible, sight.length_px, sight.tip
            truth.visible_fraction = float(truth.visible.mean())
    return np.stack(pictures), truths


def simulate_sequence(n_frames: int, seed: int, *, domain: str = TRAIN, needle: bool | None = None,
                      size: tuple[int, int] | None = None, canvas: tuple[int, int] | None = None,
                      frame_rate_hz: float | None = None, judge_all: bool = True) -> UltrasoundSequence:
    """A sequence of a moving or resting probe and needle, or of tissue without one, with truth.

    Args:
        n_frames: at least 1. seed: whole number; the same seed gives the same frames.
        domain: "train" or "held-out". needle: True, False, or None to draw it (42 % have none).
        size: (width, height) px of the picture; None draws a usual size. canvas: (width, height) to which that
            picture is fitted as the network does it; None: full resolution.
        frame_rate_hz: None draws one. judge_all: whether what can be seen is judged in every frame, or in the last.
    Raises: InputError for no frames, an unknown domain or a picture under 32 pixels a side.
    """
    if domain not in DOMAINS:
        raise InputError(f"the simulator has the domains {', '.join(DOMAINS)}, not '{domain}'")
    if n_frames < 1:
        raise InputError(f"a simulated sequence needs at least one frame, not {n_frames}")
    if size is not None and min(size) < 32:
        raise InputError(f"a picture of {size[0]}x{size[1]} pixels is too small to simulate (at least 32 a side)")
    ranges = DOMAINS[domain]
    rng = generator(ranges, seed)
    drawn = bool(rng.random() >= ranges.needle_free)
    scene = build_scene(rng, ranges, drawn if needle is None else needle)
    layout = random_layout(rng, scene.geometry, size)
    if canvas is not None:
        layout = layout.resized(*canvas)
    rate = frame_rate_hz or draw(rng, ranges.frame_rate_hz)
    times = np.arange(n_frames) / rate
    scale = 1.0
    if scene.needle is not None and scene.needle.speed_mm_s > 0:
        travel = scene.needle.speed_mm_s * times[-1]
        scale = min(1.0, 0.9 * scene.geometry.depth_mm / max(travel, 1e-6))
    frames, truth = render(scene, layout, times, rng, scale, judge_all)
    kind = "linear" if not scene.geometry.curved else "phased" if scene.geometry.radius_mm < 20 else "curved"
    return UltrasoundSequence(frames, times, layout.mm_per_px, truth, seed, domain, kind,
                              {"depth_mm": scene.geometry.depth_mm, "slice_mm": scene.slice_mm,
                               "gauge_mm": scene.needle.gauge_mm if scene.needle else None,
                               "frame_rate_hz": rate})
