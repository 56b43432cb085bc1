"""Cases for the tests of the virtual biopsy in the scene: analytic bodies, and a worker that runs here."""

from __future__ import annotations

import importlib

import numpy as np
from IRAILib.geometry import Grid, Mask, Volume


def here(target, kwargs, progress=None, cancelled=None, timeout_s=None):
    """Stands in for jobs.run_job: the same function, in this process."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(**kwargs)


def oblique_grid(shape=(24, 40, 44), spacing_kji=(2.5, 1.0, 0.8), turn=0.35) -> Grid:
    c, s = np.cos(turn), np.sin(turn)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[-c, s, 0.0], [-s, -c, 0.0], [0.0, 0.0, 1.0]]) @ np.diag(spacing_kji[::-1])
    matrix[:3, 3] = np.array([12.0, -30.0, 55.0]) - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2.0)
    return Grid(shape, matrix)


def ellipsoid(grid: Grid, radii_mm, centre=(12.0, -30.0, 55.0)) -> np.ndarray:
    """(k, j, i) bool; the radii lie along the world's axes."""
    points = grid.points_ras(np.argwhere(np.ones(grid.shape, bool)).astype(float))
    return (np.linalg.norm((points - np.array(centre)) / np.array(radii_mm), axis=1) < 1.0).reshape(grid.shape)


def body_case(radii_mm=(11.0, 8.0, 14.0), organ_mm=(15.0, 15.0, 26.0), modality="CT"):
    """A case in the scene: a body in an organ with two intensities. Returns (case, volume, mask)."""
    import slicer
    from IRAILib.scene.biopsy_case import BiopsyCase
    from IRAILib.scene.nodes import SegmentRef
    from IRAILib.scene.write import mask_to_segment, volume_to_node

    grid = oblique_grid()
    inside, organ = ellipsoid(grid, radii_mm), ellipsoid(grid, organ_mm)
    values = np.random.default_rng(3).normal(100.0, 6.0, grid.shape)
    values[inside] += 30.0
    values[ellipsoid(grid, np.array(radii_mm) * 0.6)] -= 90.0
    volume = Volume(values.astype(np.int16), grid, "CT")
    node = volume_to_node(volume, slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT"))
    node.SetAttribute("DICOM.Modality", modality)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segments")
    segmentation.CreateDefaultDisplayNodes()
    mask = Mask(inside, grid, "Lesion")
    lesion = SegmentRef(segmentation, mask_to_segment(segmentation, mask, "Lesion"))
    liver = SegmentRef(segmentation, mask_to_segment(segmentation, Mask(organ, grid), "Liver"))
    return BiopsyCase(node, lesion, liver), volume, mask


def set_segment(ref, array, grid) -> None:
    """Draw another shape into a segment, as the Segment Editor does."""
    import slicer
    from IRAILib.scene.write import oriented_image

    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(oriented_image(grid, array), ref.node,
                                                                        ref.segment_id)


def cohort_table(path, features: dict, n: int = 9, settings_hash: str | None = None):
    """A table of n other patients whose values are this patient's times 0.5, 0.6, ... : the place is known."""
    keys = list(features)
    lines = [",".join(["patient", *(["settings_hash"] if settings_hash else []), *keys])]
    for row in range(n):
        cells = ["" if features[key] is None else repr(features[key] * (0.5 + 0.1 * row)) for key in keys]
        lines.append(",".join([f"P{row:02d}", *([settings_hash] if settings_hash else []), *cells]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
