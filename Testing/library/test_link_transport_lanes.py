"""Several clients, the lane of the commands, what is left when a link closes. No times: peers that do not read."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from IRAILib.geometry import InputError
from IRAILib.link.client import LinkClient
from IRAILib.link.messages import Image, Status, String, Transform
from IRAILib.link.options import LinkState
from IRAILib.link.server import LinkServer
from link_raw_peer import RawServer, raw_client, read_message, resident_bytes, string, transform, until

LIBRARY = Path(__file__).resolve().parents[2] / "IRAIExtension"
FAST = {"backoff_s": (0.005, 0.02)}
SMALL = 4096  # receive buffer of a peer that does not read
MORE_THAN_BUFFERS_HOLD = (8, 1000, 1000)


def scan(device: str, value: int) -> Image:
    return Image(device=device, array=np.full(MORE_THAN_BUFFERS_HOLD, value, np.uint8))


def test_a_command_overtakes_all_but_the_message_on_the_wire() -> None:
    with RawServer(receive_bytes=SMALL) as server, LinkClient("127.0.0.1", server.port) as client:
        peer = server.accept()
        assert until(lambda: client.state is LinkState.CONNECTED)
        for index in range(4):
            assert client.send(scan(f"Scan{index}", index))
        for text in "ab":
            assert client.send(String(device="Log", text=text))
        assert client.send(String(device="CMD_1", text="STOP"), priority=True)
        assert client.send(Status(device="CMD_2"), priority=True)
        names = [read_message(peer)[2] for _ in range(8)]
        assert names == ["Scan0", "CMD_1", "CMD_2", "Log", "Log", "Scan1", "Scan2", "Scan3"]


def test_a_command_leaves_in_the_thread_that_sends_it() -> None:
    """The loop's thread is held up; the command is out all the same when `send` returns."""
    with RawServer() as server, LinkClient("127.0.0.1", server.port) as client:
        peer = server.accept()
        assert until(lambda: client.state is LinkState.CONNECTED)
        held, go = threading.Event(), threading.Event()

        def hold(*_: object) -> None:
            held.set()
            go.wait(10)

        assert client._peer.connection is not None
        client._peer.connection._stamp = hold
        peer.sendall(transform("Tip"))
        assert held.wait(10)
        try:
            assert client.send(String(device="CMD_1", text="STOP"), priority=True)
            assert read_message(peer)[2] == "CMD_1"
        finally:
            go.set()


def test_a_stream_nobody_reads_keeps_the_newest_and_not_the_memory() -> None:
    with RawServer(receive_bytes=SMALL) as server, LinkClient("127.0.0.1", server.port, send_stall_s=30) as client:
        peer = server.accept()
        assert until(lambda: client.state is LinkState.CONNECTED)
        assert client.send(scan("Scan", 0))
        assert client.send(scan("Scan", 1))
        before = resident_bytes()
        for value in range(2, 30):
            assert client.send(scan("Scan", value))
        assert resident_bytes() - before < 4 * np.prod(MORE_THAN_BUFFERS_HOLD)
        assert client.status().skipped == 28
        assert client.status().unsent == 2
        bodies = [read_message(peer)[3] for _ in range(2)]
        assert [set(body[72::999_983]) for body in bodies] == [{0}, {29}]


def test_an_array_may_change_as_soon_as_send_has_returned() -> None:
    with RawServer(receive_bytes=SMALL) as server, LinkClient("127.0.0.1", server.port) as client:
        peer = server.accept()
        assert until(lambda: client.state is LinkState.CONNECTED)
        for device in ("OnTheWire", "Waiting"):
            message = scan(device, 7)
            assert client.send(message)
            message.array[:] = 8
        for device in ("OnTheWire", "Waiting"):
            _, _, name, body = read_message(peer)
            assert name == device
            assert body[72:] == b"\x07" * int(np.prod(MORE_THAN_BUFFERS_HOLD))


def test_a_full_queue_of_ours_says_no() -> None:
    with RawServer(receive_bytes=SMALL) as server, LinkClient("127.0.0.1", server.port, fifo_length=5) as client:
        server.accept()
        assert until(lambda: client.state is LinkState.CONNECTED)
        assert client.send(scan("Scan", 0))
        assert [client.send(String(text=str(i))) for i in range(8)] == [True] * 5 + [False] * 3
        assert [client.send(String(text=str(i)), priority=True) for i in range(8)] == [True] * 5 + [False] * 3
        assert client.status().refused == 6


def test_a_peer_that_takes_nothing_is_cut_off() -> None:
    with RawServer(receive_bytes=SMALL) as server, LinkClient("127.0.0.1", server.port, send_stall_s=0.2,
                                                              **FAST) as client:
        server.accept()
        assert until(lambda: client.state is LinkState.CONNECTED)
        assert client.send(scan("Scan", 0))
        server.accept()
        assert until(lambda: client.status().connects == 2)
        assert "taken nothing" in client.status().last_error


# ------------------------------------------------------------------------------------------------- several clients
def test_a_client_that_never_reads_holds_up_nobody() -> None:
    with LinkServer(send_stall_s=60, fifo_length=5000) as server, raw_client(server.port, SMALL) as deaf, \
            LinkClient("127.0.0.1", server.port) as first, LinkClient("127.0.0.1", server.port) as second:
        assert until(lambda: len(server.clients()) == 3)
        for index in range(5):
            assert server.send(scan("Scan", index)) == 3
        for index in range(300):
            assert server.send(String(device="S", text=str(index))) == 3
        assert server.send(Transform(device="Tip"), client=server.clients()[0]) in (0, 1)
        for client in (first, second):
            found: list = []
            assert until(lambda found=found, client=client: found.extend(
                m for m in client.drain() if m.wire_type == "STRING") or len(found) >= 300)
            assert [m.text for m in found] == [str(i) for i in range(300)]
            assert until(lambda client=client: client.latest("IMAGE", "Scan") is not None
                         and client.latest("IMAGE", "Scan").array.flat[0] == 4)
        assert deaf.fileno() >= 0
        waiting = sorted(part.unsent for part in server.status().clients)
        assert waiting[:2] == [0, 0]
        assert waiting[2] > 200


def test_a_server_knows_who_said_what_and_forgets_who_has_gone() -> None:
    with LinkServer() as server:
        assert server.state is LinkState.LISTENING
        with raw_client(server.port) as one, raw_client(server.port) as two:
            assert until(lambda: len(server.clients()) == 2)
            a, b = server.clients()
            one.sendall(transform("Tip", 1) + string("S", "from one"))
            assert until(lambda: server.status().received == 2)
            two.sendall(transform("Tip", 2) + string("S", "from two"))
            assert until(lambda: server.status().received == 4)
            assert server.latest("TRANSFORM", "Tip").matrix[0, 3] == 2
            assert server.latest("TRANSFORM", "Tip", client=a).matrix[0, 3] == 1
            found = server.drain()
            assert [(m.wire_type, m.client) for m in found] == [("STRING", a), ("STRING", b), ("TRANSFORM", a),
                                                                ("TRANSFORM", b)]
            assert server.send(String(text="x"), client=b) == 1
            assert read_message(two)[1] == "STRING"
            two.sendall(transform("Tip", 3) + string("CMD_9", "STOP"))
            two.close()  # its last word is a command
            assert until(lambda: server.clients() == [a])
            assert [(m.device, m.text, m.client) for m in server.drain()] == [("CMD_9", "STOP", b)]
            assert server.latest("TRANSFORM", "Tip").matrix[0, 3] == 1
            assert server.send(String(text="x"), client=b) == 0
        assert until(lambda: server.clients() == [])
        assert server.latest("TRANSFORM", "Tip") is None
    assert server.state is LinkState.CLOSED


def test_more_clients_than_allowed_are_turned_away() -> None:
    with LinkServer(max_clients=2) as server, raw_client(server.port) as one, raw_client(server.port):
        assert until(lambda: len(server.clients()) == 2)
        with raw_client(server.port) as third:
            assert third.recv(1) == b""
        assert "refused" in server.status().last_error
        one.close()
        assert until(lambda: len(server.clients()) == 1)
        with raw_client(server.port):
            assert until(lambda: len(server.clients()) == 2)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux answers on 127.0.0.2 without set-up")
def test_only_this_machine_unless_asked_otherwise() -> None:
    import socket

    with LinkServer() as server, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", server.port), timeout=5)
    with pytest.raises(InputError, match="empty"):  # the system would listen on every interface
        LinkServer(host="")
    with LinkServer(host="0.0.0.0") as server, socket.create_connection(("127.0.0.2", server.port), timeout=5):
        assert until(lambda: len(server.clients()) == 1)


# ------------------------------------------------------------------------------------------------- the end
def test_a_command_sent_just_before_the_end_arrives() -> None:
    """The peer streams all the while, so that unread bytes wait in the socket that is closed."""
    for _ in range(5):
        with RawServer() as server:
            client = LinkClient("127.0.0.1", server.port).start()
            peer = server.accept()
            assert until(lambda client=client: client.state is LinkState.CONNECTED)
            for index in range(2000):
                peer.sendall(transform("Tip", index))
            assert client.send(String(device="CMD_1", text="STOP"), priority=True)
            client.close()
            assert client.state is LinkState.CLOSED
            assert read_message(peer)[2] == "CMD_1"


def test_what_is_on_the_wire_and_a_command_behind_it_are_sent_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("IRAILib.link.connection.LINGER_S", 6.0)  # a busy machine needs longer than a user would wait
    with RawServer(receive_bytes=SMALL) as server:
        client = LinkClient("127.0.0.1", server.port).start()
        peer = server.accept()
        assert until(lambda: client.state is LinkState.CONNECTED)
        assert client.send(scan("Scan", 1))
        assert client.send(scan("Late", 2))
        assert client.send(String(device="CMD_1", text="STOP"), priority=True)
        closing = threading.Thread(target=client.close)
        closing.start()
        assert [read_message(peer)[2] for _ in range(2)] == ["Scan", "CMD_1"]
        assert peer.recv(1) == b""  # a stream that was not on the wire is not worth waiting for
        peer.close()
        closing.join()
        assert client.state is LinkState.CLOSED


def test_fifty_connections_leave_no_thread_and_no_file_behind() -> None:
    gc.collect()
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    with LinkServer() as server:
        for _ in range(25):
            with LinkClient("127.0.0.1", server.port) as client:
                assert until(lambda client=client: client.state is LinkState.CONNECTED)
    with RawServer() as raw, LinkClient("127.0.0.1", raw.port, **FAST) as client:
        for count in range(1, 26):
            raw.accept().close()
            assert until(lambda count=count: client.status().connects >= count)
    assert until(lambda: threading.active_count() == threads), threading.enumerate()
    if sys.platform == "linux":
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= files
    client.close()
    server.close()


SCRIPT = """
import os, sys, threading, time
from IRAILib.link.client import LinkClient
from IRAILib.link.server import LinkServer
from IRAILib.link.messages import String
server = LinkServer().start()
client = LinkClient("127.0.0.1", server.port).start()
end = time.monotonic() + 10
while not (server.clients() and client.state == "connected") and time.monotonic() < end:
    time.sleep(0.01)
child = os.fork()
if child == 0:
    assert not client.send(String(text="from the child"))
    client.close()
    server.close()
    os._exit(0 if client.state == "closed" else 3)
_, status = os.waitpid(child, 0)
assert status == 0, status
time.sleep(0.1)
assert client.status().connects == 1 and client.state == "connected"
assert client.send(String(device="S", text="alive"))
assert server.wait(10)
assert [m.text for m in server.drain()] == ["alive"]
print("alive", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_leaves_the_link_alone_and_an_open_link_does_not_keep_python_from_ending() -> None:
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=60,
                          check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (0, "alive", "")
