"""Percent stenosis against drawn narrowings (vessels_cases), and the refusals."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from IRAILib.fluoroscopy.vessels_stenosis import find_stenoses, measure_stenosis, vessels_of
from IRAILib.fluoroscopy.vessels_tree import VesselTree, make_tree
from IRAILib.fluoroscopy.vessels_work import make_work
from IRAILib.geometry import InputError, RefusedError
from vessels_cases import Lumen, course, draw, narrowed


@lru_cache
def case(percent: float, diameter: float = 7.0, seed: int = 11, photons: float = 3000.0):
    """(tree, place of the narrowing, true reference at it)."""
    s, radius = narrowed(130.0, diameter, percent=percent, width_px=1.4 * diameter, taper=0.15)
    points = course(s, (15.0, 25.0), 25.0, 5.0)
    drawing = draw((110, 150), [Lumen(points, radius)], photons=photons, seed=seed)
    tree = make_tree(make_work(drawing.frame, work_px=None).log, drawing.truth)
    tightest = int(np.argmin(radius)) if percent else len(radius) // 2
    return tree, tuple(points[tightest]), diameter * (1 - 0.15 * s[tightest] / 130.0)


@pytest.mark.parametrize("percent", [30.0, 50.0, 70.0, 85.0])
def test_percent_stenosis_of_drawn_narrowings(percent: float) -> None:
    tree, place, reference = case(percent)
    one = measure_stenosis(tree, place, mm_per_px=0.25, mm_per_px_sigma=0.01)
    assert abs(one.percent_diameter - percent) < 7.0
    assert abs(one.percent_diameter - percent) < 3.0 * one.percent_sigma + 1.0
    assert 0.5 < one.percent_sigma < 12.0
    assert abs(one.reference_px - reference) < 0.35
    assert np.hypot(*np.subtract(one.place_px, place)) < 3.0
    assert one.sides == 2
    assert one.percent_area == pytest.approx(100 * (1 - (1 - one.percent_diameter / 100) ** 2))
    document = one.to_dict()
    assert document["mld_mm"] == pytest.approx(0.25 * one.mld_px, abs=1e-3)
    assert document["mld_sigma_mm"] > 0.25 * one.mld_sigma_px * 0.99
    assert document["validated_on"]


def test_the_list_has_the_narrowing_first_and_none_in_a_healthy_vessel() -> None:
    tree, place, _ = case(60.0)
    found, _ = find_stenoses(tree)
    assert len(found) == 1
    assert np.hypot(*np.subtract(found[0].place_px, place)) < 3.0
    healthy, _ = find_stenoses(case(0.0)[0])
    assert healthy == []
    assert find_stenoses(VesselTree()) == ([], [])
    for odd in ({"least_percent": 120.0}, {"sigmas": -1.0}, {"sigmas": np.nan}):
        with pytest.raises(InputError):
            find_stenoses(tree, **odd)


def test_only_what_is_sure_is_listed() -> None:
    tree = case(60.0)[0]
    one = find_stenoses(tree)[0][0]
    least = one.percent_diameter - one.percent_sigma
    assert find_stenoses(tree, least_percent=least - 0.1, sigmas=1.0)[0]
    assert find_stenoses(tree, least_percent=least - 0.1, sigmas=2.0)[0] == []
    s, radius = narrowed(130.0, 7.0, percent=60.0, at=0.93, width_px=10.0)  # the vessel ends beyond it
    drawing = draw((110, 150), [Lumen(course(s, (15.0, 25.0), 25.0, 5.0), radius)], photons=3000)
    end = make_tree(make_work(drawing.frame, work_px=None).log, drawing.truth)
    assert find_stenoses(end)[0] == []
    assert all(s.sides == 1 for s in find_stenoses(end, least_sides=1)[0])


def test_stenosis_is_refused_where_it_cannot_be_told() -> None:
    tree, place, _ = case(50.0)
    with pytest.raises(RefusedError, match="no vessel within"):
        measure_stenosis(tree, (5.0, 100.0))
    with pytest.raises(InputError):
        measure_stenosis(tree, (np.nan, 3.0))
    with pytest.raises(RefusedError, match="no vessel"):
        measure_stenosis(VesselTree(), place)
    s, radius = narrowed(14.0, 6.0)
    short = draw((60, 60), [Lumen(course(s, (22.0, 30.0), 0.0), radius)])
    with pytest.raises(RefusedError, match=r"short|ends"):
        measure_stenosis(make_tree(make_work(short.frame, work_px=None).log, short.truth), (29.0, 30.0))


def test_nothing_is_measured_where_vessels_cross_and_none_turns_into_the_other() -> None:
    s, radius = narrowed(120.0, 6.0)
    lines = [course(s, (20.0, 30.0), 30.0), course(s, (20.0, 95.0), -32.0)]
    drawing = draw((120, 150), [Lumen(line, radius) for line in lines])
    tree = make_tree(make_work(drawing.frame, work_px=None).log, drawing.truth)
    gaps = np.linalg.norm(lines[0][:, None] - lines[1][None], axis=2)
    crossing = lines[0][np.unravel_index(gaps.argmin(), gaps.shape)[0]]
    with pytest.raises(RefusedError, match="meet or cross"):
        measure_stenosis(tree, tuple(crossing))
    long = [v for v in vessels_of(tree) if v.arc_px[-1] > 90]
    assert long  # where they cross at a slant one goes on, and the other ends there
    for vessel in long:
        off = [np.linalg.norm(vessel.points_px[:, None] - line[None], axis=2).min(1) for line in lines]
        assert min(o[5:-5].max() for o in off) < 4.0  # one line all along, not a turn into the other


def test_too_thin_for_the_blur_is_said() -> None:
    s, radius = narrowed(120.0, 2.2, percent=40.0)
    points = course(s, (15.0, 30.0), 15.0)
    thin = draw((90, 150), [Lumen(points, radius)], blur_px=1.2)
    tree = make_tree(make_work(thin.frame, work_px=None).log, thin.truth, blur_px=1.2)
    with pytest.raises(RefusedError):
        measure_stenosis(tree, tuple(points[len(points) // 2]))
