"""nnU-Net v2 models, which TotalSegmentator's are, through the package that made them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..geometry import InputError, MissingPackageError, RefusedError, Volume, resample
from .card import BundleCard, read_json
from .orient import network_grid

CHECKPOINT = "checkpoint_final.pth"


def run_nnunet(volume: Volume, card: BundleCard, *, trust: bool, device: str,
               progress: Callable[[float, str], None] | None,
               cancelled: Callable[[], bool] | None) -> Volume:
    """Labels on the grid of the volume.

    nnunetv2 reads its checkpoints as pickles, which can run code, so `trust` is needed. A cancel is only
    noticed between the steps: run it in a worker process (IRAILib.jobs) to end it at once.
    Raises: InputError (incomplete folder), MissingPackageError, RefusedError, CancelledError.
    """
    from .bundles import _Watch, offline

    watch = _Watch(progress, cancelled)
    read_json(card.folder / "plans.json", of="an nnU-Net v2 model")
    folds = tuple(int(path.parent.name[5:]) for path in sorted(card.folder.glob(f"fold_[0-9]*/{CHECKPOINT}")))
    if not folds:
        raise InputError(f"{card.folder}: holds no fold_0/{CHECKPOINT}; the model is incomplete, download it again")
    try:
        import torch
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    except ImportError as error:
        raise MissingPackageError("an nnU-Net v2 or TotalSegmentator model needs nnunetv2: "
                                  "pip install nnunetv2 (or TotalSegmentator)") from error
    if not trust:
        raise RefusedError(f"{card.folder}: nnU-Net reads checkpoints as pickles, which can run code; "
                           "pass trust=True (--trust) only for models from people you trust")
    watch.tell(0.0, f"Reading {card.name}")
    predictor = nnUNetPredictor(device=torch.device(device), use_mirroring=False, allow_tqdm=False)
    with offline():
        try:
            predictor.initialize_from_trained_model_folder(str(card.folder), use_folds=folds,
                                                           checkpoint_name=CHECKPOINT)
        except Exception as error:
            raise InputError(f"{card.folder}: the model can't be read ({error}); download it again") from error
        watch.tell(0.1, "Segmenting")
        grid = network_grid(volume.grid, "RAS", None)
        image = resample(volume, grid, interpolation="nearest", outside=float(volume.array.min()))
        labels = predictor.predict_single_npy_array(
            np.asarray(image.array, np.float32)[None], {"spacing": [float(s) for s in grid.spacing_kji_mm]},
            None, None, False)
    watch.tell(0.95, "Back to the image's grid")
    wide = np.uint8 if int(np.max(labels)) < 256 else np.uint16
    back = resample(Volume(np.asarray(labels, wide), grid), volume.grid, interpolation="nearest")
    return replace(volume, array=back.array, name=f"{volume.name} labels".strip())
