"""VTK's and MRML's messages go to Python's logging, under "IRAI.vtk", in place of stderr."""

from __future__ import annotations

import contextlib
import logging

LOGGER = logging.getLogger("IRAI.vtk")
LEVELS = {"ErrorEvent": logging.WARNING, "WarningEvent": logging.WARNING, "MessageEvent": logging.DEBUG,
          "TextEvent": logging.DEBUG}
"""VTK event and the level it is logged at. An error of VTK is a warning here: what fails raises an error of its own."""


def log_vtk_messages() -> None:
    """Send VTK's output window to the logger, one line a message."""
    import vtk

    @vtk.calldata_type(vtk.VTK_STRING)
    def log(_window, event: str, text: str) -> None:
        LOGGER.log(LEVELS.get(event, logging.DEBUG), " ".join(str(text).split()))

    window = vtk.vtkOutputWindow()
    window.SetDisplayModeToNever()
    for event in LEVELS:
        window.AddObserver(event, log)  # type: ignore[arg-type]  (VTK takes names)
    vtk.vtkOutputWindow.SetInstance(window)
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)


@contextlib.contextmanager
def quiet(only_if: bool = True):
    """Drop VTK's messages while the code runs: for failures that are known and handled."""
    import vtk

    before = vtk.vtkObject.GetGlobalWarningDisplay()
    if only_if:
        vtk.vtkObject.SetGlobalWarningDisplay(0)
    try:
        yield
    finally:
        vtk.vtkObject.SetGlobalWarningDisplay(before)
