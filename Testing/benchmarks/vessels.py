"""Vessels in angiograms: network, Frangi's measure and scikit-image's on hand-drawn masks; diameters and stenoses on
drawn angiograms; stenoses marked by experts; time. `--train FOLDER [--bfloat16]` trains the five networks anew (half an
hour on one core with `GLIBC_TUNABLES=glibc.malloc.hugetlb=1 MALLOC_TRIM_THRESHOLD_=8589934592
MALLOC_MMAP_THRESHOLD_=4294967296`, which spare it the system's page faults)."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
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
from IRAILib.fluoroscopy.vessels_train_command import TESTS, frangi_dice, score, train_network
from IRAILib.fluoroscopy.vessels_tree import make_tree
from IRAILib.fluoroscopy.vessels_work import make_work
from IRAILib.geometry import RefusedError
from vessels_cases import Lumen, course, draw, narrowed

FOLDS, TEST = 5, 10
ON_MARK_PX, RANKS = 6.0, (1, 3, 1000)
SEED = 2026
GRID = [FrangiOptions(sigmas, beta, 0.6, low, high, 150)
        for sigmas, beta in itertools.product(((1.5, 2.2, 3.0, 4.0, 5.5), (2.0, 3.0, 4.5)), (0.4, 0.8))
        for low, high in ((0.3, 0.7), (0.3, 0.85), (0.4, 0.7), (0.4, 0.85), (0.5, 0.85), (0.5, 0.95))]
COLUMNS = "| | frames | Dice | SD over frames | centreline Dice | centreline precision / recall | AUC |"


def _row(name: str, count: int, found: dict) -> str:
    return (f"| {name} | {count} | {found['dice']:.3f} | {found['dice_sd']:.3f} | {found['cl_dice']:.3f} | "
            f"{found['precision']:.3f} / {found['recall']:.3f} | {found['auc']:.3f} |")


def masks(data: Path) -> list[str]:
    """Tables of the folds: the classical ways anew, the network that comes with IRAI on what it was not trained on, and
    the five networks as `train` measured them."""
    frames = read_frames(data / "angiography" / "fercer_xca_vessels")
    net = VesselNetwork()
    lines = ["Masks drawn by hand (Coronary, 300 x 300), 30 frames to train and 10 to test, frames of one heart on one "
             "side. Constants of Frangi's measure and thresholds of the network are chosen on each fold's 30, so is "
             "scikit-image's threshold.", "", COLUMNS, "|---|---|---|---|---|---|---|"]
    held = {n: frames[n] for n in draw_fold(list(frames), 0)[1]}
    assert list(held) == net.card["test"]["frames"]
    for name, method in (("network", "network"), ("network and Frangi", "both")):
        lines.append(_row(f"fold 0, {name} (the weights that come with IRAI)", len(held), score(held, method, net)))
    classical, skimage = frangi_rows(frames), peer_rows(frames)
    for name, rows in (("Frangi", classical), ("scikit-image frangi", skimage)):
        lines += [_row(f"fold {fold}, {name}", TEST, row) for fold, row in enumerate(rows)] + [_mean(name, rows)]
    folds = net.card.get("folds", [])
    if folds:
        steps = net.card["training"]["steps"]
        lines += ["", f"The five networks, each trained alike on its fold's 30 for {steps} steps; measured when the "
                      "weights were made (`Testing/benchmarks/vessels.py --train FOLDER`), not in this run. Last "
                      "column: Frangi's Dice in this run, and in how many of the ten frames the network's is higher.",
                  "", f"{COLUMNS} Frangi |", "|---|---|---|---|---|---|---|---|"]
        for fold, (row, other) in enumerate(zip(folds, classical, strict=True)):
            more = sum(row["each"][n] > other["each"][n] for n in row["each"])
            lines.append(f"{_row(f'fold {fold}, network', TEST, row)} {other['dice']:.3f}, {more} of {TEST} |")
        lines.append(f"{_mean('network', folds)} {np.mean([r['dice'] for r in classical]):.3f} |")
    return lines


def _mean(name: str, rows: list[dict]) -> str:
    means = {key: float(np.mean([r[key] for r in rows])) for key in (*TESTS, "dice_sd")}
    spread = float(np.std([r["dice"] for r in rows]))
    return _row(f"**{name}, mean of {FOLDS} folds** (SD over folds {spread:.3f})", TEST * FOLDS, means)


def train(data: Path, out: Path, bfloat16: bool) -> None:
    """Trains the five networks alike into OUT/0 to OUT/4; the card of fold 0 gets the figures of all."""
    folder, cards = data / "angiography" / "fercer_xca_vessels", []
    for fold in range(FOLDS):
        cards.append(train_network(folder, out / str(fold), fold=fold, bfloat16=bfloat16))
        print(_row(f"fold {fold}, network", TEST, cards[-1]["test"]), flush=True)
    add_folds(out / "0" / "vessels_xray.json", cards)


def add_folds(path: Path, cards: list[dict]) -> None:
    """The tests of all folds into one card."""
    card = json.loads(path.read_text("utf-8"))
    card["folds"] = [{"fold": one["training"]["fold"], **one["test"], "operation": one["operation"]} for one in cards]
    path.write_text(json.dumps(card, indent=1) + "\n", "utf-8")


def frangi_rows(frames: dict) -> list[dict]:
    """Of each fold, with the options of GRID that are best on its 30."""
    names, values, rows = list(frames), frangi_dice(frames, GRID), []
    for fold in range(FOLDS):
        learned, held = draw_fold(names, fold)
        options = GRID[int(np.argmax(values[:, [names.index(n) for n in learned]].mean(1)))]
        rows.append(score({n: frames[n] for n in held}, "frangi", options=options))
    return rows


def peer_rows(frames: dict) -> list[dict]:
    """scikit-image's frangi, of each fold with the threshold that is best on its 30."""
    from skimage.filters import frangi

    thresholds, values = np.geomspace(0.01, 1.0, 15), {}
    for name, (frame, _) in frames.items():
        level = make_work(frame, polarity="dark", work_px=None)
        value = frangi(level.level, sigmas=(1.5, 2.2, 3.0, 4.0, 5.5), black_ridges=True) * level.field
        values[name] = value / max(float(np.percentile(value, 99)), 1e-12)
    found = {n: [dice(hysteresis(values[n], t, t, 150), frames[n][1]) for t in thresholds] for n in frames}
    out = []
    for fold in range(FOLDS):
        learned, held = draw_fold(list(frames), fold)
        best = thresholds[int(np.argmax(np.mean([found[n] for n in learned], axis=0)))]
        rows = []
        for value, truth in ((values[n], frames[n][1]) for n in held):
            mask = hysteresis(value, best, best, 150)
            rows.append((dice(mask, truth), cl_dice(mask, truth), *centreline_agreement(mask, truth),
                         auc(value, truth)))
        means = (float(v) for v in np.mean(rows, axis=0))
        out.append(dict(zip(TESTS, means, strict=True)) | {"dice_sd": float(np.std([r[0] for r in rows]))})
    return out


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
    """Stenoses marked by experts (ARCADE): does the k-th surest narrow place lie on a mark? Beside chance: as many
    points of the found centrelines, drawn at random."""
    folder = data / "angiography" / "arcade_stenosis"
    on_vessel, listed, hits, chance = [], [], [], []
    for path in sorted((folder / "image").glob("*.png")):
        mark = read_grey(folder / "stenosis_mask" / path.name) > 127
        found = find_vessels(read_grey(path), polarity="dark")
        on_vessel.append(float(found.mask[mark].mean()))
        near = np.asarray(ndimage.distance_transform_edt(~mark)) <= ON_MARK_PX
        points = np.rint(np.concatenate(found.centrelines)).astype(int)
        share = float(near[np.clip(points[:, 1], 0, near.shape[0] - 1),
                           np.clip(points[:, 0], 0, near.shape[1] - 1)].mean())
        places = [one.place_px for one in find_stenoses(found.tree)[0]]
        on = [bool(near[round(y), round(x)]) for x, y in places]
        listed.append(on)
        hits.append([any(on[:k]) for k in RANKS])
        chance.append([1.0 - (1.0 - share) ** min(k, len(on)) for k in RANKS])
    every = [one for on in listed for one in on]
    lines = ["", f"ARCADE, {len(hits)} frames of 512 x 512 with stenoses marked by experts, from a source that the "
             f"network has not seen: {np.median(on_vessel):.0%} (median) of a mark's pixels are found to be vessel. "
             f"{np.mean([len(on) for on in listed]):.1f} narrow places a frame are listed (30 % at least two standard "
             f"errors less, healthy on both sides), {np.mean(every):.0%} of them on a mark (within {ON_MARK_PX:g} px). "
             "The rule was looked at on these frames. The experts marked what they held for a "
             "stenosis, not every narrow place.", "",
             "| frames with a mark hit by | found places | as many random points of the centrelines |", "|---|---|---|"]
    for name, own, random in zip(("the surest", "one of the three surest", "any"), np.sum(hits, 0), np.sum(chance, 0),
                                 strict=True):
        lines.append(f"| {name} | {own} of {len(hits)} | {random:.1f} |")
    return lines


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

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, metavar="FOLDER")
    parser.add_argument("--bfloat16", action="store_true")
    options = parser.parse_args()
    if options.train is not None:
        train(data_folder(), options.train, options.bfloat16)
    else:
        print("\n".join(run(data_folder())))
