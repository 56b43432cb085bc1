"""Radiomics: time of a whole extraction beside flash-radiomics and mirp, what they agree on, memory, a huge region."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "IRAIExtension"), str(HERE.parent / "peers")]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
REPEATS = 5
WIDTH = 25.0
DISTANCE_ZONES = (
    "SmallDistanceEmphasis sde", "LargeDistanceEmphasis lde", "LowGrayLevelZoneEmphasis lgze",
    "HighGrayLevelZoneEmphasis hgze", "SmallDistanceLowGrayLevelEmphasis sdlge",
    "SmallDistanceHighGrayLevelEmphasis sdhge", "LargeDistanceLowGrayLevelEmphasis ldlge",
    "LargeDistanceHighGrayLevelEmphasis ldhge", "GrayLevelNonUniformity glnu",
    "GrayLevelNonUniformityNormalized glnu_norm", "ZoneDistanceNonUniformity zdnu",
    "ZoneDistanceNonUniformityNormalized zdnu_norm", "ZonePercentage z_perc", "GrayLevelVariance gl_var",
    "ZoneDistanceVariance zd_var", "ZoneDistanceEntropy zd_entr")
HISTOGRAM = (
    "Mean mean", "Variance var", "Skewness skew", "Kurtosis kurt", "Median median", "Minimum min", "10Percentile p10",
    "90Percentile p90", "Maximum max", "Mode mode", "InterquartileRange iqr", "Range range",
    "MeanAbsoluteDeviation mad", "RobustMeanAbsoluteDeviation rmad", "MedianAbsoluteDeviation medad",
    "CoefficientOfVariation cov", "QuartileCoefficientOfDispersion qcod", "Entropy entropy", "Uniformity uniformity",
    "MaximumHistogramGradient max_grad", "MaximumHistogramGradientIntensity max_grad_g",
    "MinimumHistogramGradient min_grad", "MinimumHistogramGradientIntensity min_grad_g")
LESION, HUGE = 14_335, 2_000_000


def lesion(n_voxels: int):
    """(Volume, Mask): the n voxels nearest to the centre of a wavy ball, 1 mm; textured intensities about 60 +- 40."""
    import numpy as np
    from IRAILib.geometry import Grid, Mask, Volume
    from scipy.ndimage import gaussian_filter

    side = math.ceil((n_voxels * 6 / math.pi) ** (1 / 3) * 1.25) + 12
    k, j, i = np.meshgrid(*[np.arange(side, dtype=np.float32) - (side - 1) / 2] * 3, indexing="ij", sparse=True)
    away = np.sqrt(k * k + j * j + i * i) * (1 + 0.15 * np.sin(k / 4) * np.cos(j / 5))
    mask = np.zeros(side**3, bool)
    mask[np.argsort(away.ravel(), kind="stable")[:n_voxels]] = True
    rng = np.random.default_rng(2026)
    smooth = gaussian_filter(rng.standard_normal((side,) * 3, dtype=np.float32), 1.5)
    values = 60 + 40 * smooth / smooth.std() + 10 * rng.standard_normal((side,) * 3, dtype=np.float32)
    grid = Grid((side,) * 3, np.eye(4))
    return Volume(np.round(values).astype(np.int16), grid), Mask(mask.reshape((side,) * 3), grid)


def brain(data: Path):
    """pyradiomics' case brain1, 4137 voxels of 0.78 x 0.78 x 6.5 mm."""
    from IRAILib.images import read_mask, read_volume

    folder = data / "radiomics" / "pyradiomics"
    return read_volume(folder / "brain1_image.nrrd"), read_mask(folder / "brain1_label.nrrd", label=1)


def start_of(volume, mask) -> float:
    """Where pyradiomics' bins start: a multiple of the width."""
    return math.floor(float(volume.array[mask.array].min()) / WIDTH) * WIDTH


def ours(volume, mask, ways: tuple[str, ...]):
    """What to time; bins of one width, started as pyradiomics starts them."""
    from IRAILib.biopsy.radiomics import Settings, extract

    settings = Settings(discretisation=("fbs", WIDTH, start_of(volume, mask)), aggregations=ways)
    return lambda: extract(volume, mask, settings).values()


def flash(volume, mask):
    """flash-radiomics with everything it has for one region; it always writes an HDF5 file, here into a folder that
    goes away."""
    import numpy as np
    import SimpleITK as sitk
    from flash_radiomics import featureextractor

    logging.disable(logging.INFO)
    image, label = sitk.GetImageFromArray(volume.array), sitk.GetImageFromArray(mask.array.astype(np.uint8))
    for each in (image, label):
        each.SetSpacing([float(x) for x in volume.grid.spacing_kji_mm[::-1]])
    engine = featureextractor.RadiomicsFeatureExtractor(binWidth=WIDTH, segmentClassWorkers=1, num_threads=1)
    engine.enableAllFeatures()

    def work() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            found = engine.execute(image, label, output_hdf5_path=str(Path(folder) / "out.h5"))
        return {name.removeprefix("original_"): float(value) for name, value in found.items()
                if name.startswith("original_")}
    return work


def mirp(volume, mask):
    """mirp, every family, 3D merged textures."""
    import numpy as np
    from radiomics_mirp_peer import mirp as module

    single = {f"{name}_spatial_method": "3d" for name in ("glszm", "gldzm", "ngtdm", "ngldm")}
    merged = {f"{name}_spatial_method": "3d_volume_merge" for name in ("glcm", "glrlm")}
    program, image, label = module(), volume.array.astype(float), mask.array.astype(np.uint8)
    start = start_of(volume, mask)

    def work() -> dict[str, float]:
        row = program.extract_features(
            image=image, mask=label, base_feature_families="all", base_discretisation_method="fixed_bin_size",
            base_discretisation_bin_width=WIDTH, resegmentation_intensity_range=[start, 1e9], **single,
            **merged)[0].iloc[0]
        return {name: float(value) for name, value in row.items() if re.match(
            "(morph|loc|stat|ih|ivh|cm|rlm|szm|dzm|ngt|ngl)_", str(name))}
    return work


def quiet(work):
    """The result without what the program prints."""
    with open(os.devnull, "w") as nowhere:
        kept = os.dup(1)
        os.dup2(nowhere.fileno(), 1)
        try:
            return work()
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def clock(work) -> tuple[float, float, dict[str, float]]:
    """(median wall, median processor seconds, result) of REPEATS calls after one that is not counted."""
    import statistics

    result, walls, busy = quiet(work), [], []
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        result = quiet(work)
        walls.append(time.perf_counter() - wall)
        busy.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(busy), result


def as_flash(ours_found: dict[str, float]) -> dict[str, str]:
    """Our key by flash-radiomics' name."""
    from pyradiomics_names import NAMES, tags

    named = {f"{family}_{name}": key for family in NAMES for name, key in tags(family).items()}
    named |= {f"gldzm_{name}": f"dzm_{key}_3D" for name, key in (pair.split() for pair in DISTANCE_ZONES)}
    named |= {f"ih_{name}": f"ih_{key}" for name, key in (pair.split() for pair in HISTOGRAM)}
    return {name: key for name, key in named.items() if key in ours_found}


def as_mirp(names) -> dict[str, str]:
    """Our key by mirp's name."""
    out = {}
    for name in names:
        key = re.sub(r"_fb[ns]_[nw][\d.]+$", "", name).replace("_d1_a0.0", "").replace("_d1_3d", "_3d")
        out[name] = re.sub("_3d$", "_3D", re.sub("_3d_v_mrg$", "_3D_comb", key))
    return out


def agreement(mine: dict[str, float], theirs: dict[str, float], names: dict[str, str], of: str) -> str:
    """One line: shared features, how many agree to 1e-6, which do not and by how much."""
    shared = [(key, mine[key], theirs[name]) for name, key in names.items() if name in theirs and key in mine]
    gap = {key: abs(a - b) / max(abs(a), abs(b), 1e-12) for key, a, b in shared}
    off = sorted((key for key, value in gap.items() if not value < 1e-6), key=lambda key: -gap[key])
    said = ", ".join(f"{key} {100 * gap[key]:.2g} %" for key in off)
    return f"{of}: {len(shared)} shared features, {len(shared) - len(off)} equal to 1e-6" + (f"; {said}" if off else "")


def alone(*arguments: str) -> dict:
    """This file in a fresh process."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True,
                          env={**os.environ, **ONE_THREAD})
    return json.loads(done.stdout.splitlines()[-1])


class Peak:
    """The most memory this process held while the block ran, beyond what it held before, MiB; sampled."""

    def __enter__(self) -> Peak:
        self.mib, self._done, self._before = 0.0, threading.Event(), self._held()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self.mib = max(self.mib, self._held() - self._before)

    @staticmethod
    def _held() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(what: str, n_voxels: int, data: Path) -> dict:
    """In a fresh process: seconds of the program's import and first call together, features, the memory's growth."""
    volume, mask = lesion(n_voxels) if n_voxels else brain(data)
    make = {"ours": lambda: ours(volume, mask, ("3D",)), "ours merged": lambda: ours(volume, mask, ("3D_comb",)),
            "ours all": lambda: ours(volume, mask, ("2D", "2_5D", "3D")), "flash": lambda: flash(volume, mask),
            "mirp": lambda: mirp(volume, mask)}[what]
    with Peak() as peak:
        wall, cpu = time.perf_counter(), time.process_time()
        count = len(quiet(make()))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall_s": wall, "cpu_s": cpu, "features": count, "mib": peak.mib}


def table(title: str, volume, mask, size: str) -> list[str]:
    """One lesion through every program."""
    runs = {"ours, 3D averaged": ours(volume, mask, ("3D_avg",)), "ours, 3D merged": ours(volume, mask, ("3D_comb",)),
            "ours, every aggregation": ours(volume, mask, ("2D", "2_5D", "3D"))}
    peers = {"flash-radiomics, all it has": flash} | ({"mirp, 3D merged": mirp} if int(size) else {})
    names = {"ours, 3D averaged": "", "ours, 3D merged": "ours merged", "ours, every aggregation": "ours all",
             "flash-radiomics, all it has": "flash", "mirp, 3D merged": "mirp"}
    lines = [f"{title}. Median of {REPEATS} calls after one, one thread; first call: in a fresh process, imports "
             "counted; memory: what that process grew by at most.", "",
             "| program | features | wall s | processor s | first call s | memory MiB |", "|---|---|---|---|---|---|"]
    found = {}
    for name, make in [*((n, lambda w=w: w) for n, w in runs.items()),
                       *((n, lambda p=p: p(volume, mask)) for n, p in peers.items())]:
        wall, cpu, found[name] = clock(make())
        extra = ["", ""]
        if names[name]:
            fresh = alone(names[name], size)
            extra = [f"{fresh['wall_s']:.2f}", f"{fresh['mib']:.0f}"]
        lines.append(f"| {name} | {len(found[name])} | {wall:.3f} | {cpu:.3f} | {extra[0]} | {extra[1]} |")
    averaged, merged = found["ours, 3D averaged"], found["ours, 3D merged"]
    theirs = found["flash-radiomics, all it has"]
    lines += ["", agreement(averaged, theirs, as_flash(averaged), "Beside flash-radiomics") + ". Their axes divide by "
              "n, ours by n - 1; meshes differ by the corners that marching cubes cut."]
    if "mirp, 3D merged" in found:
        theirs = found["mirp, 3D merged"]
        lines += ["", agreement(merged, theirs, as_mirp(theirs), "Beside mirp") + ". mirp estimates Moran's I and "
                  "Geary's C from random hundreds of voxels where ours takes every pair, and cuts the intensity-volume "
                  "histogram into other steps."]
    return lines


def families(volume, mask) -> list[str]:
    """Where the time goes."""
    from IRAILib.biopsy.radiomics import FAMILIES, Settings, extract

    parts = []
    for family in FAMILIES:
        settings = Settings(families=(family,), discretisation=("fbs", WIDTH, start_of(volume, mask)))
        busy = clock(lambda s=settings: extract(volume, mask, s).values())[1]
        parts.append(f"{family} {1e3 * busy:.0f}")
    return ["", "The same lesion, one family at a time with every aggregation, processor milliseconds (preparing the "
            f"region is in each): {', '.join(parts)}."]


def huge() -> list[str]:
    """A region of 2,000,000 voxels."""
    lines = ["", f"A region of {HUGE:,} voxels, made as the first lesion; one call in a fresh process:", "",
             "| program | features | wall s | processor s | memory MiB |", "|---|---|---|---|---|"]
    for name, what in (("ours, 3D", "ours"), ("ours, every aggregation", "ours all"), ("flash-radiomics", "flash")):
        fresh = alone(what, str(HUGE))
        lines.append(f"| {name} | {fresh['features']} | {fresh['wall_s']:.1f} | {fresh['cpu_s']:.1f} | "
                     f"{fresh['mib']:.0f} |")
    return [*lines, "", "mirp was not asked."]


def run(data: Path) -> list[str]:
    """The section's lines."""
    os.environ.update(ONE_THREAD)
    volume, mask = lesion(LESION)
    return [*table(f"A lesion of {LESION:,} voxels by a formula, bins of {WIDTH:.0f}", volume, mask, str(LESION)),
            *families(volume, mask), "",
            *table(f"pyradiomics' case brain1, 4,137 voxels, bins of {WIDTH:.0f}", *brain(data), "0"), *huge()]


if __name__ == "__main__":
    from run import data_folder

    if len(sys.argv) > 2:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), data_folder())))
    else:
        print("\n".join(run(data_folder())))
