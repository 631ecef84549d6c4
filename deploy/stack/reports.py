"""Serves the reports of a data folder on loopback, for the links that Jaeger has to them.

`python reports.py PORT FOLDER`. It reads only, and of the folder only what `fillpath report` writes
there: files that end in `.html`.
"""

from __future__ import annotations

import html
import shutil
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

_SUFFIX: Final = ".html"
# Of a page elsewhere whose name leads to 127.0.0.1, the name is in `Host`: it may read nothing.
_OURS: Final = frozenset({"127.0.0.1", "localhost"})


class ReportsHandler(BaseHTTPRequestHandler):
    """Answers `GET` and `HEAD`: `/` lists the reports, `/RUN.html` is one."""

    folder: Path
    server_version = "fillpath"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with a page."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Say what a page would be."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in _OURS:
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        name = unquote(urlsplit(self.path).path)[1:]
        if not name:
            listing = self._listing()
            self._begin(len(listing))
            if with_body:
                self.wfile.write(listing)
            return
        if not _is_report(name):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            with (self.folder / name).open("rb") as page:
                self._begin((self.folder / name).stat().st_size)
                if with_body:
                    shutil.copyfileobj(page, self.wfile)
        except (OSError, ValueError):
            self.send_error(
                HTTPStatus.NOT_FOUND,
                explain="There is no report of this run here: fillpath report RUN writes it.",
            )

    def _begin(self, size: int) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(size))
        self.send_header("Cache-Control", "no-cache")  # a run is reported again under its name
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()

    def _listing(self) -> bytes:
        names = sorted(path.name for path in self.folder.glob(f"*{_SUFFIX}") if path.is_file())
        items = "".join(
            f'<li><a href="/{quote(name, safe="")}">{html.escape(name.removesuffix(_SUFFIX))}</a>'
            for name in names
            if _is_report(name)
        )
        said = f"<ul>{items}</ul>" if items else "<p>None yet: fillpath report RUN writes one."
        page = f"<!doctype html><meta charset=utf-8><title>Reports</title><h1>Reports</h1>{said}\n"
        return page.encode("utf-8", errors="replace")


def _is_report(name: str) -> bool:
    return name.endswith(_SUFFIX) and not name.startswith(".") and not {"/", "\\", "\0"} & {*name}


def serve(port: int, folder: Path) -> None:
    """Serve the reports of a folder until the process is ended; it need not exist yet."""
    handler = type("Handler", (ReportsHandler,), {"folder": folder})
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.daemon_threads = True
        server.serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
