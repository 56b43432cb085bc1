"""Units: read, converted, never guessed; what every score does with bad values."""

from __future__ import annotations

import contextlib
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IRAILib.biopsy.quantities import ANALYTES, Quantity, convert, parse_quantity
from IRAILib.biopsy.scores import SCORES, find_score, score
from IRAILib.geometry import InputError, IRAIError

MELD = {"bilirubin": "2mg/dL", "creatinine": "1.5mg/dL", "inr": "1.5"}


@pytest.mark.parametrize(("text", "value", "unit"), [
    ("2.1mg/dL", 2.1, "mg/dL"), (" 2.1  mg/dl ", 2.1, "mg/dL"), ("36µmol/L", 36.0, "umol/L"),
    ("36 μmol/l", 36.0, "umol/L"),
    ("-3 %", -3.0, "%"), ("150 x10^9/L", 150.0, "10^9/L"), ("150 10^9/L", 150.0, "10^9/L"),
    ("1e3 IU/mL", 1000.0, "IU/mL"),
    ("1.3", 1.3, ""), (".5 GBq", 0.5, "GBq"), ("5 cm^3", 5.0, "cm3"), ("58years", 58.0, "y"),
    ("140 mEq/L", 140.0, "mEq/L")])
def test_quantities_are_read(text, value, unit) -> None:
    assert parse_quantity(text) == Quantity(value, unit)


@pytest.mark.parametrize("text", ["", "mg/dL", "2,1 mg/dL", "1,000 mg/dL", "2.1 mg", "2.1 mg/dL/d", "2.1 mgdL",
                                  "nan mg/dL",
                                  "inf mg/dL", "1e999 mg/dL", "two mg/dL", "2.1.1 mg/dL", "0x10 mg/dL", "٣ mg/dL",
                                  "3 mBq",
                                  "3 MG/DL", "<0.5 mg/dL", ">400 ng/mL", "3 mmHg"])
def test_what_is_no_quantity_is_refused(text) -> None:
    with pytest.raises(InputError):
        parse_quantity(text)


@pytest.mark.parametrize(("quantity", "unit", "analyte", "expected"), [
    ("1mg/dL", "umol/L", "bilirubin", 17.104), ("34.208umol/L", "mg/dL", "bilirubin", 2.0),
    ("1mg/dL", "umol/L", "creatinine", 88.4), ("265.2umol/L", "mg/dL", "creatinine", 3.0), ("3.5g/dL", "g/L", "", 35.0),
    ("130mEq/L", "mmol/L", "sodium", 130.0), ("100IU/mL", "ng/mL", "afp", 121.0), ("400ug/L", "ng/mL", "afp", 400.0),
    ("30mm", "cm", "", 3.0), ("1.5L", "mL", "", 1500.0), ("14d", "wk", "", 2.0), ("100mCi", "GBq", "", 3.7)])
def test_conversions_by_hand(quantity, unit, analyte, expected) -> None:
    assert convert(parse_quantity(quantity), unit, analyte) == pytest.approx(expected, rel=1e-12)


def test_conversion_factors_follow_from_molar_masses() -> None:
    """C33H36N4O6 584.66 g/mol, C4H7N3O 113.12 g/mol: an independent way to the factors."""
    for analyte, molar in (("bilirubin", 584.66), ("creatinine", 113.12)):
        factor = ANALYTES[analyte]["mass concentration", "substance concentration"]
        assert factor == pytest.approx(1000.0 / molar, rel=2e-4)


def test_the_wrong_analyte_or_kind_is_refused() -> None:
    for text, unit, analyte in (("2mg/dL", "umol/L", ""), ("2umol/L", "g/dL", "albumin"), ("2mg/dL", "cm", ""),
                                ("0.1", "%", ""), ("2mmol/L", "mg/dL", "sodium")):
        with pytest.raises(InputError):
            convert(parse_quantity(text), unit, analyte)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(0.2, 50.0), st.floats(0.2, 10.0), st.floats(0.8, 5.0))
def test_units_make_no_difference(bilirubin, creatinine, inr) -> None:
    one = score("meld", {"bilirubin": f"{bilirubin:.4f}mg/dL", "creatinine": f"{creatinine:.4f}mg/dL", "inr": inr})
    other = score("meld", {"bilirubin": Quantity(round(bilirubin, 4) * 17.104, "umol/L"),
                           "creatinine": Quantity(round(creatinine, 4) * 88.4, "umol/L"), "inr": str(inr)})
    assert one.details["before_rounding"] == pytest.approx(other.details["before_rounding"], abs=2e-4)


@pytest.mark.parametrize("bad", ["2", 2.0, 2, "2mmol/L", "2g/L", "-2mg/dL", "0mg/dL", "500mg/dL", "nan mg/dL", math.nan,
                                 math.inf, "", "high", True, None, [], {}, b"2mg/dL", 10**400, object()])
def test_a_bad_bilirubin_is_refused_by_name(bad) -> None:
    with pytest.raises(InputError, match="bilirubin"):
        score("meld", {**MELD, "bilirubin": bad})


def test_missing_and_foreign_inputs_are_named() -> None:
    with pytest.raises(InputError, match=r"missing bilirubin \(mg/dL or umol/L\), inr"):
        score("meld", {"creatinine": "1mg/dL"})
    with pytest.raises(InputError, match="takes no albumin"):
        score("meld", {**MELD, "albumin": "3g/dL"})
    with pytest.raises(InputError, match="there is no score 'med'"):
        score("med", MELD)
    with pytest.raises(InputError):
        score("meld", None)  # type: ignore[arg-type]


def test_an_unusual_value_is_flagged_and_an_impossible_one_refused() -> None:
    result = score("meld", {**MELD, "creatinine": "20mg/dL"})
    assert any("creatinine 20 mg/dL is unusual" in warning for warning in result.warnings)
    assert not score("meld", MELD).warnings
    with pytest.raises(InputError, match="outside of"):
        score("meld", {**MELD, "creatinine": "80mg/dL"})


def test_what_was_done_to_an_input_is_said() -> None:
    used = {item["name"]: item for item in score("meld", {"bilirubin": "10umol/L", "creatinine": "600umol/L",
                                                          "inr": "0.9"}).to_dict()["inputs"]}
    assert used["bilirubin"]["value"] == 1.0
    assert "converted from umol/L" in used["bilirubin"]["note"]
    assert "set to 1" in used["bilirubin"]["note"]
    assert used["creatinine"]["value"] == 4.0
    assert used["inr"]["given"] == "0.9"
    assert used["dialysis"]["note"] == "default"


def test_numpy_numbers_are_numbers() -> None:
    assert score("meld", {**MELD, "inr": np.float32(1.5)}).value == score("meld", MELD).value


def test_every_score_says_all_that_a_form_needs() -> None:
    assert len(SCORES) >= 20
    for name, entry in SCORES.items():
        about = json.loads(json.dumps(entry.describe(), allow_nan=False))
        assert about["formula"], name
        assert any(char.isdigit() for char in about["source"]), name
        assert about["validated_on"], name
        for item in about["inputs"]:
            assert item["what"], (name, item)
            assert item["choices"] if item["kind"] == "choice" else True
            assert bool(item["units"]) == (item["kind"] == "quantity" and item["unit"] != "")
    assert find_score("MELD_Na").name == "meld-na"
    assert find_score("MELD 3.0").name == "meld-3"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(SCORES)), st.data())
def test_no_input_brings_anything_but_the_house_errors(name, data) -> None:
    entry = SCORES[name]
    pool = st.one_of(st.text(max_size=8), st.floats(), st.integers(), st.none(), st.booleans(), st.lists(st.integers()),
                     st.sampled_from(["1mg/dL", "3g/dL", "5cm", "10mL", "5%", "1kg", "yes", "no", "none", "A",
                                      "liver 1cm 2cm"]))
    values = data.draw(st.fixed_dictionaries({item.name: pool for item in entry.inputs}))
    result = None
    with contextlib.suppress(IRAIError):
        result = entry(values)
    if result is not None:
        json.dumps(result.to_dict(), allow_nan=False)
