"""Parts round and in the lesion as segments: a shell by millimetres, habitats by intensity. Each with its record."""

from __future__ import annotations

from typing import Any

from ..geometry import InputError, Mask
from .biopsy_case import BiopsyCase, keep_record
from .biopsy_sources import require_unchanged
from .changes import SceneChange, parts_of
from .nodes import SegmentRef, mask_from_segment, volume_from_node
from .write import mask_to_segment, oriented_image, rows_to_table

SHELL, HABITATS = "biopsy.shell", "biopsy.habitats"
SHELL_COLOR = (0.35, 0.65, 0.90)
AIR_HU = -200.0
HEADER = ["Part", "Value", "Unit"]


def make_shell(case: BiopsyCase, outer_mm: float, inner_mm: float = 0.0, *, previous: Any = None, progress=None,
               cancelled=None, run=None) -> Any:
    """The tissue round the lesion as a segment of the lesion's segmentation, inside the organ, without air in CT.

    Returns: the record with volume and share kept; its `segment_id` names the segment. An earlier shell is replaced.
    Raises InputError, EmptyMaskError, CancelledError; the scene is then as it was.
    """
    if run is None:
        from ..jobs import run_job as run
    require_free(case)
    sources = case.sources(with_organ=True)
    volume = volume_from_node(case.volume)
    kwargs: dict[str, Any] = {"mask": on_grid(case.lesion, volume), "outer_mm": outer_mm, "inner_mm": inner_mm,
                              "within": on_grid(case.organ, volume) if case.organ else None}
    if volume.metadata.get("modality") == "CT":
        kwargs |= {"image": volume, "intensity_range": (AIR_HU, None)}
    made = run("IRAILib.biopsy.radiomics.regions:shell", kwargs, progress=progress, cancelled=cancelled)
    require_unchanged(sources)
    title = f"Shell {inner_mm:g} to {outer_mm:g} mm"
    kept = made.metadata
    warnings = [*kept["warnings"], *([] if case.organ else ["no organ was chosen: the shell may leave it"])]
    document = {"step": "shell", "outer_mm": outer_mm, "inner_mm": inner_mm, "volume_ml": made.volume_ml,
                "kept_share": kept["kept_share"], "warnings": warnings, "validated_on": kept["validated_on"],
                "frame": "RAS mm", "names": [title],
                "board_rows": [[title, f"{made.volume_ml:.1f}", "mL"]]}
    return keep_parts(case, document, sources, [(made, title, SHELL_COLOR)], "Shell record", SHELL, previous,
                 [[title, f"{made.volume_ml:.2f}", "mL"], ["Kept inside organ and tissue",
                                                           f"{100.0 * kept['kept_share']:.0f}", "%"]])


def require_free(case: BiopsyCase) -> None:
    """Raises InputError when the lesion's segmentation lies under a transform: results are in world coordinates."""
    node = case.lesion.node
    if node.GetParentTransformNode() is not None:
        raise InputError(f"{node.GetName()}: lies under a transform; take it out of it first, results are written in "
                         "world coordinates")


def on_grid(ref: SegmentRef, volume) -> Mask:
    """A segment on a volume's grid and in its frame. Raises EmptyMaskError, InputError."""
    mask = mask_from_segment(ref, volume)
    return Mask(mask.array, volume.grid, ref.name, volume.frame_of_reference)


def keep_parts(case: BiopsyCase, document: dict[str, Any], sources, parts, name: str, role: str, previous: Any,
          rows: list[list[str]]) -> Any:
    """Segments (mask, title, colour) and record in one change; those of an earlier record that aren't made again go.

    Returns: the record; its `segment_ids` name the segments.
    """
    with SceneChange(parts_of(previous)) as change, _Segments(case.lesion.node) as segments:
        document["segment_ids"] = [segments.put(mask, title, color) for mask, title, color in parts]
        segments.drop(set(segment_ids(previous)) - set(document["segment_ids"]))
        table = change.add("vtkMRMLTableNode", name.replace(" record", ""), f"{role}.table")
        rows_to_table(table, HEADER, rows)
        return keep_record(change, name, role, document, sources, {"table": table}, case.folder)


def segment_ids(record: Any) -> list[str]:
    """The segments that a shell or habitat record made; [] for none."""
    from .ablation_results import read_record

    return [str(entry) for entry in read_record(record).get("segment_ids") or []]


class _Segments:
    """Segments that are put into a segmentation, and taken out again when the block fails."""

    def __init__(self, node: Any) -> None:
        self.node, self.inside = node, node.GetSegmentation()
        self.added: list[str] = []
        self.dropped: set[str] = set()

    def __enter__(self) -> _Segments:
        return self

    def put(self, mask: Mask, name: str, color) -> str:
        """A mask as a segment; one of that name keeps its ID and colour."""
        import slicer

        old = self.inside.GetSegmentIdBySegmentName(name)
        if old:
            content = mask.crop_to_content()
            slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(
                oriented_image(content.grid, content.array), self.node, old)
            return str(old)
        self.added.append(mask_to_segment(self.node, mask, name, color))
        return self.added[-1]

    def drop(self, segment_ids: set[str]) -> None:
        """Segments that go when the block ends well."""
        self.dropped |= segment_ids

    def __exit__(self, kind, _error, _trace) -> None:
        for segment_id in self.dropped if kind is None else self.added:
            self.inside.RemoveSegment(segment_id)
