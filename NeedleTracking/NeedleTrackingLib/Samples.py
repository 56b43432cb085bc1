"""The sample recording in Slicer's Sample Data module. It is simulated on this computer: nothing is downloaded."""

from slicer.i18n import tr as _


def registerSamples():
    """Offer the recording once Slicer has started."""
    try:
        import SampleData
    except ImportError:
        return
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="IRAI", sampleName=_("Needle in ultrasound (simulated)"), customDownloader=addSampleRecording)


def addSampleRecording(source=None):
    """Put the sample's first frame and its plan into the scene. Returns the volume and the plan."""
    from IRAILib.scene.needle_sample import add_plan, first_frame, make_sample, sample_folder

    sample = make_sample(sample_folder())
    return [first_frame(sample), add_plan(sample)]


def watchLoads():
    """Poses of a scene that is opened are lost until their peer is there again, whether or not the module is open."""
    from IRAILib.scene.link_store import watch_loads

    return watch_loads()
