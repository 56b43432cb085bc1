"""How a PLUS configuration wants a volume reconstructed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..geometry import InputError
from ..link.replay_frames import read_plus_xml
from .reconstruction import fan_mask

_INTERPOLATION = {"NEAREST_NEIGHBOR": "nearest", "LINEAR": "linear"}
_COMPOUNDING = {"MEAN": "mean", "MAXIMUM": "max", "LATEST": "latest"}


@dataclass(frozen=True)
class PlusSettings:
    """The VolumeReconstruction element of a PLUS configuration; None where it says nothing.

    clip_px: (x0, y0, x1, y1), end not included. fan: apex x, y (px), angles (degrees), radii (px).
    """

    spacing_mm: tuple[float, float, float] | None = None
    interpolation: str | None = None
    compounding: str | None = None
    fill_holes: bool | None = None
    clip_px: tuple[int, int, int, int] | None = None
    fan: tuple[float, float, float, float, float, float] | None = None

    def region(self, size_px: tuple[int, int]) -> object:
        """What `reconstruct` takes as region_px for images of (columns, rows). Raises InputError: nothing is left."""
        columns, rows = size_px
        clip = None
        if self.clip_px is not None:
            x0, y0, x1, y1 = self.clip_px
            clip = max(x0, 0), max(y0, 0), min(x1, columns), min(y1, rows)
            if clip[0] >= clip[2] or clip[1] >= clip[3]:
                raise InputError(f"the clip rectangle of the configuration lies outside an image of {size_px}")
        if self.fan is None:
            return clip
        x, y, low, high, near, far = self.fan
        mask = fan_mask(size_px, (x, y), (low, high), (near, far))
        if clip is not None:
            inside = np.zeros_like(mask)
            inside[clip[1]:clip[3], clip[0]:clip[2]] = True
            mask &= inside
        return mask


def read_plus_settings(path: str | Path) -> PlusSettings | None:
    """The settings, or None where the file has no VolumeReconstruction. Raises InputError: no XML, odd values."""
    element = read_plus_xml(path).find(".//VolumeReconstruction")
    if element is None:
        return None

    def numbers(name: str, count: int) -> list[float] | None:
        text = element.get(name)
        if text is None:
            return None
        try:
            found = [float(word) for word in text.split()]
        except ValueError:
            found = []
        if len(found) != count or not np.isfinite(found).all():
            raise InputError(f"{path}: {name} of its VolumeReconstruction isn't {count} numbers")
        return found

    def word(name: str, known: dict[str, str]) -> str | None:
        text = element.get(name, "").upper()
        if text and text not in known:
            raise InputError(f"{path}: {name}=\"{text}\" isn't known; one of {', '.join(known)} is")
        return known.get(text)

    spacing = numbers("OutputSpacing", 3)
    origin, size = numbers("ClipRectangleOrigin", 2), numbers("ClipRectangleSize", 2)
    clip = None
    if origin and size and min(size) > 0:  # PLUS takes the pixels at both ends
        clip = (int(origin[0]), int(origin[1]), int(origin[0] + size[0]) + 1, int(origin[1] + size[1]) + 1)
    angles = numbers("FanAnglesDeg", 2) or numbers("FanAngles", 2)
    apex = numbers("FanOriginPixel", 2) or numbers("FanOrigin", 2)
    near, far = numbers("FanRadiusStartPixel", 1), numbers("FanRadiusStopPixel", 1)
    fan = None
    if angles and apex and (angles[0] or angles[1]):
        fan = (apex[0], apex[1], min(angles), max(angles), near[0] if near else 0.0, far[0] if far else 1e6)
    holes = element.get("FillHoles", "").upper()
    return PlusSettings(None if spacing is None else (spacing[0], spacing[1], spacing[2]),
                        word("Interpolation", _INTERPOLATION), word("CompoundingMode", _COMPOUNDING),
                        None if not holes else holes in ("ON", "TRUE"), clip, fan)
