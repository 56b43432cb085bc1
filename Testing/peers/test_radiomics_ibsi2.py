"""IBSI-2 phase 2: statistics of the filtered lung CT against the consensus, every configuration that is standardised.

ibsi2_reference_values.csv is reference_feature_values/reference_values.csv of theibsi/ibsi_2_reference_data (CC0):
A is by slice on the voxels as they are, B in three dimensions after cubic interpolation to 1 mm; intensities are
re-segmented to [-1000, 400] HU. A value is right within its tolerance.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from pathlib import Path

import pytest
from IRAILib.biopsy.radiomics import Settings, extract
from IRAILib.geometry import Mask, Volume
from IRAILib.images.masks import read_mask
from IRAILib.images.reading import read_volume

pytestmark = pytest.mark.data
GABOR = {"type": "gabor", "sigma_mm": 5, "wavelength_mm": 2, "aspect": 1.5, "rotation_step_deg": 22.5}
FLAT = {"1": None, "2": {"type": "mean", "support": 5}, "3": {"type": "log", "sigma_mm": 1.5},
        "4": {"type": "laws", "kernels": "L5E5"}, "5": GABOR,
        "6": {"type": "wavelet", "wavelet": "db3", "filters": "LH"},
        "7": {"type": "wavelet", "wavelet": "db3", "filters": "HH", "level": 2},
        "8": {"type": "simoncelli", "level": 1}, "9": {"type": "simoncelli", "level": 2}}
DEEP = {**FLAT, "4": {"type": "laws", "kernels": "L5E5E5"},
        "6": {"type": "wavelet", "wavelet": "db3", "filters": "LLH"},
        "7": {"type": "wavelet", "wavelet": "db3", "filters": "HHH", "level": 2}}


def consensus() -> dict[str, dict[str, tuple[float, float]]]:
    out: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    with (Path(__file__).parent / "ibsi2_reference_values.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter=";"):
            value, tolerance = float(row["consensus_value"] or "nan"), float(row["tolerance"] or "nan")
            if math.isfinite(value):
                out[row["filter_id"]][row["feature_tag"]] = value, tolerance
    return out


CONSENSUS = consensus()


@pytest.fixture(scope="module")
def phantom(data: Path) -> tuple[Volume, Mask]:
    folder = data / "radiomics" / "ibsi_ct_radiomics_phantom_CCBYNC"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing")
    image = read_volume(folder / "phantom.nii.gz")
    return image, read_mask(folder / "mask.nii.gz", reference=image)


def test_all_configurations_are_here() -> None:
    assert set(CONSENSUS) == {f"{n}.{way}" for n in range(1, 10) for way in "AB"}
    assert sum(map(len, CONSENSUS.values())) >= 300


@pytest.mark.parametrize("name", [f"{n}.{way}" for way in "AB" for n in range(1, 10)])
def test_statistics_of_filtered_ct(name: str, phantom: tuple[Volume, Mask]) -> None:
    number, way = name.split(".")
    spec = (FLAT if way == "A" else DEEP)[number]
    if spec is not None and way == "A":
        spec = {**spec, "by_slice": True}
    more = {} if way == "A" else {"spacing_mm": 1.0, "interpolation": "cubic", "round_intensity": True}
    found = extract(*phantom, Settings(families=("statistics",), resegment=(-1000, 400), filter=spec, **more))
    values = {key.split("__")[-1]: value for key, value in found.values().items()}
    off = {tag: (values[tag], value, tolerance) for tag, (value, tolerance) in CONSENSUS[name].items()
           if abs(values[tag] - value) > tolerance}
    assert not off
