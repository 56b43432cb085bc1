"""A case from files as nodes: what the console and a script put into the scene before they measure."""

from __future__ import annotations

from ..geometry import Mask, Volume
from .ablation import AblationCase
from .changes import SceneChange, put_in_folder
from .nodes import SegmentRef
from .sample import LIVER_COLOR, TUMOR_COLOR, VESSEL_COLOR, ZONE_COLOR
from .write import mask_to_segment, volume_to_node

FOLDER = "Case"
CT_WINDOW = (350.0, 60.0)
CT_RANGE_HU = (-1200.0, 200.0)
"""An image whose minimum lies between these is shown in the CT window."""


def load_case(tumor: Mask, ablation: Mask, *, pre: Volume | None = None, post: Volume | None = None,
              organ: Mask | None = None, organ_pre: Mask | None = None, vessels: Mask | None = None) -> AblationCase:
    """Put images and masks into the scene as volumes and two segmentations, "Before" and "After".

    Args:
        tumor, pre, organ_pre: in the frame before the ablation.
        ablation, post, organ, vessels: in the frame after it.
    Returns: the nodes as a case; nothing stays in the scene when something fails.
    """
    with SceneChange() as change:
        volumes = [_volume(change, volume, name) for volume, name in ((pre, "Before (CT)"), (post, "After (CT)"))]
        before = _segmentation(change, "Before", [(tumor, "Tumour", TUMOR_COLOR), (organ_pre, "Organ", LIVER_COLOR)])
        after = _segmentation(change, "After", [(ablation, "Ablation zone", ZONE_COLOR),
                                                (organ, "Organ", LIVER_COLOR), (vessels, "Vessels", VESSEL_COLOR)])
        put_in_folder(change.added, FOLDER)
    return AblationCase(tumor=before["Tumour"], ablation=after["Ablation zone"], pre=volumes[0], post=volumes[1],
                        organ=after.get("Organ"), organ_pre=before.get("Organ"), vessels=after.get("Vessels"))


def _volume(change: SceneChange, volume: Volume | None, name: str):
    if volume is None:
        return None
    modality = str(volume.metadata.get("modality") or "")
    node = volume_to_node(volume, change.add("vtkMRMLScalarVolumeNode", name.replace("CT", modality or "image"),
                                             "case.volume"))
    if modality == "CT" or CT_RANGE_HU[0] <= float(volume.array.min()) < CT_RANGE_HU[1] - 300.0:
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevel(*CT_WINDOW)
    return node


def _segmentation(change: SceneChange, name: str, parts) -> dict[str, SegmentRef]:
    node = change.add("vtkMRMLSegmentationNode", name, "case.segmentation")
    node.CreateDefaultDisplayNodes()
    refs = {title: SegmentRef(node, mask_to_segment(node, mask, title, color))
            for mask, title, color in parts if mask is not None}
    display = node.GetDisplayNode()
    for title, ref in refs.items():
        display.SetSegmentOpacity2DFill(ref.segment_id, 0.0)
        display.SetSegmentOpacity3D(ref.segment_id, 0.12 if title in {"Organ", "Vessels"} else 0.3)
    return refs
