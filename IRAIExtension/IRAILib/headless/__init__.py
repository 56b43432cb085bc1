"""Starts PyPI's slicer-core so that code written for desktop Slicer finds what it knows, without Qt or a display.

    from IRAILib import headless
    headless.start()
    import slicer
    volume = slicer.util.loadVolume("ct.nrrd")

`slicer.mrmlScene`, `slicer.app`, `slicer.modules.<name>.logic()` and `slicer.util` are then as on desktop; what needs a
window, Qt, the DICOM database or a command-line module raises HeadlessUnavailableError and names what to use instead.
In desktop Slicer `start()` changes nothing. Pictures: IRAILib.headless.views.
"""

from .errors import HeadlessUnavailableError
from .startup import is_desktop, start

__all__ = ["HeadlessUnavailableError", "is_desktop", "start"]
