"""What a fleet and its kickoffs share: the fleet's own event loop, and the transport in it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from . import request
from .background import Background
from .errors import FleetClosed
from .ids import id_of_step
from .kickoff import Kickoff

if TYPE_CHECKING:
    from .client import MakeTransport, Transport
    from .events import Follower
    from .replies import Waiter
    from .reply import Reply
    from .request import Options

T = TypeVar("T")

_CLOSE_TIMEOUT_S = 10.0


class Session:
    """One fleet's."""

    def __init__(self, make: MakeTransport, max_request_bytes: int) -> None:
        """The thread is started, and the transport made, with the first use."""
        self._make = make
        self._max_request_bytes = max_request_bytes
        self._background: Background | None = None
        self._transport: Transport | None = None
        self._closed = False
        self._making, self._made_in = threading.Lock(), os.getpid()

    @property
    def background(self) -> Background:
        """The fleet's own event loop. A process that was forked gets one of its own."""
        if self._closed:
            raise FleetClosed("this fleet is closed")
        background = self._background
        if background is not None and background.is_ours:
            return background
        # Another thread of the process that forked this one may have held it.
        if self._made_in != os.getpid():
            self._making, self._made_in = threading.Lock(), os.getpid()
        # The first kickoffs may come from several threads at once.
        with self._making:
            if self._background is None or not self._background.is_ours:
                self._background, self._transport = Background("crewfleet"), None
            return self._background

    def transport(self) -> Transport:
        """The transport. In the fleet's own event loop."""
        if self._transport is None:
            self._transport = self._make()
        return self._transport

    def start(
        self,
        crew: str,
        inputs: Mapping[str, Any] | None,
        files: Mapping[str, Any] | None,
        options: Options,
        output: Callable[[Reply], T],
        *,
        events: bool,
    ) -> Kickoff[T]:
        """Starts a kickoff: checks it here, and has it sent."""
        made = request.make(crew, inputs, files, options, self._max_request_bytes)
        return self._kickoff(
            made.kickoff_id,
            output,
            lambda transport, _: transport.send(made, events),
            own=not made.may_be_known,
            events=events,
            cancel_on_abandon=options.cancel_on_abandon,
            steps=len(options.then),
        )

    def attach(self, kickoff_id: str, output: Callable[[Reply], T]) -> Kickoff[T]:
        """Waits for a kickoff that another program sent."""

        async def look(transport: Transport, waiter: Waiter) -> Follower | None:
            await transport.attach(waiter)
            return None

        return self._kickoff(kickoff_id, output, look, own=False, attached=True)

    def close(self) -> None:
        """Ends all of it."""
        background, was_closed, self._closed = self._background, self._closed, True
        if background is None or was_closed or not background.is_ours:
            return

        async def close() -> None:
            if self._transport is not None:
                await asyncio.wait_for(self._transport.close(), _CLOSE_TIMEOUT_S)

        background.wait_for_last_words()
        try:
            background.wait(close())
        except asyncio.TimeoutError:
            # A broker that does not answer keeps nobody.
            pass
        finally:
            background.stop()

    def _kickoff(
        self,
        kickoff_id: str,
        output: Callable[[Reply], T],
        begin: Callable[[Transport, Waiter], Any],
        *,
        own: bool,
        events: bool = False,
        attached: bool = False,
        cancel_on_abandon: bool = False,
        steps: int = 0,
    ) -> Kickoff[T]:
        background = self.background
        ids = [kickoff_id]
        for step in range(1, steps + 1):
            ids.append(id_of_step(ids[-1], step))

        def wait() -> list[Waiter]:
            return [self.transport().wait(each) for each in ids]

        async def wait_there() -> list[Waiter]:
            return wait()

        waiters = wait() if background.is_here else background.wait(wait_there())

        async def begun() -> Follower | None:
            found: Follower | None = await begin(self.transport(), waiters[0])
            return found

        future = background.submit(begun())
        return Kickoff(self, kickoff_id, output, waiters, future, own=own, events=events, attached=attached, cancel_on_abandon=cancel_on_abandon)
