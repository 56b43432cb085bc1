"""One meeting between our link and a program of OpenIGTLink's C++ library, in a network namespace of its own.

    python cpp_session.py NAME FOLDER [PORT]

NAME is one of `SESSIONS`, FOLDER holds the programs. What was received is printed as one JSON. The C++ servers listen
on every interface; in the namespace there is only loopback.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
PORT = 18944
DEADLINE_S = 20.0
IMAGES = Path("/usr/share/doc/openigtlink-examples/examples/Imager/img")
INSIDE = "IRAI_IN_NAMESPACE"


def isolated(arguments: list[str]) -> list[str]:
    """The command line, in a network namespace where the machine lets us make one."""
    unshare = shutil.which("unshare")
    if unshare and subprocess.run([unshare, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return ["env", f"{INSIDE}=1", unshare, "-n", "--", *arguments]
    return arguments


def loopback_up() -> None:
    """A new namespace has a loopback interface that is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(probe, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen]:
    """A C++ program, ended when the block ends; its output goes to a pipe that is read at the end."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait(5)


def until(condition: Callable[[], bool]) -> bool:
    """Wait for a condition, for a bounded time."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def listen(program: Path, port: int, *more: str, count: int = 3, ask=None, fifo=()) -> dict:
    """Our client hears a C++ server: `count` messages, of which the fields are given."""
    from IRAILib.link.client import LinkClient

    messages: list = []
    with running(str(program), str(port), *more), \
            LinkClient("127.0.0.1", port, backoff_s=(0.05, 0.2), fifo_types=frozenset(fifo)) as client:
        if ask is not None:
            until(lambda: client.send(ask))

        def enough() -> bool:
            messages.extend(client.drain())
            return len(messages) >= count

        until(enough)
        status = client.status()
    return {"messages": [described(message) for message in messages[:count]], "errors": status.last_error,
            "connects": status.connects}


def described(message) -> dict:
    """Type, device and every field, as JSON."""
    out = {"type": type(message).__name__, "device": message.device}
    for name, value in vars(message).items():
        if name.startswith("_") or name in ("client", "metadata"):
            continue
        out[name] = plain(value)
    return out


def plain(value):
    if isinstance(value, np.ndarray):
        return {"shape": list(value.shape), "sum": float(value.sum()), "first": value.ravel()[:16].tolist()} \
            if value.size > 64 else value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(item) for name, item in vars(value).items()}
    if isinstance(value, (memoryview, bytes, bytearray)):
        return bytes(value).hex()
    return value


def our_messages() -> list:
    """What we send to the C++ receivers: asymmetric numbers that a swapped axis or sign would show."""
    from IRAILib.link import messages as m

    matrix = np.array([[0.36, 0.48, -0.8, 12.5], [-0.8, 0.6, 0.0, -7.25], [0.48, 0.64, 0.6, 3.125], [0, 0, 0, 1.0]])
    image = (np.arange(2 * 3 * 4, dtype=np.uint8) * 7).reshape(2, 3, 4)
    return [m.Transform(matrix, device="Probe"), m.Position(np.array([1.5, -2.5, 3.5]), device="Pointer"),
            m.Status(code=13, subcode=7, error_name="NOT_READY", text="axis two", device="Robot"),
            m.String("hello from IRAI", device="Text"),
            m.Point([m.PointItem(name="T1", group="Target", xyz=np.array([1.0, 2.0, 4.0]), radius=2.5)], device="Pts"),
            m.Capability(["TRANSFORM", "GET_STATUS"], device="Cap"),
            m.Image(array=image, ras_from_ijk=matrix, device="Scan")]


def receive_server(folder: Path, port: int) -> dict:
    """The C++ ReceiveServer prints what our client sends."""
    from IRAILib.link.client import LinkClient

    with running(str(folder / "Receiver" / "ReceiveServer"), str(port)) as peer:
        with LinkClient("127.0.0.1", port, backoff_s=(0.05, 0.2)) as client:
            connected = until(lambda: client.state == "connected")
            sent = [bool(client.send(message)) for message in our_messages()]
            time.sleep(0.6)
        peer.kill()
        text = peer.communicate(timeout=5)[0].decode("utf-8", "replace")
    return {"connected": connected, "sent": sent, "text": text}


def receive_client(folder: Path, port: int) -> dict:
    """The C++ ReceiveClient connects to our server and prints what it sends."""
    from IRAILib.link.server import LinkServer

    with LinkServer(port) as server, running(str(folder / "Receiver" / "ReceiveClient"), "127.0.0.1",
                                             str(server.port)) as peer:
        connected = until(lambda: bool(server.clients()))
        sent = [server.send(message) for message in our_messages()]
        time.sleep(0.6)
        peer.kill()
        text = peer.communicate(timeout=5)[0].decode("utf-8", "replace")
        gone = until(lambda: not server.clients())
    return {"connected": connected, "sent": sent, "text": text, "gone": gone}


def plug_pulled(folder: Path, port: int) -> dict:
    """A C++ tracker is killed while it streams, and started again."""
    from IRAILib.link.client import LinkClient

    program = str(folder / "Tracker" / "TrackerServer")
    with LinkClient("127.0.0.1", port, backoff_s=(0.05, 0.2)) as client:
        with running(program, str(port), "50"):
            first = until(lambda: client.latest("TRANSFORM", "Tracker") is not None)
            client.send(our_messages()[0])  # it never reads: its end is then a reset, and its port is free at once
            time.sleep(0.1)
        cleared = until(lambda: client.state != "connected" and client.latest("TRANSFORM", "Tracker") is None)
        refused = client.send(our_messages()[0])
        with running(program, str(port), "50"):
            again = until(lambda: client.latest("TRANSFORM", "Tracker") is not None)
        status = client.status()
    return {"first": first, "cleared": cleared, "sent_while_gone": refused, "again": again,
            "connects": status.connects, "state_at_end": str(client.state)}


def tracking(folder: Path, port: int) -> dict:
    from IRAILib.link import messages as m

    ask = m.Query(name="STT_TDATA", interval_ms=20, coordinate_system="RAS", device="TDataClient")
    return listen(folder / "TrackingData" / "TrackingDataServer", port, ask=ask, fifo=("TDATA",))


def quaternions(folder: Path, port: int) -> dict:
    from IRAILib.link import messages as m

    ask = m.Query(name="STT_QTDATA", interval_ms=20, coordinate_system="RAS", device="QTDataClient")
    program = folder / "QuaternionTrackingData" / "QuaternionTrackingDataServer"
    return listen(program, port, ask=ask, fifo=("QTDATA",))


def images(folder: Path, port: int) -> dict:
    return listen(folder / "Imager" / "ImagerServer", port, "20", str(IMAGES), fifo=("IMAGE",))


def asked(program: str, query: str) -> Callable[[Path, int], dict]:
    """A server that answers a query."""
    def session(folder: Path, port: int) -> dict:
        from IRAILib.link import messages as m

        return listen(folder / program, port, count=1, ask=m.Query(name=query, device="Q"), fifo=("POLYDATA",))

    return session


SESSIONS: dict[str, Callable[[Path, int], dict]] = {
    "tracker": lambda folder, port: listen(folder / "Tracker" / "TrackerServer", port, "50", fifo=("TRANSFORM",)),
    "position": lambda folder, port: listen(folder / "Tracker" / "TrackerServer2", port, "50", fifo=("POSITION",)),
    "images": images,
    "status": lambda folder, port: listen(folder / "Status" / "StatusServer", port, count=1),
    "points": lambda folder, port: listen(folder / "Point" / "PointServer", port, count=1),
    "capability": lambda folder, port: listen(folder / "Capability" / "CapabilityServer", port, count=1),
    "string": lambda folder, port: listen(folder / "String" / "StringServer", port, "20", count=1),
    "trajectory": lambda folder, port: listen(folder / "Trajectory" / "TrajectoryServer", port, count=1),
    "polydata": asked("PolyData/PolyDataServer", "GET_POLYDATA"),
    "imgmeta": asked("ImageMeta/ImageMetaServer", "GET_IMGMETA"),
    "lbmeta": asked("ImageMeta/LabelMetaServer", "GET_LBMETA"),
    "tracking": tracking, "quaternions": quaternions, "receive_server": receive_server,
    "receive_client": receive_client, "plug": plug_pulled,
}


def main(name: str, folder: str, port: int) -> None:
    if os.environ.get(INSIDE):
        loopback_up()
    result = SESSIONS[name](Path(folder), port)
    print(json.dumps({**result, "isolated": bool(os.environ.get(INSIDE))}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else PORT)
