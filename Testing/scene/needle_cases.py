"""A recording whose tip is one bright dot, and a detector that finds it: the way into the scene without a network."""

from __future__ import annotations

import numpy as np

SIZE = (96, 128)
RATE_HZ = 20.0
MM_PER_PX = (0.4, 0.25)


def probe_pose() -> np.ndarray:
    """(4, 4) ProbeToReference, no axis along another."""
    a, b = np.radians([20.0, -35.0])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = about_z @ about_x, (15.0, -40.0, 60.0)
    return pose


def dot_recording(frames: int = 60, *, scale: bool = True):
    """(TrackedSequence, tips (n, 2) px, reference_from_image (4, 4)): the dot moves down to the right."""
    from IRAILib.images.sequences import TrackedSequence

    tips = np.array([(30 + n % 60, 20 + (n % 60) // 2) for n in range(frames)])
    pictures = np.full((frames, *SIZE), 20, np.uint8)
    for picture, (x, y) in zip(pictures, tips, strict=True):
        picture[y, x] = 255
    to_probe = np.diag([*(MM_PER_PX if scale else (1.0, 1.0)), 1.0, 1.0])
    to_probe[:3, 3] = -12.0, 2.0, 3.0
    pose = probe_pose()
    recording = TrackedSequence(
        frames=pictures, time_s=np.arange(frames) / RATE_HZ,
        transforms={"ProbeToReference": np.tile(pose, (frames, 1, 1))}, status={"ProbeToReference": ["OK"] * frames},
        orientation="MFA", header={"ImageToProbeTransform": " ".join(f"{v:.9g}" for v in to_probe.ravel())})
    return recording, tips, pose @ to_probe


class DotDetector:
    """The brightest pixel is the tip, the needle comes from the upper left."""

    stack_length, method = 1, "dot"

    def detect(self, frames, *, mm_per_px=None):
        from IRAILib.needle.ultrasound.detection import FrameDetection

        y, x = np.unravel_index(int(frames[-1].argmax()), frames[-1].shape)
        if frames[-1, y, x] < 250:
            return FrameDetection(found=False, method=self.method)
        return FrameDetection(True, np.array([x, y], float), np.array([2.0, 1.0]), np.array([x - 20.0, y - 10.0]),
                              np.eye(2) * 0.25, 1.0, 1.0, 1.0, 1.0, self.method)
