"""The callbacks around a crew's kickoff: what they lose is their fault, and said so.

CrewAI passes what one `before_kickoff` callback returns to the next, and the last's to the texts: None runs the crew with
raw {PLACEHOLDERS}, an empty dict too. What an `after_kickoff` callback returns is the result: None loses it.
"""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

_RETURN_INPUTS = "return the dict of inputs from it, also where it changes the one it was given"
_RETURN_RESULT = "return the result from it, as in `return result`"


class CallbackError(Exception):
    """A callback loses inputs or the result; the message names it and the fix."""


class Before:
    """Follows the inputs through the `before_kickoff` callbacks of one kickoff."""

    def __init__(self, callbacks: list[Callable[[Any], Any]]) -> None:
        self.wrapped = [self._follow(callback) for callback in callbacks]
        self._lost: tuple[str, str] | None = None
        self._given: set[str] = set()

    def blame(self, missing: list[str]) -> CallbackError | None:
        """The error of the callback that lost one of `missing`; None when nobody ever gave them."""
        lost = [name for name in missing if name in self._given]
        if self._lost is None or not lost:
            return None
        name, how = self._lost
        return CallbackError(f"{name} {how}, so the crew lost its inputs {', '.join(lost)}; {_RETURN_INPUTS}")

    def _follow(self, callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def followed(inputs: Any) -> Any:
            self._given.update(_keys(inputs))
            returned = callback(inputs)
            self._given.update(_keys(inputs))  # it may have added to the dict it was given
            name = f"@before_kickoff {callback_name(callback)}"
            if inspect.isawaitable(returned):
                _close(returned)
                raise CallbackError(f"{name} is async, and CrewAI does not await it; make it a plain function, and {_RETURN_INPUTS}")
            if returned is None:
                self._lost = name, "returns nothing"
            elif self._given - _keys(returned):
                self._lost = name, f"returns inputs without {', '.join(sorted(self._given - _keys(returned)))}"
            return returned

        return followed


class After:
    """Follows the result through the `after_kickoff` callbacks of one kickoff."""

    def __init__(self, callbacks: list[Callable[[Any], Any]]) -> None:
        self.wrapped = [self._follow(callback) for callback in callbacks]
        self._lost_by: str | None = None
        self._asynchronous: str | None = None

    def blame(self) -> CallbackError | None:
        """The error of the callback that lost the result, None when none did."""
        if self._lost_by is not None:
            return CallbackError(f"@after_kickoff {self._lost_by} returns nothing, so the crew's result is lost; {_RETURN_RESULT}")
        if self._asynchronous is not None:
            return CallbackError(f"@after_kickoff {self._asynchronous} gives nothing when it is awaited, so the crew's result is lost; {_RETURN_RESULT}")
        return None

    def _follow(self, callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def followed(result: Any) -> Any:
            returned = callback(result)
            if inspect.isawaitable(returned) and not inspect.isawaitable(result):
                self._asynchronous = callback_name(callback)
            if returned is not None:
                self._lost_by = None
            elif result is not None:
                self._lost_by = callback_name(callback)
            return returned

        return followed


def callback_name(callback: Any) -> str:
    """The name that its author gave it, in quotes; @CrewBase and functools.partial hide it."""
    variables = getattr(getattr(callback, "__code__", None), "co_freevars", ())
    cells = dict(zip(variables, getattr(callback, "__closure__", None) or ()))  # noqa: B905
    # What @CrewBase bound to its instance; before CrewAI 1.4 under another name.
    bound = cells.get("hook") or ("instance" in cells and cells.get("callback"))
    if bound:
        with contextlib.suppress(ValueError):  # an empty cell
            callback = bound.cell_contents
    callback = getattr(callback, "_meth", callback)
    callback = getattr(callback, "func", callback)
    name = getattr(callback, "__qualname__", None) or type(callback).__qualname__
    return f'"{name}"'


def _keys(inputs: Any) -> set[str]:
    return {key for key in inputs if isinstance(key, str)} if isinstance(inputs, dict) else set()


def _close(awaitable: Any) -> None:
    """So that Python does not warn of a coroutine that nobody awaited."""
    close = getattr(awaitable, "close", None)
    if callable(close):
        close()
