"""Freehand volumes against PLUS's, slices against VTK, SciPy and SimpleITK, breathing models on simulated breaths."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "library"))

from breathing_cases import recording
from IRAILib.geometry import Grid, Volume
from IRAILib.images import read_sequence
from IRAILib.link.replay_frames import read_plus_config
from IRAILib.navigation.breathing import fit_breathing
from IRAILib.navigation.breathing_gate import gating_window, judge_gate
from IRAILib.navigation.plus_files import chained
from IRAILib.navigation.reconstruction import Reconstructor, grid_round, reconstruct, region_of
from IRAILib.navigation.reconstruction_plus import read_plus_settings
from IRAILib.navigation.reslice import reslice

CASES = {"Spine, 21 frames, holes closed": ("SpinePhantomFreehand",
                                            "PlusDeviceSet_SpinePhantomFreehandReconstructionOnly.xml"),
         "N-wires, 97 frames, clipped": ("NwirePhantomFreehand",
                                         "PlusDeviceSet_NwirePhantomFreehand_vtkVolumeReconstructorTest2.xml")}
FRAMES = 100
REPEATS = 5


def load(folder: Path, name: str, config: str):
    """(sequence, (n, 4, 4), (n,) bool, settings)."""
    sequence = read_sequence(folder / f"{name}.igs.mha")
    poses, valid = chained("ImageToReference", len(sequence), sequence.transforms,
                           {key: sequence.valid(key) for key in sequence.transforms},
                           read_plus_config(folder / "config" / config))
    return sequence, poses, valid, read_plus_settings(folder / "config" / config)


def against_plus(data: Path) -> list[str]:
    """Shares of voxels within 2 grey levels of PLUS's own volumes."""
    folder = data / "tracked_ultrasound" / "plus"
    lines = ["Within 2 grey levels of the volume that PLUS made (linear, mean). PLUS rounds its mean to whole grey "
             "levels at every pixel; `--arithmetic plus` does the same, `exact` is the mean of the pixels.", "",
             "| recording | arithmetic | all voxels | voxels that either shows | mean difference |",
             "|---|---|---|---|---|"]
    for title, (name, config) in CASES.items():
        sequence, poses, valid, settings = load(folder, name, config)
        theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{name}Reconstructed.mha"))).astype(float)
        size = sequence.frames.shape[2], sequence.frames.shape[1]
        region = settings.region(size)
        grid = grid_round(poses[valid], region_of(region, size[::-1])[0], 0.5, whole=False)
        for word, compounding in (("plus", "running_mean"), ("exact", "mean")):
            ours = reconstruct(sequence.frames, poses, valid=valid, grid=grid, compounding=compounding,
                               region_px=region, fill_holes=bool(settings.fill_holes)).volume.array.astype(float)
            close, shown = np.abs(ours - theirs) <= 2, (ours > 0) | (theirs > 0)
            lines.append(f"| {title} | {word} | {100 * close.mean():.1f} % | {100 * close[shown].mean():.1f} % | "
                         f"{(ours - theirs)[shown].mean():+.2f} |")
    return lines


def speed(data: Path) -> list[str]:
    """Seconds for 100 whole frames of 820 x 616 pixels, one thread."""
    sequence, poses, _, _ = load(data / "tracked_ultrasound" / "plus", *CASES["Spine, 21 frames, holes closed"])
    grid = grid_round(poses, (0, 0, 820, 616), 0.5)
    lines = ["", f"Seconds for {FRAMES} whole frames of 820 x 616 pixels into {' x '.join(map(str, grid.shape[::-1]))} "
             "voxels, one thread: elapsed / processor.", "",
             "| | mean | max | latest | mean as PLUS |", "|---|---|---|---|---|"]
    for interpolation in ("nearest", "linear"):
        cells = []
        for compounding in ("mean", "max", "latest", "running_mean"):
            worker = Reconstructor(grid, interpolation=interpolation, compounding=compounding)
            began, cpu = time.perf_counter(), time.process_time()
            for n in range(FRAMES):
                worker.add(sequence.frames[n % len(poses)], poses[n % len(poses)])
            cells.append(f"{time.perf_counter() - began:.1f} / {time.process_time() - cpu:.1f}")
        lines.append(f"| {interpolation} | {' | '.join(cells)} |")
    began, cpu = time.perf_counter(), time.process_time()
    worker.result()
    taken = time.perf_counter() - began
    return [*lines, "", f"Closing the holes, once: {taken:.1f} / {time.process_time() - cpu:.1f} s."]


def slices() -> list[str]:
    """Milliseconds for an oblique 512 x 512 slice of a 512 x 512 x 130 CT."""
    random = np.random.default_rng(0)
    grid = Grid((130, 512, 512), np.diag([0.8, 0.8, 2.5, 1.0]))
    volume = Volume(random.integers(-1000, 1000, grid.shape).astype(np.int16), grid)
    a, b = np.array([0.75, 0.2, 0.1]), np.array([-0.15, 0.6, 0.35])
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1] = a * 0.8 / np.linalg.norm(a), b * 0.8 / np.linalg.norm(b)
    pose[:3, 1] -= (pose[:3, 1] @ pose[:3, 0]) / 0.64 * pose[:3, 0]
    pose[:3, 1] *= 0.8 / np.linalg.norm(pose[:3, 1])
    pose[:3, 2] = np.cross(pose[:3, 0], pose[:3, 1]) / 0.64
    pose[:3, 3] = grid.centre_ras - pose[:3, :2] @ (256, 256)
    ways = {"IRAI": lambda: reslice(volume, pose, (512, 512)), "VTK vtkImageReslice": by_vtk(volume, pose),
            "SimpleITK Resample": by_sitk(volume, pose), "SciPy map_coordinates": by_scipy(volume, pose)}
    lines = ["", "An oblique 512 x 512 slice of a 512 x 512 x 130 CT (int16 noise), linear, one thread, processor "
             f"time, best of {REPEATS}.", "", "| | ms | largest difference from SimpleITK |", "|---|---|---|"]
    images, best = {}, {}
    for name, make in ways.items():
        taken = []
        for _ in range(REPEATS):
            began = time.process_time()
            images[name] = make()
            taken.append(time.process_time() - began)
        best[name] = 1000 * min(taken)
    truth = images["SimpleITK Resample"]
    for name, image in images.items():
        both = np.isfinite(image) & (image > -4000) & (truth > -4000)
        lines.append(f"| {name} | {best[name]:.1f} | {np.abs(image - truth)[both].max():.3f} |")
    return lines


def by_vtk(volume: Volume, pose: np.ndarray):
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    image = vtk.vtkImageData()
    image.SetDimensions(*volume.array.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(volume.array.ravel()))
    matrix, axes = volume.grid.ijk_from_ras @ pose, vtk.vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            axes.SetElement(row, column, matrix[row, column])
    filter_ = vtk.vtkImageReslice()
    filter_.SetInputData(image)
    filter_.SetInterpolationModeToLinear()
    filter_.SetNumberOfThreads(1)
    filter_.SetResliceAxes(axes)
    filter_.SetOutputExtent(0, 511, 0, 511, 0, 0)
    filter_.SetOutputOrigin(0, 0, 0)
    filter_.SetOutputSpacing(1, 1, 1)
    filter_.SetBackgroundLevel(-5000)
    filter_.SetBorder(False)
    filter_.SetOutputScalarType(vtk.VTK_FLOAT)

    def make() -> np.ndarray:
        filter_.Modified()
        filter_.Update()
        return vtk_to_numpy(filter_.GetOutput().GetPointData().GetScalars()).reshape(512, 512).copy()

    return make


def by_sitk(volume: Volume, pose: np.ndarray):
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(volume.spacing_mm.tolist())
    spacing = np.linalg.norm(pose[:3, :3], axis=0)
    filter_ = sitk.ResampleImageFilter()
    filter_.SetSize([512, 512, 1])
    filter_.SetOutputOrigin(pose[:3, 3].tolist())
    filter_.SetOutputSpacing(spacing.tolist())
    filter_.SetOutputDirection((pose[:3, :3] / spacing).ravel().tolist())
    filter_.SetOutputPixelType(sitk.sitkFloat32)
    filter_.SetDefaultPixelValue(-5000)
    filter_.SetInterpolator(sitk.sitkLinear)
    filter_.SetNumberOfThreads(1)
    return lambda: sitk.GetArrayFromImage(filter_.Execute(image))[0]


def by_scipy(volume: Volume, pose: np.ndarray):
    from scipy import ndimage

    x, y = np.meshgrid(np.arange(512.0), np.arange(512.0))
    matrix = volume.grid.ijk_from_ras @ pose

    def make() -> np.ndarray:
        places = [matrix[axis, 0] * x + matrix[axis, 1] * y + matrix[axis, 3] for axis in (2, 1, 0)]
        return ndimage.map_coordinates(volume.array, places, order=1, cval=-5000, output=np.float32)

    return make


def breathing() -> list[str]:
    """Models trained on 24 simulated breaths and judged on 24 others; mean of five pairs."""
    lines = ["", "Breathing, simulated (cos^4 breaths of 3.2 to 4.8 s, depth +/- 15 %, two points moving 12 and 8 mm "
             "on a loop of 2 mm; a bent, noisy belt that drifts by 5 % of a breath a minute), trained on 24 breaths, "
             "judged on 24 others, five times. No patient.", "",
             "| latency s | motion rms mm | error rms mm | stated sigma mm | not predicted (out of range) | "
             "gate for 2 mm: duty | gate: p95 left mm | without gate |", "|---|---|---|---|---|---|---|---|"]
    for latency in (0.0, 0.2, 0.4):
        rows = np.array([_breaths(latency, seed) for seed in range(5)]).mean(axis=0)
        lines.append(f"| {latency:g} | {rows[0]:.1f} | {rows[1]:.2f} | {rows[2]:.2f} | {100 * rows[3]:.0f} % | "
                     f"{100 * rows[4]:.0f} % | {rows[5]:.1f} | {rows[6]:.1f} |")
    return lines


def _breaths(latency: float, seed: int) -> tuple[float, ...]:
    times, belt, motion = recording(seed=10 + seed)
    model = fit_breathing(times, belt, times, motion, latency_s=latency)
    window = gating_window(times, belt, times, motion[:, 0], latency_s=latency)
    times, belt, motion = recording(seed=50 + seed, drift=0.1)
    at = times[100:-20:4]
    found = [model.predict(times, belt, t) for t in at]
    truth = np.stack([np.interp(at + latency, times, motion[:, p, a]) for p in range(2) for a in range(3)], axis=1)
    valid = np.array([p.valid for p in found])
    guess = np.array([p.displacement_mm for p in found if p.displacement_mm is not None]).reshape(-1, 6)
    sigma = np.array([p.sigma_mm for p in found if p.sigma_mm is not None])

    def rms(values: np.ndarray) -> float:
        return float(np.sqrt((values.reshape(-1, 3) ** 2).sum(axis=1).mean()))

    judged = judge_gate(window, times, belt, times, motion[:, 0])
    return (rms(truth[valid] - truth[valid].mean(axis=0)), rms(guess - truth[valid]), float(np.sqrt((sigma**2).mean())),
            1 - valid.mean(), judged["duty_cycle"], judged["residual_p95_mm"], judged["ungated_p95_mm"])


def run(data: Path) -> list[str]:
    """The section's lines."""
    return [*against_plus(data), *speed(data), *slices(), *breathing()]


if __name__ == "__main__":
    from run import data_folder

    print("\n".join(run(data_folder())))
