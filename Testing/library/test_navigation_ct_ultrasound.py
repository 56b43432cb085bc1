"""The simulator's geometry and physics on bodies whose echo is known."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.geometry import Grid, InputError, Volume
from IRAILib.navigation.ct_ultrasound import Probe, simulate_ultrasound, tissue_from_ct

SIZE = 80
LINEAR = Probe(radius_mm=None, width=60.0, depth_mm=80.0, lines=96, samples=300, mm_per_px=0.5)


def block(**parts: tuple) -> Volume:
    """A block of muscle from y = 0 down (HU 50) with air above and parts ((low, high) corners mm, HU)."""
    matrix = np.diag([1.25, 1.25, 1.25, 1.0])
    matrix[:3, 3] = (-50, -10, -50)
    where = Grid((SIZE, SIZE, SIZE), matrix)
    points = where.all_points_ras()
    array = np.where(points[..., 1] < 0, -1000.0, 50.0)
    for low, high, value in parts.values():
        array[((points >= low) & (points <= high)).all(-1)] = value
    return Volume(array.astype(np.float32), where, "block")


def frame(volume: Volume, probe: Probe = LINEAR, pose: np.ndarray | None = None, **options):
    return simulate_ultrasound(tissue_from_ct(volume, **options), np.eye(4) if pose is None else pose, probe, seed=1)


def region(found, x: tuple[float, float], y: tuple[float, float]) -> float:
    """Mean grey value where x and y (mm, RAS) lie within limits."""
    rows, columns = np.mgrid[: found.image.shape[0], : found.image.shape[1]]
    m = found.ras_from_pixel
    px, py = columns * m[0, 0] + rows * m[0, 1] + m[0, 3], columns * m[1, 0] + rows * m[1, 1] + m[1, 3]
    inside = found.seen & (px > x[0]) & (px < x[1]) & (py > y[0]) & (py < y[1])
    assert inside.sum() > 20
    return float(found.image[inside].mean())


def test_bone_and_gas_throw_shadows_and_shine_at_the_near_side():
    for value in (1200.0, -1000.0):
        found = frame(block(part=((-10, 30, -50), (10, 38, 50), value)))
        free = region(found, (15, 28), (50, 70))
        assert region(found, (-6, 6), (50, 70)) < free - 60
        shine = max(region(found, (-6, 6), (y, y + 1.2)) for y in np.arange(27, 33, 0.5))
        assert shine > free + 10


def test_an_interface_lies_where_its_pose_says():
    """A thin plate across the beam, the probe turned and moved: the brightest row maps back onto the plate."""
    turn = np.eye(4)
    turn[:3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    turn[:3, 3] = (4, -2, 7)
    for pose in (np.eye(4), turn):
        for probe in (LINEAR, Probe(radius_mm=40.0, width=50.0, depth_mm=80.0, lines=96, samples=300, mm_per_px=0.5)):
            found = frame(block(part=((-50, 40, -50), (50, 41.5, 50), 400.0)), probe, pose)
            middle = found.image.shape[1] // 2
            columns = found.image[:, middle - 8:middle + 8].astype(float).mean(axis=1)
            rows = np.arange(len(columns))
            y = found.ras_from_pixel[1, 0] * middle + found.ras_from_pixel[1, 1] * rows + found.ras_from_pixel[1, 3]
            deep = y > 15
            assert abs(y[deep][np.argmax(columns[deep])] - 40.0) < 2.0


def test_a_vessel_is_dark_whatever_its_contrast():
    labels = block(part=((-6, 30, -50), (6, 42, 50), 7.0))
    labels = labels.with_array((labels.array == 7).astype(np.uint8))
    for value in (50.0, 250.0):
        found = frame(block(part=((-6, 30, -50), (6, 42, 50), value)), labels=labels, fluid_labels=(1,))
        assert region(found, (-3, 3), (33, 39)) < region(found, (12, 25), (33, 39)) - 60
        assert region(found, (-3, 3), (55, 70)) > region(found, (12, 25), (55, 70)) - 20  # no shadow behind blood


def test_it_is_marked_and_repeats_itself():
    found, again = frame(block()), frame(block())
    np.testing.assert_array_equal(found.image, again.image)
    assert found.metadata["simulated"]
    assert found.metadata["image_type"] == "DERIVED"
    assert "simulated" in found.metadata["validated_on"]
    word = found.image[:9, :50]
    assert set(np.unique(word)) <= {int(word.min()), int(word.max())}  # burned in, two values
    assert not found.seen[:9, :30].any() or (found.image != frame(block(), pose=np.eye(4)).image).sum() == 0


def test_hostile_input():
    with pytest.raises(InputError, match="Hounsfield"):
        tissue_from_ct(Volume(np.ones((5, 5, 5)), Grid((5, 5, 5), np.eye(4))))
    with pytest.raises(InputError, match="grid"):
        tissue_from_ct(block(), Volume(np.ones((5, 5, 5)), Grid((5, 5, 5), np.eye(4))))
    with pytest.raises(InputError, match="Hounsfield"):
        tissue_from_ct(block().with_array(np.full((SIZE,) * 3, np.nan)))
    tissue = tissue_from_ct(block())
    for pose in (np.eye(3), np.full((4, 4), np.inf)):
        with pytest.raises(InputError):
            simulate_ultrasound(tissue, pose)
    far = np.eye(4)
    far[0, 3] = 5000.0
    with pytest.raises(InputError, match="doesn't look"):
        simulate_ultrasound(tissue, far)
    for bad in ({"depth_mm": 0.0}, {"lines": 1}, {"width": float("nan")}, {"width": 200.0}):
        with pytest.raises(InputError):
            Probe(**bad)
