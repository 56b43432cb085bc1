"""Model bundles: a real small one is run; damaged and hostile ones are told apart."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest
import segmentation_bundle_maker as maker
from IRAILib.geometry import CancelledError, Grid, InputError, MissingPackageError, RefusedError, Volume
from IRAILib.segmentation import read_card, segment_bundle
from IRAILib.segmentation.orient import network_grid, oriented_grid

torch = pytest.importorskip("torch", reason='needs torch: pip install "irai[torch]"')
pytest.importorskip("monai", reason='needs monai: pip install "irai[torch]"')


@pytest.fixture(scope="session")
def state():
    return maker.trained_state()


@pytest.fixture
def bundle(tmp_path, state):
    return maker.write_bundle(tmp_path / "blob", state)


def edited(bundle, change) -> None:
    config = maker.inference_config()
    change(config)
    (bundle / "configs" / "inference.json").write_text(json.dumps(config))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2.0 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_bundle_finds_the_blob_on_an_oblique_grid(bundle):
    volume, truth = maker.oblique_case()
    told = []
    result = segment_bundle(volume, bundle, progress=lambda fraction, text: told.append(fraction))
    assert result.labels.grid.same_grid(volume.grid)
    assert result.names() == {1: "blob"}
    mask = result.mask("Blob")
    assert dice(mask.array, truth.array) > 0.93
    centroid = [volume.grid.points_ras(np.argwhere(m.array)).mean(axis=0) for m in (mask, truth)]
    assert np.linalg.norm(centroid[0] - centroid[1]) < 0.3
    assert told == sorted(told)
    assert len(told) > 5
    assert result.to_dict()["card"]["licence"] == "CC0-1.0"


def test_the_same_head_in_another_array_order_gives_the_same_place(bundle):
    volume, _ = maker.oblique_case()
    flipped_grid = oriented_grid(volume.grid, "PIR")
    index = volume.grid.indices_kji(flipped_grid.all_points_ras().reshape(-1, 3)).round().astype(int)
    flipped = Volume(volume.array[tuple(index.T)].reshape(flipped_grid.shape), flipped_grid, "flipped")
    a, b = segment_bundle(volume, bundle).labels, segment_bundle(flipped, bundle).labels
    np.testing.assert_array_equal(a.array[tuple(index.T)].reshape(flipped_grid.shape), b.array)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "ASL", "ILP"])
def test_oriented_grid_holds_the_same_points_along_named_axes(codes):
    grid = maker.oblique_case()[0].grid
    out = oriented_grid(grid, codes)
    ours = {tuple(p) for p in grid.corners_ras().round(6)}
    assert {tuple(p) for p in out.corners_ras().round(6)} == ours
    towards = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    for column, code in enumerate(codes):
        axis, sign = towards[code]
        along = out.directions[:, column]
        assert np.argmax(np.abs(along)) == axis
        assert along[axis] * sign > 0


def test_network_grid_covers_the_same_box():
    grid = Grid((10, 20, 30), np.diag([2.0, 1.0, 3.0, 1.0]))
    out = network_grid(grid, "RAS", (1.0, -1.0, 1.5))
    assert out.shape == (20, 20, 60)
    np.testing.assert_allclose(out.spacing_mm, [1.0, 1.0, 1.5])
    np.testing.assert_allclose(out.centre_ras, grid.centre_ras, atol=1e-9)
    with pytest.raises(InputError, match="absurd"):
        network_grid(grid, "RAS", (1.0, 1.0, 1e9))
    with pytest.raises(InputError, match="orientation"):
        network_grid(grid, "RLS", None)


def test_card_says_what_is_not_stated(tmp_path, state):
    bundle = maker.write_bundle(tmp_path / "bare", state, metadata={"version": "1"})
    card = read_card(bundle)
    assert (card.licence, card.training_data, card.version) == ("not stated", "not stated", "1")
    (bundle / "LICENSE").write_text("\nBSD 3-Clause\nall the rest\n")
    assert read_card(bundle).licence == "BSD 3-Clause"
    assert any("Training data: not stated" in line for line in card.lines())
    assert segment_bundle(maker.oblique_case()[0], bundle).names() == {1: "label 1"}


@pytest.mark.parametrize(("file", "content", "says"), [
    ("configs/metadata.json", None, "metadata.json: not found"),
    ("configs/metadata.json", "{", "damaged"),
    ("configs/metadata.json", "[1]", "one JSON object"),
    ("configs/inference.json", None, "inference.json: not found"),
    ("configs/inference.json", '{"a": 1}', "names no network"),
    ("models/model.pt", None, "model.pt: not found"),
    ("models/model.pt", "not weights at all", "model.pt: "),
])
def test_damaged_files_are_named(bundle, file, content, says):
    path = bundle / file
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises((InputError, RefusedError), match=says) as error:
        segment_bundle(maker.oblique_case()[0], bundle)
    assert "\n" not in str(error.value)


def test_truncated_and_foreign_weights(bundle, state):
    path = bundle / "models" / "model.pt"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="damaged"):
        segment_bundle(maker.oblique_case()[0], bundle)
    torch.save({"wrong.key": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="don't fit the network") as error:
        segment_bundle(maker.oblique_case()[0], bundle)
    assert "\n" not in str(error.value)
    torch.save({"model": state, "epoch": 3}, path)
    assert segment_bundle(maker.oblique_case()[0], bundle).names() == {1: "blob"}


class _Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("plain_pickle", [False, True])
@pytest.mark.parametrize("trust", [False, True])
def test_a_malicious_pickle_is_not_run(bundle, tmp_path, plain_pickle, trust):
    marker, path = tmp_path / "was_run", bundle / "models" / "model.pt"
    if plain_pickle:
        path.write_bytes(pickle.dumps(_Evil(marker)))
    else:
        torch.save({"state_dict": _Evil(marker)}, path)
    with pytest.raises((RefusedError, InputError)) as error:
        segment_bundle(maker.oblique_case()[0], bundle, trust=trust)
    assert not marker.exists()
    assert str(path) in str(error.value)


def _network(value):
    return lambda config: config.__setitem__("network_def", value)


@pytest.mark.parametrize(("change", "says"), [
    (_network({"_target_": "os.mkdir", "path": "MARK"}), "outside MONAI"),
    (_network("$__import__('os').mkdir('MARK')"), "Python expression"),
    (_network({**maker.NETWORK, "in_channels": "$__import__('os').mkdir('MARK')"}), "Python expression"),
    (_network({**maker.NETWORK, "in_channels": "@sneaky"}), "Python expression"),
    (_network({**maker.NETWORK, "_mode_": "debug"}), "_mode_"),
    (_network({**maker.NETWORK, "_target_": "monai.networks.nets.../../os.system"}), "no network"),
    (_network({**maker.NETWORK, "pretrained": True}), "download"),
    (lambda c: c["preprocessing"]["transforms"].append({"_target_": "scripts.evil.Step"}), "not on the list"),
    (lambda c: c["preprocessing"]["transforms"].append({"_target_": "Lambdad", "func": "os.x"}), "not on the list"),
    (lambda c: c["inferer"].__setitem__("_target_", "scripts.Inferer"), "sliding windows"),
])
def test_configurations_that_would_run_code_are_refused(bundle, tmp_path, change, says):
    marker = tmp_path / "was_run"

    def with_marker(config):
        config["sneaky"] = "$__import__('os').mkdir('MARK')"
        change(config)
        text = json.dumps(config).replace("MARK", str(marker))
        config.clear()
        config.update(json.loads(text))

    edited(bundle, with_marker)
    with pytest.raises((RefusedError, InputError), match=says):
        segment_bundle(maker.oblique_case()[0], bundle)
    assert not marker.exists()


def test_trust_runs_expressions(bundle):
    def change(config):
        config["network_def"]["in_channels"] = "$2 - 1"
        config["preprocessing"]["transforms"][3]["pixdim"] = "$[1.5] * 3"

    edited(bundle, change)
    volume, truth = maker.oblique_case()
    with pytest.raises(RefusedError, match="trust"):
        segment_bundle(volume, bundle)
    assert dice(segment_bundle(volume, bundle, trust=True).mask("blob").array, truth.array) > 0.93


def test_references_are_followed_and_circles_found(bundle):
    edited(bundle, lambda c: c.update(window=["@edge"] * 3, edge=32))
    assert segment_bundle(maker.oblique_case()[0], bundle).names() == {1: "blob"}
    edited(bundle, lambda c: c.update(window="@window"))
    with pytest.raises(InputError, match="circle"):
        segment_bundle(maker.oblique_case()[0], bundle)
    edited(bundle, lambda c: c.pop("window"))
    with pytest.raises(InputError, match="doesn't hold"):
        segment_bundle(maker.oblique_case()[0], bundle)


def test_a_yaml_bundle_with_python_objects_is_refused(bundle):
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    (bundle / "configs" / "inference.json").unlink()
    path = bundle / "configs" / "inference.yaml"
    path.write_text(yaml.safe_dump(maker.inference_config()))
    assert segment_bundle(maker.oblique_case()[0], bundle).names() == {1: "blob"}
    path.write_text("network_def: !!python/object/apply:os.getcwd []")
    with pytest.raises(InputError, match="damaged or holds Python objects"):
        segment_bundle(maker.oblique_case()[0], bundle)


def test_cancel_stops_between_windows(bundle):
    asked = []
    with pytest.raises(CancelledError):
        segment_bundle(maker.oblique_case()[0], bundle, cancelled=lambda: asked.append(1) or len(asked) > 4)
    assert len(asked) == 5


def test_torchscript_needs_trust(bundle):
    (bundle / "models" / "model.pt").unlink()
    (bundle / "models" / "model.ts").write_bytes(b"no archive")
    with pytest.raises(RefusedError, match="TorchScript"):
        segment_bundle(maker.oblique_case()[0], bundle)
    with pytest.raises(InputError, match="damaged"):
        segment_bundle(maker.oblique_case()[0], bundle, trust=True)


def test_nnunet_folder(tmp_path, monkeypatch):
    folder = tmp_path / "nnUNetTrainer__plans__3d_fullres"
    (folder / "fold_0").mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps(
        {"labels": {"background": 0, "liver": 1}, "licence": "Apache-2.0", "reference": "somewhere"}))
    card = read_card(folder)
    assert (card.kind, card.labels, card.licence) == ("nnU-Net v2", {1: "liver"}, "Apache-2.0")
    volume = maker.oblique_case()[0]
    with pytest.raises(InputError, match=r"plans\.json: not found"):
        segment_bundle(volume, folder)
    (folder / "plans.json").write_text("{}")
    with pytest.raises(InputError, match="fold_0/checkpoint_final"):
        segment_bundle(volume, folder)
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "nnunetv2", None)
    with pytest.raises(MissingPackageError, match="pip install nnunetv2"):
        segment_bundle(volume, folder)


def test_no_model_folder(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        read_card(tmp_path / "nowhere")
    with pytest.raises(InputError, match="neither a MONAI bundle"):
        read_card(tmp_path)
