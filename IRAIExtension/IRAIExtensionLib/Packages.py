"""What is installed, at which version, and how what is missing gets here. Nothing is imported to find out."""

import importlib.metadata
import logging
import pathlib
from dataclasses import dataclass

from slicer.i18n import tr as _

REQUIREMENTS = pathlib.Path(__file__).resolve().parent.parent / "Resources" / "requirements.txt"
LOGGER = logging.getLogger("IRAI")


@dataclass(frozen=True)
class Package:
    """A package: its distribution names (the first that is found counts), and what it is for."""

    title: str
    names: tuple
    purpose: str

    @property
    def version(self):
        """Version, or an empty string when it is not installed."""
        for name in self.names:
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return ""


def packages():
    """Everything the modules can use."""
    return [
        Package("PyTorch", ("torch",), _("networks, ConvexAdam registration")),
        Package("MONAI", ("monai",), _("segmentation models")),
        Package("scikit-image", ("scikit-image",), _("segmentation, surfaces")),
        Package("edt", ("edt",), _("ten times faster distances")),
        Package("highdicom", ("highdicom",), _("DICOM SEG and SR")),
        Package("matplotlib", ("matplotlib",), _("figures of the report")),
        Package("picsl-greedy", ("picsl-greedy",), _("Greedy registration")),
        Package("itk-elastix", ("itk-elastix",), _("Elastix registration")),
    ]


def slicerVersion():
    """Version of Slicer, or of its wheel when there is no desktop."""
    import slicer

    version = getattr(slicer.app, "applicationVersion", "")
    return str(version) if version else Package("", ("slicer-core",), "").version


def requirementLines(path=REQUIREMENTS):
    """The requirements of the file, without comments."""
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def installMissing():
    """Install the optional packages of requirements.txt. Slicer's own packages are not moved.

    Uses slicer.packaging.pip_ensure (Slicer 5.11 and later), which asks first, else slicer.util.pip_install.
    """
    import slicer

    try:
        from slicer.packaging import pip_ensure
    except ImportError:
        slicer.util.pip_install(requirementLines())
    else:
        pip_ensure(requirementLines(), requester="IRAI")
    LOGGER.info("optional packages: %s", ", ".join(f"{p.title} {p.version or 'missing'}" for p in packages()))


def torchExtension():
    """Logic of the PyTorch extension, or None when that extension is not installed."""
    try:
        import PyTorchUtils
    except ImportError:
        return None
    return PyTorchUtils.PyTorchUtilsLogic()


def installTorch():
    """Install PyTorch through the PyTorch extension, which chooses the build for this computer.

    Raises InputError when that extension is not installed.
    """
    from IRAILib.geometry import MissingPackageError

    logic = torchExtension()
    if logic is None:
        raise MissingPackageError(_("the PyTorch extension is not installed; get it in the Extensions Manager, "
                                    "restart Slicer, and press this again"))
    logic.installTorch(askConfirmation=True, torchVersionRequirement=">=2.4")
