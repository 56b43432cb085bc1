"""The federated ring: real SuperLink and SuperNode processes on loopback. Runs in .venv-federated only."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[1] / "library"
sys.path[:0] = [str(LIBRARY), str(Path(__file__).resolve().parent)]

from flower_federation import Federation  # noqa: E402


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory):
    """Three sites behind recording proxies. Logs stay in the temporary folder, which pytest keeps."""
    made = Federation(tmp_path_factory.mktemp("federation"))
    try:
        made.start()
        yield made
    finally:
        made.stop()
