"""Scan conversion against points whose place is known from trigonometry, and there and back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from IRAILib.geometry import InputError
from IRAILib.needle.ultrasound.scanconvert import (
    CurvedScan,
    LinearScan,
    picture_around,
    picture_from_scan,
    scan_from_picture,
)

SCANS = {"linear": LinearScan(128, 400, 38.0, 50.0), "steered": LinearScan(128, 400, 38.0, 50.0, 15.0),
         "curved": CurvedScan(160, 500, 60.0, 120.0, -34.0, 34.0), "phased": CurvedScan(96, 400, 0.0, 150.0, -45, 45)}


def test_known_places_in_mm() -> None:
    linear, steered = SCANS["linear"], SCANS["steered"]
    np.testing.assert_allclose(linear.mm_from_scan(np.array([[0, 0], [127, 399]])), [[-19, 0], [19, 50]], atol=1e-9)
    end = steered.mm_from_scan(np.array([0.0, 399.0]))
    np.testing.assert_allclose(end, [-19 + 50 * math.sin(math.radians(15)), 50 * math.cos(math.radians(15))])
    curved = SCANS["curved"]
    angle = math.radians(34.0)
    np.testing.assert_allclose(curved.mm_from_scan(np.array([159.0, 499.0])),
                               [180 * math.sin(angle), 180 * math.cos(angle) - 60], atol=1e-9)
    np.testing.assert_allclose(curved.mm_from_scan(np.array([79.5, 0.0])), [0, 0], atol=1e-9)


@pytest.mark.parametrize("name", SCANS)
def test_points_go_there_and_back(name: str) -> None:
    scan = SCANS[name]
    generator = np.random.default_rng(0)
    points = generator.uniform([0, 1], [scan.lines - 1, scan.samples - 1], (200, 2))
    np.testing.assert_allclose(scan.scan_from_mm(scan.mm_from_scan(points)), points, atol=1e-8)


@pytest.mark.parametrize("name", SCANS)
def test_a_point_target_lands_where_trigonometry_says(name: str) -> None:
    scan = SCANS[name]
    picture = picture_around(scan, 0.25)
    line, sample = 0.7 * scan.lines, 0.6 * scan.samples
    samples, lines = np.mgrid[: scan.samples, : scan.lines]
    data = np.exp(-0.5 * (((lines - line) / 1.5) ** 2 + ((samples - sample) / 3.0) ** 2))
    image, inside = picture_from_scan(data, scan, picture)
    assert 0.3 < inside.mean() <= 1.0
    assert not image[~inside].any()
    y, x = np.mgrid[: picture.height_px, : picture.width_px]
    found = picture.mm_from_px(np.array([(x * image).sum(), (y * image).sum()]) / image.sum())
    if isinstance(scan, LinearScan):
        along = sample * scan.depth_mm / (scan.samples - 1)
        lean = math.radians(scan.steer_deg)
        truth = (line / (scan.lines - 1) - 0.5) * scan.width_mm + along * math.sin(lean), along * math.cos(lean)
    else:
        angle = math.radians(scan.first_deg + line / (scan.lines - 1) * (scan.last_deg - scan.first_deg))
        radius = scan.radius_mm + sample / (scan.samples - 1) * scan.depth_mm
        truth = radius * math.sin(angle), radius * math.cos(angle) - scan.radius_mm
    np.testing.assert_allclose(found, truth, atol=0.15)


@pytest.mark.parametrize("name", SCANS)
def test_an_image_goes_there_and_back(name: str) -> None:
    scan = SCANS[name]
    samples, lines = np.mgrid[: scan.samples, : scan.lines]
    data = 100 + 50 * np.sin(lines / 9.0) * np.cos(samples / 23.0)
    picture = picture_around(scan, 0.1)
    again = scan_from_picture(picture_from_scan(data, scan, picture)[0], picture, scan)
    inner = np.s_[20:-3, 3:-3]
    assert np.isfinite(again[inner]).all()
    assert np.abs(again - data)[inner].max() < 2.0
    assert np.abs(again - data)[inner].mean() < 0.3


def test_wrong_sizes_are_refused() -> None:
    for make in (lambda: LinearScan(128, 400, -38.0, 50.0), lambda: LinearScan(1, 400, 38.0, 50.0),
                 lambda: LinearScan(128, 400, 38.0, math.nan), lambda: LinearScan(128, 400, 38.0, 50.0, 80.0),
                 lambda: CurvedScan(128, 400, 60.0, 90.0, 30.0, -30.0),
                 lambda: CurvedScan(128, 400, -1.0, 90.0, -30.0, 30.0),
                 lambda: picture_around(SCANS["linear"], 0.0)):
        with pytest.raises(InputError):
            make()
    picture = picture_around(SCANS["linear"], 0.5)
    with pytest.raises(InputError):
        picture_from_scan(np.zeros((128, 400)), SCANS["linear"], picture)
    with pytest.raises(InputError):
        scan_from_picture(np.zeros((3, 3)), picture, SCANS["linear"])
