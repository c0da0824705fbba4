"""Live events of single kickoffs. Those that get lost on the way are not sent again: who must know how a kickoff ended awaits its
reply."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity

from . import header
from .awaiting import kept
from .broker import LINK_ENDED, Broker, Link
from .following import Following
from .header import Names
from .replies import not_declared
from .reply import Event, WrongMessage, read_event

log = logging.getLogger("crewfleet")

#: Events that may wait to be read; further ones are dropped.
_BUFFER = 4096


class Follower:
    """Who follows a kickoff: its events in the order in which they came, then `None`."""

    def __init__(self, kickoff_id: str) -> None:
        """Of this kickoff."""
        self.kickoff_id = kickoff_id
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._ended = False
        self._problem: Exception | None = None

    async def next(self) -> Event | None:
        """The next event; `None` after the last one. Raises what `fail` was told."""
        event = None if self._ended and self._events.empty() else await self._events.get()
        if event is None and self._problem is not None:
            raise self._problem
        return event

    def put(self, event: Event) -> None:
        """An event came."""
        if self._events.qsize() < _BUFFER:
            self._events.put_nowait(event)
        else:
            log.debug("an event of kickoff %s is dropped: its reader is behind", self.kickoff_id)
        if event.type == header.FINISHED:
            self.end()

    def fail(self, problem: Exception) -> None:
        """No other comes, for this reason."""
        self._problem = self._problem or problem
        self.end()

    def end(self) -> None:
        """No other comes."""
        if not self._ended:
            self._ended = True
            self._events.put_nowait(None)


class Events:
    """The queue of a fleet's events, and who follows what."""

    def __init__(self, broker: Broker, names: Names, following: Following) -> None:
        """The queue is made with the first follower."""
        self._following = following
        self._broker = broker
        self._names = names
        self._followers: dict[str, list[Follower]] = {}
        self._queue: AbstractQueue | None = None

    async def follow(self, kickoff_id: str) -> Follower:
        """The events of this kickoff, from now on."""
        await self._broker.on_each_link(self._restore)
        follower = Follower(kickoff_id)
        self._followers.setdefault(kickoff_id, []).append(follower)
        if self._queue is not None:
            # The next link binds all that is followed.
            with contextlib.suppress(*LINK_ENDED):
                await kept(self._queue.bind(self._names.events, _key(kickoff_id)))
        # Bound before: the first words that a worker sends come here.
        self._following.follow(kickoff_id)
        return follower

    async def leave(self, follower: Follower) -> None:
        """Nobody reads them any more."""
        followers = self._followers.get(follower.kickoff_id, [])
        if follower in followers:
            followers.remove(follower)
            self._following.leave(follower.kickoff_id)
        if not followers and self._followers.pop(follower.kickoff_id, None) is not None and self._queue is not None:
            # With its link the binding stays; what comes by it is for nobody.
            with contextlib.suppress(*LINK_ENDED):
                await kept(self._unbind(self._queue, follower.kickoff_id))

    async def _unbind(self, queue: AbstractQueue, kickoff_id: str) -> None:
        await queue.unbind(self._names.events, _key(kickoff_id))
        # One who follows again meanwhile has lost the binding by this.
        if kickoff_id in self._followers:
            await queue.bind(self._names.events, _key(kickoff_id))

    async def _restore(self, link: Link) -> None:
        channel = await link.channel()
        await channel.set_qos(prefetch_count=_BUFFER)
        # On one node: events are worth no more, and it is made for single kickoffs.
        queue = await channel.declare_queue(self._names.event_queue, durable=True, arguments={"x-queue-type": "classic", "x-expires": header.QUEUE_EXPIRES_MS})
        # Who follows from now on binds this one.
        self._queue = queue
        try:
            for kickoff_id in list(self._followers):
                await queue.bind(self._names.events, _key(kickoff_id))
        except ChannelNotFoundEntity as error:
            raise not_declared(self._names.events, self._broker.place) from error
        await link.consume(queue, self._receive, no_ack=True)

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        try:
            event = read_event(message.body)
        except WrongMessage as error:
            log.debug("an event that cannot be read: %s", error)
            return
        for follower in self._followers.get(event.kickoff_id, ()):
            follower.put(event)


def _key(kickoff_id: str) -> str:
    """Binds all events of a kickoff."""
    return f"{kickoff_id}.#"
