"""The published contract (`shared/protocol/schemas`) holds this package and the programs together."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import aio_pika
import jsonschema
import pytest
from conftest import ROOT, Site, started
from crewfleet import Fleet, Options, header, request
from crewfleet.ids import created_at, id_of_key, new_id
from crewfleet.reply import read_reply

SCHEMAS = ROOT / "shared/protocol/schemas"


def schema(name: str) -> Any:
    """A schema, by its message's type."""
    return json.loads((SCHEMAS / f"kickoff.{name}.v1.json").read_text())


def test_requests_are_those_of_the_schema() -> None:
    options = Options(timeout_s=1.5, deadline=datetime.now(timezone.utc), meta={"a": [1]}, idempotency_key="k")
    files = {"PHOTO": b"\x89PNG", "PAGE": "https://example.org/a.pdf", "SELF": Path(__file__)}
    made = request.make("echo", {"a": {"b": None}}, files, options, 1 << 20)
    body = json.loads(made.body)
    jsonschema.validate(body, schema("request"))
    for name in files:
        jsonschema.validate(body["inputs"][name], schema("input_file"))
    message = made.message(header.Names("kickoff", "me"))
    assert (message.exchange, message.routing_key, message.reply_to) == ("kickoff.requests", "echo", "client.me")
    assert message.message_id == message.correlation_id == body["kickoff_id"] == id_of_key("echo", "k")


def test_names_are_those_of_the_asyncapi_document() -> None:
    document = json.loads((SCHEMAS / "asyncapi.json").read_text())
    channels = {channel["address"] for channel in document["channels"].values()}
    names = header.Names("kickoff", "x")
    for exchange in (names.requests, names.replies, names.results, names.events, names.control, names.queries, names.answers):
        assert any(exchange in str(channel) for channel in document["channels"].values()), f"{exchange} is not among {channels}"
    text = json.dumps(document)
    for name in (header.POSSIBLE_DUPLICATE, header.REQUEST, header.CONTROL, header.QUERY):
        assert name in text


def test_the_reply_of_a_worker_is_read_whole(fleet: Fleet, site: Site) -> None:
    kickoff = fleet.crew("echo").with_options(meta={"a": 1}).start({"TOPIC": "lamps"})
    kickoff.result(timeout=60)
    reply = fleet.run(kickoff.reply())
    jsonschema.validate(reply.json, schema("reply"))
    # Every field of the schema is one here.
    assert set(schema("reply")["properties"]) <= set(vars(reply))
    assert (reply.meta, reply.attempt, reply.redrive, reply.executions) == ({"a": 1}, 1, 0, 1)
    assert reply.started_at is not None and reply.started_at <= reply.finished_at
    assert read_reply(json.dumps(reply.json).encode()) == reply


def test_what_goes_to_and_fro_beside_it_is_of_the_schemas(fleet: Fleet, site: Site) -> None:
    """Commands and questions of the package, answers and events of a worker."""

    async def run() -> None:
        names = header.Names(site.namespace, "x")
        async with await aio_pika.connect(site.url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(exclusive=True)
            await fleet.crew("echo").kickoff_async({})
            transport: Any = fleet._session.transport()
            await queue.bind(names.answers, transport._names.reply_key)
            for exchange, key in ((names.control, "#"), (names.queries, ""), (names.events, "#")):
                await queue.bind(exchange, key)
            async with queue.iterator(no_ack=True) as messages:
                kickoff = fleet.crew("sleep").start({"seconds": 600}, events=True)
                await started(kickoff)
                assert (await kickoff.status()).stage == "running"
                await kickoff.cancel()
                missing = {header.CONTROL, header.QUERY, "kickoff.answer.v1", "kickoff.event.v1"}
                async for message in messages:
                    assert message.type is not None
                    jsonschema.validate(json.loads(message.body), json.loads((SCHEMAS / f"{message.type}.json").read_text()))
                    missing.discard(message.type)
                    if not missing:
                        break

    asyncio.run(asyncio.wait_for(run(), 60))


def test_an_id_is_a_uuid_of_version_7() -> None:
    before = datetime.now(timezone.utc)
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    for one in ids:
        assert uuid.UUID(one).version == 7 and uuid.UUID(one).variant == uuid.RFC_4122
    made = created_at(ids[0])
    assert made is not None and abs((made - before).total_seconds()) < 5
    assert created_at("order-7") is None


def test_the_version_is_that_of_the_programs() -> None:
    of_rust = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    of_python = re.search(r'^version = "(.*)"', (ROOT / "producer/python/pyproject.toml").read_text(), re.MULTILINE)
    assert of_rust and of_python and of_rust[1] == of_python[1]


@pytest.mark.parametrize("said", [b"", b"[]", b"null", b'{"kickoff_id": 1}', b"\xff"])
def test_what_is_no_reply_is_told(said: bytes) -> None:
    from crewfleet.reply import WrongMessage

    with pytest.raises(WrongMessage):
        read_reply(said)
