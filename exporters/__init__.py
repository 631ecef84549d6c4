"""Writes recorded event spans to the lake and to OpenTelemetry backends."""
