"""What the buttons of steps 1 to 3 and 5 do; a script calls the same. Imports nothing heavy until it is needed."""

import pathlib

from .CArmActions import CArmActions
from .Parameters import GIVEN, LANDMARKS, REPLAY, SESSION, namesOf, volumesOf
from .PlanActions import PlanActions


class FusionNavActions(PlanActions, CArmActions):
    """One session for the module; parameters say what to do."""

    session = None
    _obstacleKey = None
    _shown = None

    def openSession(self):
        """The session with its views, made on first use."""
        if self.session is None:
            import slicer
            from IRAILib.scene.fusion_session import FusionSession
            from IRAILib.scene.fusion_views import LiveViews

            self.session = FusionSession()
            self.session.views = LiveViews(clock=self.session.clock)
            node = self._registrationNode(slicer.mrmlScene)
            if node is not None:
                self.findRegistration()
        return self.session

    @staticmethod
    def _registrationNode(scene):
        from IRAILib.scene.fusion_registration import find_registration

        return find_registration(scene)

    def findRegistration(self):
        """Take up the registration that a loaded scene holds."""
        import slicer
        from IRAILib.scene.fusion_registration import registration_from_node

        node = self._registrationNode(slicer.mrmlScene)
        if node is not None and self.session is not None:
            self.session.registration = registration_from_node(node)

    def apply(self, parameters):
        """Bring the session in step with the panel: tool, path, margin, structures, what is shown."""
        session = self.openSession()
        session.plan, session.tool, session.margin_mm = parameters.plan, parameters.tool, parameters.marginMm
        if not session.as_recorded:
            session.live.tracker_error_mm = parameters.trackerErrorMm or None
        views, volumes = session.views, volumesOf(parameters)
        views.mode, views.opacity = parameters.mode, parameters.opacity
        views.volume = volumes[min(parameters.shownVolume, len(volumes) - 1)] if volumes else None
        self.readStructures(parameters)

    def readStructures(self, parameters):
        """Read the structures again when they, their place, or the names to leave out, have changed.

        Raises InputError for structures that can't be read; then there are none, rather than those of before."""
        from IRAILib.geometry import InputError
        from IRAILib.scene.fusion_guide import obstacles_from_node

        session = self.openSession()
        try:
            key = self._structuresKey(parameters)
            if key == self._obstacleKey:
                return
            structures = obstacles_from_node(parameters.structures)
        except InputError:
            self._obstacleKey, session.obstacles = None, []
            session.views.set_structures([])
            raise
        self._obstacleKey = key
        left = {*namesOf(parameters.leaveOut), parameters.organ}
        session.obstacles = [entry for entry in structures if entry.name not in left]
        session.views.set_structures(structures if parameters.drawStructures else [])

    @staticmethod
    def _structuresKey(parameters):
        """Whatever the structures depend on. The place is the matrix: a transform that moves tells no node below it."""
        from IRAILib.scene.nodes import world_from_node

        node = parameters.structures
        if node is None:
            return (None,)
        inside, display = node.GetSegmentation(), node.GetDisplayNode()
        return (node.GetID(), node.GetMTime(), inside.GetMTime(), world_from_node(node).tobytes(),
                display and tuple(display.GetSegmentVisibility(one) for one in inside.GetSegmentIDs()),
                parameters.leaveOut, parameters.organ, parameters.drawStructures)

    # ---- 2 connect and calibrate

    def connect(self, parameters):
        """Connect, or play a recording or a session. Raises InputError for what can't be used."""
        from IRAILib.geometry import InputError
        from IRAILib.scene.link_store import LinkSettings

        session = self.openSession()
        if parameters.source == SESSION:
            if parameters.browser is None:
                raise InputError("choose a session that was recorded in step 5")
            session.replay(parameters.browser, speed=parameters.speed, loop=parameters.loop)
            parameters.tool = session.tool or parameters.tool
        elif parameters.source == REPLAY:
            path = pathlib.Path(parameters.recording or "")
            if not path.is_file():
                raise InputError(f"{path}: no such recording; choose a .igs.mha, .igs.nrrd or .seq.nrrd file")
            session.replay(path, speed=parameters.speed, loop=parameters.loop)
        else:
            session.connect(LinkSettings(name="FusionNav", host=parameters.host.strip(), port=parameters.port))

    def disconnect(self):
        """End connection and recording."""
        if self.session is not None:
            self.session.disconnect()

    def useCalibration(self, parameters):
        """Use the chosen calibration and lag. Raises InputError for the file, RefusedError when the live image differs.

        Returns: the calibration."""
        from IRAILib.scene.fusion_calibrate import read_probe_calibration

        session = self.openSession()
        calibration = read_probe_calibration(pathlib.Path(parameters.calibration or ""))
        session.live.set_calibration(calibration)
        session.live.set_lag(parameters.lagMs / 1000.0)
        return calibration

    def useSendersCalibration(self):
        """Believe where the sender says that the picture lies."""
        self.openSession().live.set_calibration(None)

    def findLag(self, parameters):
        """The lag between tracker and images from the chosen recording; it is used from now on. Returns it."""
        from IRAILib.scene.fusion_calibrate import lag_from_recording

        found = lag_from_recording(pathlib.Path(parameters.recording or ""))
        parameters.lagMs = 1000.0 * found.lag_s
        self.openSession().live.set_lag(found.lag_s, found.sigma_s)
        return found

    def calibrateTool(self, what):
        """Tip ("pivot") or shaft ("spin") of the chosen tool from the poses collected. Returns what to say."""
        from IRAILib.scene import fusion_calibrate

        session = self.openSession()
        name = session.tool.partition("To")[0]
        poses = [pose for _time, pose in session.collected]
        make = fusion_calibrate.tip_from_poses if what == "pivot" else fusion_calibrate.shaft_from_poses
        session.tips[name], text = make(session.tool or "ToolToReference", poses, session.tips.get(name))
        return text

    # ---- 3 register

    def register(self, parameters, progress=None, cancelled=None):
        """Register as chosen; the result becomes a node. Returns what to say. A failure leaves the one of before."""
        from IRAILib.scene import fusion_registration as registration

        session = self.openSession()
        if parameters.method == LANDMARKS:
            made = registration.register_points(
                parameters.fixedPoints, parameters.movingPoints, reference=session.live.reference,
                exclude=namesOf(parameters.exclude), hold_out=namesOf(parameters.holdOut), target_ras=session._target())
        elif parameters.method == GIVEN:
            from IRAILib.geometry import InputError

            if parameters.transform is None:
                raise InputError("choose the transform from the tracker to the volume")
            made = registration.registration_from_node(parameters.transform)
        else:
            from IRAILib.scene import fusion_volumes

            return fusion_volumes.register_as_chosen(parameters, session, progress, cancelled)
        registration.keep_registration(made)
        session.registration = made
        return session._tre_text(made.error_at(session._target()))

    def touch(self, parameters):
        """Add the tool's tip, in the tracker's frame, to the points touched. Raises RefusedError while it is lost."""
        import numpy as np
        from IRAILib.geometry import InputError
        from IRAILib.scene.fusion_chain import chain_state

        session = self.openSession()
        if not session.tool:
            raise InputError("choose the tool first (step 2)")
        if parameters.movingPoints is None:
            raise InputError("choose or make the list of points touched first")
        chain = chain_state(session.links(), session.tool.partition("To")[0], session.live.reference)
        point = chain.require() @ np.array((*session.tip().tip_mm, 1.0))
        count = parameters.movingPoints.GetNumberOfControlPoints()
        parameters.movingPoints.AddControlPoint([float(value) for value in point[:3]], str(count + 1))

    # ---- 5 guide

    def showEye(self, parameters):
        """Stand the views where they are wanted. Returns what could not be shown."""
        from IRAILib.scene import fusion_eyes
        from IRAILib.scene.needle_guidance import plan_from_node

        session = self.openSession()
        scene = session.views.scene
        path = plan_from_node(parameters.plan)
        slices, composites = fusion_eyes.scene_views(scene)
        camera = scene.GetFirstNodeByClass("vtkMRMLCameraNode")
        return fusion_eyes.show_eye(parameters.eye, session.views, path, session.estimate().tip, slices, composites,
                                    camera)

    def drawRings(self, parameters):
        """The lanes round the path, drawn again when it has moved."""
        from IRAILib.scene import fusion_eyes
        from IRAILib.scene.needle_guidance import plan_from_node

        path = plan_from_node(parameters.plan)
        key = None if path is None else tuple(float(value) for point in path for value in point)
        if key != self._shown:
            self._shown = key
            fusion_eyes.draw_rings(path, self.openSession().views.scene)

    def saveSession(self, parameters):
        """Write the chosen session as a sequence file. Returns the number of frames. Raises InputError."""
        from IRAILib.geometry import InputError
        from IRAILib.images.sequences import write_sequence
        from IRAILib.scene.fusion_record import sequence_from_browser

        if str(parameters.saveFile or ".") == ".":
            raise InputError("choose a file for the session first")
        sequence = sequence_from_browser(parameters.browser)
        write_sequence(pathlib.Path(parameters.saveFile), sequence)
        return len(sequence)

    def reconstructSession(self, parameters, progress=None, cancelled=None):
        """The chosen session's pictures as a volume, the third one from now on if it is free. Returns what to say."""
        from IRAILib.scene.fusion_sweep import reconstruct_session

        node, made = reconstruct_session(self.openSession(), parameters.browser, progress=progress,
                                         cancelled=cancelled)
        if parameters.volume3 is None:
            parameters.volume3 = node
        return (f"{node.GetName()}: {made.frames_used} frames, {made.frames_left_out} left out. Validated on: "
                f"{made.validated_on}")

    # ---- sample, beat, end

    def trySample(self, parameters, progress=None, cancelled=None):
        """Make the sample, choose its parts, register by its landmarks, play it in a loop. Returns the sample."""
        from IRAILib.scene.fusion_sample import make_sample, sample_folder, use_sample

        self.disconnect()
        sample = make_sample(sample_folder(), progress=progress, cancelled=cancelled)
        use_sample(parameters, sample)
        self.apply(parameters)
        session = self.openSession()
        session.tips.update(sample.tips)
        self.register(parameters)
        self.connect(parameters)
        session.live.set_calibration(sample.calibration)
        return sample

    def pump(self):
        """One beat. Returns whether a new picture came."""
        return self.session.pump() if self.session is not None else False

    def forgetScene(self):
        """The scene goes: connection, runs and what was read from its nodes go with it."""
        session, self.session = self.session, None
        self._obstacleKey = self._shown = None
        self.forgetPlan()
        self.forgetRun()
        if session is not None:
            session.close()

    def close(self):
        """End everything that is live."""
        self.disconnectRobot()
        self.forgetScene()
