"""The IBSI-1 consensus values and what this engine gives for them, for the test and for the table of the manual.

The settings of each configuration are those of the IBSI reference manual (arXiv:1612.07003v11, section 5.2). A value
agrees when it lies within the tolerance of the reference, rounded first to the significant digits that the reference
is given with (three; four or more for a few counts and intensities).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from IRAILib.biopsy.radiomics import Settings, extract
from IRAILib.biopsy.radiomics.diagnostics import diagnostics
from IRAILib.images import read_mask, read_volume

HU = {"intensity_unit": "HU"}
CONFIGURATIONS = {
    "digital phantom": ("ibsi_digital_phantom", "ibsi_1_dig_phantom.csv", Settings(discretisation=("none",))),
    "A": ("ibsi_ct_radiomics_phantom_CCBYNC", "ibsi_1_chest_config_a.csv",
          Settings(resegment=(-500, 400), discretisation=("fbs", 25), ivh_discretisation=("none",),
                   aggregations=("2D", "2_5D"), **HU)),
    "B": ("ibsi_ct_radiomics_phantom_CCBYNC", "ibsi_1_chest_config_b.csv",
          Settings(spacing_mm=(2, 2), round_intensity=True, resegment=(-500, 400), discretisation=("fbn", 32),
                   ivh_discretisation=("none",), aggregations=("2D", "2_5D"), **HU)),
    "C": ("ibsi_ct_radiomics_phantom_CCBYNC", "ibsi_1_chest_config_c.csv",
          Settings(spacing_mm=2, round_intensity=True, resegment=(-1000, 400), discretisation=("fbs", 25),
                   ivh_discretisation=("fbs", 2.5), aggregations=("3D",), **HU)),
}
DIAGNOSTIC = ("_img", "_roi")


@dataclass(frozen=True)
class Line:
    """One reference value and ours; `reference` is nan where the table has none (no consensus was reached)."""

    tag: str
    reference: float
    tolerance: float
    ours: float | None

    @property
    def has_reference(self) -> bool:
        return not math.isnan(self.reference)

    @property
    def agrees(self) -> bool:
        if self.ours is None or not math.isfinite(self.ours):
            return False
        digits = max(3, len(f"{self.reference:.12g}".replace("-", "").replace(".", "").strip("0")))
        off = abs(float(f"{self.ours:.{digits}g}") - self.reference)
        return off <= self.tolerance + 1e-9 * abs(self.reference)


@cache
def compare(data: Path, configuration: str) -> tuple[Line, ...]:
    """Every line of a configuration's table."""
    folder, table, settings = CONFIGURATIONS[configuration]
    image = read_volume(data / "radiomics" / folder / "phantom.nii.gz")
    mask = read_mask(data / "radiomics" / folder / "mask.nii.gz")
    ours: dict[str, float | None] = {key: f.value for key, f in extract(image, mask, settings).features.items()}
    ours.update(diagnostics(image, mask, settings))
    return tuple(Line(tag, reference, tolerance, ours.get(tag)) for tag, reference, tolerance in _rows(data, table))


def _rows(data: Path, table: str) -> Iterator[tuple[str, float, float]]:
    path = data / "radiomics" / "ibsi_reference_values" / table
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file, delimiter=";"):
            reference = row["reference value"].strip()
            yield (row["tag"].strip(), float(reference) if reference else math.nan,
                   float(row["tolerance"]) if row["tolerance"].strip() else math.nan)
