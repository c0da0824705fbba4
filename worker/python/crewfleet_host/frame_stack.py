"""Room for a thread's frames, so that calls at the edge of what it has do not map and unmap memory each time."""

from collections.abc import Callable
from typing import Any

# CPython takes the frames of a thread from chunks of 16 KiB (3.11 and later), some fifty calls of it, and unmaps a chunk as soon as
# its first frame returns (until it learned to keep one): a loop that calls from the end of a chunk maps, faults and unmaps for each
# call. A frame too large for a chunk gets a larger one, the next power of two, whose rest serves the calls below it. Pages that no
# frame reaches stay out of memory.
_SLOTS = 17_000  # of 8 bytes: a chunk of 256 KiB, with half of it for the calls below


def with_room(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls `function(*arguments)` with room for its calls in one chunk."""
    result, error = _large_frame(function, arguments)
    if error is None:
        return result
    try:
        raise error
    finally:
        del error  # or it would hold this frame, which holds it


def _large_frame(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
    return _caught(function, arguments)


_large_frame.__code__ = _large_frame.__code__.replace(co_stacksize=_SLOTS)


def _caught(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
    """No exception passes the large frame: its traceback would take a copy of it, when memory may be what is missing."""
    try:
        return function(*arguments), None
    except BaseException as error:
        return None, error
