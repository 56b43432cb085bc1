"""glTF files read back by VTK's own reader, by trimesh where it is, and taken apart by struct and json."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import vtk
from IRAILib.geometry import InputError, RefusedError, Surface
from IRAILib.navigation.gltf import GltfPath, GltfPoint, GltfSurface, write_gltf
from vtk.util.numpy_support import vtk_to_numpy


def ball(radius=20.0, centre=(10.0, -30.0, 50.0), detail=24) -> Surface:
    source = vtk.vtkSphereSource()
    source.SetRadius(radius)
    source.SetCenter(*centre)
    source.SetThetaResolution(detail)
    source.SetPhiResolution(detail)
    source.Update()
    mesh = source.GetOutput()
    return Surface(vtk_to_numpy(mesh.GetPoints().GetData()).astype(float),
                   vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int64))


def plan() -> list:
    return [GltfSurface(ball(), "liver", (0.8, 0.4, 0.3), 0.4),
            GltfPath(np.array([[0.0, 100.0, 0.0], [0.0, 40.0, 10.0], [10.0, -30.0, 50.0]]), "path 1"),
            GltfPoint(np.array([10.0, -30.0, 50.0]), "target Σ")]


def by_vtk(path) -> list[np.ndarray]:
    """Points of every mesh, metres, through the nodes' transforms, as VTK reads them."""
    reader = vtk.vtkGLTFReader()
    reader.SetFileName(str(path))
    reader.Update()
    blocks = reader.GetOutput().NewIterator()
    out = []
    while not blocks.IsDoneWithTraversal():
        out.append(vtk_to_numpy(blocks.GetCurrentDataObject().GetPoints().GetData()).astype(float))
        blocks.GoToNextItem()
    return out


def parts(path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    magic, version, length = struct.unpack("<4sII", data[:12])
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack("<I4s", data[12:20])
    assert kind == b"JSON"
    assert size % 4 == 0
    rest = data[20 + size:]
    assert struct.unpack("<I4s", rest[:8]) == (len(rest) - 8, b"BIN\0")
    return json.loads(data[20:20 + size]), rest[8:]


@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
def test_vtk_reads_metres_with_the_head_up_and_the_way_back_to_ras(tmp_path, suffix):
    report = write_gltf(tmp_path / f"plan{suffix}", plan())
    meshes = by_vtk(tmp_path / f"plan{suffix}")
    assert len(meshes) == 3
    liver = meshes[0]
    back = liver @ report.ras_mm_from_gltf[:3, :3].T + report.ras_mm_from_gltf[:3, 3]
    radii = np.linalg.norm(back - [10.0, -30.0, 50.0], axis=1)
    np.testing.assert_allclose(radii, 20.0, atol=1e-4)
    assert np.ptp(liver, axis=0) == pytest.approx([0.04, 0.04, 0.04], rel=0.02)
    path, point = meshes[1], meshes[2]
    # the path begins in front of the target (anterior: +z), below it (feet: -y) and at his right (left is +x)
    start = path[np.argmax(path[:, 2])]
    assert start[2] - point[:, 2].mean() == pytest.approx(0.130, abs=2e-3)
    assert start[1] - point[:, 1].mean() == pytest.approx(-0.050, abs=2e-3)
    assert start[0] - point[:, 0].mean() == pytest.approx(+0.010, abs=2e-3)


def test_every_offset_count_and_extent_holds(tmp_path):
    report = write_gltf(tmp_path / "plan.glb", plan())
    document, payload = parts(tmp_path / "plan.glb")
    assert report.bytes == (tmp_path / "plan.glb").stat().st_size
    assert document["asset"]["version"] == "2.0"
    assert "not a medical device" in document["asset"]["extras"]["notice"]
    np.testing.assert_allclose(document["asset"]["extras"]["ras_mm_from_gltf"], report.ras_mm_from_gltf)
    assert [node["name"] for node in document["nodes"]] == ["liver", "path 1", "target Σ", "IRAI plan"]
    assert document["buffers"][0]["byteLength"] <= len(payload)
    size = {"SCALAR": 1, "VEC3": 3}
    for accessor in document["accessors"]:
        view = document["bufferViews"][accessor["bufferView"]]
        assert view["byteOffset"] % 4 == 0
        assert view["byteLength"] == 4 * size[accessor["type"]] * accessor["count"]
        assert view["byteOffset"] + view["byteLength"] <= document["buffers"][0]["byteLength"]
    for mesh in document["meshes"]:
        (part,) = mesh["primitives"]
        place, normal = (document["accessors"][part["attributes"][name]] for name in ("POSITION", "NORMAL"))
        assert place["count"] == normal["count"]
        values = np.frombuffer(payload, "<f4", 3 * place["count"],
                               document["bufferViews"][place["bufferView"]]["byteOffset"]).reshape(-1, 3)
        assert values.min(axis=0).tolist() == pytest.approx(place["min"])
        assert values.max(axis=0).tolist() == pytest.approx(place["max"])
        index = document["accessors"][part["indices"]]
        numbers = np.frombuffer(payload, "<u4", index["count"],
                                document["bufferViews"][index["bufferView"]]["byteOffset"])
        assert numbers.max() < place["count"]
        facing = np.frombuffer(payload, "<f4", 3 * normal["count"],
                               document["bufferViews"][normal["bufferView"]]["byteOffset"]).reshape(-1, 3)
        np.testing.assert_allclose(np.linalg.norm(facing, axis=1), 1.0, atol=1e-3)
        corners = values[numbers.reshape(-1, 3)].astype(float)
        volume = np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6.0
        assert volume > 0  # front faces look outwards


def test_screen_colours_are_made_linear_and_opacity_blends(tmp_path):
    write_gltf(tmp_path / "plan.glb", [GltfSurface(ball(), "a", (0.5, 1.0, 0.0), 0.25)])
    document, _ = parts(tmp_path / "plan.glb")
    material = document["materials"][0]
    assert material["pbrMetallicRoughness"]["baseColorFactor"] == pytest.approx([0.214041, 1.0, 0.0, 0.25], abs=1e-5)
    assert material["alphaMode"] == "BLEND"


def test_the_tube_and_the_ball_are_as_thick_as_said_and_closed(tmp_path):
    line = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 100.0]])
    report = write_gltf(tmp_path / "a.glb", [GltfPath(line, "p", radius_mm=3.0),
                                             GltfPoint(np.zeros(3), "q", radius_mm=5.0)])
    tube, point = (m @ report.ras_mm_from_gltf[:3, :3].T + report.ras_mm_from_gltf[:3, 3]
                   for m in by_vtk(tmp_path / "a.glb"))
    rings = tube[:-2]
    np.testing.assert_allclose(np.linalg.norm(rings[:, :2], axis=1), 3.0, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(point, axis=1), 5.0, atol=1e-4)
    document, payload = parts(tmp_path / "a.glb")
    for mesh in document["meshes"]:
        index = document["accessors"][mesh["primitives"][0]["indices"]]
        faces = np.frombuffer(payload, "<u4", index["count"], document["bufferViews"][index["bufferView"]][
            "byteOffset"]).reshape(-1, 3)
        edges = np.vstack([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        assert len(np.unique(edges, axis=0)) == len(edges)  # every edge once each way: closed and of one sense
        assert {tuple(e) for e in edges} == {tuple(e[::-1]) for e in edges}


def test_large_surfaces_are_thinned_out_and_keep_their_place(tmp_path):
    fine = GltfSurface(ball(detail=120), "fine")
    report = write_gltf(tmp_path / "a.glb", [fine, *plan()[1:]], max_triangles=4000)
    assert report.triangles_before > 25_000
    assert report.triangles <= 4000
    (mesh, *_) = by_vtk(tmp_path / "a.glb")
    back = mesh @ report.ras_mm_from_gltf[:3, :3].T + report.ras_mm_from_gltf[:3, 3]
    assert np.abs(np.linalg.norm(back - [10.0, -30.0, 50.0], axis=1) - 20.0).max() < 0.3
    with pytest.raises(RefusedError, match="max_triangles"):
        write_gltf(tmp_path / "b.glb", [fine], max_megabytes=0.1)
    assert not (tmp_path / "b.glb").exists()
    with pytest.raises(InputError, match="alone"):
        write_gltf(tmp_path / "b.glb", plan(), max_triangles=100)


def test_trimesh_agrees(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    report = write_gltf(tmp_path / "plan.glb", plan())
    scene = trimesh.load(str(tmp_path / "plan.glb"))
    assert len(scene.geometry) == 3
    assert sum(len(mesh.faces) for mesh in scene.geometry.values()) == report.triangles
    assert scene.geometry["liver"].is_watertight
    assert scene.geometry["liver"].volume == pytest.approx(4 / 3 * np.pi * 0.02**3, rel=0.03)


@pytest.mark.parametrize(("items", "words"), [
    ([], "nothing"),
    ([GltfSurface(Surface(np.zeros((0, 3)), np.zeros((0, 3), int)), "empty")], "empty: .*no triangles"),
    ([GltfSurface(Surface(np.full((3, 3), np.nan), np.array([[0, 1, 2]])), "bad")], "bad: .*finite"),
    ([GltfSurface(Surface(np.zeros((3, 3)), np.array([[0, 1, 7]])), "far")], "without points"),
    ([GltfSurface(ball(), "c", (2.0, 0.0, 0.0))], "colour"),
    ([GltfSurface(ball(), "o", (1.0, 0.0, 0.0), 0.0)], "opacity"),
    ([GltfPath(np.zeros((4, 3)), "p")], "two different"),
    ([GltfPath(np.zeros(3), "p")], "finite points"),
    ([GltfPoint(np.zeros(2), "q")], "three numbers"),
    ([GltfPoint(np.zeros(3), "q", radius_mm=-1.0)], "radius"),
    ([GltfPoint(np.zeros(3), "")], "name"),
])
def test_what_is_refused(tmp_path, items, words):
    with pytest.raises(InputError, match=words):
        write_gltf(tmp_path / "a.glb", items)
    assert not list(tmp_path.iterdir())


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.glb"):
        write_gltf(tmp_path / "a.obj", plan())
