"""kickoff_id → who waits: the one reply queue of a fleet, for any number of waiters.

Exactly one terminal reply a kickoff is the aim, at least one the promise. So the first reply of the highest redrive is kept, and
one that nobody waits for (a second copy, most likely) is acked and dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from datetime import datetime, timezone
from typing import Any

from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity

from . import header
from .broker import LINK_ENDED, Broker, Link, acknowledged
from .errors import BrokerUnavailable, UnreadableReply
from .header import Names
from .reply import Reply, WrongMessage, better, read_reply
from .stream import read_stream

log = logging.getLogger("crewfleet")

_PREFETCH = 500


class Waiter:
    """One who waits for the reply of a kickoff."""

    def __init__(self, replies: Waiting, kickoff_id: str) -> None:
        """From now on its reply is kept."""
        self._replies = replies
        self.kickoff_id = kickoff_id
        self.since = datetime.now(timezone.utc)
        self.best: Reply | None = None
        self.problem: str | None = None
        self._answered = asyncio.Event()

    async def reply(self) -> Reply:
        """The reply, when it is here."""
        await self._answered.wait()
        if self.best is None:
            problem = f"the reply of kickoff {self.kickoff_id} cannot be read: {self.problem}; is the worker of another version of crewfleet?"
            raise UnreadableReply(problem, self.kickoff_id)
        return self.best

    @property
    def is_answered(self) -> bool:
        """Whether `reply` would return at once."""
        return self._answered.is_set()

    def put(self, body: bytes) -> None:
        """Something came for it."""
        try:
            reply = read_reply(body)
        except WrongMessage as error:
            self.problem = str(error)
        else:
            if better(reply, self.best):
                self.best = reply
        self._answered.set()

    def leave(self) -> None:
        """Waits no longer."""
        self._replies.leave(self)


class Waiting:
    """Who waits for what."""

    def __init__(self) -> None:
        """Nobody yet."""
        self._waiting: dict[str, set[Waiter]] = {}

    def wait(self, kickoff_id: str) -> Waiter:
        """From now on the reply of this kickoff is kept for the waiter."""
        waiter = Waiter(self, kickoff_id)
        self._waiting.setdefault(kickoff_id, set()).add(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """The waiter waits no longer."""
        waiters = self._waiting.get(waiter.kickoff_id, set())
        waiters.discard(waiter)
        if not waiters:
            self._waiting.pop(waiter.kickoff_id, None)

    def put(self, kickoff_id: str, body: bytes) -> None:
        """A reply came."""
        for waiter in self._waiting.get(kickoff_id, ()):
            waiter.put(body)


class Replies(Waiting):
    """The reply queue, and who waits."""

    def __init__(self, broker: Broker, names: Names) -> None:
        """The queue is made with the first `open`."""
        super().__init__()
        self._broker = broker
        self._names = names
        self._bound: Counter[str] = Counter()
        self._queue: AbstractQueue | None = None
        self._looking: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Makes the reply queue, once; it comes back with each link."""
        await self._broker.on_each_link(self._restore)

    async def bind(self, kickoff_id: str) -> None:
        """Replies of a kickoff that somebody else sent come here, too."""
        await self.open()
        self._bound[kickoff_id] += 1
        if self._queue is not None:
            # The next link binds all that is awaited.
            with contextlib.suppress(*LINK_ENDED):
                await self._queue.bind(self._names.replies, kickoff_id)

    async def unbind(self, kickoff_id: str) -> None:
        """They need not any more."""
        self._bound[kickoff_id] -= 1
        if self._bound[kickoff_id] > 0:
            return
        del self._bound[kickoff_id]
        if self._queue is not None:
            with contextlib.suppress(Exception):
                await self._queue.unbind(self._names.replies, kickoff_id)

    async def look_back(self, since: datetime | None) -> None:
        """Hands the replies that the results stream keeps since then to those who wait for them."""
        found: dict[str, list[bytes]] = {}

        def keep(message: AbstractIncomingMessage) -> bool:
            kickoff_id = _id_of(message)
            if kickoff_id in self._waiting:
                found.setdefault(kickoff_id, []).append(message.body)
            return True

        await read_stream(self._broker, self._names.results, since, keep)
        for kickoff_id, bodies in found.items():
            for body in bodies:
                self.put(kickoff_id, body)

    async def delete(self) -> None:
        """Deletes the reply queue."""
        if self._queue is not None:
            with contextlib.suppress(Exception):
                await self._queue.delete(if_unused=False, if_empty=False)

    async def _restore(self, link: Link) -> None:
        names = self._names
        is_gone = self._queue is not None and not await _is_there(link, names.reply_queue)
        channel = await link.channel()
        await channel.set_qos(prefetch_count=_PREFETCH)
        queue = await channel.declare_queue(names.reply_queue, durable=True, arguments={"x-queue-type": "quorum", "x-expires": header.QUEUE_EXPIRES_MS})
        try:
            await queue.bind(names.replies, names.reply_key)
            for kickoff_id in self._bound:
                await queue.bind(names.replies, kickoff_id)
        except ChannelNotFoundEntity as error:
            raise NotDeclared(names.replies, self._broker.place) from error
        await queue.consume(acknowledged(self._receive))

        # A consumer that RabbitMQ cancels, since its queue is gone, comes back with another link.
        def closed(*_: Any) -> None:
            link.ended.set()

        channel.close_callbacks.add(closed)
        self._queue = queue
        if is_gone and self._waiting:
            log.warning("the reply queue %s was gone; looking for replies in the stream %s", names.reply_queue, names.results)
            since = min(waiter.since for waiters in self._waiting.values() for waiter in waiters)
            task = asyncio.ensure_future(self.look_back(since))
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)

    def _receive(self, message: AbstractIncomingMessage) -> None:
        self.put(_id_of(message), message.body)


class NotDeclared(BrokerUnavailable):
    """Nothing of crewfleet is on this broker, in this namespace."""

    def __init__(self, exchange: str, place: str) -> None:
        """The exchange that is missing, and the broker without its password."""
        super().__init__(
            f"exchange {exchange!r} does not exist on {place}: no worker has run in this namespace yet. Start one, or run "
            "`crewfleet topology declare`; or name another [broker] namespace"
        )


async def _is_there(link: Link, queue: str) -> bool:
    channel = await link.channel()
    try:
        await channel.declare_queue(queue, passive=True)
    except ChannelNotFoundEntity:
        return False
    await channel.close()
    return True


def _id_of(message: AbstractIncomingMessage) -> str:
    return message.correlation_id or message.routing_key or ""
