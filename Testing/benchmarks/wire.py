"""Catheter and guide-wire in fluoroscopy: network and classical tracer on simulation, a second painter, real film."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "library"))

from fluoroscopy_cases import clutter, painted, random_course
from IRAILib.fluoroscopy.catheter import find_catheter
from IRAILib.fluoroscopy.wire_ground import random_grounds
from IRAILib.fluoroscopy.wire_network import WEIGHTS, WireNetwork, find_wire
from IRAILib.fluoroscopy.wire_simulator import DEVICES, simulate_wire
from IRAILib.fluoroscopy.wire_train import HELD_OUT_PART, sample_ct
from IRAILib.geometry import NeedleEstimate
from IRAILib.images import read_volume

SEED = 4242
HIT_PX = 15.0
CINE = "angiography/XA_multiframe_coronary_96fr_HasFragmentSequence.dcm"
BARE = (190, 450, 50, 320)
"""Rows and columns of the cine without any device; filled coronaries from frame 25 on."""
REAL_TIPS = {0: (176.0, 142.9), 3: (181.2, 152.7), 6: (194.4, 155.4), 10: (199.7, 155.1)}
"""Column and row of the catheter's tip in the cine, marked by eye on an enlargement (about 1.5 px)."""
OTHER_CT = "registration/elastix_3DCT_lung/3DCT_lung_baseline.mha"
BARE_FERCER = (7, 8, 13, 16, 18, 19, 23, 25, 26, 27, 28, 29, 33, 35, 37, 38)
"""Angiograms in which no catheter is seen by eye: filled vessels only."""
CATHETERS = {
    2: ((251, 5), (261, 60), (262, 150), (256, 172)), 11: ((94, 20), (94, 80), (93, 140)),
    12: ((12, 88), (30, 120), (55, 145), (80, 152)), 35: ((301, 5), (280, 82), (266, 115)),
    42: ((46, 5), (43, 60), (70, 114), (134, 126), (165, 103)), 46: ((8, 190), (33, 139), (52, 92)),
    49: ((77, 20), (79, 70), (81, 113)), 53: ((31, 6), (48, 50), (66, 98)), 107: ((5, 138), (46, 163), (90, 156)),
    111: ((239, 5), (238, 50), (238, 85)), 112: ((12, 182), (50, 205), (95, 199)), 114: ((58, 8), (75, 55), (90, 97)),
    115: ((20, 15), (42, 100), (60, 190), (82, 214), (106, 205)), 119: ((30, 266), (90, 171), (120, 112)),
    120: ((25, 100), (86, 98), (115, 82)), 127: ((327, 10), (305, 85), (285, 165)),
    133: ((16, 62), (40, 118), (60, 142)), 148: ((5, 92), (34, 137), (80, 173)),
    154: ((15, 238), (59, 257), (128, 263), (170, 248)),
    173: ((59, 8), (60, 60), (85, 86)), 183: ((8, 20), (29, 54), (88, 120)), 190: ((232, 10), (228, 60), (223, 105)),
    196: ((79, 10), (102, 94), (125, 155))}
"""ARCADE pictures: places (column, row) along the catheter up to where the filled vessel begins, read by eye off a grid
(about 6 px); the last is near its tip, which contrast hides."""
NEAR_PX = 9.0

Finder = Callable[[np.ndarray], NeedleEstimate]


def finders() -> dict[str, Finder]:
    network = WireNetwork(threads=2)
    return {"network": lambda frames: find_wire(frames, network=network), "line tracing": find_catheter}


def row(name: str, cases: list[tuple[np.ndarray, np.ndarray]], find: Finder) -> str:
    """Cases of frames and course (n, 2); a tip within HIT_PX counts as found, elsewhere as wrong."""
    gaps, lines, wrong = [], [], 0
    for frames, course in cases:
        found = find(frames)
        if found.tip is None or found.curve is None:
            continue
        gap = float(np.linalg.norm(found.tip[:2] - course[-1]))
        if gap >= HIT_PX:
            wrong += 1
            continue
        gaps.append(gap)
        lines.append(np.median(np.linalg.norm(found.curve[:, None, :2] - course[None, ::2], axis=2).min(axis=1)))
    if not gaps:
        return f"| {name} | 0 of {len(cases)} | {wrong} | - | - |"
    tip = " / ".join(f"{value:.1f}" for value in np.percentile(gaps, [50, 95]))
    return f"| {name} | {len(gaps)} of {len(cases)} | {wrong} | {tip} | {np.median(lines):.2f} |"


def simulated(ct, part: tuple[float, float], count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Stacks of 512 x 512 with a device that can be seen (depth over the noise of a pixel at least 1)."""
    grounds = random_grounds(ct, 6, seed=seed, part=part)
    cases, number = [], 0
    while len(cases) < count:
        rng = np.random.default_rng([seed, number])
        sample = simulate_wire(grounds[number % 6], rng, device=DEVICES[number % 3])
        number += 1
        if sample.contrast >= 1.0:
            cases.append((sample.frames, sample.course))
    return cases


def painters(data: Path, count: int) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """The painter of the tests, which shares no code with the simulator, on made-up clutter and on real film."""
    low, high, left, right = BARE
    film = [frame[low:high, left:right].astype(float) * 12.0 for frame in cine(data)[:8]]
    out = {}
    for name, ground in (("painter of the tests, clutter", lambda n: clutter(seed=n)),
                         ("painter of the tests, real cine", lambda n: film[n % len(film)])):
        for dose in (1.0, 0.1):
            rng = np.random.default_rng(SEED)
            cases = []
            for n in range(count):
                photons = ground(n)
                course = random_course(photons.shape, rng)
                frame = painted(photons, course, width_px=rng.uniform(2.5, 7.0), depth=rng.uniform(0.2, 0.5),
                                dose=dose, rng=rng)
                cases.append((frame[None], course))
            out[f"{name}, dose {dose:g}"] = cases
    return out


def cine(data: Path) -> np.ndarray:
    """(t, h, w) grey values."""
    import pydicom

    return pydicom.dcmread(data / CINE).pixel_array


def picture(path: Path) -> np.ndarray:
    from PIL import Image

    return np.array(Image.open(path).convert("L"))[None]


def real(data: Path) -> list[str]:
    """Tips of the cine; catheters of ARCADE followed up to the vessel."""
    film, lines = cine(data), ["", "| real film | network | line tracing |", "|---|---|---|"]
    tips, followed = [], []
    for find in finders().values():
        gaps = []
        for n, tip in REAL_TIPS.items():
            found = find(film[max(0, n - 3):n + 1])
            gaps.append(np.inf if found.tip is None else float(np.linalg.norm(found.tip[:2] - tip)))
        tips.append(", ".join("none" if not np.isfinite(gap) else f"{gap:.1f}" for gap in gaps))
        along = near = seen = 0
        for number, marks in CATHETERS.items():
            found = find(picture(data / f"angiography/arcade_stenosis/image/{number}.png"))
            if found.curve is None or found.tip is None:
                continue
            seen += 1
            part = np.linspace(0, len(marks) - 1, 12 * len(marks))
            places = np.stack([np.interp(part, np.arange(len(marks)), [m[a] for m in marks]) for a in (0, 1)], axis=1)
            gap = np.linalg.norm(places[:, None] - found.curve[None, :, :2], axis=2).min(axis=1)
            along += bool((gap < NEAR_PX).mean() > 0.7)
            near += bool(np.linalg.norm(found.tip[:2] - marks[-1]) < 40.0 and (gap < NEAR_PX).mean() > 0.7)
        followed.append(f"{seen} reported, {along} along the catheter, {near} ending within 40 px of the vessel's "
                        f"beginning, of {len(CATHETERS)}")
    lines.append(f"| cine, tip of frames 0, 3, 6, 10: error px | {tips[0]} | {tips[1]} |")
    lines.append(f"| ARCADE, single angiograms full of contrast | {followed[0]} | {followed[1]} |")
    return lines


def false_alarms(data: Path) -> list[str]:
    """Frames without any device."""
    low, high, left, right = BARE
    film = cine(data)[:, low:high, left:right]
    sets: dict[str, list[np.ndarray]] = {}
    for name, ct, part in (("bare views of the sample CT's abdomen", sample_ct(), HELD_OUT_PART),
                           ("bare views of another patient's chest", read_volume(data / OTHER_CT), (0.3, 0.7))):
        grounds = random_grounds(ct, 6, seed=SEED + 1, part=part)
        sets[name + ", leads, clips"] = [simulate_wire(grounds[n % 6], np.random.default_rng([SEED, 1, n]), device="",
                                                       vessels=False).frames for n in range(24)]
        sets[name + ", filled vessels"] = [simulate_wire(grounds[n % 6], np.random.default_rng([SEED, 2, n]), device="",
                                                         vessels=True).frames for n in range(24)]
    sets["real cine, part without a device, before contrast"] = [film[n:n + 4] for n in range(0, 16, 2)]
    sets["real cine, part without a device, filled coronary"] = [film[n:n + 4] for n in range(30, 92, 4)]
    sets["fercer angiograms without a catheter in view"] = [
        picture(data / f"angiography/fercer_xca_vessels/{n}.png") for n in BARE_FERCER]
    sets["clutter of the tests, two doses"] = [np.random.default_rng(n).poisson(ndimage.gaussian_filter(
        clutter(seed=n), 0.9) * (1.0, 0.1)[n % 2])[None] for n in range(16)]
    both = finders()
    lines = ["", "| frames without a device | frames | network: false alarms | line tracing: false alarms |",
             "|---|---|---|---|"]
    for name, frames in sets.items():
        counts = [sum(find(stack).found for stack in frames) for find in both.values()]
        lines.append(f"| {name} | {len(frames)} | {counts[0]} | {counts[1]} |")
        print(lines[-1], flush=True)
    return lines


def speed(count: int = 40) -> list[str]:
    """Frames of 512 x 512, each new one with the three before it, alone, onnxruntime with two threads."""
    grounds = random_grounds(sample_ct(), 1, seed=SEED, part=HELD_OUT_PART)
    film = np.concatenate([simulate_wire(grounds[0], np.random.default_rng([SEED, 3, n]), device="catheter").frames
                           for n in range(8)])
    out = []
    for name, find in finders().items():
        seconds = []
        for n in range(4, 4 + (count if name == "network" else 6)):
            stack = film[n % 28:n % 28 + 4]
            began = time.perf_counter()
            find(stack)
            seconds.append(time.perf_counter() - began)
        out.append(f"{name}: {1e3 * np.median(seconds):.0f} ms a frame, slowest twentieth "
                   f"{1e3 * np.percentile(seconds, 95):.0f} ms ({1.0 / np.median(seconds):.1f} frames/s)")
    return ["", "512 x 512, two threads. " + "; ".join(out) + "."]


def run(data: Path, count: int = 36) -> list[str]:
    """The section's lines."""
    if not WEIGHTS.is_file():
        return [f"{WEIGHTS.name} isn't there: train it with `python -m IRAILib.fluoroscopy.wire_train`."]
    sets = {"simulated, sample CT's abdomen (trained on its chest)": simulated(sample_ct(), HELD_OUT_PART, count, SEED),
            "simulated, another patient's chest": simulated(read_volume(data / OTHER_CT), (0.3, 0.7), count, SEED + 9),
            **painters(data, count // 2)}
    lines = [f"A tip within {HIT_PX:g} px counts as found, elsewhere as wrong. Axis: median distance of the found "
             "course from the true one. Fresh seeds; 'simulated' is the simulator that trained "
             "the network, the painter of the tests shares no code with it.", "",
             "| frames | finder: found | wrong | tip px, median / P95 | axis px |", "|---|---|---|---|---|"]
    for name, cases in sets.items():
        for who, find in finders().items():
            lines.append(row(f"{name}: {who}", cases, find))
            print(lines[-1], flush=True)
    return [*lines, *real(data), *false_alarms(data), *speed()]


if __name__ == "__main__":
    from run import data_folder

    print("\n".join(run(data_folder())))
