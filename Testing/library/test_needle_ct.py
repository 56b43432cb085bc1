"""Needles in CT against painted truth; the second painter shares nothing with the library's."""

from __future__ import annotations

import json

import numpy as np
import pytest
from IRAILib.geometry import Grid, InputError, Mask, NeedleStatus, Volume
from IRAILib.needle.ct import find_needle_ct_slice, find_needles_ct
from IRAILib.needle.paint_ct import PaintedNeedle, paint_needles_ct
from needle_ct_cases import errors, second_painter, water_phantom


@pytest.fixture(scope="module")
def phantom() -> Volume:
    return water_phantom()


def at(volume: Volume, k: float, j: float, i: float) -> np.ndarray:
    return volume.grid.points_ras(np.array([[k, j, i]]))[0]


def needle(volume: Volume, tip=(18.3, 70.2, 95.6), entry=(22.0, 40.0, 8.0), **options) -> PaintedNeedle:
    a, b = at(volume, *tip), at(volume, *entry)
    return PaintedNeedle(a, a - b, float(np.linalg.norm(a - b)), **{"radius_mm": 0.8, **options})


def test_straight_needle_with_beam_hardening(phantom):
    truth = needle(phantom)
    found = find_needles_ct(paint_needles_ct(phantom, [truth]))
    assert len(found) == 1
    tip, angle, curve = errors(found[0], truth)
    assert tip < 0.6
    assert angle < 0.5
    assert curve < 0.6
    assert found[0].status is NeedleStatus.SEEN
    assert found[0].frame == "RAS"
    assert found[0].units == "mm"
    assert 0.05 < found[0].sigma < 1.5
    assert not found[0].ambiguous_end
    assert found[0].length_mm == pytest.approx(truth.length_mm, abs=3.0)
    assert found[0].depth_mm > 20.0


def test_another_painters_needles_one_bent(phantom):
    truth = [needle(phantom, bend_mm=0.0),
             needle(phantom, (10.4, 95.0, 110.0), (14.0, 60.0, 195.0), bend_mm=4.0,
                    bend_direction=np.array([0.2, 1.0, 0.1]))]
    found = find_needles_ct(second_painter(phantom, truth))
    assert len(found) == 2
    for wanted in truth:
        tip, _, curve = min(errors(f, wanted) for f in found)
        assert tip < 1.0
        assert curve < 1.0
    bent = max(found, key=lambda f: f.bow_mm)
    assert bent.bow_mm == pytest.approx(4.0, abs=0.8)
    assert len(bent.curve) > 10
    assert min(f.bow_mm for f in found) < 0.4


def test_needles_that_cross_and_needles_side_by_side(phantom):
    crossing = [needle(phantom, (20.0, 90.0, 110.0), (20.0, 50.0, 8.0)),
                needle(phantom, (20.0, 55.0, 100.0), (20.0, 95.0, 8.0))]
    beside = needle(phantom, (20.0, 97.0, 108.0), (20.0, 58.0, 8.0))
    found = find_needles_ct(paint_needles_ct(phantom, [*crossing, beside]))
    assert len(found) == 3
    for wanted in [*crossing, beside]:
        tip, angle, _ = min(errors(f, wanted) for f in found)
        assert tip < 1.0
        assert angle < 1.0


def test_bone_table_clips_and_a_cable_are_no_needles(phantom):
    clip = PaintedNeedle(at(phantom, 20, 80, 100), np.array([1.0, 0.2, 0.0]), 9.0, 0.8)
    array = paint_needles_ct(phantom, [clip]).array.copy()
    array[6:34, 12:14, 100:102] = 3000.0  # a cable along the body, in the air over the skin
    array[20, 150:152, 40:160] = 3000.0  # a wire on the table
    assert find_needles_ct(phantom.with_array(array)) == []


def test_result_goes_with_the_patient(phantom):
    """The same voxels in a turned patient give the same needle, turned."""
    painted = paint_needles_ct(phantom, [needle(phantom)])
    c, s = np.cos(0.6), np.sin(0.6)
    turn = np.array([[c, 0, s, 5.0], [0, 1, 0, -3.0], [-s, 0, c, 7.0], [0, 0, 0, 1]])
    turned = Volume(painted.array, Grid(painted.array.shape, turn @ painted.ras_from_ijk))
    before, after = find_needles_ct(painted)[0], find_needles_ct(turned)[0]
    np.testing.assert_allclose(after.tip, turn[:3, :3] @ before.tip + turn[:3, 3], atol=1e-6)
    np.testing.assert_allclose(after.direction, turn[:3, :3] @ before.direction, atol=1e-9)
    np.testing.assert_allclose(after.covariance, turn[:3, :3] @ before.covariance @ turn[:3, :3].T, atol=1e-6)


def test_both_ends_inside_is_said(phantom):
    inside = needle(phantom, (18.0, 70.0, 120.0), (20.0, 80.0, 60.0))
    found = find_needles_ct(paint_needles_ct(phantom, [inside]))[0]
    assert found.ambiguous_end
    assert found.sigma > 20.0
    ends = np.stack([found.tip, found.other_end])
    distance = np.linalg.norm(ends[:, None] - inside.curve(2)[None], axis=2)
    assert min(distance.trace(), distance[::-1].trace()) < 4.0


def test_through_the_body_has_no_tip(phantom):
    through = needle(phantom, (20.0, 62.0, 199.0), (20.0, 66.0, 0.0))
    found = find_needles_ct(paint_needles_ct(phantom, [through]))
    assert [f.status for f in found] == [NeedleStatus.OUT_OF_PLANE]
    assert found[0].tip is None
    assert found[0].curve is not None


def test_known_cone_moves_the_tip_to_its_point(phantom):
    truth = needle(phantom, cone_mm=4.0)
    painted = paint_needles_ct(phantom, [truth])
    along = truth.tip_direction()
    unknown, known = find_needles_ct(painted)[0], find_needles_ct(painted, tip_cone_mm=4.0)[0]
    assert -4.0 < (unknown.tip - truth.tip) @ along < -1.0
    assert abs((known.tip - truth.tip) @ along) < 1.0


def test_region_expected_and_json(phantom):
    truth = [needle(phantom), needle(phantom, (10.4, 95.0, 110.0), (14.0, 60.0, 195.0))]
    painted = paint_needles_ct(phantom, truth)
    assert len(find_needles_ct(painted)) == 2
    assert len(find_needles_ct(painted, expected=1)) == 1
    half = np.zeros(painted.array.shape, bool)
    half[:, :, :105] = True
    only = find_needles_ct(painted, region=Mask(half, painted.grid))
    assert len(only) == 1
    assert errors(only[0], truth[0])[0] < 1.0
    corners = painted.grid.points_ras(np.array([[0, 0, 0], [39, 159, 104]]))
    assert len(find_needles_ct(painted, region=(tuple(corners[0]), tuple(corners[1])))) == 1
    plain = json.loads(json.dumps(only[0].to_dict()))
    assert plain["found"]
    assert plain["frame"] == "RAS"
    assert plain["length_mm"] > 50.0
    assert len(plain["tip"]) == 3


@pytest.mark.parametrize("slices", [1, 4])
def test_slab(phantom, slices):
    flat = needle(phantom, (20.0, 70.3, 95.6), (20.0, 50.0, 8.0))
    painted = paint_needles_ct(phantom, [flat])
    first = 20 - slices // 2
    slab = painted.crop((first, 0, 0), (slices, *painted.array.shape[1:]))
    found = find_needle_ct_slice(slab)
    assert found.status is NeedleStatus.SEEN
    assert 0.0 < found.in_plane < 1.0
    across = found.tip - flat.tip
    assert np.linalg.norm(across[:2]) < 1.0
    assert np.sqrt(found.covariance[2, 2]) > 0.25 * 2.5
    dive = needle(phantom, (30.0, 75.0, 130.0), (14.0, 50.0, 8.0))
    slab = paint_needles_ct(phantom, [dive]).crop((first, 0, 0), (slices, *painted.array.shape[1:]))
    assert find_needle_ct_slice(slab, min_length_mm=12.0).tip is None
    empty = find_needle_ct_slice(phantom.crop((first, 0, 0), (slices, *painted.array.shape[1:])))
    assert empty.status is NeedleStatus.ABSENT
    assert not empty.found


def test_what_is_refused(phantom):
    with pytest.raises(InputError, match="not Hounsfield units"):
        find_needles_ct(phantom.with_array(phantom.array + 2000.0))
    with pytest.raises(InputError, match="no voxel"):
        find_needles_ct(phantom, region=((900.0, 900.0, 900.0), (950.0, 950.0, 950.0)))
    with pytest.raises(InputError, match="number of needles"):
        find_needles_ct(phantom, expected=0)
    with pytest.raises(InputError, match="spacing_mm"):
        find_needle_ct_slice(np.zeros((64, 64)))
    with pytest.raises(InputError, match="are a volume"):
        find_needle_ct_slice(phantom)
    broken = phantom.array.copy()
    broken[3, 4, 5] = np.nan
    with pytest.raises(InputError, match="aren't finite"):
        find_needles_ct(phantom.with_array(broken))
