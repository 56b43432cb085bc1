"""CT to one or two X-ray frames: slide, climb from several starts, ask the levels up and down, finish fine, judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...geometry import CancelledError, CArmGeometry, InputError, Volume
from . import pose as poses
from .levels import Spine, find_spine
from .patient import Patient, prepare_patient
from .refine import Refined, measure, refine
from .result import Rival, XrayRegistration
from .search import Candidate, slide
from .similarity import LevelView, level_view, prepare_frame
from .verdict import judge, moved_from, uncertainty

SEARCH, COARSE, MIDDLE, FINE = (5.0, 4.2), (3.5, 3.0), (2.2, 2.0), (1.6, 1.4)
"""(pixel mm at the patient, voxel mm) of each stage."""
REACH_MM = 38.0
STARTS, KEPT = 6, 3
FINE_STEPS = 12
SAME_MM, APART_MM = 5.0, 9.0
"""Ends closer than the first along the spine are one; farther than the second they are another level."""
LEVEL_MM = np.arange(-48.0, 48.1, 3.0)
NEAREST_LEVEL_MM = 12.0
SMALLEST_ANGLE_DEG = 20.0


@dataclass(frozen=True, eq=False)
class _Task:
    """What every stage needs. frames: of each view, read as log or as counts, with what is valid;
    views: by stage, then view, read as fits best, the contrast set right (filled by `_candidates`)."""

    patient: Patient
    geometries: tuple[CArmGeometry, ...]
    frames: list[list[tuple[np.ndarray, np.ndarray]]]
    views: dict[tuple[float, float], list[LevelView]]
    pivot: np.ndarray
    start: np.ndarray
    spine: Spine
    check: Callable[[], None]

    def climb(self, stage: tuple[float, float], start: np.ndarray, steps: int, settled_mm: float = 0.1,
              robust: bool = False) -> Refined:
        return refine(self.patient, stage[1], self.views[stage], start, self.pivot, steps=steps,
                      settled_mm=settled_mm, robust=robust, cancelled=self.check)

    def place(self, table_from_ras: np.ndarray) -> np.ndarray:
        """(3,) where the spine's point lies, table frame."""
        return poses.apply(table_from_ras, self.spine.point[None])[0]

    def level(self, first: np.ndarray, other: np.ndarray) -> float:
        """How far `other` lies from `first` along the spine, mm, positive when it shows the frame a higher vertebra.

        One view can't tell depth, so there it is what the frame shows: across the beam.
        """
        upwards = first[:3, :3] @ self.spine.upwards
        gap = self.place(first) - self.place(other)
        if len(self.geometries) == 1:
            beam = self.geometries[0].normal
            upwards = upwards - (upwards @ beam) * beam
        return float(gap @ upwards / max(float(upwards @ upwards), 0.05))

    def along(self, table_from_ras: np.ndarray, shift_mm: float) -> np.ndarray:
        """The pose that shows what lies `shift_mm` higher in the CT where `table_from_ras` shows its own."""
        move = np.eye(4)
        move[:3, 3] = -shift_mm * self.spine.upwards
        return table_from_ras @ move


def register_xray(ct: Volume | Patient, images: Sequence[np.ndarray], geometries: Sequence[CArmGeometry],
                  init: np.ndarray, *, labels: Volume | None = None, vertebrae: Sequence[int] | None = None,
                  intensities: bool | None = None, bone: str = "auto", device: str = "cpu",
                  progress: Callable[[float, str], None] | None = None,
                  cancelled: Callable[[], bool] | None = None) -> XrayRegistration:
    """The pose of a CT under one or two X-ray frames, with a verdict on it.

    Args:
        ct: HU, with bone in the frames' view; or what `prepare_patient` made of it, which saves seconds when frame
            follows frame. images: (rows, columns) each, any grey values (`prepare_frame`).
        geometries: of each image; all in one frame (the table), mm.
        init: (4, 4) first guess of table_from_ras; up to about 20 mm and 10 degrees about each axis off.
        labels: label map of the vertebrae (`vertebrae`: its numbers that are vertebrae, default all), for the distance
            of the neighbouring levels; found from the CT without.
        intensities: True for counts, False for log values, None tries both. bone: "white", "black" or "auto" (both).
    Returns: the result, also when it isn't accepted. Same input, same result.
    Raises: InputError for input that can't be used; CancelledError; MissingPackageError without torch.

    Source: gradient correlation after Penney 1998; sliding start by FFT and Gauss-Newton are this library's own.
    """
    began = time.perf_counter()
    tell = progress or (lambda share, text: None)

    def check() -> None:
        if cancelled is not None and cancelled():
            raise CancelledError("X-ray registration: cancelled")

    start = _checked(images, geometries, init, bone)
    tell(0.0, "body and bones of the CT")
    patient = ct if isinstance(ct, Patient) else prepare_patient(ct, device)
    kinds = (False, True) if intensities is None else (intensities,)
    frames = [[prepare_frame(image, geometry, kind) for kind in kinds]
              for image, geometry in zip(images, geometries, strict=True)]
    pivot = _pivot(geometries, poses.apply(start, patient.bone_centre[None])[0])
    near = poses.apply(np.linalg.inv(start), pivot[None])[0]
    spine = find_spine(patient, near, labels, vertebrae)
    pivot = _pivot(geometries, poses.apply(start, spine.point[None])[0])
    check()

    task = _Task(patient, tuple(geometries), frames, {}, pivot, start, spine, check)
    tell(0.1, "sliding radiographs over the frame")
    candidates = _candidates(task, {"white": (1.0,), "black": (-1.0,)}.get(bone, (1.0, -1.0)))
    tell(0.35, "climbing from the best starts")
    best, agreement = _climbed(task, candidates)
    tell(0.55, "the levels up and down the spine")
    best, rivals = _rivals(task, best)
    tell(0.85, "fine")
    fine = task.climb(FINE, best.table_from_ras, FINE_STEPS, 0.02, robust=True)
    spread = uncertainty(fine.covariance, geometries[0].normal)
    moved = moved_from(start, fine.table_from_ras, spine.point)
    accepted, reason = judge(fine.similarities, rivals, fine.coverage, agreement, spread, moved)
    tell(1.0, "done")
    return XrayRegistration(fine.table_from_ras, geometries[0].frame, fine.similarity, fine.similarities,
                            best.similarity, accepted, reason, *spread, rivals, agreement, fine.coverage, *moved,
                            spine.source, time.perf_counter() - began)


def _checked(images: Sequence[np.ndarray], geometries: Sequence[CArmGeometry], init: np.ndarray, bone: str
             ) -> np.ndarray:
    if len(images) not in (1, 2) or len(images) != len(geometries):
        raise InputError(f"X-ray registration: one or two frames, each with its geometry; {len(images)} frames and "
                         f"{len(geometries)} geometries came")
    if len({geometry.frame for geometry in geometries}) > 1:
        raise InputError("X-ray registration: the two geometries must be in the same frame")
    if bone not in ("auto", "white", "black"):
        raise InputError(f"X-ray registration: bone is 'auto', 'white' or 'black', not '{bone}'")
    if len(geometries) == 2:
        cosine = abs(float(geometries[0].normal @ geometries[1].normal))
        if cosine > np.cos(np.radians(SMALLEST_ANGLE_DEG)):
            raise InputError(f"X-ray registration: the two views must be at least {SMALLEST_ANGLE_DEG:g} degrees "
                             "apart; turn the C-arm farther, or give one frame")
    return poses.rigid(init, "start (table_from_ras)")


def _pivot(geometries: Sequence[CArmGeometry], near: np.ndarray) -> np.ndarray:
    """(3,) on the first view's central ray at the depth of `near`."""
    first = geometries[0]
    ray = first.center_mm - first.source_mm
    ray /= np.linalg.norm(ray)
    return first.source_mm + ray * max(float((near - first.source_mm) @ ray), 50.0)


def _candidates(task: _Task, signs: tuple[float, ...]) -> list[Candidate]:
    """Starts from sliding each view; settles how each frame is read and its contrast."""
    found = []
    for geometry, readings in zip(task.geometries, task.frames, strict=True):
        tried = []
        for image, valid in readings:
            view = level_view(image, valid, geometry, SEARCH[0], task.pivot, task.patient.device)
            tried.append(slide(task.patient, SEARCH[1], view, task.start, task.pivot, reach_mm=REACH_MM, signs=signs,
                               keep=20, cancelled=task.check))
        scores = [seen[0].score if seen else -1.0 for seen in tried]
        reading = int(np.argmax(scores))
        if scores[reading] <= 0:
            raise InputError("X-ray registration: at the start the CT and the frame hardly overlap; check the start "
                             "pose and the geometry")
        sign = tried[reading][0].sign
        image, valid = readings[reading]
        for stage in (SEARCH, COARSE, MIDDLE, FINE):
            view = level_view(image, valid, geometry, stage[0], task.pivot, task.patient.device)
            task.views.setdefault(stage, []).append(view.flipped(sign))
        found.append([candidate for candidate in tried[reading] if candidate.sign == sign])
    if len(found) == 1:
        return found[0]
    return [_second_view(task, 1 - n, candidate) for n in (0, 1) for candidate in found[n][:STARTS]]


def _second_view(task: _Task, other: int, candidate: Candidate) -> Candidate:
    """Slide a start of one view along that view's beam to where the other view likes it best."""
    view, beam = task.views[SEARCH][other], task.geometries[1 - other].normal
    pivot = poses.apply(candidate.table_from_ras @ np.linalg.inv(task.start), task.pivot[None])[0]
    seen = slide(task.patient, SEARCH[1], view, candidate.table_from_ras, pivot, reach_mm=REACH_MM, signs=(1.0,),
                 turns_deg=(0.0,), rolls_deg=(0.0,), zooms=(1.0,), keep=1, cancelled=task.check)
    if not seen:
        return candidate
    shift = poses.apply(seen[0].table_from_ras @ np.linalg.inv(candidate.table_from_ras), pivot[None])[0] - pivot
    normal = task.geometries[other].normal
    moved = np.eye(4)
    moved[:3, 3] = beam * float(shift @ beam) / max(1 - float(beam @ normal) ** 2, 0.05)
    return Candidate(moved @ candidate.table_from_ras, candidate.score, 1.0)


def _climbed(task: _Task, candidates: list[Candidate]) -> tuple[Refined, float]:
    """The best of several starts, and the share of them that ended there."""
    scores = measure(task.patient, COARSE[1], task.views[COARSE],
                     np.stack([candidate.table_from_ras for candidate in candidates[:2 * STARTS]]))
    order = np.argsort(-scores)[:STARTS]
    ends = [task.climb(COARSE, candidates[n].table_from_ras, 4, 0.3) for n in order]
    ends.sort(key=lambda end: -end.similarity)
    kept: list[Refined] = []
    for end in ends:
        apart = [np.linalg.norm(task.place(end.table_from_ras) - task.place(k.table_from_ras)) for k in kept]
        if len(kept) < KEPT and all(gap > SAME_MM for gap in apart):
            kept.append(end)
    kept = [task.climb(COARSE, end.table_from_ras, 8) for end in kept]
    best = max(kept, key=lambda end: end.similarity)
    near = [abs(task.level(best.table_from_ras, end.table_from_ras)) < SAME_MM for end in ends]
    return best, float(np.mean(near))


def _rivals(task: _Task, best: Refined) -> tuple[Refined, tuple[Rival, ...]]:
    """Climb again from one vertebra up and down; whoever wins is the result, the others stay as rivals."""
    shifts = _level_shifts(task, best)
    ends = [task.climb(COARSE, task.along(best.table_from_ras, shift), 7, 0.2) for shift in shifts]
    coarse = max([best, *ends], key=lambda end: end.similarity)
    others = [(shift, end) for shift, end in zip([0.0, *shifts], [best, *ends], strict=True) if end is not coarse]
    top = task.climb(MIDDLE, coarse.table_from_ras, 6)
    rivals, asked = [], False
    for shift, end in sorted(others, key=lambda pair: -pair[1].similarity):
        apart = task.level(coarse.table_from_ras, end.table_from_ras)
        lead = coarse.similarity - end.similarity
        if abs(apart) > APART_MM and not asked:
            closer, asked = task.climb(MIDDLE, end.table_from_ras, 3), True
            apart = task.level(top.table_from_ras, closer.table_from_ras)
            lead = top.similarity - closer.similarity
            if lead < 0:
                top, lead, apart = closer, -lead, -apart
        if shift or abs(apart) > APART_MM:
            back = abs(apart) <= APART_MM
            rivals.append(Rival(shift if back else apart, lead, back))
    return top, tuple(sorted(rivals, key=lambda rival: rival.lead))


def _level_shifts(task: _Task, best: Refined) -> list[float]:
    """One vertebra up and down by the CT's spine, and the best places between 12 and 48 mm by the frame itself."""
    tried = np.stack([task.along(best.table_from_ras, shift) for shift in LEVEL_MM])
    scores = measure(task.patient, SEARCH[1], task.views[SEARCH], tried)
    out = [task.spine.up_mm, -task.spine.down_mm]
    for side in (1, -1):
        inside = [n for n in range(1, len(LEVEL_MM) - 1) if side * LEVEL_MM[n] >= NEAREST_LEVEL_MM
                  and scores[n] >= max(scores[n - 1], scores[n + 1])]
        if inside:
            peak = float(LEVEL_MM[max(inside, key=lambda n: scores[n])])
            if all(abs(peak - shift) > SAME_MM for shift in out):
                out.append(peak)
    return out
