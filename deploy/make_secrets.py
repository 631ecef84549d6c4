"""Make the passwords that docker-compose.yml asks for: `make secrets`, or run it with any Python 3.

Each is made once, at random, in a file of its own in a folder that only its owner enters, and is
never made again or printed: the volumes remember the first one. `.env`, which `docker compose`
reads by itself, says where the folder is.
"""

from __future__ import annotations

import re
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER_NAME = ".fillpath-secrets"
VARIABLE = "FILLPATH_SECRETS"
PASSWORDS = ("postgres_password", "results_password", "dashboards_password", "grafana_password")
_RANDOM_BYTES = 24


def make_secrets(root: Path) -> list[str]:
    """Make what is not there yet; give the names of the files that were made.

    Raises:
        OSError: A file cannot be written.
    """
    folder = root / FOLDER_NAME
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    # Programs in containers read them under accounts of their own; the folder keeps others out.
    made = [
        name
        for name in PASSWORDS
        if _write_new(folder / name, secrets.token_urlsafe(_RANDOM_BYTES), mode=0o444)
    ]
    password = (folder / "results_password").read_text(encoding="ascii")
    # libpq reads it only if nobody else may.
    if _write_new(folder / "pgpass", f"*:*:*:fillpath:{password}\n", mode=0o600):
        made.append("pgpass")
    environment = root / ".env"
    text = environment.read_text(encoding="utf-8") if environment.exists() else ""
    if not re.search(rf"(?m)^\s*(export\s+)?{VARIABLE}=", text):
        start = text if not text or text.endswith("\n") else f"{text}\n"
        environment.write_text(f"{start}{VARIABLE}=./{FOLDER_NAME}\n", encoding="utf-8")
        made.append(".env")
    return made


def _write_new(path: Path, text: str, *, mode: int) -> bool:
    if path.exists():
        return False
    # What is there is whole: an empty password would never be made again.
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(text, encoding="ascii")
    new.chmod(mode)
    new.replace(path)
    return True


if __name__ == "__main__":
    try:
        names = make_secrets(ROOT)
    except OSError as error:
        sys.exit(f"fillpath: the passwords cannot be made: {error}.")
    said = f"made {', '.join(names)}" if names else "they were there already"
    sys.stdout.write(f"Passwords are in {FOLDER_NAME}/: {said}.\nNext: docker compose up --wait\n")
