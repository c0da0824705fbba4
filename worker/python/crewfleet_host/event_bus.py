"""CrewAI's event bus where it is older than its stream sinks: its events, its thread, its console. Each only where it is so."""

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .optional import module

Sink = Callable[[Any, Any], None]


@contextmanager
def heard_by(sink: Sink) -> Iterator[None]:
    """Within it, `sink` gets each event of this process, in order, in the thread that emits it. Does nothing without a bus.

    Handlers would not do: later buses call them in threads of a pool, in any order, and each only for its one class of events.
    """
    found = bus()
    emit = getattr(found, "emit", None)
    if not callable(emit):
        yield
        return

    @functools.wraps(emit)
    def emit_and_tell(source: Any, event: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return emit(source, event, *arguments, **named)
        finally:
            sink(source, event)  # afterwards: the bus gives an event its parent and its beginning

    found.emit = emit_and_tell
    try:
        yield
    finally:
        del found.emit  # of the instance: the class has its own


def park() -> None:
    """In a process that will fork: ends the thread that some buses start when they are imported, since no fork has it."""
    found = bus()
    loop, thread = getattr(found, "_loop", None), getattr(found, "_loop_thread", None)
    if not isinstance(loop, asyncio.AbstractEventLoop) or not isinstance(thread, threading.Thread) or not thread.is_alive():
        return
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()  # or forks would share its descriptors


def revive() -> None:
    """In a child: starts again what `park` ended. Asynchronous handlers run there."""
    found = bus()
    loop, thread, run = (getattr(found, name, None) for name in ("_loop", "_loop_thread", "_run_loop"))
    if not isinstance(loop, asyncio.AbstractEventLoop) or not loop.is_closed() or not isinstance(thread, threading.Thread) or not callable(run):
        return
    found._loop = asyncio.new_event_loop()
    found._loop_thread = threading.Thread(target=run, name=thread.name, daemon=True)
    found._loop_thread.start()


def silence(quiet: bool) -> None:
    """No panels on stdout where CrewAI cannot be told so: they show prompts, and stdout is kept in the worker's log."""
    listener = getattr(module("crewai.events.event_listener"), "event_listener", None)
    for formatter in (getattr(listener, "formatter", None), getattr(bus(), "_console", None)):
        console: Any = getattr(formatter, "console", None)
        if hasattr(console, "quiet"):
            console.quiet = quiet
    formatters = module("crewai.events.utils.console_formatter")
    if isinstance(getattr(formatters, "Live", None), type):
        # Its display is drawn by a thread, which a kickoff would leave behind.
        formatters.Live = functools.partial(formatters.Live, auto_refresh=False)
    printer = getattr(module("crewai.utilities.printer"), "Printer", None)
    if printer is None:
        return
    # As it stands in the class: older ones have a method there, and newer ones a function.
    if _PRINT not in vars(printer):
        setattr(printer, _PRINT, vars(printer)["print"])
    printer.print = staticmethod(_nothing) if quiet else vars(printer)[_PRINT]


_PRINT = "_crewfleet_print"


def bus() -> Any:
    """The bus, None where there is none."""
    return getattr(module("crewai.events.event_bus"), "crewai_event_bus", None)


def _nothing(*_arguments: Any, **_named: Any) -> None:
    return None
