"""One-way latency of the link on loopback, beside OpenIGTLink's C++ library and pyigtl; how soon a STOP is there.

Sender and receiver are two processes that share the machine's clock; each message is stamped when its pixels are ready
to go, and read against the clock when the application has it. Checksums are made and checked, except by pyigtl, which
never checks them.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
INCLUDE = Path("/usr/include/openigtlink")
COUNT, WARM_UP = 600, 30  # of images at 60 a second
VOLUMES, VOLUMES_WARM_UP = 24, 4
STOPS = 100
STREAM_HZ = 1000
SIZES = {"640x480": (640, 480, 1, 1, 60.0), "1024x768": (1024, 768, 1, 1, 60.0), "256^3 int16": (256, 256, 256, 2, 2.0)}
PATHS = (("sockets", "sockets"), ("IRAI", "IRAI"), ("C++", "C++"), ("C++", "IRAI"),
         ("pyigtl", "pyigtl"), ("pyigtl", "IRAI"))
TARGETS = {"640x480": "0.3 / 2", "1024x768": "", "256^3 int16": "40"}


# ------------------------------------------------------------------------------------------------- peers in Python
class Meter:
    """Processor time of this process from now on."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def tell(self) -> None:
        print(f"cpu {time.process_time() - self._cpu:.3f} wall {time.monotonic() - self._wall:.3f}", flush=True)


def _paced(count: int, hz: float) -> Iterator[int]:
    next_s = time.monotonic() + 0.3
    for index in range(count):
        time.sleep(max(0.0, next_s - time.monotonic()))
        yield index
        next_s += 1 / hz


def _array(size: tuple[int, int, int], octets: int) -> np.ndarray:
    return np.full(size[::-1], 7, np.int16 if octets == 2 else np.uint8)


def irai_send(size: tuple[int, int, int], octets: int, fps: float, count: int) -> None:
    from IRAILib.link.messages import Image
    from IRAILib.link.server import LinkServer

    array = _array(size, octets)
    with LinkServer() as server:
        print(f"port {server.port}", flush=True)
        while not server.clients():
            time.sleep(0.01)
        meter = Meter()
        for _ in _paced(count, fps):
            server.send(Image(device="Scan", array=array, time_s=time.time()))
        time.sleep(0.3)
        meter.tell()


def irai_receive(port: int, count: int, seconds: float) -> None:
    from IRAILib.link.client import LinkClient

    end, found = time.monotonic() + seconds, 0
    with LinkClient("127.0.0.1", port) as client:
        meter = Meter()
        while found < count and time.monotonic() < end and client.wait(end - time.monotonic()):
            for message in client.drain():
                print(f"{1000 * (time.time() - message.time_s):.6f}", flush=False)
                found += 1
                del message  # the buffer may be used again
        meter.tell()


def sockets_send(size: tuple[int, int, int], octets: int, fps: float, count: int) -> None:
    """The floor: as many bytes through a plain socket, with a time in front and nothing else."""
    pixels = bytearray(_array(size, octets).tobytes())
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(f"port {server.getsockname()[1]}", flush=True)
        taken, _ = server.accept()
        with taken:
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            meter = Meter()
            for _ in _paced(count, fps):
                struct.pack_into("<Qd", pixels, 0, len(pixels), time.time())
                taken.sendall(pixels)
            time.sleep(0.3)
            meter.tell()


def sockets_receive(port: int, count: int, seconds: float) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as link:
        meter = Meter()
        buffer = memoryview(bytearray(16))
        for _ in range(count):
            got = 0
            while got < 16 or got < struct.unpack_from("<Q", buffer)[0]:
                if got >= 16 and len(buffer) < struct.unpack_from("<Q", buffer)[0]:
                    grown = memoryview(bytearray(struct.unpack_from("<Q", buffer)[0]))
                    grown[:16] = buffer[:16]
                    buffer = grown
                got += link.recv_into(buffer[got:])
            print(f"{1000 * (time.time() - struct.unpack_from('<Qd', buffer)[1]):.6f}", flush=False)
        meter.tell()


def irai_stream(hz: float, count: int, seconds: float) -> None:
    from IRAILib.link.messages import Transform
    from IRAILib.link.server import LinkServer

    over = threading.Event()
    with LinkServer() as server:
        print(f"port {server.port}", flush=True)
        while not server.clients():
            time.sleep(0.01)
        meter = Meter()

        def listen() -> None:
            left = count
            while left and not over.is_set() and server.wait(seconds):
                for message in server.drain():
                    print(f"{1000 * (time.time() - message.time_s):.6f}", flush=True)
                    left -= 1
            over.set()

        threading.Thread(target=listen, daemon=True).start()
        end = time.monotonic() + seconds
        for _ in _paced(int(hz * seconds), hz):
            server.send(Transform(device="Tip", time_s=time.time()))
            if over.is_set() or time.monotonic() > end:
                break
        over.set()
        meter.tell()


def irai_stop(port: int, count: int) -> None:
    from IRAILib.link.client import LinkClient
    from IRAILib.link.messages import String
    from IRAILib.link.options import LinkState

    rng = random.Random(1)
    with LinkClient("127.0.0.1", port) as client:
        time.sleep(0.5)
        meter = Meter()
        for _ in range(count):
            client.wait(rng.uniform(0.02, 0.06))  # an application that handles what comes
            client.drain()
            time.sleep(rng.uniform(0.02, 0.06))
            client.send(String(device="CMD_1", text="STOP", time_s=time.time()), priority=True)
        meter.tell()
        end = time.monotonic() + 5
        while client.state is LinkState.CONNECTED and time.monotonic() < end:
            time.sleep(0.01)


def pyigtl_send(size: tuple[int, int, int], octets: int, fps: float, count: int) -> None:
    import pyigtl

    array = _array(size, octets)
    server = pyigtl.OpenIGTLinkServer(port=0, local_server=True)
    print(f"port {server.server_address[1]}", flush=True)
    while not server.is_connected():
        time.sleep(0.01)
    meter = Meter()
    for _ in _paced(count, fps):
        server.send_message(pyigtl.ImageMessage(array, device_name="Scan", timestamp=time.time()), wait=False)
    time.sleep(0.5)
    meter.tell()


def pyigtl_receive(port: int, count: int, seconds: float) -> None:
    import pyigtl

    client = pyigtl.OpenIGTLinkClient("127.0.0.1", port)
    meter, end = Meter(), time.monotonic() + seconds
    for _ in range(count):
        message = client.wait_for_message("Scan", timeout=max(0.0, end - time.monotonic()))
        if message is None:
            break
        print(f"{1000 * (time.time() - message.timestamp):.6f}")
    meter.tell()


def pyigtl_stop(port: int, count: int) -> None:
    import pyigtl

    client, rng, meter = pyigtl.OpenIGTLinkClient("127.0.0.1", port), random.Random(1), Meter()
    time.sleep(0.5)
    for _ in range(count):
        time.sleep(rng.uniform(0.04, 0.12))
        client.send_message(pyigtl.StringMessage("STOP", device_name="CMD_1", timestamp=time.time()), wait=False)
    meter.tell()
    time.sleep(1)


def peer(words: list[str]) -> None:
    """One process of a measurement: `python link.py peer IRAI send 640 480 1 1 60 600`."""
    kind, role, *rest = words
    act: Callable = globals()[f"{kind.lower()}_{role}"]
    numbers = [float(word) for word in rest]
    if role == "send":
        i, j, k, octets, fps, count = numbers
        act((int(i), int(j), int(k)), int(octets), fps, int(count))
    elif role == "stream":
        act(numbers[0], int(numbers[1]), numbers[2])
    elif role == "receive":
        act(int(numbers[0]), int(numbers[1]), numbers[2])
    else:
        act(int(numbers[0]), int(numbers[1]))


# ------------------------------------------------------------------------------------------------- measuring
@dataclass
class Measured:
    latencies_ms: list[float] = field(default_factory=list)
    server_cpu: float = float("nan")
    client_cpu: float = float("nan")

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.latencies_ms, share)) if self.latencies_ms else float("nan")


def build(folder: Path) -> tuple[Path | None, str]:
    """The C++ peer, or why there is none."""
    compiler = shutil.which("g++")
    if compiler is None or not INCLUDE.is_dir():
        return None, "not to be had: g++ and libopenigtlink-dev are needed"
    program = folder / "link_peer"
    done = subprocess.run([compiler, "-O2", "-w", f"-I{INCLUDE}", str(HERE / "link_peer.cxx"), "-o", str(program),
                           "-lOpenIGTLink", "-lpthread"], capture_output=True, text=True, check=False)
    return (program, "") if done.returncode == 0 else (None, f"not to be had: {done.stderr.splitlines()[0][:100]}")


def _command(kind: str, role: str, program: Path | None, *words: object) -> list[str]:
    texts = [str(word) for word in words]
    if kind != "C++":
        return [sys.executable, str(Path(__file__).resolve()), "peer", kind, role, *texts]
    return [str(program), role, *([("127.0.0.1"), *texts] if role in ("receive", "stop") else texts)]


def _parsed(text: str) -> tuple[list[float], float]:
    """(latencies in ms, processor time as a share of the time)."""
    values, share = [], float("nan")
    for words in (line.split() for line in text.splitlines()):
        if words[:1] == ["cpu"]:
            share = float(words[1]) / max(float(words[3]), 1e-9)
        elif len(words) == 1:
            with contextlib.suppress(ValueError):
                values.append(float(words[0]))
    return values, share


def measure(server: list[str], client: Callable[[int], list[str]], limit_s: float) -> Measured:
    """Run both; whoever has not ended by then is ended. The latencies are printed by whoever receives."""
    first = subprocess.Popen(server, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    second = None
    try:
        assert first.stdout is not None
        port = int(first.stdout.readline().split()[1])
        second = subprocess.Popen(client(port), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        outputs = []
        for process in (second, first):
            try:
                outputs.append(process.communicate(timeout=limit_s)[0])
            except subprocess.TimeoutExpired:
                process.kill()
                outputs.append(process.communicate()[0])
        (client_values, client_cpu), (server_values, server_cpu) = _parsed(outputs[0]), _parsed(outputs[1])
        return Measured(client_values or server_values, server_cpu, client_cpu)
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.wait()


def latencies(program: Path | None, missing: dict[str, str], part: float = 1.0) -> list[str]:
    """A line a path, the images one after the other; `part` shortens the run."""
    lines = ["| from, to | image | images | p50 ms | p99 ms | processor of sender, receiver | target p50 / p99 |",
             "|---|---|---|---|---|---|---|"]
    for sender, receiver in PATHS:
        reason = missing.get(sender) or missing.get(receiver)
        if reason:
            lines.append(f"| {sender}, {receiver} | {reason} | | | | | |")
            continue
        for name, (i, j, k, octets, fps) in SIZES.items():
            whole, warm = (COUNT, WARM_UP) if k == 1 else (VOLUMES, VOLUMES_WARM_UP)
            count = max(int(whole * part), 2 * warm)
            seconds = count / fps + 5
            found = measure(_command(sender, "send", program, i, j, k, octets, fps, count),
                            lambda port, r=receiver, n=count, s=seconds: _command(r, "receive", program, port, n, s),
                            seconds + 10)
            found.latencies_ms = found.latencies_ms[warm:]
            target = TARGETS[name] if (sender, receiver) == ("IRAI", "IRAI") else ""
            if found.latencies_ms:
                figures = f"{found.percentile(50):.2f} | {found.percentile(99):.2f}"
                arrived = f"{len(found.latencies_ms)} of {count - warm}"
                lines.append(f"| {sender}, {receiver} | {name} | {arrived} | {figures} | "
                             f"{100 * found.server_cpu:.0f} %, {100 * found.client_cpu:.0f} % | {target} |")
            else:
                lines.append(f"| {sender}, {receiver} | {name} | 0 of {count - warm} | fails | fails | | {target} |")
    return lines


def stops(program: Path | None, missing: dict[str, str], part: float = 1.0) -> list[str]:
    """How long a STOP takes to the application of a peer that streams transforms at 1000 Hz."""
    lines = ["| client that sends STOP | peer that streams | arrived | p50 ms | p99 ms | worst ms | target, worst |",
             "|---|---|---|---|---|---|---|"]
    count = max(int(STOPS * part), 10)
    for client, server in (("IRAI", "IRAI"), ("IRAI", "C++"), ("C++", "C++"), ("pyigtl", "C++")):
        reason = missing.get(client) or missing.get(server)
        if reason:
            lines.append(f"| {client} | {server} | {reason} | | | | |")
            continue
        seconds = 0.12 * count + 4
        found = measure(_command(server, "stream", program, STREAM_HZ, count, int(seconds)),
                        lambda port, c=client: _command(c, "stop", program, port, count), seconds + 10)
        values = found.latencies_ms
        figures = f"{found.percentile(50):.2f} | {found.percentile(99):.2f} | {max(values):.2f}" if values else "| |"
        target = "2" if client == "IRAI" else ""
        lines.append(f"| {client} | {server} | {len(values)} of {count} | {figures} | {target} |")
    return lines


def run(data_folder: Path | None = None, part: float = 1.0) -> list[str]:
    """Markdown; needs no data."""
    missing = {} if find_spec("pyigtl") else {"pyigtl": "not to be had: pip install pyigtl"}
    if not find_spec("fastcrc"):
        missing["IRAI"] = "not measured: pip install fastcrc"
    with tempfile.TemporaryDirectory(prefix="irai-link-") as folder:
        program, reason = build(Path(folder))
        if program is None:
            missing["C++"] = reason
        return ["Two processes on loopback, one way, from pixels ready to message in the application's hands. The C++ "
                "library is Debian's; pyigtl does not check what it receives. Sockets: as many bytes through plain "
                "Python sockets without message, checksum or thread, which is what this machine gives at best.", "",
                *latencies(program, missing, part), "",
                f"A STOP, sent at random moments while the peer streams {STREAM_HZ} transforms a second, from `send` "
                "to the peer's application:", "", *stops(program, missing, part)]


if __name__ == "__main__":
    if sys.argv[1:2] == ["peer"]:
        peer(sys.argv[2:])
    else:
        print("\n".join(run(part=float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)))
