"""Lines on a slice: contours of a picture, a surface cut by a plane, both clipped to the picture."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ..geometry import Surface


def contour_lines(level: np.ndarray, value: float) -> list[np.ndarray]:
    """[(n, 2) x column, y row] where a (rows, columns) picture passes a value; closed ones end as they begin."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    rows, columns = level.shape
    if rows < 2 or columns < 2 or not (level.min() < value <= level.max()):
        return []
    image = vtk.vtkImageData()
    image.SetDimensions(columns, rows, 1)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(level, np.float32).ravel(), deep=1))
    contour = vtk.vtkFlyingEdges2D()
    contour.SetInputData(image)
    contour.SetValue(0, value)
    stripper = vtk.vtkStripper()
    stripper.SetInputConnection(contour.GetOutputPort())
    stripper.SetJoinContiguousSegments(True)
    stripper.SetMaximumLength(1_000_000)
    stripper.Update()
    result = stripper.GetOutput()
    if result.GetNumberOfLines() == 0:
        return []
    points = vtk_to_numpy(result.GetPoints().GetData())[:, :2].astype(float)
    cells = result.GetLines()
    ends, members = vtk_to_numpy(cells.GetOffsetsArray()), vtk_to_numpy(cells.GetConnectivityArray())
    return [points[members[a:b]] for a, b in pairwise(ends) if b - a > 1]


def cut_surface(surface: Surface, ras_from_pixel: np.ndarray) -> list[np.ndarray]:
    """[(n, 2) x, y] where the plane of an image cuts a triangle mesh, joined, not clipped."""
    if len(surface.triangles) == 0:
        return []
    matrix = np.array(ras_from_pixel, float)
    normal = np.cross(matrix[:3, 0], matrix[:3, 1])
    matrix[:3, 2] = normal / np.linalg.norm(normal)
    pixels = np.linalg.inv(matrix)
    points = surface.points @ pixels[:3, :3].T + pixels[:3, 3]
    above = points[:, 2] >= 0
    sides = above[surface.triangles]
    cut = surface.triangles[sides.any(axis=1) & ~sides.all(axis=1)]
    if len(cut) == 0:
        return []
    edges = np.sort(np.stack([cut[:, [0, 1]], cut[:, [1, 2]], cut[:, [2, 0]]], axis=1), axis=2)
    crossed = above[edges[..., 0]] != above[edges[..., 1]]
    pairs = edges[crossed].reshape(-1, 2)  # two of the three edges of each triangle
    ends, which = np.unique(pairs, axis=0, return_inverse=True)
    a, b = points[ends[:, 0]], points[ends[:, 1]]
    share = a[:, 2] / (a[:, 2] - b[:, 2])
    places = a[:, :2] + share[:, None] * (b[:, :2] - a[:, :2])
    return [places[chain] for chain in _chains(which.reshape(-1, 2), len(ends))]


def _chains(segments: np.ndarray, count: int) -> list[list[int]]:
    """Segments (pairs of numbers) joined where they share a number."""
    links: list[list[int]] = [[] for _ in range(count)]
    for number, (a, b) in enumerate(segments.tolist()):
        links[a].append(number)
        links[b].append(number)
    used = np.zeros(len(segments), bool)
    chains = []
    starts = [n for n in range(count) if len(links[n]) == 1] + list(range(count))
    for start in starts:
        while (first := next((n for n in links[start] if not used[n]), None)) is not None:
            chain, here, number = [start], start, first
            while number is not None:
                used[number] = True
                a, b = segments[number]
                here = int(b if a == here else a)
                chain.append(here)
                number = next((n for n in links[here] if not used[n]), None)
            chains.append(chain)
    return chains


def clip_lines(lines: list[np.ndarray], size_px: tuple[int, int]) -> list[np.ndarray]:
    """The parts of lines inside -0.5 to size - 0.5, cut exactly at the border."""
    low, high = np.array([-0.5, -0.5]), np.array(size_px, float) - 0.5
    out: list[np.ndarray] = []
    for line in lines:
        inside = ((line >= low) & (line <= high)).all(axis=1)
        if inside.all():
            out.append(line)
        else:
            out.extend(_clip(line, low, high))
    return out


def _clip(line: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
    start, way = line[:-1], np.diff(line, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        one, two = (low - start) / way, (high - start) / way
    flat = way == 0
    beside = flat & ((start < low) | (start > high))
    enter = np.where(flat, 0.0, np.minimum(one, two)).max(axis=1).clip(0.0, None)
    leave = np.where(flat, 1.0, np.maximum(one, two)).min(axis=1).clip(None, 1.0)
    seen = (enter < leave) & ~beside.any(axis=1)
    parts: list[np.ndarray] = []
    current: list[np.ndarray] = []
    for number in np.flatnonzero(seen):
        a, b = start[number] + enter[number] * way[number], start[number] + leave[number] * way[number]
        if not current or enter[number] > 0 or not np.array_equal(current[-1], a):
            if current:
                parts.append(np.array(current))
            current = [a]
        current.append(b)
        if leave[number] < 1:
            parts.append(np.array(current))
            current = []
    if current:
        parts.append(np.array(current))
    if len(parts) > 1 and np.array_equal(parts[-1][-1], parts[0][0]) and np.array_equal(line[0], line[-1]):
        parts[0] = np.concatenate([parts.pop(), parts[0][1:]])
    return parts
