"""Segmentation on MRML nodes: clicks, local model bundles, and the engines of other extensions when they are there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..geometry import InputError, IRAIError
from ..segmentation import BundleResult, SeededOptions, SeededResult
from ..segmentation import segment_bundle as _segment_bundle
from ..segmentation import segment_seeded as _segment_seeded
from .nodes import points_from_markups, volume_from_node
from .write import mask_to_segment, oriented_image

Progress = Callable[[float, str], None]
TUMOR_COLOR = (0.85, 0.35, 0.30)
SIGMA_TAG = "IRAI.boundary_sigma_mm"


@dataclass(frozen=True)
class Engine:
    """A segmentation extension that Slicer may hold.

    Attributes:
        key: name in `segment_engine`. module: Slicer's module name. title: what a user calls it.
    """

    key: str
    module: str
    title: str
    logic: str


ENGINES = (Engine("totalsegmentator", "TotalSegmentator", "TotalSegmentator", "TotalSegmentatorLogic"),
           Engine("monaiauto3dseg", "MONAIAuto3DSeg", "MONAI Auto3DSeg", "MONAIAuto3DSegLogic"))


def available_engines() -> list[str]:
    """Keys of the segmentation extensions that this Slicer has loaded; [] when there is none."""
    import slicer

    modules = getattr(slicer, "modules", None)
    return [engine.key for engine in ENGINES if getattr(modules, engine.key, None) is not None]


def engine_hint() -> str:
    """One line for a user: what is there, or what could be installed and what works without it."""
    there = available_engines()
    if there:
        return "Available: " + ", ".join(engine.title for engine in ENGINES if engine.key in there)
    return ("No segmentation extension is installed. Install TotalSegmentator or MONAIAuto3DSeg with the Extensions "
            "Manager of desktop Slicer, or use clicks or a local model bundle, which need neither.")


def segment_engine(key: str, volume_node, segmentation_node, *, task: str | None = None,
                   cpu: bool = False) -> list[str]:
    """Run an installed extension's own logic on a volume.

    Args:
        key: one of `available_engines()`.
        task: TotalSegmentator's task ("total") or Auto3DSeg's model name; None takes the extension's default.
            The extension may download its model, as when run from its own page.
    Returns: IDs of the segments that it added. On failure these are removed again.
    Raises: InputError (not installed, nothing selected, the extension's own error in one line).
    """
    engine = next((e for e in ENGINES if e.key == key), None)
    if engine is None:
        raise InputError(f"no segmentation engine {key!r}; known: {', '.join(e.key for e in ENGINES)}")
    if key not in available_engines():
        raise InputError(f"{engine.title} is not installed in this Slicer. {engine_hint()}")
    _require(volume_node, segmentation_node)
    with _rolled_back(segmentation_node) as before:
        try:
            logic = _engine_logic(engine)
            if key == "totalsegmentator":
                logic.setupPythonRequirements()
                logic.process(volume_node, segmentation_node, cpu=cpu, task=task or "total", quality="fast" if cpu
                              else "normal")
            else:
                logic.process([volume_node], segmentation_node, model=task, cpu=cpu, waitForCompletion=True)
        except IRAIError:
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(f"{engine.title} failed on {volume_node.GetName()}: {text}; "
                             "try it on its own page to see its log") from error
        added = [s for s in _segment_ids(segmentation_node) if s not in before]
        if not added:
            raise InputError(f"{engine.title} found nothing in {volume_node.GetName()}; choose another task or model")
        return added


def segment_seeded(volume_node, inside_node, outside_node, segmentation_node, *, name: str = "Tumour",
                   options: SeededOptions | None = None, progress: Progress | None = None,
                   cancelled: Callable[[], bool] | None = None) -> tuple[str, SeededResult]:
    """Segment what lies under the markups and write it as a segment.

    Args:
        inside_node, outside_node: markups nodes of any kind; outside may be None.
        name: of the segment; one of that name is replaced.
    Returns: the segment's ID and the result. The segment carries its boundary uncertainty as the tag `SIGMA_TAG`.
    Raises: as the library's `segment_seeded`; the scene is then as it was.
    """
    _require(volume_node, segmentation_node)
    volume = volume_from_node(volume_node)
    inside = points_from_markups(inside_node)
    if not len(inside):
        raise InputError("no inside point is placed; click into the lesion in a slice view")
    result = _segment_seeded(volume, inside, points_from_markups(outside_node), options=options,
                             progress=progress, cancelled=cancelled)
    segment_id = _replace_segment(segmentation_node, volume_node, result.mask, name)
    segmentation_node.GetSegmentation().GetSegment(segment_id).SetTag(SIGMA_TAG, f"{result.boundary_sigma_mm:.3f}")
    return segment_id, result


def segment_bundle(volume_node, folder, segmentation_node, *, trust: bool = False, device: str = "cpu",
                   progress: Progress | None = None,
                   cancelled: Callable[[], bool] | None = None) -> tuple[list[str], BundleResult]:
    """Run a local model bundle on a volume; every label found becomes a segment with its name."""
    _require(volume_node, segmentation_node)
    result = _segment_bundle(volume_from_node(volume_node), folder, trust=trust, device=device,
                             progress=progress, cancelled=cancelled)
    names = result.names()
    if not names:
        raise InputError(f"{result.card.name} found nothing in {volume_node.GetName()}; "
                         "check that the model is made for such images")
    return [_replace_segment(segmentation_node, volume_node, result.mask(value), text)
            for value, text in names.items()], result


def _require(volume_node, segmentation_node) -> None:
    if volume_node is None:
        raise InputError("no volume is selected; choose one")
    if segmentation_node is None:
        raise InputError("no segmentation is selected; choose one or create a new one")
    if segmentation_node.GetParentTransformNode() is not None:
        raise InputError(f"{segmentation_node.GetName()}: lies under a transform; take it out of it first, "
                         "results are written in world coordinates")


def _replace_segment(node, volume_node, mask, name: str) -> str:
    """Write a mask as the segment `name`; its reference geometry is the volume's when the node has none."""
    import slicer

    mask.require_not_empty()
    segmentation = node.GetSegmentation()
    old = segmentation.GetSegmentIdBySegmentName(name)
    if old:
        color = segmentation.GetSegment(old).GetColor()
        content = mask.crop_to_content()
        slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(
            oriented_image(content.grid, content.array), node, old)
        segmentation.GetSegment(old).SetColor(color)
        return old
    segment_id = mask_to_segment(node, mask, name, TUMOR_COLOR)
    if not segmentation.GetNumberOfSegments() > 1 and volume_node.GetParentTransformNode() is None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    return segment_id


def _segment_ids(node) -> list[str]:
    return [str(s) for s in node.GetSegmentation().GetSegmentIDs()]


@contextmanager
def _rolled_back(node):
    """Segments that a failing engine added are removed. Yields the IDs that were there before."""
    before = _segment_ids(node)
    try:
        yield before
    except BaseException:
        for segment_id in _segment_ids(node):
            if segment_id not in before:
                node.GetSegmentation().RemoveSegment(segment_id)
        raise


def _engine_logic(engine: Engine):
    """The extension's own Python logic class, made anew, as its page does."""
    import importlib

    return getattr(importlib.import_module(engine.module), engine.logic)()


def boundary_sigma_mm(segmentation_node, segment_id: str) -> float | None:
    """The uncertainty that `segment_seeded` left on a segment; None on a segment from elsewhere."""
    from vtk import reference

    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    text = reference("")
    if segment is None or not segment.GetTag(SIGMA_TAG, text):
        return None
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if np.isfinite(value) else None
