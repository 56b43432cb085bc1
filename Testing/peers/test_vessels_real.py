"""Vessels in other people's angiograms: masks drawn by hand that the network hasn't seen, and a cine from a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from IRAILib.cli.main import main
from IRAILib.fluoroscopy.vessels import find_vessels, fullest_frame
from IRAILib.fluoroscopy.vessels_frangi import polarity_of
from IRAILib.fluoroscopy.vessels_network import WEIGHTS, load_card
from IRAILib.fluoroscopy.vessels_scores import dice
from IRAILib.fluoroscopy.vessels_train import draw_fold, read_frames, read_grey
from IRAILib.images.xa import read_xa
from PIL import Image

CINE = "XA_multiframe_coronary_96fr_HasFragmentSequence.dcm"


def test_held_out_angiograms_network_above_frangi(data: Path) -> None:
    pytest.importorskip("onnxruntime")
    frames = read_frames(data / "angiography" / "fercer_xca_vessels")
    learned, held = draw_fold(list(frames), 0)
    card = load_card(WEIGHTS)
    assert card["training"]["pairs"] == learned  # nothing of what follows was learned from
    assert card["test"]["frames"] == held
    scores = {method: np.array([dice(find_vessels(frames[n][0], method=method, diameters=False).mask, frames[n][1])
                                for n in held]) for method in ("network", "frangi")}
    assert scores["network"].mean() > 0.75
    assert scores["frangi"].mean() > 0.65
    assert (scores["network"] - scores["frangi"]).mean() > 0.04
    assert (scores["network"] > scores["frangi"]).sum() >= 8


def test_which_polarity(data: Path) -> None:
    folder = data / "angiography" / "fercer_xca_vessels"
    frames = [read_grey(folder / f"{n}.png") for n in range(1, 41, 4)]
    assert all(polarity_of(frame) == "dark" for frame in frames)
    # inverted pictures are rare: in doubt vessels are dark, and one of these ten stays in doubt
    assert sum(polarity_of(255 - frame) == "bright" for frame in frames) >= 8


def test_marked_stenoses_lie_on_found_vessels(data: Path) -> None:
    folder = data / "angiography" / "arcade_stenosis"
    shares = []
    for path in sorted((folder / "image").glob("*.png"))[:6]:
        mark = read_grey(folder / "stenosis_mask" / path.name) > 127
        found = find_vessels(read_grey(path), diameters=False, flips=False)
        shares.append((found.mask[mark].mean(), found.mask.mean()))
    on, everywhere = np.mean(shares, axis=0)
    assert on > 0.3
    assert on > 5 * everywhere


def test_cine_shows_vessels_where_the_contrast_is(data: Path, tmp_path: Path) -> None:
    path = data / "angiography" / CINE
    run = read_xa(path)
    full = fullest_frame(run.frames)
    assert full > 20  # contrast comes late in this run
    out, document = tmp_path / "mask.png", tmp_path / "vessels.json"
    assert main(["fusion", "vessels", str(path), "--out", str(out), "--json", str(document)]) == 0
    values = json.loads(document.read_text("utf-8"))
    mask = np.asarray(Image.open(out)) > 0
    assert values["frame_number"] == full
    assert mask.shape == run.frames.shape[1:]
    before = find_vessels(run.frames[0], polarity="dark", diameters=False, flips=False).mask
    assert mask.sum() > 1.5 * before.sum()
    # what was marked darkened when the contrast came, and its neighbourhood did so much less
    change = run.log_frames()[full] - run.log_frames()[0]
    assert np.median(change[mask]) < np.median(change) - 0.02
