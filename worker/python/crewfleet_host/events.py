"""CrewAI's events of one kickoff, sent slim: who did what and how long, never prompts or answers."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import Any

from . import context_defaults, event_bus
from .errors import class_name
from .frames import Channel
from .names import Names
from .optional import module
from .usage import Usage, tokens
from .webhooks import Told

_MAX_TEXT = 500
_MAX_NAME = 100
# Ours: every cancel check would be reported.
_SILENT = frozenset({"hook_dispatched"})


@contextmanager
def forwarded(kickoff_id: str, channel: Channel, usage: Usage, traced: bool, names: Names, told: Told | None = None) -> Iterator[None]:
    """Within it, the events of this process go to `channel`, their usage to `usage`, and `names` learns from them.

    `traced`: with what the worker needs to make spans of them. `told` hears of each, too. Nothing happens where CrewAI is too old.
    """
    execution = module("crewai.execution")
    stream = module("crewai.events.stream_context")
    execution_token = execution.set_execution_uuid(kickoff_id) if hasattr(execution, "set_execution_uuid") else None
    sink = EventSink(channel, usage, traced, names, told)
    everywhere = context_defaults.forward_all(sink)
    sink_token = stream.add_stream_sink(sink) if not everywhere and hasattr(stream, "add_stream_sink") else None
    event_bus.revive()
    try:
        with nullcontext() if hasattr(stream, "add_stream_sink") else event_bus.heard_by(sink):
            yield
    finally:
        context_defaults.forward_all(None)
        if sink_token is not None:
            stream.reset_stream_sinks(sink_token)
        if execution_token is not None:
            execution.clear_execution_uuid(execution_token)


class EventSink:
    """Called by CrewAI with each event, in order, in the thread that emits it; so it must never raise."""

    def __init__(self, channel: Channel, usage: Usage, traced: bool, names: Names, told: Told | None = None) -> None:
        self._channel = channel
        self._usage = usage
        self._traced = traced
        self._names = names
        self._told = told
        self._started: dict[str, datetime] = {}
        self._complained = False

    def __call__(self, source: Any, event: Any) -> None:
        try:
            self._forward(source, event)
        except MemoryError:  # the crew will meet it too
            return
        except Exception as error:
            if not self._complained:
                self._complained = True
                sys.stderr.write(f"an event of CrewAI's could not be sent: {type(error).__name__}: {error}\n")

    def _forward(self, source: Any, event: Any) -> None:
        event_type = str(getattr(event, "type", type(event).__name__))
        if event_type in _SILENT:
            return
        if event_type.endswith("_started"):
            self._names.learn(source, event)
            self._usage.watch(source, getattr(event, "agent", None))
        elif event_type == "llm_call_completed":
            self._usage.add(event, source)
        data = slim(event, self._names)
        duration_s = self._duration_s(event_type, event)
        if duration_s is not None:
            data["duration_s"] = duration_s
        frame = {"type": "event", "event_type": event_type[:_MAX_NAME], "data": data}
        if self._traced and getattr(event, "event_id", None):  # without one, no span can name what it belongs to
            frame["trace"] = mark(source, event, self._names)
        self._channel.send(frame)
        if self._told is not None:
            self._told.hear(event_type, event)

    def _duration_s(self, event_type: str, event: Any) -> float | None:
        """Seconds since the event that this one ends; None where CrewAI's events don't say which one that is."""
        at = getattr(event, "timestamp", None)
        if not isinstance(at, datetime):
            return None
        if event_type.endswith("_started"):
            self._started[str(getattr(event, "event_id", None))] = at
            return None
        ends = getattr(event, "started_event_id", None)
        started = self._started.pop(str(ends), None) if ends is not None else None
        return round((at - started).total_seconds(), 3) if started is not None else None


def slim(event: Any, names: Names) -> dict[str, Any]:
    """The fields of `event` worth sending; those it does not have are left out."""
    data: dict[str, Any] = {}
    for name, value in (
        ("crew", _first(event, "crew_name")),
        ("flow", _first(event, "flow_name")),
        ("method", _first(event, "method_name")),
        ("task", names.task(event)),
        ("agent", names.agent(event)),
        ("tool", _first(event, "tool_name")),
        ("model", _first(event, "model")),
        ("call_id", _first(event, "call_id")),
    ):
        if value:
            data[name] = _line(value)
    error, chunk = getattr(event, "error", None), getattr(event, "chunk", None)
    if error is not None:
        data["error"] = names.without_prompts(str(error))[:_MAX_TEXT]
    if chunk is not None:  # of the answer, as it comes; whole, since its reader joins them
        data["chunk"] = str(chunk)
    usage = tokens(getattr(event, "usage", None))
    if usage is not None:
        data["usage"] = {name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    if getattr(event, "from_cache", False) is True:
        data["from_cache"] = True
    return data


def mark(source: Any, event: Any, names: Names) -> dict[str, Any]:
    """What a span needs beside the slim event: what it belongs to or ends, when, and names that have no inputs in them."""
    at = getattr(event, "timestamp", None)
    fields = {
        "id": _first(event, "event_id"),
        "parent": _first(event, "parent_event_id"),
        "ends": _first(event, "started_event_id"),
        "time": at.timestamp() if isinstance(at, datetime) else None,
        "task": names.task(event),
        "agent": names.agent(event),
        "provider": _provider(source) if hasattr(event, "call_id") else None,
        "error_type": _error_type(event),
    }
    return {name: _line(value) if isinstance(value, str) else value for name, value in fields.items() if value is not None}


def _provider(model: Any) -> str | None:
    """Who serves a model. CrewAI's own classes know; one of a crew's own is OpenAI's to CrewAI unless it says otherwise."""
    kind = _first(model, "llm_type")
    return _first(model, "provider") if kind == "litellm" else "custom" if kind == "base" else kind


def _error_type(event: Any) -> str | None:
    """The class of an exception, where the event has it; a tool may also say by itself that it failed."""
    error_type = getattr(event, "error_type", None)
    if isinstance(error_type, type):
        return class_name(error_type)
    return "tool_failure" if getattr(event, "failure", None) is not None else None


def _first(thing: Any, name: str) -> str | None:
    value = getattr(thing, name, None)
    return value if isinstance(value, str) and value else None


def _line(text: str) -> str:
    line = text.strip().split("\n", 1)[0]
    return line if len(line) <= _MAX_NAME else line[: _MAX_NAME - 1] + "…"
