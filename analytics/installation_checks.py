"""Checks of the installed distributions and of the data folder."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fillpath.analytics.check_result import CheckResult
from fillpath.analytics.versions import (
    DISTRIBUTION,
    ENGINES,
    fillpath_version,
    installed_version,
    requirements,
)
from fillpath.instrumentation.compiled_rows import ADVICE, COMPILED, WHY_NOT
from fillpath.instrumentation.settings import ENV_DATA, DataFolder

_INSTALLATION: Final = "installation"
_FOLDER: Final = "data folder"
_OLDEST_PYTHON: Final = (3, 11)
_NOT_FOR_USERS: Final = frozenset({"dev", "demo", "instruments-any"})
_LITTLE_SPACE: Final = 1 << 30
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


def check_installation(_: DataFolder) -> Iterator[CheckResult]:
    """Check that what is installed fits together."""
    python = platform.python_version()
    finding = f"fillpath {fillpath_version()} on Python {python}"
    if sys.version_info[:2] < _OLDEST_PYTHON:
        yield CheckResult.failed(_INSTALLATION, finding, "Python 3.11 or newer")
    else:
        yield CheckResult.passed(_INSTALLATION, finding)
    yield _check_recording()
    by_extra = _requirements_by_extra()
    wrong = [problem for line in by_extra.get("", []) if (problem := _problem(line))]
    if wrong:
        advice = f"pip install --upgrade {DISTRIBUTION}"
        yield CheckResult.failed(_INSTALLATION, "\n".join(wrong), advice)
    else:
        count = len(by_extra.get("", []))
        yield CheckResult.passed(_INSTALLATION, f"{count} requirements, all at fitting versions")
    for extra in sorted(by_extra.keys() - _NOT_FOR_USERS - {""}):
        yield _check_extra(extra, by_extra[extra])


def _check_recording() -> CheckResult:
    if COMPILED is not None:
        return CheckResult.passed(_INSTALLATION, "recording is compiled")
    finding = f"recording is Python's, three times slower: {WHY_NOT}"
    return CheckResult.skipped(_INSTALLATION, finding, ADVICE or None)


def _requirements_by_extra() -> dict[str, list[str]]:
    """Sort fillpath's requirements by the extra that asks for them, "" being the base install."""
    by_extra: dict[str, list[str]] = {}
    for line in requirements():
        requirement, _, marker = line.partition(";")
        named = _EXTRA.search(marker)
        by_extra.setdefault(named[1] if named else "", []).append(requirement.strip())
    return by_extra


def _check_extra(extra: str, lines: list[str]) -> CheckResult:
    others = [line for line in lines if not line.startswith(f"{DISTRIBUTION}[")]
    problems = [problem for line in others if (problem := _problem(line))]
    missing = [line for line in others if installed_version(_name(line)) is None]
    install = f"pip install '{DISTRIBUTION}[{extra}]'"
    if missing:
        return CheckResult.skipped(_INSTALLATION, f"extra {extra} is not installed", install)
    if problems:
        return CheckResult.failed(_INSTALLATION, "\n".join(problems), install)
    found = ", ".join(f"{_name(line)} {installed_version(_name(line))}" for line in others)
    engines = [line for line in others if _name(line) in ENGINES]
    supported = ", ".join(f"{_range(line)} is supported" for line in engines)
    more = f" ({supported})" if supported else ""
    return CheckResult.passed(_INSTALLATION, f"extra {extra}: {found}{more}")


def _name(requirement: str) -> str:
    matched = re.match(r"[A-Za-z0-9._-]+", requirement)
    return matched[0] if matched else requirement


def _range(requirement: str) -> str:
    """The versions that a requirement takes, the oldest first."""
    limits = requirement.removeprefix(_name(requirement)).split(",")
    return ",".join(sorted((limit.strip() for limit in limits), reverse=True))


def _problem(line: str) -> str | None:
    """Say what is wrong with an installed distribution, if something is."""
    from packaging.requirements import Requirement

    requirement = Requirement(line)
    version = installed_version(requirement.name)
    if version is None:
        return f"{requirement.name} is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{requirement.name} is {version}, but {requirement.specifier} is needed"
    return None


def check_data_folder(folder: DataFolder) -> Iterator[CheckResult]:
    """Check that the data folder can be written, without making it."""
    path = folder.path
    if path.exists() and not path.is_dir():
        advice = f"another folder, with --data or {ENV_DATA}"
        yield CheckResult.failed(_FOLDER, f"{path} is not a folder", advice)
        return
    place = path if path.exists() else _nearest(path)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        finding = f"{path} cannot be written: {error.strerror or error}"
        yield CheckResult.failed(_FOLDER, finding, f"another folder, with --data or {ENV_DATA}")
        return
    free = shutil.disk_usage(place).free
    space = f"{free / (1 << 30):.1f} GiB free"
    if free < _LITTLE_SPACE:
        yield CheckResult.failed(_FOLDER, f"{path} has only {space}", "more room on that disk")
    elif path.exists():
        yield CheckResult.passed(_FOLDER, f"{path} can be written, {space}")
    else:
        yield CheckResult.passed(_FOLDER, f"{path} can be made, {space}")


def _nearest(path: Path) -> Path:
    """Find the folder in which the missing ones would be made."""
    return next(
        (parent for parent in path.parents if os.path.lexists(parent)), Path(path.anchor or ".")
    )
