"""The board of squares and markers (ChArUco) that a camera is calibrated with and finds its place by.

Frame "Board": origin in the corner of the first square, x along its columns, y along its rows, z away from who looks at
it; mm. Pixels are (column, row) with centres at integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import InputError, MissingPackageError

DICTIONARY = "DICT_5X5_100"


def opencv() -> Any:
    """The module cv2. Raises MissingPackageError without it."""
    try:
        import cv2
    except ImportError:
        raise MissingPackageError("the camera overlay needs OpenCV: pip install opencv-python-headless") from None
    return cv2


@dataclass(frozen=True)
class Board:
    """columns, rows: squares; square_mm, marker_mm: sides as printed (measure them); dictionary: OpenCV's name."""

    columns: int = 9
    rows: int = 6
    square_mm: float = 20.0
    marker_mm: float = 15.0
    dictionary: str = DICTIONARY

    def __post_init__(self) -> None:
        if self.columns < 3 or self.rows < 3 or not 0.0 < self.marker_mm < self.square_mm < 1e4:
            raise InputError(f"a board of {self.columns} x {self.rows} squares of {self.square_mm:g} mm with markers "
                             f"of {self.marker_mm:g} mm can't be: at least 3 x 3, markers smaller than squares")

    def corners_mm(self) -> np.ndarray:
        """(n, 3) inner corners by their numbers, frame "Board"."""
        column, row = np.meshgrid(np.arange(1, self.columns), np.arange(1, self.rows))
        return np.stack([column.ravel(), row.ravel(), np.zeros(column.size)], axis=1) * self.square_mm

    def _charuco(self) -> Any:
        cv2 = opencv()
        code = getattr(cv2.aruco, self.dictionary, None)
        if code is None:
            raise InputError(f"OpenCV knows no marker dictionary '{self.dictionary}'; the usual one is {DICTIONARY}")
        return cv2.aruco.CharucoBoard((self.columns, self.rows), self.square_mm, self.marker_mm,
                                      cv2.aruco.getPredefinedDictionary(code))

    def picture(self, px_per_mm: float = 10.0) -> np.ndarray:
        """(h, w) uint8 to print at that scale: pixel centres lie half a pixel inside the board's edges."""
        size = (round(self.columns * self.square_mm * px_per_mm), round(self.rows * self.square_mm * px_per_mm))
        return self._charuco().generateImage(size, marginSize=0, borderBits=1)

    def find(self, picture: np.ndarray) -> BoardView:
        """The board's inner corners in a picture, (h, w) or (h, w, 3) uint8; none found gives an empty view.

        Raises: InputError for other arrays, MissingPackageError without OpenCV.
        """
        cv2 = opencv()
        image = checked_picture(picture)
        grey = image if image.ndim == 2 else np.rint(image.astype(float) @ (0.299, 0.587, 0.114)).astype(np.uint8)
        corners, ids, _, _ = cv2.aruco.CharucoDetector(self._charuco()).detectBoard(np.ascontiguousarray(grey))
        if ids is None or not len(ids):
            return BoardView(np.zeros(0, int), np.zeros((0, 2)), (grey.shape[1], grey.shape[0]))
        return BoardView(np.asarray(ids).ravel().astype(int), np.asarray(corners, float).reshape(-1, 2),
                         (grey.shape[1], grey.shape[0]))


@dataclass(frozen=True, eq=False)
class BoardView:
    """Corners of a board in one picture: numbers (n,), places (n, 2) pixels; size (columns, rows) of the picture."""

    numbers: np.ndarray
    places_px: np.ndarray
    size_px: tuple[int, int]


def checked_picture(picture: Any) -> np.ndarray:
    """The picture as an array; raises InputError unless it is (h, w) or (h, w, 3) uint8 of at least 32 x 32."""
    image = np.asarray(picture)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) \
            or min(image.shape[:2]) < 32:
        raise InputError(f"a video picture must be (h, w) or (h, w, 3) uint8 of at least 32 x 32, not "
                         f"{image.dtype} {image.shape}")
    return image
