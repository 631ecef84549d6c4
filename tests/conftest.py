"""What every test shares."""

from __future__ import annotations

import contextlib
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from hypothesis import settings

# The suite itself runs in safe-path mode; a script that a test starts finds what lies beside it,
# as it would for a user.
os.environ.pop("PYTHONSAFEPATH", None)

# A busy machine makes any example slow now and then.
settings.register_profile("fillpath", deadline=None)
settings.load_profile("fillpath")

# NautilusTrader 2.x has the name of 1.x: where that is installed, the former has no tests.
with contextlib.suppress(PackageNotFoundError):
    if int(version("nautilus_trader").partition(".")[0]) < 2:
        collect_ignore_glob = ["test_nautilus2*.py"]

IN_CI = os.environ.get("CI", "").lower() == "true"


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's settings out and give a test that names no data folder one of its own."""
    for name in os.environ:
        if name.startswith(("FILLPATH_", "OTEL_")):
            monkeypatch.delenv(name)
    # pytest-xdist tells its workers the terminal's width, and output to a pipe has none.
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("FILLPATH_DATA", str(tmp_path / "data"))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail in CI when something was skipped: there, every backend and browser must be present."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not IN_CI or session.exitstatus != pytest.ExitCode.OK:
        return
    if skipped := reporter.stats.get("skipped"):
        reporter.ensure_newline()
        reporter.write_line(f"CI is true and {len(skipped)} tests were skipped", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
