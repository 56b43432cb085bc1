"""A cube of tissue round the lesion, in the patient's axes, and what a network sees of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...geometry import FrameMismatchError, Grid, InputError, Mask, Volume, resample, resample_mask

MODES = ("3d", "2.5d")
CT_RANGE_HU = (-1200.0, 200.0)
"""An image whose lowest value lies between these is taken for a CT where its file doesn't say."""
LARGEST_PIXELS = 96


@dataclass(frozen=True)
class CropOptions:
    """How a lesion is cut out.

    Attributes:
        mode: "3d" (the cube), "2.5d" (the axial, coronal and sagittal plane through the lesion's centre).
        side_mm: of the cube. pixels: along each side.
        window: (low, high), mapped to -1..1 and cut there; None: (-150, 250) HU for CT, else the 1st and 99th
            percentile of the cube (then no absolute intensity is left).
    Raises: InputError, one line.
    """

    mode: str = "3d"
    side_mm: float = 64.0
    pixels: int = 32
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"crops: mode '{self.mode}' is none of {', '.join(MODES)}")
        if not 8 <= self.pixels <= LARGEST_PIXELS:
            raise InputError(f"crops: pixels must be 8 to {LARGEST_PIXELS}, not {self.pixels}")
        if not 4.0 <= self.side_mm <= 500.0:
            raise InputError(f"crops: side_mm must be 4 to 500, not {self.side_mm:g}")
        if self.window is not None:
            low, high = (float(v) for v in self.window)
            if not low < high:
                raise InputError(f"crops: window must be (low, high), not {self.window}")
            object.__setattr__(self, "window", (low, high))

    @property
    def step_mm(self) -> float:
        return self.side_mm / self.pixels

    @property
    def channels(self) -> int:
        """Of the network's input: image and mask; three planes of both in 2.5D."""
        return 2 if self.mode == "3d" else 6

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "window": None if self.window is None else list(self.window)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CropOptions:
        try:
            return cls(**{**values, "window": None if values.get("window") is None else tuple(values["window"])})
        except (TypeError, ValueError) as error:
            raise InputError(f"crops: {error}") from None


@dataclass(frozen=True, eq=False)
class Crop:
    """intensities (p, p, p) float32 along S, A, R at `step_mm`; inside (p, p, p) bool.

    Attributes:
        is_ct: intensities are HU. cut: share of the lesion that lies outside the cube.
        centre_ras: RAS mm, in the image's frame.
    """

    intensities: np.ndarray
    inside: np.ndarray
    step_mm: float
    is_ct: bool
    cut: float
    centre_ras: tuple[float, float, float]


def read_crop(image: Volume, mask: Mask, options: CropOptions | None = None) -> Crop:
    """The cube round the mask's centre of mass, its axes along the patient's (so that oblique scans compare).

    Air (-1024 HU) or the image's lowest value stands where the image ends.
    Raises: EmptyMaskError; FrameMismatchError; InputError for NaN or infinity in the cube.
    """
    options = options or CropOptions()
    mask.require_not_empty()
    a, b = image.frame_of_reference, mask.frame_of_reference
    if a and b and a != b:
        raise FrameMismatchError(f"{mask.name or 'mask'} and {image.name or 'image'} lie in different frames of "
                                 "reference; choose the mask of this image")
    centre = mask.grid.points_ras(np.argwhere(mask.array).mean(axis=0)[None])[0]
    matrix = np.eye(4)
    matrix[:3, :3] *= options.step_mm
    matrix[:3, 3] = centre - options.step_mm * (options.pixels - 1) / 2.0
    grid = Grid((options.pixels, options.pixels, options.pixels), matrix)
    is_ct = _is_ct(image)
    outside = -1024.0 if is_ct else float(np.nanmin(image.array))
    smooth = _smoothed(image, options.step_mm)
    values = np.asarray(resample(smooth, grid, outside=outside).array, np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{image.name or 'image'}: NaN or infinity beside the lesion; correct the image")
    inside = np.asarray(resample_mask(mask, grid).array, bool)
    points = mask.grid.points_ras(np.argwhere(mask.array))
    beyond = float((np.abs(points - centre).max(axis=1) > options.side_mm / 2.0).mean())
    if not inside.any():
        inside[(options.pixels // 2,) * 3] = True
    return Crop(values, inside, options.step_mm, is_ct, beyond,
                (float(centre[0]), float(centre[1]), float(centre[2])))


def _is_ct(image: Volume) -> bool:
    modality = str(image.metadata.get("modality") or "")
    low = float(np.nanmin(image.array))
    return modality == "CT" or (not modality and CT_RANGE_HU[0] <= low < CT_RANGE_HU[1] - 300.0)


def _smoothed(image: Volume, step_mm: float) -> Volume:
    """Blurred along axes that the crop samples more coarsely, so that noise doesn't fold into it."""
    from scipy import ndimage

    sigma = [0.4 * step_mm / s if step_mm > 1.5 * s else 0.0 for s in image.grid.spacing_kji_mm]
    return image if not any(sigma) else image.with_array(ndimage.gaussian_filter(
        np.asarray(image.array, np.float32), sigma, mode="nearest"))


def network_input(intensities: np.ndarray, inside: np.ndarray, options: CropOptions, is_ct: bool) -> np.ndarray:
    """(channels, p, p, p) or, in 2.5D, (6, p, p) float32 in -1..1: image and mask, plane by plane."""
    low, high = options.window or ((-150.0, 250.0) if is_ct else np.percentile(intensities, (1.0, 99.0)))
    image = np.clip(2.0 * (intensities - low) / max(high - low, 1e-6) - 1.0, -1.0, 1.0)
    mask = 2.0 * np.asarray(inside, np.float32) - 1.0
    if options.mode == "3d":
        return np.stack([image, mask]).astype(np.float32)
    middle = len(image) // 2
    planes = [volume.take(middle, axis) for axis in range(3) for volume in (image, mask)]
    return np.stack(planes).astype(np.float32)
