"""Vessels in angiograms, part by part, against drawn lumens of known course and width (vessels_cases)."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.fluoroscopy.vessels import find_vessels, find_vessels_in, fullest_frame, scale_from_catheter, without_edges
from IRAILib.fluoroscopy.vessels_frangi import frangi_mask, hysteresis, polarity_of, ridges
from IRAILib.fluoroscopy.vessels_profile import Tube, estimate_blur, fit_profiles, normals_of, spline_of
from IRAILib.fluoroscopy.vessels_scores import auc, centreline_agreement, cl_dice, dice
from IRAILib.fluoroscopy.vessels_tree import make_tree, skeleton_of, smooth_line, trace
from IRAILib.fluoroscopy.vessels_work import beam_field, make_work
from IRAILib.geometry import InputError, RefusedError
from vessels_cases import Lumen, course, draw, narrowed


def one_vessel(diameter: float, **kwargs):
    s, radius = narrowed(170.0, diameter)
    points = course(s, (25.0, 35.0), 35.0, 10.0)
    return draw((160, 190), [Lumen(points, radius)], **kwargs), points


def fork():
    """A trunk of 7 px, and from its middle a branch of 4 px."""
    s, radius = narrowed(190.0, 7.0)
    trunk = course(s, (20.0, 60.0), 20.0, 8.0)
    s2, radius2 = narrowed(90.0, 4.0)
    return draw((170, 230), [Lumen(trunk, radius), Lumen(course(s2, tuple(trunk[len(trunk) // 2]), -80.0, -5.0),
                                                         radius2)], photons=3000)


@pytest.mark.parametrize(("diameter", "blur"), [(3.0, 0.7), (4.5, 1.0), (6.0, 1.3), (9.0, 0.9)])
def test_fitted_diameters_are_those_drawn(diameter: float, blur: float) -> None:
    drawing, points = one_vessel(diameter, blur_px=blur)
    places = points[80:-80:5]
    fits = fit_profiles(spline_of(np.log(drawing.frame + 1)), places, normals_of(places),
                        np.full(len(places), diameter / 2), drawing.truth, Tube(blur))
    off = fits.diameter_px - diameter
    assert np.isfinite(off).mean() > 0.95
    assert abs(np.nanmean(off)) < 0.12
    assert 0.5 < np.nanstd(off / fits.sigma_px) < 1.8


def test_thin_vessel_is_measured_once_its_filling_is_known() -> None:
    drawing, points = one_vessel(1.5, blur_px=0.8)
    places = points[80:-80:5]
    rest = (spline_of(np.log(drawing.frame + 1)), places, normals_of(places), np.full(len(places), 0.8), drawing.truth)
    known = fit_profiles(*rest, Tube(0.8, np.full(len(places), 0.12)))
    assert abs(np.nanmean(known.diameter_px) - 1.5) < 0.15
    assert np.nanstd(known.diameter_px) < 0.5 * np.nanstd(fit_profiles(*rest, Tube(0.8)).diameter_px)
    assert np.nanmedian(known.half_width_px) > 1.8  # the half width alone is the blur's


def test_a_profile_without_vessel_has_no_diameter() -> None:
    empty = draw((80, 80), [], seed=4)
    places = np.stack([np.linspace(20, 60, 40), np.full(40, 40.0)], 1)
    fits = fit_profiles(spline_of(np.log(empty.frame)), places, normals_of(places), np.full(40, 2.0),
                        np.zeros((80, 80), bool), Tube(0.9))
    assert np.isnan(fits.diameter_px).mean() > 0.6
    none = fit_profiles(spline_of(np.log(empty.frame)), places[:0], places[:0], np.zeros(0), empty.truth, Tube())
    assert none.diameter_px.shape == (0,)


def test_the_blur_is_estimated_and_a_neighbour_is_no_ground() -> None:
    for blur in (0.7, 1.4):
        drawing, points = one_vessel(7.0, blur_px=blur)
        places = points[60:-60:4]
        found = estimate_blur(spline_of(np.log(drawing.frame + 1)), places, normals_of(places),
                              np.full(len(places), 3.5), drawing.truth)
        assert abs(found - blur) < 0.35
    s, radius = narrowed(120.0, 5.0)
    pair = draw((70, 150), [Lumen(course(s, (15.0, y), 0.0), radius) for y in (30.0, 39.0)])
    places = course(s, (15.0, 30.0), 0.0)[80:-80:6]
    rest = (spline_of(np.log(pair.frame + 1)), places, normals_of(places), np.full(len(places), 2.5))
    masked, blind = (fit_profiles(*rest, mask, Tube(0.9)) for mask in (pair.truth, np.zeros((70, 150), bool)))
    assert abs(np.nanmedian(masked.diameter_px) - 5.0) < 0.3
    assert abs(np.nanmedian(blind.diameter_px) - 5.0) > abs(np.nanmedian(masked.diameter_px) - 5.0)


def test_the_tree_of_a_fork() -> None:
    drawing = fork()
    tree = make_tree(make_work(drawing.frame, work_px=None).log, drawing.truth)
    assert sorted(tree.degree) == [1, 1, 1, 3]
    assert len(tree.branches) == 3
    for branch in tree.branches:
        gaps = [np.linalg.norm(branch.points_px[:, None] - lumen.points[None], axis=2) for lumen in drawing.lumens]
        own = int(np.argmin([gap.min(1).mean() for gap in gaps]))
        free = ~branch.near_junction
        free[:4] = free[-4:] = False
        assert gaps[own].min(1)[free].mean() < 0.3
        truth = 2 * drawing.lumens[own].radius_px[gaps[own].argmin(1)]
        assert abs(np.nanmedian((branch.diameter_px - truth)[free])) < 0.3
    assert any(b.near_junction.any() for b in tree.branches)
    assert abs(tree.length_px - 280.0) < 14.0
    document = tree.to_dict(0.25)
    assert document["branches"][0]["diameter_mm"] is not None
    assert make_tree(np.zeros((50, 50)), np.zeros((50, 50), bool)).branches == []


def test_a_broken_mask_is_bridged_but_parallel_vessels_are_not() -> None:
    drawing, _ = one_vessel(5.0)
    log = make_work(drawing.frame, work_px=None).log
    gap = drawing.truth.copy()
    gap[:, 92:98] = False
    assert len(make_tree(log, gap).branches) == 1
    gap[:, 70:120] = False
    assert len(make_tree(log, gap).branches) == 2
    s, radius = narrowed(100.0, 4.0)
    pair = draw((70, 130), [Lumen(course(s, (15.0, y), 0.0), radius) for y in (30.0, 42.0)])
    assert len(make_tree(make_work(pair.frame, work_px=None).log, pair.truth).branches) == 2


def test_skeleton_and_lines() -> None:
    disk = np.hypot(*np.mgrid[-20:21, -20:21]) < 9
    paths, _, _ = trace(skeleton_of(disk), np.full(disk.shape, 9.0))
    assert len(paths) <= 1
    line = smooth_line(np.stack([np.arange(40), np.repeat(np.arange(10), 4)], 1))
    assert np.allclose(line[[0, -1]], [[0, 0], [39, 9]], atol=1.2)
    assert np.abs(np.diff(line, 2, axis=0)).max() < 0.2
    assert len(smooth_line(np.array([[3, 4]]))) == 1


def test_frangi_finds_the_drawn_vessels_dark_and_bright() -> None:
    drawing = fork()
    work = make_work(drawing.frame)
    assert dice(frangi_mask(ridges(work)), drawing.truth) > 0.7
    assert polarity_of(drawing.frame) == "dark"
    assert polarity_of(drawing.frame.max() - drawing.frame) == "bright"
    logs = np.log(drawing.frame + 1)
    for frame, polarity in ((drawing.frame, "dark"), (drawing.frame.max() - drawing.frame, "bright"),
                            (logs - logs.mean() - 0.01, "dark"), (drawing.frame.astype(np.uint16), "dark")):
        found = find_vessels(frame, method="frangi", diameters=False)
        assert found.polarity == polarity
        assert dice(found.mask, drawing.truth) > 0.65


def test_noise_alone_is_no_vessel() -> None:
    for seed in range(4):
        found = find_vessels(draw((200, 220), [], seed=seed, photons=800).frame, method="frangi", polarity="dark")
        assert found.mask.mean() < 0.02


def test_collimators_edges_are_left_out() -> None:
    drawing, _ = one_vessel(6.0)
    frame = np.full((300, 300), 4.0)
    frame[60:220, 55:245] = drawing.frame
    field = beam_field(frame)
    assert not field[10, 10]
    assert field[100, 150]
    work = make_work(frame)
    assert ridges(work)[:55].max() == 0.0
    values = np.zeros((200, 200))
    values[3:6, 20:180] = 1.0  # along the edge
    values[0:90, 100:104] = 1.0  # across it
    kept = without_edges(np.where(np.arange(200)[None] > 150, values, values * (np.arange(200)[:, None] != 5)),
                         np.ones((200, 200), bool), 0.5, 1.0)
    assert kept[:, 170].max() == 0.0
    assert kept[40:90, 101].min() == 1.0


@pytest.mark.parametrize(("frame", "words"), [
    (np.zeros((100, 100)), "uniform"), (np.full((100, 100), np.nan), "not finite"), (np.zeros((4, 4)), "pixels"),
    (np.zeros((3, 100, 100)), "one grey frame"), (np.zeros((100, 100, 3), np.uint8), "one grey frame"),
    (np.full((64, 64), "a"), "grey values"), (np.full((50, 50), 1e30, np.float32), "uniform"),
    (np.zeros(0), "one grey"),
])
def test_frames_that_cannot_be_used(frame: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        find_vessels(frame, method="frangi")
    assert "\n" not in str(caught.value)


def test_odd_requests_are_refused() -> None:
    frame = fork().frame
    for options in ({"method": "magic"}, {"polarity": "green"}, {"mm_per_px": 0.0}, {"mm_per_px": np.nan},
                    {"mm_per_px": 0.2, "mm_per_px_sigma": -1.0}):
        with pytest.raises(InputError):
            find_vessels(frame, **({"method": "frangi"} | options))  # type: ignore[arg-type]
    huge = find_vessels(frame * 1e20, method="frangi", diameters=False)
    assert huge.found
    long = np.tile(frame[:40], (1, 3))
    assert find_vessels(long, method="frangi").mask.shape == long.shape


def test_the_scale_of_a_catheter() -> None:
    s, radius = narrowed(150.0, 8.0)
    points = course(s, (20.0, 30.0), 30.0)
    drawing = draw((130, 180), [Lumen(points, radius)])
    found = scale_from_catheter(drawing.frame, [points[100] + (0, 2.0), points[420] - (0, 1.5)], 6.0)
    assert abs(found.mm_per_px - 2.0 / 8.0) < 0.012
    assert abs(found.mm_per_px - 2.0 / 8.0) < 3 * found.sigma
    for line, french, kind in (([(1, 1), (4, 4)], 6.0, RefusedError), ([(10, 100), (60, 120)], 6.0, RefusedError),
                               ([(-5, 0), (60, 60)], 6.0, InputError), ([(5, 5), (60, 60)], 90.0, InputError),
                               ([(5, 5), (np.nan, 60)], 6.0, InputError)):
        with pytest.raises(kind):
            scale_from_catheter(drawing.frame, line, french)


def test_the_fullest_frame_and_mm() -> None:
    drawing = fork()
    empty = draw((170, 230), [], photons=3000, seed=9).frame
    run = np.stack([np.zeros_like(empty), empty, drawing.frame, empty])  # first the mask of a subtraction
    assert fullest_frame(run) == 2
    assert fullest_frame(run[:1]) == 0
    none, seen = find_vessels_in(run, [0, 2], method="frangi", diameters=False)
    assert seen.found
    assert not none.found
    assert none.to_dict()["vessel_fraction"] == 0.0
    with pytest.raises(InputError, match="uniform"):
        find_vessels_in(run, [0])
    with pytest.raises(InputError, match="no frame 7"):
        find_vessels_in(run, [7])
    found = find_vessels(drawing.frame, method="frangi", mm_per_px=0.25)
    assert found.diameters_mm is not None
    assert np.allclose(found.diameters_mm[0], 0.25 * found.diameters_px[0], equal_nan=True)
    document = found.to_dict()
    assert document["frame"].startswith("Image")
    assert document["validated_on"]


def test_scores() -> None:
    a = np.zeros((40, 40), bool)
    a[18:22, 5:35] = True
    b = np.roll(a, 1, axis=0)
    assert dice(a, b) == pytest.approx(0.75)
    assert dice(a, a) == cl_dice(a, a) == 1.0
    assert centreline_agreement(a, b) == (1.0, 1.0)
    assert centreline_agreement(a, np.roll(a, 10, axis=0)) == (0.0, 0.0)
    assert centreline_agreement(a & False, a) == (0.0, 0.0)
    assert dice(a & False, a & False) == 1.0
    values = np.array([0.1, 0.4, 0.35, 0.8])
    assert auc(values, np.array([False, False, True, True])) == pytest.approx(0.75)
    assert hysteresis(np.array([[0.5, 0.9, 0.0, 0.5]]), 0.4, 0.8, 1).tolist() == [[True, True, False, False]]
