"""Reading a stream from a moment on, up to the end that it has now. Reading takes nothing away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.exceptions import ChannelAccessRefused

from . import header
from .broker import LINK_ENDED, Broker, Link

log = logging.getLogger("crewfleet")

#: A stream that has delivered nothing at all for so long has nothing from the given moment on.
_SILENCE_S = 2.0
#: For so long, what it must have is waited for.
_OWED_S = 60.0
#: The messages of one chunk come in one go: after such a pause in the last chunk, it is read.
_CHUNK_PAUSE_S = 0.2
#: The moment in a kickoff's id is its producer's, the moments of the stream are the broker's.
_CLOCK_MARGIN = timedelta(minutes=5)
_CONNECT_TIMEOUT_S = 30.0
#: What RabbitMQ says of a queue that is there and that nobody serves; the code is that of one that does not exist.
_IS_DOWN = ("down or inaccessible", "stopped by supervisor", "crashed and failed to restart")
#: How long that may last: after its node, a stream starts within seconds.
_DOWN_S = 60.0
_AGAIN_S = 1.0
_PREFETCH = 500


async def read_stream(broker: Broker, stream: str, since: datetime | None, wanted: Callable[[AbstractIncomingMessage], bool]) -> None:
    """Hands each message since then to `wanted`, until that says no, or the end is reached. Lost links are waited out; where
    there is no such stream, or this user may not read it, it says so in the log."""
    down_since: float | None = None
    while True:
        link = await broker.link(_CONNECT_TIMEOUT_S)
        reading = asyncio.ensure_future(_read(link, stream, since, wanted))
        ended = asyncio.ensure_future(link.ended.wait())
        try:
            await asyncio.wait((reading, ended), return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and not reading.cancelled():
                reading.result()
                return
        except ChannelNotFoundEntity as error:
            if any(words in str(error) for words in _IS_DOWN):
                down_since = down_since or time.monotonic()
                if time.monotonic() - down_since < _DOWN_S:
                    await asyncio.sleep(_AGAIN_S)
                    continue
                log.warning("cannot look for earlier replies in the stream %s: %s", stream, error)
                return
            log.warning("there is no stream %s, so a reply that was given before is not found ([broker] streams, results_max_age_s)", stream)
            return
        except ChannelAccessRefused as error:
            log.warning("cannot look for earlier replies in the stream %s: %s", stream, error)
            return
        except LINK_ENDED:
            # Of the next link, the streams start anew.
            down_since = None
            await asyncio.sleep(_AGAIN_S)
        finally:
            for task in (reading, ended):
                task.cancel()
            await asyncio.gather(reading, ended, return_exceptions=True)


async def _read(link: Link, stream: str, since: datetime | None, wanted: Callable[[AbstractIncomingMessage], bool]) -> None:
    channels: list[AbstractChannel] = []
    try:
        probe, _ = await _consume(link, stream, "last", 1, channels)
        messages, held = await _consume(link, stream, _offset(since), _PREFETCH, channels)
        began = time.monotonic()
        last_chunk: int | None = None
        at: int | None = None
        while True:
            # In the last chunk a pause is the end; before it, silence is.
            limit = _CHUNK_PAUSE_S if last_chunk is not None and at is not None and at >= last_chunk else _SILENCE_S
            try:
                message = await asyncio.wait_for(messages.get(), limit)
            except asyncio.TimeoutError:
                if last_chunk is not None and at is not None and at < last_chunk:
                    continue
                # Read from its beginning, a stream that holds anything has something to deliver, however slow the broker is.
                is_owed = since is None and at is None and (held > 0 or last_chunk is not None)
                if is_owed and time.monotonic() < began + _OWED_S:
                    continue
                return
            finally:
                if last_chunk is None and not probe.empty():
                    last_chunk = _place(probe.get_nowait())
            at = _place(message)
            # On a stream an ack asks for one more. It is given here, never by the consumer: one that follows the end of its channel
            # would end the whole connection.
            await message.ack()
            if not wanted(message):
                return
    finally:
        for channel in channels:
            with contextlib.suppress(Exception):
                await channel.close()


async def _consume(link: Link, stream: str, offset: Any, prefetch: int, channels: list[AbstractChannel]) -> tuple[asyncio.Queue[AbstractIncomingMessage], int]:
    """What comes, and how many messages the stream held before."""
    channel = await link.channel()
    channels.append(channel)
    await channel.set_qos(prefetch_count=prefetch)
    queue = await channel.get_queue(stream, ensure=True)
    came: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    async def receive(message: AbstractIncomingMessage) -> None:
        came.put_nowait(message)

    await queue.consume(receive, arguments={header.STREAM_OFFSET: offset})
    return came, queue.declaration_result.message_count or 0


def _offset(since: datetime | None) -> Any:
    if since is None:
        return "first"
    # A moment that is still to come is that of a clock ahead.
    return min(since, datetime.now(timezone.utc)) - _CLOCK_MARGIN


def _place(message: AbstractIncomingMessage) -> int:
    place = message.headers.get(header.STREAM_OFFSET)
    return place if isinstance(place, int) else -1
