"""A path on an X-ray picture: against a pinhole written here, and looked at in the pixels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from IRAILib.geometry import CArmGeometry, InputError
from IRAILib.navigation.path_overlay import BAND_SIGMAS, draw_paths, project_path

GEOMETRY = CArmGeometry(np.array([0, -700.0, 0]), np.array([150.0, 300.0, 150.0]), np.array([-1.0, 0, 0]),
                        np.array([0, 0, -1.0]), (301, 301))


def pinhole(point) -> tuple[float, float]:
    scale = 1000.0 / (point[1] + 700.0)
    return 150.0 - point[0] * scale, 150.0 - point[2] * scale


def test_ends_fall_where_a_pinhole_puts_them_after_registration() -> None:
    table_from_ras = np.eye(4)
    table_from_ras[:3, 3] = (5.0, -20.0, 8.0)
    path = project_path([[30, -40, 10], [12, 25, 2.0]], GEOMETRY, table_from_ras=table_from_ras, sigma_mm=1.5)
    assert path.entry_px == pytest.approx(pinhole((35, -60, 18)))
    assert path.tip_px == pytest.approx(pinhole((17, 5, 10)))
    assert path.seen
    assert path.band_px[0] == pytest.approx(BAND_SIGMAS * 1.5 * 1000.0 / 640.0)
    assert path.to_dict()["uncertainty"]["sigma_mm"] == 1.5


def test_a_path_along_the_beam_is_a_point() -> None:
    beam = np.array([10.0, 0, 5]) - GEOMETRY.source_mm
    unit = beam / np.linalg.norm(beam)
    path = project_path([[10.0, 0, 5], np.array([10.0, 0, 5]) + 60 * unit], GEOMETRY)
    assert np.linalg.norm(path.entry_px - path.tip_px) < 1e-9
    assert path.foreshortening < 1e-9
    side = project_path([[-30.0, 0, 0], [30.0, 0, 0]], GEOMETRY)
    assert side.foreshortening == pytest.approx(1.0, abs=1e-6)


def test_the_drawn_pixels_are_coloured_and_the_rest_is_grey() -> None:
    image = np.tile(np.arange(301.0), (301, 1))
    path = project_path([[-40, 0, 0], [40, 0, 0.0]], GEOMETRY, sigma_mm=4.0)
    drawn = draw_paths(image, [path])
    assert drawn.shape == (301, 301, 3)
    assert drawn.dtype == np.uint8
    middle = np.round((path.entry_px + path.tip_px) / 2).astype(int)
    assert tuple(drawn[middle[1], middle[0]]) == (255, 210, 0)
    band = drawn[middle[1] + 8, middle[0]].astype(int)
    assert band[0] > band[2]
    assert (np.ptp(drawn[:100].astype(int), axis=2) == 0).all()
    assert (np.ptp(draw_paths(image, []).astype(int), axis=2) == 0).all()


def test_out_of_view_and_behind_the_source() -> None:
    away = project_path([[900, 0, 0], [950, 0, 0.0]], GEOMETRY)
    assert not away.seen
    behind = project_path([[0, -900, 0], [0, -800, 0.0]], GEOMETRY)
    assert not behind.seen
    assert np.isnan(behind.pixels).all()
    assert json.loads(json.dumps(behind.to_dict(), allow_nan=False))["entry_px"] == [None, None]
    grey = draw_paths(np.full((301, 301), np.nan), [away, behind])
    assert (np.ptp(grey.astype(int), axis=2) == 0).all()


@pytest.mark.parametrize("points", [[[0, 0, 0]], [[0, 0], [1, 1]], [[0, 0, np.nan], [1, 1, 1]], []])
def test_bad_paths(points) -> None:
    with pytest.raises(InputError):
        project_path(points, GEOMETRY)


def test_bad_pictures_and_maps() -> None:
    path = [[0, 0, 0], [1, 1, 1.0]]
    with pytest.raises(InputError):
        project_path(path, GEOMETRY, sigma_mm=-1)
    with pytest.raises(InputError):
        project_path(path, GEOMETRY, table_from_ras=np.eye(3))
    with pytest.raises(InputError):
        draw_paths(np.zeros((4, 4, 3)), [])
