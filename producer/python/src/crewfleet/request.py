"""One kickoff before it is sent: what it may be, and the message that it becomes."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

from . import chain, header, tracing, webhooks
from .broker import Outgoing
from .chain import Step
from .errors import InvalidKickoff
from .header import Names
from .ids import checked_crew, chosen_id, id_of_key, new_id
from .webhooks import Webhooks

#: How many bytes `meta` may have: it is repeated in the reply and in every event.
MAX_META_BYTES = 16 * 1024
#: How deep a request may be nested.
MAX_DEPTH = 128


@dataclass(frozen=True)
class Options:
    """What a kickoff may have beside its inputs."""

    #: In seconds; it may lower the crew's own limit, not raise it.
    timeout_s: float | None = None
    #: It is not started after this moment, with its time zone; its reply is then `expired`.
    deadline: datetime | None = None
    #: Opaque to the fleet; it comes back in the reply and in every event. At most 16 KiB as JSON.
    meta: Any = None
    #: RabbitMQ heeds it on quorum queues from 4.0 on: above 4 is high.
    priority: int | None = None
    #: Under this id instead of a new one.
    kickoff_id: str | None = None
    #: The same key, crew and inputs are one kickoff, which runs once; other inputs under it are an error.
    idempotency_key: str | None = None
    #: Cancelling the asyncio task that awaits the result, or Ctrl-C in a blocking call, cancels the kickoff, too.
    cancel_on_abandon: bool = False
    #: Where it is to be told of what happens to it, by AMP's names. A gateway calls them, or `crewfleet sinks`.
    webhooks: Webhooks | None = field(default=None, repr=False)
    #: What is to follow, in order: at most 20 steps. `Kickoff.chain_reply` waits for the last one.
    then: Sequence[Step] = ()


@dataclass(frozen=True)
class Request:
    """A kickoff that every worker would take."""

    kickoff_id: str
    crew: str
    inputs: dict[str, Any]
    options: Options
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(default_factory=dict[str, str], repr=False)

    @property
    def body_hash(self) -> str:
        """As a reply tells it: a request with another one under the same id is another kickoff."""
        return hashlib.sha256(self.body).hexdigest()[:16]

    @property
    def may_be_known(self) -> bool:
        """Whether another program may have sent it already."""
        return self.options.idempotency_key is not None or self.options.kickoff_id is not None

    def message(self, names: Names) -> Outgoing:
        """What is published."""
        headers: dict[str, Any] = dict(self.headers)
        if self.may_be_known:
            # A worker that gets it asks the others whether one of them has it.
            headers[header.POSSIBLE_DUPLICATE] = 1
        return Outgoing(
            exchange=names.requests,
            routing_key=self.crew,
            body=self.body,
            type=header.REQUEST,
            headers=headers,
            message_id=self.kickoff_id,
            correlation_id=self.kickoff_id,
            reply_to=names.reply_key,
            priority=self.options.priority,
        )


def make(crew: str, inputs: Mapping[str, Any] | None, files: Mapping[str, Any] | None, options: Options, max_bytes: int) -> Request:
    """Puts a request together, in the caller's trace. `InvalidKickoff` says what a worker would reject, and why."""
    crew = checked_crew(crew)
    if options.kickoff_id is not None and options.idempotency_key is not None:
        raise InvalidKickoff("kickoff_id and idempotency_key are given: the key makes the id, so give one of them")
    kickoff_id = chosen_id(options.kickoff_id) if options.kickoff_id is not None else new_id()
    if options.idempotency_key is not None:
        kickoff_id = id_of_key(crew, options.idempotency_key)
    given = _inputs(inputs, files)
    request: dict[str, Any] = {"kickoff_id": kickoff_id, "crew": crew, "inputs": given}
    if options.meta is not None:
        request["meta"] = options.meta
        meta = _encoded(options.meta, "meta")
        if len(meta) > MAX_META_BYTES:
            raise InvalidKickoff(f"meta has {len(meta)} bytes as JSON; at most {MAX_META_BYTES} are taken")
    if options.timeout_s is not None:
        if not (math.isfinite(options.timeout_s) and options.timeout_s > 0):
            raise InvalidKickoff(f"timeout_s is {options.timeout_s}; it must be greater than 0 seconds")
        request["timeout_s"] = options.timeout_s
    if options.deadline is not None:
        request["deadline"] = _moment(options.deadline)
    if options.then:
        request["then"] = chain.written(options.then)
    if options.webhooks is not None:
        request |= webhooks.checked(options.webhooks)
    if options.priority is not None and not 0 <= options.priority <= 255:
        raise InvalidKickoff(f"priority is {options.priority}; it must be from 0 to 255")
    body = _encoded(request, "the request")
    if len(body) > max_bytes:
        raise InvalidKickoff(f"the request has {len(body)} bytes; at most {max_bytes} are taken ([broker] max_request_bytes)")
    return Request(kickoff_id, crew, given, options, body, tracing.headers())


def _inputs(inputs: Mapping[str, Any] | None, files: Mapping[str, Any] | None) -> dict[str, Any]:
    given: dict[Any, Any] = dict(inputs or {})
    for name, value in given.items():
        if not isinstance(name, str):
            raise InvalidKickoff(f"the input {name!r:.40} has a name that is no text")
        _encoded(value, f"the input {name}")
    for name, file in (files or {}).items():
        if name in given:
            raise InvalidKickoff(f"{name} is given in inputs and in input_files: give it once")
        given[name] = {"$file": _file(name, file)}
    return given


def _encoded(value: Any, what: str) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        encoded = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidKickoff(f"{what} cannot be written as JSON: {error}") from error
    if _depth(value) > MAX_DEPTH:
        raise InvalidKickoff(f"{what} is nested deeper than {MAX_DEPTH}")
    return encoded


def _depth(value: Any) -> int:
    deepest = 0
    level: list[Any] = [value]
    while level:
        level = [inner for one in level for inner in _inside(one)]
        deepest += 1
        if deepest > MAX_DEPTH:
            break
    return deepest


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast("dict[Any, Any]", value).values()
    return cast("list[Any]", value) if isinstance(value, (list, tuple)) else ()


def _moment(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise InvalidKickoff(f"deadline {moment.isoformat()} has no time zone: datetime.now(timezone.utc) has one")
    return moment.astimezone(timezone.utc).isoformat()


def _file(name: str, file: Any) -> dict[str, Any]:
    """A file of CrewAI's (`ImageFile(source=…)`), a path, or bytes; a text that is an address is fetched by whoever needs it."""
    source = getattr(file, "source", file)
    url = getattr(source, "url", source)
    if isinstance(url, str) and url.startswith(("http://", "https://")):
        return {"url": url}
    media_type = getattr(file, "content_type", None)
    told = {"media_type": media_type} if isinstance(media_type, str) else {}
    path = getattr(source, "path", source)
    data = getattr(source, "data", source)
    if isinstance(data, (bytes, bytearray)):
        filename = getattr(file, "filename", None)
        told |= {"name": filename} if isinstance(filename, str) else {}
        return {"base64": base64.b64encode(data).decode(), **told}
    if isinstance(path, (str, Path)):
        try:
            read = Path(path).read_bytes()
        except OSError as error:
            raise InvalidKickoff(f"the file {path} of the input {name} cannot be read: {error.strerror}") from error
        return {"base64": base64.b64encode(read).decode(), "name": Path(path).name, **told}
    raise InvalidKickoff(f"the input file {name} is a {type(file).__name__}: give a file of CrewAI's, a path, bytes, or an address")
