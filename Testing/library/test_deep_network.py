"""Networks inside folds: they learn what can be seen, nothing from noise, and are stored as plain arrays."""

from __future__ import annotations

import numpy as np
import pytest
from deep_cases import OPTIONS, crops
from IRAILib.biopsy.deep import CropOptions, DeepColumns, DeepNetwork, DeepOptions, TrainingOptions, train_network
from IRAILib.biopsy.deep.network import cox_loss
from IRAILib.biopsy.outcome.outcome import Outcome
from IRAILib.geometry import CancelledError, InputError

QUICK = TrainingOptions(epochs=15, learning_rate=5e-3, mixup=0.2)


def auc(score: np.ndarray, label: np.ndarray) -> float:
    positive, negative = score[label == 1], score[label == 0]
    return float((np.sign(positive[:, None] - negative[None]) / 2 + 0.5).mean())


def test_cox_loss_is_the_partial_likelihood() -> None:
    """Against lifelines at its own optimum, and by hand for three patients."""
    import torch
    from lifelines import CoxPHFitter
    from pandas import DataFrame

    risk, time, event = torch.tensor([0.5, -0.2, 1.0]), torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1, 1, 0])
    by_hand = -((0.5 - 0.5) + (-0.2 - np.log(np.exp(0.5) + np.exp(-0.2) + np.exp(1.0)))) / 2
    assert float(cox_loss(risk, time, event)) == pytest.approx(by_hand, abs=1e-6)
    random = np.random.default_rng(0)
    x = random.normal(size=60)
    frame = DataFrame({"x": x, "t": random.exponential(np.exp(-x)), "e": random.random(60) < 0.7})
    fitted = CoxPHFitter().fit(frame, "t", "e")
    ours = cox_loss(torch.as_tensor(x * float(fitted.params_["x"])), torch.as_tensor(frame["t"].to_numpy()),
                    torch.as_tensor(frame["e"].to_numpy().astype(int)))
    assert float(ours) * frame["e"].sum() == pytest.approx(-fitted.log_likelihood_, rel=1e-4)
    assert float(cox_loss(risk, time, torch.zeros(3))) == 0.0


@pytest.mark.parametrize("mode", ["3d", "2.5d"])
def test_it_learns_what_can_be_seen(mode: str) -> None:
    label = np.arange(36) % 2
    options = CropOptions(mode, 32.0, 16)
    outcome = Outcome("binary", ("core", "rim"), label)
    columns = DeepColumns(DeepOptions(options, QUICK, inner_folds=2))
    inside = columns.fit_transform(crops(label, options), outcome, [str(n) for n in range(36)])
    new = np.arange(24) % 2
    outside = columns.transform(crops(new, options, seed=1))
    assert columns.names == ["deep_score"]
    assert inside.shape == (36, 1)
    assert auc(inside[:, 0], label) > 0.85
    assert auc(outside[:, 0], new) > 0.85


def test_scores_of_training_rows_never_saw_their_patient() -> None:
    """Labels of pure chance: the network's own rows look learned, the cross-fitted scores show that nothing was."""
    random = np.random.default_rng(4)
    label = random.permutation(np.arange(40) % 2)
    given = crops(np.zeros(40))
    outcome = Outcome("binary", ("no", "yes"), label)
    patients = [f"p{n // 2}" for n in range(40)]
    options = TrainingOptions(epochs=25, mixup=0.0, augment=False, dropout=0.0, learning_rate=5e-3)
    columns = DeepColumns(DeepOptions(OPTIONS, options, inner_folds=2))
    fitted = columns.fit_transform(given, outcome, patients)
    own = columns.transform(given)
    assert auc(own[:, 0], label) > 0.8, "the test must tempt: a network that remembers its rows"
    assert 0.25 < auc(fitted[:, 0], label) < 0.75


def test_survival_and_classes(tmp_path) -> None:
    label = np.arange(18) % 3
    many = train_network(crops(label % 2), label, n_classes=3, crop=OPTIONS, options=TrainingOptions(epochs=1))
    assert many.scores(crops(label[:4] % 2)).shape == (4, 3)
    kind = np.arange(32) % 2
    time = np.where(kind == 1, 2.0, 10.0) + np.random.default_rng(0).random(32)
    risk = train_network(crops(kind), np.ones(32, int) - (np.arange(32) % 7 == 0), time, crop=OPTIONS, options=QUICK)
    scores = risk.scores(crops(kind, seed=2))[:, 0]
    assert risk.kind == "survival"
    assert auc(scores, kind) > 0.8, "early events need the higher risk"
    plain, arrays = risk.state()
    np.savez(tmp_path / "network.npz", **arrays)
    with np.load(tmp_path / "network.npz", allow_pickle=False) as stored:
        again = DeepNetwork.from_state(plain, dict(stored))
    assert np.array_equal(again.scores(crops(kind, seed=2))[:, 0], scores)
    with pytest.raises(InputError, match="doesn't fit"):
        DeepNetwork.from_state(plain, {**arrays, next(iter(arrays)): np.zeros(3)})


def test_the_same_seed_and_cancel_and_too_few() -> None:
    import torch

    label = np.arange(8) % 2
    given = crops(label)
    torch.manual_seed(7)
    before = torch.rand(1).item()
    torch.manual_seed(7)
    one, two = (train_network(given, label, crop=OPTIONS, options=TrainingOptions(epochs=1), seed=3) for _ in range(2))
    assert torch.rand(1).item() == before, "torch's own random numbers must be left alone"
    assert all(np.array_equal(one.arrays[name], two.arrays[name]) for name in one.arrays)
    with pytest.raises(CancelledError):
        train_network(given, label, crop=OPTIONS, cancelled=lambda: True)
    with pytest.raises(InputError, match="too few"):
        train_network(given[:3], label[:3], crop=OPTIONS)
    with pytest.raises(InputError, match="too few"):
        train_network(given, np.zeros(8, int), crop=OPTIONS)
    with pytest.raises(InputError):
        TrainingOptions(epochs=0)
