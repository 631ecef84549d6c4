"""Describes the machine that figures were measured on."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from fillpath.instrumentation.compiled_rows import COMPILED

_PACKAGES: Final = (
    "opentelemetry-sdk", "protobuf", "pyarrow", "deltalake", "duckdb", "pandas", "nautilus_trader",
    "backtrader", "zipline-reloaded", "backtesting", "basana",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """Processor, cores, memory, load, and the versions of what was measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "recording": "Python's" if COMPILED is None else "compiled",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": dict(_versions()),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):  # an engine
            yield name, metadata.version(name)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
