"""Backbones from a folder: weights made by the test, stored as public ones are."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from deep_cases import crops
from IRAILib.biopsy.deep import DeepColumns, DeepOptions, load_backbone
from IRAILib.biopsy.outcome.outcome import Outcome
from IRAILib.geometry import InputError


def write_backbone(folder: Path, dimensions: int = 3, prefix: str = "", wrap: bool = False, **changes) -> Path:
    import torch
    from monai.networks.nets import resnet10

    torch.manual_seed(0)
    network = resnet10(spatial_dims=min(dimensions, 3), n_input_channels=1, num_classes=3, bias_downsample=False)
    state = {prefix + name: value for name, value in network.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": state} if wrap else state, folder / "weights.pt")
    card = {"name": "made here", "architecture": "resnet10", "weights": "weights.pt", "dimensions": dimensions,
            "licence": "CC0", "prefix": prefix, "pixels": 32, "side_mm": 32.0, **changes}
    (folder / "backbone.json").write_text(json.dumps(card))
    return folder


@pytest.mark.parametrize(("dimensions", "prefix", "wrap"), [(3, "", False), (3, "module.", True), (2, "", False)])
def test_embeddings_are_those_of_the_network(tmp_path: Path, dimensions: int, prefix: str, wrap: bool) -> None:
    import torch
    from monai.networks.nets import resnet10

    backbone = load_backbone(write_backbone(tmp_path / "b", dimensions, prefix, wrap))
    given = crops(np.array([0, 1]), backbone.crop)
    found = backbone.embed(given)
    assert found.shape == (2, 512)
    torch.manual_seed(0)
    network = resnet10(spatial_dims=min(dimensions, 3), n_input_channels=1, num_classes=3, bias_downsample=False).eval()
    network.fc = torch.nn.Identity()
    image = np.clip((given[0].intensities + 150.0) / 200.0 - 1.0, -1.0, 1.0)
    planes = [image[None]] if dimensions == 3 else [image.take(16, axis)[None] for axis in range(3)]
    with torch.no_grad():
        wanted = network(torch.as_tensor(np.stack(planes), dtype=torch.float32)).mean(0).numpy()
    assert np.allclose(found[0], wanted, atol=1e-4)


def test_components_are_fitted_to_the_training_rows(tmp_path: Path) -> None:
    backbone = load_backbone(write_backbone(tmp_path / "b"))
    label = np.arange(30) % 2
    columns = DeepColumns(DeepOptions(backbone.crop, backbone=backbone))
    inside = columns.fit_transform(crops(label, backbone.crop), Outcome("binary", ("a", "b"), label),
                                   [str(n) for n in range(30)])
    assert inside.shape == (30, 3), "one component for ten rows"
    assert np.allclose(inside.mean(axis=0), 0.0, atol=1e-6)
    assert np.allclose(inside.std(axis=0, ddof=1), 1.0, atol=1e-6)
    new = crops(np.array([1]), backbone.crop, seed=3)
    plain, arrays = columns.state()
    again = DeepColumns.from_state(json.loads(json.dumps(plain)), arrays, backbone)
    assert np.array_equal(again.transform(new), columns.transform(new))
    with pytest.raises(InputError, match="needs the backbone"):
        DeepColumns.from_state(plain, arrays)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_what_is_no_backbone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"backbone\.json: can't be read"):
        load_backbone(tmp_path)
    for changes, words in (({"architecture": "vit"}, "is none of"), ({"weights": "../x.pt"}, "no file of that folder"),
                           ({"dimensions": 4}, "2 or 3"), ({"colour": 1}, "unknown key 'colour'"),
                           ({"architecture": "resnet18"}, "holds .* weights"),
                           ({"architecture": "densenet121"}, "weights of this architecture"),
                           ({"channels": 3}, "check dimensions, channels")):
        with pytest.raises(InputError, match=words):
            load_backbone(write_backbone(tmp_path / "b", **changes))
    folder = write_backbone(tmp_path / "b")
    (folder / "weights.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="state dict"):
        load_backbone(folder)
    assert not (tmp_path / "harm").exists(), "code in the file was run"
    (folder / "weights.pt").write_bytes(b"text")
    with pytest.raises(InputError, match="state dict"):
        load_backbone(folder)
