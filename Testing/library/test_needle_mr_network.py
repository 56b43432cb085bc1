"""The network that proposes and judges MR voids: its files, doing without it, and what it does for the finder."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
from IRAILib.geometry import InputError
from IRAILib.needle.mr import find_needles_mr, finder
from IRAILib.needle.mr import network as net
from IRAILib.needle.mr.paint import PaintedVoid, Scan, paint_voids_mr
from IRAILib.needle.mr.training.loop import Pool, part_of, train
from IRAILib.needle.mr.training.samples import SHAFT, random_sample
from IRAILib.needle.mr.work import make_work
from needle_mr_cases import angle_deg, mr_phantom, plain_void, ras_of


@pytest.fixture(scope="module")
def network():
    pytest.importorskip("onnxruntime")
    return net.VoidNetwork(threads=1)


def test_the_card_is_of_these_weights_and_says_what_they_saw(network):
    assert network.path.stat().st_size < 1_000_000
    assert "no real needle MR" in " ".join(network.card["limits"])
    assert network.card["training"]["scans"]
    assert 0.3 < network.least_shaft < 1.0


def test_weights_that_their_card_does_not_describe_are_refused(tmp_path):
    for name in ("needle_mr.onnx", "needle_mr.json"):
        shutil.copy(net.WEIGHTS.with_name(name), tmp_path / name)
    (tmp_path / "needle_mr.onnx").write_bytes(net.WEIGHTS.read_bytes() + b"x")
    with pytest.raises(InputError, match="checksum"):
        net.load_card(tmp_path / "needle_mr.onnx")
    (tmp_path / "needle_mr.json").write_text(json.dumps({"sha256": "0"}), "utf-8")
    with pytest.raises(InputError, match="damaged"):
        net.load_card(tmp_path / "needle_mr.onnx")
    with pytest.raises(InputError, match="missing"):
        net.load_card(tmp_path / "other.onnx")


def test_without_onnxruntime_the_void_model_looks_alone(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    net.default_network.cache_clear()
    phantom = mr_phantom()
    tip, entry = ras_of(phantom, (5.0, 12.0, 2.0)), ras_of(phantom, (48.0, 55.0, 14.0))
    found = find_needles_mr(plain_void(phantom, tip, entry))
    net.default_network.cache_clear()
    assert [needle.method for needle in found] == [finder.METHOD]
    assert "onnxruntime is missing" in caplog.text


def test_marked_cells_lie_on_a_needle_painted_from_its_field(network):
    """Physics of the painter, a phantom that training never saw: what is marked is the shaft and little else."""
    phantom = mr_phantom(seed=5)
    tip, entry = ras_of(phantom, (5.0, 12.0, 2.0)), ras_of(phantom, (60.0, 66.0, 10.0))
    length = float(np.linalg.norm(tip - entry))
    void = PaintedVoid(tip, (tip - entry) / length, length, 0.64)
    work = make_work(paint_voids_mr(phantom, [void], scan=Scan(b0_t=1.5, te_ms=4.0), seed=1))
    shaft = network.shaft(work)
    marked = work.ras(work.cell_points(np.argwhere(shaft > 0.5)))
    at, across, _ = void.local(marked)
    near = (np.linalg.norm(across, axis=1) < 6.0) & (at < 8.0)
    assert near.sum() > 20
    assert near.mean() > 0.7
    found = find_needles_mr(work.volume, network=network)
    assert [needle.method for needle in found] == [finder.METHOD_NETWORK]
    assert np.linalg.norm(found[0].tip - tip) < 2.8
    assert angle_deg(found[0].direction, void.tip_direction()) < 1.0


def test_samples_name_the_shaft_and_training_learns_from_them(tmp_path):
    torch = pytest.importorskip("torch")
    phantom, rng = mr_phantom(), np.random.default_rng(3)
    samples = [s for s in (random_sample(phantom, rng) for _ in range(6)) if s is not None]
    dark = [s.cells[1][s.label == SHAFT].astype(float).mean() for s in samples if (s.label == SHAFT).any()]
    assert dark
    assert np.mean(dark) < -0.3
    cells, label = part_of(samples[0].cells, samples[0].label, rng)
    assert cells.shape[1:] == label.shape
    with pytest.raises(InputError, match="too few"):
        train(Pool(tmp_path), minutes=0.01)
    for number in range(20):
        sample = samples[number % len(samples)]
        np.savez(tmp_path / f"{number}.npz", cells=sample.cells, label=sample.label)
    trained, done = train(Pool(tmp_path), minutes=0.05)
    assert done["steps"] >= 1
    with torch.no_grad():
        assert trained(torch.zeros(1, 2, 8, 12, 16)).shape == (1, 1, 8, 12, 16)
