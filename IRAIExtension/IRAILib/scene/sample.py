"""The sample case in the scene: the phantom of `ablation.phantom` as two volumes and two segmentations."""

from __future__ import annotations

from typing import Any

from .ablation import AblationCase
from .changes import SceneChange, put_in_folder
from .nodes import SegmentRef
from .write import mask_to_segment, volume_to_node

FOLDER = "IRAI sample case (synthetic)"
TUMOR_COLOR, ZONE_COLOR = (0.94, 0.45, 0.15), (0.35, 0.65, 0.90)
LIVER_COLOR, VESSEL_COLOR = (0.86, 0.60, 0.45), (0.55, 0.30, 0.60)
WINDOW, LEVEL = 350.0, 60.0


def load_sample_case(truth: Any = None, **options) -> tuple[AblationCase, Any]:
    """Add the sample case to the scene.

    Args:
        truth: a PhantomCase made before; None makes one.
        options: as `ablation.phantom.phantom_case` takes them.
    Returns: the case as nodes (nothing registered yet), and the PhantomCase with its truth.
    """
    from ..ablation.phantom import phantom_case

    truth = truth or phantom_case(**options)
    with SceneChange() as change:
        volumes = []
        for volume in (truth.pre, truth.post):
            node = volume_to_node(volume, change.add("vtkMRMLScalarVolumeNode", volume.name, "sample.volume"))
            node.SetAttribute("DICOM.Modality", "CT")
            node.SetAttribute("IRAI.Synthetic", "1")
            node.GetDisplayNode().SetAutoWindowLevel(False)
            node.GetDisplayNode().SetWindowLevel(WINDOW, LEVEL)
            volumes.append(node)
        before = _segmentation(change, "Before", [(truth.tumor, "Tumour", TUMOR_COLOR),
                                                  (truth.organ_pre, "Liver", LIVER_COLOR)])
        after = _segmentation(change, "After", [(truth.ablation, "Ablation zone", ZONE_COLOR),
                                                (truth.organ_post, "Liver", LIVER_COLOR),
                                                (truth.vessels, "Vessels", VESSEL_COLOR)])
        put_in_folder(change.added, FOLDER)
    case = AblationCase(tumor=before["Tumour"], ablation=after["Ablation zone"], pre=volumes[0], post=volumes[1],
                        organ=after["Liver"], organ_pre=before["Liver"], vessels=after["Vessels"])
    return case, truth


def _segmentation(change: SceneChange, name: str, parts) -> dict[str, SegmentRef]:
    node = change.add("vtkMRMLSegmentationNode", name, "sample.segmentation")
    node.CreateDefaultDisplayNodes()
    refs = {title: SegmentRef(node, mask_to_segment(node, mask, title, color)) for mask, title, color in parts}
    display = node.GetDisplayNode()
    for title, ref in refs.items():
        display.SetSegmentOpacity2DFill(ref.segment_id, 0.0)
        display.SetSegmentOpacity3D(ref.segment_id, 0.3)
        display.SetSegmentVisibility3D(ref.segment_id, title != "Liver")
    return refs
