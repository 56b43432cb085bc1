"""What a number of the virtual biopsy was made from: nodes by ID and content hash, links to them, and staleness.

A link reads irai://node/ID[/segment/SEGMENT]?name=...&sha256=...; it is found again by ID, and where a scene was
imported and IDs have changed, by content, then by name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import numpy as np

from ..geometry import InputError, IRAIError
from .ablation_results import read_record
from .nodes import SegmentRef, mask_from_segment, volume_from_node, world_from_node

INPUT = "IRAI.Input."
"""Reference role, with the input's role behind it, from a record to each node that it was made from."""
SCHEME = "irai"
CACHE_SIZE = 64
_hashes: dict[tuple, str] = {}


@dataclass(frozen=True)
class Source:
    """A node, or one segment of it, as it was when a number was made from it.

    sha256: of the voxels and where they lie in the world, of a table's cells, of a text.
    """

    role: str
    node_id: str
    class_name: str
    name: str
    sha256: str
    segment_id: str = ""

    @property
    def link(self) -> str:
        """The irai:// link of this node."""
        path = f"node/{quote(self.node_id, safe='')}" + (f"/segment/{quote(self.segment_id, safe='')}"
                                                         if self.segment_id else "")
        return f"{SCHEME}://{path}?" + urlencode({"class": self.class_name, "name": self.name, "sha256": self.sha256},
                                                quote_via=quote)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"role": self.role, "node_id": self.node_id, "class": self.class_name, "name": self.name,
                "sha256": self.sha256, "segment_id": self.segment_id}

    @staticmethod
    def from_dict(entry: dict[str, Any]) -> Source:
        """The counterpart of to_dict. Raises InputError for another dictionary."""
        try:
            return Source(str(entry["role"]), str(entry["node_id"]), str(entry["class"]), str(entry["name"]),
                          str(entry["sha256"]), str(entry.get("segment_id") or ""))
        except (KeyError, TypeError, AttributeError):
            raise InputError("a record's list of sources is damaged; run that step again") from None


@dataclass(frozen=True)
class Found:
    """The node that a link stands for. changed: its content is no longer what the number was made from."""

    node: Any
    segment_id: str
    changed: bool


def source_of(role: str, node, segment_id: str = "") -> Source:
    """A node as it is now. Raises InputError for a node that can't be read (no image, empty segment)."""
    name = SegmentRef(node, segment_id).name if segment_id else str(node.GetName())
    return Source(role, str(node.GetID()), str(node.GetClassName()), name, content_hash(node, segment_id), segment_id)


def content_hash(node, segment_id: str = "") -> str:
    """SHA-256 of what a node holds, in the world; the same after saving and loading. Raises InputError."""
    key = _state(node, segment_id)
    if key not in _hashes:
        while len(_hashes) >= CACHE_SIZE:
            _hashes.pop(next(iter(_hashes)))
        _hashes[key] = _digest(node, segment_id)
    return _hashes[key]


def _state(node, segment_id: str) -> tuple:
    """What changes when the content does: cheap, so that a panel may ask ten times a second."""
    parts: list[Any] = [str(node.GetClassName()), str(node.GetID()), id(node), segment_id]
    if node.IsA("vtkMRMLTransformableNode") and node.GetParentTransformNode() is not None:
        parts.append(node.GetParentTransformNode().GetMTime())
        parts.append(world_from_node(node).tobytes())
    if segment_id:
        segment = node.GetSegmentation().GetSegment(segment_id)
        if segment is None:
            raise InputError(f"{node.GetName()}: has no segment '{segment_id}' any more; choose another segment")
        names: list[str] = []
        segment.GetContainedRepresentationNames(names)
        parts += [node.GetSegmentation().GetMTime(), *(segment.GetRepresentation(name).GetMTime() for name in names)]
    elif node.IsA("vtkMRMLVolumeNode"):
        parts += [node.GetMTime(), node.GetImageData().GetMTime() if node.GetImageData() else 0]
    elif node.IsA("vtkMRMLTableNode"):
        table = node.GetTable()
        parts += [node.GetMTime(), table.GetMTime() if table else 0]
    else:
        parts.append(node.GetMTime())
    return tuple(parts)


def _digest(node, segment_id: str) -> str:
    digest = hashlib.sha256(str(node.GetClassName()).encode())
    if segment_id:
        mask = mask_from_segment(SegmentRef(node, segment_id)).crop_to_content()
        _add_grid(digest, mask.grid)
        digest.update(np.packbits(mask.array).tobytes())
    elif node.IsA("vtkMRMLScalarVolumeNode"):
        volume = volume_from_node(node)
        _add_grid(digest, volume.grid)
        digest.update(str(volume.array.dtype).encode() + np.ascontiguousarray(volume.array).tobytes())
    elif node.IsA("vtkMRMLTableNode"):
        table = node.GetTable()
        for column in range(table.GetNumberOfColumns()):
            values = table.GetColumn(column)
            cells = [values.GetVariantValue(row).ToString() for row in range(values.GetNumberOfValues())]
            digest.update("\x1f".join([str(values.GetName()), *cells]).encode() + b"\x1e")
    elif node.IsA("vtkMRMLTextNode"):
        digest.update(str(node.GetText() or "").encode())
    else:
        digest.update(str(node.GetName()).encode())
    return digest.hexdigest()


def _add_grid(digest, grid) -> None:
    """Place rounded to 0.1 um: a file keeps no more."""
    digest.update(repr(tuple(grid.shape)).encode())
    digest.update((np.round(np.asarray(grid.ras_from_ijk, float), 4) + 0.0).tobytes())


def tie_sources(record, sources: list[Source]) -> None:
    """Let a record reference the nodes that it was made from."""
    for source in sources:
        record.SetNodeReferenceID(INPUT + source.role, source.node_id)


def sources_of(record) -> list[Source]:
    """What a record was made from, as it was then. Raises InputError for a damaged record."""
    return [Source.from_dict(entry) for entry in read_record(record).get("sources") or []]


def stale_reasons(record) -> list[str]:
    """Why a result no longer belongs to what is in the scene, one line an input; [] while all is as it was.

    No record, or one without sources (a score made from values that were typed), is never stale.
    """
    reasons = []
    for source in sources_of(record):
        node = record.GetNodeReference(INPUT + source.role)
        if node is None or not node.GetScene():
            reasons.append(f"{source.role}: {source.name} was deleted")
            continue
        try:
            now = content_hash(node, source.segment_id)
        except IRAIError as error:
            reasons.append(f"{source.role}: {error}")
            continue
        if now != source.sha256:
            reasons.append(f"{source.role}: {source.name} was changed after this result")
        elif node.IsA("vtkMRMLTextNode"):
            reasons += [f"{source.role}: {reason}" for reason in stale_reasons(node)]
    return reasons


def require_unchanged(sources: list[Source]) -> None:
    """After a long job: its inputs must still be in the scene, and be what they were. Raises InputError."""
    import slicer

    for source in sources:
        node = slicer.mrmlScene.GetNodeByID(source.node_id)
        if node is None:
            raise InputError(f"{source.name} was deleted while the job ran; nothing was written, choose the inputs "
                             "and run it again")
        if content_hash(node, source.segment_id) != source.sha256:
            raise InputError(f"{source.name} was changed while the job ran; nothing was written, run it again")


def parse_link(link: str) -> Source:
    """A link's parts as a Source without role. Raises InputError for a text that is no such link."""
    parts = urlsplit(str(link).strip())
    path = [unquote(piece) for piece in (parts.netloc + parts.path).split("/")]
    if parts.scheme != SCHEME or path[:1] != ["node"] or len(path) not in (2, 4) or not path[1] \
            or (len(path) == 4 and path[2] != "segment"):
        raise InputError(f"'{str(link)[:80]}' is no link to a node; it should look like irai://node/ID")
    asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
    return Source("", path[1], asked.get("class", ""), asked.get("name", ""), asked.get("sha256", ""),
                  path[3] if len(path) == 4 else "")


def find_node(link: str | Source) -> Found:
    """The node of a link in this scene: by ID, else by content, else by its name where only one fits.

    Raises InputError when it isn't there any more.
    """
    import slicer

    wanted = parse_link(link) if isinstance(link, str) else link
    nodes = [slicer.mrmlScene.GetNodeByID(wanted.node_id), *slicer.util.getNodesByClass(wanted.class_name or
                                                                                       "vtkMRMLNode")]
    candidates = [node for node in dict.fromkeys(node for node in nodes if node is not None) if _fits(node, wanted)]
    for node in candidates:
        if wanted.sha256 and _hash_or_none(node, wanted.segment_id) == wanted.sha256:
            return Found(node, wanted.segment_id, False)
    named = [node for node in candidates if not wanted.name or _name(node, wanted.segment_id) == wanted.name]
    exact = [node for node in named if node.GetID() == wanted.node_id] or named
    if len(exact) != 1:
        raise InputError(f"{wanted.name or wanted.node_id}: not in this scene; it was deleted, or the report belongs "
                         "to another scene")
    return Found(exact[0], wanted.segment_id, bool(wanted.sha256))


def _fits(node, wanted: Source) -> bool:
    if wanted.class_name and node.GetClassName() != wanted.class_name:
        return False
    if not wanted.segment_id:
        return True
    return node.IsA("vtkMRMLSegmentationNode") and node.GetSegmentation().GetSegment(wanted.segment_id) is not None


def _name(node, segment_id: str) -> str:
    return SegmentRef(node, segment_id).name if segment_id else str(node.GetName())


def _hash_or_none(node, segment_id: str) -> str | None:
    try:
        return content_hash(node, segment_id)
    except IRAIError:
        return None


def select_node(found: Found) -> int:
    """Make a node the one that Slicer's modules show. Returns its item in the subject hierarchy, 0 without one."""
    import slicer

    selection = slicer.app.applicationLogic().GetSelectionNode()
    for kind, choose in (("vtkMRMLVolumeNode", "SetActiveVolumeID"), ("vtkMRMLTableNode", "SetActiveTableID")):
        if selection is not None and found.node.IsA(kind):
            getattr(selection, choose)(found.node.GetID())
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if tree is None:
        return 0
    item = tree.GetItemByDataNode(found.node)
    if item and found.segment_id:
        children: list[int] = []
        tree.GetItemChildren(item, children, False)
        return next((child for child in children
                     if tree.GetItemAttribute(child, "segmentID") == found.segment_id), item)
    return int(item)
