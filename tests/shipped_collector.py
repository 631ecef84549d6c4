"""The Collector with the configuration that is shipped, `otel-collector-config.yaml`, for tests."""

from __future__ import annotations

import base64
import re
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData
from real_backends import ROOT, Jaeger, Server, free_port, get_json, program

CONFIG: Final = ROOT / "otel-collector-config.yaml"
_EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class ShippedCollector(Server):
    """The Collector with the shipped configuration, sending to a Jaeger.

    Args:
        folder: Where its queue and its log go.
        jaeger: Where it sends to.
        config: The configuration, when it was changed.
        options: Further options of its command line.
        environment: Further variables.

    Attributes:
        otlp_grpc: Address that takes OTLP by gRPC.
        otlp_http: URL that takes OTLP by HTTP, without `/v1/traces`.
        ports: The ports that it was told to listen on.
    """

    def __init__(
        self,
        folder: Path,
        jaeger: Jaeger,
        config: Path = CONFIG,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        grpc_port, http_port, metrics, telemetry, health = self.ports = [
            free_port() for _ in range(5)
        ]
        self.otlp_grpc = f"127.0.0.1:{grpc_port}"
        self.otlp_http = f"http://127.0.0.1:{http_port}"
        self._metrics = f"http://127.0.0.1:{metrics}/metrics"
        self._telemetry = f"http://127.0.0.1:{telemetry}/metrics"
        self._health = f"http://127.0.0.1:{health}"
        super().__init__(
            [program("otelcol"), "--config", config, *options],
            folder / "collector.log",
            {
                "OTELCOL_OTLP_GRPC_ENDPOINT": self.otlp_grpc,
                "OTELCOL_OTLP_HTTP_ENDPOINT": f"127.0.0.1:{http_port}",
                "OTELCOL_PROMETHEUS_ENDPOINT": f"127.0.0.1:{metrics}",
                "OTELCOL_TELEMETRY_PORT": str(telemetry),
                "OTELCOL_HEALTH_ENDPOINT": f"127.0.0.1:{health}",
                "OTELCOL_QUEUE_FOLDER": str(folder / "queue"),
                "JAEGER_OTLP_ENDPOINT": jaeger.otlp_grpc,
                **(environment or {}),
            },
        )

    def is_ready(self) -> bool:
        """Tell whether its health check answers."""
        return self.health() is not None

    def health(self) -> Any:
        """Give what the health check answers."""
        return get_json(self._health)

    def metrics(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """Give the metrics of spans and of fillpath: samples by name, with their labels."""
        return _samples(self._metrics)

    def open_metrics(self) -> str:
        """Give these metrics in the format that also names traces."""
        asked = urllib.request.Request(  # noqa: S310 - it is http
            self._metrics, headers={"Accept": "application/openmetrics-text"}
        )
        with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 - it is http
            return str(answer.read(), "utf-8")

    def telemetry(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """Give the metrics of the Collector itself."""
        return _samples(self._telemetry)

    def send(self, request: bytes, protocol: str = "http/protobuf") -> None:
        """Send a request, and see that all of it is taken."""
        if protocol == "grpc":
            with grpc.insecure_channel(self.otlp_grpc) as channel:
                taken = channel.unary_unary(_EXPORT)(request, timeout=20)
        else:
            http = urllib.request.Request(  # noqa: S310 - it is http
                f"{self.otlp_http}/v1/traces",
                request,
                {"Content-Type": "application/x-protobuf"},
            )
            with urllib.request.urlopen(http, timeout=20) as answered:  # noqa: S310 - it is http
                taken = answered.read()
        answer = ExportTraceServiceResponse.FromString(taken)
        assert not answer.partial_success.rejected_spans, answer


def _samples(url: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - it is http
        text = answer.read().decode()
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()  # type: ignore[union-attr]
        found = dict(_LABEL.findall(labels or ""))
        samples.setdefault(name, []).append((found, float(value)))
    return samples


def spans_of(requests: Iterable[bytes]) -> dict[str, tuple[Any, Span]]:
    """Give the spans of requests by their id in hex, each with its resource's attributes."""
    return _by_id(
        group
        for request in requests
        for group in ExportTraceServiceRequest.FromString(request).resource_spans
    )


def spans_in_jaeger(jaeger: Jaeger, trace_ids: Iterable[str]) -> dict[str, tuple[Any, Span]]:
    """Give what Jaeger has of some traces, in the form of `spans_of`."""
    traces = (jaeger.otlp_trace(trace_id) for trace_id in trace_ids)
    return spans_of_json(trace for trace in traces if trace is not None)


def spans_of_json(documents: Iterable[dict[str, Any]]) -> dict[str, tuple[Any, Span]]:
    """Give the spans of parsed OTLP JSON, in the form of `spans_of`."""
    groups: list[Any] = []
    for document in documents:
        _ids_to_base64(document)
        groups += json_format.ParseDict(document, TracesData()).resource_spans
    return _by_id(groups)


def trace_ids(spans: dict[str, tuple[Any, Span]]) -> set[str]:
    """Give the traces that spans belong to, in hex."""
    return {span.trace_id.hex() for _, span in spans.values()}


def attributes(item: Any) -> dict[str, Any]:
    """Give the attributes of a span, an event, a link or a resource as Python values."""
    return {pair.key: _value(pair.value) for pair in item.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}
    return getattr(value, kind) if kind else None


def _by_id(groups: Iterable[Any]) -> dict[str, tuple[Any, Span]]:
    found: dict[str, tuple[Any, Span]] = {}
    for group in groups:
        for scope in group.scope_spans:
            for span in scope.spans:
                # An empty status is none, and the order of attributes tells nothing.
                span.status.SetInParent()
                for item in (span, *span.events, *span.links):
                    pairs = sorted(item.attributes, key=lambda pair: pair.key)
                    del item.attributes[:]
                    item.attributes.extend(pairs)
                assert span.span_id.hex() not in found, "a span is there twice"
                found[span.span_id.hex()] = (attributes(group.resource), span)
    return found


def _ids_to_base64(item: Any) -> None:
    """OTLP's JSON has ids in hex, where that of protobuf has base64."""
    if isinstance(item, list):
        for one in item:
            _ids_to_base64(one)
    elif isinstance(item, dict):
        for key, one in item.items():
            if key in {"traceId", "spanId", "parentSpanId"}:
                item[key] = base64.b64encode(bytes.fromhex(one)).decode()
            else:
                _ids_to_base64(one)
