"""The link against programs of OpenIGTLink's C++ library (Debian's, header v1), in a network namespace of their own.

What the programs send is written in their sources; the numbers below are those, or follow from them by hand.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from cpp_session import IMAGES, isolated

SESSION = Path(__file__).with_name("cpp_session.py")


@pytest.fixture
def meet(openigtlink_peers: Path):
    """Run one session; each is run once."""
    return lambda name: _session(name, str(openigtlink_peers))


@cache
def _session(name: str, folder: str) -> dict:
    command = isolated([sys.executable, str(SESSION), name, folder])
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def turned(phi: float, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """Position and quaternion that the trackers send at their phases; the quaternion isn't of unit length."""
    position = np.array([50 * math.cos(phi), 50 * math.sin(phi), 50 * math.cos(phi)])
    return position, np.array([0, 0.6666666666 * math.cos(theta), 0.577350269189626, 0.6666666666 * math.sin(theta)])


def matrix_of(position: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """Rotation of the normalised quaternion (x, y, z, w) by Rodrigues' formula, and the position."""
    x, y, z, w = quaternion / np.linalg.norm(quaternion)
    axis = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    out = np.eye(4)
    out[:3, :3] = np.eye(3) + 2 * w * axis + 2 * axis @ axis
    out[:3, 3] = position
    return out


def test_tracker_sends_transforms_in_order(meet) -> None:
    got = meet("tracker")["messages"]
    assert len(got) == 3
    for number, message in enumerate(got):
        assert (message["type"], message["device"]) == ("Transform", "Tracker")
        expected = matrix_of(*turned(0.2 * number, 0.1 * number))
        np.testing.assert_allclose(np.array(message["matrix"]), expected, atol=1e-4)


def test_tracker_2_sends_positions_with_quaternions_as_they_are(meet) -> None:
    for number, message in enumerate(meet("position")["messages"]):
        position, quaternion = turned(0.2 * number, 0.1 * number)
        np.testing.assert_allclose(message["position"], position, atol=1e-4)
        np.testing.assert_allclose(message["quaternion"], quaternion, atol=1e-6)


def test_imager_sends_the_pixels_of_its_files(meet) -> None:
    messages = meet("images")["messages"]
    assert len(messages) == 3
    for number, message in enumerate(messages):
        raw = np.fromfile(IMAGES / f"igtlTestImage{number + 1}.raw", np.uint8)
        assert message["array"]["shape"] == [1, 256, 256]
        assert message["array"]["sum"] == float(raw.sum())
        spacing = np.linalg.norm(np.array(message["ras_from_ijk"])[:3, :3], axis=0)
        np.testing.assert_allclose(spacing, [1, 1, 5])
        centre = np.array(message["ras_from_ijk"]) @ [127.5, 127.5, 0, 1]
        np.testing.assert_allclose(centre[:3], 0, atol=1e-4)  # the wire's position is the centre: 0 in this program


def test_status_points_and_capability(meet) -> None:
    status = meet("status")["messages"][0]
    assert (status["code"], status["subcode"], status["error_name"]) == (1, 128, "OK!")
    assert status["text"] == "This is a test to send status message."
    points = meet("points")["messages"][0]["points"]
    assert [point["xyz"] for point in points] == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    assert [point["radius"] for point in points] == [15, 45, 75]
    assert [point["rgba"] for point in points] == [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]]
    assert meet("capability")["messages"][0]["types"] == ["TRANSFORM", "GET_IMAGE", "GET_LBMETA"]


def test_tracking_data_comes_when_it_is_asked_for(meet) -> None:
    for name, kind in (("tracking", "TData"), ("quaternions", "QTData")):
        messages = meet(name)["messages"]
        assert len(messages) == 3
        assert {message["type"] for message in messages} == {kind}
        assert [tool["name"] for tool in messages[0]["tools"]] == ["Channel 0", "Channel 1", "Channel 2"]
        assert [tool["kind"] for tool in messages[0]["tools"]] == [1, 2, 4]
    first = np.array(meet("tracking")["messages"][0]["tools"][0]["matrix"])
    np.testing.assert_allclose(first, matrix_of(*turned(0, 0)), atol=1e-4)


def test_polydata_and_metadata_are_answered(meet) -> None:
    cube = meet("polydata")["messages"][0]
    assert len(cube["points"]) == 8
    assert cube["polygons"][:5] == [4, 0, 3, 2, 1]
    images = meet("imgmeta")["messages"][0]["images"]
    assert [(one["modality"], one["size_ijk"]) for one in images] == [
        ("CT", [512, 512, 64]), ("MRI", [256, 128, 32]), ("PET", [256, 256, 32])]
    labels = meet("lbmeta")["messages"][0]["labels"]
    assert [(one["label"], one["owner"]) for one in labels] == [(1, "IMAGE_0"), (2, "IMAGE_1"), (3, "IMAGE_2")]


def test_strings_and_trajectories(meet) -> None:
    assert meet("string")["messages"][0]["text"]
    paths = meet("trajectory")["messages"][0]["trajectories"]
    assert [(path["entry"], path["target"]) for path in paths] == [
        ([10, 20, 30], [20, 20, 40]), ([40, 50, 60], [20, 30, 10]), ([70, 80, 90], [10, 40, 20])]


@pytest.mark.parametrize("name", ["receive_server", "receive_client"])
def test_the_library_reads_what_we_send(meet, name: str) -> None:
    """From our client to its server, and from our server to its client: printed by the C++ program itself."""
    result = meet(name)
    text = re.sub(r"[ \t]+", " ", result["text"])
    assert result["connected"]
    assert all(result["sent"])
    for line in ("0.36, 0.48, -0.8, 12.5", "-0.8, 0.6, 0, -7.25", "0.48, 0.64, 0.6, 3.125",
                 "position = (1.5, -2.5, 3.5)", "quaternion = (0, 0, 0, 1)", "Code : 13", "SubCode : 7",
                 "Error Name: NOT_READY", "Status : axis two", "hello from IRAI", "Name : T1",
                 "Position : ( 1.000000, 2.000000, 4.000000 )", "Radius : 2.500000", "Typename #1: GET_STATUS",
                 "Dimensions : (4, 3, 2)", "Spacing : (1.000000, 1.000000, 1.000000)"):
        assert line in text, line
    assert "rror" not in text.replace("Error Name", "")


def test_a_killed_tracker_takes_its_pose_with_it_and_comes_back(meet) -> None:
    result = meet("plug")
    assert result["first"]
    assert result["cleared"]
    assert result["sent_while_gone"] is False
    assert result["again"]
    assert result["connects"] >= 2


def test_the_peers_ran_apart_where_a_namespace_can_be_made(meet) -> None:
    apart = isolated(["true"]) != ["true"]
    assert meet("status")["isolated"] is apart
