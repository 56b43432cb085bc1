"""Every IBSI-1 consensus value of the digital phantom and of the CT phantom's configurations A, B and C.

The values are those of the initiative (Radiology 2020;295:328-338), agreed on by 25 teams; nobody here made them.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from ibsi_reference import CONFIGURATIONS, DIAGNOSTIC, Line, compare
from IRAILib.biopsy.radiomics import FAMILIES, Settings, extract, parse_key
from IRAILib.images import read_mask, read_volume

EXPECTED = {"digital phantom": (487, 482), "A": (411, 406), "B": (411, 406), "C": (275, 270)}
"""Lines of each table and lines that hold a consensus value; all but four shape densities and the IVH's area do."""


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_every_consensus_value(data, configuration):
    lines = compare(data, configuration)
    with_reference = [line for line in lines if line.has_reference]
    assert (len(lines), len(with_reference)) == EXPECTED[configuration]
    wrong = [f"{x.tag}: {x.ours} is not {x.reference} +- {x.tolerance}" for x in with_reference if not x.agrees]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_values_without_consensus_are_given_and_possible(data, configuration):
    for line in compare(data, configuration):
        if not line.has_reference:
            assert "_dens_ombb" in line.tag or "_dens_mvee" in line.tag or line.tag == "ivh_auc", line.tag
            assert line.ours is not None, line.tag
            assert 0.0 < line.ours < 2.0, line.tag


def test_every_family_and_aggregation_is_compared(data):
    seen = set()
    for configuration in CONFIGURATIONS:
        for line in compare(data, configuration):
            if line.has_reference and not line.tag.endswith(DIAGNOSTIC):
                _, name, aggregation = parse_key(line.tag)
                seen.add((name.family, aggregation))
    wanted = {(family, way) for family, kind in FAMILIES.items() for way in kind.aggregations or ("",)}
    assert seen == wanted


def test_the_check_itself_can_fail():
    assert Line("x", 1.23, 0.0, 1.2349).agrees
    assert not Line("x", 1.23, 0.0, 1.24).agrees
    assert not Line("x", 1.23, 0.01, 1.251).agrees
    assert not Line("x", 1.23, 0.01, None).agrees
    assert not Line("x", 1.23, 0.01, math.nan).agrees


def test_a_wrong_setting_is_noticed(data):
    """The values do depend on the preprocessing: another bin width or no re-segmentation falls out."""
    folder, _, settings = CONFIGURATIONS["C"]
    image = read_volume(data / "radiomics" / folder / "phantom.nii.gz")
    mask = read_mask(data / "radiomics" / folder / "mask.nii.gz")
    lines = {x.tag: x for x in compare(data, "C") if x.has_reference}
    for change in ({"discretisation": ("fbs", 24)}, {"resegment": None}, {"spacing_mm": 2.1}):
        chosen = ("statistics", "histogram", "glcm")
        other = extract(image, mask, settings.with_(families=chosen, **change)).values()
        off = sum(not Line(t, lines[t].reference, lines[t].tolerance, v).agrees for t, v in other.items())
        assert off > 5, change


def test_axes_and_place_in_space_do_not_matter(data):
    """The phantom turned in space, with its array as it is, gives the same numbers."""
    from IRAILib.geometry import Grid, Mask, Volume

    folder, _, settings = CONFIGURATIONS["digital phantom"]
    image = read_volume(data / "radiomics" / folder / "phantom.nii.gz")
    mask = read_mask(data / "radiomics" / folder / "mask.nii.gz")
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn[:3, 3] = (120.0, -85.0, 1300.0)
    grid = Grid(image.grid.shape, turn @ image.grid.ras_from_ijk)
    straight = extract(image, mask, settings).values()
    turned = extract(Volume(image.array, grid), Mask(mask.array, grid), Settings(discretisation=("none",))).values()
    assert straight.keys() == turned.keys()
    for key, value in straight.items():
        assert turned[key] == pytest.approx(value, rel=1e-6, nan_ok=True), key
