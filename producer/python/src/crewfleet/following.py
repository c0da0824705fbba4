"""Telling the fleet which kickoffs are followed here: workers send what models say, as they say it, only while somebody is there
to read it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import Counter
from datetime import datetime, timezone
from typing import Any

from aio_pika.abc import AbstractChannel

from . import header
from .awaiting import alone
from .broker import Broker, Link, Outgoing
from .header import Names
from .ids import new_id

log = logging.getLogger("crewfleet")

#: For how long what is told holds, and how often it is told again, in seconds.
_LEASE_S = 20
_RENEWAL_S = 5.0
#: After a failure: sooner than others forget what was told.
_PAUSE_S = 2.0
#: So many kickoffs stand in one message at most.
_AT_ONCE = 1000


class Following:
    """What is followed here, told until it is closed."""

    def __init__(self, broker: Broker, names: Names, follower: str) -> None:
        """Under this name, which no other has."""
        self._broker = broker
        self._names = names
        self._follower = follower
        self._followed: Counter[str] = Counter()
        self._told: set[str] = set()
        self._changed = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None
        self._channel: tuple[Link, AbstractChannel] | None = None

    def follow(self, kickoff_id: str) -> None:
        """Somebody follows this kickoff."""
        self._followed[kickoff_id] += 1
        self._changed.set()
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())

    def leave(self, kickoff_id: str) -> None:
        """Somebody follows it no longer."""
        self._followed[kickoff_id] -= 1
        if self._followed[kickoff_id] <= 0:
            del self._followed[kickoff_id]
            self._changed.set()

    async def close(self) -> None:
        """Tells nothing any more. What was told is over by itself soon."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)

    async def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        renewal = loop.time() + _RENEWAL_S
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), max(renewal - loop.time(), 0))
            self._changed.clear()
            if loop.time() >= renewal:
                renewal = loop.time() + _RENEWAL_S
                self._told.clear()
            followed = set(self._followed)
            new, gone = followed - self._told, self._told - followed
            try:
                await alone(self._publish(sorted(gone), 0))
                await alone(self._publish(sorted(new), _LEASE_S))
                self._told = followed
            # Whatever it is: what was not told is told again, with all that is followed.
            except Exception as error:
                log.debug("the fleet does not hear what is followed here: %s", error)
                self._told.clear()
                await asyncio.sleep(_PAUSE_S)
                self._changed.set()

    async def _publish(self, kickoffs: list[str], for_s: int) -> None:
        for at in range(0, len(kickoffs), _AT_ONCE):
            own_id, now = new_id(), datetime.now(timezone.utc).isoformat()
            told: dict[str, Any] = {"follower": self._follower, "kickoffs": kickoffs[at : at + _AT_ONCE], "for_s": for_s}
            body = json.dumps({"id": own_id, "time": now, "worker": None, "query": "follow", **told}).encode()
            message = Outgoing(self._names.queries, header.FOLLOW_KEY, body, header.QUERY, message_id=own_id, mandatory=False)
            exchange = await (await self._own_channel()).get_exchange(message.exchange, ensure=False)
            await exchange.publish(message.as_message(), message.routing_key, mandatory=False, timeout=_RENEWAL_S)

    async def _own_channel(self) -> AbstractChannel:
        """A refusal ends a channel, so it must not be one that carries kickoffs."""
        link = await self._broker.link(_RENEWAL_S)
        if self._channel is None or self._channel[0] is not link or self._channel[1].is_closed:
            self._channel = (link, await link.channel())
        return self._channel[1]
