"""What each step of the preprocessing did: the diagnostic values of the IBSI reference tables."""

from __future__ import annotations

import numpy as np

from ...geometry import Mask, Volume
from .region import prepare
from .settings import Settings


def diagnostics(image: Volume, mask: Mask, settings: Settings | None = None) -> dict[str, float]:
    """Sizes, voxel counts and intensities of image and masks, by the tags of the IBSI tables.

    At the start (`init`), after interpolation and rounding (`interp`) and after re-segmentation (`reseg`). The
    whole image is interpolated, so that this takes longer than the features. Raises as `extract`.
    """
    settings = settings or Settings()
    start = prepare(image, mask, Settings(resample_mask=settings.resample_mask, regions=settings.regions,
                                          most_voxels=settings.most_voxels), reach=None)
    middle = prepare(image, mask, settings.with_(resegment=None, outlier_sigma=None), reach=None)
    end = prepare(image, mask, settings, reach=None)
    out: dict[str, float] = {}
    for stage, region in (("init", start), ("interp", middle)):
        out |= _xyz("img_dim", f"{stage}_img", region.image.shape)
        out |= _xyz("vox_dim", f"{stage}_img", region.spacing_mm)
        out |= _intensities("", f"{stage}_img", region.image)
    for stage, region in (("init", start), ("interp", middle), ("reseg", end)):
        out |= _xyz("int_mask_dim", f"{stage}_roi", region.image.shape)
        out |= _xyz("int_mask_bb_dim", f"{stage}_roi", _extent(region.intensity))
        out |= _xyz("morph_mask_bb_dim", f"{stage}_roi", _extent(region.morphological))
        out[f"int_mask_vox_count_{stage}_roi"] = float(np.count_nonzero(region.intensity))
        out[f"morph_mask_vox_count_{stage}_roi"] = float(np.count_nonzero(region.morphological))
        out |= _intensities("int_mask_", f"{stage}_roi", region.image[region.intensity])
    return out


def _xyz(what: str, stage: str, kji) -> dict[str, float]:
    return {f"{what}_{axis}_{stage}": float(value) for axis, value in zip("xyz", reversed(tuple(kji)), strict=True)}


def _intensities(what: str, stage: str, values: np.ndarray) -> dict[str, float]:
    return {f"{what}mean_int_{stage}": float(values.mean()), f"{what}min_int_{stage}": float(values.min()),
            f"{what}max_int_{stage}": float(values.max())}


def _extent(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(np.ptp(index)) + 1 for index in np.nonzero(mask))
