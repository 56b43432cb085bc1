"""Pictures and cines: grey frames with what the file says of time, pixel size and modality.

For ultrasound and X-ray frames, where a file is a film and no volume. Volumes are read by `read_volume`, tracked
recordings by `read_sequence`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError
from .dicom_pixels import frames_of
from .dicom_scan import DicomFile, is_dicom, read_header

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
MAX_PICTURE_PIXELS = 64 * 2**20
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as DICOM's YBR_FULL


@dataclass
class Frames:
    """A picture or a cine.

    Attributes:
        array: (n, h, w) grey values, uint8 or what the file stores.
        time_s: (n,) seconds since the first frame, or None where the file says nothing of time.
        modality: "US", "XA", "CT", "MR" ..., or "" where the file doesn't say.
        dataset: DICOM header (pydicom) or None; from it come scale and geometry.
        source: the path, as shown to a user.
    """

    array: np.ndarray
    source: str
    time_s: np.ndarray | None = None
    modality: str = ""
    dataset: Any = None
    notes: list[str] = field(default_factory=list)


def is_picture(path: Path) -> bool:
    """By its suffix: a PNG, JPEG, BMP or TIFF."""
    return path.suffix.lower() in PICTURES


def grey(array: np.ndarray) -> np.ndarray:
    """(..., h, w, 3 or 4) colour to (..., h, w) uint8 luminance."""
    return (np.asarray(array)[..., :3].astype(np.float32) @ LUMINANCE).round().astype(np.uint8)


def to_uint8(array: np.ndarray) -> np.ndarray:
    """Grey values as uint8: unchanged if they are, else windowed between the 0.1 and 99.9 percentile of all frames.

    Raises InputError for values that are no finite numbers.
    """
    if array.dtype == np.uint8:
        return array
    values = np.asarray(array, np.float32)
    if not np.isfinite(values).all():
        raise InputError("the image holds values that are no numbers (NaN or infinite); export it again")
    low, high = np.percentile(values[..., ::2, ::2], (0.1, 99.9))
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    return (np.clip((values - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)


def read_frames(path: str | Path) -> Frames:
    """A picture (PNG, JPEG, BMP, TIFF) or a DICOM picture or cine (ultrasound, X-ray, a single slice).

    Raises: InputError, one line, for what is missing, damaged or no picture.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file" if not path.exists() else f"{path}: is a folder; give one file")
    if is_picture(path):
        return _read_picture(path)
    if is_dicom(path):
        return _read_dicom(path)
    raise InputError(f"{path}: not a picture or DICOM cine that can be read; give .png, .jpg, .tif, DICOM, or a "
                     "recording (.igs.mha, .igs.nrrd)")


def _read_picture(path: Path) -> Frames:
    from PIL import Image, ImageSequence

    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            pages = []
            for page in ImageSequence.Iterator(image):
                if page.width * page.height * (len(pages) + 1) > MAX_PICTURE_PIXELS:
                    raise InputError(f"{path}: more than {MAX_PICTURE_PIXELS >> 20} megapixels; crop the picture")
                if page.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV"):
                    page = page.convert("RGB")
                pages.append(np.asarray(page))
    except InputError:
        raise
    except Exception as error:  # PIL raises what its many decoders raise
        raise InputError(f"{path}: the picture is truncated or damaged; copy or export it again") from error
    if len({page.shape for page in pages}) != 1:
        raise InputError(f"{path}: its pages differ in size; give one picture a file")
    array = np.stack(pages)
    if array.ndim == 4:
        array = grey(array) if array.shape[-1] >= 3 else array[..., 0]
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    return Frames(array, str(path))


def _read_dicom(path: Path) -> Frames:
    header = read_header(path, str(path))
    if "Rows" not in header:
        raise InputError(f"{path}: a DICOM file without a picture ({header.get('Modality', 'no modality')})")
    file = DicomFile(path, header, str(path))
    count = int(header.get("NumberOfFrames") or 1)
    frame, colour = frames_of(file), int(header.get("SamplesPerPixel") or 1) > 1
    slope, intercept = float(header.get("RescaleSlope", 1.0)), float(header.get("RescaleIntercept", 0.0))
    if colour:
        stored = frame(0, (1.0, 0.0))
        stack = stored[None] if count == 1 and stored.ndim == 3 else np.stack(
            [frame(n, (1.0, 0.0)) for n in range(count)])
        array = grey(stack) if stack.ndim == 4 else stack
    else:
        array = np.stack([frame(n, (slope, intercept)) for n in range(count)])
    array = _as_shown(array, header)
    return Frames(array, str(path), _frame_times(header, count), str(header.get("Modality", "")), header)


def _as_shown(array: np.ndarray, header) -> np.ndarray:
    if str(header.get("PhotometricInterpretation", "")) == "MONOCHROME1":
        array = array.max() - array
    if array.dtype != np.uint8 and int(header.get("BitsStored") or 16) <= 8 and array.min() >= 0 and array.max() < 256:
        array = array.astype(np.uint8)
    return array


def _frame_times(header, count: int) -> np.ndarray | None:
    vector = header.get("FrameTimeVector")
    if vector is not None and np.size(vector) == count:
        return np.cumsum(np.asarray(vector, float)) / 1000.0
    step = header.get("FrameTime")
    if step is not None and float(step) > 0:
        return np.arange(count) * float(step) / 1000.0
    rate = header.get("CineRate") or header.get("RecommendedDisplayFrameRate")
    return np.arange(count) / float(rate) if rate and float(rate) > 0 else None
