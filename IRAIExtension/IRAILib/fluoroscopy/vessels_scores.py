"""How well a vessel mask agrees with a drawn one."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, stats

from ..geometry import InputError
from .vessels_tree import skeleton_of

NEAR_PX = 2.0


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|); 1 for two empty masks. Raises InputError for different shapes."""
    if mask.shape != truth.shape:
        raise InputError(f"masks of {mask.shape} and {truth.shape} can't be compared")
    total = int(mask.sum()) + int(truth.sum())
    return 2.0 * float((mask & truth).sum()) / total if total else 1.0


def auc(values: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve of `values` for `truth` (same shape); NaN when the truth is all one."""
    inside, outside = values[truth].ravel(), values[~truth].ravel()
    if not len(inside) or not len(outside):
        return float("nan")
    order = stats.rankdata(np.concatenate([inside, outside]))
    return float((order[:len(inside)].sum() - len(inside) * (len(inside) + 1) / 2) / (len(inside) * len(outside)))


def cl_dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """Centreline Dice: skeletons inside the other's mask (Shit et al., clDice, CVPR 2021). 1 for two empty masks."""
    if not mask.any() or not truth.any():
        return float(mask.any() == truth.any())
    a, b = skeleton_of(mask), skeleton_of(truth)
    precision, recall = float(truth[a].mean()) if a.any() else 0.0, float(mask[b].mean()) if b.any() else 0.0
    return 2.0 * precision * recall / (precision + recall) if precision + recall else 0.0


def centreline_agreement(mask: np.ndarray, truth: np.ndarray, near_px: float = NEAR_PX) -> tuple[float, float]:
    """(precision, recall): centreline pixels within `near_px` of the other's centreline.

    1, 1 for two empty masks, 0, 0 when only one is empty.
    """
    a, b = (skeleton_of(m) if m.any() else np.zeros(m.shape, bool) for m in (mask, truth))
    if not a.any() or not b.any():
        return (1.0, 1.0) if a.any() == b.any() else (0.0, 0.0)
    far = [np.asarray(ndimage.distance_transform_edt(np.logical_not(m))) for m in (a, b)]
    return float((far[1][a] <= near_px).mean()), float((far[0][b] <= near_px).mean())
