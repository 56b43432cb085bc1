"""The sample case in Slicer's Sample Data module. It is made on this computer: nothing is downloaded."""

from slicer.i18n import tr as _


def registerSamples():
    """Offer the case once Slicer has started."""
    try:
        import SampleData
    except ImportError:
        return
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="IRAI", sampleName=_("Ablation case (synthetic)"), customDownloader=addSampleCase)


def addSampleCase(source=None):
    """Put the sample case into the scene. Returns its two volumes."""
    from IRAILib.scene.sample import load_sample_case

    case, _truth = load_sample_case()
    return [case.pre, case.post]
