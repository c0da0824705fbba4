"""One kickoff after it was started."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .awaiting import unasked
from .errors import FleetClosed, ReplyTimeout, UnreadableReply, error_of
from .events import Follower
from .output import value_of
from .replies import Waiter
from .reply import Event, Reply

if TYPE_CHECKING:
    from .client import KickoffStatus, Transport
    from .session import Session

T = TypeVar("T")
R = TypeVar("R")

#: Events of a kickoff whose reply is here may come for so long. The last one may have got lost: events are not sent again.
_LAST_EVENTS_S = 2.0


class Kickoff(Generic[T]):
    """A kickoff: `await` it for its output, or call `result()` where there is no event loop.

    It waits from the moment it is made; dropping it ends the waiting, not the kickoff.
    """

    def __init__(
        self,
        session: Session,
        kickoff_id: str,
        output: Callable[[Reply], T],
        waiters: list[Waiter],
        begun: concurrent.futures.Future[Follower | None],
        *,
        own: bool,
        events: bool = False,
        attached: bool = False,
        cancel_on_abandon: bool = False,
    ) -> None:
        """Made by `start` and `attach`. The first waiter is its own; the others are those of what may follow it in its chain, whose
        replies may come before it is read that it follows."""
        #: Its id, under which any program finds it.
        self.kickoff_id = kickoff_id
        self._session = session
        self._background = session.background
        self._output = output
        self._waiter, self._steps = waiters[0], {waiter.kickoff_id: waiter for waiter in waiters[1:]}
        self._begun = begun
        self._own = own
        self._own_events = events
        self._cancel_on_abandon = cancel_on_abandon
        weakref.finalize(self, self._background.soon, lambda: _dropped(session, waiters, begun, attached)).atexit = False

    def __await__(self) -> Generator[object, None, T]:
        return self._awaited().__await__()

    def __repr__(self) -> str:
        return f"<Kickoff {self.kickoff_id}>"

    async def reply(self) -> Reply:
        """The terminal reply, for as long as it takes; put an `asyncio.wait_for` around it to give up earlier. A kickoff that did
        not succeed has a reply, too.

        Raises what kept it from being sent: `NoSuchCrew`, `BrokerUnavailable`, `OtherKickoff`; and `UnreadableReply`."""
        return await self._background.run(self._reply())

    async def chain_reply(self) -> Reply:
        """The last reply of the chain that the kickoff begins or is in, when that has ended; without a chain the kickoff's own.

        Raises as `reply`."""
        return await self._background.run(self._chain_reply())

    def chain_result(self, timeout: float | None = None) -> Any:
        """Blocks until the chain has ended, at most for so many seconds, and returns the output of its last kickoff: a `CrewOutput`
        of a crew, else what was returned.

        Raises as `result`."""
        try:
            reply = self._background.wait(asyncio.wait_for(self._chain_reply(), timeout))
        except asyncio.TimeoutError:
            raise ReplyTimeout(f"the chain of kickoff {self.kickoff_id} has not ended within {timeout:g} s; it goes on", self.kickoff_id) from None
        except KeyboardInterrupt:
            self.abandon()
            raise
        if not reply.succeeded:
            raise error_of(reply)
        return value_of(reply, None)

    def result(self, timeout: float | None = None) -> T:
        """Blocks until the output is here, at most for so many seconds.

        Raises `ReplyTimeout`, after which the kickoff goes on; else as awaiting it."""
        try:
            reply = self._background.wait(asyncio.wait_for(self._reply(), timeout))
        except asyncio.TimeoutError:
            raise ReplyTimeout(f"no reply of kickoff {self.kickoff_id} within {timeout:g} s; it goes on", self.kickoff_id) from None
        except KeyboardInterrupt:
            self.abandon()
            raise
        return self._told(reply)

    async def sent(self) -> str:
        """Returns its id when RabbitMQ has the kickoff: from then on it is not lost."""
        # Who gives up must not keep it from being sent.
        await self._background.ended(self._begun)
        return self.kickoff_id

    async def cancel(self) -> None:
        """Has the kickoff stopped, wherever it is: queued, running, or waiting for a retry. Returns when RabbitMQ has the command;
        awaiting the kickoff then raises `CrewCancelled`, unless it had ended before."""
        await self._background.run(self._with(lambda transport: transport.cancel(self.kickoff_id, self._own)))

    async def status(self) -> KickoffStatus:
        """How far it is. It asks the workers, which takes up to two seconds."""
        return await self._background.run(self._with(lambda transport: transport.status(self.kickoff_id, self._waiter)))

    async def events(self) -> AsyncIterator[Event]:
        """Its events, in the order in which they come, to the last one (`kickoff_finished`): from the first one on where it was
        started with `events=True`, else from now on. A task that is cancelled while it waits for one abandons the kickoff, as one
        that awaits its result does."""
        background = self._background
        follower: Follower | None = None
        ending: concurrent.futures.Future[None] | None = None
        try:
            follower = await self._follower()
            ending = background.submit(self._end(follower))
            while (event := await background.run(follower.next())) is not None:
                yield event
        except asyncio.CancelledError:
            self.abandon()
            raise
        finally:
            if ending is not None:
                ending.cancel()
            if (followed := follower) is not None:
                with contextlib.suppress(FleetClosed):
                    background.submit(self._with(lambda transport: transport.unfollow(followed)))

    async def _follower(self) -> Follower:
        # The one that was there before the kickoff is good for once.
        first, self._own_events = self._own_events, False
        begun = await self._background.ended(self._begun) if first else None
        if begun is not None:
            return begun
        return await self._background.run(self._with(lambda transport: transport.follow(self.kickoff_id)))

    async def _end(self, follower: Follower) -> None:
        """Ends the events soon after the reply, or with what kept the kickoff from being sent."""
        try:
            with contextlib.suppress(UnreadableReply):
                await self._reply()
        except Exception as error:
            follower.fail(error)
        else:
            await asyncio.sleep(_LAST_EVENTS_S)
            follower.end()

    async def _awaited(self) -> T:
        try:
            reply = await self.reply()
        except asyncio.CancelledError:
            self.abandon()
            raise
        # The first output imports crewai where it is installed, which takes seconds: not in the caller's event loop.
        return await asyncio.get_running_loop().run_in_executor(None, self._told, reply)

    async def _reply(self) -> Reply:
        begun = unasked(asyncio.wrap_future(self._begun))
        answered = asyncio.ensure_future(self._waiter.reply())
        try:
            # The reply may be faster than the confirm. That of a kickoff which another program may have sent counts only once it
            # is clear that it is the same.
            if self._own:
                await asyncio.wait((begun, answered), return_when=asyncio.FIRST_COMPLETED)
            if not self._own or not answered.done():
                await asyncio.shield(begun)
            return await answered
        finally:
            answered.cancel()

    async def _chain_reply(self) -> Reply:
        """In the fleet's own event loop."""
        transport = self._session.transport()
        reply = await self._reply()
        while (following := reply.next_id) is not None:
            known = self._steps.get(following)
            waiter = known or transport.wait(following)
            try:
                # It may have ended before anybody waited, and its id tells no moment.
                if not waiter.is_answered:
                    await transport.attach(waiter, reply.started_at or reply.finished_at)
                reply = await waiter.reply()
            finally:
                if known is None:
                    waiter.leave()
        return reply

    async def _with(self, call: Callable[[Transport], Awaitable[R]]) -> R:
        return await call(self._session.transport())

    def _told(self, reply: Reply) -> T:
        if not reply.succeeded:
            raise error_of(reply)
        return self._output(reply)

    def abandon(self) -> None:
        """Nobody waits any more: has the kickoff stopped, where `cancel_on_abandon` asks for that."""
        if not self._cancel_on_abandon:
            return
        with contextlib.suppress(FleetClosed):
            self._background.say_last(self._with(lambda transport: transport.cancel(self.kickoff_id, self._own)))


def _dropped(session: Session, waiters: list[Waiter], begun: concurrent.futures.Future[Follower | None], attached: bool) -> None:
    """Nobody has the kickoff any more. In the fleet's own event loop."""
    for waiter in waiters:
        waiter.leave()
    if attached:
        begun.cancel()
        return

    async def unfollow(follower: Follower) -> None:
        await session.transport().unfollow(follower)

    def followed(begun: concurrent.futures.Future[Follower | None]) -> None:
        if not begun.cancelled() and begun.exception() is None and (follower := begun.result()) is not None:
            with contextlib.suppress(FleetClosed):
                session.background.submit(unfollow(follower))

    begun.add_done_callback(followed)
