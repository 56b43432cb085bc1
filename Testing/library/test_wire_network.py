"""The wire network that comes with IRAI, on frames of a painter that shares no code with its simulator."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from fluoroscopy_cases import clutter, painted, random_course
from IRAILib.fluoroscopy import wire, wire_network
from IRAILib.fluoroscopy.catheter import METHOD as CLASSICAL
from IRAILib.fluoroscopy.wire import find_device
from IRAILib.fluoroscopy.wire_network import METHOD, WEIGHTS, WireNetwork, default_network, find_wire
from IRAILib.geometry import InputError, NeedleStatus

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def network() -> WireNetwork:
    if not WEIGHTS.is_file():
        pytest.skip(f"{WEIGHTS.name} isn't there: train it with python -m IRAILib.fluoroscopy.wire_train")
    return WireNetwork(threads=1)


def stack(seed: int, shape=(320, 320), count=4, **options) -> tuple[np.ndarray, np.ndarray]:
    """Frames that a device is pushed through, and where it is in the newest."""
    rng = np.random.default_rng(seed)
    course, ground = random_course(shape, rng), clutter(shape, seed)
    frames = [painted(ground, course[:-cut or None], rng=rng, **options) for cut in (60, 40, 20, 0)[-count:]]
    return np.stack(frames), course


def test_devices_of_another_painter_are_found(network):
    tips, lines, wrong = [], [], 0
    for seed in range(8):
        frames, course = stack(seed, width_px=(3.0, 5.0)[seed % 2], depth=0.4)
        found = find_wire(frames, network=network, time_s=2.5)
        assert (found.modality, found.frame, found.units, found.time_s) == ("XA", "Detector", "px", 2.5)
        if found.tip is None:
            continue
        gap = np.linalg.norm(found.tip[:2] - course[-1])
        wrong += gap > 15.0
        if gap <= 15.0:
            tips.append(gap)
            lines.append(np.median(np.linalg.norm(found.curve[:, None, :2] - course[None, ::4], axis=2).min(axis=1)))
            np.testing.assert_array_equal(found.curve[-1], found.tip)
            assert 0.2 < found.sigma < 30.0
            json.dumps(found.to_dict())
    assert len(tips) >= 6
    assert wrong <= 1
    assert np.median(tips) < 2.5
    assert np.median(lines) < 1.0


def test_no_device_in_bare_clutter(network):
    alarms = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        frames = np.stack([rng.poisson(clutter((256, 256), seed) * 0.2) for _ in range(4)])
        alarms += find_wire(frames, network=network).found
    assert alarms <= 1


def test_millimetres_odd_sizes_and_large_frames(network):
    frames, course = stack(1, shape=(290, 333), depth=0.5)
    pixels = find_wire(frames, network=network)
    mm = find_wire(frames, network=network, mm_per_px=0.25)
    assert pixels.tip is not None
    assert mm.units == "mm"
    np.testing.assert_allclose(mm.tip, 0.25 * pixels.tip)
    np.testing.assert_allclose(mm.covariance, 0.0625 * pixels.covariance)
    large = np.kron(frames, np.ones((1, 3, 3), np.uint8))  # 870 x 999: each pixel nine times
    found = find_wire(large, network=network, threshold=0.0)  # where, however little it convinces
    assert found.tip is not None
    # pixel n of the small frame is centred at 3n + 1 of the large one
    np.testing.assert_allclose((found.tip[:2] - 1.0) / 3.0, pixels.tip[:2], atol=3.0)
    assert np.linalg.norm((found.tip[:2] - 1.0) / 3.0 - course[-1]) < 6.0


def test_one_frame_is_enough_and_the_last_estimate_is_taken(network):
    frames, course = stack(4, depth=0.5, count=1)
    found = find_wire(frames[0], network=network)
    assert found.status is NeedleStatus.SEEN
    assert np.linalg.norm(found.tip[:2] - course[-1]) < 6.0
    again = find_wire(frames, network=network, previous=found)
    np.testing.assert_allclose(again.tip, found.tip)


def test_what_is_refused(network):
    for bad in (np.zeros((4, 4)), np.zeros((128, 128)), np.full((1, 128, 128), np.nan), np.zeros((2, 2, 128, 128)),
                -np.ones((128, 128))):
        with pytest.raises(InputError):
            find_wire(bad, network=network)
    with pytest.raises(InputError, match="mm_per_px"):
        find_wire(stack(1)[0], network=network, mm_per_px=0.0)
    huge = find_wire(np.random.default_rng(0).integers(0, 65535, (1, 200, 200), dtype=np.uint16), network=network)
    assert huge.status in (NeedleStatus.ABSENT, NeedleStatus.SEEN)


def test_the_card_holds_for_its_weights_only(tmp_path, network):
    copy = tmp_path / "wire.onnx"
    shutil.copy(WEIGHTS, copy)
    with pytest.raises(InputError, match="missing"):
        WireNetwork(copy)
    card = json.loads(WEIGHTS.with_suffix(".json").read_text())
    copy.with_suffix(".json").write_text(json.dumps(card))
    assert WireNetwork(copy).card == network.card
    copy.with_suffix(".json").write_text(json.dumps(card | {"sha256": "0"}))
    with pytest.raises(InputError, match="checksum"):
        WireNetwork(copy)
    for damage in ({"operation": {}}, {"operation": card["operation"] | {"presence": [1.0]}}):
        copy.with_suffix(".json").write_text(json.dumps(card | damage))
        with pytest.raises(InputError, match="damaged"):
            WireNetwork(copy)
    with pytest.raises(InputError, match="wire_train"):
        WireNetwork(tmp_path / "none.onnx")
    assert card["validated_on"] == "simulation"
    assert "medical device" in " ".join(card["limits"])


def test_without_the_network_lines_are_traced(monkeypatch):
    frames, course = stack(2, depth=0.4, width_px=5.0)
    monkeypatch.setattr(wire, "trusted_network", lambda: None)
    found = find_device(frames)
    assert found.method == CLASSICAL
    assert np.linalg.norm(found.tip[:2] - course[-1]) < 5.0


def test_with_it_the_network_answers_and_a_doubt_may_be_confirmed(monkeypatch, network):
    frames, course = stack(2, depth=0.4, width_px=5.0)
    monkeypatch.setattr(wire, "trusted_network", lambda: network)
    assert find_device(frames).method == METHOD
    chance = find_device(frames).confidence
    doubting = WireNetwork(threads=1)
    strict = doubting.card | {"operation": doubting.card["operation"] | {"threshold": min(1.0, chance + 0.01)}}
    monkeypatch.setattr(doubting, "card", strict)
    assert find_device(frames, network=doubting).status is NeedleStatus.ABSENT
    confirmed = find_device(frames, network=doubting, confirm=True)
    assert confirmed.status is NeedleStatus.SEEN
    assert "confirmed" in confirmed.method
    assert np.linalg.norm(confirmed.tip[:2] - course[-1]) < 5.0


@pytest.mark.parametrize(("change", "wanted"), [
    ({}, True), ({"found": 27}, False), ({"tip_elsewhere": 5}, False), ({"false_alarms": 2}, False),
    ({"devices": 10, "found": 10}, False), ({"found": None}, False)])
def test_a_network_answers_by_itself_only_when_its_card_shows_that_it_finds(change, wanted):
    good = {"devices": 40, "found": 30, "tip_elsewhere": 3, "without_device": 30, "false_alarms": 1}
    assert wire.trusted({"held_out_simulator": good | change}) is wanted
    assert not wire.trusted({})


def test_a_missing_network_is_said_in_the_log(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(wire_network, "WEIGHTS", tmp_path / "wire_xray.onnx")
    default_network.cache_clear()
    wire.trusted_network.cache_clear()
    try:
        with caplog.at_level("WARNING", logger="IRAI"):
            assert wire.trusted_network() is None
        assert "traced classically" in caplog.text
        frames, _ = stack(2, depth=0.4)
        with pytest.raises(InputError, match="wire_train"):
            find_wire(frames)
    finally:
        default_network.cache_clear()
        wire.trusted_network.cache_clear()


def test_training_learns_and_leaves_torch_as_it_was(tmp_path):
    torch = pytest.importorskip("torch")
    from IRAILib.fluoroscopy.wire_export import write_onnx
    from IRAILib.fluoroscopy.wire_model import build_wire_net
    from IRAILib.fluoroscopy.wire_simulator import simulate_wire
    from IRAILib.fluoroscopy.wire_train import Pool, label_of, torch_kept, wire_loss

    flat, samples = np.full((300, 300), 2.0, np.float32), []
    for seed in range(4):
        samples.append(simulate_wire(flat, np.random.default_rng(seed), size_px=256, crop_px=64, device="catheter",
                                     vessels=False, dose=2000.0))
    np.savez(tmp_path / "0_0.npz", frames=np.stack([s.frames for s in samples]),
             axis=np.stack([label_of(s.course, (64, 64)) for s in samples]),
             tip=np.array([(s.tip - 0.5) / 2 for s in samples], np.float32), visible=np.full(4, 5.0, np.float32))
    before = torch.get_num_threads(), torch.random.get_rng_state().clone()
    with torch_kept():
        torch.set_num_threads(1)
        torch.manual_seed(0)
        pool = Pool(tmp_path)
        pool.refresh()
        net = build_wire_net()
        frames, axis, tip, visible = (torch.from_numpy(a) for a in pool.batch(np.random.default_rng(0), 4))
        optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
        losses = []
        for _ in range(25):
            loss, parts = wire_loss(net(frames), axis, tip, visible)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    assert set(parts) == {"line", "overlap", "tip"}
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])
    write_onnx(net, tmp_path / "net.onnx")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    example = frames[:1].numpy()
    with torch.no_grad():
        wanted = net.eval()(torch.from_numpy(example)).numpy()
    np.testing.assert_allclose(session.run(None, {"frames": example})[0], wanted, atol=2e-3)


def test_turning_a_batch_turns_its_truth(tmp_path):
    from IRAILib.fluoroscopy.wire_train import Pool

    frames = np.zeros((1, 4, 64, 64), np.uint8)
    axis = np.zeros((1, 32, 32), np.uint8)
    axis[0, 5, 20] = 255
    np.savez(tmp_path / "0_0.npz", frames=frames, axis=axis, tip=np.array([[20.0, 5.0]], np.float32),
             visible=np.ones(1, np.float32))
    pool = Pool(tmp_path)
    pool.refresh()
    _, axes, tips, _ = pool.batch(np.random.default_rng(1), 24)
    assert len({tuple(tip) for tip in tips}) == 8
    for turned, tip in zip(axes, tips, strict=True):
        row, column = np.unravel_index(int(turned.argmax()), turned.shape)
        assert (column, row) == tuple(tip)
