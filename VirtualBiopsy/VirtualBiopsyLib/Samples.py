"""The sample in Slicer's Sample Data module. It is made on this computer: nothing is downloaded."""

from slicer.i18n import tr as _


def registerSamples():
    """Offer the case once Slicer has started."""
    try:
        import SampleData
    except ImportError:
        return
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="IRAI", sampleName=_("Virtual biopsy case (synthetic)"), customDownloader=addSampleCase)


def addSampleCase(source=None):
    """Put the sample case into the scene. Returns its volume."""
    from IRAILib.scene.biopsy_sample import load_sample

    case, _painted = load_sample()
    return [case.volume]
