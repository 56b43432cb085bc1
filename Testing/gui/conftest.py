"""Panels on real Qt without a display, over the real scene of headless Slicer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(scope="session")
def qt_app():
    """Qt with PythonQt's habits; skipped without PySide6 or slicer-core."""
    pytest.importorskip("slicer_core", reason='needs slicer-core: pip install "irai[headless]"')
    pytest.importorskip("PySide6.QtWidgets", reason="needs Qt: pip install PySide6-Essentials")
    from IRAILib import headless

    headless.start()
    import pythonqt

    return pythonqt.install()


@pytest.fixture
def host(qt_app):
    """Function that opens a module by name; everything is closed after the test."""
    import slicer
    from pythonqt import ModuleHost

    opened = []

    def open_module(name: str) -> ModuleHost:
        slicer.mrmlScene.Clear(False)
        opened.append(ModuleHost(name))
        opened[-1].enter()
        return opened[-1]

    yield open_module
    for module in opened:
        module.close()
    slicer.mrmlScene.Clear(False)
