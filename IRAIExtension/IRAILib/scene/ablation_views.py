"""What the slice and 3D views show at each step: side by side, checkerboard, fade, the thinnest point."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry import InputError
from .changes import SceneChange, link_parts, part_of, put_in_folder, remove_node
from .nodes import volume_from_node
from .traffic_light import SCALAR
from .write import volume_to_node

CHECKER_MM = 25.0
"""Edge of a field of the checkerboard: several fit into a liver, and an edge is long enough to judge a shift."""
ZONE_OPACITY = 0.25
LEFT, RIGHT = "Red", "Yellow"


def show_case(pre, post) -> None:
    """The image before on the left, the one after on the right (one of them everywhere when the other is None)."""
    if pre is None or post is None:
        _set_layers({}, pre or post)
        return
    _layout("SlicerLayoutSideBySideView")
    _set_layers({LEFT: (pre, None, 0.0), RIGHT: (post, None, 0.0)}, post)


def show_side_by_side(record) -> None:
    """The registered image before on the left, the one after on the right, same slice, linked."""
    registered, post = _registered_pair(record)
    _layout("SlicerLayoutSideBySideView")
    _same_orientation()
    _link(True)
    _set_layers({LEFT: (registered, None, 0.0), RIGHT: (post, None, 0.0)}, post)


def show_fade(record, share: float) -> None:
    """The registered image before laid over the one after, `share` 0 to 1 of it visible."""
    registered, post = _registered_pair(record)
    _set_layers({}, post, registered, share)


def show_checkerboard(record) -> Any:
    """Fields of the two images in turn. Returns the volume node, made on first use and kept with the record."""
    registered, post = _registered_pair(record)
    node = part_of(record, "checkerboard")
    if node is None:
        board = checkerboard(volume_from_node(registered), volume_from_node(post))
        with SceneChange() as change:
            node = volume_to_node(board, change.add(
                "vtkMRMLScalarVolumeNode", "Registration checkerboard", "registration.checkerboard"))
            link_parts(record, {"checkerboard": node})
            put_in_folder([node], _folder_of(record))
        source, target = post.GetDisplayNode(), node.GetDisplayNode()
        if source is not None and target is not None:
            target.SetAutoWindowLevel(False)
            target.SetWindowLevel(source.GetWindow(), source.GetLevel())
    _set_layers({}, node)
    return node


def checkerboard(first, second, field_mm: float = CHECKER_MM):
    """Volume whose fields come from two Volumes on one grid in turn, values of `second`'s scale.

    Two CTs are shown as they are; when either is no CT, `first` is brought to the percentiles of `second`.
    Raises InputError when the grids differ.
    """
    if not first.grid.same_grid(second.grid):
        raise InputError(f"{first.name} and {second.name} lie on different grids; register them again")
    fields = [np.floor(np.arange(n) * s / field_mm).astype(int)
              for n, s in zip(first.array.shape, first.grid.spacing_kji_mm, strict=True)]
    odd = (fields[0][:, None, None] + fields[1][None, :, None] + fields[2][None, None, :]) % 2 == 1
    other = first.array
    if {first.metadata.get("modality"), second.metadata.get("modality")} & {"MR", "PT", "US"}:
        low, high = np.percentile(first.array, (1, 99))
        bottom, top = np.percentile(second.array, (1, 99))
        other = (first.array - low) * (top - bottom) / max(high - low, 1e-6) + bottom
    return second.with_array(np.where(odd, other, second.array).astype(second.array.dtype))


def show_margin(case, record) -> None:
    """The image after with the thin region, the coloured surface in 3D, and the thinnest point in every slice."""
    _layout("SlicerLayoutFourUpView")
    if case.post is not None:
        _set_layers({}, case.post)
    hide_surfaces([case.tumor])
    show_translucent(case.ablation)
    model = part_of(record, "model")
    if model is not None and model.GetDisplayNode() is not None:
        model.GetDisplayNode().SetVisibility(True)
        model.GetDisplayNode().SetActiveScalarName(SCALAR)
    jump_to_thinnest(record)
    _reset_3d()


def jump_to_thinnest(record) -> np.ndarray | None:
    """Move every slice to the thinnest point. Returns it, (3,) RAS mm, or None when there is none."""
    import slicer

    node = part_of(record, "thinnest")
    if node is None or not node.GetNumberOfControlPoints():
        return None
    point = np.zeros(3)
    node.GetNthControlPointPositionWorld(0, point)
    for slice_node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        slice_node.JumpSliceByCentering(*point)
    return point


def hide_surfaces(refs) -> None:
    """Take segments out of the 3D view, so that the coloured surface isn't covered; they stay in the slices."""
    for ref in refs:
        if ref is None:
            continue
        display = ref.node.GetDisplayNode()
        if display is not None:
            display.SetSegmentVisibility3D(ref.segment_id, False)


def show_translucent(ref) -> None:
    """Show a segment in 3D so that what lies inside it is seen."""
    ref.node.CreateClosedSurfaceRepresentation()
    display = ref.node.GetDisplayNode()
    if display is not None:
        display.SetSegmentVisibility3D(ref.segment_id, True)
        display.SetSegmentOpacity3D(ref.segment_id, ZONE_OPACITY)


def forget_checkerboard(record) -> None:
    """Remove the checkerboard volume, if there is one."""
    node = part_of(record, "checkerboard")
    if node is not None:
        remove_node(node)


def _registered_pair(record):
    registered = part_of(record, "registered")
    post = record.GetNodeReference("IRAI.Fixed") if record is not None else None
    if registered is None or post is None:
        raise InputError("the registered image or the image after the ablation was deleted; register again")
    return registered, post


def _folder_of(record) -> str:
    import slicer

    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    return tree.GetItemName(tree.GetItemParent(tree.GetItemByDataNode(record)))


def _layout(name: str) -> None:
    import slicer

    manager = slicer.app.layoutManager()
    if manager is not None:
        manager.setLayout(getattr(slicer.vtkMRMLLayoutNode, name))


def _set_layers(special: dict, background, foreground=None, opacity: float = 0.0) -> None:
    """Volumes of every slice view; `special` maps a view's name to (background, foreground, opacity)."""
    import slicer

    for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        back, fore, share = special.get(node.GetLayoutName(), (background, foreground, opacity))
        node.SetBackgroundVolumeID(back.GetID() if back is not None else None)
        node.SetForegroundVolumeID(fore.GetID() if fore is not None else None)
        node.SetForegroundOpacity(share)


def _link(linked: bool) -> None:
    import slicer

    for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        node.SetLinkedControl(linked)


def _same_orientation() -> None:
    import slicer

    slices = {node.GetLayoutName(): node for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")}
    if LEFT in slices and RIGHT in slices:
        slices[LEFT].SetOrientation("Axial")
        slices[RIGHT].SetOrientation("Axial")
        slices[RIGHT].SetFieldOfView(*slices[LEFT].GetFieldOfView())


def _reset_3d() -> None:
    import slicer

    manager = slicer.app.layoutManager()
    if manager is not None:
        manager.resetThreeDViews()
