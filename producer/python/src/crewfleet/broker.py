"""The link to RabbitMQ: one connection that comes back, and publishing that knows what became of a message."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue, DeliveryMode
from aio_pika.exceptions import (
    AMQPConnectionError,
    AMQPError,
    AuthenticationError,
    ChannelClosed,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    DeliveryError,
    ProbableAuthenticationError,
    PublishError,
)
from yarl import URL

from . import header
from .awaiting import alone, kept
from .errors import BrokerUnavailable
from .settings import Settings, SettingsError

log = logging.getLogger("crewfleet")

#: The pauses between attempts to connect, in seconds: each the double of the last one, with jitter.
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
#: How often it is seen to that RabbitMQ has not cancelled a consumer, in seconds.
_WATCH_S = 2.0
#: What ends a link, or an operation on it.
LINK_ENDED = (AMQPConnectionError, ChannelInvalidStateError, ChannelClosed, ConnectionError, OSError, asyncio.TimeoutError)


@dataclass(frozen=True)
class Outgoing:
    """A message before it is sent."""

    exchange: str
    routing_key: str
    body: bytes
    #: As in `kickoff.request.v1`.
    type: str
    headers: dict[str, Any] = field(default_factory=dict[str, Any])
    message_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    priority: int | None = None
    mandatory: bool = True
    expiration_s: float | None = None

    def as_message(self) -> aio_pika.Message:
        """As the library has it."""
        return aio_pika.Message(
            self.body,
            headers=dict(self.headers),
            content_type="application/json",
            delivery_mode=DeliveryMode.PERSISTENT,
            type=self.type,
            message_id=self.message_id,
            correlation_id=self.correlation_id,
            reply_to=self.reply_to,
            priority=self.priority,
            expiration=self.expiration_s,
            timestamp=datetime.now(timezone.utc),
            app_id="crewfleet-python",
        )


class Unroutable(Exception):
    """No queue takes it: it came back, or its exchange does not exist."""


class Link:
    """One live connection."""

    def __init__(self, connection: AbstractConnection) -> None:
        """Over this connection."""
        self.connection = connection
        self.ended = asyncio.Event()
        self._publishing: AbstractChannel | None = None
        self._opening = asyncio.Lock()
        self._consumers: list[tuple[Any, str]] = []
        self._watching: asyncio.Task[None] | None = None
        connection.close_callbacks.add(self._on_close)

    def _on_close(self, *_: Any) -> None:
        self.ended.set()

    async def channel(self) -> AbstractChannel:
        """Another channel, without confirms."""
        return await self._channel(publisher_confirms=False)

    async def consume(self, queue: AbstractQueue, receive: Callable[[AbstractIncomingMessage], Awaitable[Any]], *, no_ack: bool = False) -> None:
        """Consumes for as long as the link lasts. A consumer that RabbitMQ cancels, since its queue is gone, or whose channel ends, ends
        the link: the next one makes the queue anew."""
        tag = await queue.consume(receive, no_ack=no_ack)
        self._consumers.append((await queue.channel.get_underlay_channel(), tag))
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    @property
    def consumes(self) -> bool:
        """Whether RabbitMQ has cancelled no consumer. aiormq forgets one; only its newer releases tell of that."""
        return all(tag in channel.consumers and not channel.is_closed for channel, tag in self._consumers)

    async def _watch(self) -> None:
        while self.consumes:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.ended.wait(), _WATCH_S)
                return
        self.ended.set()

    async def publish(self, message: Outgoing, timeout_s: float) -> None:
        """Publishes once, and returns when RabbitMQ has it."""
        channel = await self._publishing_channel()
        exchange = await channel.get_exchange(message.exchange, ensure=False)
        try:
            await exchange.publish(message.as_message(), message.routing_key, mandatory=message.mandatory, timeout=timeout_s)
        except (PublishError, ChannelNotFoundEntity) as error:
            raise Unroutable(str(error)) from error

    async def _publishing_channel(self) -> AbstractChannel:
        async with self._opening:
            if self._publishing is None or self._publishing.is_closed:
                self._publishing = await self._channel(publisher_confirms=True, on_return_raises=True)
            return self._publishing

    async def _channel(self, **options: bool) -> AbstractChannel:
        try:
            return await self.connection.channel(**options)
        except RuntimeError as error:
            # That is what aio-pika and aiormq raise where the connection has ended, before anybody is told of its end.
            raise ConnectionError(str(error)) from error

    async def close(self) -> None:
        """Closes the connection."""
        self.ended.set()
        with contextlib.suppress(*LINK_ENDED, AMQPError):
            await alone(self.connection.close())


class Broker:
    """The link that there is at present, and the next one where it is lost. For the fleet's own event loop only."""

    def __init__(self, settings: Settings, name: str, patience_s: float) -> None:
        """Connects with the first use; `name` is shown in the broker's list of connections. `patience_s` is for how long a first
        link is waited for."""
        self._settings = settings
        self._patience_s = patience_s
        self._name = name
        self._link: Link | None = None
        self._changed = asyncio.Condition()
        self._problem: BaseException | None = None
        self._refused = False
        self._restore: list[Callable[[Link], Awaitable[None]]] = []
        self._restoring = asyncio.Lock()
        self._keeping: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def place(self) -> str:
        """Where it is, without its password."""
        try:
            return ", ".join(_place(url) for url in self._settings.urls)
        except BrokerUnavailable as error:
            return f"({error})"

    async def on_each_link(self, restore: Callable[[Link], Awaitable[None]]) -> None:
        """Has this done on the link that there is, and on each that follows, before anybody else uses it. What it is asked for
        again is done already.

        Raises `BrokerUnavailable` where it cannot be done in time."""
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + self._patience_s, _pauses()
        while restore not in self._restore:
            # Nobody waits for a link behind another one who does.
            link = await self.link(max(end - loop.time(), 0), said_s=self._patience_s)
            try:
                await kept(asyncio.wait_for(self._restore_on(link, restore), max(end - loop.time(), 0)))
            except LINK_ENDED as error:
                self._problem = error
                await asyncio.sleep(min(next(pause), max(end - loop.time(), 0)))

    async def _restore_on(self, link: Link, restore: Callable[[Link], Awaitable[None]]) -> None:
        async with self._restoring:
            if restore in self._restore:
                return
            await restore(link)
            # The next one may have come about meanwhile, without it.
            if self._link is not None and self._link is not link:
                await restore(self._link)
            self._restore.append(restore)

    async def link(self, timeout_s: float, *, said_s: float | None = None) -> Link:
        """A live link. `said_s` is for how long somebody has waited for it altogether then, for the error.

        Raises `BrokerUnavailable` where none comes about in time, or where RabbitMQ lets nobody in."""
        if self._closed:
            raise BrokerUnavailable(f"the connection to RabbitMQ at {self.place} was closed")
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.create_task(self._keep())

        async def live() -> Link:
            async with self._changed:
                await self._changed.wait_for(lambda: self._link is not None or self._refused)
                if self._link is None:
                    raise BrokerUnavailable(f"RabbitMQ at {self.place} refuses the connection: {_said(self._problem)}")
                return self._link

        try:
            return await asyncio.wait_for(live(), timeout_s)
        except asyncio.TimeoutError:
            raise BrokerUnavailable(f"no connection to RabbitMQ at {self.place} within {said_s or timeout_s:g} s: {_said(self._problem)}") from None

    async def publish(self, message: Outgoing, timeout_s: float, *, what: str) -> None:
        """Publishes until RabbitMQ has it, over lost links, too: a message whose confirm is lost goes out again, marked as a
        possible duplicate. `what` names it in errors.

        Raises `Unroutable`, and `BrokerUnavailable`, which says whether RabbitMQ may have it all the same."""
        loop = asyncio.get_running_loop()
        end, sent, problem = loop.time() + timeout_s, False, "its confirm did not come"
        pause = _pauses()
        while (left := end - loop.time()) > 0:
            try:
                link = await self.link(left)
            except BrokerUnavailable as error:
                problem = str(error)
                break
            try:
                return await alone(link.publish(message, max(end - loop.time(), 0.001)))
            except DeliveryError:
                problem = "RabbitMQ refuses it, as it does when the queue is full"
            except LINK_ENDED as error:
                sent, problem = True, _said(error)
                message = replace(message, headers={**message.headers, header.POSSIBLE_DUPLICATE: 1})
            await asyncio.sleep(min(next(pause), max(end - loop.time(), 0)))
        doubt = "; it may have arrived all the same" if sent else "; it was not sent"
        raise BrokerUnavailable(f"{what} was not taken by RabbitMQ at {self.place} within {timeout_s:g} s: {problem}{doubt}")

    async def close(self) -> None:
        """Closes the link, and makes no other."""
        self._closed = True
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._link is not None:
            await self._link.close()

    async def _keep(self) -> None:
        pause = _pauses()
        while True:
            try:
                link = await alone(self._open())
            except (AuthenticationError, ProbableAuthenticationError, BrokerUnavailable, SettingsError) as error:
                await self._tell(None, error, refused=True)
            # Whatever it is: who waits is told of it, and the next attempt may go better.
            except Exception as error:
                await self._tell(None, error)
            else:
                pause = _pauses()
                await self._tell(link, None)
                await link.ended.wait()
                await self._tell(None, None)
                log.warning("the connection to RabbitMQ at %s is lost; connecting again", self.place)
                # Only a channel may have ended: the connection goes with it.
                await link.close()
                continue
            await asyncio.sleep(next(pause))

    async def _open(self) -> Link:
        problem: BaseException = BrokerUnavailable("[broker] url is empty")
        for url in self._settings.checked_urls():
            try:
                link = Link(await alone(self._connect(url)))
            except (*LINK_ENDED, AMQPError) as error:
                problem = error
                continue
            try:
                for restore in list(self._restore):
                    await restore(link)
            except BaseException:
                await link.close()
                raise
            return link
        raise problem

    async def _connect(self, url: str) -> AbstractConnection:
        settings = self._settings
        parsed = URL(url)
        secure = parsed.scheme == "amqps"
        options: dict[str, Any] = {"ssl_context": settings.tls()} if secure else {}
        if settings.client_cert_file is not None and parsed.user is None:
            parsed = parsed.update_query(auth="external")
        if "heartbeat" not in parsed.query:
            parsed = parsed.update_query(heartbeat=str(settings.heartbeat_s))
        connection: AbstractConnection = await aio_pika.connect(
            parsed,
            timeout=settings.connect_timeout_s,
            client_properties={"connection_name": self._name, "product": "crewfleet-python"},
            **options,
        )
        return connection

    async def _tell(self, link: Link | None, problem: BaseException | None, *, refused: bool = False) -> None:
        async with self._changed:
            self._link, self._refused = link, refused
            self._problem = problem or self._problem
            self._changed.notify_all()


def acknowledged(handle: Callable[[AbstractIncomingMessage], None]) -> Callable[[AbstractIncomingMessage], Awaitable[None]]:
    """A consumer's callback: what was handled is acked; what the link's end makes impossible is delivered again."""

    async def receive(message: AbstractIncomingMessage) -> None:
        handle(message)
        with contextlib.suppress(*LINK_ENDED, AMQPError):
            await message.ack()

    return receive


def _pauses() -> Any:
    pause = _FIRST_PAUSE_S
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(pause * 2, _LONGEST_PAUSE_S)


def _place(url: str) -> str:
    try:
        parsed = URL(url)
    except ValueError:
        return "a URL that is none"
    return f"{parsed.scheme}://{parsed.host}:{parsed.port or (5671 if parsed.scheme == 'amqps' else 5672)}{parsed.path}"


def _said(error: BaseException | None) -> str:
    return (str(error) or type(error).__name__) if error is not None else "it does not answer"
