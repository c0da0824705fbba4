"""A fleet in the process of a test."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from crewfleet import CrewCancelled, CrewFailed, CrewTimedOut, Fleet, FleetClosed, InvalidKickoff, KickoffExpired, NoSuchCrew
from crewfleet.testing import TestingFleet

Make = Callable[[Mapping[str, Any]], TestingFleet]


class Greets:
    """A target with a method `kickoff`, as a crew has it."""

    def kickoff(self, inputs: dict[str, Any]) -> str:
        """Greets."""
        return f"hello {inputs['name']}"


def test_crews_run_here_and_requests_are_kept(crewfleet_testing: Make) -> None:
    fleet = crewfleet_testing({"greets": Greets, "says": lambda inputs: {"said": inputs["word"]}, "waits": lambda: "done"})
    assert fleet.crew("greets").kickoff({"name": "Ada"}).raw == "hello Ada"
    assert fleet.flow("says").kickoff({"word": "tea"}) == {"said": "tea"}
    assert str(fleet.crew("waits").kickoff()) == "done"
    assert [(one.crew, one.inputs) for one in fleet.requests] == [("greets", {"name": "Ada"}), ("says", {"word": "tea"}), ("waits", {})]


def test_it_is_an_async_context_manager_too() -> None:
    async def run() -> str:
        async with Fleet.testing(crews={"greets": Greets()}) as fleet:
            output = await fleet.crew("greets").kickoff_async(inputs={"name": "Ada"})
            assert len(fleet.requests) == 1
            return output.raw

    assert asyncio.run(run()) == "hello Ada"


def test_ends_are_those_of_a_fleet(crewfleet_testing: Make) -> None:
    def fails(inputs: dict[str, Any]) -> str:
        raise ValueError("no more")

    async def hangs(inputs: dict[str, Any]) -> str:
        await asyncio.sleep(600)
        return "never"

    fleet = crewfleet_testing({"fails": fails, "hangs": hangs})
    with pytest.raises(CrewFailed, match="exception: ValueError: no more"):
        fleet.crew("fails").kickoff()
    with pytest.raises(CrewTimedOut):
        fleet.crew("hangs").with_options(timeout_s=0.05).kickoff()
    with pytest.raises(NoSuchCrew, match="this testing fleet has fails, hangs"):
        fleet.crew("other").kickoff()
    kickoff = fleet.crew("hangs").start(events=True)

    async def cancel() -> list[str]:
        await kickoff.sent()
        assert (await kickoff.status()).stage == "running"
        await kickoff.cancel()
        return [event.type async for event in kickoff.events()]

    assert asyncio.run(cancel()) == ["kickoff_started", "kickoff_finished"]
    with pytest.raises(CrewCancelled):
        kickoff.result(timeout=60)


def test_a_blocking_crew_blocks_nobody_else(crewfleet_testing: Make) -> None:
    class Blocks:
        def kickoff(self, inputs: dict[str, Any]) -> str:
            time.sleep(inputs["s"])
            return "done"

    fleet = crewfleet_testing({"blocks": Blocks})
    slow, quick = fleet.crew("blocks").start({"s": 2}), fleet.crew("blocks").start({"s": 0})
    assert quick.result(timeout=60).raw == "done"
    assert asyncio.run(slow.status()).stage == "running"
    assert fleet.attach(slow.kickoff_id).result(timeout=60) == "done"


def test_a_crew_may_kick_off_another_one(crewfleet_testing: Make) -> None:
    async def outer(inputs: dict[str, Any]) -> str:
        output = await fleet.crew("greets").kickoff_async(inputs)
        return f"they said {output.raw}"

    fleet = crewfleet_testing({"greets": Greets, "outer": outer})
    assert fleet.crew("outer").kickoff({"name": "Ada"}).raw == "they said hello Ada"
    # Nor does it lock itself out where a coroutine that starts one is run there.
    assert fleet.run(fleet.crew("greets").kickoff_async({"name": "Bo"})).raw == "hello Bo"


def test_the_first_kickoffs_may_come_from_many_threads(crewfleet_testing: Make) -> None:
    fleet = crewfleet_testing({"greets": Greets})
    together = threading.Barrier(8)

    def greeted(number: int) -> str:
        together.wait()
        return str(fleet.crew("greets").kickoff({"name": number}))

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(greeted, range(8))) == [f"hello {number}" for number in range(8)]
    assert len(fleet.requests) == 8


def test_a_timeout_of_the_crew_s_own_is_a_failure(crewfleet_testing: Make) -> None:
    async def gives_up(inputs: dict[str, Any]) -> str:
        raise asyncio.TimeoutError("the tool's own")

    fleet = crewfleet_testing({"gives_up": gives_up})
    with pytest.raises(CrewFailed, match="the tool's own"):
        fleet.crew("gives_up").kickoff()


def test_a_function_that_blocks_blocks_nobody_else(crewfleet_testing: Make) -> None:
    other_ran = threading.Event()
    fleet = crewfleet_testing({"blocks": lambda: str(other_ran.wait(60)), "other": other_ran.set})
    blocking = fleet.crew("blocks").start()
    fleet.crew("other").kickoff()
    assert blocking.result(timeout=60).raw == "True"


def test_a_deadline_that_has_passed_is_one(crewfleet_testing: Make) -> None:
    fleet = crewfleet_testing({"greets": Greets})
    with pytest.raises(KickoffExpired):
        fleet.crew("greets").with_options(deadline=datetime.now(timezone.utc) - timedelta(minutes=1)).kickoff({"name": "Ada"})


def test_what_crewai_keeps_on_a_machine_is_refused(crewfleet_testing: Make) -> None:
    fleet = crewfleet_testing({"greets": Greets})
    with pytest.raises(InvalidKickoff, match="leave from_checkpoint out"):
        fleet.crew("greets").kickoff({"name": "Ada"}, from_checkpoint=object())  # type: ignore[arg-type]
    with pytest.raises(InvalidKickoff, match="leave restore_from_state_id out"):
        fleet.flow("greets").kickoff({"name": "Ada"}, restore_from_state_id="x")  # type: ignore[arg-type]


def test_who_awaits_is_told_that_the_fleet_was_closed(crewfleet_testing: Make) -> None:
    async def closed() -> None:
        fleet = crewfleet_testing({})
        kickoff = fleet.attach("unknown")
        awaiting = asyncio.ensure_future(kickoff.reply())
        await asyncio.sleep(0)
        await fleet.aclose()
        with pytest.raises(FleetClosed):
            await awaiting

    asyncio.run(closed())


def test_the_model_is_the_output_s_and_its_last_task_s(crewfleet_testing: Make) -> None:
    class Report:
        def __init__(self, title: str) -> None:
            self.title = title

        @classmethod
        def model_validate(cls, obj: Any) -> Report:
            return cls(**obj)

    def task(name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, agent="a", description="d", raw="{}", pydantic=None, json_dict={"title": name}, output_format="pydantic")

    output = SimpleNamespace(raw="{}", pydantic=None, json_dict={"title": "last"}, tasks_output=[task("first"), task("last")], token_usage=None)
    fleet = crewfleet_testing({"reports": lambda: output})
    result = fleet.crew("reports", output_pydantic=Report).kickoff()
    assert (result.pydantic.title, result.tasks_output[1].pydantic.title) == ("last", "last")
    assert (result.tasks_output[0].pydantic, result.tasks_output[0].json_dict) == (None, {"title": "first"})


def test_whatever_a_function_raises_is_a_failure(crewfleet_testing: Make) -> None:
    async def exits() -> None:
        sys.exit("no more")

    fleet = crewfleet_testing({"stops": lambda: next(iter(())), "exits": exits, "exits_too": sys.exit})
    for crew in ("stops", "exits", "exits_too"):
        with pytest.raises(CrewFailed, match=r"StopIteration|SystemExit"):
            fleet.crew(crew).start().result(timeout=60)


def test_any_number_of_crews_may_wait_for_others(crewfleet_testing: Make) -> None:
    fleet = crewfleet_testing({"greets": Greets, "outer": lambda inputs: str(fleet.crew("greets").kickoff(inputs))})
    kickoffs = [fleet.crew("outer").start({"name": number}) for number in range(40)]
    assert [kickoff.result(timeout=60).raw for kickoff in kickoffs] == [f"hello {number}" for number in range(40)]


def test_a_cancel_right_after_the_start_is_one(crewfleet_testing: Make) -> None:
    async def hangs() -> None:
        await asyncio.sleep(600)

    async def cancelled() -> None:
        kickoff = fleet.crew("hangs").start()
        await kickoff.cancel()
        await kickoff

    fleet = crewfleet_testing({"hangs": hangs})
    for run in (fleet.run, asyncio.run):
        with pytest.raises(CrewCancelled):
            run(cancelled())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_kickoff_of_the_process_that_forked_is_none_here(crewfleet_testing: Make) -> None:
    fleet = crewfleet_testing({"hangs": lambda: threading.Event().wait(600)})
    kickoff = fleet.crew("hangs").start()
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            kickoff.result(timeout=60)
        except FleetClosed as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert b"the process that forked" in os.read(reading, 1000)
