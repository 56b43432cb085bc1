"""What the buttons do, on a parameter node; a script calls the same. Imports nothing heavy until it is needed."""

import pathlib

from .Parameters import DEFORMABLE, SAME_FRAME, caseFrom, chooseSegment, rememberCase, segmentOf


class AblationMarginActions:
    """Each takes the parameter node, works in the scene and remembers the result in the parameter node."""

    def loadSample(self, parameters):
        """Add the sample case and choose it. Returns the phantom with its truth."""
        from IRAILib.scene.sample import load_sample_case

        case, truth = load_sample_case()
        rememberCase(parameters, case)
        return truth

    def segmentVolumeMl(self, ref):
        """Millilitres of a segment; 0 when it is empty, None when it can't be read."""
        from IRAILib.geometry import EmptyMaskError, InputError
        from IRAILib.scene.nodes import mask_from_segment

        try:
            return mask_from_segment(ref).volume_ml
        except EmptyMaskError:
            return 0.0
        except InputError:
            return None

    def segmentFromClicks(self, parameters):
        """Make the chosen target from its clicks and choose it. Raises InputError, RefusedError (no contrast)."""
        from IRAILib.scene.changes import SceneChange
        from IRAILib.scene.nodes import SegmentRef
        from IRAILib.scene.segmentation import segment_seeded

        name = parameters.clicksTarget
        volume, title, nodeName = ((parameters.preVolume, "Tumour", "Before") if name == "tumor"
                                   else (parameters.postVolume, "Ablation zone", "After"))
        node = parameters.getValue(name + "Segmentation")
        current = segmentOf(parameters, name)
        if current is not None:
            title = current.node.GetSegmentation().GetSegment(current.segment_id).GetName()
        with SceneChange() as change:
            if node is None:
                node = change.add("vtkMRMLSegmentationNode", nodeName, "segmentation")
                node.CreateDefaultDisplayNodes()
            segmentID, result = segment_seeded(volume, parameters.clicksInside, parameters.clicksOutside, node,
                                               name=title)
        chooseSegment(parameters, name, SegmentRef(node, segmentID))
        return result

    def register(self, parameters, progress=None, cancelled=None):
        """Register the scans. A margin measured with an earlier registration is removed: it is no longer true."""
        from IRAILib.registration import RegistrationOptions
        from IRAILib.scene.ablation import register_case

        options = {"model": parameters.model}
        if parameters.model == DEFORMABLE:
            options["engine"] = parameters.engine
        parameters.registration = register_case(
            caseFrom(parameters), RegistrationOptions(**options), previous=parameters.registration,
            progress=progress, cancelled=cancelled)
        self.discardMargin(parameters)
        return parameters.registration

    def accept(self, parameters):
        """The registration was looked at and fits. Raises RefusedError when it refused itself."""
        from IRAILib.scene.ablation import accept_registration

        accept_registration(parameters.registration)

    def discardRegistration(self, parameters):
        """Take the registration, and the margin that needs it, out of the scene."""
        from IRAILib.scene.changes import parts_of, remove_node

        self.discardMargin(parameters)
        for node in parts_of(parameters.registration):
            remove_node(node)
        parameters.registration = None

    def discardMargin(self, parameters):
        """Take the margin's nodes out of the scene."""
        from IRAILib.scene.changes import parts_of, remove_node

        for node in parts_of(parameters.margin):
            remove_node(node)
        parameters.margin = None

    def measureMargin(self, parameters, progress=None):
        """Measure the margin and write it into the scene. Raises InputError, RefusedError."""
        from IRAILib.ablation.margin import MarginOptions
        from IRAILib.scene.ablation import measure_margin

        moved = parameters.model != SAME_FRAME
        case = caseFrom(parameters)
        registration = parameters.registration
        if moved and registration is None:
            from IRAILib.geometry import RefusedError

            raise RefusedError("no margin: the scans are not registered; register them, or say that they share a frame")
        options = MarginOptions(threshold_mm=parameters.thresholdMm, capsule_distance_mm=parameters.capsuleMm,
                                vessel_distance_mm=parameters.vesselMm)
        parameters.margin = measure_margin(case, registration if moved else None, options,
                                           previous=parameters.margin, progress=progress)
        return parameters.margin

    def showMargin(self, parameters):
        """Bring the result before the eyes: coloured surface, thin region, thinnest point."""
        from IRAILib.scene.ablation_views import show_margin

        show_margin(caseFrom(parameters), parameters.margin)

    def writeReport(self, parameters):
        """Write margin.json, margin.csv, report.html and scene.mrb. Returns the files."""
        from IRAILib.scene.ablation_report import write_case_report

        moved = parameters.model != SAME_FRAME
        return write_case_report(caseFrom(parameters), parameters.margin, pathlib.Path(parameters.reportFolder),
                                 registration=parameters.registration if moved else None)
