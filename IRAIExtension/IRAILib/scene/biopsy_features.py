"""Step 2 in the scene: features in a worker process, their table, their stability, their place among other patients.

Three records: features, stability, cohort. The latter two are made from the first and say so; the one table is
written anew whenever one of them changes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..biopsy.radiomics import Settings
from ..biopsy.radiomics.presets import preset as named_preset
from ..geometry import InputError, Mask
from .ablation_results import read_record
from .biopsy_case import BiopsyCase, keep_record
from .biopsy_cohort import place_in_cohort
from .biopsy_sources import Source, require_unchanged, source_of, stale_reasons
from .changes import SceneChange, part_of, parts_of
from .nodes import mask_from_segment, volume_from_node
from .write import rows_to_table

ROLE = "biopsy.features"
CT, FILE = "ct", "file"
HEADER = ["Feature", "Aggregation", "Value", "Unit", "Family", "IBSI", "Key", "Varies by (CV %)", "Stability",
          "Percentile", "Others", "Note"]


def settings_for(preset: str, path: Path | None = None) -> Settings:
    """Settings by the panel's choice: a name of radiomics.presets, or "file".

    Raises InputError for an unknown choice, no file or a bad one, MissingPackageError without PyYAML."""
    if preset == FILE:
        if path is None or not Path(path).is_file():
            raise InputError(f"{path or 'settings'}: no such file; choose a YAML file with radiomics settings")
        return Settings.read(path)
    return named_preset(preset)


def unit_doubts(unit: str, modality: str, coded: Any, name: str) -> list[str]:
    """What speaks against the intensity unit that the settings take for granted.

    Args: modality: as DICOM writes it, "" where it isn't known. coded: the voxels' unit (vtkCodedEntry) or None.
    Raises InputError where the scan is of another kind: every value would carry a wrong unit.
    """
    wanted = {"HU": "CT", "SUV": "PT"}.get(unit)
    if wanted is None:
        return []
    if modality and modality != wanted:
        raise InputError(f"{name}: the scan is {modality}, the settings take {unit} for granted; choose the settings "
                         f"for {modality}")
    if not modality:
        return [f"the scan does not say what it is: its values are taken for {unit}"]
    said = "" if coded is None else f"{coded.GetCodeValue()} {coded.GetCodeMeaning()}"
    if unit == "SUV" and "suv" not in said.lower() and "standardized uptake" not in said.lower():
        return ["the scan does not say that its values are SUV: they are taken for SUV"]
    return []


def extract_case(case: BiopsyCase, settings: Settings | None = None, *, previous: Any = None, progress=None,
                 cancelled=None, run=None) -> Any:
    """Features of the lesion (or the case's region), in a worker process.

    Args: previous: record that this one replaces. run: stands in for jobs.run_job (tests).
    Returns: the record, a vtkMRMLTextNode with every feature, the settings and versions, and the part "table".
    Raises InputError (also when the lesion or volume was changed or deleted meanwhile), EmptyMaskError, RefusedError,
    CancelledError; the scene is then as it was.
    """
    if run is None:
        from ..jobs import run_job as run
    settings = settings or Settings()
    sources = case.sources(of_region=True)
    volume = volume_from_node(case.volume)
    doubts = unit_doubts(settings.intensity_unit, str(volume.metadata.get("modality") or ""),
                         case.volume.GetVoxelValueUnits(), volume.name)
    mask = mask_from_segment(case.measured, volume)
    found = run("IRAILib.biopsy.radiomics:extract",
                {"image": volume, "mask": Mask(mask.array, volume.grid, case.measured.name),
                 "settings": settings}, progress=progress, cancelled=cancelled)
    require_unchanged(sources)
    document = {"step": "features", **found.to_dict(), "synthetic": case.synthetic}
    document["warnings"] = [*document["warnings"], *doubts]
    with SceneChange(parts_of(previous)) as change:
        table = change.add("vtkMRMLTableNode", "Features", f"{ROLE}.table")
        rows_to_table(table, HEADER, feature_rows(document))
        return keep_record(change, "Feature record", ROLE, document, sources, {"table": table}, case.folder)


def compare_with_cohort(case: BiopsyCase, features: Any, path: Path, *, patient: str = "", previous: Any = None,
                        stability: Any = None) -> Any:
    """Where the patient's features lie among those of a table; the feature table gets the percentiles.

    Returns: the cohort's record. Raises InputError as `biopsy_cohort.place_in_cohort`, or without features.
    """
    document = require_features(features)
    found = place_in_cohort(document["features"], Path(path), patient=patient,
                            settings_hash=str(document.get("settings_hash") or ""))
    with SceneChange(parts_of(previous)) as change:
        record = keep_record(change, "Cohort record", "biopsy.cohort", {"step": "cohort", **found.to_dict()},
                             [source_of("features", features)], {}, case.folder)
    renew_table(features, stability, record)
    return record


def require_features(record: Any) -> dict[str, Any]:
    """A feature record's JSON. Raises InputError when there is none, or when it no longer belongs to the lesion."""
    document = read_record(record)
    if not isinstance(document.get("features"), dict):
        raise InputError("there are no features yet; press Extract in step 2")
    stale = stale_reasons(record)
    if stale:
        raise InputError(f"the features are out of date ({stale[0]}); extract them again")
    return document


def renew_table(features: Any, stability: Any = None, cohort: Any = None) -> None:
    """Write the feature table from the records that still belong to these features."""
    table = part_of(features, "table")
    if table is None:
        return
    rows_to_table(table, HEADER, feature_rows(read_record(features), _belonging(stability, features),
                                              _belonging(cohort, features)))


def _belonging(record: Any, features: Any) -> dict[str, Any]:
    """A record's JSON when it was made from these features, else {}."""
    document = read_record(record)
    made_from = [Source.from_dict(entry) for entry in document.get("sources") or []]
    same = any(source.role == "features" and source.sha256 == source_of("features", features).sha256
               for source in made_from)
    return document if same else {}


def feature_rows(features: dict[str, Any], stability: dict[str, Any] | None = None,
                 cohort: dict[str, Any] | None = None) -> list[list[Any]]:
    """Rows of the feature table as `HEADER` names them. A value that is not defined is NaN, with the reason as note."""
    varies, unstable = (stability or {}).get("cv_percent") or {}, set((stability or {}).get("unstable") or [])
    places = (cohort or {}).get("places") or {}
    rows = []
    for key, value in (features.get("features") or {}).items():
        known = features["definitions"][key]
        prefix = key.rpartition("__")[0]
        place, spread = places.get(key), varies.get(key)
        rows.append([f"{known['name']} ({prefix})" if prefix else known["name"], known["aggregation"],
                     float("nan") if value is None else float(value), known["unit"], known["family"],
                     known["ibsi_code"], key, "" if spread is None else f"{spread:.3g}",
                     "" if not stability else "unstable" if key in unstable else "stable" if key in varies else "",
                     "" if place is None else f"{place['percentile']:.0f}",
                     "" if place is None else str(place["n"]), features["undefined"].get(key, "")])
    return rows
