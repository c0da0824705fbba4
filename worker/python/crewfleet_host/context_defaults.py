"""CrewAI keeps in context variables what belongs to one kickoff, and threads do not inherit those. A child has one kickoff
at a time, so here they are the process's: a crew that a flow runs in a thread is seen, counted and stopped as any other.
"""

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from . import human_input
from .optional import module

Sink = Callable[[Any, Any], None]


class _CurrentSink:
    """Where the events of all threads go; nowhere between two kickoffs."""

    def __init__(self) -> None:
        self.sink: Sink | None = None

    def __call__(self, source: Any, event: Any) -> None:
        sink = self.sink
        if sink is not None:
            sink(source, event)


# Where CrewAI has the switch of its console.
_CONSOLES = ("crewai_core.printer", "crewai.events.utils.console_formatter")
_SUPPRESSED = "_suppress_console_output"
_events = _CurrentSink()
_replaced: set[tuple[str, str]] = set()
_lock = threading.Lock()


def widen() -> None:
    """Gives CrewAI's context variables defaults that hold in every thread. What a crew set by itself stays."""
    set_default("crewai.core.providers.human_input", "_provider", human_input.default_provider())
    set_default("crewai.events.stream_context", "_stream_sinks", (_events,))


def can_silence() -> bool:
    """Whether this CrewAI has a switch for its console."""
    return any(hasattr(module(name), f"set{_SUPPRESSED}") for name in _CONSOLES)


def silence(quiet: bool) -> None:
    """Whether CrewAI's own panels are kept from stdout: in every thread, also in those that are started later."""
    for module_name in _CONSOLES:
        holder = module(module_name)
        if type(getattr(holder, _SUPPRESSED, None)) is contextvars.ContextVar:
            setattr(holder, _SUPPRESSED, contextvars.ContextVar(_SUPPRESSED, default=quiet))


def forward_all(sink: Sink | None) -> bool:
    """Sends the events of all threads to `sink`, until called with None; False where this CrewAI cannot."""
    widen()
    _events.sink = sink
    return ("crewai.events.stream_context", "_stream_sinks") in _replaced


def set_default(module_name: str, name: str, default: Any) -> None:
    """Gives a context variable of CrewAI's a default that holds in every thread; does nothing where this CrewAI has none."""
    with _lock:
        holder = module(module_name)
        old = getattr(holder, name, None)
        if (module_name, name) in _replaced or type(old) is not contextvars.ContextVar:
            return
        _replaced.add((module_name, name))
        setattr(holder, name, contextvars.ContextVar(old.name, default=old.get(None) or default))
