"""What a fleet does over RabbitMQ: send, wait, follow, cancel, look."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from .awaiting import kept
from .broker import Broker, Unroutable
from .errors import NoSuchCrew, OtherKickoff
from .events import Events, Follower
from .following import Following
from .header import Names
from .ids import created_at, new_id
from .replies import Replies, Waiter
from .reply import Reply
from .request import Request
from .settings import Settings
from .workers import Held, Workers

log = logging.getLogger("crewfleet")

Stage = Literal["waiting", "running", "stopping", "retrying", "ended", "unseen"]

#: Who waits for so long for a kickoff of another program has all kept replies looked through: its id may be of a clock ahead.
_PATIENCE_S = 300.0
#: How often a crew without workers is told of, in seconds.
_UNSERVED_INTERVAL_S = 60.0


@dataclass(frozen=True)
class KickoffStatus:
    """How far a kickoff is, as far as anybody knows."""

    kickoff_id: str
    #: `waiting` (a worker has it), `running`, `stopping`, `retrying` (its next attempt waits), `ended`, or `unseen`: no worker has
    #: it and no reply of it is kept, so it waits in its queue, or there is no such kickoff.
    stage: Stage
    #: The worker that has it, or had it last.
    worker: str | None
    #: Its attempt there, from 1.
    attempt: int | None
    #: Its reply, where it has ended and its reply is kept.
    reply: Reply | None


class Transport(Protocol):
    """What carries a fleet's kickoffs. All of it is called in the fleet's own event loop."""

    async def send(self, request: Request, follow: bool) -> Follower | None:
        """Has the kickoff run. Returns when that is sure to happen; with `follow`, its events from the first one on."""

    def wait(self, kickoff_id: str) -> Waiter:
        """From now on the reply of a kickoff is kept."""
        raise NotImplementedError

    async def attach(self, waiter: Waiter, since: datetime | None = None) -> None:
        """Looks for the reply of a kickoff that another program sent, until it is here; not before `since`, where its id tells no
        moment."""

    async def follow(self, kickoff_id: str) -> Follower:
        """The events of a kickoff from now on."""
        raise NotImplementedError

    async def unfollow(self, follower: Follower) -> None:
        """Ends that."""

    async def cancel(self, kickoff_id: str, own: bool) -> None:
        """Has a kickoff stopped, wherever it is."""

    async def status(self, kickoff_id: str, waiter: Waiter) -> KickoffStatus:
        """How far a kickoff is, whose reply may have come to this waiter."""
        raise NotImplementedError

    async def close(self) -> None:
        """Ends all of it."""


class BrokerClient:
    """The transport over RabbitMQ."""

    def __init__(self, settings: Settings, publish_timeout_s: float, client_id: str | None) -> None:
        """Nothing is connected before the first use."""
        own_id = client_id or new_id()
        full_id = f"{settings.client_name}.{own_id}" if settings.client_name else own_id
        self._timeout_s = publish_timeout_s
        self._keeps_queue = client_id is not None
        self._names = Names(settings.namespace, full_id)
        self._broker = Broker(settings, f"crewfleet-python {full_id}", publish_timeout_s)
        self._replies = Replies(self._broker, self._names)
        self._following = Following(self._broker, self._names, full_id)
        self._events = Events(self._broker, self._names, self._following)
        self._workers = Workers(self._broker, self._names)
        self._looked_at: dict[str, float] = {}

    def wait(self, kickoff_id: str) -> Waiter:
        """See `Transport`."""
        return self._replies.wait(kickoff_id)

    async def send(self, request: Request, follow: bool) -> Follower | None:
        """See `Transport`. The reply queue comes first: the reply may be faster than the confirm."""
        await self._replies.open()
        follower = await self._events.follow(request.kickoff_id) if follow else None
        try:
            if request.may_be_known and await self._is_known(request):
                return follower
            await self._publish(request)
        except BaseException:
            if follower is not None:
                await self._events.leave(follower)
            raise
        return follower

    async def _publish(self, request: Request) -> None:
        what = f"kickoff {request.kickoff_id}"
        try:
            await self._broker.publish(request.message(self._names), self._timeout_s, what=what)
        except Unroutable:
            raise self._no_such_crew(request.crew) from None
        await self._warn_if_unserved(request.crew)

    async def attach(self, waiter: Waiter, since: datetime | None = None) -> None:
        """See `Transport`. First the binding, then the look back: nothing can fall between."""
        await self._replies.bind(waiter.kickoff_id)
        since = created_at(waiter.kickoff_id) or since
        await self._replies.look_back(since)
        if since is not None and not waiter.is_answered:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(waiter.reply(), _PATIENCE_S)
            if not waiter.is_answered:
                await self._replies.look_back(None)
        await waiter.reply()

    async def follow(self, kickoff_id: str) -> Follower:
        """See `Transport`."""
        return await self._events.follow(kickoff_id)

    async def unfollow(self, follower: Follower) -> None:
        """See `Transport`."""
        await self._events.leave(follower)

    async def cancel(self, kickoff_id: str, own: bool) -> None:
        """See `Transport`. What was sent from here is no redriven one."""
        await self._workers.cancel(kickoff_id, self._timeout_s, redrive=0 if own else None)

    async def status(self, kickoff_id: str, waiter: Waiter) -> KickoffStatus:
        """See `Transport`. A worker has a kickoff for a moment longer than it takes its reply to come here."""
        held = await self._workers.who_has(kickoff_id, self._timeout_s)
        at, reply = held[0] if held else None, waiter.best
        if at is not None and reply is not None and reply.redrive < at.redrive:
            reply = None
        if reply is None and (at is None or at.state not in ("waiting", "running", "stopping")):
            reply = await self._kept_reply(kickoff_id)
        if reply is not None and (at is None or reply.redrive >= at.redrive):
            return KickoffStatus(kickoff_id, "ended", reply.worker, reply.attempt, reply)
        if at is not None:
            return KickoffStatus(kickoff_id, _stage(at), at.worker, at.attempt, None)
        return KickoffStatus(kickoff_id, "unseen", None, None, None)

    async def close(self) -> None:
        """See `Transport`. The reply queue of a client with an id of its own goes on collecting, for an hour."""
        if not self._keeps_queue:
            await self._replies.delete()
        await self._following.close()
        await self._broker.close()

    async def _kept_reply(self, kickoff_id: str) -> Reply | None:
        waiter = self._replies.wait(kickoff_id)
        try:
            await self._replies.look_back(created_at(kickoff_id))
            return waiter.best
        finally:
            waiter.leave()

    async def _is_known(self, request: Request) -> bool:
        """Whether somebody has this very request already, so that its reply comes without another one.

        Raises `OtherKickoff` where somebody has another request under its id."""
        await self._replies.bind(request.kickoff_id)
        held = await self._workers.who_has(request.kickoff_id, self._timeout_s)
        known = [(at.body_hash, f"worker {at.worker}") for at in held if at.state != "ended"]
        if not known:
            reply = await self._kept_reply(request.kickoff_id)
            known = [(reply.body_hash, f"the reply of worker {reply.worker}")] if reply is not None else []
        for body_hash, known_by in known:
            if body_hash is not None and body_hash != request.body_hash:
                key = request.options.idempotency_key
                under = f"the idempotency key {key!r}" if key is not None else f"the id {request.kickoff_id}"
                raise OtherKickoff(
                    f"another kickoff has {under}: {known_by} has it with a different request. Nothing was sent. Use another one",
                    request.kickoff_id,
                )
        return bool(known)

    def _no_such_crew(self, crew: str) -> NoSuchCrew:
        return NoSuchCrew(
            f"no crew is named {crew!r}: no queue is bound to exchange {self._names.requests!r} for it on {self._broker.place}. Start a "
            f"worker that serves it; only for a crew whose workers start later, declare its queue with `crewfleet topology declare {crew}`",
            crew,
        )

    async def _warn_if_unserved(self, crew: str) -> None:
        """A queue without consumers is no error: workers may come. But somebody may be waiting for nothing."""
        now = time.monotonic()
        if now - self._looked_at.get(crew, -_UNSERVED_INTERVAL_S) < _UNSERVED_INTERVAL_S:
            return
        self._looked_at[crew] = now
        # Who may not look at the queue has only no warning.
        with contextlib.suppress(Exception):
            if await kept(self._consumers(crew)) == 0:
                log.warning("no worker takes kickoffs of crew %s at present; they wait until one comes, or has room", crew)

    async def _consumers(self, crew: str) -> int | None:
        link = await self._broker.link(self._timeout_s)
        channel = await link.channel()
        queue = await channel.declare_queue(self._names.request_queue(crew), passive=True)
        await channel.close()
        return queue.declaration_result.consumer_count


def _stage(held: Held) -> Stage:
    stages: dict[str, Stage] = {"waiting": "waiting", "running": "running", "stopping": "stopping", "retrying": "retrying"}
    return stages.get(held.state, "ended")


#: Makes the transport, in the fleet's own event loop.
MakeTransport = Callable[[], Transport]
