"""A fleet in the process of a test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from crewfleet import CrewCancelled, CrewFailed, CrewTimedOut, Fleet, NoSuchCrew
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
