"""What the buttons of step 6 do."""

import pathlib


class CArmActions:
    """Mixed into the logic. The run of the chosen frame is kept while Slicer runs, its nodes stay in the scene."""

    xrayRun = None
    subtraction = None
    _drawn = None

    def carmPose(self, parameters):
        """(4, 4) table_from_ras to start from: where the frame was found, else the isocentre's shift."""
        from IRAILib.scene import fusion_carm

        known = fusion_carm.pose_of_frame(parameters.xray)
        if known is not None and fusion_carm.registered_sigma_mm(parameters.xray) is not None:
            return known
        if known is not None and parameters.isocentre is None and parameters.volume1 is None:
            return known
        return fusion_carm.isocentre_pose(fusion_carm.isocentre_of(parameters.isocentre, parameters.volume1))

    def carmGeometry(self, parameters, size):
        """The geometry that the panel's angles and distances give. Raises InputError."""
        from IRAILib.scene.fusion_carm import geometry_for

        return geometry_for(size, primary_deg=parameters.primaryDeg, secondary_deg=parameters.secondaryDeg,
                            source_to_detector_mm=parameters.sourceToDetectorMm,
                            source_to_isocentre_mm=parameters.sourceToIsocentreMm,
                            mm_per_px=parameters.detectorMmPerPx)

    def loadRun(self, parameters):
        """Read a DICOM run; its frame becomes the X-ray frame, its angles those of the panel. Returns the notes."""
        from IRAILib.geometry import InputError
        from IRAILib.geometry.projection import angles_of
        from IRAILib.scene import fusion_carm

        path = pathlib.Path(parameters.xrayFile or "")
        if not path.is_file():
            raise InputError(f"{path}: no such run; choose a DICOM XA file")
        try:
            centre = fusion_carm.isocentre_of(parameters.isocentre, parameters.volume1)
        except InputError:
            centre = (0.0, 0.0, 0.0)
        node, run, notes = fusion_carm.load_run(path, fusion_carm.isocentre_pose(centre))
        self.xrayRun, self.subtraction = (node.GetID(), run), None
        geometry = fusion_carm.geometry_of(node)
        if geometry is not None:
            angles = angles_of(geometry.center_mm - geometry.source_mm)
            parameters.primaryDeg, parameters.secondaryDeg = angles
        parameters.xray = node
        return notes

    def takeLiveFrame(self, parameters):
        """The newest frame that a C-arm sent over the link becomes the X-ray frame. Returns its node's name."""
        from IRAILib.scene import fusion_carm

        pose = fusion_carm.isocentre_pose(fusion_carm.isocentre_of(parameters.isocentre, parameters.volume1))
        parameters.xray = fusion_carm.take_live(self.openSession().xray, pose)
        return parameters.xray.GetName()

    def showFrame(self, parameters, number):
        """Another frame of the run, and of its subtraction, in the same nodes."""
        import numpy as np
        from IRAILib.scene import fusion_vessels
        from IRAILib.scene.fusion_carm import turn_to, write_frame

        if self.xrayRun is None or parameters.xray is None or parameters.xray.GetID() != self.xrayRun[0]:
            return
        frames = self.xrayRun[1].frames
        number = min(max(int(number), 0), len(frames) - 1)
        turn_to(parameters.xray, self.xrayRun[1], number)
        write_frame(parameters.xray, np.asarray(frames[number]))
        if self.subtraction is not None:
            fusion_vessels.show_subtraction(parameters.xray, self.subtraction, number)

    def drr(self, parameters, progress=None, cancelled=None):
        """The radiograph that the frame's geometry, or the panel's, would see. Returns its node."""
        from IRAILib.scene import fusion_carm

        geometry = fusion_carm.geometry_of(parameters.xray) or self.carmGeometry(parameters, (400, 400))
        return fusion_carm.compute_drr(parameters.volume1, geometry, self.carmPose(parameters), progress=progress,
                                       cancelled=cancelled)

    def registerXray(self, parameters, progress=None, cancelled=None):
        """Find the CT in the X-ray frame. Returns the verdict; a refused one moves nothing."""
        from IRAILib.geometry import InputError
        from IRAILib.scene import fusion_carm

        frame = parameters.xray
        if frame is None:
            raise InputError("choose an X-ray frame first")
        columns, rows, _slices = frame.GetImageData().GetDimensions()
        return fusion_carm.register_frame(parameters.volume1, frame, self.carmPose(parameters),
                                          geometry=self.carmGeometry(parameters, (columns, rows)), progress=progress,
                                          cancelled=cancelled)

    def drawPathOnXray(self, parameters, node):
        """Draw the path on a frame, with the band of the frame's registration. Returns what to say."""
        from IRAILib.scene import fusion_carm
        from IRAILib.scene.needle_guidance import plan_from_node

        path = plan_from_node(parameters.plan)
        if node is None:
            return ""
        self._drawn = (node.GetID(), self._drawnKey(node, path))
        return fusion_carm.draw_path_on(node, path, fusion_carm.registered_sigma_mm(node) or 0.0)

    def renewPathOnXray(self, parameters):
        """The path or the frame has moved since it was drawn: draw it again."""
        if self._drawn is None:
            return
        from IRAILib.scene.fusion_carm import drawn_path
        from IRAILib.scene.needle_guidance import plan_from_node

        scene = self.openSession().views.scene
        node, path = scene.GetNodeByID(self._drawn[0]), plan_from_node(parameters.plan)
        if node is None:  # the frame is gone, and what was drawn on it goes with it
            line, self._drawn = drawn_path(scene), None
            if line is not None:
                scene.RemoveNode(line)
        elif self._drawnKey(node, path) != self._drawn[1]:
            self.drawPathOnXray(parameters, node)

    @staticmethod
    def _drawnKey(node, path):
        from IRAILib.scene.fusion_carm import GEOMETRY, POSE

        points = None if path is None else tuple(float(value) for point in path for value in point)
        return points, node.GetAttribute(GEOMETRY), node.GetAttribute(POSE)

    def anglesForPath(self, parameters):
        """Set the panel's angles to look down the path. Returns rows for a table."""
        from IRAILib.geometry import InputError
        from IRAILib.scene import fusion_carm
        from IRAILib.scene.needle_guidance import plan_from_node

        path = plan_from_node(parameters.plan)
        if path is None:
            raise InputError("choose or draw a path in step 4 first")
        (primary, secondary), rows = fusion_carm.angles_for_path(path, self.carmPose(parameters))
        parameters.primaryDeg, parameters.secondaryDeg = primary, secondary
        return rows

    def subtractRun(self, parameters, number, progress=None, cancelled=None):
        """Subtract the run's mask. Returns rows for a table."""
        from IRAILib.geometry import InputError
        from IRAILib.scene import fusion_vessels

        own = self.xrayRun is not None and parameters.xray is not None and parameters.xray.GetID() == self.xrayRun[0]
        if not own:
            raise InputError("load a DICOM run first: a single frame has no mask")
        result = fusion_vessels.subtract_run(self.xrayRun[1], progress=progress, cancelled=cancelled)
        self.subtraction = result
        fusion_vessels.show_subtraction(parameters.xray, result, number)
        return fusion_vessels.dsa_rows(result, number)

    def findVessels(self, parameters, progress=None, cancelled=None):
        """Find vessels in the frame. Returns rows for a table."""
        from IRAILib.scene import fusion_vessels

        found = fusion_vessels.find_in_frame(parameters.xray, progress=progress, cancelled=cancelled)
        fusion_vessels.show_vessels(parameters.xray, found)
        return fusion_vessels.vessel_rows(found)

    def forgetRun(self):
        """The scene goes: what was read for its nodes goes, too."""
        self.xrayRun = self.subtraction = self._drawn = None
