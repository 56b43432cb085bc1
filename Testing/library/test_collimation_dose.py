"""Collimation with the best rectangle known; skin dose against numbers worked out by hand; reports by their codes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from images_cases import attempt, refused
from IRAILib.fluoroscopy.collimation import Preferences, propose_collimation, region_over_time
from IRAILib.fluoroscopy.skin_dose import (
    DoseFactors,
    Exposure,
    elliptic_skin,
    exposures_of_report,
    exposures_of_run,
    skin_dose,
    skin_of_surface,
)
from IRAILib.geometry import InputError, RefusedError, Surface, geometry_from_angles
from IRAILib.images.rdsr import read_rdsr
from IRAILib.images.xa import read_xa
from xa_cases import base, classic, item

RDSR = "1.2.840.10008.5.1.4.1.1.88.67"


def box(rows: slice, columns: slice) -> np.ndarray:
    out = np.zeros((200, 300), bool)
    out[rows, columns] = True
    return out


def test_the_target_stays_with_its_margin_and_nothing_more():
    target = box(slice(80, 120), slice(100, 160))
    found = propose_collimation({"target": target}, preferences=Preferences(margin_px=10), dap=2.0)
    assert found.edges_px == (90, 170, 70, 130)
    assert found.area_share == pytest.approx(80 * 60 / 60000)
    assert found.dap_after == pytest.approx(2.0 * found.area_share)
    assert found.dap_sd_after == pytest.approx(0.35 * found.dap_after)
    assert found.kept == {"target": 1.0}
    wider = propose_collimation({"target": target}, preferences=Preferences(margin_px=10), motion_px=15)
    assert wider.edges_px == (75, 185, 55, 145)


def test_preferences_decide_about_vessels_far_away():
    regions = {"target": box(slice(80, 120), slice(100, 160)), "vessels": box(slice(10, 30), slice(10, 290))}
    careful = propose_collimation(regions, preferences=Preferences(keep={"vessels": 0.2}))
    greedy = propose_collimation(regions, preferences=Preferences(keep={"vessels": 20.0}))
    assert careful.kept["vessels"] < 0.3
    assert greedy.kept["vessels"] == pytest.approx(1.0)
    assert careful.area_share < greedy.area_share
    for found in (careful, greedy):
        left, right, top, bottom = found.edges_px
        assert regions["target"][top:bottom, left:right].sum() == regions["target"].sum()


def test_what_lies_outside_the_open_field_is_not_called_kept():
    half, beyond = box(slice(80, 120), slice(80, 120)), box(slice(80, 120), slice(200, 220))
    found = propose_collimation({"target": half, "device": beyond}, open_px=(0, 100, 0, 200))
    assert found.kept == {"target": pytest.approx(0.5), "device": 0.0}


def test_the_field_never_grows_and_motion_counts():
    masks = np.stack([box(slice(50 + 10 * n, 60 + 10 * n), slice(100, 110)) for n in range(4)])
    whole, motion = region_over_time(masks)
    assert motion == pytest.approx(15)
    found = propose_collimation({"device": whole}, open_px=(95, 200, 40, 90))
    assert found.edges_px[0] >= 95
    assert found.edges_px[2] >= 40
    assert found.edges_px[3] <= 90
    with pytest.raises(RefusedError, match="nothing"):
        propose_collimation({"device": whole}, open_px=(200, 300, 0, 40))


@pytest.mark.parametrize("call", [
    lambda: propose_collimation({"a": np.zeros((4, 4)), "b": np.zeros((5, 4))}), lambda: propose_collimation({}),
    lambda: propose_collimation({"a": np.full((40, 40), np.nan)}),
    lambda: propose_collimation({"a": -np.ones((40, 40))}),
    lambda: propose_collimation({"a": np.ones((40, 40))}, open_px=(5, 2, 0, 40)),
    lambda: propose_collimation({"a": np.ones((40, 40))}, motion_px=-1), lambda: region_over_time(np.zeros((3, 3)))])
def test_nonsense_gives_one_line(call):
    with pytest.raises(InputError):
        call()


# --- skin dose -------------------------------------------------------------------------------------------------------

def beam(primary: float = 0.0, field_mm: float = 200.0, kerma: float = 1000.0) -> Exposure:
    n = round(field_mm)
    return Exposure(geometry_from_angles(primary, 0, 1100, 750, 1.0, (n, n)), kerma, 600.0)


def test_a_frontal_beam_by_hand():
    """Skin at y = -110 lies 640 mm from the source: 1000 (600/640)^2 1.3 0.8 1.06; the field there is 200 640/1100."""
    found = skin_dose([beam()], elliptic_skin(step_mm=2.0))
    by_hand = 1000 * (600 / 640) ** 2 * 1.3 * 0.8 * 1.06
    assert found.peak_mgy == pytest.approx(by_hand, rel=0.002)
    assert found.skin.points_mm[np.argmax(found.dose_mgy)] == pytest.approx([0, -110, 0], abs=90)
    side_cm = 20 * 640 / 1100
    assert found.area_above_cm2(0.5 * by_hand) == pytest.approx(side_cm**2, rel=0.06)
    assert found.relative_uncertainty == pytest.approx(math.sqrt(0.35**2 + 3 * 0.1**2))
    assert found.picture.shape == found.skin.shape
    assert found.to_dict()["standard_uncertainty_mgy"] == pytest.approx(found.peak_mgy * found.relative_uncertainty)


def test_from_the_side_the_table_is_not_in_the_way():
    """LAO 90: the tube at the patient's right, level with the isocentre, 170 mm from the middle to the skin."""
    factors = DoseFactors()
    skin = elliptic_skin(step_mm=2.0)
    above_table = skin_dose([beam(180)], skin, factors)
    assert above_table.peak_mgy == pytest.approx(1000 * (600 / 640) ** 2 * 1.3 * 1.06, rel=0.002)
    assert above_table.skin.points_mm[np.argmax(above_table.dose_mgy)][1] > 90
    side = skin_dose([beam(90)], skin, factors)
    assert side.peak_mgy == pytest.approx(1000 * (600 / 580) ** 2 * 1.3 * 1.06, rel=0.01)
    assert side.skin.points_mm[np.argmax(side.dose_mgy)][0] > 160, "the tube stands where the detector isn't"


def test_an_oblique_beam_beside_the_table_is_not_weakened_by_it():
    """LAO 75: the tube is 84 mm below the table's top, and its beam crosses that height 0.4 m beside the patient."""
    skin = elliptic_skin(step_mm=2.0)
    bare = skin_dose([beam(75)], skin, DoseFactors(table=1.0))
    assert skin_dose([beam(75)], skin).peak_mgy == pytest.approx(bare.peak_mgy)
    assert skin_dose([beam(75)], skin, DoseFactors(table_width_mm=2000.0)).peak_mgy < 0.6 * bare.peak_mgy
    with pytest.raises(InputError, match="wide"):
        DoseFactors(table_width_mm=-1.0)


def test_beams_add_up_only_where_they_overlap():
    skin = elliptic_skin()
    one, other = skin_dose([beam(30, 100)], skin), skin_dose([beam(-30, 100)], skin)
    both = skin_dose([beam(30, 100), beam(-30, 100)], skin)
    assert both.dose_mgy == pytest.approx(one.dose_mgy + other.dose_mgy)
    assert both.peak_mgy == pytest.approx(one.peak_mgy), "narrow fields 60 degrees apart don't meet"
    twice = skin_dose([beam(30, 100)] * 2, skin)
    assert twice.peak_mgy == pytest.approx(2 * one.peak_mgy)
    shifted = Exposure(beam(30, 100).geometry, 1000.0, 600.0, np.array([0, 0, 100.0]))
    assert skin_dose([beam(30, 100), shifted], skin).peak_mgy == pytest.approx(one.peak_mgy)
    assert skin_dose([], skin).peak_mgy == 0


def test_skin_of_a_surface_faces_the_source():
    """A cube of 200 mm: only its back face is hit from below, at 650 mm."""
    points = np.array([[x, y, z] for x in (-100, 100) for y in (-100, 100) for z in (-100, 100)], float)
    faces = np.array([[0, 4, 1], [1, 4, 5], [2, 3, 6], [3, 7, 6], [0, 1, 2], [1, 3, 2], [4, 6, 5], [5, 6, 7],
                      [0, 2, 4], [2, 6, 4], [1, 5, 3], [3, 5, 7]])
    found = skin_dose([beam(0, 600)], skin_of_surface(Surface(points, faces), np.eye(4)))
    assert (found.dose_mgy > 0).tolist() == [p[1] < 0 for p in points]
    far = math.sqrt(650**2 + 2 * 100**2)
    expected = 1000 * (600 / far) ** 2 * 1.3 * 1.06 * 0.8 ** (far / 650)
    assert found.peak_mgy == pytest.approx(expected, rel=1e-6)
    with pytest.raises(InputError):
        skin_of_surface(Surface(np.zeros((0, 3)), np.zeros((0, 3), int)), np.eye(4))


def code(value: str, meaning: str = "x", scheme: str = "DCM"):
    return [item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)]


def number(concept: str, value: float, unit: str):
    return item(RelationshipType="CONTAINS", ValueType="NUM", ConceptNameCodeSequence=code(concept),
                MeasuredValueSequence=[item(NumericValue=str(value),
                                            MeasurementUnitsCodeSequence=code(unit, unit, "UCUM"))])


def report(path, events: list[dict[str, tuple[float, str]]]):
    """A dose report of TID 10001 with events of TID 10003, by their codes."""
    dataset = base(np.zeros((1, 1, 1), np.uint8), RDSR)
    for keyword in ("PixelData", "Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit",
                    "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation"):
        delattr(dataset, keyword)
    dataset.Modality, dataset.ValueType = "SR", "CONTAINER"
    dataset.ConceptNameCodeSequence = code("113701", "X-Ray Radiation Dose Report")
    dataset.ContentSequence = [
        item(RelationshipType="CONTAINS", ValueType="CONTAINER", ConceptNameCodeSequence=code("113706"),
             ContentSequence=[*(number(c, v, u) for c, (v, u) in event.items()),
                              item(RelationshipType="CONTAINS", ValueType="CODE",
                                   ConceptNameCodeSequence=code("113721"),
                                   ConceptCodeSequence=code("113611", "Stationary Acquisition"))])
        for event in events]
    dataset.save_as(path, enforce_file_format=True)
    return path


EVENT = {"113738": (0.5, "Gy"), "122130": (0.0002, "Gy.m2"), "112011": (0.0, "deg"), "112012": (0.0, "deg"),
         "113748": (750, "mm"), "113750": (1100, "mm"), "113737": (600, "mm"), "113790": (0.04, "m2"),
         "113751": (100, "mm"), "113752": (0, "mm"), "113753": (0, "mm")}


def test_a_report_gives_the_dose_by_hand(tmp_path):
    """Two stationary events of 0.5 Gy at one place, as one of 1 Gy; a third with the table 150 mm away adds nothing."""
    away = EVENT | {"113751": (250, "mm"), "113738": (300, "mGy")}
    events = read_rdsr(report(tmp_path / "r.dcm", [EVENT, EVENT, away]))
    assert [e.values["dose_rp_mgy"] for e in events] == pytest.approx([500, 500, 300])
    assert events[0].values["field_area_cm2"] == pytest.approx(400)
    assert events[0].kind == "Stationary Acquisition"
    found = skin_dose(exposures_of_report(events), elliptic_skin(step_mm=2.0))
    assert found.peak_mgy == pytest.approx(1000 * (600 / 640) ** 2 * 1.3 * 0.8 * 1.06, rel=0.002)
    assert found.dose_mgy[found.dose_mgy > 0].min() < 0.35 * found.peak_mgy, "the third lies beside the others"


def test_a_turning_arm_spreads_its_dose(tmp_path):
    turning = EVENT | {"113739": (60, "deg"), "112011": (-60, "deg"), "113790": (0.01, "m2")}
    exposures = exposures_of_report(read_rdsr(report(tmp_path / "r.dcm", [turning])))
    assert len(exposures) == 11
    assert sum(e.kerma_mgy for e in exposures) == pytest.approx(500)
    still = exposures_of_report(read_rdsr(report(tmp_path / "s.dcm", [EVENT | {"113790": (0.01, "m2")}])))
    skin = elliptic_skin()
    assert skin_dose(exposures, skin).peak_mgy < 0.5 * skin_dose(still, skin).peak_mgy


@pytest.mark.parametrize(("without", "word"), [("113738", "Dose (RP)"), ("112011", "primary"), ("113748", "isocentre")])
def test_a_report_that_lacks_something_is_refused(tmp_path, without, word):
    events = read_rdsr(report(tmp_path / "r.dcm", [{k: v for k, v in EVENT.items() if k != without}]))
    refused(lambda: exposures_of_report(events), word, kind=RefusedError)


def test_what_is_no_report(tmp_path):
    refused(lambda: read_rdsr(tmp_path / "none.dcm"), "no such file")
    frames = np.zeros((1, 4, 4), np.uint8)
    refused(lambda: read_rdsr(classic(tmp_path / "x.dcm", frames)), "not an X-ray radiation dose")
    refused(lambda: read_rdsr(report(tmp_path / "e.dcm", [])), "without irradiation events")
    refused(lambda: read_rdsr(report(tmp_path / "u.dcm", [EVENT | {"113738": (1, "rad")}])), "unit")
    path = report(tmp_path / "d.dcm", [EVENT])
    whole, rng = path.read_bytes(), np.random.default_rng(2)
    for trial in range(60):
        broken = bytearray(whole[: rng.integers(140, len(whole))] if trial % 3 == 0 else whole)
        for at in rng.integers(132, len(broken), 4):
            broken[at] = int(rng.integers(256))
        path.write_bytes(bytes(broken))
        attempt(lambda: read_rdsr(path))


def test_a_run_with_its_dose_area_product(tmp_path):
    """60 dGy cm^2 over a field of 100x100 px, 2 mm each, on a detector at 1100 mm: (20 600/1100)^2 cm^2 there."""
    frames = np.ones((3, 100, 100), np.uint16)
    path = classic(tmp_path / "a.dcm", frames, ImagerPixelSpacing=[2.0, 2.0], PositionerPrimaryAngle=0,
                   PositionerSecondaryAngle=0, ImageAndFluoroscopyAreaDoseProduct=60)
    exposures = exposures_of_run(read_xa(path))
    kerma = 6000 / (20 * 600 / 1100) ** 2
    assert len(exposures) == 1
    assert exposures[0].kerma_mgy == pytest.approx(kerma)
    found = skin_dose(exposures, elliptic_skin(step_mm=2.0))
    assert found.peak_mgy == pytest.approx(kerma * (600 / 640) ** 2 * 1.3 * 0.8 * 1.06, rel=0.002)
    assert found.relative_uncertainty > DoseFactors().uncertainty
    given = exposures_of_run(read_xa(path), kerma_mgy=100.0)
    assert given[0].kerma_mgy == 100


def test_the_collimator_s_edges_are_the_field(tmp_path):
    frames = np.ones((1, 100, 100), np.uint16)
    path = classic(tmp_path / "a.dcm", frames, ImagerPixelSpacing=[2.0, 2.0], CollimatorShape="RECTANGULAR",
                   CollimatorLeftVerticalEdge=20, CollimatorRightVerticalEdge=61, CollimatorUpperHorizontalEdge=10,
                   CollimatorLowerHorizontalEdge=91, PositionerPrimaryAngle=0, PositionerSecondaryAngle=0)
    field = exposures_of_run(read_xa(path), kerma_mgy=10.0)[0].geometry
    assert field.size == (40, 80)
    whole = read_xa(path).geometry()
    assert field.pixel0_mm == pytest.approx(whole.pixel0_mm + 20 * whole.column_mm + 10 * whole.row_mm)


def test_a_run_without_dose_or_geometry_is_refused(tmp_path):
    frames = np.ones((1, 20, 20), np.uint16)
    refused(lambda: exposures_of_run(read_xa(classic(tmp_path / "a.dcm", frames))), "air kerma", kind=RefusedError)
    bare = classic(tmp_path / "b.dcm", frames, DistanceSourceToDetector=None)
    refused(lambda: exposures_of_run(read_xa(bare), 10.0), "DistanceSourceToDetector", kind=RefusedError)
    run = read_xa(classic(tmp_path / "c.dcm", frames))
    refused(lambda: exposures_of_run(run, math.nan), "air kerma", kind=RefusedError)


def test_factors_and_models_of_nonsense():
    for call in (lambda: DoseFactors(backscatter=5), lambda: DoseFactors(table=0), lambda: elliptic_skin(width_mm=-1),
                 lambda: elliptic_skin(thickness_mm=math.nan),
                 lambda: skin_dose([Exposure(beam().geometry, -1.0, 600.0)], elliptic_skin(step_mm=40.0))):
        with pytest.raises(InputError):
            call()
