"""What the buttons of step 4 do: paths, and the robot."""

from .Parameters import namesOf


class PlanActions:
    """Mixed into the logic."""

    planner = None
    robot = None
    sentTarget = None

    def proposePaths(self, parameters, progress=None, cancelled=None):
        """Propose paths to the target and draw them. Returns the plan. A failure leaves the paths of before."""
        from IRAILib.scene.fusion_plan import PathPlanner

        session = self.openSession()
        sigma = session.registration.error_at(session._target()) if session.registration is not None else None
        planner = PathPlanner(parameters.volume1, parameters.structures, leave_out=namesOf(parameters.leaveOut),
                              organ=parameters.organ.strip(), margin_mm=parameters.marginMm,
                              registration_sigma_mm=sigma or 0.0, progress=progress, cancelled=cancelled)
        plan = planner.propose(parameters.target)
        self.planner = planner
        self.choosePath(parameters, 0)
        return plan

    def choosePath(self, parameters, number):
        """Make one of the proposals the path."""
        from IRAILib.geometry import InputError
        from IRAILib.scene.fusion_plan import show_paths

        if self.planner is None or self.planner.plan is None:
            raise InputError("propose paths first")
        parameters.plan = show_paths(self.planner.plan, number, parameters.plan)

    def rankAgain(self, parameters):
        """The target has moved: rank again and draw. Returns the plan, None without a proposal before."""
        if self.planner is None or self.planner.plan is None or parameters.target is None:
            return None
        plan = self.planner.propose(parameters.target)
        self.choosePath(parameters, 0)
        return plan

    def planPedicles(self, parameters, progress=None, cancelled=None):
        """Both ways through the pedicles of the vertebra that is named. Returns rows for a table."""
        from IRAILib.geometry import InputError
        from IRAILib.scene import fusion_spine

        name = parameters.vertebra.strip()
        if not name:
            raise InputError("name the vertebra first, for example L1")
        plan = fusion_spine.plan_pedicles(parameters.structures, name, parameters.volume1, progress=progress,
                                          cancelled=cancelled)
        parameters.plan = fusion_spine.show_pedicles(plan)[0]
        return fusion_spine.pedicle_rows(plan)

    def showSkinMap(self):
        """The skin coloured by where an entry is free. Returns the model's node."""
        from IRAILib.scene.fusion_spine import show_skin_map

        return show_skin_map(self.planner)

    def forgetPlan(self):
        """The scene goes: its proposals go with it."""
        self.planner = None

    def connectRobot(self, parameters):
        """Connect to a robot that speaks the prostate robot's protocol. Raises InputError for a bad address."""
        from IRAILib.scene.needle_robot import RobotLink

        self.disconnectRobot()
        self.robot = RobotLink(parameters.robotHost.strip(), parameters.robotPort)

    def askRobot(self, phase):
        """Ask the robot for a phase. Raises RefusedError with the reason when it isn't allowed now."""
        from IRAILib.geometry import RefusedError

        if self.robot is None:
            raise RefusedError("connect the robot first")
        self.robot.request(phase)

    def sendRobotFrame(self, parameters):
        """Tell the robot where it stands. Raises InputError, RefusedError (another phase than CALIBRATION)."""
        from IRAILib.scene.fusion_robot import send_frame

        send_frame(parameters.robotFrame, self.robot)

    def prepareRobot(self, parameters):
        """The path as a target with its checks; nothing is sent. Raises InputError, RefusedError naming the checks."""
        from IRAILib.scene.fusion_robot import prepare_target

        session = self.openSession()
        return prepare_target(parameters.plan, parameters.volume1, self.robot, session.obstacles,
                              clearance_mm=parameters.marginMm, registration=session.registration)

    def sendRobot(self, prepared, agreed):
        """Send a prepared target that the user agreed to. Returns what to say. Raises RefusedError."""
        from IRAILib.scene.fusion_robot import send_target

        send_target(prepared, agreed, self.robot, self.openSession().registration)
        self.sentTarget = prepared
        return prepared.plan.summary()

    def robotSays(self):
        """Two lines at most: whether the robot reaches the target, and where the needle is against the plan."""
        from IRAILib.scene.fusion_robot import achieved, answered

        check, now = answered(self.sentTarget, self.robot), achieved(self.sentTarget, self.robot)
        return "\n".join(part.text for part in (check, now) if part is not None)

    def disconnectRobot(self):
        """End the robot's connection: a robot that may be moving is told to stop first."""
        robot, self.robot, self.sentTarget = self.robot, None, None
        if robot is not None:
            robot.close()

    def stopRobot(self):
        """Stop the robot now. Returns whether the stop left this computer."""
        return self.robot is not None and self.robot.emergency_stop()
