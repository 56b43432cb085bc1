"""All or nothing: what one step adds to the scene stays when the step ends well and goes when it doesn't."""

from __future__ import annotations

from typing import Any

from ..geometry import InputError

ROLE = "IRAI.Role"
"""Attribute of every node that a step wrote: what it is, e.g. "margin.model"."""
PART = "IRAI.Part."
"""Reference role, with the part's name behind it, from a step's record to each node that belongs to it."""


class SceneChange:
    """Context manager: nodes added through it are removed again when its block raises.

    When the block ends well, the nodes of the earlier results named in `replaces` are removed, so that a
    second run replaces the first. The scene is in batch mode meanwhile: widgets see one change.
    """

    def __init__(self, replaces: list[Any] | None = None) -> None:
        import slicer

        self.scene = slicer.mrmlScene
        self.added: list[Any] = []
        self.replaces = [node for node in replaces or [] if node is not None]

    def __enter__(self) -> SceneChange:
        self.scene.StartState(self.scene.BatchProcessState)
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            for node in self.replaces if kind is None else reversed(self.added):
                remove_node(node)
        finally:
            self.scene.EndState(self.scene.BatchProcessState)

    def add(self, class_name: str, name: str, role: str) -> Any:
        """A new node of a class (also one without display), marked with its role."""
        node = self.scene.AddNewNodeByClass(class_name, name)
        if node is None:
            raise InputError(f"{class_name}: this Slicer can't make such a node")
        node.SetAttribute(ROLE, role)
        self.added.append(node)
        return node


def remove_node(node) -> None:
    """Take a node out of its scene, with the display and storage nodes that only it used."""
    scene = node.GetScene()
    if scene is None or not scene.IsNodePresent(node):
        return
    helpers = []
    for count, get in (("GetNumberOfDisplayNodes", "GetNthDisplayNode"),
                       ("GetNumberOfStorageNodes", "GetNthStorageNode")):
        if hasattr(node, count):
            helpers += [getattr(node, get)(n) for n in range(getattr(node, count)())]
    scene.RemoveNode(node)
    for helper in helpers:
        if helper is not None and scene.IsNodePresent(helper):
            scene.RemoveNode(helper)


def link_parts(record, parts: dict[str, Any]) -> None:
    """Let a step's record reference the nodes of that step, by name."""
    for name, node in parts.items():
        if node is not None:
            record.SetNodeReferenceID(PART + name, node.GetID())


def part_of(record, name: str) -> Any:
    """The node that a record calls `name`, or None (the user may have deleted it)."""
    return record.GetNodeReference(PART + name) if record is not None else None


def parts_of(record) -> list[Any]:
    """Every node of the step that `record` describes, the record last."""
    if record is None:
        return []
    roles: list[str] = []
    record.GetNodeReferenceRoles(roles)
    nodes = [record.GetNodeReference(role) for role in roles if role.startswith(PART)]
    return [*[node for node in nodes if node is not None], record]


def put_in_folder(nodes: list[Any], folder_name: str) -> int:
    """Put nodes into the subject-hierarchy folder of that name, made when missing. Returns its item ID."""
    import slicer

    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    root = tree.GetSceneItemID()
    folder = tree.GetItemChildWithName(root, folder_name)
    if not folder:
        folder = tree.CreateFolderItem(root, folder_name)
    for node in nodes:
        if node is None:
            continue
        item = tree.GetItemByDataNode(node)
        if item:
            tree.SetItemParent(item, folder)
        else:
            tree.CreateItem(folder, node)
    return folder


def remove_empty_folder(folder_name: str) -> None:
    """Remove that folder when nothing is left in it."""
    import slicer

    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    folder = tree.GetItemChildWithName(tree.GetSceneItemID(), folder_name)
    if folder and not tree.GetNumberOfItemChildren(folder):
        tree.RemoveItem(folder)
