"""The cooperative stop: at CrewAI's next step, model call or tool call, a hook aborts, which no agent retries."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import crewai_quiet
from .errors import origins

_SEAMS = ("PRE_STEP", "PRE_MODEL_CALL", "PRE_TOOL_CALL")


class Cancelled(Exception):
    """The stop came before the crew was started."""


class Cancel:
    """Whether the worker wants the current kickoff stopped; set by the thread that reads the channel."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        """The kickoff is to stop at its next seam."""
        self._asked.set()

    def forget(self) -> None:
        """A new kickoff has come."""
        self._asked.clear()

    def check(self) -> None:
        """Raises Cancelled when the stop was asked for."""
        if self._asked.is_set():
            raise Cancelled("cancelled before the crew was started")

    @contextmanager
    def at_seams(self) -> Iterator[None]:
        """Within it, crews of this context stop at their next seam. A CrewAI without hooks, or no CrewAI, runs on."""
        dispatch = crewai_quiet.module("crewai.hooks.dispatch")
        points = getattr(dispatch, "InterceptionPoint", None)
        if points is None or not hasattr(dispatch, "scoped_hooks"):
            yield
            return

        def stop_if_asked(_context: Any) -> None:
            if self._asked.is_set():
                raise dispatch.HookAborted("the kickoff was cancelled", source="crewfleet")

        seams = [getattr(points, name) for name in _SEAMS if hasattr(points, name)]
        with dispatch.scoped_hooks({seam: [stop_if_asked] for seam in seams}):
            yield

    def caused(self, error: BaseException) -> bool:
        """Whether `error` is the stop that was asked for, and not a failure of the crew's own."""
        if not self._asked.is_set():
            return False
        aborted = getattr(crewai_quiet.module("crewai.hooks.dispatch"), "HookAborted", Cancelled)
        return any(isinstance(link, (aborted, Cancelled)) for link in origins(error))
