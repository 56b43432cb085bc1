"""DSA on painted frames: known motion, known vessels, known arrival; the library's field against SimpleITK's truth."""

from __future__ import annotations

import numpy as np
import pytest
from IRAILib.fluoroscopy.dsa import Roadmap, Subtraction, bare_frames, lit_region, minip, subtract
from IRAILib.fluoroscopy.dsa_motion import MovingMask, pixel_shift
from IRAILib.fluoroscopy.perfusion_maps import perfusion_maps
from IRAILib.geometry import CancelledError, InputError, RefusedError
from IRAILib.images.xa import XARun
from scipy import ndimage
from scipy.interpolate import CubicSpline

SIZE = 192
ALL = np.ones((SIZE, SIZE), bool)


def anatomy(seed: int = 1, size: int = SIZE) -> np.ndarray:
    """(size, size) logarithm of intensity: soft structure of several scales, a rib, an edge."""
    rng = np.random.default_rng(seed)
    field = sum(ndimage.gaussian_filter(rng.normal(size=(size, size)), s) * s * w
                for s, w in ((2, 0.05), (5, 0.15), (14, 0.3)))
    y, x = np.mgrid[:size, :size]
    field = field - 0.35 * (np.abs(y - 60 - 0.3 * x) < 9) - 0.5 / (1 + np.exp(-(x - 140) / 3.0))
    return ndimage.gaussian_filter(field, 0.8) + 5.0


def motion(size: int = SIZE, px: float = 5.0) -> np.ndarray:
    """(2, size, size) smooth displacement, up to about `px`."""
    y, x = np.mgrid[:size, :size] / size
    return px * np.stack([np.sin(2.2 * x + 1) * y, 0.5 * np.cos(3 * y) * (1 - x)])


def moved(picture: np.ndarray, field: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    return ndimage.map_coordinates(picture, [y + field[0], x + field[1]], order=3, mode="nearest")


def vessel(size: int = SIZE, radius: float = 4.0, depth: float = 0.6) -> np.ndarray:
    """(size, size) negative: a bending tube."""
    course = CubicSpline(np.linspace(0, 1, 4), np.array([[20, 30], [90, 60], [120, 110], [170, 120]]) * size / 192)
    at = course(np.linspace(0, 1, 800)).round().astype(int)
    free = np.ones((size, size), bool)
    free[at[:, 0], at[:, 1]] = False
    away = ndimage.distance_transform_edt(free)
    return ndimage.gaussian_filter(-depth * np.sqrt(np.maximum(0, 1 - (away / radius) ** 2)), 0.7)


def noisy(picture: np.ndarray, seed: int, sd: float = 0.01) -> np.ndarray:
    return picture + np.random.default_rng(seed).normal(0, sd, picture.shape)


def painted_run(frames: int = 16, arrival: int = 7, still: bool = False) -> tuple[XARun, np.ndarray, np.ndarray]:
    """A run of 12-bit linear counts, the contrast's share by frame, and the vessel (all at its own place)."""
    share = np.clip((np.arange(frames) - arrival + 1) / 4.0, 0, 1)
    logs = [noisy(moved(anatomy(), motion(px=0.0 if still else 8.0 * np.sin(n / 2.0))) + s * vessel(), n)
            for n, s in enumerate(share)]
    counts = np.clip(np.exp(np.array(logs)) * 8, 1, 4095).round().astype(np.uint16)
    run = XARun(counts, "painted", "LIN", np.zeros((frames, 2)), np.arange(frames) * 0.25, bits=12)
    return run, share, vessel()


@pytest.mark.parametrize("truth", [(0.0, 0.0), (3.4, -1.75), (-6.1, 8.05)])
def test_a_shift_of_part_of_a_pixel_comes_back(truth):
    mask = anatomy()
    live = noisy(moved(mask, np.stack([np.full(mask.shape, v) for v in truth])), 3)
    assert pixel_shift(live, mask) == pytest.approx(truth, abs=0.1)
    skimage = pytest.importorskip("skimage.registration")
    window = np.hanning(SIZE)[:, None] * np.hanning(SIZE)
    a, b = ((f - ndimage.gaussian_filter(f, 12)) * window for f in (live, mask))
    peer = -np.asarray(skimage.phase_cross_correlation(b, a, upsample_factor=20)[0]) * -1
    assert np.abs(np.abs(peer) - np.abs(truth)).max() < 0.35


def test_nothing_to_hold_on_to_gives_no_shift():
    assert pixel_shift(np.zeros((64, 64)), np.zeros((64, 64))) == pytest.approx((0, 0))
    with pytest.raises(InputError):
        pixel_shift(np.zeros((64, 64)), np.zeros((64, 65)))


def test_a_smooth_motion_is_found():
    """The field maps the mask onto the live frame; truth is the displacement that made the frame."""
    mask, truth = anatomy(), motion()
    mover = MovingMask(mask, ALL)
    found = mover.dense(mover.field(noisy(moved(mask, truth), 5)))
    inner = (slice(None), slice(12, -12), slice(12, -12))
    error = np.sqrt(np.square(found - truth)[inner].sum(0))
    before = np.sqrt(np.square(truth)[inner].sum(0))
    assert np.median(error) < 0.3
    assert np.percentile(error, 95) < 0.3 * np.percentile(before, 95)


def test_contrast_does_not_pull_the_mask():
    """With a vessel painted into the moved frame at least 95 % of its signal stays, and nothing appears elsewhere."""
    mask, truth, paint = anatomy(), motion(), vessel()
    live = noisy(moved(mask, truth), 6)
    worker = Subtraction(mask[None], ALL)
    with_vessel, without = worker.subtract(live + paint)[0], worker.subtract(live)[0]
    inside = paint < -0.05
    signal = (with_vessel - without)[inside]
    assert (signal * paint[inside]).sum() / np.square(paint[inside]).sum() == pytest.approx(1.0, abs=0.03)
    far = ~ndimage.binary_dilation(inside, iterations=4)
    assert np.sqrt(np.square((with_vessel - without)[far] - np.median((with_vessel - without)[far])).mean()) < 0.02


def test_motion_correction_beats_shift_beats_nothing():
    mask, live = anatomy(), noisy(moved(anatomy(), motion() + 2.0), 7)
    rest = {method: float(np.square(Subtraction(mask[None], ALL, method).subtract(live)[0]).mean())
            for method in ("plain", "shift", "motion")}
    assert rest["shift"] < 0.8 * rest["plain"]
    assert rest["motion"] < 0.2 * rest["plain"]


def test_dark_corners_do_not_move_in():
    y, x = np.mgrid[:SIZE, :SIZE]
    inside = (y - 96) ** 2 + (x - 96) ** 2 < 84**2
    mask = np.where(inside, anatomy(), 0.0)
    live = np.where(inside, noisy(moved(anatomy(), motion()), 8), 0.0)
    out = Subtraction(mask[None], inside).subtract(live)[0]
    assert (out[~inside] == 0).all()
    assert np.abs(out).max() < 0.5, "a border that moved in would be a difference of about 5"
    counts = (np.exp(np.stack([mask, live])) * 8 * inside).astype(np.uint16)
    lit = lit_region(counts)
    assert lit.sum() > 0.7 * inside.sum()
    assert not (lit & ~inside).any()


@pytest.mark.parametrize("still", [True, False])
def test_contrast_s_arrival_ends_the_bare_frames(still):
    run, share, _ = painted_run(still=still)
    bare = bare_frames(run.log_frames(), ALL, run.time_s)
    assert bare
    assert bare[0] == 0
    assert (share[bare] == 0).all(), "a mask with contrast would take vessels away"
    assert len(bare) >= 4


def test_a_run_without_contrast_or_bare_frames_is_refused():
    run, _, _ = painted_run(still=True)
    run.frames = run.frames[:5].repeat(3, axis=0)
    with pytest.raises(RefusedError, match="without contrast"):
        subtract(run)
    with pytest.raises(InputError, match="aren't among"):
        subtract(run, mask_frames=[99])
    with pytest.raises(InputError, match="Mask Subtraction"):
        subtract(run, mask_frames="file")
    with pytest.raises(InputError, match="method"):
        subtract(run, method="magic", mask_frames=[0])
    with pytest.raises(CancelledError):
        subtract(run, mask_frames=[0], cancelled=lambda: True)


def test_a_whole_run_keeps_vessels_and_loses_the_rest():
    run, _, paint = painted_run()
    result = subtract(run)
    plain = subtract(run, method="plain", mask_frames=[2])
    inside = paint < -0.3
    far = ~ndimage.binary_dilation(paint < -0.02, iterations=6)
    last = slice(12, 16)
    kept = np.median(result.frames[last][:, inside]) / np.median(paint[inside])
    assert kept == pytest.approx(1.0, abs=0.1)
    assert np.square(result.frames[last][:, far]).mean() < 0.5 * np.square(plain.frames[last][:, far]).mean()
    assert set(result.mask_of) <= set(result.bare)
    assert result.to_dict()["method"] == "motion"
    tree = minip(result.frames)
    assert np.corrcoef(tree.ravel(), paint.ravel())[0, 1] > 0.8


def test_a_shift_by_hand_is_used():
    mask = anatomy()
    live = moved(mask, np.stack([np.full(mask.shape, 2.0), np.full(mask.shape, -1.0)]))
    out = Subtraction(mask[None], ALL, "plain", fixed_shift_px=(2, -1)).subtract(live)[0]
    assert np.abs(out[8:-8, 8:-8]).max() < 0.02


def test_the_roadmap_follows_the_patient():
    mask, paint = anatomy(), vessel()
    shift = np.stack([np.full(mask.shape, -4.0), np.full(mask.shape, 6.0)])
    roadmap = Roadmap(mask, noisy(paint, 2), ALL)
    picture, movement = roadmap.overlay(noisy(moved(mask, shift), 9))
    assert movement == pytest.approx((-4, 6), abs=0.2)
    assert picture.shape == (SIZE, SIZE, 3)
    assert picture.dtype == np.uint8
    red = picture[..., 0].astype(float) - picture[..., 2]
    assert np.corrcoef(red.ravel(), -moved(paint, shift).ravel())[0, 1] > 0.9
    with pytest.raises(InputError):
        Roadmap(mask, paint[:-1], ALL)


def test_arrival_and_peak_of_known_curves():
    """Gaussians in time: half of the peak lies s sqrt(2 ln 2) before it, the area is s sqrt(2 pi)."""
    time_s = np.arange(30) * 0.25
    start, width, height = 2.0 + 2.0 * np.linspace(0, 1, 48)[None] * np.ones((40, 1)), 0.8, 0.5
    curves = height * np.exp(-((time_s[:, None, None] - start) ** 2) / (2 * width**2))
    curves[:, :, 40:] = 0
    frames = -curves + np.random.default_rng(4).normal(0, 0.005, curves.shape)
    maps = perfusion_maps(frames, time_s)
    found = (slice(4, -4), slice(4, 34))
    assert maps.peak_s[found] == pytest.approx(start[found], abs=0.12)
    assert maps.arrival_s[found] == pytest.approx(start[found] - width * np.sqrt(2 * np.log(2)), abs=0.12)
    assert np.median(maps.peak[found]) == pytest.approx(height, rel=0.05)
    assert np.median(maps.area[found]) == pytest.approx(height * width * np.sqrt(2 * np.pi), rel=0.05)
    assert np.isnan(maps.peak_s[:, 44:]).all()
    assert maps.noise == pytest.approx(0.005 * 0.28 * np.sqrt(2), rel=0.5)  # a Gaussian of 1 px leaves 1/(2 sqrt(pi))


@pytest.mark.parametrize(("frames", "times"), [
    (np.zeros((2, 8, 8)), np.arange(2.0)), (np.zeros((5, 8, 8)), np.zeros(5)), (np.zeros((5, 8)), np.arange(5.0)),
    (np.full((5, 8, 8), np.nan), np.arange(5.0))])
def test_no_maps_of_what_has_no_curve(frames, times):
    with pytest.raises(InputError):
        perfusion_maps(frames, times)
    assert np.isnan(perfusion_maps(np.zeros((5, 8, 8)), np.arange(5.0)).peak_s).all()


@pytest.mark.parametrize("mask", [np.zeros((3, 3)), np.full((SIZE, SIZE), np.nan), np.zeros(5)])
def test_no_mask_of_nonsense(mask):
    with pytest.raises(InputError):
        MovingMask(mask, np.ones(mask.shape, bool))


def test_a_live_frame_must_fit():
    worker = Subtraction(anatomy()[None], ALL)
    for live in (np.zeros((5, 5)), np.full((SIZE, SIZE), np.inf)):
        with pytest.raises(InputError):
            worker.subtract(live)


def test_odd_sizes_and_a_picture_of_nothing():
    assert Subtraction(np.zeros((1, 70, 131)), np.ones((70, 131), bool)).subtract(np.zeros((70, 131)))[0].shape == (
        70, 131)


@pytest.mark.parametrize(("depth", "width_s"), [(0.1, 2.5), (0.2, 2.5), (0.2, 1.2)])
def test_times_of_faint_and_slow_contrast_are_told_as_unsure_as_they_are(depth, width_s):
    time_s = np.arange(60) * 0.25
    frames = np.random.default_rng(0).normal(0, 0.03, (60, 48, 48)).astype(np.float32)
    frames -= (depth * np.exp(-(((time_s - 7) / width_s) ** 2)))[:, None, None].astype(np.float32)
    maps = perfusion_maps(frames, time_s)
    for found, told in zip((maps.arrival_s, maps.peak_s), maps.errors_s(), strict=True):
        scatter = float(np.nanstd(found))
        assert 0.8 * scatter < np.nanmedian(told) < max(1.6 * scatter, 0.15)  # half a frame and a little
    assert maps.to_dict()["median_peak_error_s"] == pytest.approx(np.nanmedian(maps.errors_s()[1]))
