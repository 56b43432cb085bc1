"""Plays a recording as a PLUS server would: the same names, statuses and pace, with the time of now."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..geometry import InputError
from ..images.sequences import TrackedSequence
from .framing import NAME_SIZE, cut_name
from .messages import STATUS_OK, Image, Query, Status, Transform
from .replay_frames import OK, Chain, checked_matrix, find_chain, split_name
from .server import LinkServer

log = logging.getLogger("IRAI.link")

SETTLE_S = 0.1  # for the first words of a client that has just connected (it may ask for version 2)


class ReplayServer:
    """Serves a recording to any number of clients; one that comes late starts in the middle.

    Every frame of the recording becomes one TRANSFORM a tool (and for each one asked for in `transforms`) and one
    IMAGE, all with the same time stamp: when the frame is due, in UTC. A client that has shown version 2 gets
    TransformStatus and TransformValid with each pose, and the recorded Timestamp and fields with each image.
    Version 1 has 20 bytes for a name: longer ones are cut, as PLUS cuts them, and not sent when two would become one.
    A transform whose status isn't OK is silence (PLUS's SendValidTransformsOnly), unless `valid_only` is False.

    The image is `Image_<frame>` with the matrix ImageTo<frame> (pixels to mm) while that can be computed and holds;
    otherwise the device `Image`, whose matrix holds the pixel size and no pose, so that a lost probe doesn't
    stop the picture and yet no old pose goes with it. Images are turned to MF, as PLUS sends them.

    Args:
        sequence: with frames, transforms or both.
        port, host: 0 lets the system choose; only this machine can connect unless `host` says otherwise.
        speed: 2 plays twice as fast; the time stamps of the messages follow.
        loop: begin again after the end. Otherwise only keep-alives follow the last frame.
        fps: pace instead of the recorded time stamps; needed for a sequence without any.
        image_to_probe: (4, 4), pixels to mm of Probe; short for calibration={"ImageToProbe": ...}.
        calibration: fixed transforms by name, as `read_plus_config` gives them. They go before the recording's own.
        transforms: further names to be sent, composed of what is there ("ProbeToReference").
        image_frame: the frame embedded in the image; None takes Reference, Tracker or Probe, the first that works.
        valid_only: False sends poses that don't hold too (with their status, which version 1 can't carry).
        wait_client: begin with the first client and not at once.
        keepalive_s: a STATUS is sent when nothing was for so long.
        options: of `LinkServer`.

    Raises: InputError: nothing to pace it by, an unknown transform, numbers out of range.
    """

    def __init__(self, sequence: TrackedSequence, port: int = 0, host: str = "127.0.0.1", *, speed: float = 1.0,
                 loop: bool = False, fps: float | None = None, image_to_probe: Any = None,
                 calibration: Mapping[str, Any] | None = None, transforms: Iterable[str] = (),
                 image_frame: str | None = None, valid_only: bool = True, wait_client: bool = False,
                 keepalive_s: float = 0.25, **options: Any):
        for what, value in (("speed", speed), ("fps", fps), ("keepalive_s", keepalive_s)):
            if value is not None and not (np.isfinite(value) and value > 0):
                raise InputError(f"replay: {what} must be above 0, not {value}")
        if len(sequence) == 0:
            raise InputError("replay: the recording is empty")
        self.sequence = sequence.oriented("MF") if sequence.orientation[:2] in ("UF", "MN", "UN") else sequence
        self.loop, self.wait_client, self.valid_only = loop, wait_client, valid_only
        self.keepalive_s = keepalive_s
        self._offsets_s, self._round_s = _pace(sequence, speed, fps)
        fixed = dict(calibration or {})
        if image_to_probe is not None:
            fixed["ImageToProbe"] = image_to_probe
        self._fixed = {name: checked_matrix(matrix, f"replay: {name}") for name, matrix in fixed.items()}
        for key in sequence.header:
            name = key.removesuffix("Transform")
            if name != key and split_name(name) and name not in self._fixed:
                self._fixed[name] = checked_matrix(sequence.header_transform(name), f"replay: {name}")
        self._chains = self._plan(list(transforms))
        self._image = self._image_chain(image_frame)
        self._short = _short_names([*self.devices, self.image_device, "Image"])
        self._server = LinkServer(port, host, name="replay", **options)
        self._stop, self._finished = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._sent_s = 0.0
        self.frame_number, self.rounds, self.frames_played = -1, 0, 0
        self.error = ""

    # ------------------------------------------------------------------------------------------- for any thread
    def start(self) -> ReplayServer:
        """Listen and play in the background; returns itself. Raises InputError when the port is taken."""
        if self._thread is None:
            self._server.start()
            self._thread = threading.Thread(target=self._run, name="IRAI replay", daemon=True)
            self._thread.start()
        return self

    def close(self) -> None:
        """Stop at once; no thread and no socket is left."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5.0)
        self._server.close()
        self._finished.set()

    def __enter__(self) -> ReplayServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def image_device(self) -> str:
        """Device name of an image whose pose holds; "" for a tracker-only recording."""
        if self.sequence.frames is None:
            return ""
        return "Image" if self._image is None else f"Image_{self._image.name.removeprefix('ImageTo')}"

    @property
    def devices(self) -> list[str]:
        """Names of the TRANSFORMs that are sent while they hold."""
        return [chain.name for chain in self._chains]

    @property
    def finished(self) -> bool:
        """The last frame of the last round has been sent, or it was closed."""
        return self._finished.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; True when it has come."""
        return self._finished.wait(timeout_s)

    def clients(self) -> list[int]:
        return self._server.clients()

    def status(self) -> dict[str, Any]:
        """Where it stands, for a display or JSON."""
        return {"frame": self.frame_number, "of": len(self.sequence), "round": self.rounds,
                "played": self.frames_played, "clients": len(self.clients()), "finished": self.finished,
                "error": self.error, "link": self._server.status().to_dict()}

    # ------------------------------------------------------------------------------------------- what is sent
    def _plan(self, asked: list[str]) -> list[Chain]:
        known = [*self._fixed, *sorted(self.sequence.transforms)]
        names = [name for name in sorted(self.sequence.transforms) if not name.startswith("ImageTo")]
        chains = []
        for name in dict.fromkeys([*names, *asked]):
            chain = find_chain(name, known)
            if chain is None:
                raise InputError(f"replay: {name} can't be composed of {', '.join(known) or 'nothing'}; "
                                 "give the missing transform, for example in a PLUS configuration")
            chains.append(chain)
        return chains

    def _image_chain(self, frame: str | None) -> Chain | None:
        known = [*self._fixed, *sorted(self.sequence.transforms)]
        for target in (frame,) if frame else ("Reference", "Tracker", "Probe"):
            chain = find_chain(f"ImageTo{target}", known)
            if chain is not None:
                return chain
        if frame and frame != "Image":
            raise InputError(f"replay: ImageTo{frame} can't be composed of {', '.join(known) or 'nothing'}; give the "
                             "calibration of the image (a PLUS configuration, or ImageToProbe)")
        return None

    def messages(self, number: int, time_s: float | None = None) -> list[Any]:
        """What frame `number` is on the wire: transforms first, then the image."""
        sequence = self.sequence
        poses = {name: (matrix, OK) for name, matrix in self._fixed.items()}
        poses |= {name: (matrices[number], sequence.status[name][number])
                  for name, matrices in sequence.transforms.items() if name not in self._fixed}
        found: list[Any] = []
        for chain in self._chains:
            matrix, status = chain.of(poses)
            if status == OK or not self.valid_only:
                found.append(Transform(matrix, device=chain.name, time_s=time_s, metadata={
                    "TransformStatus": status, "TransformValid": "true" if status == OK else "false"}))
        if sequence.frames is not None and sequence.image_valid()[number]:
            found.append(self._image_message(number, poses, time_s))
        return found

    def _image_message(self, number: int, poses: Mapping[str, tuple[np.ndarray, str]], time_s: float | None) -> Image:
        sequence = self.sequence
        assert sequence.frames is not None
        matrix, status = (np.eye(4), "MISSING") if self._image is None else self._image.of(poses)
        device = self.image_device
        if status != OK:
            device, matrix = "Image", np.diag([*self._pixel_size(), 1.0, 1.0])
        fields = sequence.fields[number] if sequence.fields else {}
        metadata = {"FrameNumber": str(number), **fields, "TransformStatus": status}
        if sequence.timed:
            metadata["Timestamp"] = repr(float(sequence.time_s[number]))
        pixels = np.ascontiguousarray(sequence.frames[number])[np.newaxis]
        return Image(pixels, matrix, device=device, time_s=time_s, metadata=metadata)

    def _pixel_size(self) -> tuple[float, float]:
        for name, matrix in self._fixed.items():
            if name.startswith("ImageTo"):
                x, y = np.linalg.norm(matrix[:3, :2], axis=0)
                return float(x), float(y)
        return self.sequence.spacing

    # ------------------------------------------------------------------------------------------- the thread
    def _run(self) -> None:
        try:
            if self.wait_client and not self._first_client():
                return
            self._play()
        except InputError as error:
            self.error = str(error)
            log.error("OpenIGTLink: %s", self.error)
        finally:
            self._finished.set()
        while not self._stop.is_set():
            self._idle_until(time.monotonic() + 1.0)

    def _first_client(self) -> bool:
        while not self._stop.is_set():
            if self.clients():
                self._idle_until(time.monotonic() + SETTLE_S)
                return True
            self._server.wait(0.02)
            self._answer()
        return False

    def _play(self) -> None:
        began_s, began_time_s = time.monotonic(), time.time()
        while not self._stop.is_set():
            for number, offset_s in enumerate(self._offsets_s):
                due_s = self.rounds * self._round_s + float(offset_s)
                self._idle_until(began_s + due_s)
                if self._stop.is_set():
                    return
                if self.clients():
                    for message in self.messages(number, began_time_s + due_s):
                        self._send(message)
                    self._sent_s = time.monotonic()
                self.frame_number, self.frames_played = number, self.frames_played + 1
            self.rounds += 1
            if not self.loop:
                return

    def _send(self, message: Any) -> None:
        """To all; a client of version 1 gets a long name cut, or nothing where that leaves a doubt."""
        short = self._short.get(message.device, message.device)
        if short == message.device:
            self._server.send(message)
            return
        self._server.send(message, when_v2=True)
        if short:
            self._server.send(replace(message, device=short), when_v2=False)

    def _idle_until(self, due_s: float) -> None:
        """Wait; answer clients, and tell them that the server lives when nothing else does."""
        while not self._stop.is_set():
            self._answer()
            now = time.monotonic()
            if now - self._sent_s >= self.keepalive_s:
                self._server.send(Status(STATUS_OK, device="Replay", text="OK"))
                self._sent_s = now
            left_s = due_s - now
            if left_s <= 0:
                return
            self._stop.wait(min(left_s, self.keepalive_s / 2, 0.05))

    def _answer(self) -> None:
        for message in self._server.drain():
            if isinstance(message, Query) and message.wire_type == "GET_STATUS":
                self._server.send(Status(STATUS_OK, device="Replay", text="OK"), client=message.client)


def _short_names(names: Iterable[str]) -> dict[str, str]:
    """What version 1 calls the devices whose names are too long for it; "" where it would be another's name too."""
    cut = {name: cut_name(name) for name in names}
    taken = list(cut.values())
    short = {name: brief if taken.count(brief) == 1 else "" for name, brief in cut.items() if brief != name}
    for name, brief in short.items():
        if not brief:
            log.warning("OpenIGTLink: clients of version 1 don't get %s: cut to %d bytes its name is another's too",
                        name, NAME_SIZE)
    return short


def _pace(sequence: TrackedSequence, speed: float, fps: float | None) -> tuple[np.ndarray, float]:
    """((n,) seconds after the start, seconds a round). A clock that runs backwards in the recording stands still."""
    count = len(sequence)
    if fps is not None:
        return np.arange(count) / (fps * speed), count / (fps * speed)
    if not sequence.timed:
        raise InputError("replay: this sequence has no time stamps; say how many frames a second with fps")
    times = np.maximum.accumulate(sequence.time_s - sequence.time_s[0]) / speed
    step = float(np.median(np.diff(times))) if count > 1 else 1.0
    return times, float(times[-1]) + max(step, 0.01)
