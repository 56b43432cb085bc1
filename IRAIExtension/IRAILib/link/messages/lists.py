"""Lists of named things: POINT, TRAJ, IMGMETA, LBMETA, VIDEOMETA.

Source: the OpenIGTLink protocol specification, chapters of the same names. Coordinates are mm, in the frame of the
image that `owner` names; colours are four numbers 0..255. A coordinate that is NaN or infinite raises ContentError.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..framing import BytesLike, WireTime
from . import base
from .base import InputError, Message, wire_types

Rgba = tuple[int, int, int, int]
Size = tuple[int, int, int]
WHITE: Rgba = (255, 255, 255, 255)
ENTRY_ONLY, TARGET_ONLY, ENTRY_AND_TARGET = 1, 2, 3
_POINT = struct.Struct(">64s32s4B4f20s")
_TRAJECTORY = struct.Struct(">64s32sbb4B7f20s")
_IMAGE_META = struct.Struct(">64s20s32s64s64sQ3HBB")
_LABEL_META = struct.Struct(">64s20sBB4B3H20s")
_VIDEO_META = struct.Struct(">64s64s64s64shd3H12fBB")


def _color(rgba: Any, what: str) -> Rgba:
    values = tuple(int(value) for value in rgba)
    if len(values) != 4 or not all(0 <= value <= 255 for value in values):
        raise InputError(f"OpenIGTLink: the colour of {what} is four numbers 0..255, not {rgba}")
    return values


def _single(values: Any, count: int, what: str) -> list[float]:
    return base.outgoing_floats(values, (count,), what).tolist()


@dataclass
class PointItem:
    """One point: name (64 bytes), group (32), rgba, xyz (3,) float64 mm, radius mm, owner (name of an image, 20)."""

    name: str = ""
    group: str = ""
    rgba: Rgba = WHITE
    xyz: np.ndarray = field(default_factory=lambda: np.zeros(3))
    radius: float = 0.0
    owner: str = ""


@wire_types()
@dataclass
class Point(Message):
    """POINT: `points` in their order; may be empty."""

    TYPE = "POINT"

    points: list[PointItem] = field(default_factory=list)

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> Point:
        found = []
        for name, group, *numbers, owner in base.elements(content, _POINT, "POINT"):
            text = base.text_field(name, "a name in POINT")
            values = base.finite_floats(numbers[4:], f"the point {text!r}")
            found.append(PointItem(text, base.text_field(group, "a group in POINT"), tuple(numbers[:4]), values[:3],
                                   float(values[3]), base.text_field(owner, "an owner in POINT")))
        return cls(found)

    def parts(self) -> list[BytesLike]:
        found = []
        for item in self.points:
            what = f"the point {item.name!r}"
            values = _single([*item.xyz, item.radius], 4, what)
            found.append(base.packed(_POINT, what, base.fixed(item.name, 64, "the name"),
                                     base.fixed(item.group, 32, "the group"), *_color(item.rgba, what), *values,
                                     base.fixed(item.owner, 20, "the owner")))
        return [b"".join(found)]


@dataclass
class TrajectoryItem:
    """One trajectory: entry, target (3,) float64 mm; kind 1 entry only, 2 target only, 3 both; the rest as a point."""

    name: str = ""
    group: str = ""
    kind: int = ENTRY_AND_TARGET
    rgba: Rgba = WHITE
    entry: np.ndarray = field(default_factory=lambda: np.zeros(3))
    target: np.ndarray = field(default_factory=lambda: np.zeros(3))
    radius: float = 0.0
    owner: str = ""


@wire_types()
@dataclass
class Trajectory(Message):
    """TRAJ: `trajectories` in their order; may be empty."""

    TYPE = "TRAJ"

    trajectories: list[TrajectoryItem] = field(default_factory=list)

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> Trajectory:
        found = []
        for name, group, kind, _, *numbers, owner in base.elements(content, _TRAJECTORY, "TRAJ"):
            text = base.text_field(name, "a name in TRAJ")
            if kind not in (ENTRY_ONLY, TARGET_ONLY, ENTRY_AND_TARGET):
                raise base.ContentError(f"OpenIGTLink: the trajectory {text!r} has the unknown kind {kind}")
            values = base.finite_floats(numbers[4:], f"the trajectory {text!r}")
            found.append(TrajectoryItem(text, base.text_field(group, "a group in TRAJ"), kind, tuple(numbers[:4]),
                                        values[:3], values[3:6], float(values[6]),
                                        base.text_field(owner, "an owner in TRAJ")))
        return cls(found)

    def parts(self) -> list[BytesLike]:
        found = []
        for item in self.trajectories:
            what = f"the trajectory {item.name!r}"
            values = _single([*item.entry, *item.target, item.radius], 7, what)
            found.append(base.packed(_TRAJECTORY, what, base.fixed(item.name, 64, "the name"),
                                     base.fixed(item.group, 32, "the group"), item.kind, 0, *_color(item.rgba, what),
                                     *values, base.fixed(item.owner, 20, "the owner")))
        return [b"".join(found)]


@dataclass
class ImageMetaItem:
    """One image on offer: name (64), device (20: ask GET_IMAGE for it), modality (32), patient name and id (64),
    time_s of the scan, size_ijk, scalar_type (the protocol's number, see base.SCALAR_TYPES)."""

    name: str = ""
    device: str = ""
    modality: str = ""
    patient_name: str = ""
    patient_id: str = ""
    time_s: float = 0.0
    size_ijk: Size = (0, 0, 0)
    scalar_type: int = 3


@wire_types()
@dataclass
class ImageMeta(Message):
    """IMGMETA: `images` that a peer has; may be empty."""

    TYPE = "IMGMETA"

    images: list[ImageMetaItem] = field(default_factory=list)

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> ImageMeta:
        found = []
        for *texts, stamp, i, j, k, scalar, _ in base.elements(content, _IMAGE_META, "IMGMETA"):
            words = [base.text_field(text, "a text in IMGMETA") for text in texts]
            found.append(ImageMetaItem(*words, time_s=WireTime(stamp), size_ijk=(i, j, k), scalar_type=scalar))
        return cls(found)

    def parts(self) -> list[BytesLike]:
        return [b"".join(base.packed(
            _IMAGE_META, f"the image {item.name!r}", base.fixed(item.name, 64, "the name"),
            base.fixed(item.device, 20, "the device"), base.fixed(item.modality, 32, "the modality"),
            base.fixed(item.patient_name, 64, "the patient's name"),
            base.fixed(item.patient_id, 64, "the patient's id"),
            WireTime.of(item.time_s).raw, *item.size_ijk, item.scalar_type, 0) for item in self.images)]


@dataclass
class LabelMetaItem:
    """One label map on offer: name (64), device (20), label (0..255), rgba, size_ijk, owner (the image, 20)."""

    name: str = ""
    device: str = ""
    label: int = 0
    rgba: Rgba = WHITE
    size_ijk: Size = (0, 0, 0)
    owner: str = ""


@wire_types()
@dataclass
class LabelMeta(Message):
    """LBMETA: `labels` that a peer has; may be empty."""

    TYPE = "LBMETA"

    labels: list[LabelMetaItem] = field(default_factory=list)

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> LabelMeta:
        found = []
        for name, device, label, _, *numbers, owner in base.elements(content, _LABEL_META, "LBMETA"):
            found.append(LabelMetaItem(base.text_field(name, "a name in LBMETA"),
                                       base.text_field(device, "a device in LBMETA"), label, tuple(numbers[:4]),
                                       tuple(numbers[4:]), base.text_field(owner, "an owner in LBMETA")))
        return cls(found)

    def parts(self) -> list[BytesLike]:
        return [b"".join(base.packed(
            _LABEL_META, f"the label {item.name!r}", base.fixed(item.name, 64, "the name"),
            base.fixed(item.device, 20, "the device"), item.label, 0, *_color(item.rgba, f"the label {item.name!r}"),
            *item.size_ijk, base.fixed(item.owner, 20, "the owner")) for item in self.labels)]


@dataclass
class VideoMetaItem:
    """One video stream on offer: name, device, patient name and id (64 bytes each), zoom_level, focal_length,
    size_ijk, matrix (4, 4) as on the wire, scalar_type."""

    name: str = ""
    device: str = ""
    patient_name: str = ""
    patient_id: str = ""
    zoom_level: int = 0
    focal_length: float = 0.0
    size_ijk: Size = (0, 0, 0)
    matrix: np.ndarray = field(default_factory=lambda: np.eye(4))
    scalar_type: int = 3


@wire_types()
@dataclass
class VideoMeta(Message):
    """VIDEOMETA: `videos` that a peer has; may be empty."""

    TYPE = "VIDEOMETA"

    videos: list[VideoMetaItem] = field(default_factory=list)

    @classmethod
    def from_content(cls, content: memoryview, wire_type: str) -> VideoMeta:
        found = []
        for *texts, zoom, focal, i, j, k, a, b, c, d, e, f, g, h, m, n, o, p, scalar, _ in base.elements(
                content, _VIDEO_META, "VIDEOMETA"):
            words = [base.text_field(text, "a text in VIDEOMETA") for text in texts]
            matrix = base.matrix_of((a, b, c, d, e, f, g, h, m, n, o, p), f"the matrix of the video {words[0]!r}")
            found.append(VideoMetaItem(*words, zoom_level=zoom, focal_length=focal, size_ijk=(i, j, k), matrix=matrix,
                                       scalar_type=scalar))
        return cls(found)

    def parts(self) -> list[BytesLike]:
        found = []
        for item in self.videos:
            what = f"the video {item.name!r}"
            numbers = struct.unpack(">12f", base.matrix_bytes(item.matrix, f"the matrix of {what}"))
            texts = (base.fixed(text, 64, f"a text of {what}")
                     for text in (item.name, item.device, item.patient_name, item.patient_id))
            found.append(base.packed(_VIDEO_META, what, *texts, item.zoom_level, item.focal_length, *item.size_ijk,
                                     *numbers, item.scalar_type, 0))
        return [b"".join(found)]
