"""W3C trace context, where the program has OpenTelemetry: the kickoff joins the trace of whoever starts it."""

from __future__ import annotations

import importlib


def headers() -> dict[str, str]:
    """`traceparent` and `tracestate` of the span that the caller is in; nothing without one."""
    try:
        propagate = importlib.import_module("opentelemetry.propagate")
    except ImportError:
        return {}
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return {name: carrier[name] for name in ("traceparent", "tracestate") if name in carrier}
