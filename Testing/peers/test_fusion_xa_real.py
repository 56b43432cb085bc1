"""FusionNav's C-arm step on somebody's angiogram: loaded, subtracted, searched for vessels, on real MRML."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def scene():
    """slicer.mrmlScene of headless Slicer, empty."""
    pytest.importorskip("slicer_core", reason='needs slicer-core: pip install "irai[headless]"')
    from IRAILib import headless

    app = headless.start()
    app.mrmlScene().Clear(False)
    yield app.mrmlScene()
    app.mrmlScene().Clear(False)


def test_a_real_run_is_loaded_subtracted_and_searched(data, scene) -> None:
    """A coronary run whose header has no distances: a picture, said to be one; its vessel is where the contrast is."""
    import slicer
    from IRAILib.fluoroscopy.dsa import subtract
    from IRAILib.scene import fusion_carm, fusion_vessels

    path = data / "angiography" / "XA_multiframe_coronary_96fr_HasFragmentSequence.dcm"
    if not path.is_file():
        pytest.skip(f"{path} isn't there")
    node, run, notes = fusion_carm.load_run(path, np.eye(4), frame=60)
    assert any("no projection geometry without" in note for note in notes)
    assert fusion_carm.geometry_of(node) is None
    assert slicer.util.arrayFromVolume(node).shape == (1, 512, 512)
    result = subtract(run, method="plain")
    live, darkest = fusion_vessels.show_subtraction(node, result, 60)
    dark = slicer.util.arrayFromVolume(darkest)[0]
    found = fusion_vessels.find_in_frame(node)
    assert found.found
    inside = found.mask & result.inside
    outside = ~found.mask & result.inside
    assert slicer.util.arrayFromVolume(live)[0][inside].mean() < slicer.util.arrayFromVolume(live)[0][outside].mean()
    assert dark[inside].mean() < dark[outside].mean()
    model = fusion_vessels.show_vessels(node, found)
    assert model.GetPolyData().GetNumberOfPoints() > 100
