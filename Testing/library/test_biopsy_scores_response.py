"""RECIST 1.1, mRECIST, volumes, TICI: limits on both sides, the paper's tables, what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IRAILib.biopsy.scores import score
from IRAILib.biopsy.scores.lesions import Lesion, read_lesions
from IRAILib.biopsy.scores.recist import overall_response, response_of_sums, targets_response
from IRAILib.geometry import InputError, RefusedError


def recist(targets, non_target="none", new="no", name="recist", **more):
    return score(name, {"targets": targets, "non_target": non_target, "new_lesions": new, **more})


def test_lesions_are_read_from_text_and_lists() -> None:
    text = read_lesions("liver 4.2cm 30mm NE; node:Hilum 18mm TSM 0mm")
    assert text == [Lesion("liver", False, (42.0, 30.0, None)), Lesion("hilum", True, (18.0, 5.0, 0.0))]
    listed = [{"organ": "liver", "diameters": ["4.2cm", "30mm", None]},
              {"organ": "hilum", "node": True, "diameters": ["18mm", "TSM", "0mm"]}]
    assert read_lesions(listed) == text
    assert read_lesions("; ".join(lesion.text() for lesion in text)) == text
    assert read_lesions("") == read_lesions([]) == []


@pytest.mark.parametrize("bad", ["liver", "liver 42mm", "liver 42 30", "42mm 30mm", "liver 42mm -1mm",
                                 "liver 42mm 30mg",
                                 "liver 42mm 600mm", "liver 42mm 30mm; lung 20mm 10mm 5mm", "liver nanmm 3mm", 5, None,
                                 [{"organ": "liver"}], [{"organ": "liver", "diameters": "42mm"}], [["liver", 42]],
                                 [{"organ": "liver", "diameters": [42, 30]}],
                                 [{"organ": "", "diameters": ["1cm", "1cm"]}],
                                 [{"organ": "liver", "node": "no", "diameters": ["2cm", "1cm"]}]])
def test_bad_lesions_are_refused(bad) -> None:
    with pytest.raises(InputError):
        read_lesions(bad)


@pytest.mark.parametrize(("targets", "category"), [
    ("liver 100mm 70mm", "PR"), ("liver 100mm 70.1mm", "SD"), ("liver 100mm 120mm", "PD"),
    ("liver 100mm 119.9mm", "SD"),
    ("liver 20mm 24mm", "SD"), ("liver 20mm 24.9mm", "SD"), ("liver 20mm 25mm", "PD"), ("liver 50mm 0mm", "CR"),
    ("liver 100mm 50mm 60mm", "PD"), ("liver 100mm 50mm 59mm", "PR"), ("liver 100mm 20mm 24.9mm", "PR"),
    ("node:groin 20mm 9.9mm", "CR"), ("node:groin 20mm 10mm", "PR"), ("node:groin 20mm 14mm", "PR"),
    ("node:groin 20mm 14.1mm", "SD"), ("liver 30mm 0mm; node:groin 20mm 9mm", "CR"),
    ("liver 30mm TSM; node:groin 20mm 9mm", "PR"), ("liver 50mm 0mm 6mm", "PD"), ("liver 50mm 0mm 3mm", "PD"),
    ("liver 50mm NE", "NE"), ("liver 50mm 40mm; lung 50mm NE", "NE"), ("liver 50mm 121mm; lung 50mm NE", "PD"),
    ("liver 50mm NE 60mm", "PD"), ("liver 60mm 30mm; lung 40mm NE", "NE")])
def test_targets(targets, category) -> None:
    assert recist(targets).details["targets"] == category


def test_sums_are_against_baseline_and_nadir() -> None:
    details = recist("liver 60mm 30mm 36mm; node:groin 40mm 20mm 22mm").details
    assert (details["sum_baseline_mm"], details["sum_nadir_mm"], details["sum_now_mm"]) == (100, 50, 58)
    assert details["from_baseline_percent"] == pytest.approx(-42)
    assert details["from_nadir_percent"] == pytest.approx(16)


TABLE = [("CR", "CR", False, "CR"), ("CR", "none", False, "CR"), ("CR", "non-CR/non-PD", False, "PR"),
         ("CR", "NE", False, "PR"), ("PR", "non-CR/non-PD", False, "PR"), ("PR", "NE", False, "PR"),
         ("PR", "CR", False, "PR"), ("SD", "non-CR/non-PD", False, "SD"), ("SD", "NE", False, "SD"),
         ("SD", "CR", False, "SD"), ("NE", "non-CR/non-PD", False, "NE"), ("NE", "CR", False, "NE"),
         ("PD", "CR", False, "PD"), ("PD", "NE", True, "PD"), ("CR", "PD", False, "PD"), ("NE", "PD", False, "PD"),
         ("CR", "CR", True, "PD"), ("NE", "NE", True, "PD"), (None, "CR", False, "CR"),
         (None, "non-CR/non-PD", False, "non-CR/non-PD"), (None, "NE", False, "NE"), (None, "PD", False, "PD"),
         (None, "CR", True, "PD")]


@pytest.mark.parametrize(("targets", "non_target", "new", "overall"), TABLE)
def test_the_papers_tables_of_overall_response(targets, non_target, new, overall) -> None:
    assert overall_response(targets, non_target, new) == overall


def test_overall_response_through_the_score() -> None:
    assert recist("liver 50mm 0mm", "CR").grade == "CR"
    assert recist("liver 50mm 0mm", "CR", "yes").grade == "PD"
    equivocal = recist("liver 50mm 0mm", "CR", "equivocal")
    assert equivocal.grade == "CR"
    assert any("equivocal" in text for text in equivocal.warnings)
    alone = recist("", "non-CR/non-PD")
    assert (alone.grade, alone.value) == ("non-CR/non-PD", None)
    with pytest.raises(RefusedError):
        recist("", "none")


def test_what_is_not_measurable_is_refused() -> None:
    for targets in ("liver 9.9mm 5mm", "node:groin 14.9mm 5mm", "liver 50mm 30mm; lung 9mm 9mm"):
        with pytest.raises(RefusedError, match="not measurable"):
            recist(targets)
    assert recist("liver 10mm 5mm").grade == "PR"
    assert recist("node:groin 15mm 9mm").grade == "CR"
    with pytest.raises(RefusedError, match="at least 16 mm"):
        recist("liver 15mm 5mm", slice_thickness="8mm")
    with pytest.raises(InputError, match="baseline"):
        recist("liver NE 30mm")


def test_five_targets_two_in_an_organ_and_nodes_are_one() -> None:
    five = "liver 20mm 20mm; liver 20mm 20mm; lung 20mm 20mm; lung 20mm 20mm; node:groin 20mm 20mm"
    assert recist(five).grade == "SD"
    for more in ("; node:neck 20mm 20mm", "; bone 20mm 20mm"):
        with pytest.raises(InputError, match="at most 5"):
            recist(five + more)
    with pytest.raises(InputError, match="more than 2 in liver"):
        recist("liver 20mm 20mm; Liver 20mm 20mm; liver 20mm 20mm")
    with pytest.raises(InputError, match="lymph nodes"):
        recist("node:a 20mm 20mm; node:b 20mm 20mm; node:c 20mm 20mm")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.floats(10, 200), min_size=1, max_size=2), st.floats(0, 3), st.floats(1.0, 1.5))
def test_growing_never_turns_a_response_better(sizes, factor, more) -> None:
    order = {"CR": 0, "PR": 1, "SD": 2, "PD": 3}
    then = [Lesion("liver", False, (size, min(size * factor, 490.0))) for size in sizes]
    later = [Lesion("liver", False, (size, min(size * factor * more, 490.0))) for size in sizes]
    assert order[targets_response(then).category] <= order[targets_response(later).category]


def test_by_itself_a_sum_must_grow_by_5_mm() -> None:
    assert response_of_sums(20, 20, 25, all_gone=False).category == "PD"
    assert response_of_sums(20, 20, 24.95, all_gone=False).category == "SD"
    assert targets_response([Lesion("liver", False, (20.0, 25.0))]).category == "PD"
    assert response_of_sums(20, 0.5, 0.9, all_gone=False).from_nadir_percent == pytest.approx(80)
    assert response_of_sums(0.5, 0, 0.1, all_gone=False).from_nadir_percent is None


def test_bad_sums_are_refused() -> None:
    for sums in ((0, 0, 0), (10, 11, 5), (10, 5, -1), (math.nan, 5, 5), (10, 5, math.inf), (10, math.nan, 5)):
        with pytest.raises(InputError):
            response_of_sums(*sums, all_gone=False)


def test_mrecist_is_about_what_enhances() -> None:
    assert recist("liver 40mm 0mm; liver 30mm 0mm", name="mrecist").grade == "CR"
    assert recist("liver 40mm 28mm", name="mrecist").grade == "PR"
    assert recist("liver 40mm 28.1mm", name="mrecist").grade == "SD"
    grown = recist("liver 20mm 24mm", name="mrecist")
    assert grown.grade == "PD"
    assert any("5 mm" in text for text in grown.warnings)
    assert recist("liver 20mm 24mm").grade == "SD"
    assert not any("5 mm" in text for text in recist("liver 20mm 25mm", name="mrecist").warnings)
    with pytest.raises(RefusedError, match="at least 20 mm"):
        recist("node:porta 19mm 9mm", name="mrecist")
    assert recist("node:porta 20mm 9mm", name="mrecist").grade == "CR"
    assert recist("node:groin 15mm 9mm", name="mrecist").grade == "CR"
    with pytest.raises(RefusedError, match="not measurable"):
        recist("liver 0mm 0mm", name="mrecist")


def volumes(baseline, nadir, now, **more):
    return score("volume-response", {"baseline": f"{baseline}mL", "nadir": f"{nadir}mL", "now": f"{now}mL",
                                     "new_lesions": "no", **more})


@pytest.mark.parametrize(("values", "criterion", "grade"), [
    ((100, 100, 34.3), "sphere", "PR"), ((100, 100, 34.4), "sphere", "SD"), ((100, 100, 35), "rounded", "PR"),
    ((100, 100, 35.1), "rounded", "SD"), ((100, 50, 86.4), "sphere", "PD"), ((100, 50, 86.3), "sphere", "SD"),
    ((100, 50, 86.5), "rounded", "PD"), ((100, 50, 86.4), "rounded", "SD"), ((100, 0, 0), "sphere", "CR"),
    ((100, 0, 1), "sphere", "PD")])
def test_volume_limits(values, criterion, grade) -> None:
    assert volumes(*values, criterion=criterion).grade == grade


def test_volume_input() -> None:
    assert volumes(100, 100, 0, new_lesions="yes").grade == "PD"
    for bad in ((0, 0, 5), (100, 120, 50), (100, 50, -1)):
        with pytest.raises(InputError):
            volumes(*bad)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(30, 150), st.floats(0.05, 2.0))
def test_volumes_of_balls_agree_with_diameters(diameter, factor) -> None:
    """The limits are cubes of RECIST's; within a hair of a limit rounding may decide."""
    if min(abs(factor - 0.7), abs(factor - 1.2)) < 1e-3:
        return
    ball = [math.pi / 6 * (size / 10) ** 3 for size in (diameter, diameter, diameter * factor)]
    by_volume = score("volume-response", {"baseline": f"{ball[0]:.9f}mL", "nadir": f"{ball[1]:.9f}mL", "now":
                                          f"{ball[2]:.9f}mL", "new_lesions": "no"}).grade
    assert by_volume == response_of_sums(diameter, diameter, diameter * factor, all_gone=False).category


TICI = {"scale": "eTICI", "grade": "2c", "occlusion": "M1", "passes": 1}


@pytest.mark.parametrize(("scale", "grade", "share", "fits"), [
    ("eTICI", "2a", 0, False), ("eTICI", "2a", 1, True), ("eTICI", "2a", 49, True), ("eTICI", "2a", 50, False),
    ("eTICI", "2b50", 50, True), ("eTICI", "2b50", 66, True), ("eTICI", "2b50", 67, False), ("eTICI", "2b67", 67, True),
    ("eTICI", "2b67", 89, True), ("eTICI", "2b67", 90, False), ("eTICI", "2c", 90, True), ("eTICI", "2c", 99, True),
    ("eTICI", "2c", 100, False), ("eTICI", "3", 100, True), ("eTICI", "3", 99, False), ("eTICI", "0", 0, True),
    ("eTICI", "0", 5, False), ("mTICI", "2a", 49, True), ("mTICI", "2b", 50, True), ("mTICI", "2b", 99, True),
    ("mTICI", "2b", 100, False), ("mTICI", "3", 100, True)])
def test_tici_grade_and_share_must_agree(scale, grade, share, fits) -> None:
    values = {**TICI, "scale": scale, "grade": grade, "reperfused": f"{share}%"}
    if fits:
        assert score("tici", values).grade == f"{scale} {grade}"
    else:
        with pytest.raises(InputError, match="doesn't fit"):
            score("tici", values)


def test_tici_sheet() -> None:
    sheet = score("tici", TICI)
    assert sheet.value is None
    assert sheet.details["first_pass_effect"] is True
    assert score("tici", {**TICI, "passes": 2}).details["first_pass_effect"] is False
    assert score("tici", {**TICI, "grade": "2b67"}).details["success"] is True
    assert score("tici", {**TICI, "grade": "2a"}).details["success"] is False
    assert any("readers differ" in text for text in score("tici", {**TICI, "second_reader": "3"}).warnings)
    for bad in ({"scale": "mTICI"}, {"grade": "2b"}, {"grade": "4"}, {"passes": -1}, {"passes": "1.5"}):
        with pytest.raises(InputError):
            score("tici", {**TICI, **bad})
