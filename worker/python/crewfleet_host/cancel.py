"""The cooperative stop: at CrewAI's next step, model call or tool call, a hook aborts, which no agent retries."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import human_input
from .chain import origins
from .optional import module

_HOOK_POINTS = ("PRE_STEP", "PRE_MODEL_CALL", "PRE_TOOL_CALL")


class Cancelled(Exception):
    """The stop came before the crew was started."""


class Cancel:
    """Whether the worker wants the current kickoff stopped; set by the thread that reads the channel."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        """The kickoff is to stop at its next hook point."""
        self._asked.set()

    def forget(self) -> None:
        """A new kickoff has come."""
        self._asked.clear()

    def check(self) -> None:
        """Raises Cancelled when the stop was asked for."""
        if self._asked.is_set():
            raise Cancelled("cancelled before the crew was started")

    @contextmanager
    def at_hook_points(self) -> Iterator[None]:
        """Within it, the crews of this process stop at their next hook point, those in threads of their own too. So they do after a
        question to a person that CrewAI took for a failure. A CrewAI without hooks, or no CrewAI, runs on."""
        dispatch = module("crewai.hooks.dispatch")
        points = getattr(dispatch, "InterceptionPoint", None)
        if points is None or not hasattr(dispatch, "register"):
            yield
            return

        def stop_if_asked(_context: Any) -> None:
            if self._asked.is_set():
                raise dispatch.HookAborted("the kickoff was cancelled", source="crewfleet")
            try:
                human_input.check_swallowed()
            except human_input.HumanInputNeeded as needed:
                raise dispatch.HookAborted(str(needed), source="crewfleet") from needed

        hook_points = [getattr(points, name) for name in _HOOK_POINTS if hasattr(points, name)]
        for hook_point in hook_points:
            dispatch.register(hook_point, stop_if_asked)
        try:
            yield
        finally:
            for hook_point in hook_points:
                dispatch.unregister(hook_point, stop_if_asked)

    def caused(self, error: BaseException) -> bool:
        """Whether `error` is the stop that was asked for, and not a failure of the crew's own."""
        if not self._asked.is_set():
            return False
        aborted = getattr(module("crewai.hooks.dispatch"), "HookAborted", Cancelled)
        return any(isinstance(link, (aborted, Cancelled)) for link in origins(error))
