"""Settings to begin with, one for each kind of image, as a user writes them."""

from __future__ import annotations

from ...geometry import InputError
from .settings import Settings

CT = """
# CT of soft tissue: HU mean something, so bins have a fixed width and a fixed start
intensity_unit: HU
spacing_mm: 1
interpolation: linear
round_intensity: true
resegment: [-150, 250]
discretisation: [fbs, 25, -150]
aggregations: [3D_comb]
filters:
  - {type: log, sigma_mm: 2}
"""
MR = """
# MR: intensities are arbitrary, so every region gets the same number of levels
spacing_mm: 1
interpolation: linear
outlier_sigma: 3
discretisation: [fbn, 32]
aggregations: [3D_comb]
"""
PET = """
# PET in SUV: fixed width from zero
intensity_unit: SUV
spacing_mm: 2
interpolation: linear
resegment: [0, null]
discretisation: [fbs, 0.25, 0]
ivh_discretisation: [fbs, 0.1, 0]
aggregations: [3D_comb]
"""
PRESETS = {"ct": CT, "mr": MR, "pet": PET}


def preset(name: str) -> Settings:
    """Settings of `PRESETS`. Raises InputError for another name, MissingPackageError without PyYAML."""
    import yaml

    if name not in PRESETS:
        raise InputError(f"{name}: no such preset; there are: {', '.join(PRESETS)}")
    return Settings.from_dict(yaml.safe_load(PRESETS[name]))
