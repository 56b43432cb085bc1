"""`irai link robot-sim`: a simulated needle-guide robot that speaks the prostate-robot protocol."""

from __future__ import annotations

import argparse
import math
import threading
import time

from ..geometry import InputError


def add_robot_sim_parser(sub) -> None:
    """Add `robot-sim` to the sub-commands of `irai link`."""
    from ..link.robot.faults import KINDS
    from ..link.robot.protocol import DIALECT_2024, DIALECTS

    parser = sub.add_parser(
        "robot-sim", help="a simulated needle-guide robot, with joint limits and faults on request",
        description="An OpenIGTLink server that behaves like an MRI-guided prostate robot: five joints with limits, "
                    "finite speed, every phase of the protocol, forbidden transitions refused. A simulation only.",
        epilog="faults: " + "; ".join(f"{kind}: {text}" for kind, text in KINDS.items()))
    parser.add_argument("--port", type=int, default=18944, help="0 takes any free port (default 18944)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this computer only)")
    parser.add_argument("--joint-limits", action="append", default=[], metavar="JOINT=LOW:HIGH",
                        help="x, y, depth in mm, yaw, pitch in degrees, for example depth=0:80; repeatable")
    parser.add_argument("--unreachable", action="append", default=[], metavar="X,Y,Z,RADIUS",
                        help="a ball in the robot's base frame, mm, that the tip may not enter; repeatable")
    parser.add_argument("--fault", action="append", default=[], metavar="KIND[@SECONDS|@PHASE]",
                        help="what goes wrong, and from when; repeatable; kinds below")
    parser.add_argument("--speed", type=float, default=20.0, metavar="MM/S", help="of stage and needle (default 20)")
    parser.add_argument("--rate", type=float, default=25.0, metavar="HZ", help="of CURRENT_POSITION (default 25)")
    parser.add_argument("--dialect", choices=tuple(DIALECTS), default=DIALECT_2024.name,
                        help="of 2013 (TARGET, no table of transitions) or 2024 (default)")
    parser.add_argument("--seconds", type=float, help="end after so many seconds (default: never)")
    parser.set_defaults(run=run_robot_sim)


def run_robot_sim(arguments: argparse.Namespace) -> int:
    """Run the robot; prints its port and a line for each event. Returns 0 after --seconds, 130 after Ctrl-C."""
    from ..link.robot.faults import Fault
    from ..link.robot.kinematics import NeedleGuide
    from ..link.robot.protocol import DIALECTS
    from ..link.robot.simulator import RobotSimulator
    from .link_run import forget_reader, printing

    if not 1 <= arguments.rate <= 200:
        raise InputError(f"robot-sim: --rate must be 1 to 200 Hz, not {arguments.rate:g}")
    if arguments.seconds is not None and not arguments.seconds >= 0:
        raise InputError(f"robot-sim: --seconds must not be negative, it is {arguments.seconds:g}")
    guide = NeedleGuide(dict(_limit(text) for text in arguments.joint_limits),
                        tuple(_ball(text) for text in arguments.unreachable))
    began = time.monotonic()

    unread = threading.Event()  # nobody reads the lines any more (`| head`)

    def line(text: str) -> None:
        try:
            print(f"{time.monotonic() - began:9.3f} s  {text}", flush=True)
        except BrokenPipeError:
            forget_reader()
            unread.set()

    simulator = RobotSimulator(port=arguments.port, host=arguments.host, guide=guide, speed_mm_s=arguments.speed,
                               position_hz=arguments.rate, dialect=DIALECTS[arguments.dialect],
                               faults=[Fault.parse(text) for text in arguments.fault], on_event=line)
    try:
        with printing(), simulator:
            print(f"robot-sim (simulated) on {arguments.host} port {simulator.port}", flush=True)
            while not unread.wait(0.05) and (arguments.seconds is None or time.monotonic() - began < arguments.seconds):
                pass
    except KeyboardInterrupt:
        print("robot-sim: stopped", flush=True)
        return 130
    return 0


def _limit(text: str) -> tuple[str, tuple[float, float]]:
    name, _, values = text.partition("=")
    try:
        low, high = (float(value) for value in values.split(":"))
    except ValueError:
        raise InputError(f"robot-sim: --joint-limits '{text}': write JOINT=LOW:HIGH") from None
    return name, (low, high)


def _ball(text: str):
    from ..link.robot.kinematics import Obstacle

    try:
        x, y, z, radius = (float(value) for value in text.split(","))
    except ValueError:
        raise InputError(f"robot-sim: --unreachable '{text}': write X,Y,Z,RADIUS in mm") from None
    if not (radius > 0 and all(map(math.isfinite, (x, y, z, radius)))):
        raise InputError(f"robot-sim: --unreachable '{text}': finite numbers and a radius above 0 are needed")
    return Obstacle((x, y, z), radius)
