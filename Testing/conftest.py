"""What every ring shares: where the real data lies, and how to skip without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def data_folder() -> Path:
    """The folder of real test files, which may not exist."""
    return Path(os.environ.get("IRAI_TEST_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real files; the test is skipped where it is missing (CI fails instead, see .ci/run)."""
    folder = data_folder()
    if not folder.is_dir():
        pytest.skip(f"real test data not found: set IRAI_TEST_DATA or place it at {folder}")
    return folder


@pytest.fixture(scope="session")
def openigtlink_peers() -> Path:
    """Folder of the C++ library's own programs, built by `setup_environment.sh openigtlink`."""
    folder = Path(os.environ.get("IRAI_OPENIGTLINK_PEERS") or ROOT / "build" / "openigtlink")
    if not (folder / "Tracker" / "TrackerServer").is_file():
        pytest.skip(f"no OpenIGTLink programs in {folder}: run Testing/tools/setup_environment.sh openigtlink")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """With IRAI_REQUIRE_DATA (CI) a skipped test that needs real data is a failed one."""
    report = yield
    needed = {"data", "openigtlink_peers"} & set(getattr(item, "fixturenames", ()))
    needs_data = item.get_closest_marker("data") is not None or bool(needed)
    if os.environ.get("IRAI_REQUIRE_DATA") and report.skipped and needs_data and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: needs real data or peers, which must not be skipped here ({report.longrepr})"
    return report
