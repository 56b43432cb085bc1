"""The vessel network: its file and card, frames of many sizes, its training; and `irai fusion vessels`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from IRAILib.cli.main import main
from IRAILib.fluoroscopy.vessels import find_vessels
from IRAILib.fluoroscopy.vessels_frangi import FrangiOptions
from IRAILib.fluoroscopy.vessels_network import WEIGHTS, VesselNetwork, load_card
from IRAILib.fluoroscopy.vessels_scores import dice
from IRAILib.fluoroscopy.vessels_train import build, draw_fold, make_pair, read_frames, train
from IRAILib.fluoroscopy.vessels_train_command import frangi_dice, tune_frangi, tune_operation
from IRAILib.geometry import CancelledError, InputError
from PIL import Image
from scipy import ndimage
from vessels_cases import Lumen, course, draw, narrowed

pytest.importorskip("onnxruntime")


def drawing(scale: float = 1.0, photons: float = 3000.0):
    """A trunk of 9 px with a narrowing of 60 %, and a branch of 5 px, in a frame of 240 x 300, times `scale`."""
    s, radius = narrowed(260.0 * scale, 9.0 * scale, percent=60.0, at=0.7, width_px=12.0 * scale)
    trunk = course(s, (20.0 * scale, 60.0 * scale), 25.0, 14.0 * scale)
    s2, radius2 = narrowed(150.0 * scale, 5.0 * scale)
    branch = course(s2, tuple(trunk[len(trunk) // 3]), 78.0, -12.0 * scale)
    shape = round(240 * scale), round(300 * scale)
    hills = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=shape), 22.0 * scale)
    return draw(shape, [Lumen(trunk, radius), Lumen(branch, radius2)], photons=photons, mu=0.05 / scale,
                blur_px=0.9 * scale, ground=np.exp(0.25 * hills / hills.std()))


def test_the_network_sees_drawn_vessels_at_any_size() -> None:
    net = VesselNetwork(threads=1)
    for scale in (0.8, 1.0, 2.2):
        drawn = drawing(scale)
        found = find_vessels(drawn.frame, network=net, diameters=False, flips=scale < 1.0)
        assert found.mask.shape == drawn.frame.shape
        assert dice(found.mask, drawn.truth) > 0.75, scale
    assert found.scale < 0.7
    again = find_vessels(drawn.frame, network=net, diameters=False, flips=False)
    assert np.array_equal(found.mask, again.mask)


def test_both_methods_together_and_noise() -> None:
    net, drawn = VesselNetwork(threads=1), drawing()
    assert dice(find_vessels(drawn.frame, method="both", network=net, diameters=False).mask, drawn.truth) > 0.75
    noise = find_vessels(np.random.default_rng(1).poisson(500.0, (300, 300)), network=net)
    assert noise.mask.mean() < 0.02


def test_the_card_says_what_the_weights_are(tmp_path: Path) -> None:
    card = load_card(WEIGHTS)
    assert "BSD-3" in card["licence"]
    assert len(card["training"]["pairs"]) == 30
    assert not set(card["test"]["frames"]) & set(card["training"]["pairs"])
    copy = tmp_path / "vessels_xray.onnx"
    with pytest.raises(InputError, match="missing"):
        VesselNetwork(copy)
    shutil.copy(WEIGHTS, copy)
    with pytest.raises(InputError, match="missing"):
        VesselNetwork(copy)
    copy.with_suffix(".json").write_text("{}", "utf-8")
    with pytest.raises(InputError, match="damaged"):
        VesselNetwork(copy)
    shutil.copy(WEIGHTS.with_suffix(".json"), copy.with_suffix(".json"))
    copy.write_bytes(copy.read_bytes() + b"0")
    with pytest.raises(InputError, match="checksum"):
        VesselNetwork(copy)


def test_folds_keep_one_hearts_frames_on_one_side() -> None:
    names = [str(n) for n in range(1, 41)]
    seen = set()
    for fold in range(5):
        learned, held = draw_fold(names, fold)
        assert (len(learned), len(held)) == (30, 10)
        assert not set(learned) & set(held)
        for pair in (("2", "3"), ("14", "15"), ("36", "40")):
            assert (pair[0] in held) == (pair[1] in held)
        seen.add(tuple(held))
    assert len(seen) == 5
    assert draw_fold(names, 3) == draw_fold(names, 3)
    with pytest.raises(InputError):
        draw_fold(names[:10], 0)


def test_training_learns_and_leaves_torch_as_it_was(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    drawn = drawing()
    pair = make_pair("a", drawn.frame, drawn.truth)
    net, done = train([pair], steps=40, widths=(16, 16, 16, 16), keep=tmp_path / "net.pt")
    first, _ = train([pair], steps=1, widths=(16, 16, 16, 16))
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads
    assert done["steps"] == 40
    values = torch.from_numpy(pair.channels[None, :, :240, :288])
    truth = drawn.truth[:, :288]
    with torch.no_grad():
        logits = [n(values)[0, 0].numpy() for n in (net, first)]
    scores = [float(seen[truth].mean() - seen[~truth].mean()) for seen in logits]
    assert scores[0] > scores[1] + 0.1
    assert (tmp_path / "net.pt").is_file()
    with pytest.raises(InputError):
        train([])
    with pytest.raises(CancelledError):
        train([pair], steps=5, widths=(8, 8, 8, 8), cancelled=lambda: True)
    assert build((8, 8, 8, 8)) is not None


def test_thresholds_are_those_that_fit_the_frames_given() -> None:
    drawn = drawing()
    frames = {"a": (drawn.frame, drawn.truth)}
    wide = ndimage.binary_dilation(drawn.truth, iterations=3)

    class Wide:
        """Sure of the vessel; of 3 px around it 0.45 when it is too wide, 0.65 when the truth is as wide."""

        def __init__(self, value: float):
            self.value = value

        def probability(self, work, ridges, *, flips=True):
            return np.where(drawn.truth, 0.9, np.where(wide, self.value, 0.0)).astype(np.float32)

    assert tune_operation(frames, Wide(0.45))["threshold"] >= 0.5  # type: ignore[arg-type]
    assert tune_operation({"a": (drawn.frame, wide)}, Wide(0.65))["threshold"] <= 0.6  # type: ignore[arg-type]
    grid = [FrangiOptions(high=0.999, low=0.99), FrangiOptions()]
    values = frangi_dice(frames, grid)
    assert values.shape == (2, 1)
    assert values[1, 0] > max(0.7, values[0, 0])
    assert tune_frangi(frames, grid) is grid[1]


def test_reading_pairs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pairs"):
        read_frames(tmp_path)
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "1_gt.png")
    with pytest.raises(InputError, match="can't be read"):
        read_frames(tmp_path)
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(tmp_path / "1.png")
    with pytest.raises(InputError, match="differs"):
        read_frames(tmp_path)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    values = drawing().frame
    Image.fromarray((255 * values / values.max()).round().astype(np.uint8)).save(tmp_path / "frame.png")
    return tmp_path / "frame.png"


def test_console_writes_mask_numbers_and_picture(picture: Path, tmp_path: Path, capsys) -> None:
    out, document, drawn = tmp_path / "mask.png", tmp_path / "out.json", tmp_path / "seen.png"
    assert main(["fusion", "vessels", str(picture), "--out", str(out), "--json", str(document), "--overlay", str(drawn),
                 "--mm-per-px", "0.25"]) == 0
    said = capsys.readouterr().out
    mask, values = np.asarray(Image.open(out)), json.loads(document.read_text("utf-8"))
    assert dice(mask > 0, drawing().truth) > 0.7
    assert values["found"]
    assert values["frame"].startswith("Image")
    assert values["tree"]["branches"][0]["diameter_mm"]
    s, radius = narrowed(260.0, 9.0, percent=60.0, at=0.7, width_px=12.0)
    place = course(s, (20.0, 60.0), 25.0, 14.0)[int(np.argmin(radius))]
    top = values["stenoses"][0]
    assert np.hypot(*np.subtract(top["place_px"], place)) < 5.0
    assert abs(top["percent_diameter"] - 60.0) < 12.0
    assert top["percent_diameter"] - 2 * top["percent_diameter_sigma"] > 29.9
    assert top["place_px"] not in [one["place_px"] for one in values["unsure"]]
    assert "validated on" in said
    assert np.asarray(Image.open(drawn)).shape == (240, 300, 3)


def test_console_refuses_what_it_cannot_use(picture: Path, tmp_path: Path, capsys) -> None:
    rest = ["--out", str(tmp_path / "m.png"), "--json", str(tmp_path / "o.json"), "--method", "frangi"]
    colour = np.zeros((100, 100, 3), np.uint8)
    colour[..., 0] = np.arange(100)
    Image.fromarray(colour * 2).save(tmp_path / "colour.png")
    Image.fromarray(np.full((90, 90), 7, np.uint8)).save(tmp_path / "flat.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "tiny.png")
    (tmp_path / "junk.png").write_bytes(b"no picture")
    for arguments, words in ((["colour.png"], "coloured"), (["flat.png"], "uniform"), (["tiny.png"], "pixels"),
                             (["junk.png"], "damaged"), (["none.png"], "no such file"), ([""], "folder"),
                             (["frame.png", "--frame", "3"], "frames 0 to 0"),
                             (["frame.png", "--catheter-french", "6"], "go together"),
                             (["frame.png", "--at", "4"], "2 numbers"), (["frame.png", "--out", "m.txt"], "end in")):
        path = str(tmp_path / arguments[0])
        assert main(["fusion", "vessels", path, *rest, *arguments[1:]]) == 2, words
        error = [line for line in capsys.readouterr().err.strip().splitlines() if not line.startswith("vessels:")]
        assert len(error) == 1
        assert words in error[0]
    assert main(["fusion", "vessels", str(picture), *rest, "--catheter", "5,5,9,9", "--catheter-french", "6"]) == 3
    assert not (tmp_path / "m.png").exists()
