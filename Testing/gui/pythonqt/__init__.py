"""Enough of desktop Slicer's Qt side, on PySide6 without a display, to run a module's panel in a test.

`install()` makes `qt`, `ctk` and `slicer.qMRML...` importable with PythonQt's habits; `ModuleHost` opens a module as
Slicer does. It knows only what is written here: it shows that a panel can be set up, used, saved and restored, not
that desktop Slicer draws it the same.
"""

from .host import ModuleHost
from .loader import install

__all__ = ["ModuleHost", "install"]
