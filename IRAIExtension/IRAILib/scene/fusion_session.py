"""The live picture in the patient: connect or replay, calibrate, register, guide, record.

No widget: the FusionNav module calls `pump()` from a timer and shows what `state()` says; a script calls it in a loop.
Nodes are touched in `pump()` only. While a link of the chain is lost, stale or missing, no number is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError, LinearTransform, NeedleEstimate, NeedleStatus
from ..link.carm import CArmFrame, CArmReceiver
from ..navigation.live_tre import LiveTre
from .fusion_chain import ChainLink, ChainState, against, chain_rows, chain_state
from .fusion_frames import FRESH_S, IMAGE, LiveFrame, LiveInput
from .fusion_guide import Breach, Obstacle, ToolTip, breach, tool_estimate
from .fusion_registration import PatientRegistration
from .link import LinkBridge
from .link_record import SequenceRecorder
from .link_status import connection_text
from .link_store import LinkSettings, connect
from .needle_guidance import Guidance, TipHistory, guidance, plan_from_node

RAS = "RAS"
ASSUMED_TRACKER_MM = 0.5
"""Assumed until the user says otherwise: optical trackers state 0.25 to 0.5 mm, electromagnetic ones more."""


@dataclass
class FusionState:
    """What a panel shows. Texts are ready to show; None is "not known". `stale`: the guidance is grey, no numbers."""

    connected: bool = False
    link_text: str = "Not connected"
    problem: str = ""
    image: ChainState = field(default_factory=lambda: ChainState(IMAGE, RAS, problem="not connected"))
    tool: ChainState = field(default_factory=lambda: ChainState("Tool", RAS, problem="no tool is chosen"))
    rows: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    image_age_s: float | None = None
    rate_hz: float = 0.0
    calibration_problem: str = ""
    not_compared: tuple[str, ...] = ()
    estimate: NeedleEstimate | None = None
    tip_calibrated: bool = False
    guidance: Guidance = field(default_factory=Guidance)
    breach: Breach = field(default_factory=Breach)
    tre_mm: float | None = None
    tre_text: str = ""
    recording: int | None = None
    stale: bool = True
    why_stale: str = "not connected"


class FusionSession:
    """See the module. Args: scene: None is slicer.mrmlScene. clock: seconds that go forward."""

    def __init__(self, scene=None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.scene, self.clock = scene, clock
        self.bridge: LinkBridge | None = None
        self.server: Any = None
        self.live = LiveInput(clock=clock)
        self.live.tracker_error_mm = ASSUMED_TRACKER_MM
        self.tre = LiveTre(clock)
        self._registration: PatientRegistration | None = None
        self.tips: dict[str, ToolTip] = {}
        self.tool = ""
        self.plan: Any = None
        self.obstacles: list[Obstacle] = []
        self.margin_mm = 5.0
        self.history = TipHistory()
        self.recorder: SequenceRecorder | None = None
        self._before: Any = None
        self.views: Any = None
        self.problem = ""
        self.collecting = False
        self.collected: list[tuple[float, np.ndarray]] = []
        self._collected_s = -1.0
        self.carm = CArmReceiver()
        self.xray: CArmFrame | None = None

    # ---- link

    def connect(self, settings: LinkSettings) -> None:
        """Go to a peer. An earlier connection ends. Raises InputError for a bad address."""
        self.disconnect()
        bridge = connect(replace(settings, use_slicer=False), self.scene, clock=self.clock)
        assert isinstance(bridge, LinkBridge)
        bridge.listeners += [self.live.take, self._take_xray]
        self.live.known.clear()
        self.bridge = bridge

    def replay(self, recording: Any, *, speed: float = 1.0, loop: bool = False) -> None:
        """Play a recording through a server on this machine, and connect to it: live and replay are one path.

        Args: recording: TrackedSequence, sequence file, or vtkMRMLSequenceBrowserNode of a session recorded here.
        Raises InputError for what can't be read or holds nothing to play.
        """
        from ..images.sequences import read_sequence
        from ..link.replay import ReplayServer

        if hasattr(recording, "GetMasterSequenceNode"):
            from .fusion_record import present, recorded, restore, sequence_from_browser

            sequence, then = sequence_from_browser(recording), recorded(recording)
            self.disconnect()
            if then is not None:
                self._before = present(self), then
                restore(self, then)
        else:
            sequence = read_sequence(recording) if isinstance(recording, str | Path) else recording
            self.disconnect()
        server = ReplayServer(sequence, speed=speed, loop=loop, wait_client=True).start()
        before, self._before = self._before, None  # connecting ends what was: that is put back when this replay ends
        try:
            self.connect(LinkSettings(name="FusionNav replay", host="127.0.0.1", port=server.port))
        except Exception:
            server.close()
            raise
        finally:
            self._before = before
        self.server = server

    def disconnect(self) -> None:
        """End recording and connection; what was shown is stale. Nothing to do when there is none.

        What a replayed session brought along (calibration, registration, tips) goes with it: what was before is back.
        """
        self.stop_recording()
        bridge, server = self.bridge, self.server
        self.bridge = self.server = None
        self.collecting = False
        if bridge is not None:
            bridge.close()
        if server is not None:
            server.close()
        self.live.clear()
        self.carm.disconnect()
        self.xray = None
        self.history.clear()
        before, self._before = self._before, None
        if before is not None:
            from .fusion_record import put_back

            put_back(self, *before)
        if self.views is not None:
            self.views.dim("the connection is gone")

    @property
    def as_recorded(self) -> bool:
        """Whether a recorded session is replayed, with the calibration, registration and errors of then."""
        return self._before is not None

    @property
    def connected(self) -> bool:
        """Whether a peer is there now."""
        return self.bridge is not None and self.bridge.connected

    def _take_xray(self, message: Any) -> None:
        """A listener of the bridge: the newest frame of a C-arm, with its geometry or why there is none."""
        self.xray = self.carm.update(message) or self.xray

    # ---- the beat

    def pump(self) -> bool:
        """Carry what is new into the scene. Call it in the scene's thread, often. Returns whether a picture came."""
        bridge = self.bridge
        if bridge is None:
            return False
        result = bridge.pump()
        if bridge.source is None:  # the scene was closed meanwhile
            self.disconnect()
            return False
        if not bridge.connected and self.live.frame is not None:
            self.live.clear()
        fresh = self.live.pair()
        self._collect()
        if self.views is not None:
            self._show(fresh)
        if self.recorder is not None:
            self.recorder.take(self._record_time(), result.nodes)
        return fresh

    def _show(self, fresh: bool) -> None:
        chain = self.image_chain()
        frame = self.live.frame
        if frame is None or not chain.ok:
            self.views.dim(chain.problem)
        elif fresh or self.views.dimmed:
            matrix = self.ras_from_pixel(frame)
            if matrix is None:
                self.views.dim(frame.reason)
            else:
                self.views.show(frame.pixels, matrix)
        estimate = self.estimate()
        if estimate.tip is not None:
            self.history.add(estimate)
        self.views.show_tool(estimate)

    def ras_from_pixel(self, frame: LiveFrame) -> np.ndarray | None:
        """(4, 4) of a picture at the time it was taken; None while its pose or the registration is not known."""
        if frame.reference_from_pixel is None or self.registration is None:
            return None
        to_ras = chain_state(self.links(), self.live.reference, RAS)
        return to_ras.matrix @ frame.reference_from_pixel if to_ras.ok and to_ras.matrix is not None else None

    def _record_time(self) -> float:
        from .link_status import TIME

        assert self.recorder is not None
        assert self.bridge is not None
        lead = self.bridge.scene.GetNodeByID(self.recorder.lead_id)
        said = lead.GetAttribute(TIME) if lead is not None else None
        return float(said) if said else time.time()

    # ---- registration

    @property
    def registration(self) -> PatientRegistration | None:
        """The one in force; setting it tells the live TRE which landmarks it never saw."""
        return self._registration

    @registration.setter
    def registration(self, value: PatientRegistration | None) -> None:
        self._registration = value
        for mark in self.tre.held:
            self.tre.drop(mark.name)
        found = value.landmarks if value is not None else None
        if value is None or found is None:
            self.tre.set_registration(None)
            return
        transform = LinearTransform(value.ras_from_reference, RAS, value.reference)
        self.tre.set_registration(transform, found.target_mm[found.used], found.source_mm[found.used])
        for name, _error in value.held_out:
            row = found.names.index(name)
            self.tre.hold_out(name, found.target_mm[row].tolist(), found.source_mm[row].tolist())

    # ---- chains

    def links(self, point_ras: np.ndarray | None = None) -> list[ChainLink]:
        """Every link that is known, as it stands now; the registration's error is taken at a point."""
        links = self.live.links()
        if self.registration is not None:
            given = self.registration.link(point_ras)
            said = next((link for link in links if link.name == given.name), None)
            links = [*(link for link in links if link is not said), against(given, said)]
        return links

    def image_chain(self) -> ChainState:
        """From the picture's pixels to RAS. Stale when the picture is."""
        chain = chain_state(self.links(self._target()), IMAGE, RAS)
        age = self.live.age_s()
        if chain.ok and age is None:
            return replace(chain, problem="no picture has come yet")
        if chain.ok and age is not None and age > FRESH_S:
            return replace(chain, problem=f"the picture is {age:.1f} s old")
        if chain.ok and self.live.frame is not None and self.live.frame.reference_from_pixel is None:
            return replace(chain, problem=self.live.frame.reason or "the picture's pose is not known")
        return chain

    def tool_chain(self) -> ChainState:
        """From the chosen tool's frame to RAS."""
        if not self.tool:
            return ChainState("Tool", RAS, problem="no tool is chosen")
        return chain_state(self.links(self._target()), self.tool.partition("To")[0], RAS)

    def tool_names(self) -> list[str]:
        """Transforms that a tool may be chosen from."""
        return self.live.tool_names()

    def tip(self) -> ToolTip:
        """The chosen tool's tip; its own origin while it was not calibrated."""
        return self.tips.get(self.tool.partition("To")[0], ToolTip())

    def estimate(self) -> NeedleEstimate:
        """The chosen tool in RAS, LOST while its chain is broken."""
        return tool_estimate(self.tool_chain(), self.tip(), self.clock())

    def _target(self) -> np.ndarray | None:
        try:
            plan = plan_from_node(self.plan)
        except InputError:
            return None
        return None if plan is None else plan[1]

    # ---- poses for a calibration

    def start_collecting(self) -> None:
        """Collect the chosen tool's poses, as it moves, for a pivot or spin calibration. Raises InputError."""
        if not self.tool or not self.connected:
            raise InputError("connect to a tracker and choose the tool first")
        self.collected, self.collecting = [], True

    def stop_collecting(self) -> None:
        """Enough poses; they stay for the calibration."""
        self.collecting = False

    def forget_poses(self) -> None:
        """The calibration is made: the next one begins anew."""
        self.collected, self.collecting = [], False

    def _collect(self) -> None:
        if not self.collecting:
            return
        from ..link.probe import frames_of

        source, target = frames_of(self.tool)
        age = self.live.tools.state(self.tool).age_s
        found = self.live.tools.transform(target, source)
        at = self.clock() - (age or 0.0)
        if found is not None and age is not None and at - self._collected_s > 1e-3:
            self._collected_s = at
            self.collected.append((at, found.matrix))

    # ---- recording

    def start_recording(self) -> None:
        """Record every picture and pose that comes, with calibration, registration and plan, into a Sequences browser.

        Raises InputError when nothing comes yet.
        """
        from .fusion_record import begin

        self.recorder = begin(self)

    def stop_recording(self) -> Any:
        """End the recording. Returns the vtkMRMLSequenceBrowserNode, or None when nothing was recorded."""
        recorder, self.recorder = self.recorder, None
        return recorder.finish() if recorder is not None else None

    # ---- what is to be said

    def state(self) -> FusionState:
        """Where everything stands now."""
        target = self._target()
        links = self.links(target)
        image, tool = self.image_chain(), self.tool_chain()
        estimate = tool_estimate(tool, self.tip(), self.clock())
        tre = None if self.registration is None else self.registration.error_at(target)
        state = FusionState(
            connected=self.connected, link_text=connection_text(self.bridge, self.server),
            problem=self.problem, image=image, tool=tool,
            rows=chain_rows(links), image_age_s=self.live.age_s(), rate_hz=self.live.rate_hz(),
            calibration_problem=self.live.calibration_problem, not_compared=self.live.not_compared, estimate=estimate,
            tre_mm=tre, tre_text=self._tre_text(tre), recording=self.recorder.count if self.recorder else None)
        state.tip_calibrated = self.tool.partition("To")[0] in self.tips
        state.why_stale = tool.problem if self.tool else image.problem
        state.stale = bool(state.why_stale)
        if estimate.status is NeedleStatus.SEEN:
            try:
                state.guidance = guidance(estimate, plan_from_node(self.plan), self.history)
            except InputError as error:
                state.problem = str(error)
            state.breach = breach(estimate, self.obstacles, margin_mm=self.margin_mm)
        return state

    def _tre_text(self, tre: float | None) -> str:
        registration = self.registration
        if registration is None:
            return "TRE: not registered"
        where = "at the target" if self._target() is not None else "in the middle of the points"
        expected = "not known" if tre is None else f"{tre:.1f} mm {where}"
        live = self.tre.now()
        measured = live.text if live.tre_mm is not None else "TRE: no landmark is held out"
        if live.tre_mm is None and registration.held_out:
            measured = f"TRE {registration.held_out_rms_mm:.1f} mm when it was made"
        return f"{measured}. Expected {expected} ({registration.method})"

    def close(self) -> None:
        """End everything that is live; the nodes stay."""
        self.disconnect()
