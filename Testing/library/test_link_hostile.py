"""Bytes that no honest peer sends, in both directions: a typed error, a dropped connection, and then life goes on."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest
from IRAILib.link.client import LinkClient
from IRAILib.link.messages import String
from IRAILib.link.options import LinkState
from IRAILib.link.server import LinkServer
from link_raw_peer import (
    RawServer,
    crc64,
    header,
    image,
    raw_client,
    read_message,
    reset,
    resident_bytes,
    send_all,
    string,
    transform,
    until,
    wire,
)

FAST = {"backoff_s": (0.002, 0.01), "stall_s": 0.3}
GROWTH_LIMIT = 64 << 20
NAN, INFINITE = float("nan"), float("inf")


def pose(*numbers: float) -> bytes:
    return struct.pack(">12f", *numbers)


def extended(size: int, index: int, payload: int, content: bytes) -> bytes:
    body = struct.pack(">HHII", size, index, payload, 0) + content
    return header(b"STRING", b"S", len(body), crc64(body), version=2) + body


def lying_image(sizes: tuple[int, int, int], pixels: int) -> bytes:
    return image("Scan", bytes(pixels), sizes)


RANDOM = random.Random(20)
GOOD_BODY = transform("Tip")[58:]

# name: (bytes, does the peer hang up after them?, errors it may be called)
CASES: dict[str, tuple[bytes, bool, set[str]]] = {
    "half a header, then closed": (transform("Tip")[:30], True, {"TruncatedError"}),
    "one byte, then closed": (b"\0", True, {"TruncatedError"}),
    "half a body, then closed": (transform("Tip")[:80], True, {"TruncatedError"}),
    "half a large body, then closed": (image("S", bytes(10**6), (1000, 1000, 1))[:500_000], True, {"TruncatedError"}),
    "half a header, then silence": (transform("Tip")[:30], False, {"StallError"}),
    "half a body, then silence": (transform("Tip")[:80], False, {"StallError"}),
    "a header alone": (header(b"IMAGE", b"Scan", 100 << 20), False, {"StallError"}),
    "body size 2^31": (header(b"TRANSFORM", b"Tip", 2**31) + GOOD_BODY, False, {"BodyLimitError"}),
    "body size 2^40": (header(b"IMAGE", b"Tip", 2**40) + GOOD_BODY, False, {"BodyLimitError"}),
    "body size 2^63": (header(b"IMAGE", b"Tip", 2**63) + GOOD_BODY, False, {"BodyLimitError"}),
    "body size 2^64 - 1": (header(b"IMAGE", b"Tip", 2**64 - 1) + GOOD_BODY, False, {"BodyLimitError"}),
    "a POINT of 100 MB": (header(b"POINT", b"P", 100 << 20), False, {"BodyLimitError"}),
    "a GET_TDATA of 5 MB": (header(b"GET_TDATA", b"P", 5 << 20), False, {"BodyLimitError"}),
    "wrong checksum": (header(b"TRANSFORM", b"Tip", 48, 1) + GOOD_BODY, False, {"ChecksumError"}),
    "one bit of a pose": (transform("Tip")[:-1] + b"\xff", False, {"ChecksumError"}),
    "version 0": (header(b"TRANSFORM", b"Tip", 48, version=0) + GOOD_BODY, False, {"HeaderError"}),
    "version 7": (header(b"TRANSFORM", b"Tip", 48, version=7) + GOOD_BODY, False, {"HeaderError"}),
    "device name not UTF-8": (header(b"TRANSFORM", b"\xff\xfe\xe9", 48, crc64(GOOD_BODY)) + GOOD_BODY, False,
                              {"HeaderError"}),
    "type name not ASCII": (header(b"TR\xc3\xa4NS", b"Tip", 48, crc64(GOOD_BODY)) + GOOD_BODY, False, {"HeaderError"}),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: something that is no OpenIGTLink\r\n\r\n", False,
             {"HeaderError"}),
    "random bytes": (RANDOM.randbytes(100_000), False, {"HeaderError"}),
    "zeros": (bytes(100_000), False, {"HeaderError"}),
    "a body of nothing": (wire("TRANSFORM", "Tip", b""), False, {"ContentError"}),
    "a pose of NaN": (wire("TRANSFORM", "Tip", pose(*[NAN] * 12)), False, {"ContentError"}),
    "one NaN": (wire("TRANSFORM", "Tip", pose(1, 0, 0, 0, 1, 0, 0, 0, 1, 0, NAN, 0)), False, {"ContentError"}),
    "an infinite pose": (wire("TRANSFORM", "Tip", pose(1, 0, 0, 0, 1, 0, 0, 0, 1, 0, INFINITE, 0)), False,
                         {"ContentError"}),
    "a tool of NaN": (wire("TDATA", "T", struct.pack(">20sBB12f", b"Probe", 2, 0, *[NAN] * 12)), False,
                      {"ContentError"}),
    "one and a half tools": (wire("TDATA", "T", bytes(105)), False, {"ContentError"}),
    "scalar type 9": (image("Scan", bytes(16), (4, 4, 1), scalar=9), False, {"ContentError"}),
    "scalar type 0": (image("Scan", bytes(16), (4, 4, 1), scalar=0), False, {"ContentError"}),
    "scalar type 255": (image("Scan", bytes(16), (4, 4, 1), scalar=255), False, {"ContentError"}),
    "an image larger than its body": (lying_image((60_000, 60_000, 60_000), 100), False, {"ContentError"}),
    "an image smaller than its body": (lying_image((2, 2, 1), 100), False, {"ContentError"}),
    "an image without a voxel": (lying_image((0, 0, 0), 0), False, {"ContentError"}),
    "text longer than its body": (wire("STRING", "S", struct.pack(">HH", 3, 60_000) + b"short"), False,
                                  {"ContentError"}),
    "text that is not UTF-8": (wire("STRING", "S", struct.pack(">HH", 106, 3) + b"\xff\xfe\xfd"), False,
                               {"ContentError"}),
    "a short STATUS": (wire("STATUS", "S", b"\0\1"), False, {"ContentError"}),
    "a lying COMMAND": (wire("COMMAND", "C", struct.pack(">I128sHI", 1, b"Go", 3, 2**32 - 1) + b"x"), False,
                        {"ContentError"}),
    "a lying POLYDATA": (wire("POLYDATA", "P", struct.pack(">10I", *[2**32 - 1] * 10)), False, {"ContentError"}),
    "a lying NDARRAY": (wire("NDARRAY", "N", struct.pack(">BB3H", 11, 3, 65535, 65535, 65535)), False,
                        {"ContentError"}),
    "version 2 without an extended header": (header(b"STRING", b"S", 4, crc64(bytes(4)), version=2) + bytes(4), False,
                                             {"ContentError"}),
    "an extended header larger than the body": (extended(60_000, 0, 0, b"x" * 20), False, {"ContentError"}),
    "metadata larger than the body": (extended(12, 2, 2**31, bytes(6)), False, {"ContentError"}),
    "60,000 metadata entries in 2 bytes": (extended(12, 2, 0, bytes(4) + b"\xff\xff"), False, {"ContentError"}),
    "20,000 device names": (b"".join(transform(f"D{index}") for index in range(20_000)), False, {"DeviceLimitError"}),
    "good messages, then nonsense": (transform("Tip") * 3 + string("S", "ok") + RANDOM.randbytes(500), False,
                                     {"HeaderError"}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_server_gets_an_error_and_an_honest_one_gets_through(name: str) -> None:
    data, hangs_up, errors = CASES[name]
    with RawServer() as server, LinkClient("127.0.0.1", server.port, **FAST) as client:
        peer = server.accept()
        before = resident_bytes()
        send_all(peer, data)
        if hangs_up:
            peer.close()
        honest = server.accept()  # the client came again
        assert client.status().error_type in errors, client.status().last_error
        assert client.status().last_error.startswith("OpenIGTLink")
        assert client.latest("TRANSFORM", "Tip") is None
        honest.sendall(transform("Good", 4.0))
        assert until(lambda: client.latest("TRANSFORM", "Good") is not None)
        assert client.latest("TRANSFORM", "Good").matrix[0, 3] == 4.0
        assert resident_bytes() - before < GROWTH_LIMIT
        assert client.send(String(device="S", text="still here"))
        assert read_message(honest)[2] == "S"


def test_a_server_under_attack_serves_its_honest_client() -> None:
    """All cases at once against one server, while an honest client is served all the while."""
    with LinkServer(**FAST, max_clients=8) as server, LinkClient("127.0.0.1", server.port) as honest:
        assert until(lambda: honest.state is LinkState.CONNECTED and server.clients() == [1])
        before = resident_bytes()
        for index, (name, (data, hangs_up, errors)) in enumerate(CASES.items()):
            with raw_client(server.port) as attacker:
                send_all(attacker, data)
                if hangs_up:
                    attacker.shutdown(socket.SHUT_WR)
                try:
                    while attacker.recv(1 << 16):  # until the server has hung up
                        continue
                except ConnectionError:
                    attacker.close()
            assert until(lambda: server.clients() == [1]), name
            assert server.status().error_type in errors, (name, server.status().last_error)
            assert server.send(String(device="S", text=str(index))) == 1
            assert honest.wait(10)
            assert [m.text for m in honest.drain()] == [str(index)]
        assert server.latest("TRANSFORM", "Tip") is None
        assert resident_bytes() - before < GROWTH_LIMIT


def test_twenty_thousand_names_of_texts_take_no_memory() -> None:
    """Each command has a name of its own, so the queue's devices can't be limited; what is known of them is."""
    with RawServer() as server, LinkClient("127.0.0.1", server.port, max_devices=50) as client:
        peer = server.accept()
        data = b"".join(string(f"CMD_{index}", "x") for index in range(20_000))
        before = resident_bytes()
        peer.sendall(data + transform("Good"))
        assert until(lambda: client.latest("TRANSFORM", "Good") is not None)
        assert client.status().connects == 1
        assert len(client.status().devices) <= 100
        assert len(client.drain()) == 1025  # the newest 1024 of the queue, and the pose
        assert client.status().dropped == 20_000 - 1024
        assert resident_bytes() - before < GROWTH_LIMIT


def test_what_is_held_for_one_peer_is_limited() -> None:
    with RawServer() as server, LinkClient("127.0.0.1", server.port, max_held=3_000_000, **FAST) as client:
        peer = server.accept()
        for index in range(4):
            send_all(peer, image(f"Scan{index}", bytes(10**6), (1000, 1000, 1)))
        server.accept()
        assert client.status().error_type == "HeldLimitError"
        assert until(lambda: client.status().connects == 2)
        assert client.latest("IMAGE", "Scan0") is None


def test_what_grows_when_it_is_decoded_counts_for_what_it_becomes() -> None:
    """A tool takes 70 bytes on the wire and some 500 in memory: 60,000 of them, 256 times, were 8 GB."""
    content = b"".join(struct.pack(">20sBB12f", b"t%d" % k, 2, 0, *[1.0] * 12) for k in range(2000))
    entries = {f"k{k}": str(k) for k in range(2000)}
    with RawServer() as server, LinkClient("127.0.0.1", server.port, max_held=3_000_000, fifo_bytes=1_000_000,
                                           **FAST) as client:
        peer, before = server.accept(), resident_bytes()
        send_all(peer, wire("STRING", "s", struct.pack(">HH", 3, 0), version=2, metadata=entries) * 20)
        assert until(lambda: client.status().received == 20)
        assert len(client.drain()) <= 4
        for number in range(8):
            send_all(peer, wire("TDATA", f"Tracker{number}", content))
        server.accept()
        assert client.status().error_type == "HeldLimitError"
        assert resident_bytes() - before < 30_000_000


@pytest.mark.parametrize("bites", [(1, 0.02), (58, 0.05)], ids=["header", "body"])
def test_a_message_that_dribbles_is_a_stall_although_bytes_keep_coming(bites: tuple[int, float]) -> None:
    start, pause_s = bites
    data = wire("STATUS", "S", bytes(30) + b"x" * 200)
    over = threading.Event()

    def dribble(peer: socket.socket) -> None:
        at = start
        while not over.wait(pause_s) and at < len(data):
            send_all(peer, data[at:at + 1])
            at += 1

    with RawServer() as server, LinkClient("127.0.0.1", server.port, **FAST) as client:
        peer = server.accept()
        peer.sendall(data[:start])
        thread = threading.Thread(target=dribble, args=(peer,))
        thread.start()
        server.accept()
        over.set()
        thread.join()
        assert client.status().error_type == "StallError"


def test_a_slow_but_living_message_is_no_stall() -> None:
    data = image("Scan", bytes(200), (200, 1, 1))
    with RawServer() as server, LinkClient("127.0.0.1", server.port, stall_s=5) as client:
        peer = server.accept()
        for index in range(len(data)):
            peer.sendall(data[index:index + 1])
            if index % 40 == 0:
                time.sleep(0.01)
        assert until(lambda: client.latest("IMAGE", "Scan") is not None)
        assert client.status().connects == 1


# ------------------------------------------------------------------------------------------------- pulling the plug
def _cut_streams(seed: int, count: int) -> list[tuple[bytes, list[str]]]:
    """Streams of texts, poses and images cut at any byte, with the texts that are whole before the cut."""
    rng = random.Random(seed)
    out = []
    for turn in range(count):
        pieces, texts = [], []
        for index in range(12):
            texts.append(f"{turn}.{index}")
            pieces += [string("S", texts[-1]), transform("Tip", index)]
            if index == 5:
                pieces.append(image("Scan", rng.randbytes(90_000), (300, 300, 1)))
        data = b"".join(pieces)
        cut = rng.randrange(len(data)) if turn % 2 else rng.randrange(2000)
        whole, at = [], 0
        for piece in pieces:
            at += len(piece)
            if at <= cut and piece[2:8] == b"STRING":
                whole.append(piece[58 + 4:].decode())
        out.append((data[:cut], whole))
    return out


@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=["closed", "reset"])
def test_the_plug_is_pulled_at_any_byte_of_what_we_receive(end: Callable[[socket.socket], None]) -> None:
    found: list[str] = []
    expected: list[str] = []
    with RawServer() as server, LinkClient("127.0.0.1", server.port, **FAST) as client:
        for turn, (data, whole) in enumerate(_cut_streams(5, 40)):
            peer = server.accept()
            assert until(lambda turn=turn: client.status().connects == turn + 1)
            peer.sendall(data)
            end(peer)
            expected += whole
        server.accept()
        assert until(lambda: client.status().connects == 41)
        assert client.latest("TRANSFORM", "Tip") is None
        drained = client.drain()
        found = [m.text for m in drained]
        assert {m.wire_type for m in drained} <= {"STRING"}
        if end is reset:  # what waited in a buffer may be lost; nothing is invented, nothing is out of order
            places = [expected.index(text) for text in found]
            assert places == sorted(places)
        else:
            assert found == expected


def test_the_plug_is_pulled_at_any_byte_of_what_we_send() -> None:
    rng = random.Random(6)
    with LinkServer(**FAST) as server:
        for turn in range(40):
            peer = raw_client(server.port, 4096)
            assert until(lambda: len(server.clients()) == 1)
            for index in range(200):
                server.send(String(device=f"{turn}.{index}", text="x" * 1000))
            left = rng.randrange(100_000)
            while left > 0:
                left -= len(peer.recv(min(left, 5000)))
            (reset if turn % 2 else socket.socket.close)(peer)
            assert until(lambda: server.clients() == [])
        with raw_client(server.port) as peer:
            assert until(lambda: len(server.clients()) == 1)
            assert server.send(String(device="Good", text="after all that")) == 1
            assert read_message(peer)[2] == "Good"  # and nothing of before
