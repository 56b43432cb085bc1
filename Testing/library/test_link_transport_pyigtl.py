"""The link and pyigtl, an independent program, both ways round: each sends, each says what it received."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from IRAILib.link.client import LinkClient
from IRAILib.link.messages import Image, Point, PointItem, String, Transform
from IRAILib.link.options import LinkState
from IRAILib.link.server import LinkServer
from link_raw_peer import until

pytest.importorskip("pyigtl", reason="pyigtl is not installed: pip install pyigtl")

PEER = """
import json, sys, time
import numpy as np, pyigtl
role, port = sys.argv[1], int(sys.argv[2])
if role == "server":
    peer = pyigtl.OpenIGTLinkServer(port=0, local_server=True)
    print(json.dumps({"port": peer.server_address[1]}), flush=True)
else:
    peer = pyigtl.OpenIGTLinkClient("127.0.0.1", port)
end = time.monotonic() + 30
while not peer.is_connected() and time.monotonic() < end:
    time.sleep(0.01)
matrix = np.array([[0, -1, 0, 10.5], [1, 0, 0, -20.25], [0, 0, 1, 30.125], [0, 0, 0, 1.0]])
image = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
peer.send_message(pyigtl.TransformMessage(matrix, device_name="T"), wait=False)
peer.send_message(pyigtl.StringMessage("from pyigtl", device_name="S"), wait=False)
peer.send_message(pyigtl.ImageMessage(image, device_name="I", world_coordinate_system="ras",
                                      ijk_to_world_matrix=np.diag([0.5, 0.75, 2.0, 1.0])), wait=False)
peer.send_message(pyigtl.PointMessage(positions=[[1.0, 2.0, 3.0]], names=["Target"], device_name="P"), wait=False)
got = {}
while len(got) < 4 and time.monotonic() < end:
    for message in peer.get_latest_messages():
        got[message.device_name] = message
    time.sleep(0.005)
out = {"transform": got["t"].matrix.tolist(), "string": got["s"].string,
       "points": np.asarray(got["p"].positions).tolist(),
       "names": list(got["p"].names), "image": np.asarray(got["i"].image).tolist(),
       "matrix": got["i"].ijk_to_world_matrix.tolist()}
print(json.dumps(out), flush=True)
sys.stdin.readline()
import os
os._exit(0)
"""
TURN = np.array([[0, -1, 0, 10.5], [1, 0, 0, -20.25], [0, 0, 1, 30.125], [0, 0, 0, 1.0]])
SCALE = np.diag([0.5, 0.75, 2.0, 1.0])
VOXELS = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)


@contextlib.contextmanager
def pyigtl_peer(role: str, port: int = 0) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen([sys.executable, "-c", PEER, role, str(port)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def check(link: LinkClient | LinkServer, process: subprocess.Popen) -> None:
    """Both directions at once."""
    link.send(Transform(device="t", matrix=TURN))
    link.send(String(device="s", text="to pyigtl"))
    link.send(Image(device="i", array=VOXELS, ras_from_ijk=SCALE))
    link.send(Point(device="p", points=[PointItem(name="Entry", xyz=np.array([4.0, 5.0, 6.0]))]))
    found: dict = {}
    assert until(lambda: found.update({m.device: m for m in link.drain()}) or len(found) == 4, 30), found
    np.testing.assert_allclose(found["T"].matrix, TURN)
    assert found["S"].text == "from pyigtl"
    np.testing.assert_array_equal(found["I"].array, np.arange(120).reshape(4, 5, 6))
    np.testing.assert_allclose(found["I"].ras_from_ijk, SCALE, atol=1e-6)
    assert [(point.name, point.xyz.tolist()) for point in found["P"].points] == [("Target", [1, 2, 3])]
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    np.testing.assert_allclose(said["transform"], TURN)
    assert said["string"] == "to pyigtl"
    np.testing.assert_array_equal(said["image"], VOXELS)
    np.testing.assert_allclose(said["matrix"], SCALE, atol=1e-6)
    assert said["points"] == [[4, 5, 6]]
    assert said["names"] == ["Entry"]


def test_our_client_and_their_server() -> None:
    with pyigtl_peer("server") as process:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        with LinkClient("127.0.0.1", port) as client:
            assert until(lambda: client.state is LinkState.CONNECTED)
            check(client, process)
            process.kill()  # the plug
            assert until(lambda: client.state is not LinkState.CONNECTED)
            assert client.latest("TRANSFORM", "T") is None
            assert not client.send(String(device="s", text="anyone there?"))


def test_our_server_and_their_client() -> None:
    with LinkServer() as server, pyigtl_peer("client", server.port) as process:
        assert until(lambda: server.clients() == [1], 30)
        check(server, process)
        process.kill()
        assert until(lambda: server.clients() == [])
        assert server.latest("TRANSFORM", "T") is None
