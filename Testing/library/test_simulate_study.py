"""The study's tables count what was refused and what failed; nothing is hidden."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "margin_cases.py"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("margin_cases", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def row(n: int, **change) -> dict:
    spec = {"place": "deep", "contrast": "hypo", "tumor_radius_mm": 9.0, "pre_phase": "portal",
            "post_phase": "arterial",
            "pre_slice_mm": 1.5, "post_slice_mm": 3.0, "breathing_mm": 12.0, "contraction_percent": 1.0}
    return {"n": n, "spec": spec, "exact_mam": 4.0, "reference": 3.5, "found": 3.7, "rigid": 5.0, "ci": [0.5, 7.0],
            "tre": 0.6, "stated_tre": 0.8, "refused": None, "seconds": 30.0, "volume_change": -3.0,
            "quality": {"tumor_volume_change_percent": -2.0}} | change


def test_errors_intervals_refusals_and_failures_are_counted(study):
    rows = [row(0), row(1, found=2.3), row(2, exact_mam=8.0), row(3, refused="it stretches", found=9.0),
            {"n": 4, "failed": "out of memory"}]
    text = "\n".join(study.summary(rows))
    assert "given 3 of 5, refused 1, failed 1" in text
    assert "error 0.53 mm" in text
    assert "worst 1.20 mm" in text
    assert "in 2 of 3" in text
    lines = study.table(rows)
    assert len(lines) == 7
    assert len({line.count("|") for line in lines}) == 1
    assert "refused: it stretches" in lines[5]
    assert "FAILED: out of memory" in lines[6]
    assert "| NO |" in lines[4]


def test_all_refused_is_said(study):
    assert "No margin given: 2 refused" in study.summary([row(0, refused="a"), row(1, refused="b")])[0]


def test_no_surface_to_judge_is_neither_hit_nor_miss(study):
    nothing = row(0, exact_mam=None, ci=None, found=None, reference=None)
    assert study.holds(nothing) is None
    assert study.error_of(nothing) is None
    assert study.holds(row(0, ci=None)) is False


def test_finished_case_is_kept_and_failure_is_told(study, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "_code_hash", lambda *_: "code")
    (tmp_path / "code_1_0.json").write_text(json.dumps(row(0)))
    assert study.case_row(1, 0, tmp_path)["found"] == 3.7
    monkeypatch.setattr(study.sys, "executable", "/bin/false")
    assert study.case_row(1, 1, tmp_path) == {"seed": 1, "n": 1, "failed": "no result"}
