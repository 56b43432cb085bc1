"""Which file goes to which reader: by its longest known ending, as Slicer's readers weigh it."""

from __future__ import annotations

import os

READER_EXTENSIONS = {
    "SegmentationFile": (".seg.nrrd", ".seg.nhdr", ".seg.vtm", ".vtm"),
    "MarkupsFile": (".mrk.json", ".fcsv"),
    "TransformFile": (".h5", ".tfm", ".mat", ".hdf5", ".he5"),
    "SequenceFile": (".seq.nrrd", ".seq.nhdr", ".seq.mrb"),
    "SceneFile": (".mrb", ".mrml"),
    "VolumeFile": (".nrrd", ".nhdr", ".nii.gz", ".nii", ".mha", ".mhd", ".hdr", ".img", ".img.gz", ".mgh", ".mgz",
                   ".mgh.gz", ".mnc", ".pic", ".dcm", ".ima", ".png", ".tif", ".tiff", ".jpg", ".jpeg"),
    "ModelFile": (".vtk", ".vtp", ".vtu", ".stl", ".ply", ".obj", ".g", ".byu", ".ucd"),
    "TableFile": (".tsv", ".csv"),
    "TextFile": (".txt", ".xml", ".json"),
    "ColorTableFile": (".ctbl", ".cxml"),
    "TransferFunctionFile": (".vp",),
    "ShaderPropertyFile": (".sp",),
}
"""Slicer's file types and the endings that choose them when the caller names none."""

NODE_FILE_TYPES = (
    ("vtkMRMLSegmentationNode", "SegmentationFile"),
    ("vtkMRMLVolumeNode", "VolumeFile"),
    ("vtkMRMLModelNode", "ModelFile"),
    ("vtkMRMLMarkupsNode", "MarkupsFile"),
    ("vtkMRMLTransformNode", "TransformFile"),
    ("vtkMRMLTableNode", "TableFile"),
    ("vtkMRMLTextNode", "TextFile"),
    ("vtkMRMLSequenceNode", "SequenceFile"),
    ("vtkMRMLColorNode", "ColorTableFile"),
    ("vtkMRMLVolumePropertyNode", "TransferFunctionFile"),
    ("vtkMRMLShaderPropertyNode", "ShaderPropertyFile"),
)

_BY_ENDING = sorted(((ending, file_type) for file_type, endings in READER_EXTENSIONS.items() for ending in endings),
                    key=lambda pair: -len(pair[0]))


def file_type(path: str) -> str:
    """Slicer's file type of a path, "NoFile" for an ending that no reader knows. Case doesn't count."""
    lower = str(path).lower()
    return next((kind for ending, kind in _BY_ENDING if lower.endswith(ending)), "NoFile")


def node_file_type(node) -> str:
    """Slicer's file type of what a node is saved as, "NoFile" for one that isn't saved to a file of its own."""
    return next((kind for class_name, kind in NODE_FILE_TYPES if node is not None and node.IsA(class_name)), "NoFile")


def base_name(path: str) -> str:
    """File name without folder and known ending: what desktop calls the loaded node."""
    name = os.path.basename(str(path))
    lower = name.lower()
    ending = next((ending for ending, _ in _BY_ENDING if lower.endswith(ending)), os.path.splitext(name)[1])
    return name[:len(name) - len(ending)] if ending else name
