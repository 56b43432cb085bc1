"""`start()`: one application a process, and the names that desktop Slicer has beside it."""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from pathlib import Path

from ..geometry import MissingPackageError
from .errors import HeadlessAttributeError, unavailable

SHARE_VARIABLE = "IRAI_SLICER_SHARE"
DESKTOP_ONLY = {
    "dicomDatabase": "IRAILib.images.read_volume reads a DICOM folder",
    "cli": "command-line modules are separate programs; IRAILib.registration and IRAILib.geometry.resample do the "
           "common ones",
    "packaging": "use pip in this environment",
    "sitkUtils": "slicer.util.arrayFromVolume, or IRAILib.geometry's SimpleITK functions",
}
QT_PREFIXES = ("qSlicer", "qMRML", "ctk")


def is_desktop() -> bool:
    """Whether this process is desktop Slicer: `slicer.app` is Qt's, not ours."""
    slicer = sys.modules.get("slicer")
    app = getattr(slicer, "app", None) if slicer is not None else None
    return app is not None and not getattr(app, "is_headless", False)


def start(share: str | Path | None = None):
    """Start headless Slicer, or give the application that already runs. In desktop Slicer nothing happens.

    Args:
        share: folder with Slicer's own colour files and terminologies, if there is one; default: $IRAI_SLICER_SHARE,
            then trame-slicer's resources. Only the first call in a process counts.
    Returns: slicer.app.
    Raises: MissingPackageError without the slicer-core package.
    """
    if is_desktop():
        return sys.modules["slicer"].app
    if importlib.util.find_spec("slicer") is None:
        raise MissingPackageError('headless Slicer needs the package slicer-core: pip install "irai[headless]"')
    from .rendering import choose_render_window

    choose_render_window()
    import slicer
    import slicer.util

    if "app" in vars(slicer):
        return slicer.app
    from .application import Application
    from .messages import log_vtk_messages, quiet
    from .scripted import install_scripted_modules
    from .utilities import replace_qt_functions

    log_vtk_messages()
    folder = _share_folder(share)
    with quiet(only_if=folder is None):  # Slicer misses its colour files and terminologies; colors.py stands in
        app = Application(folder)
    slicer.app, slicer.mrmlScene, slicer.modules = app, app.mrmlScene(), app.modules
    sys.modules["slicer.modules"] = app.modules
    slicer.moduleNames = types.SimpleNamespace(**{name: name for name in app.modules.loaded_names()})
    replace_qt_functions(slicer.util)
    install_scripted_modules()
    _alias_kits()
    slicer.__getattr__ = _missing
    return app


def _share_folder(share: str | Path | None) -> Path | None:
    chosen = share or os.environ.get(SHARE_VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    spec = importlib.util.find_spec("trame_slicer")
    folders = [Path(place) / "resources" for place in (spec.submodule_search_locations or [])] if spec else []
    return next((folder for folder in folders if folder.is_dir()), None)


def _alias_kits() -> None:
    """Names under which desktop scripts import the compiled parts."""
    import slicer_core

    for name in ("vtkITK", "vtkTeem"):
        sys.modules.setdefault(name, getattr(slicer_core, name))
    for name in ("MRMLCore", "MRMLLogic", "vtkSegmentationCore"):
        sys.modules.setdefault(name + "Python", getattr(slicer_core, name))


def _missing(name: str):
    """`slicer.<name>` that only desktop has: an AttributeError that says so."""
    if name in DESKTOP_ONLY:
        raise unavailable(f"slicer.{name}", DESKTOP_ONLY[name], HeadlessAttributeError)
    if name.startswith(QT_PREFIXES):
        raise unavailable(f"slicer.{name}", "it is a Qt class; use the MRML nodes and module logics",
                          HeadlessAttributeError)
    raise AttributeError(f"module 'slicer' has no attribute '{name}'")
