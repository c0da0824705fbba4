"""Kickoffs of a real worker."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import aio_pika
import pytest
from conftest import Site, Worker, started
from crewfleet import (
    CrewCancelled,
    CrewFailed,
    CrewTimedOut,
    Fleet,
    InvalidKickoff,
    KickoffExpired,
    KickoffRejected,
    NoSuchCrew,
    Options,
    OtherKickoff,
    ReplyTimeout,
    client,
    stream,
)


def test_each_way_of_crewai_s_gives_the_output(fleet: Fleet) -> None:
    crew_instance = fleet.crew("echo")
    outputs = [crew_instance.kickoff(inputs={"TOPIC": "lamps"})]

    async def awaited() -> None:
        outputs.append(await crew_instance.kickoff_async(inputs={"TOPIC": "lamps"}))
        outputs.append(await crew_instance.akickoff({"TOPIC": "lamps"}))
        outputs.extend(await crew_instance.kickoff_for_each_async([{"TOPIC": "lamps"}]))
        outputs.extend(await crew_instance.akickoff_for_each([{"TOPIC": "lamps"}]))

    asyncio.run(awaited())
    outputs.extend(crew_instance.kickoff_for_each(inputs=[{"TOPIC": "lamps"}]))
    for output in outputs:
        assert json.loads(output.raw) == {"TOPIC": "lamps"}
        assert output["TOPIC"] == "lamps"
        assert output.json_dict == {"TOPIC": "lamps"}
    assert len(outputs) == 6


def test_for_each_keeps_the_order_and_raises_what_failed(fleet: Fleet) -> None:
    topics = [{"TOPIC": f"lamp {number}"} for number in range(20)]
    assert [output["TOPIC"] for output in fleet.crew("echo").kickoff_for_each(topics)] == [one["TOPIC"] for one in topics]
    with pytest.raises(CrewFailed):
        fleet.crew("fail").kickoff_for_each([{}])


def test_a_flow_gives_what_it_returned(fleet: Fleet) -> None:
    assert fleet.flow("echo").kickoff({"a": [1, {"b": None}]}) == {"a": [1, {"b": None}]}


def test_an_error_carries_the_reply_and_is_pickled_well(fleet: Fleet) -> None:
    with pytest.raises(CrewFailed) as raised:
        fleet.crew("fail").with_options(meta={"order": 7}).kickoff({})
    error = raised.value
    assert error.reply.status == "failed" and error.reply.meta == {"order": 7}
    assert error.reply.error is not None and error.kind == error.reply.error.kind
    assert error.kickoff_id in str(error) and error.reply.error.message in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is CrewFailed and again.reply == error.reply and str(again) == str(error)


def test_a_crew_that_nobody_serves_is_told_at_once(fleet: Fleet) -> None:
    with pytest.raises(NoSuchCrew, match=r"no crew is named 'nobody'.*crewfleet topology declare nobody") as raised:
        fleet.crew("nobody").kickoff({})
    assert pickle.loads(pickle.dumps(raised.value)).crew == "nobody"


@pytest.mark.parametrize(
    ("crew", "inputs", "options", "said"),
    [
        ("echo", {"when": datetime.now()}, {}, "the input when cannot be written as JSON"),
        ("echo", {"n": float("nan")}, {}, "the input n cannot be written as JSON"),
        ("echo", {"a": "x" * (9 << 20)}, {}, r"at most 8388608 are taken \(\[broker\] max_request_bytes\)"),
        ("echo", {}, {"timeout_s": 0}, "must be greater than 0 seconds"),
        ("echo", {}, {"meta": "x" * 17000}, "meta has 17002 bytes as JSON; at most 16384"),
        ("echo", {}, {"deadline": datetime(2030, 1, 1)}, "has no time zone"),
        ("echo", {}, {"kickoff_id": "a.b"}, "kickoff_id 'a.b' is not allowed"),
        ("echo", {}, {"kickoff_id": "a", "idempotency_key": "b"}, "give one of them"),
        ("echo", {}, {"priority": 300}, "from 0 to 255"),
        ("Echo", {}, {}, "crew 'Echo' is not allowed"),
    ],
)
def test_what_a_worker_would_reject_is_refused_before_it_is_sent(fleet: Fleet, crew: str, inputs: dict, options: dict, said: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(InvalidKickoff, match=said):
        fleet.crew(crew, options=Options(**options)).start(inputs)


def test_a_worker_rejects_and_a_deadline_passes(fleet: Fleet) -> None:
    with pytest.raises(KickoffRejected, match="invalid_inputs"):
        fleet.crew("sleep").kickoff({"seconds": "long"})
    with pytest.raises(KickoffExpired):
        fleet.crew("echo").with_options(deadline=datetime.now(timezone.utc) - timedelta(minutes=1)).kickoff({})
    with pytest.raises(CrewTimedOut):
        fleet.crew("sleep").with_options(timeout_s=0.2).kickoff({"seconds": 60})


def test_waiting_may_be_given_up_and_come_back_to(site: Site, fleet: Fleet) -> None:
    kickoff = fleet.crew("sleep").start({"seconds": 2})
    with pytest.raises(ReplyTimeout) as raised:
        kickoff.result(timeout=0.01)
    assert raised.value.kickoff_id == kickoff.kickoff_id
    with site.fleet() as another:
        running = another.attach(kickoff.kickoff_id)
        assert running.result(timeout=60) == kickoff.result(timeout=60).json_dict
        # Its reply is there by now, and found all the same.
        assert another.attach(kickoff.kickoff_id).result(timeout=60) == {"seconds": 2}


def test_a_reply_is_found_where_the_broker_is_slow_to_deliver_it(site: Site, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    kickoff = fleet.crew("echo").start({"TOPIC": "tea"})
    assert kickoff.result(timeout=60).json_dict == {"TOPIC": "tea"}
    asyncio.run(_holds_something(site))
    consume, pumping = stream._consume, set()

    async def consume_late(*arguments: Any) -> tuple[asyncio.Queue[Any], int]:
        came, held = await consume(*arguments)
        late: asyncio.Queue[Any] = asyncio.Queue()

        async def pump() -> None:
            await asyncio.sleep(1)
            while True:
                late.put_nowait(await came.get())

        pumping.add(asyncio.ensure_future(pump()))
        return late, held

    monkeypatch.setattr(stream, "_consume", consume_late)
    monkeypatch.setattr(stream, "_SILENCE_S", 0.1)
    monkeypatch.setattr(client, "_PATIENCE_S", 0.0)
    with site.fleet() as another:
        assert another.attach(kickoff.kickoff_id).result(timeout=60) == {"TOPIC": "tea"}


async def _holds_something(site: Site) -> None:
    """Awaits that RabbitMQ says so of the stream of results, which it counts every few seconds."""
    async with await aio_pika.connect(site.url) as connection:
        channel = await connection.channel()
        while True:
            queue = await channel.declare_queue(f"{site.namespace}.results", passive=True)
            if queue.declaration_result.message_count:
                return
            await asyncio.sleep(0.1)


def test_it_is_cancelled_wherever_it_is(fleet: Fleet) -> None:
    async def cancelled() -> None:
        kickoff = fleet.crew("sleep").start({"seconds": 600}, events=True)
        await started(kickoff)
        assert (await kickoff.status()).stage == "running"
        await kickoff.cancel()
        with pytest.raises(CrewCancelled):
            await kickoff
        status = await kickoff.status()
        assert status.stage == "ended" and status.reply is not None and status.reply.status == "cancelled"

    asyncio.run(cancelled())


def test_an_abandoned_await_cancels_where_that_is_asked_for(fleet: Fleet) -> None:
    async def abandon(cancel: bool) -> str:
        crew = fleet.crew("sleep").with_options(cancel_on_abandon=cancel)
        kickoff = crew.start({"seconds": 3}, events=True)
        await started(kickoff)
        awaiting = asyncio.ensure_future(kickoff)
        await asyncio.sleep(0)
        awaiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await awaiting
        return (await kickoff.reply()).status

    assert asyncio.run(abandon(True)) == "cancelled"
    assert asyncio.run(abandon(False)) == "succeeded"


def test_events_come_in_order_to_the_last_one(fleet: Fleet) -> None:
    async def followed() -> list[str]:
        kickoff = fleet.crew("echo").with_options(meta="mine").start({"a": 1}, events=True)
        events = [event async for event in kickoff.events()]
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert {(event.kickoff_id, event.crew, event.meta) for event in events} == {(kickoff.kickoff_id, "echo", "mine")}
        await kickoff
        return [event.type for event in events]

    types = asyncio.run(followed())
    assert (types[0], types[-1]) == ("kickoff_started", "kickoff_finished")


def test_a_model_s_words_come_while_somebody_follows(site: Site, start_worker: Callable[..., Worker]) -> None:
    says = 'while :; do echo \'{"type": "llm_stream_chunk", "data": {"call_id": "c", "chunk": "word "}}\' >&3; sleep 0.02; done'
    start_worker(site.url, site.namespace, f'[crews.talker]\nrunner = "command"\ncommand = {json.dumps(["sh", "-c", says])}\n')

    async def followed() -> None:
        async with site.fleet() as fleet:
            kickoff = fleet.crew("talker").start({}, events=True)
            async for event in kickoff.events():
                if event.type == "llm_stream_chunk":
                    break
            assert event.data["chunk"].startswith("word ") and event.data["offset"] % 5 == 0
            await kickoff.cancel()
            with pytest.raises(CrewCancelled):
                await kickoff

    asyncio.run(followed())


def test_an_idempotency_key_runs_once(site: Site, fleet: Fleet) -> None:
    key = str(uuid.uuid4())
    first = fleet.crew("echo").with_options(idempotency_key=key).start({"a": 1})
    assert first.result(timeout=60)["a"] == 1
    with site.fleet() as another:
        second = another.crew("echo").with_options(idempotency_key=key).start({"a": 1})
        assert second.kickoff_id == first.kickoff_id
        assert second.result(timeout=60)["a"] == 1
        replies = [asyncio.run(_reply(kickoff)) for kickoff in (first, second)]
        assert replies[0].finished_at == replies[1].finished_at, "it was run twice"
        with pytest.raises(OtherKickoff, match=key):
            another.crew("echo").with_options(idempotency_key=key).kickoff({"a": 2})


async def _reply(kickoff):  # type: ignore[no-untyped-def]
    return await kickoff.reply()


def test_one_fleet_serves_several_event_loops_and_threads(fleet: Fleet) -> None:
    async def one(number: int) -> int:
        output = await fleet.crew("echo").kickoff_async({"n": number})
        return int(output["n"])

    assert [asyncio.run(one(number)) for number in range(3)] == [0, 1, 2]

    async def many() -> list[int]:
        loop = asyncio.get_running_loop()
        in_threads = [loop.run_in_executor(None, lambda n=n: asyncio.run(one(n))) for n in range(4)]  # type: ignore[misc]
        return list(await asyncio.gather(*in_threads))

    assert asyncio.run(many()) == [0, 1, 2, 3]


def test_giving_up_on_the_confirm_keeps_nothing_from_being_sent(site: Site) -> None:
    async def run() -> int:
        async with site.fleet() as fleet:
            kickoff = fleet.crew("echo").start({"a": 1})
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(kickoff.sent(), 0)
            return int((await kickoff)["a"])

    assert asyncio.run(run()) == 1


def test_events_end_with_the_kickoff_where_the_last_one_is_not_seen(site: Site, fleet: Fleet) -> None:
    async def run() -> None:
        kickoff = fleet.crew("echo").start({"a": 1}, events=True)
        await kickoff
        events = kickoff.events()
        assert (await events.__anext__()).type == "kickoff_started"
        await events.aclose()
        # A second look, and one from elsewhere: all events were before, but for the last one perhaps.
        assert {event.type async for event in kickoff.events()} <= {"kickoff_finished"}
        async with site.fleet() as another:
            assert [event.type async for event in another.attach(kickoff.kickoff_id).events()] == []
        with pytest.raises(NoSuchCrew):
            async for _ in fleet.crew("nobody").start({}).events():
                raise AssertionError("it was never sent")

    asyncio.run(run())


def test_what_nobody_holds_any_more_is_let_go(site: Site) -> None:
    async def run() -> None:
        async with site.fleet() as fleet:
            unheard = fleet.crew("echo").start({"a": 1}, events=True)
            await unheard
            transport: Any = fleet._session.transport()
            attached = fleet.attach(uuid.uuid4().hex)
            awaiting = asyncio.ensure_future(attached.reply())
            while not transport._replies._bound:
                await asyncio.sleep(0.01)
            awaiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await awaiting
            assert transport._events._followers
            del unheard, attached, awaiting
            gc.collect()
            while transport._replies._bound or transport._events._followers or transport._replies._waiting:
                await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(run(), 60))
