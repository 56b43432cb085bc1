"""Needles in MR: a plain second painter, things that are no needle, one slice, and input that can't be searched."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import Grid, InputError, NeedleStatus, Volume
from IRAILib.needle.mr import find_needle_mr_slice, find_needles_mr
from needle_mr_cases import angle_deg, mr_phantom, plain_void, ras_of

CASES = [((5.0, 12.0, 2.0), (48.0, 55.0, 14.0), 1.8), ((-8.0, 5.0, -4.0), (-66.0, 22.0, 6.0), 1.4),
         ((10.0, 10.0, 8.0), (14.0, 22.0, -60.0), 2.2)]


@pytest.fixture(scope="module")
def phantom() -> Volume:
    return mr_phantom()


@pytest.mark.parametrize(("tip", "entry", "radius_mm"), CASES)
def test_the_tip_of_a_plain_void(phantom, tip, entry, radius_mm):
    tip, entry = ras_of(phantom, tip), ras_of(phantom, entry)
    found = find_needles_mr(plain_void(phantom, tip, entry, radius_mm))
    assert len(found) == 1
    needle = found[0]
    assert needle.status is NeedleStatus.SEEN
    assert (needle.frame, needle.units, needle.modality) == ("RAS", "mm", "MR")
    assert np.linalg.norm(needle.tip - tip) < 2.8
    assert angle_deg(needle.direction, (tip - entry) / np.linalg.norm(tip - entry)) < 1.0
    assert np.linalg.norm(needle.tip - tip) < 3.5 * needle.sigma


def test_a_bent_void_is_a_curve(phantom):
    tip, entry = ras_of(phantom, (10.0, 15.0, 2.0)), ras_of(phantom, (-60.0, 30.0, 5.0))
    needle = find_needles_mr(plain_void(phantom, tip, entry, 1.8, bow_mm=4.0))[0]
    assert np.linalg.norm(needle.tip - tip) < 2.8
    assert len(needle.curve) > 2
    middle = needle.curve[len(needle.curve) // 2]
    chord = needle.curve[-1] - needle.curve[0]
    off = np.cross(middle - needle.curve[0], chord / np.linalg.norm(chord))
    assert np.linalg.norm(off) > 2.0


def test_two_needles_are_told_apart_and_expected_takes_the_best(phantom):
    tips = [ras_of(phantom, (5.0, 12.0, 2.0)), ras_of(phantom, (-12.0, 14.0, 4.0))]
    entries = [ras_of(phantom, (48.0, 55.0, 10.0)), ras_of(phantom, (-60.0, 48.0, 10.0))]
    volume = phantom
    for tip, entry in zip(tips, entries, strict=True):
        volume = plain_void(volume, tip, entry)
    found = find_needles_mr(volume)
    assert len(found) == 2
    for tip in tips:
        assert min(np.linalg.norm(needle.tip - tip) for needle in found) < 2.8
    assert len(find_needles_mr(volume, expected=1)) == 1


def test_cavities_and_curved_vessels_are_no_needles(phantom):
    assert find_needles_mr(phantom) == []


def test_a_region_without_the_needle_has_none(phantom):
    tip, entry = ras_of(phantom, CASES[0][0]), ras_of(phantom, CASES[0][1])
    volume = plain_void(phantom, tip, entry)
    away = ras_of(phantom, (-30.0, 30.0, 0.0))
    assert find_needles_mr(volume, region=(tuple(away - 15.0), tuple(away + 15.0))) == []


def test_a_needle_through_the_whole_volume_has_no_tip(phantom):
    volume = plain_void(phantom, ras_of(phantom, (0.0, 20.0, 80.0)), ras_of(phantom, (4.0, 10.0, -80.0)))
    found = find_needles_mr(volume)
    assert [needle.status for needle in found] == [NeedleStatus.OUT_OF_PLANE]
    assert found[0].tip is None


def test_the_result_goes_into_json(phantom):
    tip, entry = ras_of(phantom, CASES[0][0]), ras_of(phantom, CASES[0][1])
    said = []
    document = find_needles_mr(plain_void(phantom, tip, entry), progress=lambda part, text: said.append(part),
                               time_s=12.5)[0].to_dict()
    assert (document["found"], document["units"], document["time_s"]) == (True, "mm", 12.5)
    assert "no real needle MR" in document["validated_on"]
    assert (said[0], said[-1]) == (0.0, 1.0)
    assert said == sorted(said)


def _slice(seed: int = 0, thick_mm: float = 5.0) -> Volume:
    whole = mr_phantom(shape=(1, 160, 160), spacing_mm=(1.0, 1.0, thick_mm), seed=seed)
    return whole


def test_one_slice_gives_the_tip_and_says_what_it_cannot_know():
    image = _slice()
    tip, entry = ras_of(image, (0.0, 10.0, 0.0)), ras_of(image, (60.0, 60.0, 0.0))
    found = find_needle_mr_slice(plain_void(image, tip, entry))
    assert found.status is NeedleStatus.SEEN
    assert np.linalg.norm(found.tip - tip) < 2.0
    assert angle_deg(found.direction, (tip - entry) / np.linalg.norm(tip - entry)) < 1.0
    normal = image.grid.directions[:, 2]
    assert np.sqrt(normal @ found.covariance @ normal) > 5.0 / np.sqrt(12.0)
    assert found.in_plane > 0.5


def test_a_shaft_that_leaves_the_slice_has_no_tip():
    image = _slice()
    tip, entry = ras_of(image, (-20.0, 0.0, 8.0)), ras_of(image, (60.0, 50.0, -4.0))
    found = find_needle_mr_slice(plain_void(image, tip, entry))
    assert found.status is NeedleStatus.OUT_OF_PLANE
    assert found.tip is None


def test_a_slice_without_a_needle_is_absent():
    found = find_needle_mr_slice(_slice(seed=3))
    assert found.status is NeedleStatus.ABSENT
    assert (found.found, found.confidence) == (False, 0.0)


def test_the_frame_before_helps_and_does_not_bind():
    image = _slice()
    tip, entry = ras_of(image, (0.0, 10.0, 0.0)), ras_of(image, (60.0, 60.0, 0.0))
    first = find_needle_mr_slice(plain_void(image, tip, entry))
    ahead = tip + 4.0 * first.direction
    near = find_needle_mr_slice(plain_void(image, ahead, entry), previous=first)
    assert np.linalg.norm(near.tip - ahead) < 2.0
    elsewhere = ras_of(image, (-10.0, 30.0, 0.0))
    far = find_needle_mr_slice(plain_void(image, elsewhere, ras_of(image, (-60.0, 60.0, 0.0))), previous=first)
    assert np.linalg.norm(far.tip - elsewhere) < 2.0


@pytest.mark.parametrize(("change", "words"), [
    (lambda a: a - 1000.0, "no MR magnitude"), (lambda a: a * np.nan, "finite"), (lambda a: a * 0.0, "no image"),
    (lambda a: a[:, :8], "too small")])
def test_what_is_no_mr_is_refused(phantom, change, words):
    array = change(phantom.array[:4].copy())
    with pytest.raises(InputError, match=words):
        find_needles_mr(Volume(array, Grid(array.shape, phantom.ras_from_ijk), "scan"))


def test_impossible_wishes_are_refused(phantom):
    with pytest.raises(InputError, match="expected=0"):
        find_needles_mr(phantom, expected=0)
    with pytest.raises(InputError, match="no voxel"):
        find_needles_mr(phantom, region=((9e3, 9e3, 9e3), (9.1e3, 9.1e3, 9.1e3)))
    with pytest.raises(InputError, match="are a volume"):
        find_needle_mr_slice(phantom)
