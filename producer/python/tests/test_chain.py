"""Chains: one kickoff follows another."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import jsonschema
import pytest
from conftest import ROOT
from crewfleet import CrewFailed, Fleet, InvalidKickoff, Options, ReplyTimeout, Step, request
from crewfleet.ids import id_of_step

SCHEMA: Any = json.loads((ROOT / "shared/protocol/schemas/kickoff.request.v1.json").read_text())


def test_the_end_of_a_chain_is_awaited(fleet: Fleet) -> None:
    steps = [Step("echo", {"draft": "$.result.json.TOPIC"}), Step("echo", {"last": "$.inputs.draft"})]
    crew_instance = fleet.crew("echo").with_options(then=steps)
    kickoff = crew_instance.start({"TOPIC": "lamps"}, events=True)
    assert kickoff.chain_result(timeout=60) == {"last": "lamps"}
    # The kickoff itself gives its own.
    assert json.loads(kickoff.result(timeout=60).raw) == {"TOPIC": "lamps"}

    async def awaited() -> None:
        first, last = await kickoff.reply(), await kickoff.chain_reply()
        assert first.chain is not None and first.chain["id"] == kickoff.kickoff_id and first.chain["step"] == 0
        assert last.chain is not None and last.chain["step"] == last.step == 2 and last.next_id is None
        assert first.next_id == id_of_step(kickoff.kickoff_id, 1) and last.kickoff_id == id_of_step(first.next_id, 2)
        async for event in kickoff.events():
            assert event.chain == {"id": kickoff.kickoff_id, "parent": None, "step": 0}
            break

    asyncio.run(asyncio.wait_for(awaited(), 60))
    failing = fleet.crew("echo").with_options(then=[Step("fail")]).start()
    with pytest.raises(CrewFailed):
        failing.chain_result(timeout=60)
    slow = fleet.crew("echo").with_options(then=[Step("sleep", {"seconds": 600})], cancel_on_abandon=True).start()
    with pytest.raises(ReplyTimeout, match="it goes on"):
        slow.chain_result(timeout=1)


def test_without_a_chain_the_kickoff_is_its_end(fleet: Fleet) -> None:
    kickoff = fleet.crew("echo").start({"TOPIC": "lamps"})
    reply = fleet.run(kickoff.chain_reply())
    assert (reply.kickoff_id, reply.chain, reply.next_id) == (kickoff.kickoff_id, None, None)


def test_steps_are_those_of_the_schema_or_refused_with_their_place() -> None:
    options = Options(then=[Step("a", {"x": "$.result.raw"}), Step("b", when="failed", timeout_s=1.5)])
    jsonschema.validate(json.loads(request.make("echo", {}, None, options, 1 << 20).body), SCHEMA)
    wrong: Any = "always"
    for steps, says in (
        ([Step("a"), Step("B b")], r"then\[1\].crew is bad"),
        ([Step("a", when=wrong)], r"then\[0\].when is 'always'"),
        ([Step("a", timeout_s=0)], r"then\[0\].timeout_s is 0"),
        ([Step("a")] * 21, "then has 21 steps; at most 20"),
        ([Step("a", {"x": object()})], "cannot be written as JSON"),
    ):
        with pytest.raises(InvalidKickoff, match=says):
            request.make("echo", {}, None, Options(then=steps), 1 << 20)


def test_nobody_chooses_the_id_of_what_follows() -> None:
    with pytest.raises(InvalidKickoff, match="what follows"):
        request.make("echo", {}, None, Options(kickoff_id=id_of_step("order-7", 1)), 1 << 20)
    assert request.make("echo", {}, None, Options(kickoff_id="step-1"), 1 << 20).kickoff_id == "step-1"


def test_a_testing_fleet_runs_no_steps_and_says_so() -> None:
    with Fleet.testing(crews={"one": lambda: "done"}) as fleet:
        kickoff = fleet.crew("one").with_options(then=[Step("two")]).start()
        reply = fleet.run(kickoff.chain_reply())
        assert reply.chain is not None and "a testing fleet runs no steps" in reply.chain["problem"]
        assert fleet.requests[0].options.then == [Step("two")]
