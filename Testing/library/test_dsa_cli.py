"""`irai fusion dsa` as a user runs it."""

from __future__ import annotations

import json

import numpy as np
import SimpleITK as sitk
from IRAILib.cli.main import main
from test_dsa import painted_run
from xa_cases import classic


def dsa(*arguments) -> int:
    return main(["fusion", "dsa", *(str(a) for a in arguments)])


def test_a_run_becomes_pictures_maps_and_numbers(tmp_path, capsys):
    run, share, paint = painted_run()
    path = classic(tmp_path / "run.dcm", run.frames, bits=12, FrameTime=250)
    out = tmp_path / "out"
    assert dsa(path, "--out", out / "o.mha", "--minip", out / "m.png", "--maps", out / "maps", "--json",
               out / "o.json") == 0
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "o.mha")))
    assert frames.shape == run.frames.shape
    assert np.median(frames[-1][paint < -0.3]) / 1000.0 < -0.3
    document = json.loads((out / "o.json").read_text())
    assert (share[document["bare_frames"]] == 0).all()
    assert document["maps"]["pixels_with_contrast"] > 500
    assert sorted(p.name for p in (out / "maps").iterdir()) == ["area.mha", "arrival_s.mha", "peak.mha", "peak_s.mha"]
    assert (out / "m.png").stat().st_size > 500
    assert not [p for p in out.iterdir() if p.name.startswith(".")]
    capsys.readouterr()


def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys):
    run, _, _ = painted_run(still=True)
    path = classic(tmp_path / "run.dcm", run.frames[:5].repeat(3, axis=0), bits=12)
    out = tmp_path / "o.mha"
    for arguments, status in (((tmp_path / "none.dcm", "--out", out), 2), ((path, "--out", tmp_path / "o.avi"), 2),
                              ((path, "--out", out, "--mask-frames", "a"), 2),
                              ((path, "--out", out, "--minip", tmp_path / "m.jpg"), 2),
                              ((path, "--out", out, "--mask-frames", "77"), 2),
                              ((path, "--out", out, "--shift", "1,2"), 2),
                              ((path, "--out", out, "--shift", "x", "--method", "plain"), 2),
                              ((path, "--out", out, "--mask-frames", "file"), 2), ((path, "--out", out), 3)):
        assert dsa(*arguments) == status, arguments
        text = capsys.readouterr().err.strip().splitlines()
        assert [line for line in text if line.startswith("irai: ")] == text[-1:]
    assert not out.exists()
