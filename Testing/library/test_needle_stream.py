"""The live needle: newest frame first, mm only with a scale, and the truth when the plug is pulled."""

from __future__ import annotations

import time

import numpy as np
import pytest
from IRAILib.geometry import InputError, NeedleStatus
from IRAILib.link.client import LinkClient
from IRAILib.link.messages import Image
from IRAILib.link.server import LinkServer
from IRAILib.needle.live import LivePipeline, make_detector
from IRAILib.needle.stream import NeedleStream, frame_of_device
from IRAILib.needle.ultrasound.scale import PixelScale
from needle_frames import insertion

MM = 0.2
DEADLINE_S = 10.0


def pipeline(scale: PixelScale | None = None) -> LivePipeline:
    return LivePipeline(make_detector("classical"), scale=scale)


def placed() -> np.ndarray:
    """An oblique image: columns along +A, rows along -S, 0.2 mm a pixel."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([[0, MM, 0], [0, 0, -MM], [-MM, 0, 0]])
    matrix[:3, 3] = (7.0, -20.0, 30.0)
    return matrix


def wait_for(condition) -> bool:
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


def test_a_recorded_insertion_is_followed_in_mm() -> None:
    frames, tips = insertion()
    live = pipeline(PixelScale(MM, MM, "user"))
    results = [live.process(frame, number / 20) for number, frame in enumerate(frames)]
    last = results[-1].estimate
    assert last.status is NeedleStatus.SEEN
    assert last.units == "mm"
    assert np.linalg.norm(last.tip[:2] - tips[-1] * MM) < 1.0
    assert results[0].estimate.status is NeedleStatus.ABSENT  # one frame alone is not believed
    assert results[-1].budget.infer_ms > 0
    assert results[-1].budget.receive_ms is None


def test_without_a_scale_everything_stays_in_pixels() -> None:
    frames, tips = insertion()
    live = pipeline()
    last = [live.process(frame, number / 20) for number, frame in enumerate(frames)][-1].estimate
    assert last.units == "px"
    assert np.linalg.norm(last.tip[:2] - tips[-1]) < 5.0


def test_a_scale_that_contradicts_the_users_stops_the_millimetres() -> None:
    frames, _ = insertion(3)
    live = pipeline(PixelScale(0.1, 0.1, "user"))
    result = live.process(frames[0], 0.0, matrix=placed())
    assert result.scale is None
    assert result.estimate.units == "px"
    assert "0.1" in result.problem
    assert "0.2" in result.problem


def test_a_change_of_depth_forgets_the_old_track() -> None:
    frames, _ = insertion()
    live = pipeline()
    for number, frame in enumerate(frames):
        live.process(frame, number / 20, matrix=placed())
    deeper = placed()
    deeper[:3, :3] *= 2
    result = live.process(frames[-1], 1.0, matrix=deeper)
    assert result.scale.mm_per_px == pytest.approx((2 * MM, 2 * MM))
    assert result.estimate.status is NeedleStatus.ABSENT


def test_frames_of_another_kind_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="8 bits"):
        pipeline().process(np.zeros((64, 64), np.float32), 0.0)
    with pytest.raises(InputError, match="time"):
        pipeline().process(np.zeros((64, 64), np.uint8), float("nan"))
    with pytest.raises(InputError, match="volume"):
        pipeline().accept(np.zeros((5, 64, 64), np.uint8))
    with pytest.raises(InputError, match="no detector"):
        make_detector("crystal ball")


def test_the_frame_is_what_plus_embeds_in_the_name() -> None:
    assert frame_of_device("Image_Reference") == "Reference"
    assert frame_of_device("Image") == "RAS"


def test_a_stream_from_socket_to_tip_and_the_plug_pulled() -> None:
    frames, tips = insertion()
    seen = []
    with LinkServer() as server, LinkClient("127.0.0.1", server.port, backoff_s=(0.02, 0.1)) as client, \
            NeedleStream(client, pipeline(), on_result=seen.append) as stream:
        assert wait_for(lambda: bool(server.clients()))
        for number, frame in enumerate(frames):
            image = Image(array=frame[None], ras_from_ijk=placed(), device="Image_Reference", time_s=time.time())
            server.send(image)
            assert wait_for(lambda number=number: stream.frames > number)
        found = stream.latest.tracked()
        expected = placed() @ [*tips[-1], 0, 1]
        assert found.frame == "Reference"
        assert np.linalg.norm(found.tip - expected[:3]) < 1.0
        assert 0 <= seen[-1].result.budget.receive_ms < 1000
        assert stream.estimate_at().found
        server.close()
        assert wait_for(lambda: stream.latest is None)
        gone = stream.estimate_at()
        assert gone.status is NeedleStatus.LOST
        assert gone.tip is None


def test_images_that_stop_while_the_connection_stays_are_coasted_and_then_lost() -> None:
    frames, _ = insertion()
    with LinkServer() as server, LinkClient("127.0.0.1", server.port) as client:
        assert wait_for(lambda: bool(server.clients()))
        stream = NeedleStream(client, pipeline())
        now = time.time()
        for number, frame in enumerate(frames):
            server.send(Image(array=frame[None], ras_from_ijk=placed(), device="Image", time_s=now + number / 20))
            assert wait_for(lambda: stream.step() is not None)
        last = now + (len(frames) - 1) / 20
        assert stream.estimate_at(last).status is NeedleStatus.SEEN
        coasting = stream.estimate_at(last + 0.4)
        assert coasting.status is NeedleStatus.COASTING
        assert coasting.age_s == pytest.approx(0.4, abs=1e-6)
        assert coasting.sigma > stream.estimate_at(last).sigma
        assert stream.estimate_at(last + 5).status is NeedleStatus.LOST
