"""Session and simulated robot over a real loopback socket: every fault, every pulled plug, pyigtl as a third party."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from IRAILib.geometry import InputError, RefusedError
from IRAILib.link.robot import Phase, Timeouts
from IRAILib.link.robot.faults import KINDS, Fault
from IRAILib.link.robot.simulator import RobotSimulator
from robot_cases import pose
from robot_pair import EVERY_PHASE, PATH, TARGET, Pair, wait_for


# ----------------------------------------------------------------------------------------------------------- good runs
def test_the_needle_arrives_where_it_was_sent_and_comes_home():
    zframe = pose(10, 20, 30, rotvec=(0.2, -0.1, 0.3))
    target = zframe @ pose(8, -6, 40, rotvec=(0.1, 0.1, 0.5))
    with Pair(speed_mm_s=80) as pair:
        for step in ("START_UP", "CALIBRATION"):
            assert pair.ask(step) == ""
        pair.robot.send_calibration(zframe)
        pair.robot.wait_answered(20.0)
        for step in ("PLANNING", "TARGETING"):
            assert pair.ask(step) == ""
        pair.robot.send_target(target)
        pair.robot.wait_answered(20.0)
        assert pair.robot.reachable.accepted
        assert pair.ask("MOVE_TO_TARGET") == ""
        assert pair.robot.wait(lambda r: np.allclose(r.position()[0], target, atol=1e-3), 15.0)
        x, y, yaw, pitch, depth = pair.sim.joints()
        tip = np.array([x, y, 0]) + depth * np.array([math.sin(math.radians(yaw)) * math.cos(math.radians(pitch)),
                                                      -math.sin(math.radians(pitch)),
                                                      math.cos(math.radians(yaw)) * math.cos(math.radians(pitch))])
        assert np.allclose((zframe @ [*tip, 1])[:3], target[:3, 3], atol=1e-3)
        with pytest.raises(RefusedError, match="home"):
            pair.robot.request(Phase.PLANNING)
        pair.robot.retract_needle()
        assert pair.robot.wait_answered(20.0)
        assert pair.sim.joints()[4] == 0
        assert pair.ask("PLANNING") == ""


def test_pyigtl_finds_the_transcript_that_the_protocol_demands():
    """An independent client; it drops STATUS, so STRING and TRANSFORM are what it can bear witness to."""
    pyigtl = pytest.importorskip("pyigtl")
    expected = {"START_UP": [], "CALIBRATION": [], "PLANNING": [], "TARGETING": [],
                "MOVE_TO_TARGET": ["CURRENT_POSITION"]}
    with RobotSimulator(speed_mm_s=200) as sim:
        client = pyigtl.OpenIGTLinkClient("127.0.0.1", sim.port)
        try:
            assert wait_for(client.is_connected)

            def ask(message, *devices):
                client.send_message(message, wait=True)
                return [client.wait_for_message(device, timeout=3) for device in devices]

            for number, phase in enumerate(PATH):
                answers = ask(pyigtl.StringMessage(phase, device_name=f"CMD_{number}"), f"ACK_{number}",
                              *expected[phase])
                assert answers[0].string == phase
                if phase == "CALIBRATION":
                    zframe = pose(1, 2, 3)
                    echo, = ask(pyigtl.TransformMessage(zframe, device_name="CLB_c"), "ACK_c")
                    assert np.allclose(echo.matrix, zframe, atol=1e-5)
                if phase == "TARGETING":
                    asked = pose(1, 60, 40)  # in the robot's frame (0, 58, 37): y ends at 40
                    echo, reachable = ask(pyigtl.TransformMessage(asked, device_name="TGT_t"), "ACK_t",
                                          "REACHABLE_TARGET")
                    assert np.allclose(echo.matrix, asked, atol=1e-5)
                    assert np.allclose(reachable.matrix, pose(1, 42, 40), atol=1e-3)
        finally:
            client.stop()
        sent = [str(line.message) for line in sim.transcript if not line.received]
    for phase in PATH:  # the STATUS part, from the simulator's own record, beside what pyigtl saw
        assert f"STATUS(CURRENT_STATUS, 1:0:{phase})" in sent
    assert "STATUS(TARGET, 10:3)" in sent


# -------------------------------------------------------------------------------------------------------------- faults
@pytest.mark.parametrize("kind", ["no-ack", "late-ack", "wrong-ack"])
@pytest.mark.parametrize("phase", ["PLANNING", "MOVE_TO_TARGET"])
def test_bad_acknowledgements(kind, phase):
    fault = Fault.parse(f"{kind}@{phase}")
    with Pair(timeouts=Timeouts(), speed_mm_s=10) as pair:
        if phase == "PLANNING":
            pair.go("CALIBRATION")
            pair.sim.faults = [fault]
            assert "acknowledge" in pair.ask("PLANNING")
        else:
            pair.go("TARGETING")
            pair.robot.send_target(TARGET)
            assert pair.robot.wait_answered(20.0)
            pair.sim.faults = [fault]
            pair.robot.request(Phase.MOVE_TO_TARGET)
            # no acknowledgement: STOP follows, and where that isn't answered either, EMERGENCY
            assert pair.robot.wait(lambda r: "MOVE_TO_TARGET: " in r.last_error or r.emergency, 15.0)
            assert pair.robot.wait(lambda r: pair.sim.phase in (Phase.STOP, Phase.EMERGENCY), 15.0)
            assert pair.halted()
        assert not (pair.robot.phase is Phase(phase) and pair.robot.machine.ready)


def test_a_wrong_echo_of_the_calibration_is_never_ok():
    with Pair(faults=[Fault.parse("wrong-ack@CALIBRATION")]) as pair:
        assert pair.ask("START_UP") == ""
        pair.sim.faults[0].phase = None  # only from here on: the phase itself was acknowledged well
        pair.sim.faults[0].from_s = math.inf
        assert pair.ask("CALIBRATION") == ""
        pair.sim.faults[0].from_s = 0.0
        pair.robot.send_calibration(pose(1, 2, 3))
        pair.robot.wait_answered(20.0)
        time.sleep(0.1)
        pair.robot.poll()
        assert "another pose, off by 1.00 mm" in pair.robot.last_error
        assert not pair.robot.machine.calibrated


@pytest.mark.parametrize(("kind", "words"), [("jump", "jumped by"), ("hardware", "hardware")])
def test_faults_while_moving_stop_the_robot(kind, words):
    with Pair(speed_mm_s=10) as pair:
        pair.go("MOVE_TO_TARGET")
        assert pair.robot.wait(lambda r: r.position() is not None, 15.0)
        pair.sim.faults = [Fault.parse(kind)]
        assert pair.robot.wait(lambda r: pair.sim.phase is Phase.STOP and words in r.last_error + str(pair.events), 9.0)
        assert pair.halted()
        assert any(words in event for event in pair.events)
        if "jump" in kind:
            assert pair.robot.position() is None


def test_a_frozen_stream_is_stale_and_then_stopped():
    with Pair(speed_mm_s=1, timeouts=Timeouts(4.0, 4.0, 2.0)) as pair:
        pair.go("MOVE_TO_TARGET")
        assert pair.robot.wait(lambda r: r.position() is not None and not r.position()[2], 15.0)
        pair.sim.faults = [Fault.parse("freeze")]
        assert pair.robot.wait(lambda r: r.position() and r.position()[2], 9.0)  # stale within half a second and a poll
        assert pair.robot.wait(lambda r: pair.sim.phase is Phase.STOP, 15.0)
        assert pair.halted()


@pytest.mark.parametrize("kind", ["drop", "bad-crc", "nan"])
@pytest.mark.parametrize("phase", ["PLANNING", "MOVE_TO_TARGET"])
def test_broken_connections(kind, phase):
    if kind == "nan" and phase == "PLANNING":
        pytest.skip("positions are streamed in MOVE_TO_TARGET only")
    with Pair(speed_mm_s=10) as pair:
        pair.go(phase)
        moved = pair.client.status().connects
        pair.sim.faults = [Fault.parse(kind)]
        if phase == "PLANNING" and kind == "bad-crc":
            pair.robot.request(Phase.MANUAL)
        assert pair.robot.wait(lambda r: pair.client.status().connects > moved, 15.0)
        pair.robot.poll()
        pair.sim.faults = []
        assert pair.robot.wait(lambda r: r.machine.connected, 15.0)
        state = pair.robot.to_dict()
        assert state["phase"] == "UNDEFINED"
        assert state["position"] is None
        assert pair.robot.pending is None
        assert wait_for(lambda: pair.sim.phase is Phase.UNDEFINED)
        assert pair.halted()
        asked = [str(line.message) for line in pair.sim.transcript if line.received]
        time.sleep(0.3)
        pair.robot.poll()
        assert [str(line.message) for line in pair.sim.transcript if line.received] == asked  # nothing is sent again


def test_a_failed_self_test_is_told():
    with Pair(faults=[Fault.parse("not-ready")]) as pair:
        assert "not ready" in pair.ask("START_UP")
        assert pair.robot.machine.ready is False


def test_faults_are_parsed():
    assert {Fault.parse(kind).kind for kind in KINDS} == set(KINDS)
    assert Fault.parse("drop@2.5").from_s == 2.5
    assert Fault.parse("drop@stop").phase is Phase.STOP
    for text in ("explode", "drop@", "drop@-1", "drop@nan", "drop@NOWHERE"):
        if text != "drop@":
            with pytest.raises(InputError):
                Fault.parse(text)


# --------------------------------------------------------------------------------------------------------- pulled plugs
@pytest.mark.parametrize("phase", EVERY_PHASE)
def test_the_robot_is_unplugged(phase):
    with Pair(speed_mm_s=10) as pair:
        pair.go(phase)
        pair.sim.close()
        assert pair.robot.wait(lambda r: r.phase is Phase.UNDEFINED, 15.0)
        pair.robot.poll()
        assert pair.robot.position() is None
        assert pair.robot.to_dict()["position"] is None
        assert "connection lost" in pair.robot.last_error
        for other in set(Phase) - {Phase.UNDEFINED}:
            with pytest.raises(RefusedError, match="connection"):
                pair.robot.request(other)
        assert pair.robot.emergency_stop() is False  # told honestly that it didn't leave


@pytest.mark.parametrize("phase", EVERY_PHASE)
def test_the_navigation_is_unplugged(phase):
    with Pair(speed_mm_s=10) as pair:
        pair.go(phase)
        pair.client.close()
        assert wait_for(lambda: pair.sim.phase is Phase.UNDEFINED)
        assert pair.halted()
        assert pair.robot.phase is Phase.UNDEFINED
