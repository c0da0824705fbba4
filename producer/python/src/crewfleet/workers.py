"""Commands to the workers, and questions to them."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity

from . import header
from .broker import Broker, Link, Outgoing, Unroutable
from .header import Names
from .ids import new_id
from .replies import not_declared

#: How long the workers have to answer.
_ANSWER_S = 2.0
#: How far a kickoff is, the later the further; one that several have is where it is furthest.
_STAGES = ("ended", "retrying", "waiting", "stopping", "running")


@dataclass(frozen=True)
class Held:
    """A kickoff as a worker has it."""

    worker: str
    #: `waiting`, `running`, `stopping`, `retrying` or `ended`.
    state: str
    attempt: int | None
    redrive: int
    body_hash: str | None


class Workers:
    """All workers of the fleet."""

    def __init__(self, broker: Broker, names: Names) -> None:
        """The queue for answers is made with the first question."""
        self._broker = broker
        self._names = names
        self._answers: dict[str, asyncio.Queue[dict[str, Any]]] = {}

    async def cancel(self, kickoff_id: str, timeout_s: float, *, redrive: int | None) -> None:
        """Has whatever worker has the kickoff, or gets it within a day, stop it. Returns when RabbitMQ has the command."""
        command = {"command": "cancel", "kickoff_id": kickoff_id, "redrive": redrive}
        message = self._message(self._names.control, header.CONTROL, command, mandatory=False)
        try:
            await self._broker.publish(message, timeout_s, what=f"the command to cancel kickoff {kickoff_id}")
        except Unroutable as error:
            raise not_declared(self._names.control, self._broker.place) from error

    async def who_has(self, kickoff_id: str, timeout_s: float) -> list[Held]:
        """The workers that have the kickoff, or had it lately, those first where it is furthest."""
        await self._broker.on_each_link(self._restore)
        query = {"query": "kickoffs", "kickoff_id": kickoff_id, "worker": None}
        message = self._message(self._names.queries, header.QUERY, query, mandatory=True)
        question = str(message.message_id)
        answers = self._answers[question] = asyncio.Queue()
        found: list[Held] = []
        try:
            # No worker listens: nobody has it.
            with suppress(Unroutable):
                await self._broker.publish(message, timeout_s, what="a question to the workers")
                loop = asyncio.get_running_loop()
                end = loop.time() + _ANSWER_S
                with suppress(asyncio.TimeoutError):
                    while not any(held.state in ("running", "stopping", "waiting") for held in found):
                        answer = await asyncio.wait_for(answers.get(), end - loop.time())
                        found += [_held(answer, one) for one in answer.get("kickoffs", []) if one.get("kickoff_id") == kickoff_id]
        finally:
            del self._answers[question]
        return sorted(found, key=lambda held: (held.redrive, _STAGES.index(held.state)), reverse=True)

    def _message(self, exchange: str, kind: str, said: dict[str, Any], *, mandatory: bool) -> Outgoing:
        own_id, now = new_id(), datetime.now(timezone.utc).isoformat()
        body = json.dumps({"id": own_id, "time": now, **said}).encode()
        reply_to = self._names.reply_key if kind == header.QUERY else None
        return Outgoing(exchange, "", body, kind, message_id=own_id, reply_to=reply_to, mandatory=mandatory)

    async def _restore(self, link: Link) -> None:
        channel = await link.channel()
        queue = await channel.declare_queue(f"{self._names.answer_queue}.{new_id()}", exclusive=True, arguments={"x-queue-type": "classic"})
        try:
            await queue.bind(self._names.answers, self._names.reply_key)
        except ChannelNotFoundEntity as error:
            raise not_declared(self._names.answers, self._broker.place) from error
        await link.consume(queue, self._receive, no_ack=True)

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        with suppress(ValueError, AttributeError):
            answer = json.loads(message.body)
            waiting = self._answers.get(answer.get("id"))
            if waiting is not None:
                waiting.put_nowait(answer)


def _held(answer: dict[str, Any], kickoff: dict[str, Any]) -> Held:
    state = kickoff.get("state")
    return Held(
        worker=str(answer.get("worker")),
        state=state if state in _STAGES else "waiting",
        attempt=kickoff.get("attempt"),
        redrive=int(kickoff.get("redrive") or 0),
        body_hash=kickoff.get("body_hash"),
    )
