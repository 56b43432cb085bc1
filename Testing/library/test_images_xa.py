"""X-ray runs as written by pydicom, and what isn't one."""

from __future__ import annotations

import numpy as np
import pytest
from images_cases import attempt, edit, refused
from IRAILib.geometry import beam_direction
from IRAILib.images.xa import read_xa
from xa_cases import classic, enhanced, item


def counts(n: int = 3, kind=np.uint16, top: int = 4000) -> np.ndarray:
    return np.random.default_rng(5).integers(0, top, (n, 6, 8)).astype(kind)


def test_a_run_with_its_geometry_times_and_exposure(tmp_path):
    frames = counts()
    run = read_xa(classic(tmp_path / "a.dcm", frames, bits=12, XRayTubeCurrent=500, ExposureTime=6,
                          ImageAndFluoroscopyAreaDoseProduct=12.5))
    assert run.frames.dtype == np.uint16
    assert (run.frames == frames).all()
    assert run.time_s == pytest.approx([0, 0.04, 0.08])
    assert run.values["KVP"] == 81
    assert run.values["XRayTubeCurrent"] == 500
    assert run.values["ImageAndFluoroscopyAreaDoseProduct"] == 12.5
    geometry = run.geometry(2)
    assert geometry.size == (8, 6)
    assert geometry.normal == pytest.approx(beam_direction(30, -20))
    assert np.linalg.norm(geometry.column_mm) == pytest.approx(0.2), "DICOM gives rows first"
    assert geometry.source_to_detector_mm == pytest.approx(1100)
    assert np.linalg.norm(geometry.source_mm) == pytest.approx(750)
    assert run.to_dict()["frames"] == 3


def test_logarithm_of_linear_counts(tmp_path):
    frames = counts()
    frames[0, 0, 0] = 0
    log = read_xa(classic(tmp_path / "a.dcm", frames, bits=12)).log_frames()
    assert log.dtype == np.float32
    assert log[1] == pytest.approx(np.log(np.maximum(frames[1], 0.5)))
    assert np.isfinite(log).all()


def test_logarithmic_and_display_values_are_only_scaled(tmp_path):
    frames = counts(top=1024)
    for name in ("LOG", "DISP", None):
        run = read_xa(classic(tmp_path / "a.dcm", frames, bits=10, PixelIntensityRelationship=name))
        assert run.relationship == (name or "DISP")
        assert run.log_frames() == pytest.approx(frames / 1023.0)
        assert bool(run.notes) == (name is None)


def test_the_file_s_own_table_makes_values_linear(tmp_path):
    frames = counts(top=16)
    table = (np.exp(np.arange(16) / 3.0) * 20).astype(np.uint16)
    path = classic(tmp_path / "a.dcm", frames, bits=12, PixelIntensityRelationship="LOG")
    edit(path, ModalityLUTSequence=[item(LUTDescriptor=[16, 0, 16], LUTData=table.tobytes(), ModalityLUTType="US")])
    assert read_xa(path).log_frames() == pytest.approx(np.log(table[frames]), rel=1e-6)


@pytest.mark.parametrize("values", [
    {"PhotometricInterpretation": "MONOCHROME1"}, {"PixelIntensityRelationshipSign": -1},
    {"PhotometricInterpretation": "MONOCHROME1", "PixelIntensityRelationshipSign": -1}])
def test_more_xray_is_always_higher(tmp_path, values):
    frames = counts()
    run = read_xa(classic(tmp_path / "a.dcm", frames, bits=12, **values))
    assert (run.frames == 4095 - frames).all()
    assert "turned round" in run.notes[0]


def test_a_sign_of_plus_one_stands_above_the_display(tmp_path):
    frames = counts()
    run = read_xa(classic(tmp_path / "a.dcm", frames, bits=12, PhotometricInterpretation="MONOCHROME1",
                          PixelIntensityRelationshipSign=1))
    assert (run.frames == frames).all()


def test_a_turning_arm(tmp_path):
    path = classic(tmp_path / "a.dcm", counts(), PositionerMotion="DYNAMIC", PositionerPrimaryAngleIncrement=[1.5],
                   PositionerSecondaryAngleIncrement=[0, -1, -4])
    run = read_xa(path)
    assert run.angles_deg == pytest.approx(np.array([[30, -20], [31.5, -21], [33, -24]]))
    assert run.geometry(2).normal == pytest.approx(beam_direction(33, -24))
    edit(path, PositionerPrimaryAngleIncrement=[1.0, 2.0])
    refused(lambda: read_xa(path), "PositionerPrimaryAngleIncrement", "2 values")


def test_times_from_a_vector_a_rate_or_nothing(tmp_path):
    path = classic(tmp_path / "a.dcm", counts(), FrameTime=None, FrameTimeVector=[0, 40, 60])
    assert read_xa(path).time_s == pytest.approx([0, 0.04, 0.1])
    path = classic(tmp_path / "b.dcm", counts(), FrameTime=None, CineRate=10)
    assert read_xa(path).time_s == pytest.approx([0, 0.1, 0.2])
    assert read_xa(classic(tmp_path / "c.dcm", counts(), FrameTime=None)).time_s is None


def test_an_enhanced_run(tmp_path):
    frames = counts(2)
    run = read_xa(enhanced(tmp_path / "e.dcm", frames, [(0, 10), (20, 12)],
                           ["20260102101530.25", "20260102101531.5"]))
    assert (run.frames == frames).all()
    assert run.relationship == "LOG"
    assert run.angles_deg == pytest.approx(np.array([[0, 10], [20, 12]]))
    assert run.time_s == pytest.approx([0, 1.25])
    assert run.values["KVP"] == 75
    assert run.geometry(1).normal == pytest.approx(beam_direction(20, 12))
    assert np.linalg.norm(run.geometry(1).source_mm) == pytest.approx(760)


def test_the_file_s_own_masks(tmp_path):
    path = classic(tmp_path / "a.dcm", counts(4))
    edit(path, MaskSubtractionSequence=[
        item(MaskOperation="AVG_SUB", MaskFrameNumbers=[1, 2], ApplicableFrameRange=[3, 4],
             MaskSubPixelShift=[0.5, -1]),
        item(MaskOperation="TID", TIDOffset=2)])
    first, second = read_xa(path).masks
    assert (first.operation, first.mask_frames, first.applies_to) == ("AVG_SUB", (0, 1), ((2, 3),))
    assert first.shift_px == (0.5, -1.0)
    assert (second.operation, second.offset) == ("TID", 2)
    edit(path, MaskSubtractionSequence=[item(MaskOperation="AVG_SUB", MaskFrameNumbers=[5])])
    refused(lambda: read_xa(path), "mask subtraction", "4")


def test_missing_geometry_is_named(tmp_path):
    run = read_xa(classic(tmp_path / "a.dcm", counts(), DistanceSourceToDetector=None, ImagerPixelSpacing=None))
    text = refused(lambda: run.geometry(), "DistanceSourceToDetector", "ImagerPixelSpacing")
    assert "Angle" not in text
    zero = read_xa(classic(tmp_path / "b.dcm", counts(), DistanceSourceToPatient=0))
    refused(lambda: zero.geometry(), "DistanceSourceToPatient")
    assert "DistanceSourceToPatient" not in zero.values


def test_a_single_frame_and_bytes(tmp_path):
    frames = counts(1, np.uint8, 256)
    path = classic(tmp_path / "a.dcm", frames)
    edit(path, NumberOfFrames=None)
    run = read_xa(path)
    assert run.frames.dtype == np.uint8
    assert (run.frames == frames).all()


def test_high_sixteen_bit_values_survive(tmp_path):
    frames = counts(2, np.uint16, 65536)
    frames[0, 0, :2] = 0, 65535
    assert (read_xa(classic(tmp_path / "a.dcm", frames)).frames == frames).all()


@pytest.mark.parametrize(("values", "words"), [
    ({"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "ImagePositionPatient": [0, 0, 0]}, ("CT",)),
    ({"Modality": "US", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1"}, ("US",)),
    ({"PixelData": None}, ("pixels",)), ({"Rows": None}, ("without a picture",)),
    ({"SamplesPerPixel": 3}, ("coloured",)), ({"NumberOfFrames": 90}, ("truncated",)),
])
def test_what_is_no_run_is_refused(tmp_path, values, words):
    path = classic(tmp_path / "a.dcm", counts())
    edit(path, **values)
    refused(lambda: read_xa(path), *words)


def test_no_file_folder_picture_or_rubbish(tmp_path):
    (tmp_path / "x.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"rubbish" * 40)
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    refused(lambda: read_xa(tmp_path / "none.dcm"), "no such file")
    refused(lambda: read_xa(tmp_path), "folder")
    refused(lambda: read_xa(tmp_path / "x.png"), "not a DICOM")
    refused(lambda: read_xa(tmp_path / "x.dcm"), "damaged")


def test_a_damaged_file_gives_one_line(tmp_path):
    """Bytes of the header and the pixels turned over, and the file cut short: a run or one line, never a crash."""
    path = classic(tmp_path / "a.dcm", counts(), MaskSubtractionSequence=[item(MaskOperation="TID", TIDOffset=1)])
    whole = path.read_bytes()
    rng = np.random.default_rng(11)
    for trial in range(150):
        broken = bytearray(whole[:rng.integers(140, len(whole))] if trial % 3 == 0 else whole)
        for at in rng.integers(132, len(broken), 3):
            broken[at] = int(rng.integers(256))
        path.write_bytes(bytes(broken))
        attempt(lambda: read_xa(path))
