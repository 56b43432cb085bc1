"""Feed OpenIGTLink bytes that atheris mutates to the decoder: nothing but ProtocolError may come out.

    python Testing/tools/fuzz_link.py --minutes 10

Coverage guides it; it begins with one valid message of every type. Body size and checksum are corrected after the
mutation (three times in four), so that contents are reached. What is accepted must also encode, and come back the same.
A finding ends the run with the bytes in a file crash-* of the work folder.
"""

from __future__ import annotations

import argparse
import logging
import os
import struct
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "IRAIExtension"), str(ROOT / "Testing" / "library")]

import atheris  # noqa: E402

with atheris.instrument_imports(include=["IRAILib.link"]):
    from IRAILib.link import framing
    from IRAILib.link import messages as m

MAX_BODY = 1 << 16


def corrected(data: bytes) -> bytes:
    """The same bytes with the header's body size and checksum made true."""
    body = data[framing.HEADER_SIZE:]
    return data[:42] + struct.pack(">QQ", len(body), framing.crc64(body)) + body


def one_input(data: bytes) -> None:
    if len(data) > framing.HEADER_SIZE:
        choice = data[0]
        data = b"\0" + data[1:]
        if choice & 0x18 != 0x18:
            data = corrected(data)
    try:
        header = framing.parse_header(data, max_body=MAX_BODY)
        message = m.decode(framing.unpack_body(header, data[framing.HEADER_SIZE:]))
        children = [child.message() for child in message.children] if isinstance(message, m.Bind) else []
    except framing.ProtocolError:
        return
    for found in (message, *children):
        if found is not None:
            found.to_dict()
    wire = b"".join(m.encode(message, version=header.version))  # what was accepted can be sent ...
    again = m.decode(framing.unpack_body(framing.parse_header(wire, max_body=1 << 20), wire[framing.HEADER_SIZE:]))
    if b"".join(m.encode(again, version=header.version)) != wire:  # ... and comes back the same
        raise AssertionError(f"{message.wire_type}: not the same after a round trip")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--folder", type=Path, help="where the corpus and findings go (default: a temporary folder)")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fuzz_link_"))
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    from link_cases import every_message, wire_of

    for number, message in enumerate(every_message()):
        for version in (1, 2):
            (corpus / f"{number:02d}_{message.wire_type}_{version}").write_bytes(wire_of(message, version))
    os.chdir(folder)
    sys.stdout.write(f"corpus and findings: {folder}\n")
    sys.stdout.flush()
    atheris.Setup([sys.argv[0], str(corpus), f"-max_total_time={round(options.minutes * 60)}", "-max_len=8192",
                   "-rss_limit_mb=2048", "-timeout=10", "-print_final_stats=1"], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
