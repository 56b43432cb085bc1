"""The Python packages that this module uses beside Slicer's own: got on request."""

import pathlib

REQUIREMENTS = pathlib.Path(__file__).resolve().parent.parent / "Resources" / "requirements.txt"


def installPackages():
    """Install what Resources/requirements.txt names and isn't there.

    Uses slicer.packaging.pip_ensure (Slicer 5.11 and later), which asks first, else slicer.util.pip_install.
    """
    import slicer
    from IRAIExtensionLib.Packages import requirementLines

    lines = requirementLines(REQUIREMENTS)
    try:
        from slicer.packaging import pip_ensure
    except ImportError:
        slicer.util.pip_install(lines)
    else:
        pip_ensure(lines, requester="VirtualBiopsy")
