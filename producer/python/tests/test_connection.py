"""What becomes of kickoffs when the connection goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import aio_pika
import pytest
from conftest import Node, Site, Worker
from crewfleet import BrokerUnavailable, CrewCancelled, Fleet, NoSuchCrew
from crewfleet.broker import Broker
from crewfleet.replies import not_declared
from crewfleet.settings import Settings

AWAITS = 200


@pytest.fixture
def harmed() -> Iterator[Node]:
    """A node of the test's own."""
    node = Node()
    yield node
    node.close()


def test_awaits_outlive_a_restart_of_the_broker(harmed: Node, start_worker: Callable[..., Worker]) -> None:
    start_worker(harmed.url, "kickoff")
    with Fleet(harmed.url) as fleet:

        async def run() -> list[float]:
            kickoffs = [fleet.crew("sleep").start({"seconds": 4}) for _ in range(AWAITS)]
            await asyncio.gather(*(kickoff.sent() for kickoff in kickoffs))
            await asyncio.get_running_loop().run_in_executor(None, harmed.restart)
            # One that is started while it is away arrives, too.
            kickoffs.append(fleet.crew("sleep").start({"seconds": 0.1}))
            outputs = await asyncio.wait_for(asyncio.gather(*kickoffs), 120)
            return [output["seconds"] for output in outputs]

        assert asyncio.run(run()) == [4] * AWAITS + [0.1]


def test_a_broker_that_is_not_there_is_named_without_its_password() -> None:
    with Fleet("amqp://user:hunter2@127.0.0.1:1/%2f", publish_timeout_s=1) as fleet:

        async def run() -> list[Any]:
            # None of them waits behind another one.
            kickoffs = [fleet.crew("echo").start({}) for _ in range(AWAITS)]
            return await asyncio.wait_for(asyncio.gather(*kickoffs, return_exceptions=True), 120)

        for error in asyncio.run(run()):
            assert isinstance(error, BrokerUnavailable)
            assert "no connection to RabbitMQ at amqp://127.0.0.1:1// within 1 s" in str(error)
            assert "hunter2" not in str(error)


def test_a_user_who_is_not_let_in_is_told_at_once(node: Node) -> None:
    with Fleet(node.url.replace("guest:guest", "guest:wrong")) as fleet, pytest.raises(BrokerUnavailable, match="refuses the connection"):
        fleet.crew("echo").kickoff({})


def test_where_no_worker_ever_ran_it_is_said(node: Node) -> None:
    with Fleet(node.url, namespace=f"empty-{uuid.uuid4().hex[:8]}") as fleet, pytest.raises((BrokerUnavailable, NoSuchCrew), match="topology declare"):
        fleet.crew("echo").kickoff({})


def test_a_closed_fleet_says_so(site: Site) -> None:
    fleet = site.fleet()
    fleet.crew("echo").kickoff({})
    fleet.close()
    with pytest.raises(RuntimeError, match="this fleet is closed"):
        fleet.crew("echo").kickoff({})


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_a_connection_of_its_own(fleet: Fleet) -> None:
    fleet.crew("echo").kickoff({"from": "parent"})
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = b"failed"
        try:
            said = str(fleet.crew("echo").kickoff({"from": "child"})["from"]).encode()
        finally:
            os.write(writing, said)
            os._exit(0)
    os.close(writing)
    assert os.read(reading, 100) == b"child"
    os.waitpid(child, 0)
    assert fleet.crew("echo").kickoff({"from": "parent"})["from"] == "parent"


def test_a_channel_that_is_opened_as_the_connection_ends_is_a_lost_link(site: Site) -> None:
    async def run() -> None:
        broker = Broker(Settings(url=site.url, namespace=site.namespace), "test", 30)
        link = await broker.link(30)
        # Nobody has been told of the end yet.
        link.connection.close_callbacks.clear()
        await link.connection.close()
        with pytest.raises(ConnectionError):
            await link.channel()
        await broker.close()

    asyncio.run(run())


def test_a_queue_that_somebody_deletes_comes_back(site: Site) -> None:
    """Those of replies, of events and of answers; what is awaited over them is not lost."""

    async def run() -> None:
        fleet = site.fleet(client_id=uuid.uuid4().hex)
        kickoff = fleet.crew("sleep").start({"seconds": 8}, events=True)
        events = kickoff.events()
        assert (await events.__anext__()).type == "kickoff_started"
        await kickoff.status()
        connection = await aio_pika.connect(site.url)
        channel = await connection.channel()
        transport: Any = fleet._session.transport()
        names = transport._names
        for queue in (names.reply_queue, names.event_queue):
            await channel.queue_delete(queue)
        assert [event.type async for event in events][-1:] == ["kickoff_finished"]
        assert (await asyncio.wait_for(kickoff, 60))["seconds"] == 8
        assert (await fleet.crew("echo").kickoff_async({"a": 1}))["a"] == 1
        await connection.close()
        await fleet.aclose()

    asyncio.run(run())


def test_what_is_not_declared_is_pickled_well() -> None:
    error = pickle.loads(pickle.dumps(not_declared("kickoff.replies", "amqp://host")))
    assert isinstance(error, BrokerUnavailable)
    assert "exchange 'kickoff.replies' does not exist on amqp://host" in str(error)


ABANDONS = """
import signal
import sys
import threading
import time
import traceback
from crewfleet import Fleet, Kickoff

# A shell ignores Ctrl-C for what it runs in the background, and so would this.
signal.signal(signal.SIGINT, signal.default_int_handler)

def say_when_it_waits():
    # Whoever is interrupted before that abandons nothing.
    awaiting = {Kickoff.result.__code__.co_filename, threading.__file__}
    while not awaiting <= {frame.f_code.co_filename for frame, _ in traceback.walk_stack(sys._current_frames()[main])}:
        time.sleep(0.01)
    print("waits", flush=True)

main = threading.main_thread().ident

def run(fleet):
    kickoff = fleet.crew("sleep").with_options(kickoff_id=sys.argv[3], cancel_on_abandon=True).start({"seconds": 600})
    fleet.run(kickoff.sent())
    threading.Thread(target=say_when_it_waits, daemon=True).start()
    kickoff.result()

fleet = Fleet(sys.argv[1], namespace=sys.argv[2])
if sys.argv[4] == "closed":
    with fleet:
        run(fleet)
run(fleet)
"""


@pytest.mark.parametrize("way", ["closed", "left open"])
def test_ctrl_c_cancels_before_the_program_ends(site: Site, fleet: Fleet, way: str) -> None:
    kickoff_id = uuid.uuid4().hex
    program = subprocess.Popen([sys.executable, "-c", ABANDONS, site.url, site.namespace, kickoff_id, way], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert program.stdout is not None and program.stdout.readline() == b"waits\n"
    program.send_signal(signal.SIGINT)
    program.wait(60)
    with pytest.raises(CrewCancelled):
        fleet.attach(kickoff_id).result(timeout=60)


def test_who_gives_up_harms_nobody_else(site: Site) -> None:
    """aiormq closes a channel whose operation is cancelled: that of all replies, where it is a binding."""

    async def run() -> None:
        async with site.fleet() as fleet:
            await fleet.crew("echo").kickoff_async({"a": 1})
            transport: Any = fleet._session.transport()
            link = transport._broker._link
            for delay in range(50):
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(fleet.attach(uuid.uuid4().hex).reply(), delay / 10_000)
            assert (await fleet.crew("echo").kickoff_async({"a": 2}))["a"] == 2
            assert link.consumes and transport._broker._link is link

    asyncio.run(run())
