"""Finds out which version of a strategy's code a run is made with.

Git's own files are read; no program is started, and whatever is odd about them means that nothing
is known. Whether files differ from the commit cannot be told so: that would take a look at all of
them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from fillpath.instrumentation.settings import ENV_CODE_VERSION, ENV_OTEL_RESOURCE_ATTRIBUTES

_COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_MOST_BYTES: Final = 8_000_000
_MOST_LINKS: Final = 5


def find_code_version(folder: Path | None = None) -> str | None:
    """Give the version of the code: what the environment says, else the git commit of a folder.

    ``service.version`` of ``OTEL_RESOURCE_ATTRIBUTES`` comes first, then
    ``FILLPATH_CODE_VERSION``. Never raises.

    Args:
        folder: Where the code is; the folder of the running script when left out.
    """
    named = _service_version(os.environ) or os.environ.get(ENV_CODE_VERSION, "").strip()
    if named:
        return named
    try:
        return git_commit(folder or _script_folder())
    except (OSError, ValueError, RuntimeError):
        return None


def git_commit(folder: Path) -> str | None:
    """Read the commit that is checked out in a folder, or in one that it lies in.

    Raises:
        OSError: A file cannot be read.
        ValueError: It is not what git writes.
    """
    start = folder.resolve()
    for place in (start, *start.parents):
        if (place / ".git").exists():
            return _head(_git_folder(place / ".git"))
    return None


def _git_folder(found: Path) -> Path:
    """Give the folder itself; in a worktree or submodule it is a file that names it."""
    if found.is_dir():
        return found
    text = _read(found)
    if not text.startswith("gitdir:"):
        raise ValueError("not a link to git's folder")
    return found.parent / text.removeprefix("gitdir:").strip()


def _head(git: Path) -> str | None:
    common = git
    if (git / "commondir").is_file():
        common = git / _read(git / "commondir").strip()
    name = "HEAD"
    for _ in range(_MOST_LINKS):
        text = ""
        for place in (git, common):
            if (place / name).is_file():
                text = _read(place / name).strip()
                break
        if _COMMIT.fullmatch(text):
            return text
        if not text.startswith("ref:"):
            return _packed(common, name)
        name = text.removeprefix("ref:").strip()
        if ".." in name or name.startswith("/"):
            return None
    return None


def _packed(common: Path, name: str) -> str | None:
    if not (common / "packed-refs").is_file():
        return None
    for line in _read(common / "packed-refs").splitlines():
        commit, _, ref = line.partition(" ")
        if ref.strip() == name and _COMMIT.fullmatch(commit):
            return commit
    return None


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as stream:
        return stream.read(_MOST_BYTES)


def _service_version(environ: Mapping[str, str]) -> str | None:
    for part in environ.get(ENV_OTEL_RESOURCE_ATTRIBUTES, "").split(","):
        key, _, value = part.partition("=")
        if key.strip() == "service.version" and value.strip():
            return unquote(value.strip())
    return None


def _script_folder() -> Path:
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    return Path(file).parent if isinstance(file, str) else Path.cwd()
