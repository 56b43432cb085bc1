"""Small images for the tests of the images room: oblique, asymmetric, every voxel different."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from IRAILib.geometry import Grid, InputError, IRAIError, Mask, Volume
from IRAILib.images import write_dicom_series
from scipy.spatial.transform import Rotation

SHAPE = (6, 40, 50)


def oblique_grid(shape=SHAPE, spacing=(0.7, 0.9, 2.5), angles=(10, -20, 33), origin=(-35.0, 21.0, -140.0)) -> Grid:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    matrix[:3, 3] = origin
    return Grid(shape, matrix)


def axial_grid(shape=SHAPE, spacing=(0.7, 0.9, 2.5), origin=(35.0, 21.0, -140.0)) -> Grid:
    matrix = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    matrix[:3, 3] = origin
    return Grid(shape, matrix)


def image(grid: Grid | None = None) -> Volume:
    grid = grid or oblique_grid()
    values = np.random.default_rng(7).integers(-1000, 1000, grid.shape)
    return Volume(values.astype(np.int16), grid, "case")


def box_mask(grid: Grid | None = None, start=(2, 10, 20), size=(2, 7, 9)) -> Mask:
    grid = grid or oblique_grid()
    array = np.zeros(grid.shape, bool)
    array[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
    return Mask(array, grid, "box")


def write_series(folder: Path, volume: Volume | None = None, **changes) -> list[Path]:
    options = {"description": "PORTAL VENOUS", "patient_id": "P1", "patient_name": "Case^One", "synthetic": False}
    return write_dicom_series(volume or image(), folder, **(options | changes))


def edit(path: Path, **values) -> None:
    """Change elements of a DICOM file; None deletes."""
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)


def refused(call, *words: str, kind=InputError) -> str:
    """The text of the one-line error that a call must raise; it must hold all `words`."""
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word.lower() in text.lower(), f"{word!r} not in {text!r}"
    return text


def attempt(call):
    """What a call gives, or None if it raises one of our one-line errors; any other exception fails the test."""
    try:
        return call()
    except IRAIError as error:
        text = str(error)
    if "\n" in text:
        pytest.fail(f"an error of several lines: {text!r}")
    return None


def same_place(a: Grid, b: Grid, tolerance_mm: float = 1e-3) -> bool:
    return a.shape == b.shape and bool(np.abs(a.corners_ras() - b.corners_ras()).max() < tolerance_mm)
