"""Draws the modules' icons (128 x 128 PNG): run it again after a change, the files are kept in the repository.

    python Testing/tools/draw_icons.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SIZE = 128
OVERSAMPLING = 4
NIGHT, LIVER, ZONE, TUMOR = (24, 34, 52), (150, 84, 72), (238, 214, 178), (112, 52, 60)
RED, YELLOW, GREEN = (214, 39, 40), (250, 204, 46), (51, 161, 74)
WHITE, BLUE = (245, 247, 250), (96, 168, 232)


class Canvas:
    """RGBA painting with signed distances, in units of the icon's edge."""

    def __init__(self) -> None:
        side = SIZE * OVERSAMPLING
        self.y, self.x = (np.mgrid[0:side, 0:side] + 0.5) / side
        self.pixels = np.zeros((side, side, 4))

    def paint(self, inside: np.ndarray, color, alpha: float = 1.0) -> None:
        share = inside.astype(float)[..., None] * alpha
        self.pixels[..., :3] = self.pixels[..., :3] * (1 - share) + np.array(color) / 255.0 * share
        self.pixels[..., 3:] = self.pixels[..., 3:] * (1 - share) + share

    def ellipse(self, x: float, y: float, a: float, b: float, turn_deg: float = 0.0) -> np.ndarray:
        """Distance-like: below 1 inside."""
        c, s = np.cos(np.deg2rad(turn_deg)), np.sin(np.deg2rad(turn_deg))
        u, v = (self.x - x) * c + (self.y - y) * s, -(self.x - x) * s + (self.y - y) * c
        return np.sqrt((u / a) ** 2 + (v / b) ** 2)

    def rounded_square(self, radius: float) -> np.ndarray:
        u, v = np.abs(self.x - 0.5) - (0.48 - radius), np.abs(self.y - 0.5) - (0.48 - radius)
        return np.hypot(np.maximum(u, 0), np.maximum(v, 0)) < radius

    def line(self, x0: float, y0: float, x1: float, y1: float, width: float) -> np.ndarray:
        ux, uy = x1 - x0, y1 - y0
        along = np.clip(((self.x - x0) * ux + (self.y - y0) * uy) / (ux * ux + uy * uy), 0, 1)
        return np.hypot(self.x - x0 - along * ux, self.y - y0 - along * uy) < width / 2

    def save(self, path: Path) -> None:
        import matplotlib.image

        small = self.pixels.reshape(SIZE, OVERSAMPLING, SIZE, OVERSAMPLING, 4).mean(axis=(1, 3))
        path.parent.mkdir(parents=True, exist_ok=True)
        matplotlib.image.imsave(path, np.clip(small, 0, 1), metadata={"Software": None})


def ablation_margin(canvas: Canvas) -> None:
    """A tumour inside an ablation zone, its rim in traffic-light colours by the distance between the two."""
    square = canvas.rounded_square(0.14)
    canvas.paint(square, NIGHT)
    canvas.paint(square & (canvas.ellipse(0.42, 0.52, 0.50, 0.40, -14) < 1), LIVER)
    canvas.paint(canvas.ellipse(0.52, 0.49, 0.345, 0.30, -14) < 1, ZONE)
    tumor = canvas.ellipse(0.42, 0.53, 0.20, 0.18)
    angle = np.rad2deg(np.arctan2(canvas.y - 0.53, canvas.x - 0.42))
    rim = (tumor < 1.0) & (tumor > 0.72)
    canvas.paint(tumor < 1.0, TUMOR)
    away = np.abs((angle - 165 + 180) % 360 - 180)
    for color, low, high in ((RED, 0, 38), (YELLOW, 38, 82), (GREEN, 82, 181)):
        canvas.paint(rim & (away >= low) & (away < high), color)


def home(canvas: Canvas) -> None:
    """A needle on its way to a target in an organ: what all four modules are about."""
    square = canvas.rounded_square(0.14)
    canvas.paint(square, NIGHT)
    canvas.paint(square & (canvas.ellipse(0.40, 0.58, 0.46, 0.36, -16) < 1), LIVER)
    target = canvas.ellipse(0.40, 0.60, 0.15, 0.15)
    canvas.paint(target < 1.0, WHITE)
    canvas.paint(target < 0.74, LIVER)
    canvas.paint(target < 0.42, RED)
    canvas.paint(canvas.line(0.86, 0.14, 0.43, 0.57, 0.035), BLUE)
    canvas.paint(canvas.line(0.88, 0.12, 0.74, 0.26, 0.085), WHITE)


def needle_tracking(canvas: Canvas) -> None:
    """An ultrasound fan, a needle in it, its tip ringed by how sure it is."""
    canvas.paint(canvas.rounded_square(0.14), NIGHT)
    angle = np.rad2deg(np.arctan2(canvas.x - 0.5, canvas.y + 0.08))
    depth = np.hypot(canvas.x - 0.5, canvas.y + 0.08)
    fan = (np.abs(angle) < 34) & (depth > 0.22) & (depth < 0.98)
    canvas.paint(fan, (58, 74, 98))
    for near in (0.40, 0.58, 0.76):
        canvas.paint(fan & (np.abs(depth - near) < 0.012), (104, 124, 152))
    canvas.paint(canvas.line(0.88, 0.20, 0.46, 0.62, 0.04), WHITE)
    ring = canvas.ellipse(0.45, 0.63, 0.13, 0.13)
    canvas.paint((ring < 1.0) & (ring > 0.74), GREEN)
    canvas.paint(canvas.ellipse(0.45, 0.63, 0.04, 0.04) < 1, GREEN)


def fusion_nav(canvas: Canvas) -> None:
    """An organ with the live fan laid over it, a path through both into the target's rings."""
    square = canvas.rounded_square(0.14)
    canvas.paint(square, NIGHT)
    canvas.paint(square & (canvas.ellipse(0.44, 0.56, 0.44, 0.36, -14) < 1), LIVER)
    angle = np.rad2deg(np.arctan2(canvas.x - 0.62, canvas.y - 0.02))
    depth = np.hypot(canvas.x - 0.62, canvas.y - 0.02)
    fan = square & (np.abs(angle + 12) < 30) & (depth > 0.16) & (depth < 0.86)
    canvas.paint(fan, (92, 112, 140), 0.75)
    ring = canvas.ellipse(0.47, 0.60, 0.20, 0.20)
    for low, high, color in ((0.86, 1.0, WHITE), (0.46, 0.60, YELLOW), (0.0, 0.20, RED)):
        canvas.paint((ring >= low) & (ring < high), color)
    canvas.paint(canvas.line(0.90, 0.17, 0.49, 0.58, 0.03), BLUE)
    canvas.paint(canvas.line(0.92, 0.15, 0.78, 0.29, 0.075), WHITE)


def virtual_biopsy(canvas: Canvas) -> None:
    """A lesion in an organ, its habitats, and where it lies between low and high among others."""
    square = canvas.rounded_square(0.14)
    canvas.paint(square, NIGHT)
    canvas.paint(square & (canvas.ellipse(0.42, 0.40, 0.46, 0.34, -14) < 1), LIVER)
    lesion = canvas.ellipse(0.42, 0.40, 0.235, 0.215, 20)
    canvas.paint(lesion < 1.0, ZONE)
    canvas.paint(lesion < 0.72, (206, 120, 66))
    canvas.paint(canvas.ellipse(0.44, 0.42, 0.10, 0.085, 20) < 1, TUMOR)
    canvas.paint(canvas.line(0.14, 0.84, 0.86, 0.84, 0.05), (92, 112, 140))
    canvas.paint(canvas.line(0.34, 0.84, 0.70, 0.84, 0.05), BLUE)
    canvas.paint(canvas.line(0.62, 0.755, 0.62, 0.925, 0.035), WHITE)


def main() -> None:
    for folder, draw in (("AblationMargin", ablation_margin), ("IRAIExtension", home),
                         ("NeedleTracking", needle_tracking), ("FusionNav", fusion_nav),
                         ("VirtualBiopsy", virtual_biopsy)):
        canvas = Canvas()
        draw(canvas)
        canvas.save(ROOT / folder / "Resources" / "Icons" / f"{folder}.png")


if __name__ == "__main__":
    main()
