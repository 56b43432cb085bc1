"""A tracked ultrasound recording of PLUS through FusionNav's session: every live slice against the file's own poses."""

from __future__ import annotations

import time

import numpy as np
import pytest

PATIENCE_S = 60.0


@pytest.fixture
def scene():
    """slicer.mrmlScene of headless Slicer, empty."""
    pytest.importorskip("slicer_core", reason='needs slicer-core: pip install "irai[headless]"')
    from IRAILib import headless

    app = headless.start()
    app.mrmlScene().Clear(False)
    yield app.mrmlScene()
    app.mrmlScene().Clear(False)


def test_a_plus_recording_lies_where_its_own_poses_say(data, scene) -> None:
    """Image to Probe to Tracker, back to Reference, on to RAS: the chain by the file's matrices, frame by frame."""
    from IRAILib.images.sequences import read_sequence
    from IRAILib.link.replay_frames import read_plus_config
    from IRAILib.scene.fusion_calibrate import read_probe_calibration
    from IRAILib.scene.fusion_registration import given_registration
    from IRAILib.scene.fusion_session import FusionSession

    folder = data / "tracked_ultrasound" / "plus"
    path = folder / "SpinePhantomFreehand.igs.mha"
    config = next((entry for entry in sorted((folder / "config").glob("*SpinePhantom*.xml"))
                   if "ImageToProbe" in read_plus_config(entry)), None)
    if not path.is_file() or config is None:
        pytest.skip(f"{path} or its configuration isn't there")
    sequence = read_sequence(path).oriented("MF")
    image_to_probe = read_plus_config(config)["ImageToProbe"]
    to_ras = np.array([[0.0, -1.0, 0.0, 12.0], [1.0, 0.0, 0.0, -7.0], [0.0, 0.0, 1.0, 55.0], [0.0, 0.0, 0.0, 1.0]])
    session = FusionSession()
    try:
        session.live.set_calibration(read_probe_calibration(config))
        session.registration = given_registration(to_ras, method="made for the test", validated_on="nothing")
        session.replay(sequence, loop=True, speed=0.5)
        errors: dict[int, float] = {}
        end = time.monotonic() + PATIENCE_S
        corners = np.array([(0.0, 0.0, 0.0, 1.0), (819.0, 0.0, 0.0, 1.0), (0.0, 615.0, 0.0, 1.0)])
        while len(errors) < 8 and time.monotonic() < end:
            session.pump()
            frame = session.live.frame
            if frame is None or frame.reference_from_pixel is None:
                time.sleep(0.002)
                continue
            matrix = session.ras_from_pixel(frame)
            same = [n for n in range(len(sequence)) if np.array_equal(sequence.frames[n], frame.pixels)]
            if len(same) != 1 or matrix is None:
                continue
            probe, reference = (sequence.transforms[name][same[0]] for name in ("ProbeToTracker", "ReferenceToTracker"))
            truth = to_ras @ np.linalg.inv(reference) @ probe @ image_to_probe
            errors[same[0]] = float(np.linalg.norm(corners @ (matrix - truth).T, axis=1).max())
        assert len(errors) >= 8, f"{len(errors)} live slices; {session.image_chain().problem}"
        assert max(errors.values()) < 0.02
        assert "ImageToProbe" in session.image_chain().unknown  # a PLUS configuration states no error
    finally:
        session.close()
