"""From the socket to the node: how old a tip is when Slicer's scene has it.

A sender in a process of its own streams simulated 640x480 frames, each stamped when it goes out; the receiver is the
NeedleTracking session on headless Slicer: link, network, track filter, image and needle nodes. Not counted: the
ultrasound machine, the frame grabber, and drawing, which is measured apart.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

FRAMES, WARM_UP = 400, 40
RATES = (30.0, 60.0)
BEAT_S = 0.01  # the panel's timer
DEADLINE_S = 60.0


def send(fps: float) -> None:
    """The other process: a server that streams until it is ended."""
    from IRAILib.link.messages import Image
    from IRAILib.link.server import LinkServer
    from IRAILib.needle.ultrasound.simulator import simulate_sequence

    made = simulate_sequence(24, 11, domain="held-out", needle=True, size=(640, 480), frame_rate_hz=30)
    frames = np.concatenate([made.frames, made.frames[::-1]])
    matrix = np.diag([made.mm_per_px, made.mm_per_px, 1.0, 1.0])
    with LinkServer() as server:
        print(server.port, flush=True)
        began = next_s = time.monotonic()
        number = 0
        while time.monotonic() - began < DEADLINE_S:
            time.sleep(max(0.0, next_s - time.monotonic()))
            next_s += 1 / fps
            image = frames[number % len(frames)][None]
            server.send(Image(array=image, ras_from_ijk=matrix, device="Image_Reference", time_s=time.time()))
            number += 1


def measure(fps: float, detector: str) -> dict[str, np.ndarray | float]:
    """Ages of the tips at their node (ms), the parts of the budget, the share of frames that were skipped."""
    import slicer
    from IRAILib import headless
    from IRAILib.scene.link_store import LinkSettings
    from IRAILib.scene.needle_session import NeedleSession

    headless.start()
    slicer.mrmlScene.Clear()
    sender = subprocess.Popen([sys.executable, __file__, "send", str(fps)], stdout=subprocess.PIPE, text=True)
    session = NeedleSession()
    ages, infer, filtered, received = [], [], [], []
    try:
        assert sender.stdout is not None
        session.connect(LinkSettings(name="Benchmark", host="127.0.0.1", port=int(sender.stdout.readline())))
        session.start_tracking(detector=detector)
        last, first, end = None, None, time.monotonic() + DEADLINE_S
        while len(ages) < FRAMES + WARM_UP and time.monotonic() < end:
            beat = time.monotonic()
            session.pump()
            shown = session._shown
            if shown is not None and shown is not last:
                last = shown
                first = first or shown.estimate.time_s
                ages.append(1e3 * (time.time() - shown.estimate.time_s))
                budget = shown.result.budget
                infer.append(budget.infer_ms)
                filtered.append(budget.filter_ms)
                received.append(budget.receive_ms or 0.0)
            time.sleep(max(0.0, BEAT_S - (time.monotonic() - beat)))
        sent = 1 + fps * (last.estimate.time_s - first) if last is not None else 1
    finally:
        session.close()
        sender.kill()
        sender.wait(5)
    return {"age": np.array(ages[WARM_UP:]), "infer": np.array(infer[WARM_UP:]), "filter": np.array(filtered[WARM_UP:]),
            "receive": np.array(received[WARM_UP:]), "skipped": max(0.0, 1 - len(ages) / sent)}


def _pair(values: np.ndarray) -> str:
    return f"{np.median(values):.1f} / {np.percentile(values, 95):.1f}" if len(values) else "none came"


def run(data_folder: Path | None = None) -> list[str]:
    """The section as lines of Markdown."""
    lines = ["## Needle, from socket to node", "",
             f"{FRAMES} frames of 640x480 (own simulator) over loopback; p50 / p95 in ms. Age: from the sender's stamp "
             f"to the needle's nodes in Slicer's scene, beat {1e3 * BEAT_S:.0f} ms. Target: p95 at most 40 ms; "
             "one frame through the detector at most 15 ms.", "",
             "| detector | frames/s | age at the node | received after | detector | filter | frames skipped |",
             "|---|---|---|---|---|---|---|"]
    for detector in ("network", "classical"):
        for fps in RATES:
            found = measure(fps, detector)
            lines.append(f"| {detector} | {fps:.0f} | {_pair(found['age'])} | {_pair(found['receive'])} | "
                         f"{_pair(found['infer'])} | {_pair(found['filter'])} | {found['skipped']:.0%} |")
    return lines


if __name__ == "__main__":
    if sys.argv[1:2] == ["send"]:
        send(float(sys.argv[2]))
    else:
        print("\n".join(run()))
