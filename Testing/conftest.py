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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """With IRAI_REQUIRE_DATA (CI) a skipped test that needs real data is a failed one."""
    report = yield
    needs_data = item.get_closest_marker("data") is not None or "data" in getattr(item, "fixturenames", ())
    if os.environ.get("IRAI_REQUIRE_DATA") and report.skipped and needs_data and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: needs real data, which must not be skipped here ({report.longrepr})"
    return report
