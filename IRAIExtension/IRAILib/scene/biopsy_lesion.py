"""Step 1 in the scene: the lesion from clicks or a segment, its size, a shell round it, its habitats as segments."""

from __future__ import annotations

from typing import Any

from .biopsy_case import BiopsyCase, keep_record
from .biopsy_size import measure_lesion
from .changes import SceneChange, parts_of
from .nodes import SegmentRef, mask_from_segment, volume_from_node
from .segmentation import boundary_sigma_mm, segment_seeded
from .write import rows_to_table

ROLE = "biopsy.lesion"
LESION_COLOR = (0.94, 0.45, 0.15)


def segment_lesion(volume_node, inside_node, outside_node=None, segmentation_node=None, *, name: str = "Lesion",
                   progress=None, cancelled=None) -> SegmentRef:
    """The lesion under the clicks as a segment; the segmentation is made where there is none.

    Raises: as scene.segmentation.segment_seeded; the scene is then as it was.
    """
    with SceneChange() as change:
        node = segmentation_node
        if node is None:
            node = change.add("vtkMRMLSegmentationNode", "Virtual biopsy", "biopsy.segmentation")
            node.CreateDefaultDisplayNodes()
        segment_id, _result = segment_seeded(volume_node, inside_node, outside_node, node, name=name,
                                             progress=progress, cancelled=cancelled)
    node.GetSegmentation().GetSegment(segment_id).SetColor(*LESION_COLOR)
    return SegmentRef(node, segment_id)


def measure_case(case: BiopsyCase, *, previous: Any = None) -> Any:
    """Measure the lesion; an earlier record is replaced.

    Returns: the record, a vtkMRMLTextNode with volume, diameters and their uncertainty, and the part "table".
    Raises InputError, EmptyMaskError.
    """
    sources = case.sources()
    mask = mask_from_segment(case.lesion, volume_from_node(case.volume))
    size = measure_lesion(mask, boundary_sigma_mm(case.lesion.node, case.lesion.segment_id))
    document = {"step": "lesion", **size.to_dict(), "synthetic": case.synthetic}
    with SceneChange(parts_of(previous)) as change:
        table = rows_to_table(change.add("vtkMRMLTableNode", "Lesion size", f"{ROLE}.table"),
                              ["Quantity", "Value", "Unit"], size_rows(document))
        return keep_record(change, "Lesion record", ROLE, document, sources, {"table": table}, case.folder)


def size_rows(document: dict[str, Any]) -> list[list[str]]:
    """Rows (quantity, value with one standard deviation, unit) of a lesion record's JSON; [] for none."""
    if document.get("volume_ml") is None:
        return []
    sigma = f" ± {document['diameter_sigma_mm']:.1f}"
    return [["Volume", f"{document['volume_ml']:.2f} ± {document['volume_sigma_ml']:.2f}", "mL"],
            ["Longest diameter in a slice", f"{document['long_axis_mm']:.1f}{sigma}", "mm"],
            ["Perpendicular to it", f"{document['short_axis_mm']:.1f}{sigma}", "mm"],
            ["Largest extent (3D)", f"{document['extent_mm']:.1f}{sigma}", "mm"],
            ["Slices", str(document["slices"]), ""],
            ["Separate parts", str(document["pieces"]), ""]]


def size_notes(document: dict[str, Any]) -> list[str]:
    """What makes the size doubtful, one line each."""
    if document.get("volume_ml") is None:
        return []
    notes = []
    if document.get("boundary_sigma_mm") is None:
        notes.append("the outline's own error is not known (not segmented here): ± holds the voxel size only")
    if (document.get("pieces") or 1) > 1:
        notes.append(f"the lesion's segment has {document['pieces']} separate parts")
    if document.get("touches_border"):
        notes.append("the lesion's segment reaches the border of the image: it may be cut off")
    if (document.get("slices") or 0) < 3:
        notes.append(f"the lesion lies in {document['slices']} slice(s): volume and texture are hardly measured")
    return notes
