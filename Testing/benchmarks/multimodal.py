"""CT, MR and PET of two patients: known poses recovered, what is refused, and plain SimpleITK on the same starts."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "library"))

from IRAILib.registration.multimodal import register_multimodal
from multimodal_cases import CASES, PAIRS, distances, known_pose, lesion, moved_by, plain_simpleitk, scan

SEED = 2026
STARTS = 15
"""Of each of the two patients: 30 a pair of modalities."""
SUCCESS_MM = 2.0


def one(data: Path, case: str, pair: tuple[str, str], number: int) -> dict:
    """A registration of ours and a plain one, number 0 from the given alignment, the rest from known poses."""
    fixed, moving = (scan(data, case, m) for m in pair)
    points = lesion(data, case, pair[0])
    rng = np.random.default_rng([SEED, CASES.index(case), PAIRS.index(pair), number])
    pose = np.eye(4) if number == 0 else known_pose(rng, points.mean(axis=0))
    away, back = moved_by(moving, pose), np.linalg.inv(pose)
    began = time.process_time()
    ours = register_multimodal(fixed, away)
    middle = time.process_time()
    plain = plain_simpleitk(fixed, away)
    return {"case": case, "pair": list(pair), "number": number,
            "start_mm": float(distances(pose, np.eye(4), points).mean()), "accepted": ours.accepted,
            "reason": ours.reason, "sigma_mm": ours.sigma_mm, "opinion_mm": ours.opinion_mm, "rival": ours.rival,
            "seconds": middle - began, "plain_seconds": time.process_time() - middle,
            "ours": (back @ ours.moving_from_fixed.matrix).tolist(), "plain": (back @ plain).tolist()}


def study(data: Path, starts: int = STARTS, log: Path | None = None) -> list[dict]:
    """All pairs, start by start; those in the log are not done again."""
    done = [json.loads(line) for line in log.read_text().splitlines()] if log is not None and log.exists() else []
    known = {(d["case"], tuple(d["pair"]), d["number"]) for d in done}
    share, of = (int(part) for part in os.environ.get("IRAI_STUDY_SHARE", "0/1").split("/"))
    for number in range(starts + 1):
        for n, (case, pair) in enumerate((case, pair) for case in CASES for pair in PAIRS):
            if n % of != share or (case, pair, number) in known:
                continue
            done.append(one(data, case, pair, number))
            if log is not None:
                with log.open("a") as file:
                    file.write(json.dumps(done[-1]) + "\n")
    return done


def summary(data: Path, done: list[dict]) -> list[str]:
    """The table and what it says."""
    lines = ["A known pose (up to 20 mm and 15 degrees about the lesion) is put on one image of a patient; errors are "
             "means over the GTV. The given alignments are no truth to 2 mm: CT-PET of STS_019 is off by two whole "
             "slices and three unlike measures put STS_025's 5 mm away, so the error is the distance from what the "
             "same method finds from the given alignment ('from given' says how far that lies from it). 'false': "
             "accepted and more than 2 mm off. Plain: SimpleITK's Mattes information, three levels, same starts. "
             "s: seconds of one core.", "",
             "| pair | patient | starts | within 2 mm | accepted | accepted within 2 mm | false | median / worst "
             "accepted mm | from given mm | plain within 2 mm | plain from given mm | s ours / plain |",
             "|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for pair in PAIRS:
        for case in CASES:
            rows = [d for d in done if d["case"] == case and tuple(d["pair"]) == pair]
            zero = [d for d in rows if d["number"] == 0]
            rows = [d for d in rows if d["number"] > 0]
            if zero and rows:
                name = "-".join(pair).replace("_T1", "")
                lines.append(f"| {name} | {case} | {_row(data, case, pair, zero[0], rows)} |")
    lines += ["", *_closure(data, done)]
    return lines


def _row(data: Path, case: str, pair: tuple[str, str], zero: dict, rows: list[dict]) -> str:
    points = lesion(data, case, pair[0])

    def off(name: str) -> np.ndarray:
        return np.array([distances(np.array(d[name]), np.array(zero[name]), points).mean() for d in rows])

    ours, plain, accepted = off("ours"), off("plain"), np.array([d["accepted"] for d in rows])
    good = ours <= SUCCESS_MM
    spread = f"{np.median(ours[accepted]):.2f} / {ours[accepted].max():.2f}" if accepted.any() else "-"
    given = [distances(np.array(zero[name]), np.eye(4), points).mean() for name in ("ours", "plain")]
    taken = "accepted" if zero["accepted"] else "refused"
    return (f"{len(rows)} | {good.sum()} | {accepted.sum()} | {(good & accepted).sum()} | {(accepted & ~good).sum()} | "
            f"{spread} | {given[0]:.1f} ({taken}) | {(plain <= SUCCESS_MM).sum()} | {given[1]:.1f} | "
            f"{np.median([d['seconds'] for d in rows]):.0f} / {np.median([d['plain_seconds'] for d in rows]):.0f}")


def _closure(data: Path, done: list[dict]) -> list[str]:
    """CT to MR to PET against CT to PET: needs no truth."""
    lines = []
    for case in CASES:
        points = lesion(data, case, "CT")
        found = {tuple(d["pair"]): d for d in done if d["case"] == case and d["number"] == 0}
        if len(found) == len(PAIRS):
            for name, word in (("ours", "ours"), ("plain", "plain SimpleITK")):
                ab, ac, bc = (np.array(found[pair][name]) for pair in PAIRS)
                lines.append(f"{case}, {word}: CT to MR to PET ends {distances(bc @ ab, ac, points).mean():.1f} mm "
                             "from CT to PET over the GTV (no truth needed).")
    return lines


def run(data: Path) -> list[str]:
    """Lines of the table. IRAI_STUDY_LOG: a file to go on from."""
    log = os.environ.get("IRAI_STUDY_LOG")
    return summary(data, study(data, STARTS, Path(log) if log else None))


if __name__ == "__main__":
    folder = Path(os.environ.get("IRAI_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    print("\n".join(run(folder)))
