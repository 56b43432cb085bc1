"""The link's transport on loopback: what is received, what is kept, what is told. Peers are plain sockets."""

from __future__ import annotations

import random
import socket
import struct

import numpy as np
import pytest
from IRAILib.geometry import InputError
from IRAILib.link.buffers import BufferPool
from IRAILib.link.client import Backoff, LinkClient
from IRAILib.link.messages import String, Transform
from IRAILib.link.options import LinkOptions, LinkState
from IRAILib.link.server import LinkServer
from IRAILib.link.sockets import Waker, _connect
from IRAILib.link.watchdog import Watchdog
from link_raw_peer import RawServer, image, raw_client, read_message, reset, string, transform, until, wire

FAST = {"backoff_s": (0.005, 0.02)}


def collected(link: LinkClient | LinkServer, count: int) -> list:
    """Drain until so many messages came."""
    found: list = []
    assert until(lambda: found.extend(link.drain()) or len(found) >= count), f"{len(found)} of {count} messages"
    return found


def pose(device: str, x: float = 0.0) -> Transform:
    matrix = np.eye(4)
    matrix[0, 3] = x
    return Transform(device=device, matrix=matrix)


# ------------------------------------------------------------------------------------------------- receiving
def test_messages_of_a_plain_socket_arrive_whatever_the_split() -> None:
    pixels = bytes(random.Random(1).randbytes(300 * 300))
    stream = b"".join([transform("ProbeToTracker", 7.0), string("A", "one"), string("B", "two"),
                       image("Image_Reference", pixels, (300, 300, 1)), string("C", "")])
    rng = random.Random(2)
    with RawServer() as server, LinkClient("127.0.0.1", server.port) as client:
        peer = server.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index, split in enumerate(("whole", "bytes at the borders", "random")):
            at = 0
            while at < len(stream):
                size = {"whole": len(stream), "random": rng.randint(1, 30_000)}.get(split, 1 if at < 300 else 9999)
                peer.sendall(stream[at:at + size])
                at += size
            assert until(lambda whole=5 * (index + 1): client.status().received == whole)
            found = client.drain()
            assert [m.wire_type for m in found] == ["STRING", "STRING", "STRING", "TRANSFORM", "IMAGE"], split
            assert [m.text for m in found[:3]] == ["one", "two", ""]
            assert found[3].matrix[0, 3] == 7.0
            assert found[4].array.tobytes() == pixels
            assert found[3].received_time_s > found[3].time_s == 1_700_000_000
            assert found[3].connection == 1
        assert client.latest("TRANSFORM", "ProbeToTracker").matrix[0, 3] == 7.0
        assert client.latest("TRANSFORM", "Nobody") is None
        assert not client.wait(0.0)
        assert client.drain() == []


def test_streams_keep_the_newest_and_texts_keep_their_order() -> None:
    with RawServer() as server, LinkClient("127.0.0.1", server.port, fifo_types={("TRANSFORM", "Path")}) as client:
        peer = server.accept()
        for index in range(100):
            peer.sendall(transform("Stylus", index) + string("S", str(index)) + transform("Path", index)
                         + transform(f"ACK_{index}", index))
        assert until(lambda: client.status().received == 400)
        found = client.drain()
        assert [m.text for m in found if m.wire_type == "STRING"] == [str(i) for i in range(100)]
        assert [m.matrix[0, 3] for m in found if m.device == "Path"] == list(range(100))
        assert [m.device for m in found if m.device.startswith("ACK_")] == [f"ACK_{i}" for i in range(100)]
        assert [m.matrix[0, 3] for m in found if m.device == "Stylus"] == [99.0]
        entry = client.status().device("TRANSFORM", "Stylus")
        assert entry is not None
        assert (entry.count, entry.overwritten, entry.stream) == (100, 99, True)


@pytest.mark.parametrize("limit", [{"fifo_length": 10}, {"fifo_bytes": 10 * 7}])
def test_a_full_queue_drops_its_oldest_and_says_so(limit: dict) -> None:
    with RawServer() as server, LinkClient("127.0.0.1", server.port, **limit) as client:
        peer = server.accept()
        for index in range(25):
            peer.sendall(string("S", f"{index:03d}"))
        assert until(lambda: client.status().received == 25)
        status = client.status()
        assert [m.text for m in client.drain()] == [f"{i:03d}" for i in range(15, 25)]
        assert status.dropped == 15
        assert "15 received message(s) were dropped" in status.last_error
        assert status.devices[0].dropped == 15
        assert status.state is LinkState.CONNECTED


def test_a_buffer_that_somebody_holds_is_never_written_again() -> None:
    rng = random.Random(3)
    pixels = [rng.randbytes(200 * 500) for _ in range(8)]
    with RawServer() as server, LinkClient("127.0.0.1", server.port) as client:
        peer = server.accept()
        held = []
        for data in pixels:
            peer.sendall(image("Scan", data, (200, 500, 1)))
            held.append(collected(client, 1)[0].array[..., :])  # a view of a view
        for data, array in zip(pixels, held, strict=True):
            assert array.tobytes() == data


def test_buffers_come_back_when_the_last_view_is_gone_and_only_then() -> None:
    pool = BufferPool(keep=2)
    view = pool.lend(100_000)
    address = np.frombuffer(view, np.uint8).ctypes.data
    part = np.frombuffer(view[10:], np.uint8)[5:]
    del view
    assert pool.free == 0
    other = pool.lend(100_000)
    assert np.frombuffer(other, np.uint8).ctypes.data != address
    del part
    assert pool.free == 1
    again = pool.lend(90_000)
    assert np.frombuffer(again, np.uint8).ctypes.data == address
    lots = [pool.lend(200_000) for _ in range(6)]
    del lots, other, again
    assert pool.free == 2


# ------------------------------------------------------------------------------------------------- loss
def test_a_loss_takes_poses_and_images_and_leaves_the_last_words() -> None:
    with RawServer() as server, LinkClient("127.0.0.1", server.port, **FAST) as client:
        peer = server.accept()
        status = wire("STATUS", "ROBOT", struct.pack(">Hq20s", 18, 0, b"Fault") + b"motor\0")
        peer.sendall(transform("Tip") + image("Scan", bytes(16), (4, 4, 1)) + transform("TGT_1") + status)
        assert until(lambda: client.status().received == 4)
        assert client.latest("TRANSFORM", "Tip") is not None
        assert not client.is_stale("TRANSFORM", "Tip")
        peer.close()
        second = server.accept()
        assert until(lambda: client.status().connects == 2)
        assert client.latest("TRANSFORM", "Tip") is None
        assert client.latest("IMAGE", "Scan") is None
        assert client.is_stale("TRANSFORM", "Tip")  # although it is young: it was not heard on this connection
        assert [(m.wire_type, m.code, m.connection) for m in client.drain()] == [("STATUS", 18, 1)]
        second.sendall(transform("Tip", 5.0))
        assert [m.matrix[0, 3] for m in collected(client, 1)] == [5.0]
        assert not client.is_stale("TRANSFORM", "Tip")


def test_a_pose_by_its_other_name_is_a_pose() -> None:
    """QTRANS has POSITION's content: the newest counts, and a loss takes it."""
    with RawServer() as server, LinkClient("127.0.0.1", server.port, **FAST) as client:
        peer = server.accept()
        peer.sendall(b"".join(wire("QTRANS", "Tip", struct.pack(">3f", x, 2, 3)) for x in (1, 2)) + string("End", "x"))
        assert until(lambda: client.latest("QTRANS", "Tip") is not None and client.status().received == 3)
        assert client.latest("QTRANS", "Tip").position[0] == 2
        peer.close()
        assert until(lambda: client.latest("QTRANS", "Tip") is None)
        assert [message.wire_type for message in client.drain()] == ["STRING"]


def test_no_command_crosses_from_one_connection_to_the_next() -> None:
    """The first peer never reads, so commands wait in the queues; the second must not see one byte of them."""
    with RawServer(receive_bytes=4096) as server, LinkClient("127.0.0.1", server.port, **FAST) as client:
        first = server.accept()
        assert until(lambda: client.state is LinkState.CONNECTED)
        assert client.send(String(device="Log", text="x" * 60_000))
        while client.status().unsent == 0:
            assert client.send(String(device="Log", text="x" * 60_000))
        for index in range(20):
            assert client.send(String(device=f"CMD_{index}", text="MOVE_TO_TARGET"), priority=bool(index % 2))
        assert client.status().unsent >= 20
        reset(first)
        assert until(lambda: client.state is not LinkState.CONNECTED or client.status().connects == 2)
        second = server.accept()
        assert until(lambda: client.status().connects == 2 and client.state is LinkState.CONNECTED)
        assert client.send(String(device="CMD_new", text="STOP"), priority=True)
        assert read_message(second)[2] == "CMD_new"
        second.settimeout(0.2)
        with pytest.raises(TimeoutError):
            second.recv(1)


def test_without_a_connection_a_command_is_refused_and_forgotten() -> None:
    with RawServer() as server:
        client = LinkClient("127.0.0.1", server.port, **FAST)
        assert not client.send(String(device="CMD_1", text="MOVE_TO_TARGET"), priority=True)
        with client:
            peer = server.accept()
            assert until(lambda: client.state is LinkState.CONNECTED)
            peer.settimeout(0.2)
            with pytest.raises(TimeoutError):
                peer.recv(1)
        assert client.state is LinkState.CLOSED
        assert not client.send(String(device="CMD_2", text="STOP"), priority=True)


def test_pauses_double_to_a_limit_and_start_again() -> None:
    backoff = Backoff(0.1, 3.0)
    for nominal in (0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0, 3.0):
        assert 0.75 * nominal <= backoff.pause_s() <= 1.25 * nominal
    backoff.reset()
    assert backoff.pause_s() <= 0.125
    assert len({Backoff(1, 2).pause_s() for _ in range(20)}) > 10


def test_no_server_an_unknown_host_and_wrong_options_are_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        with LinkClient("127.0.0.1", taken.getsockname()[1], **FAST) as client:
            assert until(lambda: client.status().errors >= 3)
            assert "is the server running?" in client.status().last_error
            assert client.status().error_type == "NoServerError"
            assert client.status().connects == 0
    with LinkClient("no-such-host.invalid", 18944, **FAST, connect_timeout_s=0.3) as client:
        assert until(lambda: "no-such-host.invalid" in client.status().last_error)
    for wrong in ({"stall_s": 0}, {"backoff_s": (3, 1)}, {"colour": "red"}, {"max_body": -1}):
        with pytest.raises(InputError):
            LinkClient("127.0.0.1", 18944, **wrong)
    with pytest.raises(InputError):
        LinkClient("127.0.0.1", 0)
    with LinkServer() as server, pytest.raises(InputError, match="can't listen"):
        LinkServer(server.port).start()


def test_a_port_that_answers_itself_is_no_server() -> None:
    waker = Waker()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            _connect(sock, sock.getsockname(), 1.0, waker)
    waker.close()


# ------------------------------------------------------------------------------------------------- watchdog
def test_a_stream_grows_old_and_the_status_says_so() -> None:
    now = [100.0]
    dog = Watchdog(LinkOptions(clock=lambda: now[0], stale_s=0.5, max_devices=4))
    assert dog.is_stale("TRANSFORM", "Probe")  # never heard
    dog.connection(True)
    dog.set_stale("IMAGE", "MR", 3.0)
    for _ in range(10):
        now[0] += 0.05
        dog.received("TRANSFORM", "Probe", True, now[0], 0.01)
    dog.received("IMAGE", "MR", True, now[0], None)
    dog.received("STATUS", "ROBOT", False, now[0], None)
    entry = {e.device: e for e in dog.devices()}
    assert entry["Probe"].rate_hz == pytest.approx(20)
    assert entry["Probe"].latency_s == 0.01
    assert not entry["Probe"].stale
    now[0] += 0.49
    assert not dog.is_stale("TRANSFORM", "Probe")
    now[0] += 0.02
    assert dog.is_stale("TRANSFORM", "Probe")
    entry = {e.device: e for e in dog.devices()}
    assert entry["Probe"].age_s == pytest.approx(0.51)
    assert entry["Probe"].rate_hz == 0
    assert not entry["MR"].stale
    assert not entry["ROBOT"].stale  # only streams grow old
    dog.connection(False)
    assert dog.is_stale("IMAGE", "MR")
    for index in range(1000):
        dog.received("STRING", f"CMD_{index}", False, now[0], None)
    assert len(dog.devices()) <= 8


def test_a_silent_peer_is_cut_off_when_that_is_asked_for() -> None:
    with RawServer() as server, LinkClient("127.0.0.1", server.port, silence_s=0.1, **FAST) as client:
        server.accept().sendall(transform("Tip"))
        server.accept()
        assert until(lambda: client.status().connects >= 2)
        assert client.status().error_type == "StallError"
        assert client.latest("TRANSFORM", "Tip") is None


# ------------------------------------------------------------------------------------------------- version 2
def test_version_2_is_spoken_only_to_who_has_shown_it() -> None:
    new = wire("STRING", "S", struct.pack(">HH", 3, 2) + b"v2", version=2, metadata={"IGTL_DEVICE_NAME": "A" * 40})
    with RawServer() as raw, LinkClient("127.0.0.1", raw.port) as client:
        peer = raw.accept()
        assert until(lambda: client.state is LinkState.CONNECTED)
        assert not client.peer_v2
        assert client.send(pose("Tip"))
        assert read_message(peer)[0] == 1
        peer.sendall(new)
        assert collected(client, 1)[0].device == "A" * 40
        assert client.peer_v2
        assert client.send(pose("NeedleTipToReferenceByShapeSensor"))
        version, _, device, body = read_message(peer)
        assert (version, device) == (2, "NeedleTipToReference")
        assert b"NeedleTipToReferenceByShapeSensor" in body
    with LinkServer() as server, raw_client(server.port) as old, raw_client(server.port) as modern:
        modern.sendall(new)
        assert until(lambda: len(server.clients()) == 2)
        collected(server, 1)
        assert server.send(pose("Tip")) == 2
        assert read_message(old)[0] == 1
        assert read_message(modern)[0] == 2
        assert server.send(String(device="Only", text="new"), when_v2=True) == 1
        assert server.send(String(device="Only", text="old"), when_v2=False) == 1
        assert read_message(old)[3].endswith(b"old")
        assert b"new" in read_message(modern)[3]


def test_version_2_is_announced_when_that_is_asked_for() -> None:
    with RawServer() as raw, LinkClient("127.0.0.1", raw.port, announce_v2=True):
        assert read_message(raw.accept())[:2] == (2, "GET_STATUS")
