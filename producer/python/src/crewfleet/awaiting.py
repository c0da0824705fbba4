"""Awaiting what a library does on a connection that may end meanwhile.

aiormq cancels whatever waits for a connection that ends; that is no wish of the caller's to be cancelled. And it closes a channel
whose operation is cancelled, which would take along whoever else uses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
F = TypeVar("F", bound="asyncio.Future[Any]")

_going_on: set[asyncio.Task[Any]] = set()


async def alone(work: Coroutine[Any, Any, T]) -> T:
    """Awaits it. That it was cancelled by others is a `ConnectionError`; a caller that is cancelled cancels it."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task,))
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
    return _result(task)


async def kept(work: Coroutine[Any, Any, T]) -> T:
    """The same, but it goes on without a caller that is cancelled."""
    task = unasked(begun(work))
    await asyncio.wait((task,))
    return _result(task)


def begun(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Has this done beside everything else; it needs nobody who holds it."""
    task = asyncio.ensure_future(work)
    _going_on.add(task)
    task.add_done_callback(_going_on.discard)
    return task


def unasked(future: F) -> F:
    """Whoever asks is told how it ended. Nobody has to: asyncio says nothing of an error then."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


def _result(task: asyncio.Task[T]) -> T:
    if task.cancelled():
        raise ConnectionError("the connection has ended")
    return task.result()
