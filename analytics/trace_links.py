"""Links from a trace to the same trace in a viewer: Jaeger, Grafana, or what a template names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.settings import ENV_TRACE_LINKS, ENV_TRACE_URL

_MARGIN_MS: Final = 300_000
"""How much earlier and later than the trace Grafana is told to look, in milliseconds."""
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_NOT_IN_A_URL: Final = re.compile(r"[^!-~]|[\"<>\\^`|]")


@dataclass(frozen=True, slots=True)
class TracePlace:
    """What a link needs to know of a trace; times in nanoseconds since the epoch.

    Args:
        trace_id: In hex.
        run_id: The run it is in.
        span_id: The span that the viewer should point at, in hex; empty for none.
        portfolio: Portfolio namespace; empty for none, or several.
        start: Wall clock at its beginning.
        end: Wall clock at its end.
    """

    trace_id: str
    run_id: str
    span_id: str = ""
    portfolio: str = ""
    start: int = 0
    end: int = 0

    def values(self) -> dict[str, str]:
        """What stands for each placeholder of a template."""
        first, last = self.start // 1_000_000, -(-self.end // 1_000_000)
        return {
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "run_id": self.run_id,
            "portfolio": self.portfolio,
            "start_ms": str(first),
            "end_ms": str(last),
            "from_ms": str(max(0, first - _MARGIN_MS)),
            "to_ms": str(last + _MARGIN_MS),
        }


PLACEHOLDERS: Final = tuple(TracePlace("", "").values())
"""What a template may have in braces."""


@dataclass(frozen=True, slots=True)
class TraceLink:
    """A viewer, and how to make the address of a trace in it.

    Args:
        name: What a person calls it.
        template: An http or https URL with placeholders, such as `{trace_id}`.
    """

    name: str
    template: str

    def url(self, place: TracePlace) -> str:
        """Address of a trace; what stands for a placeholder is percent-encoded."""
        values = place.values()
        return _PLACEHOLDER.sub(lambda found: _quoted(values[found[1]]), self.template)


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="replace")  # a host's name may be no valid Unicode


def _explore(kind: str, uid: str, **query: str) -> str:
    """Path of Grafana's Explore with one query of a data source, which goes by its uid."""
    pane = {
        "datasource": uid,
        "queries": [
            {"refId": "A", "datasource": {"type": kind, "uid": uid}, **query},
        ],
        "range": {"from": "@from_ms@", "to": "@to_ms@"},
    }
    written = quote(json.dumps({"trace": pane}, separators=(",", ":")), safe="")
    placed = re.sub(r"%40([a-z_]+)%40", r"{\1}", written)
    return f"/explore?schemaVersion=1&orgId=1&panes={placed}"


_BUILT_IN: Final[Mapping[str, tuple[str, str]]] = {
    "jaeger": ("http://127.0.0.1:16686", "/trace/{trace_id}?uiFind={span_id}"),
    "grafana": ("http://127.0.0.1:3000", _explore("jaeger", "fillpath-traces", query="@trace_id@")),
    "tempo": (
        "http://127.0.0.1:3000",
        _explore("tempo", "tempo", queryType="traceql", query="@trace_id@"),
    ),
}
"""Viewers that need no template: where they are unless told otherwise, and what comes after."""


def configured_links(environment: Mapping[str, str] | None = None) -> tuple[TraceLink, ...]:
    """Give the viewers that the environment names, the one of `FILLPATH_TRACE_URL` first.

    Args:
        environment: Environment variables; those of this process when left out.

    Raises:
        UsageError: One of them is not the address of a viewer.
    """
    given = os.environ if environment is None else environment
    links: dict[str, TraceLink] = {}
    url = given.get(ENV_TRACE_URL, "").strip()
    if url:
        link = _link("jaeger", url, ENV_TRACE_URL)
        host = urlsplit(_PLACEHOLDER.sub("x", url)).hostname or "viewer"
        links[""] = link if "{" not in url else TraceLink(host, link.template)
    for word in given.get(ENV_TRACE_LINKS, "").split():
        name, sign, address = word.partition("=")
        if not sign or not _NAME.fullmatch(name):
            raise UsageError(
                f"{ENV_TRACE_LINKS} has '{word}', which is not NAME=URL.",
                next_command=f"export {ENV_TRACE_LINKS}='jaeger=http://127.0.0.1:16686'",
            )
        links[name] = _link(name, address, ENV_TRACE_LINKS)
    return tuple(links.values())


def link_to(name: str | None, environment: Mapping[str, str] | None = None) -> TraceLink:
    """Give a viewer by name, configured or built in; without a name the first, else Jaeger.

    Raises:
        UsageError: There is none of that name, or the environment's are no addresses.
    """
    links = configured_links(environment)
    if name is None:
        return links[0] if links else built_in("jaeger")
    for link in links:
        if link.name == name:
            return link
    if name in _BUILT_IN:
        return built_in(name)
    known = ", ".join(dict.fromkeys([*(link.name for link in links), *_BUILT_IN]))
    raise UsageError(
        f"There is no viewer '{name}'. Known: {known}.",
        next_command=f"export {ENV_TRACE_LINKS}='NAME=https://HOST/PATH/{{trace_id}}'",
    )


def built_in(name: str) -> TraceLink:
    """Give a viewer that needs no template, at its usual address."""
    return TraceLink(name, "".join(_BUILT_IN[name]))


def _link(name: str, address: str, variable: str) -> TraceLink:
    """Make a link of a template, or of the mere address of a viewer that is built in."""
    problem = _problem(name, address)
    if problem is not None:
        raise UsageError(
            f"{variable} has no good address for {name}: {problem}.",
            next_command=f"export {variable}={_example(variable)}",
        )
    if "{" not in address:
        address = address.rstrip("/") + _BUILT_IN[name][1]
    return TraceLink(name, address)


def _problem(name: str, address: str) -> str | None:
    """Say what is wrong with a template; its text is not repeated, since it may hold a secret."""
    if _NOT_IN_A_URL.search(address):
        return "it has a character that a URL does not have"
    try:
        parts = urlsplit(_PLACEHOLDER.sub("x", address))
        host = parts.hostname
    except ValueError:
        return "it is no URL"
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        return "its port is no number from 1 to 65535"
    if parts.scheme not in {"http", "https"} or not host:
        return "it does not begin with http://HOST or https://HOST"
    if parts.username is not None or parts.password is not None:
        return "it has a name or a password in it, which would stand in every report"
    if "{" in urlsplit(address).netloc:
        return "its host has a placeholder"
    unknown = [word for word in _PLACEHOLDER.findall(address) if word not in PLACEHOLDERS]
    if unknown or re.search(r"[{}]", _PLACEHOLDER.sub("", address)):
        return f"it has other braces than {{{'}, {'.join(PLACEHOLDERS)}}}"
    if "{trace_id}" not in address and ("{" in address or name not in _BUILT_IN):
        return "it has no {trace_id}"
    return None


def _example(variable: str) -> str:
    url = "http://127.0.0.1:16686/trace/{trace_id}"
    return f"'{url}'" if variable == ENV_TRACE_URL else f"'jaeger={url}'"


def link_document(link: TraceLink, place: TracePlace) -> dict[str, Any]:
    """Give a link and what it leads to as a document."""
    return {
        "viewer": link.name,
        "url": link.url(place),
        "trace_id": place.trace_id,
        "span_id": place.span_id or None,
        "run_id": place.run_id,
        "portfolio": place.portfolio or None,
    }
