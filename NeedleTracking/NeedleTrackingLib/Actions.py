"""What the buttons do; a script calls the same. Imports nothing heavy until it is needed."""

import pathlib

from .Parameters import CT, FLUOROSCOPY, LIVE, MR, MR_LIVE, REPLAY, ULTRASOUND


class NeedleTrackingActions:
    """One session (link, tracking, recording) and one robot for the module; parameters say what to do."""

    session = None
    robot = None

    def openSession(self):
        """The session, made on first use."""
        if self.session is None:
            from IRAILib.scene.needle_render import desktop_render_ms
            from IRAILib.scene.needle_session import NeedleSession

            self.session = NeedleSession(render=desktop_render_ms)
        return self.session

    def connect(self, parameters):
        """Connect, or play the recording. Raises InputError for an address or a file that can't be used."""
        from IRAILib.geometry import InputError
        from IRAILib.scene.link_store import LinkSettings

        session = self.openSession()
        if parameters.source == REPLAY:
            path = pathlib.Path(parameters.recording or "")
            if not path.is_file():
                raise InputError(f"{path}: no such recording; choose a .igs.mha, .igs.nrrd or .seq.nrrd file")
            session.replay(path, speed=parameters.speed, loop=parameters.loop)
        else:
            session.connect(LinkSettings(name="NeedleTracking", host=parameters.host.strip(), port=parameters.port))

    def disconnect(self):
        """End connection, tracking and recording."""
        if self.session is not None:
            self.session.disconnect()

    def trySample(self, parameters):
        """Simulate a recording, choose it, play it in a loop, follow its needle. Returns the sample with its truth."""
        from IRAILib.scene.needle_sample import add_plan, make_sample, sample_folder

        self.disconnect()
        sample = make_sample(sample_folder())
        parameters.source, parameters.recording, parameters.loop = REPLAY, sample.path, True
        parameters.modality, parameters.scaleMmPerPx, parameters.device = "US", 0.0, ""
        parameters.plan = add_plan(sample)
        self.connect(parameters)
        self.startTracking(parameters)
        return sample

    def userScale(self, parameters):
        """The scale that the user gave, or None: then the message's counts, else no mm are given. MR and CT senders
        know their own; a number left from ultrasound is not held against them."""
        from IRAILib.needle.ultrasound.scale import scale_from_user

        if parameters.modality not in (FLUOROSCOPY, ULTRASOUND):
            return None
        return scale_from_user(mm_per_px=parameters.scaleMmPerPx) if parameters.scaleMmPerPx > 0 else None

    def startTracking(self, parameters):
        """Follow the needle in the live pictures. Raises InputError, MissingPackageError."""
        from IRAILib.geometry import InputError

        if parameters.modality not in LIVE:
            raise InputError("a volume is searched with Find needles; to follow a needle choose live pictures")
        session = self.openSession()
        session.plan = parameters.plan
        session.start_tracking(parameters.device or None, modality=LIVE[parameters.modality],
                               detector=parameters.detector, scale=self.userScale(parameters),
                               send_planes=parameters.sendPlanes and parameters.modality == MR_LIVE)

    def stopTracking(self):
        """Stop following; the needle leaves the views."""
        if self.session is not None:
            self.session.stop_tracking()

    def detectVolume(self, parameters, progress=None, cancelled=None):
        """Find needles in the chosen volume and show them. Returns the estimates, most convincing first.

        Raises InputError without a volume or for a modality that has no finder here, CancelledError.
        """
        from IRAILib.geometry import InputError
        from IRAILib.scene.needle_volume import detect_in_volume

        if parameters.modality not in (CT, MR):
            raise InputError("a volume is searched for needles in CT and MR; for live pictures press Start")
        return detect_in_volume(parameters.volume, parameters.modality, progress=progress, cancelled=cancelled)

    def saveTips(self, parameters):
        """Write the tips of this run. Returns the number of rows. Raises InputError."""
        from IRAILib.geometry import InputError

        if str(parameters.tipsFile or ".") == ".":
            raise InputError("choose a file for the tips first")
        return self.openSession().save_tips(parameters.tipsFile)

    def connectRobot(self, parameters):
        """Connect to a robot that speaks the prostate robot's protocol. Raises InputError for a bad address."""
        from IRAILib.scene.needle_robot import RobotLink

        self.disconnectRobot()
        self.robot = RobotLink(parameters.robotHost.strip(), parameters.robotPort)

    def disconnectRobot(self):
        """End the robot's connection: a robot that may be moving is told to stop first."""
        robot, self.robot = self.robot, None
        if robot is not None:
            robot.close()

    def emergencyStop(self):
        """Stop the robot now, whatever else goes on. Returns whether the stop left this computer."""
        return self.robot is not None and self.robot.emergency_stop()

    def pump(self):
        """One beat: link, needle and robot."""
        if self.session is not None:
            self.session.pump()
            if self.robot is not None:
                self.robot.forward(self.session.forwardable())

    def forgetScene(self):
        """The scene was closed: its nodes are gone, the robot's connection stays."""
        session, self.session = self.session, None
        if session is not None:
            session.close()

    def close(self):
        """End everything that is live."""
        self.disconnectRobot()
        if self.session is not None:
            self.session.close()
            self.session = None
