"""kickoff_id → who waits: the one reply queue of a fleet, for any number of waiters.

Exactly one terminal reply a kickoff is the aim, at least one the promise. So the first reply of the highest redrive is kept, and
one that nobody waits for (a second copy, most likely) is acked and dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import datetime, timezone

from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity

from . import header
from .awaiting import begun, kept
from .broker import LINK_ENDED, Broker, Link, acknowledged
from .errors import BrokerUnavailable, UnreadableReply
from .header import Names
from .reply import Reply, WrongMessage, better, read_reply
from .stream import read_stream

log = logging.getLogger("crewfleet")

_PREFETCH = 500
_AGAIN_S = 1.0


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
        self._bound: set[str] = set()
        self._queue: AbstractQueue | None = None
        self._is_gone = False

    async def open(self) -> None:
        """Makes the reply queue, once; it comes back with each link."""
        await self._broker.on_each_link(self._restore)

    async def bind(self, kickoff_id: str) -> None:
        """Replies of a kickoff that somebody else sent come here, too, for as long as anybody waits for them."""
        await self.open()
        if kickoff_id not in self._waiting:
            return
        self._bound.add(kickoff_id)
        if self._queue is not None:
            # The next link binds all that is awaited.
            with contextlib.suppress(*LINK_ENDED):
                await kept(self._queue.bind(self._names.replies, kickoff_id))

    def leave(self, waiter: Waiter) -> None:
        """See `Waiting`."""
        super().leave(waiter)
        if waiter.kickoff_id in self._bound and waiter.kickoff_id not in self._waiting:
            self._bound.discard(waiter.kickoff_id)
            begun(self._unbind(waiter.kickoff_id))

    async def _unbind(self, kickoff_id: str) -> None:
        # What still comes is for nobody, so this may fail. One who waits again meanwhile has bound it anew.
        if self._queue is not None and kickoff_id not in self._bound:
            with contextlib.suppress(Exception):
                await self._queue.unbind(self._names.replies, kickoff_id)
            if kickoff_id in self._bound:
                await self.bind(kickoff_id)

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
        # Until it is looked for what came meanwhile, over however many links.
        self._is_gone = self._is_gone or (self._queue is not None and not await _is_there(link, names.reply_queue))
        channel = await link.channel()
        await channel.set_qos(prefetch_count=_PREFETCH)
        queue = await channel.declare_queue(names.reply_queue, durable=True, arguments={"x-queue-type": "quorum", "x-expires": header.QUEUE_EXPIRES_MS})
        # What is awaited from now on is bound to this one.
        self._queue = queue
        try:
            await queue.bind(names.replies, names.reply_key)
            for kickoff_id in list(self._bound):
                await queue.bind(names.replies, kickoff_id)
        except ChannelNotFoundEntity as error:
            raise not_declared(names.replies, self._broker.place) from error
        await link.consume(queue, acknowledged(self._receive))
        if self._is_gone and self._waiting:
            log.warning("the reply queue %s was gone; looking for replies in the stream %s", names.reply_queue, names.results)
            since = min(waiter.since for waiters in self._waiting.values() for waiter in waiters)
            begun(self._look_back_at_last(since))
        self._is_gone = False

    async def _look_back_at_last(self, since: datetime) -> None:
        while self._waiting:
            try:
                await self.look_back(since)
            except BrokerUnavailable as error:
                log.warning("cannot look for replies in the stream %s: %s; trying again", self._names.results, error)
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    def _receive(self, message: AbstractIncomingMessage) -> None:
        self.put(_id_of(message), message.body)


def not_declared(exchange: str, place: str) -> BrokerUnavailable:
    """Nothing of crewfleet is on this broker, in this namespace: this exchange is missing. `place` is the broker without its password."""
    return BrokerUnavailable(
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
