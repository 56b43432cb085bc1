"""mirp as the independent program for texture features: the same levels in, its names turned into ours."""

from __future__ import annotations

import logging
import sys
import types

import numpy as np

DIRECTED = {"2D_avg": "2d_avg", "2D_comb": "2d_s_mrg", "2_5D_avg": "2.5d_d_mrg", "2_5D_comb": "2.5d_v_mrg",
            "3D_avg": "3d_avg", "3D_comb": "3d_v_mrg"}
PLAIN = {"2D": "2d", "2_5D": "2.5d", "3D": "3d"}
DIRECTED_WAYS = ["2d_average", "2d_slice_merge", "2.5d_direction_merge", "2.5d_volume_merge", "3d_average",
                 "3d_volume_merge"]
PLAIN_WAYS = ["2d", "2.5d", "3d"]


def mirp():
    """The module; its reader of DICOM-like files wants itk, which plain arrays do not need."""
    sys.modules.setdefault("itk", types.ModuleType("itk"))
    import mirp

    logging.getLogger("mirp").setLevel(logging.ERROR)
    return mirp


def textures(levels: np.ndarray, *, glcm_distance: int = 1, ngldm_distance: int = 1,
             ngldm_alpha: float = 0.0, **more) -> dict[str, float]:
    """Every texture feature mirp gives, by its own name; levels (k, j, i), 0 outside."""
    directed = {f"{name}_spatial_method": DIRECTED_WAYS for name in ("glcm", "glrlm")}
    plain = {f"{name}_spatial_method": PLAIN_WAYS for name in ("glszm", "gldzm", "ngtdm", "ngldm")}
    answer = mirp().extract_features(
        image=levels.astype(float), mask=(levels > 0).astype(np.uint8), base_discretisation_method="none",
        base_feature_families=["cm", "rlm", "szm", "dzm", "ngtdm", "ngldm"], glcm_distance=[float(glcm_distance)],
        ngldm_distance=float(ngldm_distance), ngldm_difference_level=float(ngldm_alpha), **directed, **plain, **more)
    return {name: float(value) for name, value in answer[0].iloc[0].items()
            if name.split("_")[0] in ("cm", "rlm", "szm", "dzm", "ngt", "ngl")}


def their_name(key: str, glcm_distance: int = 1, ngldm_distance: int = 1, ngldm_alpha: float = 0.0) -> str:
    """mirp's column of one of our texture keys."""
    family = key.split("_")[0]
    ways = DIRECTED if family in ("cm", "rlm") else PLAIN
    way = max((way for way in ways if key.endswith(f"_{way}")), key=len)
    parameters = {"cm": f"_d{glcm_distance}", "ngl": f"_d{ngldm_distance}_a{float(ngldm_alpha)}"}.get(family, "")
    return f"{key.removesuffix('_' + way)}{parameters}_{ways[way]}"
