"""Vessels in angiograms: network, Frangi's measure and scikit-image's on hand-drawn masks; diameters and stenoses on
drawn angiograms; stenoses marked by experts; time. `--train` trains the five networks anew (hours on two cores)."""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "library"))

from IRAILib.fluoroscopy.vessels import find_vessels
from IRAILib.fluoroscopy.vessels_frangi import FrangiOptions, hysteresis
from IRAILib.fluoroscopy.vessels_network import VesselNetwork
from IRAILib.fluoroscopy.vessels_scores import auc, centreline_agreement, cl_dice, dice
from IRAILib.fluoroscopy.vessels_stenosis import find_stenoses, measure_stenosis
from IRAILib.fluoroscopy.vessels_train import draw_fold, read_frames, read_grey
from IRAILib.fluoroscopy.vessels_train_command import TESTS, score, train_network, tune_frangi
from IRAILib.fluoroscopy.vessels_tree import make_tree
from IRAILib.fluoroscopy.vessels_work import make_work
from IRAILib.geometry import RefusedError
from vessels_cases import Lumen, course, draw, narrowed

FOLDS = 5
SEED = 2026
GRID = [FrangiOptions(sigmas, beta, 0.6, low, high, 150)
        for sigmas, beta in itertools.product(((1.5, 2.2, 3.0, 4.0, 5.5), (2.0, 3.0, 4.5)), (0.4, 0.8))
        for low, high in ((0.3, 0.7), (0.3, 0.85), (0.4, 0.7), (0.4, 0.85), (0.5, 0.85), (0.5, 0.95))]
COLUMNS = "| | frames | Dice | SD over frames | centreline Dice | centreline precision / recall | AUC |"


def _row(name: str, count: int, found: dict) -> str:
    return (f"| {name} | {count} | {found['dice']:.3f} | {found['dice_sd']:.3f} | {found['cl_dice']:.3f} | "
            f"{found['precision']:.3f} / {found['recall']:.3f} | {found['auc']:.3f} |")


def masks(data: Path, train: bool = False, bfloat16: bool = False) -> list[str]:
    """Tables of the folds."""
    folder = data / "angiography" / "fercer_xca_vessels"
    frames = read_frames(folder)
    lines = ["Masks drawn by hand (Coronary, 300 x 300), 30 frames to train and 10 to test, frames of one heart on one "
             "side. Frangi's constants and scikit-image's threshold are tuned on each fold's 30.", "",
             COLUMNS, "|---|---|---|---|---|---|---|"]
    all_rows: dict[str, list[dict]] = {}
    for fold in range(FOLDS):
        learned, held = draw_fold(list(frames), fold)
        seen, test = ({n: frames[n] for n in part} for part in (learned, held))
        results = {"Frangi": score(test, "frangi", options=tune_frangi(seen, GRID)),
                   "scikit-image frangi": peer(seen, test)}
        if train:
            with tempfile.TemporaryDirectory() as out:
                train_network(folder, Path(out), fold=fold, bfloat16=bfloat16)
                net = VesselNetwork(Path(out) / "vessels_xray.onnx")
                results |= {name: score(test, method, net) for name, method in (("network", "network"),
                                                                              ("both", "both"))}
        elif fold == 0:
            results |= {f"{name} (the weights that come with IRAI)": score(test, method)
                        for name, method in (("network", "network"), ("network and Frangi", "both"))}
        for name, found in results.items():
            lines.append(_row(f"fold {fold}, {name}", len(test), found))
            print(lines[-1], flush=True)
            all_rows.setdefault(name, []).append(found)
    for name, rows in all_rows.items():
        if len(rows) == FOLDS:
            means = {key: float(np.mean([r[key] for r in rows])) for key in (*TESTS, "dice_sd")}
            spread = float(np.std([r["dice"] for r in rows]))
            lines.append(_row(f"{name}, mean of {FOLDS} folds (SD over folds {spread:.3f})", 10 * FOLDS, means))
    return lines


def peer(seen: dict, test: dict) -> dict:
    """scikit-image's frangi with the threshold that is best on `seen`."""
    from skimage.filters import frangi

    def response(frame: np.ndarray) -> np.ndarray:
        level = make_work(frame, polarity="dark", work_px=None)
        value = frangi(level.level, sigmas=(1.5, 2.2, 3.0, 4.0, 5.5), black_ridges=True) * level.field
        return value / max(float(np.percentile(value, 99)), 1e-12)

    values = {n: response(frame) for n, (frame, _) in seen.items()}
    best = max(np.geomspace(0.01, 1.0, 15), key=lambda t: float(np.mean(
        [dice(hysteresis(values[n], t, t, 150), seen[n][1]) for n in seen])))
    rows = []
    for frame, truth in test.values():
        value = response(frame)
        mask = hysteresis(value, best, best, 150)
        rows.append((dice(mask, truth), cl_dice(mask, truth), *centreline_agreement(mask, truth), auc(value, truth)))
    means = np.mean(rows, axis=0)
    return dict(zip(TESTS, means, strict=True)) | {"dice_sd": float(np.std([r[0] for r in rows]))}


def stenoses(count: int = 60) -> list[str]:
    """Percent stenosis and diameters on drawn vessels."""
    rng, rows, refused = np.random.default_rng(SEED), [], 0
    for n in range(count):
        wide, percent, blur = rng.uniform(3.0, 9.0), rng.uniform(20.0, 90.0), rng.uniform(0.6, 1.3)
        s, radius = narrowed(130.0, wide, percent=percent, width_px=wide * rng.uniform(1.0, 2.0),
                             taper=rng.uniform(0.0, 0.25))
        points = course(s, (15.0, 25.0), rng.uniform(10.0, 50.0), rng.uniform(-6.0, 6.0))
        drawn = draw((140, 150), [Lumen(points, radius)], photons=10 ** rng.uniform(2.8, 3.8), blur_px=blur,
                     mu=rng.uniform(0.05, 0.15), seed=n)
        tree = make_tree(make_work(drawn.frame, work_px=None).log, drawn.truth)
        at = int(np.argmin(radius))
        try:
            one = measure_stenosis(tree, (float(points[at, 0]), float(points[at, 1])))
        except RefusedError:
            refused += 1
            continue
        reference = 2.0 * radius[at] / (1.0 - percent / 100.0)
        rows.append((percent, one.percent_diameter - percent, one.percent_sigma, one.mld_px - 2.0 * radius[at],
                     one.reference_px - reference, wide))
    table = np.array(rows)
    lines = ["", f"Round vessels of 3 to 9 px with a narrowing of 1 to 2 diameters half length, drawn by Beer and "
             f"Lambert, blur 0.6 to 1.3 px, 600 to 6000 photons a pixel; {count} drawn, {refused} refused. The mask is "
             "the drawn one. Bias and SD; 'in 2 sigma': how often the truth lies within twice the sigma said.", "",
             "| drawn stenosis | n | percent diameter, bias ± SD | in 2 sigma | least diameter px | reference px |",
             "|---|---|---|---|---|---|"]
    for low, high in ((20, 50), (50, 70), (70, 90), (20, 90)):
        own = table[(table[:, 0] >= low) & (table[:, 0] < high)]
        inside = np.mean(np.abs(own[:, 1]) < 2.0 * own[:, 2])
        lines.append(f"| {low} to {high} % | {len(own)} | {own[:, 1].mean():+.1f} ± {own[:, 1].std():.1f} | "
                     f"{inside:.0%} | {own[:, 3].mean():+.2f} ± {own[:, 3].std():.2f} | "
                     f"{own[:, 4].mean():+.2f} ± {own[:, 4].std():.2f} |")
    return lines


def marked(data: Path) -> list[str]:
    """Stenoses marked by experts (ARCADE): is the k-th tightest found one on a mark?"""
    folder = data / "angiography" / "arcade_stenosis"
    ranks, on_vessel, listed = [], [], []
    for path in sorted((folder / "image").glob("*.png")):
        mark = read_grey(folder / "stenosis_mask" / path.name) > 127
        found = find_vessels(read_grey(path), polarity="dark")
        on_vessel.append(float(found.mask[mark].mean()))
        near = np.asarray(ndimage.distance_transform_edt(~mark)) <= 6.0
        places = [one.place_px for one in find_stenoses(found.tree, least_percent=20.0)[0]]
        hits = [n for n, (x, y) in enumerate(places, 1) if near[round(y), round(x)]]
        ranks.append(hits[0] if hits else 0)
        listed.append(len(places))
    cells = [sum(0 < r <= k for r in ranks) for k in (1, 3, 5, 1000)]
    chance = f"{np.mean(listed):.1f} places a frame are listed"
    return ["", f"ARCADE, {len(ranks)} frames of 512 x 512 with stenoses marked by experts, from a source the network "
            f"has not seen: {np.median(on_vessel):.0%} (median) of a mark's pixels are found to be vessel. The "
            f"tightest place lies on a mark (within 6 px) in {cells[0]} frames, one of the first three in {cells[1]}, of the "
            f"first five in {cells[2]}, any in {cells[3]}; {chance}."]


def speed(data: Path) -> list[str]:
    """Seconds a frame."""
    frame = read_grey(data / "angiography" / "arcade_stenosis" / "image" / "107.png")
    lines = ["", "| one frame | 512 x 512 s | 1024 x 1024 s |", "|---|---|---|"]
    big = ndimage.zoom(frame, 2, order=1)
    for name, options in (("Frangi, mask", {"method": "frangi", "diameters": False}),
                          ("network, mask, no flips", {"diameters": False, "flips": False}),
                          ("network, mask", {"diameters": False}), ("network, mask, tree and diameters", {})):
        cells = []
        for picture in (frame, big):
            find_vessels(picture, polarity="dark", **options)
            began = time.perf_counter()
            find_vessels(picture, polarity="dark", **options)
            cells.append(f"{time.perf_counter() - began:.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def run(data: Path) -> list[str]:
    """The section's lines."""
    return [*masks(data), *stenoses(), *marked(data), *speed(data)]


if __name__ == "__main__":
    from run import data_folder

    if "--train" in sys.argv:
        print("\n".join(masks(data_folder(), True, "--bfloat16" in sys.argv)))
    else:
        print("\n".join(run(data_folder())))
