"""One needle followed live in the scene: connect or replay, track, show, measure against the plan, record.

No widget: the NeedleTracking module calls `pump()` from a timer and shows what `state()` says; a script calls it in
a loop. The link and the detector work in threads of their own; nodes are touched in `pump()` only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import InputError, NeedleEstimate, NeedleStatus, RefusedError
from ..needle.live import LatencyBudget, LivePipeline, make_detector
from ..needle.live_slices import space_from_image
from ..needle.planes import PlaneSender
from ..needle.stream import NeedleStream, StreamResult
from ..needle.ultrasound.scale import PixelScale, agreed_scale, scale_from_matrix
from .link import LinkBridge
from .link_record import SequenceRecorder
from .link_status import connection_text, is_live
from .link_store import LinkSettings, connect
from .needle import NeedleView, aged, status_text
from .needle_guidance import Guidance, TipHistory, guidance, plan_from_node
from .needle_slices import slice_pipeline
from .nodes import world_from_node

MAX_LOG = 200_000
RATE_WINDOW_S = 2.0


@dataclass
class SessionState:
    """What a panel shows. Texts are ready to show; None is "not known"."""

    connected: bool = False
    link_text: str = "Not connected"
    status: NeedleStatus | None = None
    status_text: str = "NO DATA"
    age_s: float | None = None
    units: str = ""
    sigma: float | None = None
    validated_on: str = ""
    scale_text: str = ""
    problem: str = ""
    budget: LatencyBudget | None = None
    guidance: Guidance = field(default_factory=Guidance)
    tracking: bool = False
    recording: int | None = None
    frames: int = 0
    rate_hz: float = 0.0
    stale: bool = True
    planes_text: str = ""


class NeedleSession:
    """See the module. Args: scene: None is slicer.mrmlScene. clock: seconds that go forward.
    render: how many ms the views took to draw, None where that isn't known; without it the budget leaves it out."""

    def __init__(self, scene=None, *, clock: Callable[[], float] = time.monotonic,
                 render: Callable[[], float | None] | None = None) -> None:
        self.scene, self.clock, self.render = scene, clock, render
        self.bridge: LinkBridge | None = None
        self.server: Any = None
        self.stream: NeedleStream | None = None
        self.view = NeedleView(scene)
        self.history = TipHistory()
        self.log: list[NeedleEstimate] = []
        self.recorder: SequenceRecorder | None = None
        self.plan: Any = None
        self.scale: PixelScale | None = None
        self.problem = ""
        self.modality = "US"
        self.planes: PlaneSender | None = None
        self._newest: StreamResult | None = None
        self._shown: StreamResult | None = None
        self._estimate: NeedleEstimate | None = None
        self._guidance = Guidance()
        self._budget: LatencyBudget | None = None
        self._arrivals: list[float] = []

    # ---- link

    def connect(self, settings: LinkSettings) -> None:
        """Go to a peer or wait for one. An earlier connection ends. Raises InputError for a bad address."""
        self.disconnect()
        bridge = connect(replace(settings, use_slicer=False), self.scene, clock=self.clock)
        assert isinstance(bridge, LinkBridge)
        bridge.image_matrix = lambda matrix: scaled_matrix(matrix, self.scale)
        self.bridge = bridge

    def replay(self, recording: Any, *, speed: float = 1.0, loop: bool = False) -> None:
        """Play a recording through a server on this machine, and connect to it: live and replay are one path.

        Args: recording: TrackedSequence, or path of a PLUS or Slicer sequence file.
        Raises InputError for a file that can't be read or holds nothing to play.
        """
        from ..images.sequences import read_sequence
        from ..link.replay import ReplayServer

        self.disconnect()
        sequence = read_sequence(recording) if isinstance(recording, str | Path) else recording
        server = ReplayServer(sequence, speed=speed, loop=loop, wait_client=True).start()
        try:
            self.connect(LinkSettings(name="Replay", host="127.0.0.1", port=server.port))
        except Exception:
            server.close()
            raise
        self.server = server

    def disconnect(self) -> None:
        """End tracking, recording and connection. What was shown is shown as lost. Nothing to do when there is none."""
        self.stop_tracking()
        self.stop_recording()
        bridge, server = self.bridge, self.server
        self.bridge = self.server = None
        self._arrivals.clear()
        if bridge is not None:
            bridge.close()
        if server is not None:
            server.close()

    @property
    def connected(self) -> bool:
        """Whether a peer is there now."""
        return self.bridge is not None and self.bridge.connected

    def image_devices(self) -> list[str]:
        """Names of the image streams that have come over this connection."""
        if self.bridge is None:
            return []
        return [stream.device for (kind, _name), stream in self.bridge.streams.items() if kind == "IMAGE"]

    # ---- tracking

    def start_tracking(self, device: str | None = None, *, modality: str = "US", detector: Any = "auto",
                       scale: PixelScale | None = None, send_planes: bool = False,
                       on_frame: Callable[[StreamResult], None] | None = None) -> None:
        """Follow the needle in an image stream.

        Args:
            device: of the image; None takes the first one that comes.
            modality: "US", "MR", "CT" (slices), or "XA" (a catheter in X-ray frames).
            detector: for "US": "auto", "network", "classical", or a Detector.
            send_planes: send PLANE_0..2 through each measured needle back to the sender of the pictures.
            scale: mm per pixel as the user knows it; None: the message's, else no mm are given.
        Raises InputError without a connection, MissingPackageError for a detector that can't run.
        """
        if self.bridge is None or self.bridge.source is None:
            raise InputError("nothing to track in: connect to an image source or start a replay first")
        self.stop_tracking()
        if modality == "US":
            found = _detector(detector) if isinstance(detector, str) else detector
            pipeline: Any = LivePipeline(found, scale=scale)
        else:
            pipeline = slice_pipeline(modality, scale)
        self.scale, self.modality = scale, modality
        self.planes = PlaneSender() if send_planes else None
        self.history.clear()
        self.log.clear()
        self._newest = None

        def keep(result: StreamResult) -> None:  # in the detector's thread; asking the stream would wait for it
            self._newest = result
            if on_frame is not None:
                on_frame(result)

        self.stream = NeedleStream(self.bridge.source, pipeline, device, keep).start()

    def stop_tracking(self) -> None:
        """Stop following; the needle is taken out of the views. The tips of the run stay until the next start."""
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.close()
            self.view.hide()
        self._newest = self._shown = self._estimate = self._budget = self.planes = None
        self._guidance = Guidance()

    # ---- recording

    def start_recording(self) -> None:
        """Record every node that comes over the link, and the needle, into a Sequences browser.

        Raises InputError when nothing comes yet.
        """
        bridge = self.bridge
        nodes = [] if bridge is None else [bridge.scene.GetNodeByID(s.node_id) for s in bridge.streams.values()]
        wanted = ("vtkMRMLVolumeNode", "vtkMRMLTransformNode", "vtkMRMLMarkupsNode")
        nodes = [node for node in nodes if node is not None and any(node.IsA(name) for name in wanted)]
        if self.stream is not None:
            nodes += [self.view.node("tip"), self.view.node("shaft")]
        self.recorder = SequenceRecorder(nodes, self.scene, name="Needle recording")

    def stop_recording(self) -> Any:
        """End the recording. Returns the vtkMRMLSequenceBrowserNode, or None when nothing was recorded."""
        recorder, self.recorder = self.recorder, None
        return recorder.finish() if recorder is not None else None

    def save_tips(self, path: str | Path) -> int:
        """Write the tips of this run as CSV with its card. Returns the number of rows. Raises InputError when empty."""
        from ..needle.tips import write_tips

        if not self.log:
            raise InputError("no tips yet: start tracking first")
        last = self.log[-1]
        rows = [estimate for estimate in self.log if (estimate.units, estimate.frame) == (last.units, last.frame)]
        write_tips(path, rows, {"frame": last.frame, "left_out": len(self.log) - len(rows)})
        return len(rows)

    # ---- the beat

    def pump(self) -> None:
        """Carry what is new into the scene: link, needle, plan, recording. Call it in the scene's thread, often."""
        if self.bridge is None:
            self.view.tick(self.clock())
            return
        result = self.bridge.pump()
        if self.bridge.source is None:  # the scene was closed meanwhile
            self.disconnect()
            return
        self._show_needle()
        if self.recorder is not None:
            self.recorder.take(self._record_time(), result.nodes)

    def _record_time(self) -> float:
        """Time of the leading node's data, s: its sender's stamp, which replays in the pace of the source."""
        from .link_status import TIME

        assert self.recorder is not None
        assert self.bridge is not None
        lead = self.bridge.scene.GetNodeByID(self.recorder.lead_id)
        said = lead.GetAttribute(TIME) if lead is not None else None
        return float(said) if said else time.time()

    def _show_needle(self) -> None:
        stream, now = self.stream, self.clock()
        if stream is None:
            return
        if not self.connected:
            self._newest = None
        latest = self._newest
        self.problem = stream.problem
        if stream.failed:
            self.problem = "the detector failed and has stopped (see the log); start again or choose another"
        if latest is None:  # nothing came yet, or the connection is gone
            self._estimate = None
            self.view.lose(now)
            return
        shown = latest is self._shown
        if not shown:
            self._arrivals = [t for t in self._arrivals if now - t <= RATE_WINDOW_S] + [now]
        estimate = self._now(stream, latest)
        try:
            mapped = self._in_scene(estimate, latest)
            if not shown:
                self._note(self._in_scene(latest.estimate, latest))
                if self.planes is not None and self.bridge is not None:
                    self.planes.send(self.bridge.source, latest)
        except (InputError, RefusedError) as error:
            self.problem = str(error)
            self._estimate = None
            self.view.lose(now)
            return
        self._estimate = mapped
        as_mm = mapped if mapped.units == "mm" else replace(mapped, units="mm")  # drawn where its picture is drawn
        self.view.show(as_mm, now)
        self._guidance = self._measured(mapped)
        if not shown:
            self._shown = latest
            self._budget = latest.result.budget
            if self.render is not None:
                self._budget = replace(self._budget, render_ms=self.render())

    def _now(self, stream: NeedleStream, latest: StreamResult) -> NeedleEstimate:
        """The needle at display time. While the detector works its track can't be asked: then the newest answer
        ages, so that a slow detector never holds up the window."""
        if stream.busy:
            options = stream.pipeline.tracker.options
            return aged(latest.estimate, self.clock() - latest.received_s, options.fresh_s, options.max_coast_s)
        return stream.estimate_at()

    def _note(self, estimate: NeedleEstimate) -> None:
        if estimate.units == "mm":
            self.history.add(estimate)
        if len(self.log) < MAX_LOG:
            self.log.append(estimate)

    def _in_scene(self, estimate: NeedleEstimate, latest: StreamResult) -> NeedleEstimate:
        """World RAS, in mm where a scale is known; else in pixels of the picture, placed where the picture is drawn.

        Raises RefusedError when the user's scale and the picture's contradict each other, InputError when the pose
        that the picture hangs on is lost.
        """
        used = latest.result.scale
        scale = used if self.modality != "US" else agreed_scale([self.scale, scale_from_matrix(latest.ras_from_image)])
        matrix = scaled_matrix(latest.ras_from_image, scale)
        node = self._image_node(latest.device)
        world = np.eye(4) if node is None else world_from_node(node)
        if node is not None and not is_live(node.GetParentTransformNode()):
            raise InputError(f"{node.GetName()}: the pose that the picture hangs on is lost")
        placed = space_from_image(matrix, used if estimate.units == "mm" else None)
        return estimate.mapped(world @ placed, "RAS", "mm" if scale is not None else "px")

    def _image_node(self, device: str) -> Any:
        if self.bridge is None:
            return None
        stream = self.bridge.streams.get(("IMAGE", device))
        return self.bridge.scene.GetNodeByID(stream.node_id) if stream is not None else None

    def _measured(self, estimate: NeedleEstimate) -> Guidance:
        if estimate.units != "mm":
            return Guidance()
        try:
            return guidance(estimate, plan_from_node(self.plan), self.history)
        except InputError as error:
            self.problem = str(error)
            return Guidance()

    def forwardable(self) -> NeedleEstimate | None:
        """The newest measured tip in RAS mm for a robot, not predicted; None when there is none to hand on."""
        latest = self._newest if self.stream is not None and self.connected else None
        if latest is None or latest.estimate.status is not NeedleStatus.SEEN or latest.result.scale is None:
            return None
        try:
            return self._in_scene(latest.estimate, latest)
        except (InputError, RefusedError):
            return None

    # ---- what is to be said

    def state(self) -> SessionState:
        """Where everything stands now."""
        now = self.clock()
        status = self.view.tick(now)
        age = self.view.age_s(now)
        fresh = status in (NeedleStatus.SEEN, NeedleStatus.COASTING)
        estimate = self._estimate
        arrivals = [t for t in self._arrivals if now - t <= RATE_WINDOW_S]
        rate = (len(arrivals) - 1) / (arrivals[-1] - arrivals[0]) if len(arrivals) > 2 else 0.0
        return SessionState(
            connected=self.connected, link_text=connection_text(self.bridge, self.server), status=status,
            status_text=status_text(self.view.estimate, status, age), age_s=age,
            units=estimate.units if estimate is not None else "",
            sigma=estimate.sigma if estimate is not None and fresh else None,
            validated_on=estimate.validated_on if estimate is not None else "", scale_text=self._scale_text(),
            problem=self.problem, budget=self._budget, guidance=self._guidance if fresh else Guidance(),
            tracking=self.stream is not None, recording=self.recorder.count if self.recorder is not None else None,
            frames=self.stream.frames if self.stream is not None else 0, rate_hz=rate, stale=not fresh,
            planes_text="" if self.planes is None else self.planes.text)

    def _scale_text(self) -> str:
        latest = self._shown
        if latest is None:
            return ""
        scale = latest.result.scale
        if scale is None:
            return "no scale is known: positions in pixels, no mm are given"
        return f"{scale.mm_per_px_x:.4g} x {scale.mm_per_px_y:.4g} mm per pixel, from the {scale.source}"

    def close(self) -> None:
        """End everything; the nodes stay."""
        self.disconnect()


def _detector(name: str) -> Any:
    """The detector by name; "auto" takes the classical one where the network's file is missing too."""
    try:
        return make_detector(name)
    except InputError:
        if name != "auto":
            raise
        return make_detector("classical")


def scaled_matrix(ras_from_image: np.ndarray, scale: PixelScale | None) -> np.ndarray:
    """(4, 4) of a picture, its columns brought to `scale` where the matrix itself carries none (both exactly 1 mm)."""
    matrix = np.array(ras_from_image, float)
    if scale is not None and scale_from_matrix(matrix) is None:
        matrix[:3, 0] *= scale.mm_per_px_x
        matrix[:3, 1] *= scale.mm_per_px_y
    return matrix
