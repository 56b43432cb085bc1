"""Registration measured on data of others and on a generated leak, beside the peers that are installed.

`python Testing/benchmarks/registration.py [DATA]` prints markdown; `run(data_folder)` returns its lines. Every
registration runs in a process of its own, so that its memory and time are its own.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Testing" / "library"))
LUNG = "registration/elastix_3DCT_lung/3DCT_lung_{}"
LIVER_MR = "registration/CMB-CRC-MSB-06489_MR_ADC_longitudinal/SCAN_00{}_ADC.nrrd"
JOB_LIMIT_S = 240.0
PEERS = {"greedy": "picsl_greedy", "elastix": "itk"}


def run(data_folder: Path) -> list[str]:
    """Markdown lines: landmarks of the lung pair, the leak study, liver MR, and a pair of 512x512x130."""
    engines = ["convex", "bspline", *[name for name, package in PEERS.items() if importlib.util.find_spec(package)]]
    absent = [name for name, package in PEERS.items() if not importlib.util.find_spec(package)]
    lines = ["## Registration", "", "### Lung CT, ten landmarks (34.9 mm apart at the start)", "",
             "| method | mean TRE mm | worst mm | organ Dice | folding % | time s | peak memory GB |",
             "|---|---|---|---|---|---|---|"]
    lines += [_lung_row(engine, data_folder) for engine in ["rigid", *engines]]
    lines += ["", "### Leak: the same generated case with and without exclusion", "",
              "| engine | excluded | tumour volume change % | zone error mm | verdict |", "|---|---|---|---|---|"]
    for engine in engines:
        lines += [_leak_row(engine, respected) for respected in (True, False)]
    lines += ["", "### Liver MR (ADC), 126 days apart, body mask by threshold", "", *_liver_mr(data_folder)]
    lines += ["", "### A pair of 512x512x130 voxels", "", _large_row()]
    if absent:
        lines += ["", f"Not installed here, so not measured: {', '.join(absent)}."]
    return lines


def measured(job: str, *arguments: str) -> dict:
    """Run `job` of this file in a fresh process; its result with `seconds` and `peak_gb`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        try:
            done = subprocess.run([sys.executable, __file__, "--job", job, str(out), *arguments], capture_output=True,
                                  text=True, check=False, timeout=JOB_LIMIT_S)
        except subprocess.TimeoutExpired:
            return {"failed": f"no result within {JOB_LIMIT_S:.0f} s"}
        if not out.exists():
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            return {"failed": last[:120]}
        return json.loads(out.read_text())


def _lung_row(engine: str, data: Path) -> str:
    found = measured("lung", engine, str(data))
    if "failed" in found:
        return f"| {engine} | failed: {found['failed']} | | | | | |"
    return (f"| {engine} | {found['mean']:.2f} | {found['worst']:.2f} | {found['dice']:.3f} | {found['folding']:.3f} | "
            f"{found['seconds']:.0f} | {found['peak_gb']:.1f} |")


def job_lung(engine: str, data: str) -> dict:
    from IRAILib.images import read_mask, read_volume
    from IRAILib.registration import RegistrationOptions, register

    path = str(Path(data) / LUNG)
    fixed, moving = (read_volume(path.format(f"{side}.mha")) for side in ("baseline", "followup"))
    masks = {name: read_mask(path.format(f"{side}_mask.mha"))
             for name, side in (("fixed_organ", "baseline"), ("moving_organ", "followup"))}
    a, b = (volume.grid.points_ras(np.loadtxt(path.format(f"{side}.txt"), skiprows=2)[:, ::-1])
            for volume, side in ((fixed, "baseline"), (moving, "followup")))
    options = RegistrationOptions(model="rigid") if engine == "rigid" else RegistrationOptions(engine=engine)
    result = register(fixed, moving, options=options, **masks)
    errors = np.linalg.norm(result.moving_from_fixed.apply(a) - b, axis=1)
    return {"mean": float(errors.mean()), "worst": float(errors.max()), "dice": result.quality.organ_dice,
            "folding": result.quality.folding_percent, "refused": result.refused, "seconds": result.seconds}


def _leak_row(engine: str, respected: bool) -> str:
    found = measured("leak", engine, str(int(respected)))
    if "failed" in found:
        return f"| {engine} | {'both' if respected else 'nothing'} | failed: {found['failed']} | | |"
    change = "unreadable" if found["change"] is None else f"{found['change']:+.0f}"
    return (f"| {engine} | {'both zones' if respected else 'nothing'} | {change} | {found['error']:.2f} | "
            f"{'refused' if found['refused'] else 'accepted'} |")


def job_leak(engine: str, respected: str) -> dict:
    from IRAILib.registration import RegistrationOptions, register
    from registration_cases import make_case

    case, keep = make_case(), bool(int(respected))
    options = RegistrationOptions(engine=engine, respect_exclusion=keep, local_model=keep)
    result = register(case.fixed, case.moving, options=options, **case.masks())
    points = case.zone.grid.points_ras(np.argwhere(case.zone.array)[::5])
    error = result.moving_from_fixed.apply(points) - case.moving_from_fixed(points)
    return {"change": result.quality.tumor_volume_change_percent, "refused": result.refused,
            "error": float(np.sqrt((error**2).sum(1).mean()))}


def _liver_mr(data: Path) -> list[str]:
    found = measured("liver_mr", str(data))
    if "failed" in found:
        return [f"failed: {found['failed']}"]
    return ["| | before | rigid | deformable |", "|---|---|---|---|",
            f"| body Dice | {found['before']:.3f} | {found['rigid']:.3f} | {found['deformable']:.3f} |", "",
            f"Folding {found['folding']:.3f} % of the body, smallest Jacobian {found['jacobian']:.2f}, inverse "
            f"consistency {found['consistency']:.2f} mm (median), {found['seconds']:.0f} s; "
            f"verdict: {found['refused'] or 'accepted'}. No expert mask exists for this pair."]


def job_liver_mr(data: str) -> dict:
    from IRAILib.geometry import Mask
    from IRAILib.images import read_volume
    from IRAILib.registration import register
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    scans = [read_volume(str(Path(data) / LIVER_MR.format(n))) for n in (1, 2)]
    bodies = []
    for scan in scans:
        soft = ndimage.gaussian_filter(scan.array.astype(np.float32), [0.5, 2.0, 2.0])
        labels, _ = ndimage.label(soft > 0.5 * threshold_otsu(soft))
        body = labels == np.bincount(labels.ravel())[1:].argmax() + 1
        bodies.append(Mask(np.stack([ndimage.binary_fill_holes(slice_) for slice_ in body]), scan.grid, "body"))
    result = register(scans[0], scans[1], fixed_organ=bodies[0], moving_organ=bodies[1])
    q = result.quality
    return {"before": q.organ_dice_before, "rigid": q.organ_dice_rigid, "deformable": q.organ_dice,
            "folding": q.folding_percent, "jacobian": q.jacobian_min, "consistency": q.inverse_consistency_mm,
            "refused": result.refused, "seconds": result.seconds}


def _large_row() -> str:
    found = measured("large")
    if "failed" in found:
        return f"failed: {found['failed']}"
    return (f"Default engine, deformable, with organ and zone masks: {found['seconds']:.0f} s, peak memory "
            f"{found['peak_gb']:.1f} GB, zone error {found['error']:.2f} mm (limits: 60 s, 4 GB on two free cores).")


def job_large() -> dict:
    from IRAILib.geometry import Mask, Volume, resample, resample_mask
    from IRAILib.geometry.volume import Grid
    from IRAILib.registration import register
    from registration_cases import make_case

    case = make_case()
    big = []
    for image, organ, zone in ((case.fixed, case.fixed_organ, case.zone), (case.moving, case.moving_organ, case.tumor)):
        matrix = image.ras_from_ijk.copy()
        matrix[:3, :3] = image.grid.directions * [0.8, 0.8, 2.0]
        middle = np.array([511.0, 511.0, 129.0]) / 2.0
        matrix[:3, 3] = image.grid.centre_ras - matrix[:3, :3] @ middle
        grid = Grid((130, 512, 512), matrix)
        array = resample(image, grid, outside=-1000.0).array
        big.append((Volume(array.astype(np.int16), grid, "scan"), *(
            Mask(resample_mask(mask, grid).array, grid, mask.name) for mask in (organ, zone))))
    (fixed, fixed_organ, zone), (moving, moving_organ, tumor) = big
    began = time.monotonic()
    result = register(fixed, moving, fixed_organ=fixed_organ, moving_organ=moving_organ, exclude_fixed=zone,
                      exclude_moving=tumor)
    points = case.zone.grid.points_ras(np.argwhere(case.zone.array)[::5])
    error = result.moving_from_fixed.apply(points) - case.moving_from_fixed(points)
    return {"seconds": time.monotonic() - began, "error": float(np.sqrt((error**2).sum(1).mean()))}


def _serve(job: str, out: Path, arguments: list[str]) -> None:
    began = time.monotonic()
    found = {"seconds": 0.0, **globals()[f"job_{job}"](*arguments)}
    found["seconds"] = found["seconds"] or time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    out.write_text(json.dumps({**found, "peak_gb": peak / (1e9 if sys.platform == "darwin" else 1e6)}))


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] == "--job":
        _serve(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    else:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "data"
        print("\n".join(run(folder)))
