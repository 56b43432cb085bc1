"""Y-90: activities and doses worked by hand, the methods against each other, lung limits."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IRAILib.biopsy.scores import score
from IRAILib.biopsy.scores.y90 import HALF_LIFE_S, JOULE_PER_GBQ, MEAN_ENERGY_J
from IRAILib.geometry import InputError, RefusedError

BSA = {"height": "175cm", "weight": "70kg", "tumour": "300mL", "target": "1500mL", "liver": "1500mL",
       "lung_shunt": "5%", "earlier_lung_dose": "0Gy"}
PARTITION = {"tumour": "200mL", "target": "1200mL", "ratio": 5, "lung_shunt": "10%", "tumour_dose": "120Gy",
             "normal_limit": "70Gy", "earlier_lung_dose": "0Gy", "density": "1g/mL"}
GLASS = {"target": "1000mL", "dose": "120Gy", "lung_shunt": "4%", "earlier_lung_dose": "0Gy", "density": "1g/mL"}
DOSE = {"activity": "2GBq", "target": "1000mL", "lung_shunt": "0%", "earlier_lung_dose": "0Gy", "density": "1g/mL"}


def test_energy_of_a_gigabecquerel_follows_from_half_life_and_mean_energy() -> None:
    assert MEAN_ENERGY_J * 1e9 * HALF_LIFE_S / math.log(2) == pytest.approx(JOULE_PER_GBQ, rel=1e-3)


def test_bsa_method_by_hand() -> None:
    """DuBois of 175 cm, 70 kg: 1.848 m2; 1.848 - 0.2 + 300/1500 = 1.848 GBq; a lobe of 1000
    mL with 300: 1.299."""
    whole = score("y90-bsa", BSA)
    assert whole.value == pytest.approx(1.848, abs=2e-3)
    lobe = score("y90-bsa", {**BSA, "target": "1000mL"})
    assert lobe.details["tumour_share_percent"] == pytest.approx(30)
    assert lobe.details["treated_share_percent"] == pytest.approx(200 / 3)
    assert not lobe.warnings
    assert lobe.value == pytest.approx((1.848 - 0.2 + 0.3) * 2 / 3, abs=2e-3)


@pytest.mark.parametrize(("shunt", "factor"), [("0%", 1.0), ("9.9%", 1.0), ("10%", 0.8), ("14.9%", 0.8), ("15%", 0.6),
                                               ("20%", 0.6)])
def test_resin_is_reduced_by_the_lung_shunt(shunt, factor) -> None:
    full = score("y90-bsa", BSA).value
    assert score("y90-bsa", {**BSA, "lung_shunt": shunt}).value == pytest.approx(full * factor)


def test_resin_is_refused_above_20_percent_shunt() -> None:
    with pytest.raises(RefusedError, match="above 20 %"):
        score("y90-bsa", {**BSA, "lung_shunt": "20.1%"})


def test_a_shunt_without_unit_is_refused() -> None:
    """5 or 0.05: it would be a factor of 100."""
    for shunt in (5, 0.05, "0.05"):
        with pytest.raises(InputError, match="lung_shunt"):
            score("y90-bsa", {**BSA, "lung_shunt": shunt})


def test_partition_model_by_hand() -> None:
    """0.2 kg tumour, 1.0 kg normal, ratio 5: weighted 2.0 kg; A = 120 x 2 / (49.8 x 5 x 0.9) = 1.0710 GBq; the normal
    liver gets 24 Gy, the lungs 49.8 x 1.0710 x 0.1 = 5.33 Gy."""
    result = score("y90-partition", PARTITION)
    assert result.value == pytest.approx(240 / (49.8 * 5 * 0.9))
    assert result.details["tumour_dose_gy"] == pytest.approx(120)
    assert result.details["normal_liver_dose_gy"] == pytest.approx(24)
    assert result.details["lung_dose_gy"] == pytest.approx(49.8 * 0.1 * 240 / 224.1)
    assert result.details["held_down_by"] == ""


def test_the_normal_livers_limit_holds_the_activity_down() -> None:
    """A limit of 12 Gy is half of what 120 Gy in the tumour would give it: half the activity, 60 Gy in the tumour."""
    free, held = score("y90-partition", PARTITION), score("y90-partition", {**PARTITION, "normal_limit": "12Gy"})
    assert held.value == pytest.approx(free.value / 2)
    assert held.details["tumour_dose_gy"] == pytest.approx(60)
    assert held.details["held_down_by"] == "normal liver"
    assert any("holds the activity down" in text for text in held.warnings)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(1, 1000), st.floats(1, 2000), st.floats(1, 20), st.floats(0, 10), st.floats(20, 200))
def test_energy_is_conserved_over_the_three_wells(tumour, normal, ratio, shunt, dose) -> None:
    values = {**PARTITION, "tumour": f"{tumour}mL", "target": f"{tumour + normal}mL", "ratio": ratio,
              "lung_shunt": f"{shunt}%", "tumour_dose": f"{dose}Gy", "lung_mass": "4kg", "normal_limit": "500Gy"}
    result = score("y90-partition", values)
    parts = result.details
    joule = (parts["tumour_dose_gy"] * parts["tumour_kg"] + parts["normal_liver_dose_gy"] * parts["normal_liver_kg"]
             + parts["lung_dose_gy"] * 4)
    assert joule == pytest.approx(49.8 * result.value, rel=1e-6)


def test_glass_by_hand() -> None:
    """120 Gy x 1 kg / (50 x 0.96 x 0.99) = 2.5253 GBq."""
    assert score("y90-glass", {**GLASS, "residue": "1%"}).value == pytest.approx(120 / (50 * 0.96 * 0.99))
    assert score("y90-glass", {**GLASS, "density": "1.03g/mL"}).value == pytest.approx(120 * 1.03 / 48)
    lungs = score("y90-glass", {**GLASS, "residue": "1%"}).details["lung_dose_gy"]
    assert lungs == pytest.approx(50 * 0.04 * 120 / (50 * 0.96))
    default = score("y90-glass", {name: value for name, value in GLASS.items() if name != "density"})
    assert default.value == pytest.approx(120 * 1.03 / 48)
    assert default.inputs[-1].note == "default"


def test_dose_by_hand_and_back() -> None:
    assert score("y90-dose", DOSE).value == pytest.approx(99.6)
    assert score("y90-dose", {**DOSE, "activity": "2000MBq"}).value == pytest.approx(99.6)
    assert score("y90-dose", {**DOSE, "lung_shunt": "10%", "residue": "5%"}).value == pytest.approx(99.6 * 0.9 * 0.95)
    activity = score("y90-glass", GLASS).value
    again = score("y90-dose", {**DOSE, "activity": f"{activity}GBq", "lung_shunt": "4%"})
    assert again.value == pytest.approx(120 * 49.8 / 50)


def test_one_compartment_is_a_partition_with_ratio_one() -> None:
    partition = score("y90-partition", {**PARTITION, "ratio": 1, "normal_limit": "120Gy"})
    back = score("y90-dose", {**DOSE, "activity": f"{partition.value}GBq", "target": "1200mL", "lung_shunt": "10%"})
    assert back.value == pytest.approx(120)


def test_lung_limits_single_and_cumulative() -> None:
    """49.8 x A x 0.1 / 1 kg: 6.02 GBq leave 29.98 Gy, 6.03 GBq 30.03 Gy; 25 Gy from before leave room for 25."""
    values = {**DOSE, "lung_shunt": "10%", "target": "5000mL"}
    just_below = score("y90-dose", {**values, "activity": "6.02GBq"})
    assert just_below.details["lung_dose_gy"] == pytest.approx(29.98, abs=0.01)
    with pytest.raises(RefusedError, match=r"at most 6\.02 GBq"):
        score("y90-dose", {**values, "activity": "6.03GBq"})
    assert score("y90-dose", {**values, "activity": "5GBq", "earlier_lung_dose": "25Gy"}).value > 0
    with pytest.raises(RefusedError, match="50 Gy in all"):
        score("y90-dose", {**values, "activity": "5.1GBq", "earlier_lung_dose": "25Gy"})
    with pytest.raises(RefusedError):
        score("y90-glass", {**GLASS, "lung_shunt": "25%", "dose": "150Gy"})
    with pytest.raises(RefusedError):
        score("y90-partition", {**PARTITION, "lung_shunt": "60%"})
    with pytest.raises(RefusedError):
        score("y90-bsa", {**BSA, "earlier_lung_dose": "49Gy"})
    with pytest.raises(InputError, match="earlier_lung_dose"):
        score("y90-dose", {name: value for name, value in DOSE.items() if name != "earlier_lung_dose"})


def test_volumes_that_contradict_are_refused() -> None:
    for name, values in (("y90-bsa", {**BSA, "tumour": "1600mL"}), ("y90-bsa", {**BSA, "target": "1600mL"}),
                         ("y90-partition", {**PARTITION, "tumour": "1300mL"})):
        with pytest.raises(InputError, match="larger than"):
            score(name, values)
    for name, values in (("y90-glass", GLASS), ("y90-partition", PARTITION)):
        with pytest.raises(RefusedError, match="nothing reaches"):
            score(name, {**values, "lung_shunt": "100%"})
