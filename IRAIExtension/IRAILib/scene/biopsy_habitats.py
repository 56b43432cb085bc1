"""The lesion's habitats as segments: parts that look alike, darkest first. A division of intensities, not histology."""

from __future__ import annotations

from typing import Any

from .biopsy_case import BiopsyCase
from .biopsy_regions import HABITATS, keep_parts, on_grid, require_free
from .biopsy_sources import require_unchanged
from .nodes import volume_from_node

COLORS = ((0.27, 0.00, 0.33), (0.23, 0.32, 0.55), (0.13, 0.57, 0.55), (0.37, 0.79, 0.38), (0.99, 0.91, 0.15),
          (0.99, 0.60, 0.15))


def find_habitats(case: BiopsyCase, number: int | None = None, *, previous: Any = None, progress=None, cancelled=None,
                  run=None) -> Any:
    """Divide the lesion by intensity, in a worker process; each part becomes a segment "Habitat 1", "Habitat 2" ...

    Args: number: 2 to 6; None: chosen by the Bayesian information criterion.
    Returns: the record: share, volume and mean of each part, how the number was chosen. Earlier habitats are replaced.
    Raises InputError, EmptyMaskError, RefusedError (no division leaves parts that are large enough), CancelledError;
    the scene is then as it was.
    """
    if run is None:
        from ..jobs import run_job as run
    require_free(case)
    sources = case.sources()
    volume = volume_from_node(case.volume)
    mask = on_grid(case.lesion, volume)
    found = run("IRAILib.biopsy.radiomics.habitats:habitats",
                {"images": volume, "mask": mask, "n": number},
                progress=progress, cancelled=cancelled)
    require_unchanged(sources)
    unit = "HU" if volume.metadata.get("modality") == "CT" else ""
    document = {"step": "habitats", **found.to_dict(), "validated_on": found.model.to_dict()["validated_on"],
                "chosen": "by the user" if number else f"by {found.model.criterion}"}
    parts, rows = [], []
    for index, part in enumerate(found.masks().values()):
        label = int(part.name.removeprefix("habitat"))
        title = f"Habitat {label}"
        parts.append((part, title, COLORS[index % len(COLORS)]))
        rows.append([title, f"{part.volume_ml:.2f} mL ({100.0 * document['fractions'][label - 1]:.0f} %), "
                            f"{found.means[label - 1][0]:.0f}", unit])
    document |= {"names": [title for _part, title, _color in parts], "board_rows": rows}
    return keep_parts(case, document, sources, parts, "Habitat record", HABITATS, previous, rows)
