"""The chain of transforms: products by hand, missing links named, loops that disagree, numbers that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import InputError, RefusedError
from IRAILib.scene.fusion_chain import (
    ASSUMED,
    CALIBRATION,
    LOST,
    REGISTRATION,
    STALE,
    ChainLink,
    aged,
    chain_rows,
    chain_state,
    contradictions,
    replaced,
)


def shift(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    out = np.eye(4)
    out[:3, 3] = x, y, z
    return out


def turn_z(degrees: float) -> np.ndarray:
    a, out = np.radians(degrees), np.eye(4)
    out[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    return out


def links() -> list[ChainLink]:
    return [ChainLink("Image", "Probe", np.diag([0.4, 0.2, 0.3, 1.0]), origin=CALIBRATION, error_mm=0.6),
            ChainLink("Probe", "Tracker", turn_z(90), age_s=0.10, error_mm=0.3),
            ChainLink("Reference", "Tracker", shift(10.0, 0.0, 0.0), age_s=0.04, error_mm=0.2),
            ChainLink("Reference", "RAS", shift(0.0, 0.0, 5.0), origin=REGISTRATION, age_s=900.0, error_mm=1.0)]


def test_a_chain_is_the_product_of_its_links_also_backwards() -> None:
    state = chain_state(links(), "Image", "RAS")
    assert state.ok
    # pixel (10, 5): (4, 1, 0) mm in the probe, turned to (-1, 4, 0), less the reference's 10 mm, 5 mm up
    np.testing.assert_allclose(state.require() @ (10.0, 5.0, 0.0, 1.0), (-11.0, 4.0, 5.0, 1.0), atol=1e-12)
    assert [link.name for link in state.links] == ["ImageToProbe", "ProbeToTracker", "ReferenceToTracker",
                                                   "ReferenceToRAS"]
    assert state.error_mm == pytest.approx(np.sqrt(0.36 + 0.09 + 0.04 + 1.0))
    assert state.age_s == pytest.approx(0.10)


def test_the_inverse_chain_is_the_inverse() -> None:
    there, back = (chain_state(links(), *ends).require() for ends in (("Image", "RAS"), ("RAS", "Image")))
    np.testing.assert_allclose(there @ back, np.eye(4), atol=1e-12)


@pytest.mark.parametrize(("left_out", "hint"), [
    ("ImageToProbe", "ImageToProbe is missing: load or make the probe's calibration"),
    ("ReferenceToRAS", "ReferenceToRAS is missing: register in step 3")])
def test_a_missing_link_is_named_with_what_to_do(left_out: str, hint: str) -> None:
    state = chain_state([link for link in links() if link.name != left_out], "Image", "RAS")
    assert not state.ok
    assert state.matrix is None
    assert hint in state.problem
    with pytest.raises(RefusedError, match=left_out):
        state.require()


def test_a_gap_nobody_has_a_hint_for_says_what_each_side_reaches() -> None:
    state = chain_state([ChainLink("A", "B", np.eye(4)), ChainLink("C", "D", np.eye(4))], "A", "D")
    assert state.problem == "nothing leads from A to D: A reaches B, D reaches C"


@pytest.mark.parametrize("status", [LOST, STALE])
def test_a_link_that_is_not_ok_breaks_the_chain_and_says_which(status: str) -> None:
    broken = ChainLink("Probe", "Tracker", turn_z(90), status, age_s=1.2, why="no data")
    state = chain_state(replaced(links(), ProbeToTracker=broken), "Image", "RAS")
    assert not state.ok
    assert state.problem == f"ProbeToTracker is {status} (no data)"


def test_another_way_is_taken_when_one_is_lost() -> None:
    spare = ChainLink("Probe", "Reference", shift(-10.0) @ turn_z(90))
    lost = ChainLink("Probe", "Tracker", None, LOST)
    state = chain_state([*replaced(links(), ProbeToTracker=lost), spare], "Image", "RAS")
    assert state.ok
    np.testing.assert_allclose(state.require() @ (10.0, 5.0, 0.0, 1.0), (-11.0, 4.0, 5.0, 1.0), atol=1e-12)
    assert state.error_mm is None
    assert state.unknown == ("ProbeToReference",)


def test_two_ways_that_agree_are_fine_and_two_that_do_not_are_believed_neither() -> None:
    agree = ChainLink("Probe", "Reference", shift(-10.0) @ turn_z(90))
    assert contradictions([*links(), agree]) == []
    wrong = ChainLink("Probe", "Reference", shift(-10.0) @ turn_z(93))
    state = chain_state([*links(), wrong], "Image", "RAS")
    assert not state.ok
    assert "contradicts" in state.problem
    assert "3.0 degrees" in state.problem


def test_a_contradiction_elsewhere_is_a_warning_only() -> None:
    aside = [ChainLink("Needle", "Tracker", np.eye(4)), ChainLink("Needle", "Stylus", np.eye(4)),
             ChainLink("Stylus", "Tracker", shift(30.0))]
    state = chain_state([*links(), *aside], "Image", "RAS")
    assert state.ok
    assert "StylusToTracker contradicts" in state.warnings[0]


@pytest.mark.parametrize("matrix", [np.full((4, 4), np.nan), np.zeros((4, 4)), np.eye(3)])
def test_a_matrix_that_cannot_be_is_refused(matrix: np.ndarray) -> None:
    with pytest.raises(InputError, match="AToB"):
        chain_state([ChainLink("A", "B", matrix)], "A", "B")


def test_a_name_twice_and_a_link_to_itself_are_refused() -> None:
    with pytest.raises(InputError, match="twice"):
        chain_state([ChainLink("A", "B", np.eye(4)), ChainLink("A", "B", np.eye(4))], "A", "B")
    with pytest.raises(InputError, match="one frame to another"):
        chain_state([ChainLink("A", "A", np.eye(4))], "A", "B")


def test_an_old_pose_is_lost_an_old_calibration_is_not() -> None:
    assert aged(ChainLink("A", "B", np.eye(4), age_s=0.9), 0.5).status == LOST
    assert aged(ChainLink("A", "B", np.eye(4), age_s=0.9, origin=CALIBRATION), 0.5).status == "OK"


def test_the_table_says_age_error_and_status_of_every_link() -> None:
    assumed = ChainLink("Stylus", "Reference", None, LOST, ASSUMED, why="out of view")
    rows = chain_rows([*links(), assumed])
    assert rows[0] == ("Image", "Probe", "calibrated", "0.60 mm", "OK")
    assert rows[1] == ("Probe", "Tracker", "0.1 s", "0.30 mm", "OK")
    assert rows[3] == ("Reference", "RAS", "15 min", "1.00 mm", "OK")
    assert rows[4] == ("Stylus", "Reference", "assumed", "not known", "LOST: out of view")


def test_no_links_at_all() -> None:
    assert not chain_state([], "Image", "RAS").ok
    assert chain_state([], "RAS", "RAS").ok
    assert chain_rows([]) == []
