"""A TCP proxy that writes down what passes, and a search for patients in what it wrote."""

from __future__ import annotations

import base64
import itertools
import socket
import struct
import threading
from collections.abc import Iterable

import numpy as np


class Recorder:
    """Listens on a loopback port and forwards to another; `up` and `down` hold every byte from and to the site."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.up, self.down = bytearray(), bytearray()
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target_port), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._open += [near, far]
            for source, sink, record in ((near, far, self.up), (far, near, self.down)):
                threading.Thread(target=self._pump, args=(source, sink, record), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, record: bytearray) -> None:
        try:
            while data := source.recv(65536):
                with self._lock:
                    record += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()

    def bytes_up(self, start: int = 0) -> bytes:
        """What the site has sent since position `start`."""
        with self._lock:
            return bytes(self.up[start:])

    def bytes_both(self) -> bytes:
        """Everything, both ways."""
        with self._lock:
            return bytes(self.up) + b"\n" + bytes(self.down)

    def close(self) -> None:
        """Stop listening and drop the connections."""
        self._server.close()
        for one in self._open:
            one.close()


def number_forms(value: float) -> set[bytes]:
    """How one number may be written: 8-byte floats of both orders, texts of six digits and more.

    Numbers of few digits (0, 1, 12.5) are no evidence by themselves and give nothing.
    """
    texts = {repr(float(value)), f"{value:.6f}", f"{value:.8g}", f"{value:.6e}", f"{value:.17g}"}
    texts = {text for text in texts if len(text.replace("-", "").replace(".", "").strip("0")) >= 6}
    if not texts:
        return set()
    return {text.encode() for text in texts} | {struct.pack("<d", value), struct.pack(">d", value)}


def pair_forms(first: float, second: float) -> set[bytes]:
    """Two neighbours as 4-byte floats or as 2-byte-free integers: eight bytes, so that chance does not find them."""
    pair = np.array([first, second])
    if not np.isfinite(pair).all() or (pair == pair.round()).all():
        return set()
    return {pair.astype(kind).tobytes() for kind in ("<f4", ">f4")}


def table_forms(matrix: np.ndarray) -> set[bytes]:
    """Every form of every cell, of neighbours in a row and of neighbours in a column; base64 of whole rows and
    columns. matrix (n, p), NaN where missing."""
    forms: set[bytes] = set()
    for value in matrix[np.isfinite(matrix)]:
        forms |= number_forms(float(value))
    for lines in (matrix, matrix.T):
        for line in lines:
            for first, second in itertools.pairwise(line):
                forms |= pair_forms(first, second)
            for kind in ("<f8", ">f8", "<f4", ">f4"):
                coded = base64.b64encode(line.astype(kind).tobytes())
                forms.add(coded[:24])
    return forms


def found_in(record: bytes, forms: Iterable[bytes], most: int = 5) -> list[bytes]:
    """The forms that the record holds, at most `most` of them."""
    hits = []
    for form in forms:
        if form in record:
            hits.append(form)
            if len(hits) == most:
                break
    return hits
