"""Surfaces, paths and points as one glTF 2.0 file for phones and headsets.

glTF is in metres, y up, and a scene looks along +z. Here +y is the patient's head, +z his front and +x his left:
x = -(R - R0) / 1000, y = (S - S0) / 1000, z = (A - A0) / 1000 with the origin (R0, A0, S0) in the middle of the scene,
mm. The file says so in its `extras` ("ras_mm_from_gltf"), beside the notice that it is research.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError, RefusedError, Surface
from ..images.atomic import replacing

AXES = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
"""glTF's x, y, z from R, A, S."""
NOTICE = "IRAI research software, not a medical device: not to guide a procedure. Positions are as uncertain as the " \
         "images and registrations they come from."
MAX_TRIANGLES = 200_000
MAX_MEGABYTES = 25.0
SIDES = 12
_FLOAT, _UINT, _ARRAY, _ELEMENT = 5126, 5125, 34962, 34963


@dataclass(frozen=True, eq=False)
class GltfSurface:
    """surface: RAS mm. color: red, green, blue 0..1 as on a screen (sRGB). opacity: 0..1."""

    surface: Surface
    name: str
    color: tuple[float, float, float] = (0.9, 0.8, 0.7)
    opacity: float = 1.0


@dataclass(frozen=True, eq=False)
class GltfPath:
    """points_ras: (n, 3) mm, n >= 2, drawn as a tube: lines are a pixel wide on a phone."""

    points_ras: np.ndarray
    name: str
    color: tuple[float, float, float] = (0.3, 0.9, 0.4)
    radius_mm: float = 1.0


@dataclass(frozen=True, eq=False)
class GltfPoint:
    """point_ras: (3,) mm, drawn as a ball."""

    point_ras: np.ndarray
    name: str
    color: tuple[float, float, float] = (1.0, 0.3, 0.3)
    radius_mm: float = 2.0


GltfItem = GltfSurface | GltfPath | GltfPoint


@dataclass(frozen=True)
class GltfReport:
    """What was written: bytes, triangles before and after thinning out, names, and the matrix back to RAS mm."""

    path: str
    bytes: int
    triangles: int
    triangles_before: int
    names: tuple[str, ...]
    ras_mm_from_gltf: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path, "bytes": self.bytes, "triangles": self.triangles,
                "triangles_before": self.triangles_before, "names": list(self.names), "frame": "glTF", "units": "m",
                "ras_mm_from_gltf": self.ras_mm_from_gltf.tolist(), "notice": NOTICE}


def write_gltf(path: str | Path, items: Sequence[GltfItem], *, max_triangles: int = MAX_TRIANGLES,
               max_megabytes: float = MAX_MEGABYTES, title: str = "IRAI plan") -> GltfReport:
    """One file, .glb (binary) or .gltf (text, data within).

    Surfaces are thinned out together (quadric error) until all has at most `max_triangles`.
    Raises: InputError for nothing to write, a bad name, colour, opacity or radius, points that aren't finite, a surface
        without triangles, a path of one place, another suffix or a place that can't be written to; RefusedError when
        the file would be over `max_megabytes`.
    Source: Khronos glTF 2.0.
    """
    path = Path(path)
    if path.suffix.lower() not in (".glb", ".gltf"):
        raise InputError(f"{path.name}: a scene is written as .glb or .gltf")
    if not items:
        raise InputError("nothing to write: choose surfaces, paths or points")
    meshes = [_mesh(item) for item in items]
    before = sum(len(triangles) for _, triangles in meshes)
    meshes = _thinned(items, meshes, max_triangles)
    whole = np.concatenate([points for points, _ in meshes])
    origin = (whole.min(axis=0) + whole.max(axis=0)) / 2.0
    back = np.eye(4)
    back[:3, :3], back[:3, 3] = AXES.T * 1000.0, origin
    document, payload = _document(items, meshes, origin, back, title)
    data = _binary(document, payload) if path.suffix.lower() == ".glb" else _text(document, payload)
    if len(data) > max_megabytes * 1e6:
        raise RefusedError(f"{path.name} would have {len(data) / 1e6:.1f} MB (at most {max_megabytes:g}): lower "
                           f"max_triangles (now {max_triangles}) or leave surfaces out")
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return GltfReport(str(path), len(data), sum(len(triangles) for _, triangles in meshes), before,
                      tuple(item.name for item in items), back)


def _mesh(item: GltfItem) -> tuple[np.ndarray, np.ndarray]:
    """(points (n, 3) RAS mm, triangles (m, 3)) of an item. Raises InputError, naming it."""
    name = item.name
    if not name or len(name) > 200:
        raise InputError(f"every surface, path and point needs a name of at most 200 letters, not '{name[:20]}'")
    if len(item.color) != 3 or not all(0.0 <= float(part) <= 1.0 for part in item.color):
        raise InputError(f"{name}: the colour must be red, green, blue between 0 and 1, not {item.color}")
    if isinstance(item, GltfSurface):
        points, triangles = np.asarray(item.surface.points, float), np.asarray(item.surface.triangles)
        if not 0.0 < item.opacity <= 1.0:
            raise InputError(f"{name}: the opacity must be over 0 and at most 1, not {item.opacity}")
        if not len(triangles) or triangles.min() < 0 or triangles.max() >= len(points):
            raise InputError(f"{name}: the surface has no triangles, or some without points")
    else:
        if not 0.0 < item.radius_mm < 1e3:
            raise InputError(f"{name}: the radius must be between 0 and 1000 mm, not {item.radius_mm}")
        if isinstance(item, GltfPath):
            points, triangles = _tube(np.asarray(item.points_ras, float), item.radius_mm, name)
        else:
            points, triangles = _ball(np.asarray(item.point_ras, float), item.radius_mm, name)
    if not np.isfinite(points).all() or np.abs(points).max() > 1e5:
        raise InputError(f"{name}: has coordinates that aren't finite or lie over 100 m away")
    return points, triangles


def _tube(line: np.ndarray, radius: float, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Closed tube round a line of places; double places are left out."""
    if line.ndim != 2 or line.shape[1] != 3 or not np.isfinite(line).all():
        raise InputError(f"{name}: a path must be (n, 3) finite points, RAS mm")
    keep = np.concatenate([[True], np.linalg.norm(np.diff(line, axis=0), axis=1) > 1e-6])
    line = line[keep]
    if len(line) < 2:
        raise InputError(f"{name}: a path needs two different points")
    tangent = np.gradient(line, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-12)
    side = np.cross(tangent[0], np.eye(3)[int(np.argmin(np.abs(tangent[0])))])
    rings, turn = [], np.arange(SIDES) * 2.0 * np.pi / SIDES
    for place, along in zip(line, tangent, strict=True):
        side = side - (side @ along) * along
        side /= max(float(np.linalg.norm(side)), 1e-12)
        up = np.cross(along, side)
        rings.append(place + radius * (np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * up))
    points = np.vstack([*rings, line[:1], line[-1:]])
    count, n = len(line), np.arange(SIDES)
    after, last = (n + 1) % SIDES, SIDES * (len(line) - 1)
    faces = []
    for ring in range(count - 1):
        a, b = ring * SIDES, (ring + 1) * SIDES
        faces += [np.stack([a + n, a + after, b + after], axis=1), np.stack([a + n, b + after, b + n], axis=1)]
    faces += [np.stack([np.full(SIDES, count * SIDES), after, n], axis=1),
              np.stack([np.full(SIDES, count * SIDES + 1), last + n, last + after], axis=1)]
    return points, np.vstack(faces)


def _ball(centre: np.ndarray, radius: float, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A sphere: an icosahedron, every face cut into four, twice."""
    if centre.shape != (3,):
        raise InputError(f"{name}: a point must be three numbers, RAS mm")
    golden = (1.0 + 5.0**0.5) / 2.0
    points = [np.array(p, float) for a in (-1, 1) for b in (-golden, golden)
              for p in ((0, a, b), (a, b, 0), (b, 0, a))]
    corners = np.array(points)
    from scipy.spatial import ConvexHull

    for _ in range(2):
        faces = ConvexHull(corners).simplices
        middle = np.vstack([(corners[faces[:, a]] + corners[faces[:, (a + 1) % 3]]) / 2.0 for a in range(3)])
        corners = np.vstack([corners, middle])
        corners /= np.linalg.norm(corners, axis=1, keepdims=True)
        corners = np.unique(corners.round(9), axis=0)
    faces = ConvexHull(corners).simplices
    normal = np.cross(corners[faces[:, 1]] - corners[faces[:, 0]], corners[faces[:, 2]] - corners[faces[:, 0]])
    inward = (normal * corners[faces[:, 0]]).sum(axis=1) < 0
    faces[inward] = faces[inward][:, ::-1]
    return centre + radius * corners, faces


def _thinned(items: Sequence[GltfItem], meshes: list, most: int) -> list:
    """The meshes, surfaces decimated by one share so that all have at most `most` triangles."""
    surfaces = sum(len(mesh[1]) for item, mesh in zip(items, meshes, strict=True) if isinstance(item, GltfSurface))
    others = sum(len(mesh[1]) for mesh in meshes) - surfaces
    if surfaces + others <= most:
        return meshes
    if most - others < 4 * len(items):
        raise InputError(f"the paths and points alone have {others} triangles; allow more than {most}")
    share = 1.0 - (most - others) / surfaces
    out = []
    for item, (points, triangles) in zip(items, meshes, strict=True):
        out.append(_decimated(points, triangles, share) if isinstance(item, GltfSurface) else (points, triangles))
    return out


def _decimated(points: np.ndarray, triangles: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Without that share of the triangles, by quadric error."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    origin = points.mean(axis=0)
    thinner = vtk.vtkQuadricDecimation()
    thinner.SetInputData(Surface(points - origin, triangles).to_vtk())
    thinner.SetTargetReduction(share)
    thinner.Update()
    mesh = thinner.GetOutput()
    if mesh.GetNumberOfPolys() < 4:
        return points, triangles
    return (vtk_to_numpy(mesh.GetPoints().GetData()).astype(float) + origin,
            vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int64))


def _document(items: Sequence[GltfItem], meshes: list, origin: np.ndarray, back: np.ndarray, title: str
              ) -> tuple[dict[str, Any], bytes]:
    """The JSON and the one buffer."""
    views, accessors, payload = [], [], bytearray()

    def add(array: np.ndarray, kind: str, component: int, target: int, **extent: Any) -> int:
        views.append({"buffer": 0, "byteOffset": len(payload), "byteLength": array.nbytes, "target": target})
        payload.extend(array.tobytes())
        accessors.append({"bufferView": len(views) - 1, "componentType": component, "count": len(array.ravel())
                          if kind == "SCALAR" else len(array), "type": kind, **extent})
        return len(accessors) - 1

    nodes, shapes, materials = [], [], []
    for item, (points, triangles) in zip(items, meshes, strict=True):
        placed = np.ascontiguousarray((points - origin) @ AXES.T / 1000.0, "<f4")
        normals = Surface(placed.astype(float), triangles).point_normals()
        normals[np.linalg.norm(normals, axis=1) < 0.5] = (0.0, 1.0, 0.0)
        place = add(placed, "VEC3", _FLOAT, _ARRAY, min=placed.min(axis=0).tolist(), max=placed.max(axis=0).tolist())
        facing = add(np.ascontiguousarray(normals, "<f4"), "VEC3", _FLOAT, _ARRAY)
        index = add(np.ascontiguousarray(triangles.ravel(), "<u4"), "SCALAR", _UINT, _ELEMENT)
        materials.append(_material(item))
        shapes.append({"name": item.name, "primitives": [{"attributes": {"POSITION": place, "NORMAL": facing},
                                                          "indices": index, "material": len(materials) - 1}]})
        nodes.append({"name": item.name, "mesh": len(shapes) - 1})
    extras = {"notice": NOTICE, "units": "m", "frame": "x left, y head, z front of the patient",
              "ras_mm_from_gltf": back.tolist()}
    root = {"name": title, "children": list(range(len(nodes)))}
    return {"asset": {"version": "2.0", "generator": "IRAI", "extras": extras}, "scene": 0,
            "scenes": [{"name": title, "nodes": [len(nodes)]}], "nodes": [*nodes, root], "meshes": shapes,
            "materials": materials, "accessors": accessors, "bufferViews": views,
            "buffers": [{"byteLength": len(payload)}]}, bytes(payload)


def _material(item: GltfItem) -> dict[str, Any]:
    """The colour made linear, as glTF has it."""
    screen = np.asarray(item.color, float)
    linear = np.where(screen <= 0.04045, screen / 12.92, ((screen + 0.055) / 1.055) ** 2.4)
    opacity = item.opacity if isinstance(item, GltfSurface) else 1.0
    material: dict[str, Any] = {"name": item.name, "doubleSided": True, "pbrMetallicRoughness": {
        "baseColorFactor": [*(round(float(part), 6) for part in linear), float(opacity)], "metallicFactor": 0.0,
        "roughnessFactor": 0.7}}
    return material | {"alphaMode": "BLEND"} if opacity < 1.0 else material


def _binary(document: dict[str, Any], payload: bytes) -> bytes:
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    payload += b"\0" * (-len(payload) % 4)
    length = 12 + 8 + len(text) + 8 + len(payload)
    return (struct.pack("<4sII", b"glTF", 2, length) + struct.pack("<I4s", len(text), b"JSON") + text
            + struct.pack("<I4s", len(payload), b"BIN\0") + payload)


def _text(document: dict[str, Any], payload: bytes) -> bytes:
    uri = "data:application/octet-stream;base64," + base64.b64encode(payload).decode()
    return json.dumps(document | {"buffers": [{"byteLength": len(payload), "uri": uri}]}, indent=1).encode()
