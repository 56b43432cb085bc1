"""`irai needle simulate` and `irai needle train`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError, NeedleEstimate, NeedleStatus
from ..images import replacing
from ..images.sequences import TrackedSequence, write_sequence
from ..needle.tips import write_tips

MARK = "SIMULATED"
TRUTH = "none: these are the simulator's own numbers"
MAX_FRAMES = 5000
TRIES, SEED_STEP = 50, 100_000


def run_simulate(arguments: argparse.Namespace) -> int:
    """Write the recording and the truth beside it. Returns the exit status."""
    from ..needle.ultrasound.simulator import simulate_sequence

    out: Path = arguments.out
    if not any(out.name.lower().endswith(suffix) for suffix in (".mha", ".nrrd")):
        raise InputError(f"{out}: give the recording a name that ends in .igs.mha or .igs.nrrd")
    if not 1 <= arguments.frames <= MAX_FRAMES:
        raise InputError(f"--frames {arguments.frames}: 1 to {MAX_FRAMES} frames can be simulated")
    options = {"domain": arguments.domain, "needle": not arguments.no_needle, "size": arguments.size,
               "frame_rate_hz": arguments.fps}
    seed = arguments.seed
    if not (arguments.no_needle or arguments.any):
        seed = _visible_seed(partial(simulate_sequence, 2, **options), arguments.seed)
    made = simulate_sequence(arguments.frames, seed, **options)
    write_sequence(out, tracked_sequence(made))
    stem = _stem(out)
    truth = [_truth(one, float(time_s), made.mm_per_px) for one, time_s in zip(made.truth, made.time_s, strict=True)]
    card = {"simulated": True, "seed": made.seed, "domain": made.domain, "probe": made.probe,
            "mm_per_px": made.mm_per_px}
    write_tips(out.with_name(f"{stem}.truth.csv"), truth, card)
    with replacing(out.with_name(f"{stem}.truth.json")) as temporary:
        frames = [one.to_dict() for one in made.truth]
        document = {**card, "info": made.info, "frames": frames}
        Path(temporary).write_text(json.dumps(document) + "\n", encoding="utf-8")
    seen = sum(estimate.found for estimate in truth)
    print(f"{out}: {arguments.frames} frames, {made.probe} probe, {made.mm_per_px:.4f} mm a pixel, needle in {seen}; "
          f"truth in {stem}.truth.csv")
    return 0


def _visible_seed(simulate: Callable[..., Any], seed: int) -> int:
    """The first of the seeds `seed`, `seed` + 100000, ... whose needle can be seen in its first frames."""
    for number in range(TRIES):
        if all(truth.counted for truth in simulate(seed=seed + number * SEED_STEP).truth):
            return seed + number * SEED_STEP
    raise InputError(f"no needle came out visible from seed {seed}; give another --seed, or --any to take it as it is")


def tracked_sequence(made) -> TrackedSequence:
    """A simulated sequence as a recording: pixel size, a calibration, and a probe that is held still and askew."""
    count = len(made.frames)
    frames = np.stack([burned_in(frame) for frame in made.frames])
    image_to_probe = np.diag([made.mm_per_px, made.mm_per_px, made.mm_per_px, 1.0])
    image_to_probe[0, 3] = -0.5 * (frames.shape[2] - 1) * made.mm_per_px
    tilt, turn = np.deg2rad([25.0, 40.0])
    across = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    along = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    probe = np.eye(4)
    probe[:3, :3], probe[:3, 3] = along @ across, (12.0, -30.0, 45.0)
    matrix = " ".join(f"{value:.9g}" for value in image_to_probe.ravel())
    return TrackedSequence(
        frames=frames, time_s=made.time_s, transforms={"ProbeToReference": np.tile(probe, (count, 1, 1))},
        status={"ProbeToReference": ["OK"] * count}, orientation="MFA",
        fields=[{"FrameNumber": str(number), "ImageStatus": "OK"} for number in range(count)],
        header={"ImageToProbeTransform": matrix, "IRAISimulated": f"seed {made.seed}, {made.domain}"},
        spacing=(made.mm_per_px, made.mm_per_px))


def burned_in(frame: np.ndarray) -> np.ndarray:
    """A copy of (h, w) uint8 with the word SIMULATED in its lower left corner."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(frame)
    ImageDraw.Draw(picture).text((4, frame.shape[0] - 14), MARK, fill=150)
    return np.asarray(picture)


def _truth(truth, time_s: float, mm_per_px: float) -> NeedleEstimate:
    shared = {"time_s": time_s, "frame": "Image", "units": "mm", "modality": "US", "method": "simulator",
              "validated_on": TRUTH, "confidence": 1.0 if truth.present else 0.0}
    if not truth.present:
        return NeedleEstimate(NeedleStatus.ABSENT, **shared)
    direction = np.append(truth.direction, 0.0)
    shared |= {"direction": direction / np.linalg.norm(direction), "in_plane": float(truth.in_plane),
               "visible_fraction": truth.visible_fraction}
    if not (truth.in_plane and truth.tip_in_image):
        return NeedleEstimate(NeedleStatus.OUT_OF_PLANE, **shared)
    curve = np.column_stack([truth.curve_px * mm_per_px, np.zeros(len(truth.curve_px))])
    return NeedleEstimate(NeedleStatus.SEEN, tip=np.append(truth.tip_px, 0.0) * mm_per_px, curve=curve,
                          covariance=np.zeros((3, 3)), **shared)


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (".igs.mha", ".igs.nrrd", ".mha", ".nrrd"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


def run_train(arguments: argparse.Namespace) -> int:
    """Train, and write network and card. Returns the exit status."""
    from ..needle.ultrasound.training.command import train_network
    from .progress import terminal_progress

    card = train_network(arguments.out, minutes=arguments.minutes, seed=arguments.seed, samples=arguments.samples,
                         held_out=arguments.held_out, start=arguments.start, threads=arguments.threads,
                         progress=terminal_progress("training"))
    print(json.dumps(card["held_out_simulator"], indent=1))
    return 0
