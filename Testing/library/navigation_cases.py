"""Tools, probes and phantoms with known truth, for the tests of IRAILib/navigation. Nothing of the library is used."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

TIP_MM = np.array([12.0, -7.0, -183.0])
PIVOT_MM = np.array([-310.0, 95.0, 640.0])
WIRES = (("a1", "n1", "b1"), ("a2", "n2", "b2"), ("a3", "n3", "b3"))


def rigid(rotation: Rotation, shift) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation.as_matrix(), shift
    return matrix


def random_rigid(random: np.random.Generator, reach_mm: float = 200.0) -> np.ndarray:
    return rigid(Rotation.random(random_state=random.integers(1 << 31)), random.uniform(-reach_mm, reach_mm, 3))


def pivoting(random: np.random.Generator, count: int = 120, *, half_cone_deg: float = 30.0, noise_mm: float = 0.0,
             noise_deg: float = 0.0, tip_mm: np.ndarray = TIP_MM, pivot_mm: np.ndarray = PIVOT_MM) -> np.ndarray:
    """(n, 4, 4): the tool leans by up to half_cone_deg to all sides, its tip in the dimple."""
    away, round_ = np.radians(half_cone_deg) * np.sqrt(random.uniform(0, 1, count)), random.uniform(0, 2 * np.pi, count)
    lean = Rotation.from_rotvec(away[:, None] * np.column_stack([np.cos(round_), np.sin(round_), np.zeros(count)]))
    rest = Rotation.from_euler("xyz", [20, -35, 110], degrees=True)
    rotation = rest * lean
    if noise_deg:
        rotation = rotation * Rotation.from_rotvec(np.radians(random.normal(0, noise_deg, (count, 3))))
    shifts = pivot_mm - (rest * lean).apply(tip_mm) + random.normal(0, noise_mm or 1e-12, (count, 3))
    return np.array([rigid(r, t) for r, t in zip(rotation, shifts, strict=True)])


@dataclass
class Phantom:
    """Three N-wires 12 mm apart, and a probe that sees them; image_to_probe is the truth."""

    front: np.ndarray
    back: np.ndarray
    image_to_probe: np.ndarray


def make_phantom(scale=(0.11, 0.09), depths=(30.0, 42.0, 54.0)) -> Phantom:
    front, back = np.empty((3, 3, 3)), np.empty((3, 3, 3))
    for n, depth in enumerate(depths):
        left, right = (10.0, 45.0) if n % 2 == 0 else (45.0, 10.0)
        front[n] = [[5.0, 0.0, depth], [left, 0.0, depth], [50.0, 0.0, depth]]
        back[n] = [[5.0, 40.0, depth], [right, 40.0, depth], [50.0, 40.0, depth]]
    matrix = rigid(Rotation.from_euler("xyz", [4, -7, 95], degrees=True), [11.0, 48.0, -3.0])
    matrix[:3, 0] *= scale[0]
    matrix[:3, 1] *= scale[1]
    matrix[:3, 2] *= sum(scale) / 2
    return Phantom(front, back, matrix)


def sweep(phantom: Phantom, random: np.random.Generator, frames: int = 60, noise_px: float = 0.0,
          size=(600, 700)) -> tuple[np.ndarray, np.ndarray]:
    """((n, 9, 2) dots px, (n, 4, 4) probe_from_phantom): a swept and tilted probe, each image cut with the wires."""
    dots, poses = [], []
    for _ in range(frames):
        tilt = Rotation.from_euler("xyz", random.uniform(-6, 6, 3), degrees=True)
        # image frame upright in the phantom: x along the phantom's x, y (depth) along its z, at some y
        upright = rigid(Rotation.from_matrix(np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])) * tilt,
                        [random.uniform(-8, 0), random.uniform(12, 28), random.uniform(-2, 6)])
        plane_from_pixels = np.diag([np.linalg.norm(phantom.image_to_probe[:3, 0]),
                                     np.linalg.norm(phantom.image_to_probe[:3, 1]), 1.0, 1.0])
        probe_from_plane = phantom.image_to_probe.copy()
        probe_from_plane[:3, :3] /= np.linalg.norm(probe_from_plane[:3, :3], axis=0)
        probe_from_phantom = probe_from_plane @ np.linalg.inv(upright)
        plane_from_phantom = np.linalg.inv(upright)
        found = []
        for start, end in zip(phantom.front.reshape(-1, 3), phantom.back.reshape(-1, 3), strict=True):
            a, b = ((plane_from_phantom @ np.append(p, 1))[:3] for p in (start, end))
            at = a + a[2] / (a[2] - b[2]) * (b - a)
            found.append(at[:2] / np.diag(plane_from_pixels)[:2] + random.normal(0, noise_px or 1e-12, 2))
        dots.append(found)
        poses.append(probe_from_phantom)
    return np.array(dots), np.array(poses)


def write_config(path, phantom: Phantom) -> None:
    """A configuration of PLUS's form with the phantom; PhantomToReference is the identity."""
    def ends(n: int, w: int) -> str:
        front, back = (" ".join(str(v) for v in a[n, w]) for a in (phantom.front, phantom.back))
        return f'<Wire Name="{WIRES[n][w]}" EndPointFront="{front}" EndPointBack="{back}"/>'
    patterns = "".join(f'<Pattern Type="NWire">{"".join(ends(n, w) for w in range(3))}</Pattern>' for n in range(3))
    path.write_text('<PlusConfiguration><CoordinateDefinitions><Transform From="Phantom" To="Reference" Matrix="1 0 0 '
                    '0 0 1 0 0 0 0 1 0 0 0 0 1"/></CoordinateDefinitions><PhantomDefinition><Geometry>' + patterns +
                    "</Geometry></PhantomDefinition></PlusConfiguration>")
