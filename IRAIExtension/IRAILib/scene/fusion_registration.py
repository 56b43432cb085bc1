"""The patient's registration: the tracker's frame in the volumes' RAS, by landmarks, from a file, or assumed.

Landmarks are two point lists of the scene; single ones can be left out, or held out: those are measured on and never
fitted. The result is a transform node that a saved scene keeps.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import InputError, LinearTransform
from ..navigation.landmarks import LandmarkRegistration, register_landmarks
from .changes import ROLE, SceneChange, put_in_folder
from .fusion_chain import ASSUMED, REGISTRATION, ChainLink
from .nodes import matrix_from_vtk, points_from_markups
from .transforms import transform_to_node

FOLDER = "FusionNav"
ROLE_NAME = "fusion.registration"
DOCUMENT = "IRAI.Fusion.Registration"
HELD_OUT_NOTE = "rms over landmarks that were not fitted"


@dataclass(frozen=True, eq=False)
class PatientRegistration:
    """ras_from_reference (4, 4), mm, with what it rests on.

    error_mm: expected error (rms, 3D) where it was asked for, None when not known. landmarks: the fit, if it is one.
    held_out: (name, error mm) of landmarks that were not fitted. time_s: when it was made, seconds since 1970.
    """

    ras_from_reference: np.ndarray
    reference: str
    method: str
    error_mm: float | None
    validated_on: str
    landmarks: LandmarkRegistration | None = None
    held_out: tuple[tuple[str, float], ...] = ()
    time_s: float = 0.0
    assumed: bool = False

    def error_at(self, point_ras: np.ndarray | None) -> float | None:
        """Expected error (rms, 3D, mm) at an RAS point, the larger of theory and held-out landmarks; None: unknown."""
        known = [self.held_out_rms_mm] if self.held_out else []
        if self.landmarks is not None and point_ras is not None:
            moving = np.linalg.inv(self.ras_from_reference) @ (*np.asarray(point_ras, float), 1.0)
            known.append(float(self.landmarks.tre_mm(moving[None, :3])[0]))
        known = [value for value in known if math.isfinite(value)]
        return max(known) if known else self.error_mm

    @property
    def held_out_rms_mm(self) -> float:
        """Root mean square over the held-out landmarks; NaN without."""
        errors = [error for _name, error in self.held_out]
        return math.sqrt(sum(error**2 for error in errors) / len(errors)) if errors else float("nan")

    def link(self, point_ras: np.ndarray | None = None) -> ChainLink:
        """As a link of the chain, its error taken at a point."""
        return ChainLink(self.reference, "RAS", self.ras_from_reference,
                         origin=ASSUMED if self.assumed else REGISTRATION, age_s=max(time.time() - self.time_s, 0.0),
                         error_mm=self.error_at(point_ras), validated_on=self.validated_on)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the landmarks with their residuals."""
        return {"kind": "patient registration", "frame": "RAS", "from_frame": self.reference, "units": "mm",
                f"{self.reference}ToRAS": self.ras_from_reference.tolist(), "method": self.method,
                "error_mm": self.error_mm, "held_out": [{"name": name, "error_mm": error} for name, error in
                                                        self.held_out], "time_s": self.time_s,
                "landmarks": None if self.landmarks is None else self.landmarks.to_dict(),
                "assumed": self.assumed, "validated_on": self.validated_on}


def named_points(node) -> tuple[list[str], np.ndarray]:
    """(labels, (n, 3) RAS mm) of a point list's placed points; labels that are empty or there twice become numbers.

    Raises InputError for no node.
    """
    if node is None:
        raise InputError("no point list is chosen")
    points = points_from_markups(node)
    placed = [n for n in range(node.GetNumberOfControlPoints())
              if node.GetNthControlPointPositionStatus(n) == node.PositionDefined]
    labels = [node.GetNthControlPointLabel(n).strip() for n in placed]
    if len(set(labels)) != len(labels) or not all(labels):
        labels = [str(n + 1) for n in range(len(points))]
    return labels, points


def paired(fixed_node, moving_node) -> tuple[list[str], np.ndarray, np.ndarray]:
    """(names, fixed (n, 3), moving (n, 3)): by name where all agree, else in their order.

    Raises InputError when the lists don't pair.
    """
    names, fixed = named_points(fixed_node)
    others, moving = named_points(moving_node)
    if len(fixed) != len(moving):
        raise InputError(f"{fixed_node.GetName()} has {len(fixed)} points and {moving_node.GetName()} {len(moving)}: "
                         "place the same points in both")
    if set(names) == set(others):
        order = [others.index(name) for name in names]
        moving = moving[order]
    return names, fixed, moving


def register_points(fixed_node, moving_node, *, reference: str = "Reference", kind: str = "rigid",
                    exclude: Sequence[str] = (), hold_out: Sequence[str] = (),
                    target_ras: np.ndarray | None = None) -> PatientRegistration:
    """Register the tracker to the patient by two point lists.

    Args:
        fixed_node: points on the volume (RAS). moving_node: the same points as the tool touched them (reference).
        exclude: names to leave out. hold_out: names that are not fitted and measure the error.
        target_ras: where the error is asked for; default the middle of the fixed points.
    Raises InputError, RefusedError: as `register_landmarks`.
    """
    names, fixed, moving = paired(fixed_node, moving_node)
    unknown = [name for name in hold_out if name not in names]
    if unknown:
        raise InputError(f"no landmark is named {', '.join(unknown)}; there are {', '.join(names)}")
    result = register_landmarks(moving, fixed, kind=kind, names=names, exclude=[*exclude, *hold_out], fixed="RAS",
                                moving=reference)
    if not isinstance(result.transform, LinearTransform):
        raise InputError("a live registration needs one matrix: choose rigid or similarity")
    matrix = result.transform.matrix
    held = tuple((name, float(result.residual_mm[names.index(name)])) for name in hold_out)
    target = fixed.mean(axis=0) if target_ras is None else np.asarray(target_ras, float)
    made = PatientRegistration(matrix, reference, f"landmarks, {kind}", None, result.validated_on, result, held,
                               time.time())
    return PatientRegistration(matrix, reference, made.method, made.error_at(target), made.validated_on, result, held,
                               made.time_s)


def residual_rows(registration: PatientRegistration | None) -> list[tuple[str, str, str, str]]:
    """(name, residual, error with the point left out, what became of it), for a table; none without landmarks."""
    found = registration.landmarks if registration is not None else None
    if registration is None or found is None:
        return []
    held = dict(registration.held_out)
    rows = []
    for number, name in enumerate(found.names):
        fate = "held out" if name in held else "left out" if name in found.excluded else (
            "doesn't go with the others" if name in found.outliers else "fitted")
        missed = found.left_out_mm[number]
        rows.append((name, f"{found.residual_mm[number]:.1f} mm", f"{missed:.1f} mm" if np.isfinite(missed) else "–",
                     fate))
    return rows


def keep_registration(registration: PatientRegistration, previous: Any = None) -> Any:
    """The registration as a transform node `ReferenceToRAS`, in place of the one of before. Returns the node."""
    import slicer

    previous = previous or find_registration(slicer.mrmlScene)
    with SceneChange(replaces=[previous]) as change:
        node = change.add("vtkMRMLLinearTransformNode", f"{registration.reference}ToRAS", ROLE_NAME)
        map_ras = LinearTransform(np.linalg.inv(registration.ras_from_reference), registration.reference, "RAS")
        transform_to_node(map_ras, node)
        node.SetAttribute(DOCUMENT, json.dumps(registration.to_dict()))
        put_in_folder([node], FOLDER)
    return node


def find_registration(scene) -> Any:
    """The node that a session of before left, or None."""
    collection = scene.GetNodesByClass("vtkMRMLLinearTransformNode")
    collection.UnRegister(None)
    nodes = [collection.GetItemAsObject(n) for n in range(collection.GetNumberOfItems())]
    return next((node for node in nodes if node.GetAttribute(ROLE) == ROLE_NAME), None)


def registration_from_node(node) -> PatientRegistration:
    """What a node holds: ours with its error and its age, any other linear transform with an error that isn't known.

    Raises InputError for a deformable transform.
    """
    import vtk

    if not node.IsTransformToWorldLinear():
        raise InputError(f"{node.GetName()}: a live registration needs one matrix; this transform is deformable")
    matrix = vtk.vtkMatrix4x4()
    node.GetMatrixTransformToWorld(matrix)
    try:
        document = json.loads(node.GetAttribute(DOCUMENT) or "{}")
    except ValueError:
        document = {}
    held = tuple((str(entry["name"]), float(entry["error_mm"])) for entry in document.get("held_out", []))
    return PatientRegistration(matrix_from_vtk(matrix), str(document.get("from_frame", "Reference")),
                               str(document.get("method", f"transform {node.GetName()}")), document.get("error_mm"),
                               str(document.get("validated_on", "nothing: its error is not known")), None, held,
                               float(document.get("time_s", time.time())), bool(document.get("assumed", False)))


def given_registration(matrix: np.ndarray, *, reference: str = "Reference", method: str, error_mm: float | None = None,
                       validated_on: str, assumed: bool = False) -> PatientRegistration:
    """A registration that something else found. Raises InputError for a matrix that isn't finite and invertible."""
    array = np.asarray(matrix, float)
    if array.shape != (4, 4) or not np.isfinite(array).all() or abs(np.linalg.det(array[:3, :3])) < 1e-9:
        raise InputError(f"{method}: a finite 4x4 matrix that can be inverted is needed")
    return PatientRegistration(array, reference, method, error_mm, validated_on, time_s=time.time(), assumed=assumed)
