"""Everything that makes a crew, with and without parameters. COUNT counts the calls of some, in the folder of the test."""

import dataclasses
import functools
import os

from crewai import Agent, Crew, Task
from crewai.flow.flow import Flow, start
from offline import Parrot


def _crew(text: str, needs: str = "") -> Crew:
    agent = Agent(role="clerk", goal="say it back", backstory="a parrot", llm=Parrot(model="parrot-shop"))
    return Crew(agents=[agent], tasks=[Task(name="sell", description=f"say {text}{needs}", expected_output="it", agent=agent)])


def _count() -> None:
    with open(os.environ["SHOP_MARKS"], "a", encoding="ascii") as file:
        file.write("made\n")


def counted() -> Crew:
    _count()
    return _crew("counted", " {goods}")


def optional(customer: str = "there") -> Crew:
    return _crew(f"hello {customer}", " {goods}")


def required(origin, cities, tone="dry") -> Crew:
    return _crew(f"from {origin} to {cities}, {tone}", " {goods}")


def everything(**inputs) -> Crew:
    return _crew(f"all of {sorted(inputs)}")


def as_dict(inputs) -> Crew:
    return _crew(f"dict of {sorted(inputs)}")


def by_position(origin, /, *, cities) -> Crew:
    return _crew(f"from {origin} to {cities}")


async def awaited(origin: str = "nowhere") -> Crew:
    return _crew(f"async from {origin}")


half = functools.partial(required, "Lisbon", tone="warm")


@dataclasses.dataclass
class TripCrew:
    origin: str
    cities: list = dataclasses.field(default_factory=list)

    def crew(self) -> Crew:
        return _crew(f"trip from {self.origin} to {self.cities}")


class WithInit:
    def __init__(self, origin):
        self.origin = origin

    def crew(self) -> Crew:
        return _crew(f"init with {self.origin}")


class FieldsFlow(Flow):
    """Flow's constructor has parameters, none of which is an input."""

    @start()
    def begin(self):
        return {"tracing": self.state["tracing"], "persistence": self.state["persistence"]}


@functools.cache
def cached(origin: str = "a") -> Crew:
    return _crew(f"cached from {origin}", " {goods}")


def nothing():
    _count()


def with_a_tool() -> Crew:
    """What a tool or a callback does later is no run of the factory."""

    def ask_another(_):
        return _crew("inner").kickoff()

    crew = _crew("outer")
    crew.tasks[0].callback = lambda output: output and ask_another
    return crew


clerk = Agent(role="clerk", goal="say it back", backstory="a parrot", llm=Parrot(model="parrot-agent"))


def make_clerk() -> Agent:
    return Agent(role="clerk", goal="say it back", backstory="a parrot", llm=Parrot(model="parrot-agent"))
