"""DSA of the real coronary run beside SimpleITK and OpenCV or scikit-image, and the time of a frame."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "library"))

from dsa_cases import CINE, JUDGED, UNSEEN, contrast_to_noise, energy, lit, tree_to_paint, vessel_region
from IRAILib.fluoroscopy.dsa import CHOICES, Subtraction, bare_frames, lit_region
from IRAILib.fluoroscopy.dsa_motion import sample
from IRAILib.images.xa import read_xa

SLOW = (25, 45, 65, 85)
"""Frames for peers that take seconds each."""


def demons(mask: np.ndarray, live: np.ndarray) -> np.ndarray:
    """(2, rows, columns) by SimpleITK's fast symmetric-forces demons, four levels."""
    import SimpleITK as sitk

    field = None
    for shrink in (8, 4, 2, 1):
        fixed, moving = (sitk.GetImageFromArray(ndimage.zoom(ndimage.gaussian_filter(f, shrink / 2), 1 / shrink,
                                                             order=1)) for f in (live, mask))
        demon = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        demon.SetNumberOfIterations(25)
        demon.SetStandardDeviations(2.0)
        if field is not None:
            scale = fixed.GetSize()[0] / field.shape[2]
            field = np.stack([ndimage.zoom(f, (fixed.GetSize()[1] / f.shape[0], fixed.GetSize()[0] / f.shape[1]),
                                           order=1) * scale for f in field])
            start = sitk.GetImageFromArray(np.moveaxis(field[::-1], 0, -1).astype(float), isVector=True)
            start.CopyInformation(fixed)
            found = demon.Execute(fixed, moving, start)
        else:
            found = demon.Execute(fixed, moving)
        field = np.moveaxis(sitk.GetArrayFromImage(found), -1, 0)[::-1]
    return np.asarray(field, np.float32)


def bspline(mask: np.ndarray, live: np.ndarray) -> np.ndarray:
    """(2, rows, columns) by SimpleITK: B-spline of 16 x 16 cells, mean squares, three levels."""
    import SimpleITK as sitk

    fixed, moving = (sitk.GetImageFromArray(f.astype(np.float32)) for f in (live, mask))
    method = sitk.ImageRegistrationMethod()
    method.SetInitialTransform(sitk.BSplineTransformInitializer(fixed, [16, 16], 3), inPlace=True)
    method.SetMetricAsMeanSquares()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsLBFGSB(gradientConvergenceTolerance=1e-6, numberOfIterations=40)
    method.SetShrinkFactorsPerLevel([8, 4, 2])
    method.SetSmoothingSigmasPerLevel([4, 2, 1])
    found = method.Execute(fixed, moving)
    to_field = sitk.TransformToDisplacementFieldFilter()
    to_field.SetReferenceImage(fixed)
    return np.moveaxis(sitk.GetArrayFromImage(to_field.Execute(found)), -1, 0)[::-1].astype(np.float32)


def flow(mask: np.ndarray, live: np.ndarray) -> np.ndarray:
    """(2, rows, columns) by scikit-image's iterative Lucas-Kanade."""
    from skimage.registration import optical_flow_ilk

    return np.asarray(optical_flow_ilk(live, mask, radius=15), np.float32)


def quality(data: Path) -> list[str]:
    """Artefact energy outside vessels against plain subtraction, and contrast to noise in them."""
    run = read_xa(data / CINE)
    logs, inside, judged = run.log_frames(), lit_region(run.frames), lit(run.frames)
    bare = bare_frames(logs, inside, run.time_s)
    workers = {"plain": Subtraction(logs[bare[-1:]], inside, "plain"),
               **{m: Subtraction(logs[bare[-CHOICES:]], inside, m) for m in ("shift", "motion")}}
    peers = {"SimpleITK demons": demons, "SimpleITK B-spline": bspline}
    if find_spec("skimage"):
        peers["scikit-image optical flow (ILK)"] = flow
    filled = workers["plain"].masks[0].filled
    mask = filled(logs[bare[-1]])
    rows: dict[str, list[tuple[int, float, float, float]]] = {}
    for n in JUDGED:
        outside = judged & ~vessel_region(logs[n], judged)
        plain = workers["plain"].subtract(logs[n])[0]
        core = vessel_region(logs[n], judged, grow=0) & (plain < -0.15)
        base, depth = energy(plain, outside), contrast_to_noise(plain, core, outside)
        for name, work in {**workers, **(peers if n in SLOW else {})}.items():
            began = time.process_time()
            if isinstance(work, Subtraction):
                picture = work.subtract(logs[n])[0]
            else:
                live = filled(logs[n])
                picture = live - sample(mask, work(mask, live))
            seconds = time.process_time() - began
            rows.setdefault(name, []).append((n, energy(picture, outside) / base,
                                              contrast_to_noise(picture, core, outside) / depth, seconds))
    lines = [f"Coronary run of 96 frames, 512x512, masks from frames {bare[0]} to {bare[-1]}. Energy outside vessels "
             "and contrast to noise inside, both against plain subtraction of the last bare frame; 'outside' lies "
             "8 px or more from any dark ridge (Sato) of the contrast frame itself. The method's constants were chosen "
             "on frames 20, 30 ... 90 of this run; 'unseen' are 25, 35 ... 95. Time: the processor's, one thread.", "",
             "| method | frames | artefact energy, mean (worst) | on unseen frames | contrast to noise | ms a frame |",
             "|---|---|---|---|---|---|"]
    for name, values in rows.items():
        numbers, ratio, kept, seconds = (np.array(v) for v in zip(*values, strict=True))
        unseen = ratio[np.isin(numbers, UNSEEN)].mean()
        lines.append(f"| {name} | {len(numbers)} | {ratio.mean():.2f} ({ratio.max():.2f}) | {unseen:.2f} | "
                     f"{kept.mean():.2f} | {1000 * np.median(seconds):.0f} |")
    return lines


def painted(data: Path) -> list[str]:
    """A vessel tree painted into real bare frames: how much of its signal stays."""
    run = read_xa(data / CINE)
    logs, inside = run.log_frames(), lit_region(run.frames)
    bare = bare_frames(logs, inside, run.time_s)
    plain = Subtraction(logs[bare[-1:]], inside, "plain")
    pictures = zip(("coronary tree", "tree and a broad patch (diaphragm)"), tree_to_paint(plain.subtract(logs[60])[0]),
                   strict=True)
    lines = ["", "| painted into bare frames | method | signal kept | error in it, RMS share |", "|---|---|---|---|"]
    for what, tree in pictures:
        core = tree < -0.2
        for name in ("shift", "motion"):
            worker = Subtraction(logs[bare[-1:]], inside, name)
            kept, error = [], []
            for n in bare[:-3]:
                signal = (worker.subtract(logs[n] + tree)[0] - worker.subtract(logs[n])[0])[core]
                kept.append(float((signal * tree[core]).sum() / np.square(tree[core]).sum()))
                error.append(float(np.sqrt(np.mean((signal - tree[core]) ** 2) / np.mean(tree[core] ** 2))))
            lines.append(f"| {what} | {name} | {np.mean(kept):.3f} ({min(kept):.3f} to {max(kept):.3f}) | "
                         f"{np.mean(error):.3f} |")
    return lines


def run(data: Path) -> list[str]:
    """The section's lines."""
    return [*quality(data), *painted(data)]


if __name__ == "__main__":
    from run import data_folder

    print("\n".join(run(data_folder())))
