"""Live MR, CT and X-ray pictures: a scanner that moves its plane after the needle, and what is refused."""

from __future__ import annotations

import time

import numpy as np
import pytest
from fluoroscopy_cases import clutter, painted, random_course
from IRAILib.fluoroscopy.live import METHOD, STACK, catheter_in
from IRAILib.geometry import InputError, NeedleStatus, RefusedError
from IRAILib.link.client import LinkClient
from IRAILib.link.messages import Image
from IRAILib.link.server import LinkServer
from IRAILib.needle.live_slices import SliceFinder, SlicePipeline, slice_finder, space_from_image
from IRAILib.needle.planes import PlaneSender
from IRAILib.needle.stream import NeedleStream
from IRAILib.needle.ultrasound.scale import PixelScale
from needle_live_cases import ENTRY, THICK_MM, WAY, first_plane, mr_slice

DEADLINE_S = 30.0


def wait_for(condition) -> bool:
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


def test_the_scanner_follows_the_needle_by_the_planes_it_is_sent() -> None:
    """Slices lie in PLANE_0 and PLANE_1 by turns. They come to hold the needle, though the first lay beside it and was
    4 degrees off: what one plane can't tell, the other does."""
    rng = np.random.default_rng(4)
    sender = PlaneSender()
    tip = ENTRY
    plane = first_plane()
    live = SlicePipeline(slice_finder("MR"))
    with LinkServer() as server, LinkClient("127.0.0.1", server.port) as client, \
            NeedleStream(client, live, on_result=lambda found: sender.send(client, found)) as stream:
        assert wait_for(lambda: bool(server.clients()))
        for number in range(9):
            tip = ENTRY + (62.0 + 2.0 * number) * WAY
            array, matrix = mr_slice(plane, tip, rng)
            before = sender.sent
            server.send(Image(array=array, ras_from_ijk=matrix, device="MR", time_s=1000.0 + 0.4 * number))
            assert wait_for(lambda number=number: stream.frames > number), stream.problem
            if number < 2:
                continue
            assert wait_for(lambda before=before: sender.sent > before), sender.text
            planes = {}
            assert wait_for(lambda planes=planes: planes.update(
                {m.device: m.matrix for m in server.drain() if m.TYPE == "TRANSFORM"}) or len(planes) >= 3)
            plane = np.asarray(planes[f"PLANE_{number % 2}"], float)
        found = stream.latest.tracked()
        assert found.status is NeedleStatus.SEEN
        assert (found.frame, found.units) == ("RAS", "mm")
        assert np.linalg.norm(found.tip - tip) < 2.8
        assert np.degrees(np.arccos(found.direction @ WAY)) < 1.0
        assert abs((tip - plane[:3, 3]) @ plane[:3, 2]) < 1.0
        assert np.degrees(np.arcsin(abs(plane[:3, 2] @ WAY))) < 1.0
        server.close()
        assert wait_for(lambda: stream.latest is None)
        assert stream.estimate_at().status is NeedleStatus.LOST


def test_no_plane_for_a_needle_that_is_not_there() -> None:
    sender = PlaneSender()
    results = []
    with LinkServer() as server, LinkClient("127.0.0.1", server.port) as client, \
            NeedleStream(client, SlicePipeline(slice_finder("MR")), on_result=results.append) as stream:
        assert wait_for(lambda: bool(server.clients()))
        array, matrix = mr_slice(first_plane(), ENTRY - 60.0 * WAY, np.random.default_rng(1))
        server.send(Image(array=array, ras_from_ijk=matrix, device="MR", time_s=1000.0))
        assert wait_for(lambda: bool(results)), stream.problem
        assert sender.send(client, results[0]) is False
        assert "held back: the needle is absent" in sender.text
        assert server.drain() == []


def test_ct_fluoroscopy_slices_are_followed() -> None:
    """A steel line with partial volume, in water: 0.8 mm pixels, 4 mm thick."""
    shape, mm = (1, 128, 160), np.array([0.8, 0.8, 4.0])
    rng = np.random.default_rng(2)
    live = SlicePipeline(slice_finder("CT"))
    j, i = np.mgrid[0:shape[1], 0:shape[2]]
    way = np.array([0.8, 0.6])
    for number in range(3):
        tip = np.array([60.0 + number, 52.0 + 0.75 * number])
        points = np.stack([i * mm[0], j * mm[1]], -1) - tip
        along, off = points @ way, points @ [-way[1], way[0]]
        body = np.hypot(i - 80, (j - 64) * 1.2) < 72
        values = np.where(body, 30.0, -1000.0) + rng.normal(0, 12, body.shape)
        values += 2600.0 * np.clip(1.2 - np.abs(off), 0, 1) * np.clip(0.5 - along / 0.8, 0, 1)
        result = live.process(values[None].astype(np.int16), 5.0 + 0.5 * number, matrix=np.diag([*mm, 1.0]))
    assert result.estimate.status is NeedleStatus.SEEN
    assert (result.estimate.modality, result.estimate.units, result.estimate.frame) == ("CT", "mm", "Image")
    assert np.linalg.norm(result.estimate.tip[:2] - tip) < 1.0
    assert np.degrees(np.arccos(result.estimate.direction[:2] @ way)) < 1.0
    np.testing.assert_allclose(result.detection.tip_px, tip / 0.8, atol=1.3)


def catheter(scale: PixelScale | None = None) -> SlicePipeline:
    return SlicePipeline(SliceFinder("XA", METHOD, catheter_in, STACK), scale=scale)


@pytest.mark.parametrize("mm", [None, 0.3])
def test_a_catheter_is_followed_in_pixels_or_in_the_users_mm(mm) -> None:
    rng = np.random.default_rng(8)
    course, ground = random_course((256, 256), rng), clutter((256, 256), 8)
    live = catheter(None if mm is None else PixelScale(mm, mm, "user"))
    for number, cut in enumerate((45, 30, 15, 0)):
        image = painted(ground, course[:-cut or None], dose=0.4, rng=rng)
        result = live.process(image, 1.0 + 0.3 * number, matrix=np.diag([0.1, 0.1, 1.0, 1.0]))
    assert result.estimate.status is NeedleStatus.SEEN
    assert result.estimate.units == ("px" if mm is None else "mm")  # a detector's pixel size is not the device's
    assert np.linalg.norm(result.estimate.tip[:2] / (mm or 1.0) - course[-1]) < 5.0


def test_one_millimetre_is_one_millimetre_in_mr() -> None:
    """In ultrasound 1 x 1 mm stands for 'not known'; an MR scanner means it."""
    array, matrix = mr_slice(first_plane(), ENTRY + 70 * WAY, np.random.default_rng(0))
    live = SlicePipeline(slice_finder("MR"))
    result = [live.process(array, time_s, matrix=matrix) for time_s in (1.0, 1.3)][-1]
    assert result.scale is not None
    assert result.scale.mm_per_px == pytest.approx((1.0, 1.0))
    assert result.estimate.units == "mm"
    placed = result.estimate.mapped(space_from_image(matrix, result.scale), "RAS")
    across = matrix[:3, 2] / THICK_MM
    assert 1.0 < np.sqrt(across @ placed.covariance @ across) < 5.0  # one slice: unsure by its thickness


def test_a_normal_is_mm_whatever_the_thickness() -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([[0, 0.5, 0], [0, 0, -0.25], [-6.0, 0, 0]])
    matrix[:3, 3] = (1.0, 2.0, 3.0)
    placed = space_from_image(matrix, PixelScale(0.5, 0.25, "message"))
    np.testing.assert_allclose(placed @ [10.0, 4.0, 2.0, 1.0], [-1.0, 12.0, -1.0, 1.0])
    matrix[:3, 2] = 0.0
    assert np.linalg.norm(space_from_image(matrix, None)[:3, 2]) == pytest.approx(1.0)


def test_what_is_refused() -> None:
    mr = SlicePipeline(slice_finder("MR"))
    with pytest.raises(InputError, match="1 to 1 slices"):
        mr.process(np.zeros((20, 64, 64), np.int16), 1.0, matrix=np.eye(4))
    with pytest.raises(RefusedError, match="no scale"):
        mr.process(np.full((64, 64), 5, np.int16), 1.0)
    with pytest.raises(InputError, match="time"):
        mr.process(np.zeros((64, 64), np.int16), float("nan"), matrix=np.eye(4))
    with pytest.raises(InputError, match="only the right one"):
        SlicePipeline(slice_finder("MR"), scale=PixelScale(0.7, 0.7, "user")).process(
            np.zeros((64, 64), np.int16), 1.0, matrix=np.eye(4))
    with pytest.raises(InputError, match="square"):
        catheter(PixelScale(0.2, 0.3, "user")).process(np.full((80, 80), 7, np.uint8), 1.0)
    with pytest.raises(InputError, match="MR and CT"):
        slice_finder("PET")
