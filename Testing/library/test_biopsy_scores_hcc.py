"""BCLC, HAP, Milan, up-to-seven, liver remnant: cut-offs on both sides, what is left open."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IRAILib.biopsy.scores import score
from IRAILib.geometry import InputError

STAGE = {"number": 1, "largest": "1.5cm", "vascular_invasion": "no", "extrahepatic": "no", "performance_status": 0,
         "child_pugh": "A"}


@pytest.mark.parametrize(("change", "stage"), [
    ({}, "0"), ({"largest": "2cm"}, "0"), ({"largest": "20.1mm"}, "A"), ({"largest": "12cm"}, "A"),
    ({"number": 2, "largest": "1cm"}, "A"), ({"number": 3, "largest": "30mm"}, "A"),
    ({"number": 3, "largest": "30.1mm"}, "B"),
    ({"number": 4, "largest": "1cm"}, "B"), ({"number": 4, "largest": None}, "B"), ({"largest": None}, "0 or A"),
    ({"number": 2, "largest": None}, "A or B"), ({"vascular_invasion": "yes"}, "C"), ({"extrahepatic": "yes"}, "C"),
    ({"performance_status": 1}, "C"), ({"performance_status": 2}, "C"), ({"performance_status": 3}, "D"),
    ({"performance_status": 3, "child_pugh": "C"}, "D"),
    ({"performance_status": 4, "vascular_invasion": "yes"}, "D"), ({"child_pugh": "B"}, "0"),
    ({"child_pugh": "C", "transplant_candidate": "no"}, "D"), ({"child_pugh": "C", "transplant_candidate": "yes"}, "0"),
    ({"child_pugh": "C"}, "0 or D"), ({"child_pugh": "C", "vascular_invasion": "yes"}, "C or D"),
    ({"largest": None, "extrahepatic": "yes"}, "C")])
def test_bclc(change, stage) -> None:
    result = score("bclc", {**STAGE, **change})
    assert result.grade == stage
    assert result.grade.split(" or ") == result.details["possible"]
    assert result.value is None


def test_bclc_says_what_it_leaves_open() -> None:
    assert any("diameter" in text for text in score("bclc", {**STAGE, "largest": None}).warnings)
    assert any("transplant_candidate" in text for text in score("bclc", {**STAGE, "child_pugh": "C"}).warnings)
    assert any("class B" in text for text in score("bclc", {**STAGE, "child_pugh": "B"}).warnings)
    for bad in ({"performance_status": 5}, {"performance_status": "1.5"}, {"number": 0}, {"child_pugh": "D"},
                {"vascular_invasion": "perhaps"}, {"largest": "2"}):
        with pytest.raises(InputError):
            score("bclc", {**STAGE, **bad})


HAP = {"bilirubin": "17umol/L", "albumin": "36g/L", "afp": "400ng/mL", "largest": "7cm"}
WORSE = {"bilirubin": "17.1umol/L", "albumin": "35.9g/L", "afp": "401ng/mL", "largest": "71mm"}


def test_hap_counts_each_of_its_four() -> None:
    """All sixteen combinations: exactly at the cut-off counts nothing, just beyond one point."""
    for names in itertools.chain.from_iterable(itertools.combinations(WORSE, n) for n in range(5)):
        result = score("hap", {**HAP, **{name: WORSE[name] for name in names}})
        assert result.value == len(names)
        assert result.grade == "ABCDD"[len(names)]


def test_mhap_2_adds_the_number_and_has_its_own_bilirubin() -> None:
    base = {"bilirubin": "0.9mg/dL", "albumin": "3.6g/dL", "afp": "400ug/L", "largest": "7cm", "number": 1}
    assert score("mhap-2", base).value == 0
    assert score("mhap-2", {**base, "number": 2}).grade == "B"
    assert not score("mhap-2", base).warnings
    assert score("mhap-2", {**base, "bilirubin": "0.901mg/dL"}).value == 1
    assert score("mhap-2", {**base, "bilirubin": "0.901mg/dL"}).warnings
    assert not score("mhap-2", {**base, "bilirubin": "1mg/dL"}).warnings
    between = score("mhap-2", {**base, "bilirubin": "0.95mg/dL"})
    assert between.value == 1
    assert any("tables differ" in text for text in between.warnings)
    assert score("hap", {**HAP, "bilirubin": "0.95mg/dL"}).value == 0
    everything = {"bilirubin": "2mg/dL", "albumin": "3g/dL", "afp": "1000ng/mL", "largest": "8cm", "number": 3}
    assert (score("mhap-2", everything).value, score("mhap-2", everything).grade) == (5, "D")


def test_afp_in_international_units() -> None:
    """330 IU/mL are 399 ng/mL, 331 are 400.5."""
    assert score("hap", {**HAP, "afp": "330IU/mL"}).value == 0
    assert score("hap", {**HAP, "afp": "331IU/mL"}).value == 1


TUMOUR = {"number": 1, "largest": "3cm", "vascular_invasion": "no", "extrahepatic": "no"}


@pytest.mark.parametrize(("change", "milan", "seven"), [
    ({"largest": "5cm"}, "within", "within"), ({"largest": "5.1cm"}, "outside", "within"),
    ({"largest": "6cm"}, "outside", "within"),
    ({"largest": "6.1cm"}, "outside", "outside"), ({"number": 3, "largest": "3cm"}, "within", "within"),
    ({"number": 3, "largest": "3.1cm"}, "outside", "within"), ({"number": 3, "largest": "4.1cm"}, "outside", "outside"),
    ({"number": 4, "largest": "1cm"}, "outside", "within"), ({"number": 6, "largest": "10mm"}, "outside", "within"),
    ({"number": 6, "largest": "11mm"}, "outside", "outside"), ({"vascular_invasion": "yes"}, "outside", "outside"),
    ({"extrahepatic": "yes"}, "outside", "outside")])
def test_transplant_criteria(change, milan, seven) -> None:
    assert score("milan", {**TUMOUR, **change}).grade == milan
    assert score("up-to-seven", {**TUMOUR, **change}).grade == seven


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(1, 10), st.floats(0.5, 12.0))
def test_within_milan_is_within_up_to_seven(number, largest) -> None:
    values = {**TUMOUR, "number": number, "largest": f"{largest}cm"}
    if score("milan", values).grade == "within":
        assert score("up-to-seven", values).grade == "within"


def test_remnant_by_hand() -> None:
    """400 of (1800 - 200) mL is 25 %; enough for a normal liver, not for one after chemotherapy."""
    values = {"remnant": "400mL", "liver": "1.8L", "tumour": "200cm3"}
    assert score("flr", {**values, "quality": "normal"}).value == pytest.approx(25.0)
    for remnant, quality, grade in (("320mL", "normal", "enough"), ("319mL", "normal", "too small"),
                                    ("480mL", "chemotherapy", "enough"), ("479mL", "chemotherapy", "too small"),
                                    ("640mL", "cirrhosis", "enough"), ("639mL", "cirrhosis", "too small")):
        assert score("flr", {**values, "remnant": remnant, "quality": quality}).grade == grade
    for change in ({"tumour": "1800mL"}, {"remnant": "1601mL"}, {"tumour": "2L"}):
        with pytest.raises(InputError):
            score("flr", {**values, "quality": "normal", **change})


def test_standardised_remnant_by_hand() -> None:
    """180 cm, 80 kg: Mosteller 2.0 m2, 1740.15 mL; DuBois 0.007184 x 43.1560 x 6.4395 = 1.9964 m2, 1735.6 mL."""
    values = {"remnant": "500mL", "height": "1.8m", "weight": "80kg", "quality": "normal"}
    result = score("sflr", values)
    assert result.details["bsa_m2"] == pytest.approx(2.0)
    assert result.details["standard_liver_ml"] == pytest.approx(1740.15)
    assert result.value == pytest.approx(500 / 1740.15 * 100)
    other = score("sflr", {**values, "height": "180cm", "bsa_formula": "dubois"})
    assert other.details["bsa_m2"] == pytest.approx(1.9964, abs=5e-4)
    assert other.details["bsa_formula"] == "dubois"
    with pytest.raises(InputError, match="adults"):
        score("sflr", {**values, "height": "1m", "weight": "16kg"})
    with pytest.raises(InputError, match="height"):
        score("sflr", {**values, "height": "180"})


def test_growth_rate_by_hand() -> None:
    values = {"before": "20%", "after": "28%", "interval": "4wk"}
    result = score("kgr", values)
    assert result.value == pytest.approx(2.0)
    assert result.grade == "2 %/wk or more"
    assert result.details["hypertrophy_above_7.5_percent"] is True
    assert score("kgr", {**values, "interval": "28d"}).value == pytest.approx(2.0)
    assert score("kgr", {**values, "after": "27.9%"}).grade == "below 2 %/wk"
    assert score("kgr", {**values, "after": "27.5%"}).details["hypertrophy_above_7.5_percent"] is False
    assert score("kgr", {**values, "after": "19%"}).warnings
    with pytest.raises(InputError):
        score("kgr", {**values, "before": "0.2"})
