"""Deep columns that never saw the patient they describe: cross-fitted inside each fold's training rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...geometry import InputError
from ..outcome.folds import patient_folds
from ..outcome.outcome import Outcome
from .backbone import Backbone
from .crops import Crop, CropOptions
from .network import DeepNetwork, TrainingOptions, options_dict, train_network

COMPONENTS = 8


@dataclass(frozen=True)
class DeepOptions:
    """How deep columns are made. With a backbone nothing is trained but the axes of its principal components."""

    crop: CropOptions = field(default_factory=CropOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    backbone: Backbone | None = None
    inner_folds: int = 3
    components: int = COMPONENTS

    def to_dict(self) -> dict[str, Any]:
        return {"crop": self.crop.to_dict(), "training": options_dict(self.training), "inner_folds": self.inner_folds,
                "backbone": None if self.backbone is None else self.backbone.card, "components": self.components}


@dataclass
class DeepColumns:
    """Columns from crops, fitted to some rows.

    A network's score for a row that it was trained on is far too good; a model built on such scores would trust
    them. So `fit_transform` gives each training row the score of a network that never saw its patient (inner folds),
    and `transform` gives new rows the score of one network trained on all training rows.
    """

    options: DeepOptions
    network: DeepNetwork | None = None
    mean: np.ndarray | None = None
    axes: np.ndarray | None = None
    scale: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        if self.options.backbone is not None:
            return [f"deep_{n + 1}" for n in range(0 if self.axes is None else len(self.axes))]
        if self.network is None or self.network.kind != "multiclass":
            return ["deep_score"]
        return [f"deep_score_{name}" for name in self.classes]

    def fit_transform(self, crops: Sequence[Crop], outcome: Outcome, patients: Sequence[str], *, seed: int = 0,
                      progress: Callable[[float, str], None] | None = None,
                      cancelled: Callable[[], bool] | None = None) -> np.ndarray:
        """(n, columns) for the training rows; see the class. Raises InputError, RefusedError, CancelledError."""
        if len(crops) != len(outcome):
            raise InputError(f"deep features: {len(crops)} crops for {len(outcome)} rows")
        self.classes = outcome.classes
        if self.options.backbone is not None:
            return self._fit_components(crops)
        tell = progress or (lambda share, text: None)
        folds = patient_folds(outcome, patients, self.options.inner_folds, seed=seed)
        parts = len(folds) + 1
        columns: np.ndarray | None = None
        for number, fold in enumerate(folds):
            network = self._train(crops, outcome, fold.train, seed + 1 + number, _part(tell, number, parts), cancelled)
            scores = network.scores([crops[n] for n in fold.test])
            columns = np.zeros((len(crops), scores.shape[1])) if columns is None else columns
            columns[fold.test] = scores
        everyone = np.arange(len(crops))
        self.network = self._train(crops, outcome, everyone, seed, _part(tell, len(folds), parts), cancelled)
        assert columns is not None
        return columns

    def transform(self, crops: Sequence[Crop]) -> np.ndarray:
        """(n, columns) for rows that were not trained on."""
        if not len(crops):
            return np.zeros((0, len(self.names)))
        if self.options.backbone is not None:
            assert self.mean is not None
            assert self.axes is not None
            assert self.scale is not None
            return (self.options.backbone.embed(crops) - self.mean) @ self.axes.T / self.scale
        assert self.network is not None
        return self.network.scores(crops)

    def _train(self, crops: Sequence[Crop], outcome: Outcome, rows: np.ndarray, seed: int, tell, cancelled
               ) -> DeepNetwork:
        part = outcome.take(rows)
        if part.kind == "competing":
            part = Outcome("survival", part.classes[:2], (part.label == 1).astype(int), part.time)
        return train_network([crops[n] for n in rows], part.label, part.time, n_classes=len(outcome.classes),
                             crop=self.options.crop, options=self.options.training, seed=seed, progress=tell,
                             cancelled=cancelled)

    def _fit_components(self, crops: Sequence[Crop]) -> np.ndarray:
        """Principal components of the embeddings, as many as the rows can carry (one for ten rows)."""
        assert self.options.backbone is not None
        values = self.options.backbone.embed(crops)
        self.mean = values.mean(axis=0)
        _, size, axes = np.linalg.svd(values - self.mean, full_matrices=False)
        count = int(min(self.options.components, max(1, len(crops) // 10), (size > 1e-9 * max(size[0], 1e-300)).sum()))
        if count < 1:
            raise InputError("deep features: the backbone gives every lesion the same numbers; check its card")
        self.axes, self.scale = axes[:count], size[:count] / np.sqrt(max(len(crops) - 1, 1))
        return self.transform(crops)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """(JSON-ready, arrays) of what `transform` needs; a backbone is named with its hash, not copied."""
        plain: dict[str, Any] = {"options": self.options.to_dict(), "classes": list(self.classes)}
        if self.network is not None:
            plain["network"], arrays = self.network.state()
            return plain, arrays
        assert self.mean is not None
        assert self.axes is not None
        assert self.scale is not None
        return plain, {"mean": self.mean, "axes": self.axes, "scale": self.scale}

    @classmethod
    def from_state(cls, plain: dict[str, Any], arrays: dict[str, np.ndarray], backbone: Backbone | None = None
                   ) -> DeepColumns:
        """Raises InputError where the backbone is missing or another one."""
        crop = CropOptions.from_dict(plain["options"]["crop"])
        card = plain["options"].get("backbone")
        if card is not None and (backbone is None or backbone.card["sha256"] != card["sha256"]):
            raise InputError(f"deep features: this model needs the backbone '{card['name']}' (sha256 "
                             f"{card['sha256'][:12]}...); give its folder")
        made = cls(DeepOptions(crop, TrainingOptions(**plain["options"]["training"]), backbone),
                   classes=tuple(plain["classes"]))
        if card is None:
            made.network = DeepNetwork.from_state(plain["network"], arrays)
        else:
            made.mean, made.axes, made.scale = arrays["mean"], arrays["axes"], arrays["scale"]
        return made


def _part(tell: Callable[[float, str], None], number: int, parts: int) -> Callable[[float, str], None]:
    return lambda share, text: tell((number + share) / parts, text)
