"""MELD and heirs, Child-Pugh, ALBI, FIPS: examples, cut-offs on both sides, directions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IRAILib.biopsy.scores import score
from IRAILib.biopsy.scores.meld import nearest
from IRAILib.geometry import InputError


def meld(bilirubin, creatinine, inr, **more):
    name = more.pop("name", "meld")
    return score(name, {"bilirubin": f"{bilirubin}mg/dL", "creatinine": f"{creatinine}mg/dL", "inr": inr, **more})


def meld_na(bilirubin, creatinine, inr, sodium, **more):
    return meld(bilirubin, creatinine, inr, name="meld-na", sodium=f"{sodium}mmol/L", **more)


def meld_3(bilirubin, creatinine, inr, sodium, albumin, sex="male", **more):
    return meld(bilirubin, creatinine, inr, name="meld-3", sodium=f"{sodium}mmol/L", albumin=f"{albumin}g/dL",
                sex=sex, **more)


def test_meld_examples_of_other_programs() -> None:
    """ameld (R): 20.0391626 and 6.43; calculators printed on the web: 13 (1.9, 1.3, 1.2), 13 (1.5, 1.0, 1.5), 17."""
    assert meld(4.2, 1.9, 1.2).details["before_rounding"] == pytest.approx(20.0391626, abs=1e-4)
    assert meld(4.2, 1.9, 1.2).value == 20
    assert meld(0.9, 0.9, 0.9).details["before_rounding"] == pytest.approx(6.43)
    assert meld(1.9, 1.3, 1.2).value == 13
    assert meld(1.5, 1.0, 1.5).value == 13
    assert meld(2.0, 1.5, 1.5).value == 17


def test_meld_bounds() -> None:
    assert meld(0.5, 0.5, 0.9).value == meld(1, 1, 1).value == 6
    capped = {meld(*values).details["before_rounding"] for values in ((2, 4.0, 1.5), (2, 4.01, 1.5), (2, 9.0, 1.5))}
    assert capped == {meld(2, 1.0, 1.5, dialysis="yes").details["before_rounding"]}
    assert meld(2, 3.9, 1.5).details["before_rounding"] < meld(2, 4.0, 1.5).details["before_rounding"]
    assert meld(40, 4, 10).value == 40
    for worse in ((1.01, 1, 1), (1, 1.01, 1), (1, 1, 1.01)):
        assert meld(*worse).details["before_rounding"] > meld(0.99, 0.99, 0.99).details["before_rounding"]


def test_halves_round_upwards() -> None:
    assert [nearest(value) for value in (10.5, 11.5, 10.49, 10.499999999999)] == [11, 12, 10, 11]


def test_meld_na_examples_of_other_programs() -> None:
    """ameld: 28 at Na 125; a calculator's page: MELD 13, Na 135, MELD-Na 15."""
    assert meld_na(4.2, 1.9, 1.2, 125).value == 28
    assert meld_na(1.5, 1.0, 1.5, 135).value == 15
    assert meld_na(4.2, 1.9, 1.2, 137).value == 20
    by_hand = 20 + 1.32 * 12 - 0.033 * 20 * 12
    assert meld_na(4.2, 1.9, 1.2, 125).details["with_sodium_before_rounding"] == pytest.approx(by_hand, abs=1e-9)


def test_sodium_counts_above_11_only_and_between_125_and_137() -> None:
    eleven, twelve = meld_na(1.0, 1.0, 1.5, 125), meld_na(1.0, 1.0, 1.6, 125)
    assert (eleven.details["meld"], eleven.value) == (11, 11)
    assert (twelve.details["meld"], twelve.value) == (12, 23)
    assert meld_na(4.2, 1.9, 1.2, 120).value == meld_na(4.2, 1.9, 1.2, 125).value
    assert meld_na(4.2, 1.9, 1.2, 145).value == meld_na(4.2, 1.9, 1.2, 137).value
    assert meld_na(4.2, 1.9, 1.2, 126).value < meld_na(4.2, 1.9, 1.2, 125).value
    assert meld_na(40, 4, 10, 125).value == 40


def test_meld_3_by_hand_and_by_a_calculator() -> None:
    """By hand: 1.33 + 4.56 x 1.098612 + 0.82 x 7 - 0.24 x 7 x 1.098612 + 9.09 x 0.405465 + 11.14 x 0.182322 + 1.85
    x 0.7 - 1.83 x 0.7 x 0.182322 + 6 = 23.013; a calculator's page: 18 for 2.0, 1.5, 1.5, 137, 3.0."""
    result = meld_3(3.0, 1.2, 1.5, 130, 2.8, sex="female")
    assert result.details["before_rounding"] == pytest.approx(23.0127, abs=2e-3)
    assert result.value == 23
    assert meld_3(2.0, 1.5, 1.5, 137, 3.0).value == 18


def test_meld_3_sex_and_bounds() -> None:
    base = (3.0, 1.2, 1.5, 130, 2.8)
    raw = [meld_3(*base, sex=sex).details["before_rounding"] for sex in ("female", "male")]
    assert raw[0] - raw[1] == pytest.approx(1.33)
    capped = {meld_3(3, value, 1.5, 130, 2.8).details["before_rounding"] for value in (3.0, 3.01, 8)}
    assert capped == {meld_3(3, 1, 1.5, 130, 2.8, dialysis="yes").details["before_rounding"]}
    assert meld_3(3, 2.5, 1.5, 130, 2.8).value < meld_3(3, 3.0, 1.5, 130, 2.8).value
    raw = [meld_3(3, 1.2, 1.5, 130, albumin).details["before_rounding"] for albumin in (1.0, 1.5, 1.51, 3.49, 3.5, 5.0)]
    assert raw[0] == raw[1] > raw[2] > raw[3] > raw[4] == raw[5]
    raw = [meld_3(3, 1.2, 1.5, sodium, 3).details["before_rounding"] for sodium in (110, 125, 125.1, 136.9, 137, 150)]
    assert raw[0] == raw[1] > raw[2] > raw[3] > raw[4] == raw[5]
    raw = [meld_3(value, 1.2, 1.5, 137, 3).details["before_rounding"] for value in (0.5, 1.0, 1.01)]
    assert raw[0] == raw[1] < raw[2]
    raw = [meld_3(2, value, 1.5, 137, 3).details["before_rounding"] for value in (0.5, 1.0, 1.01)]
    assert raw[0] == raw[1] < raw[2]
    raw = [meld_3(2, 1.2, value, 137, 3).details["before_rounding"] for value in (0.9, 1.0, 1.01)]
    assert raw[0] == raw[1] < raw[2]
    assert meld_3(1, 1, 1, 137, 3.5).value == 6
    assert meld_3(1, 1, 1, 137, 3.5, sex="female").value == 7


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(1.0, 40.0), st.floats(1.0, 3.0), st.floats(1.0, 6.0), st.floats(1.05, 1.5),
       st.sampled_from(["bilirubin", "creatinine", "inr"]))
def test_meld_never_falls_with_a_worse_value(bilirubin, creatinine, inr, factor, which) -> None:
    values = {"bilirubin": bilirubin, "creatinine": creatinine, "inr": inr}
    worse = {**values, which: values[which] * factor}
    assert meld(**worse).value >= meld(**values).value
    assert meld_na(**worse, sodium=130).details["meld"] >= meld_na(**values, sodium=130).details["meld"]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(1.0, 8.0), st.floats(1.0, 3.0), st.floats(1.0, 6.0), st.floats(125, 136), st.floats(1.5, 3.4))
def test_meld_3_grows_as_sodium_falls_while_bilirubin_is_moderate(bilirubin, creatinine, inr, sodium, albumin) -> None:
    """Its interaction turns the sign at ln bilirubin = 0.82 / 0.24, that is at 30 mg/dL."""
    first, second = (meld_3(bilirubin, creatinine, inr, value, albumin).value for value in (sodium, sodium + 1))
    assert first >= second


CHILD = {"bilirubin": "1mg/dL", "albumin": "4g/dL", "inr": "1.1", "ascites": "none", "encephalopathy": "none"}


@pytest.mark.parametrize(("change", "points"), [
    ({"bilirubin": "1.99mg/dL"}, 5), ({"bilirubin": "2mg/dL"}, 6), ({"bilirubin": "3mg/dL"}, 6),
    ({"bilirubin": "3.01mg/dL"}, 7), ({"albumin": "3.51g/dL"}, 5), ({"albumin": "3.5g/dL"}, 6),
    ({"albumin": "35g/L"}, 6),
    ({"albumin": "2.8g/dL"}, 6), ({"albumin": "28g/L"}, 6), ({"albumin": "2.79g/dL"}, 7), ({"inr": "1.69"}, 5),
    ({"inr": "1.7"}, 6), ({"inr": "2.3"}, 6), ({"inr": "2.31"}, 7), ({"ascites": "mild"}, 6),
    ({"ascites": "severe"}, 7),
    ({"encephalopathy": "1-2"}, 6), ({"encephalopathy": "3-4"}, 7), ({"inr": None, "pt_prolongation": "3.9s"}, 5),
    ({"inr": None, "pt_prolongation": "4s"}, 6), ({"inr": None, "pt_prolongation": "6s"}, 6),
    ({"inr": None, "pt_prolongation": "6.1s"}, 7), ({"bilirubin": "3.9mg/dL", "cholestatic": "yes"}, 5),
    ({"bilirubin": "4mg/dL", "cholestatic": "yes"}, 6), ({"bilirubin": "10mg/dL", "cholestatic": "yes"}, 6),
    ({"bilirubin": "10.1mg/dL", "cholestatic": "yes"}, 7)])
def test_child_pugh_cut_offs(change, points) -> None:
    assert score("child-pugh", {**CHILD, **change}).value == points


def test_child_pugh_classes() -> None:
    cases = [({}, 5, "A"), ({"ascites": "mild"}, 6, "A"), ({"ascites": "severe"}, 7, "B"),
             ({"ascites": "severe", "encephalopathy": "3-4"}, 9, "B"),
             ({"ascites": "severe", "encephalopathy": "3-4", "inr": 2}, 10, "C"),
             ({"ascites": "severe", "encephalopathy": "3-4", "inr": 3, "bilirubin": "5mg/dL",
               "albumin": "2g/dL"}, 15, "C")]
    for change, points, grade in cases:
        result = score("child-pugh", {**CHILD, **change})
        assert (result.value, result.grade) == (points, grade)
        assert sum(result.details["points"].values()) == points


def test_child_pugh_wants_inr_or_prothrombin_time_not_both() -> None:
    for change in ({"inr": None}, {"pt_prolongation": "3s"}):
        with pytest.raises(InputError, match="exactly one of inr and pt_prolongation"):
            score("child-pugh", {**CHILD, **change})


def test_a_converted_value_at_a_cut_off_is_flagged() -> None:
    """34 umol/L is 1.99 mg/dL: tables rounded in umol/L give it two points, in mg/dL one."""
    result = score("child-pugh", {**CHILD, "bilirubin": "34umol/L"})
    assert result.value == 5
    assert any("within 1 % of the cut-off 2" in warning for warning in result.warnings)
    assert not score("child-pugh", {**CHILD, "bilirubin": "30umol/L"}).warnings


def albi(bilirubin, albumin):
    return score("albi", {"bilirubin": bilirubin, "albumin": albumin})


def test_albi_by_hand() -> None:
    """0.66 x log10(10) - 0.085 x 40 = -2.74; 0.66 x 2 - 0.085 x 25 = -0.805."""
    assert albi("10umol/L", "40g/L").value == pytest.approx(-2.74)
    assert albi("100umol/L", "25g/L").value == pytest.approx(-0.805)
    assert albi("17.104umol/L", "4g/dL").value == pytest.approx(albi("1mg/dL", "40g/L").value, abs=1e-12)


@pytest.mark.parametrize(("target", "grade", "modified"), [
    (-2.61, "1", "1"), (-2.60, "1", "1"), (-2.59, "2", "2a"),
    (-2.27, "2", "2a"), (-2.26, "2", "2b"), (-1.39, "2", "2b"),
    (-1.38, "3", "3")])
def test_albi_grades_on_both_sides_of_each_cut_off(target, grade, modified) -> None:
    """With bilirubin 10 umol/L the score is 0.66 - 0.085 albumin: the albumin that gives the wanted score."""
    result = albi("10umol/L", f"{(0.66 - target) / 0.085:.12f}g/L")
    assert result.value == pytest.approx(target, abs=1e-9)
    assert (result.grade, result.details["modified_grade"]) == (grade, modified)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(2.0, 800.0), st.floats(10.0, 55.0), st.floats(1.01, 2.0))
def test_albi_rises_with_bilirubin_and_falls_with_albumin(bilirubin, albumin, factor) -> None:
    base = albi(f"{bilirubin}umol/L", f"{albumin}g/L").value
    assert albi(f"{bilirubin * factor}umol/L", f"{albumin}g/L").value > base
    assert albi(f"{bilirubin}umol/L", f"{albumin * factor if albumin * factor < 80 else 80}g/L").value < base


def fips(age="60y", bilirubin="1mg/dL", albumin="30g/L", creatinine="1mg/dL"):
    return score("fips", {"age": age, "bilirubin": bilirubin, "albumin": albumin, "creatinine": creatinine})


def test_fips_by_hand() -> None:
    """0 - 1.71 + 1.2 - 0.6 + 0.81 = -0.30; 1.43 x 1 - 0.855 + 1.4 - 0.5 + 0.81 = 2.285."""
    assert fips().value == pytest.approx(-0.30)
    assert fips(albumin="3g/dL").value == pytest.approx(-0.30)
    assert fips().grade == "low risk"
    sick = fips("70y", "10mg/dL", "25g/L", "2mg/dL")
    assert sick.value == pytest.approx(2.285)
    assert sick.grade == "high risk"


def test_fips_cut_off() -> None:
    """With 1.71 mg/dL creatinine (its term is 1) and 10 mg/dL bilirubin: 1.24 + 0.02 age - 0.02 albumin."""
    assert fips("14y", "10mg/dL", "30g/L", "1.71mg/dL").grade == "high risk"
    assert fips("13.9y", "10mg/dL", "30g/L", "1.71mg/dL").grade == "low risk"
    assert any("cut-off" in warning for warning in fips("13.9y", "10mg/dL", "30g/L", "1.71mg/dL").warnings)


def test_age_needs_its_unit() -> None:
    with pytest.raises(InputError, match="age"):
        fips(age="60")
