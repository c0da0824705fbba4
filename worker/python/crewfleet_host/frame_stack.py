"""Room for a thread's frames, so that calls at the edge of what it has do not map and unmap memory each time."""

from collections.abc import Callable
from typing import Any

# CPython (3.11 and later) takes the frames of a thread from chunks of 16 KiB, some fifty calls of it, and unmaps a chunk as soon as its
# first frame returns: a loop that calls from the end of one chunk maps, faults and unmaps for each call. A frame too large for a
# chunk gets a larger one, the next power of two, whose rest serves the calls below it. Pages that no frame reaches cost nothing.
_SLOTS = 70_000  # of 8 bytes: a chunk of 1 MiB, with half of it for the calls below


def with_room(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls `function(*arguments)` with room for its calls in one chunk."""
    return function(*arguments)


with_room.__code__ = with_room.__code__.replace(co_stacksize=_SLOTS)
