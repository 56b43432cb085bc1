"""How much this patient's features vary when outline, place and noise change a little: a record, marks in the table."""

from __future__ import annotations

from typing import Any

from ..biopsy.radiomics import Settings
from ..geometry import Mask
from .biopsy_case import BiopsyCase, keep_record
from .biopsy_features import renew_table, require_features
from .biopsy_sources import require_unchanged, source_of
from .changes import SceneChange, parts_of
from .nodes import mask_from_segment, volume_from_node

ROLE = "biopsy.stability"
SEED = 0


def try_stability(case: BiopsyCase, features: Any, *, n: int = 10, previous: Any = None, cohort: Any = None,
                  progress=None, cancelled=None, run=None) -> Any:
    """Measure the features `n` times with small changes, in a worker process; the feature table gets the marks.

    Args: features: the record of `extract_case`; its settings are used. cohort: its cohort record, for the table.
    Returns: the record, with `cv_percent` by key (None where there is none) and `unstable` (key: reason).
    Raises InputError without features or when they are out of date, CancelledError; the scene is then as it was.
    """
    if run is None:
        from ..jobs import run_job as run
    known = require_features(features)
    sources = [*case.sources(of_region=True), source_of("features", features)]
    volume = volume_from_node(case.volume)
    mask = mask_from_segment(case.measured, volume)
    found = run("IRAILib.biopsy.radiomics.stability:stability",
                {"images": volume, "masks": Mask(mask.array, volume.grid, case.measured.name),
                 "settings": Settings.from_dict(known["settings"]), "n": n, "seed": SEED},
                progress=progress, cancelled=cancelled)
    require_unchanged(sources)
    document = {"step": "stability", **found.to_dict(), "unstable": found.unstable(),
                "cv_percent": {key: None if one.cv is None else 100.0 * one.cv
                               for key, one in found.features.items()}}
    with SceneChange(parts_of(previous)) as change:
        record = keep_record(change, "Stability record", ROLE, document, sources, {}, case.folder)
    renew_table(features, record, cohort)
    return record
