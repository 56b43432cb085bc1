"""Real MRML: one headless Slicer a test process, an empty scene for each test."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def app():
    """slicer.app of headless Slicer; the test is skipped where slicer-core is not installed."""
    pytest.importorskip("slicer_core", reason='needs slicer-core: pip install "irai[headless]"')
    from IRAILib import headless

    return headless.start()


@pytest.fixture(autouse=True)
def scene(app):
    """slicer.mrmlScene, empty but for what Slicer itself keeps in it."""
    app.mrmlScene().Clear(False)
    yield app.mrmlScene()
    app.mrmlScene().Clear(False)
