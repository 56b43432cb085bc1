"""Image-to-probe calibration: a simulated phantom and pointer with known truth, and what must be refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from IRAILib.geometry import InputError, RefusedError
from IRAILib.navigation.nwire import NPattern, calibrate_nwire, calibrate_pointer, middle_points, pointer_tips
from IRAILib.navigation.probe import ProbeCalibration
from navigation_cases import TIP_MM, WIRES, make_phantom, random_rigid, sweep

SIZE = (600, 700)
CORNERS = np.array([[0, 0], [599, 0], [0, 699], [599, 699]], float)


def patterns(phantom) -> list[NPattern]:
    return [NPattern(names, phantom.front[n], phantom.back[n]) for n, names in enumerate(WIRES)]


def calibrated(noise_px: float, seed: int = 1, frames: int = 60):
    phantom = make_phantom()
    dots, poses = sweep(phantom, np.random.default_rng(seed), frames, noise_px)
    return phantom, calibrate_nwire(dots, patterns(phantom), poses, size_px=SIZE, depth_mm=63.0, preset="Spine")


def corner_errors(result: ProbeCalibration, phantom) -> np.ndarray:
    truth = CORNERS @ phantom.image_to_probe[:3, :2].T + phantom.image_to_probe[:3, 3]
    return np.linalg.norm(result.points_mm(CORNERS) - truth, axis=1)


def test_dots_without_noise_give_the_exact_matrix() -> None:
    phantom, result = calibrated(0.0)
    assert np.allclose(result.probe_from_image, phantom.image_to_probe, atol=1e-8)
    assert result.mm_per_px == pytest.approx((0.11, 0.09))
    assert abs(result.shear_deg) < 1e-6
    assert result.rms_mm < 1e-8


def test_the_middle_wire_is_cut_where_geometry_says() -> None:
    phantom = make_phantom()
    dots, poses = sweep(phantom, np.random.default_rng(7), 4)
    found = middle_points(dots, patterns(phantom))
    back = np.einsum("nij,npj->npi", poses[:, :3, :3], found) + poses[:, None, :3, 3]
    truth = dots[:, 1::3] @ phantom.image_to_probe[:3, :2].T + phantom.image_to_probe[:3, 3]
    assert np.allclose(back, truth, atol=1e-8)


def test_noise_of_a_pixel_stays_within_the_stated_error() -> None:
    worst, said, held, rms = [], [], [], []
    for seed in range(12):
        phantom, result = calibrated(1.0, seed)
        worst.append(corner_errors(result, phantom).max())
        said.append(result.sigma_mm["corner"])
        held.append(result.held_out_rms_mm)
        rms.append(result.rms_mm)
    assert np.median(worst) < 0.6
    assert 0.3 < np.median(worst) / np.median(said) < 3.0
    assert all(h > 0.9 * r for h, r in zip(held, rms, strict=True))


def test_wild_dots_are_left_out() -> None:
    phantom = make_phantom()
    random = np.random.default_rng(3)
    dots, poses = sweep(phantom, random, 80, 0.3)
    dots[5, 1] += (60.0, 0.0)
    dots[11, 4] += (-80.0, 1.0)
    result = calibrate_nwire(dots, patterns(phantom), poses, size_px=SIZE)
    assert {15, 34} <= set(result.outliers)
    assert corner_errors(result, phantom).max() < 0.4


def test_missing_dots_and_poses_are_passed_over() -> None:
    phantom = make_phantom()
    dots, poses = sweep(phantom, np.random.default_rng(3), 40)
    dots[4, 3:6] = np.nan
    poses[9] = np.nan
    result = calibrate_nwire(dots, patterns(phantom), poses, np.arange(40) != 9, size_px=SIZE)
    assert result.points_used == 3 * 39 - 1
    assert np.allclose(result.probe_from_image, phantom.image_to_probe, atol=1e-8)


def test_one_depth_only_is_refused() -> None:
    phantom = make_phantom()
    dots, poses = sweep(phantom, np.random.default_rng(3), 40)
    middles = dots[:, 1::3].copy()
    with pytest.raises(RefusedError, match="one depth"):
        calibrate_pointer(np.column_stack([middles[:, 0, 0], np.full(40, 300.0)]), poses[:, :3, 3])


def test_a_probe_that_was_not_moved_is_refused() -> None:
    phantom = make_phantom()
    dots, poses = sweep(phantom, np.random.default_rng(3), 1)
    with pytest.raises(RefusedError, match="sweep it"):
        calibrate_nwire(np.repeat(dots, 30, axis=0), patterns(phantom), np.repeat(poses, 30, axis=0))
    with pytest.raises(RefusedError, match="at least 5"):
        calibrate_nwire(dots, patterns(phantom), poses)


def test_poses_of_another_time_give_no_plausible_pixels_and_are_refused() -> None:
    phantom = make_phantom()
    dots, _ = sweep(phantom, np.random.default_rng(3), 40)
    poses = np.array([random_rigid(np.random.default_rng(n)) for n in range(40)])
    with pytest.raises(RefusedError, match=r"no ultrasound image has|not 90"):
        calibrate_nwire(dots, patterns(phantom), poses)


def test_wires_in_a_wrong_order_are_bad_input() -> None:
    phantom = make_phantom()
    dots, poses = sweep(phantom, np.random.default_rng(3), 40)
    with pytest.raises(InputError, match="order of the wires"):
        calibrate_nwire(dots[:, [1, 0, 2, 4, 3, 5, 7, 6, 8]], patterns(phantom), poses)
    with pytest.raises(InputError, match="9 points"):
        calibrate_nwire(dots[:, :6], patterns(phantom), poses)
    straight = NPattern(("a", "b", "c"), phantom.front[0], phantom.front[0] + [[0, 40.0, 0]] * 3)
    with pytest.raises(InputError, match="parallel"):
        calibrate_nwire(dots, [straight, *patterns(phantom)[1:]], poses)


def test_a_pointer_calibrates_the_probe_too() -> None:
    phantom, random = make_phantom(), np.random.default_rng(6)
    pixels = random.uniform((30, 40), (570, 660), (25, 2))
    tips = pixels @ phantom.image_to_probe[:3, :2].T + phantom.image_to_probe[:3, 3]
    tools = np.array([random_rigid(random) for _ in range(25)])
    tools[:, :3, 3] = tips - tools[:, :3, :3] @ TIP_MM
    found, numbers = pointer_tips(tools, TIP_MM)
    result = calibrate_pointer(pixels[numbers], found, size_px=SIZE)
    assert np.allclose(result.probe_from_image, phantom.image_to_probe, atol=1e-8)
    noisy = calibrate_pointer(pixels, tips + random.normal(0, 0.4, tips.shape), size_px=SIZE)
    assert corner_errors(noisy, phantom).max() < 4 * noisy.sigma_mm["corner"]
    with pytest.raises(RefusedError, match="at least 8"):
        calibrate_pointer(pixels[:7], tips[:7])


def test_a_live_image_that_differs_is_refused() -> None:
    _, result = calibrated(0.2)
    assert result.check_image(size_px=SIZE, mm_per_px=(0.1105, 0.0899), depth_mm=63.0, preset="spine",
                              orientation="MF") == ()
    for live in ({"size_px": (640, 480)}, {"mm_per_px": (0.13, 0.09)}, {"mm_per_px": (0.11, 0.07)},
                 {"depth_mm": 80.0}, {"depth_mm": float("nan")}, {"preset": "Liver"}, {"orientation": "UF"}):
        with pytest.raises(RefusedError, match="calibrate for this setting"):
            result.check_image(**live)
    assert set(result.check_image()) >= {"image size", "depth", "preset", "pixel size x"}


def test_a_calibration_comes_back_from_its_json() -> None:
    _, result = calibrated(0.5)
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert (values["frame"], values["from_frame"], values["units"]) == ("Probe", "Image", "mm")
    again = ProbeCalibration.from_dict(values)
    assert np.array_equal(again.probe_from_image, result.probe_from_image)
    assert again.to_dict() == result.to_dict()
    del values["uncertainty"]
    with pytest.raises(InputError, match="calibrate again"):
        ProbeCalibration.from_dict(values)
