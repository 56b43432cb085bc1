"""A small MONAI bundle, really trained, for the tests of the loader."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from IRAILib.geometry import Grid, Mask, Volume

NETWORK = {"_target_": "monai.networks.nets.UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2,
           "channels": [4, 8], "strides": [1], "kernel_size": 1, "up_kernel_size": 1, "num_res_units": 0,
           "norm": "BATCH"}
METADATA = {
    "name": "Bright blob", "version": "0.1.0", "authors": "nobody in particular", "license": "CC0-1.0",
    "data_source": "random values made by the test", "intended_use": "test only",
    "network_data_format": {"outputs": {"pred": {"channel_def": {"0": "background", "1": "blob"}}}},
}


def inference_config() -> dict:
    return {
        "bundle_root": ".", "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "window": [32, 32, 32], "network_def": dict(NETWORK), "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "LPS"},
            {"_target_": "monai.transforms.Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 1.5]},
            {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -100, "a_max": 300, "b_min": 0.0,
             "b_max": 1.0, "clip": True}]},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": "@window", "sw_batch_size": 1, "overlap": 0.5},
        "postprocessing": {"_target_": "Compose", "transforms": [
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x"}]},
    }


def oblique_case() -> tuple[Volume, Mask]:
    """An anisotropic, oblique, mirrored grid with an off-centre ellipsoid of 200 in 0 +- 15."""
    angle, tilt = np.deg2rad(25.0), np.deg2rad(-17.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    lean = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    axes = turn @ lean @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, -1]], float)
    matrix = np.eye(4)
    matrix[:3, :3] = axes * np.array([1.2, 0.9, 2.5])
    matrix[:3, 3] = (31.0, -44.0, 71.0)
    grid = Grid((26, 60, 48), matrix)
    centre = grid.points_ras(np.array([[16.0, 22.0, 30.0]]))[0]
    offset = (grid.all_points_ras() - centre) / np.array([12.0, 9.0, 15.0])
    truth = (offset**2).sum(axis=-1) <= 1.0
    noise = np.random.default_rng(3).normal(0.0, 15.0, grid.shape)
    return Volume((200.0 * truth + noise).astype(np.float32), grid, "oblique"), Mask(truth, grid)


def trained_state() -> dict:
    """Weights of the small U-Net after seconds on random values: it learns to cut at half.

    Seeded, but processors round differently: it learns until it cuts well, with smaller steps towards the end.
    """
    import torch
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = UNet(**{key: value for key, value in NETWORK.items() if key != "_target_"})
    optimiser = torch.optim.Adam(network.parameters(), lr=0.03)
    right = 0.0
    for step in range(1500):
        for group in optimiser.param_groups:
            group["lr"] = 0.03 * 0.5 ** (step / 150)
        image = torch.rand(1, 1, 10, 10, 10)
        truth = (image[:, 0] > 0.5).long()
        optimiser.zero_grad()
        logits = network(image)
        torch.nn.functional.cross_entropy(logits, truth).backward()
        optimiser.step()
        right = 0.9 * right + 0.1 * float((logits.argmax(1) == truth).float().mean())
        if step >= 150 and right > 0.985:
            break
    return network.state_dict()


def write_bundle(folder: Path, state: dict, *, config: dict | None = None, metadata: dict | None = None) -> Path:
    import torch

    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "metadata.json").write_text(json.dumps(METADATA if metadata is None else metadata))
    (folder / "configs" / "inference.json").write_text(json.dumps(config or inference_config()))
    torch.save(state, folder / "models" / "model.pt")
    return folder
