"""The sample in Slicer's Sample Data module. It is made on this computer: nothing is downloaded."""

from slicer.i18n import tr as _


def registerSamples():
    """Offer the sample once Slicer has started."""
    try:
        import SampleData
    except ImportError:
        return
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="IRAI", sampleName=_("CT for tracked ultrasound (synthetic)"), customDownloader=addSample)


def addSample(source=None):
    """Put the sample's CT, structures, landmarks and path into the scene. Returns its nodes."""
    from IRAILib.scene.fusion_sample import add_sample_nodes

    return add_sample_nodes().nodes


def watchLoads():
    """Poses of a scene that is opened are lost until their peer is there again, whether or not the module is open."""
    from IRAILib.scene.link_store import watch_loads

    return watch_loads()
