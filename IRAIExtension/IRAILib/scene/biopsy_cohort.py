"""Where this patient lies among others: the share of a table's patients with a lower value, feature by feature."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..biopsy.outcome.feature_settings import SETTINGS_COLUMN, settings_said
from ..geometry import InputError

FEWEST = 5
"""Fewer other patients than this have no percentile."""
PATIENT_COLUMNS = ("patient", "patient_id", "patientid", "subject", "subject_id", "case", "case_id", "pid", "id")
Z95 = 1.959964


@dataclass(frozen=True)
class Place:
    """Percentile of one value among n others: percent that lie below, ties counting half; 95 % interval (Wilson)."""

    percentile: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class CohortPlaces:
    """places: by feature key, only where this patient and enough others have a value. sha256: of the table's file."""

    places: dict[str, Place]
    table: str
    sha256: str
    n_patients: int
    left_out: int
    missing: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; features lie in no frame."""
        return {"places": {key: place.to_dict() for key, place in self.places.items()}, "table": self.table,
                "table_sha256": self.sha256, "n_patients": self.n_patients, "left_out": self.left_out,
                "missing": list(self.missing), "warnings": list(self.warnings), "frame": None}


def percentile_of(value: float, others: np.ndarray) -> Place | None:
    """Where a value lies among (n,) others, NaN left out; None with fewer than `FEWEST` or for NaN.

    Source of the interval: Wilson EB, J Am Stat Assoc 1927;22:209.
    """
    others = np.asarray(others, float)
    others = others[np.isfinite(others)]
    n = len(others)
    if n < FEWEST or not math.isfinite(value):
        return None
    share = float(np.count_nonzero(others < value) + 0.5 * np.count_nonzero(others == value)) / n
    middle = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    return Place(100.0 * share, 100.0 * max(middle - half, 0.0), 100.0 * min(middle + half, 1.0), n)


def place_in_cohort(values: dict[str, float | None], path: Path, *, patient: str = "",
                    settings_hash: str = "") -> CohortPlaces:
    """Compare features with those of other patients.

    Args:
        values: this patient's, by key; None where not defined.
        path: table or cohort folder (see biopsy.outcome.table.read_table), its columns named by the features' keys.
        patient: this patient's identifier; that row is left out.
        settings_hash: of this patient's settings; a table whose column `settings_hash` says otherwise is refused.
    A patient in several rows counts once, by the mean. Raises InputError: unreadable, no feature in common, an
    identifier that isn't there, other settings.
    """
    from ..biopsy.outcome.table import read_table

    table = read_table(path)
    keep, people, warnings = np.ones(len(table), bool), None, list(table.warnings)
    low = {name.lower(): name for name in table.names}
    column = next((low[name] for name in PATIENT_COLUMNS if name in low), None)
    if column is not None:
        people = np.array([str(cell) for cell in table.text[column]])
    if patient.strip():
        if people is None:
            raise InputError(f"{path}: no patient column, so '{patient.strip()}' can't be left out; name one 'patient'")
        keep = people != patient.strip()
        if keep.all():
            raise InputError(f"{path}: no patient '{patient.strip()}' in column {column}; leave the field empty when "
                             "this patient isn't in the table")
    warnings += _settings_warnings(table, settings_hash, path)
    places, missing = {}, []
    for key, value in values.items():
        if key not in table.values or table.kinds[key] != "number":
            missing.append(key)
            continue
        others = _once_a_patient(table.values[key][keep], None if people is None else people[keep])
        place = percentile_of(math.nan if value is None else float(value), others)
        if place is not None:
            places[key] = place
    if len(missing) == len(values):
        raise InputError(f"{path}: no column is named like a feature of this patient ({next(iter(values), '')} ...); "
                         "give a table of `irai biopsy features` or `irai cohort run`")
    counted = int(keep.sum()) if people is None else len(set(people[keep].tolist()))
    if counted < FEWEST:
        warnings.append(f"only {counted} other patients: no percentile is given under {FEWEST}")
    return CohortPlaces(places, str(path), file_hash(path), counted, int((~keep).sum()), tuple(missing),
                        tuple(warnings))


def _settings_warnings(table, settings_hash: str, path: Path) -> list[str]:
    if not settings_hash:
        return []
    said = settings_said(table)
    if not said:
        return [f"the table does not say with which settings its features were made (no column {SETTINGS_COLUMN}): "
                "percentiles hold only for the same settings and kind of scan"]
    foreign = sorted(said - {settings_hash})
    if foreign:
        raise InputError(f"{path}: its features were made with other settings ({foreign[0]}, here "
                         f"{settings_hash}); extract with the same settings to compare")
    return []


def _once_a_patient(values: np.ndarray, people: np.ndarray | None) -> np.ndarray:
    if people is None:
        return values
    _names, index = np.unique(people, return_inverse=True)
    finite = np.isfinite(values)
    total = np.bincount(index[finite], weights=values[finite], minlength=int(index.max(initial=-1)) + 1)
    count = np.bincount(index[finite], minlength=len(total))
    return total[count > 0] / count[count > 0]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, or of a folder's tables in the order of their names. Raises InputError."""
    path = Path(path)
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        try:
            digest.update(file.read_bytes())
        except OSError as error:
            raise InputError(f"{file}: can't be read ({error.strerror})") from error
    return digest.hexdigest()
