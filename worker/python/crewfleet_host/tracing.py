"""CrewAI's own traces, kept to who asked for them: CREWAI_TRACING_ENABLED, Crew(tracing=True).

For a user who runs it for the first time, older CrewAIs collect a kickoff's prompts and ask, for 20 s, whether to send them. Their
storage tells them who is new, and every kickoff has a new storage. Some (1.4.1) listen from their import on, and send without
having asked.
"""

import os
from typing import Any

from . import context_defaults
from .event_bus import bus
from .optional import module

_LISTENER = "crewai.events.listeners.tracing.trace_listener"
# What says after each kickoff, to whoever has run one before, that it was not traced.
_HINT = "_show_tracing_disabled_message"
_HINTING = (("crewai.crew", "Crew"), ("crewai.flow.flow", "Flow"), (_LISTENER, "TraceCollectionListener"))
_HANDLERS = ("_handlers", "_sync_handlers", "_async_handlers")


def only_where_asked_for() -> None:
    """Once crewai is imported: no kickoff is a user's first, and what listens from the import on is off until a crew turns it on."""
    utils = module("crewai.events.listeners.tracing.utils")
    if not hasattr(utils, "is_first_execution") or utils.is_first_execution is _never:
        return
    if hasattr(utils, "_is_interactive_terminal"):  # such versions ask nobody where no terminal is
        return
    utils.is_first_execution = _never
    context_defaults.set_default(utils.__name__, "_suppress_tracing_messages", True)
    for name, kind in _HINTING:
        hinting = getattr(module(name), kind, None)
        if hasattr(hinting, _HINT):
            setattr(hinting, _HINT, staticmethod(_say_nothing))
    listener: Any = getattr(getattr(module(_LISTENER), "TraceCollectionListener", None), "_instance", None)
    if not getattr(listener, "_listeners_setup", False) or os.environ.get("CREWAI_TRACING_ENABLED", "").lower() in ("true", "1"):
        return
    if not _forget_handlers(bus()):
        return
    listener._listeners_setup = False  # a crew that is traced sets them up again
    if hasattr(listener, "first_time_handler"):
        listener.first_time_handler.is_first_time = False


def _forget_handlers(of: Any) -> bool:
    """Takes the trace listener's handlers from the bus; False where that keeps them otherwise."""
    tables = [table for name in _HANDLERS if isinstance(table := getattr(of, name, None), dict)]
    for table in tables:
        for event, handlers in list(table.items()):
            if isinstance(handlers, (list, frozenset)):
                table[event] = type(handlers)(handler for handler in handlers if getattr(handler, "__module__", None) != _LISTENER)
    return bool(tables)


def _say_nothing(*_self: Any) -> None:
    return None


def _never() -> bool:
    return False
