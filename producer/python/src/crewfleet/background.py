"""The event loop of a fleet, in a thread of its own.

All of a fleet's work with RabbitMQ happens there. So a fleet serves whoever calls it, from any thread and any number of event
loops, one after the other or at once; and its heartbeats go on while a caller computes or blocks.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .awaiting import unasked
from .errors import FleetClosed

T = TypeVar("T")

_STOP_TIMEOUT_S = 10.0
#: For so long the end of the program is held up for what has to be said before it.
_LAST_WORDS_S = 5.0


class Background:
    """A running event loop in a daemon thread."""

    def __init__(self, name: str) -> None:
        """Starts the thread."""
        self._loop = asyncio.new_event_loop()
        self._process = os.getpid()
        self._stopped = False
        self._last_words: set[concurrent.futures.Future[Any]] = set()
        atexit.register(self.wait_for_last_words)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_ours(self) -> bool:
        """Whether this process started it: a fork inherits no threads."""
        return self._process == os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether the caller is in it."""
        return threading.current_thread() is self._thread

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Has this done there."""
        if self._stopped or not self.is_ours:
            work.close()
            raise FleetClosed("this fleet is closed, or was made by the process that forked this one: make another one here")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Has this done there, and awaits it here. Cancelling the one cancels the other.

        Raises `FleetClosed` where it is stopped meanwhile."""
        future = self.submit(work)
        try:
            return await self.ended(future)
        except asyncio.CancelledError:
            future.cancel()
            raise

    async def ended(self, future: concurrent.futures.Future[T]) -> T:
        """Awaits here what `submit` has made. It goes on when this is cancelled.

        Raises as `run`."""
        # Who gives up is not told how it ended.
        here = unasked(asyncio.wrap_future(future))
        await asyncio.wait((here,))
        if here.cancelled() and self._stopped:
            raise FleetClosed("this fleet was closed meanwhile")
        return here.result()

    def say_last(self, work: Coroutine[Any, Any, object]) -> None:
        """Has this done there, and holds up the end of the program for it, for a few seconds."""
        future = self.submit(work)
        self._last_words.add(future)
        future.add_done_callback(self._last_words.discard)

    def wait_for_last_words(self) -> None:
        """Waits until that is done, for a few seconds."""
        if self.is_ours and not self.is_here:
            concurrent.futures.wait(set(self._last_words), timeout=_LAST_WORDS_S)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Has this done there, and blocks until it is."""
        if self.is_here:
            work.close()
            raise RuntimeError("this would block the fleet's own event loop, which it waits for: await it there instead")
        future = self.submit(work)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            if self._stopped:
                raise FleetClosed("this fleet was closed meanwhile") from None
            raise
        except BaseException:
            # An interrupt (Ctrl-C) ends what is waited for.
            future.cancel()
            raise

    def soon(self, call: Callable[[], object]) -> None:
        """Has this called there, as long as there is a there."""
        if self.is_ours and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    def stop(self) -> None:
        """Ends the loop, and what still runs in it."""
        if not self.is_ours or self._loop.is_closed():
            return
        self._stopped = True
        atexit.unregister(self.wait_for_last_words)
        self._loop.call_soon_threadsafe(self._loop.stop)
        if not self.is_here:
            self._thread.join(_STOP_TIMEOUT_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            # What ends may begin something yet.
            while left := asyncio.all_tasks(self._loop):
                for task in left:
                    task.cancel()
                self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
