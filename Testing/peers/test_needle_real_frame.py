"""`irai needle detect` on a real ultrasound picture, and on real pictures that show no needle along its length."""

from __future__ import annotations

import json

import numpy as np
import pytest
from IRAILib.cli.main import main


def detected(path, tmp_path) -> dict:
    out = tmp_path / "found.json"
    assert main(["needle", "detect", str(path), "--json", str(out)]) == 0
    return json.loads(out.read_text())


def test_a_real_needle_of_a_linear_probe(data, tmp_path) -> None:
    """End and axis of the bright shaft were read from the picture by eye: +/- 6 px, +/- 1.5 degrees; 12 px are 1 mm."""
    pytest.importorskip("onnxruntime")
    found = detected(data / "needle/us_needle/jw34_linear_probe_needle.png", tmp_path)
    assert found["found"]
    assert found["units"] == "px"
    assert np.linalg.norm(np.array(found["tip"][:2]) - (813.0, 423.0)) < 30.0
    angle = np.degrees(np.arctan2(found["direction"][1], found["direction"][0]))
    assert angle == pytest.approx(22.7, abs=3.5)
    assert found["sigma"] > 5.0


@pytest.mark.parametrize("name", ["jordandanny_img0.jpg"])
def test_no_needle_in_a_picture_without_one(name, data, tmp_path) -> None:
    assert detected(data / "needle/us_needle" / name, tmp_path)["found"] is False
