"""A small DenseNet on crops: trained for classes or for time to an event, kept as plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ...geometry import CancelledError, InputError, MissingPackageError
from ...weights.torch_state import torch_kept
from .augment import augmented, mixed
from .crops import Crop, CropOptions, network_input

INITIAL, GROWTH, BLOCKS, WIDEN, GROUPS = 16, 8, (2, 3, 3), 2, 4


@dataclass(frozen=True)
class TrainingOptions:
    """epochs over the training crops; batch crops at a time; mixup: alpha of its Beta law (0: off; classes only)."""

    epochs: int = 30
    batch: int = 8
    learning_rate: float = 5e-3
    weight_decay: float = 1e-3
    mixup: float = 0.3
    dropout: float = 0.2
    augment: bool = True
    threads: int = 1

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2 or self.learning_rate <= 0 or not 0 <= self.dropout < 1 or self.mixup < 0:
            raise InputError("deep features: epochs from 1, batch from 2, learning_rate above 0, dropout 0 to 1, mixup "
                             "from 0")


@dataclass(frozen=True, eq=False)
class DeepNetwork:
    """Weights and what is needed to use them; no pickle. `arrays` (state of the network) by name.

    kind: "binary", "multiclass" or "survival". outputs: 1, classes, or 1 (log risk).
    """

    crop: CropOptions
    kind: str
    outputs: int
    arrays: dict[str, np.ndarray] = field(repr=False)
    history: tuple[float, ...] = ()

    def scores(self, crops: Sequence[Crop]) -> np.ndarray:
        """(n, outputs) float64: log-odds (binary), logits less their mean (multiclass), log risk (survival)."""
        import torch

        network = _loaded(self)
        out = []
        with torch.no_grad():
            for crop in crops:
                batch = torch.from_numpy(network_input(crop.intensities, crop.inside, self.crop, crop.is_ct))[None]
                out.append(network(batch)[0].double().numpy())
        scores = np.array(out).reshape(len(out), self.outputs)
        return scores - scores.mean(axis=1, keepdims=True) if self.kind == "multiclass" else scores

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """(JSON-ready, arrays)."""
        return {"crop": self.crop.to_dict(), "kind": self.kind, "outputs": self.outputs,
                "history": list(self.history)}, dict(self.arrays)

    @classmethod
    def from_state(cls, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> DeepNetwork:
        """Raises InputError for arrays that don't fit."""
        made = cls(CropOptions.from_dict(plain["crop"]), str(plain["kind"]), int(plain["outputs"]), dict(arrays),
                   tuple(plain.get("history", ())))
        _loaded(made)
        return made


def _loaded(network: DeepNetwork):
    import torch

    built = build(network.crop, network.outputs, 0.0)
    wanted = {name: tuple(value.shape) for name, value in built.state_dict().items()}
    given = {name: tuple(np.shape(value)) for name, value in network.arrays.items()}
    if wanted != given:
        name = next(iter(sorted(set(wanted.items()) ^ set(given.items()))))[0]
        raise InputError(f"deep features: the stored network doesn't fit this version of IRAI ({name}); train it again")
    built.load_state_dict({name: torch.as_tensor(np.array(value)) for name, value in network.arrays.items()})
    return built.eval()


def build(crop: CropOptions, outputs: int, dropout: float):
    """MONAI's DenseNet, small: about 60,000 weights in 3D. Raises MissingPackageError."""
    try:
        from monai.networks.nets.densenet import DenseNet
    except ImportError:
        raise MissingPackageError("deep features need torch and MONAI: pip install torch monai") from None
    return DenseNet(spatial_dims=3 if crop.mode == "3d" else 2, in_channels=crop.channels, out_channels=outputs,
                    init_features=INITIAL, growth_rate=GROWTH, block_config=BLOCKS, bn_size=WIDEN, dropout_prob=dropout,
                    norm=("group", {"num_groups": GROUPS}))


def train_network(crops: Sequence[Crop], label: np.ndarray, time: np.ndarray | None = None, *, n_classes: int = 2,
                  crop: CropOptions | None = None, options: TrainingOptions | None = None, seed: int = 0,
                  progress: Callable[[float, str], None] | None = None,
                  cancelled: Callable[[], bool] | None = None) -> DeepNetwork:
    """A network from these crops only; nothing else decides when it stops.

    Args:
        crops: n. label: (n,) class, or event (0 censored, 1 event) with time. time: (n,) for survival: the loss is
            Cox's partial likelihood over the batch, MixUp is off there.
        n_classes: 2 or more. seed: the same seed gives the same network on the same machine.
    Raises: InputError (too few crops, one class), CancelledError, MissingPackageError.
    """
    crop, options = crop or CropOptions(), options or TrainingOptions()
    label = np.asarray(label, int)
    if len(crops) != len(label) or len(crops) < 4 or len(np.unique(label)) < 2:
        raise InputError(f"deep features: {len(crops)} crops with {len(np.unique(label))} classes are too few to train "
                         "a network")
    kind = "survival" if time is not None else "binary" if n_classes == 2 else "multiclass"
    with torch_kept():
        import torch

        torch.set_num_threads(options.threads)
        torch.manual_seed(seed)
        network = build(crop, n_classes if kind == "multiclass" else 1, options.dropout)
        history = _fit(network, crops, label, time, n_classes, crop, options, np.random.default_rng(seed),
                       progress or (lambda share, text: None), cancelled or (lambda: False))
        arrays = {name: value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()}
    return DeepNetwork(crop, kind, n_classes if kind == "multiclass" else 1, arrays, tuple(history))


def _fit(network, crops: Sequence[Crop], label: np.ndarray, time: np.ndarray | None, n_classes: int, crop: CropOptions,
         options: TrainingOptions, random: np.random.Generator, tell: Callable[[float, str], None],
         cancelled: Callable[[], bool]) -> list[float]:
    import torch

    optimiser = torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    steps = options.epochs * -(-len(crops) // options.batch)
    plan = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _pace((step + 1) / (steps + 1)))
    targets = torch.nn.functional.one_hot(torch.as_tensor(label), n_classes).float() if time is None else None
    weights = torch.as_tensor(len(label) / (n_classes * np.maximum(np.bincount(label, minlength=n_classes), 1)),
                              dtype=torch.float32)
    history = []
    network.train()
    for epoch in range(options.epochs):
        losses = []
        for rows in _batches(label, options.batch, random):
            if cancelled():
                raise CancelledError("cancelled while a network was trained; nothing was kept")
            inputs = torch.from_numpy(np.stack([_seen(crops[n], crop, options, random) for n in rows]))
            if targets is None:
                assert time is not None
                loss = cox_loss(network(inputs)[:, 0], torch.as_tensor(time[rows]), torch.as_tensor(label[rows]))
            else:
                inputs, goal = mixed(inputs, targets[rows], options.mixup, random)
                loss = _class_loss(network(inputs), goal, weights)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            plan.step()
            losses.append(float(loss.detach()))
        history.append(float(np.mean(losses)))
        tell((epoch + 1) / options.epochs, f"network, epoch {epoch + 1} of {options.epochs}, loss {history[-1]:.3f}")
    return history


def _pace(share: float) -> float:
    """Learning rate at that share of the steps: up for a quarter, then down along a cosine."""
    return share / 0.25 if share < 0.25 else 0.5 * (1.0 + float(np.cos(np.pi * (share - 0.25) / 0.75)))


def _seen(crop: Crop, options: CropOptions, training: TrainingOptions, random: np.random.Generator) -> np.ndarray:
    values, inside = (augmented(crop.intensities, crop.inside, crop.step_mm, crop.is_ct, random) if training.augment
                      else (crop.intensities, crop.inside))
    return network_input(values, inside, options, crop.is_ct)


def _batches(label: np.ndarray, size: int, random: np.random.Generator):
    """Every row once; each batch has about the same mix of labels, so that no batch lacks an event."""
    order = random.permutation(len(label))
    order = order[np.argsort(label[order], kind="stable")]
    count = -(-len(order) // size)
    batches = [order[start::count] for start in range(count)]
    random.shuffle(batches)
    return batches


def _class_loss(logits, goal, weights):
    """Cross-entropy with soft targets, classes weighted by their rarity."""
    import torch

    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    return -(goal * weights * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()


def cox_loss(risk, time, event):
    """Negative log partial likelihood (Breslow's ties) over a batch, per event; 0 where there is no event."""
    import torch

    at_risk = time[None, :] >= time[:, None]
    spread = torch.where(at_risk, risk[None, :], torch.full_like(risk[None, :], -torch.inf))
    terms = risk - torch.logsumexp(spread, dim=1)
    count = event.sum()
    return -(terms * event).sum() / count if count else risk.sum() * 0.0


def options_dict(options: TrainingOptions) -> dict[str, Any]:
    """Plain values for a record."""
    return asdict(options)
