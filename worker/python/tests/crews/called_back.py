"""Crews whose callbacks return what they should, or do not."""

from crewai import Agent, Crew, Task
from crewai.flow.flow import Flow, start
from crewai.project import CrewBase, after_kickoff, agent, before_kickoff, crew, task

import offline


def _crew(**fields):
    made = offline.make()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@CrewBase
class InPlace:
    """Its callback changes the dict, and forgets to return it."""

    @before_kickoff
    def add_b(self, inputs):
        inputs["B"] = "from-callback"

    @agent
    def parrot(self) -> Agent:
        return Agent(role="parrot", goal="say it back", backstory="a parrot", llm=offline.Parrot(model="parrot"))

    @task
    def only(self) -> Task:
        return Task(description="say {A} and {B}", expected_output="{A}", agent=self.parrot())

    @crew
    def crew(self) -> Crew:
        return Crew(agents=self.agents, tasks=self.tasks)


@CrewBase
class Forgetful:
    """Its callback does something with the result, and forgets to return it."""

    @agent
    def parrot(self) -> Agent:
        return Agent(role="parrot", goal="say it back", backstory="a parrot", llm=offline.Parrot(model="parrot"))

    @task
    def only(self) -> Task:
        return Task(description="say {A}", expected_output="{A}", agent=self.parrot())

    @crew
    def crew(self) -> Crew:
        return Crew(agents=self.agents, tasks=self.tasks)

    @after_kickoff
    def publish(self, result):
        print("published")


def returns_nothing(inputs):
    inputs["C"] = 1


def adds_all(inputs):
    return {**inputs, "A": "again", "B": "again"}


def drops_b(inputs):
    return {"A": inputs["A"]}


async def asynchronous(inputs):
    return inputs


def loses(result):
    """Returns nothing."""


async def loses_later(result):
    """Returns nothing."""


def text(result):
    return f"text of {result}"


async def later(result):
    return result


def mended():
    """At home the next callback gets an empty dict, and adds what is needed."""
    return _crew(before_kickoff_callbacks=[returns_nothing, adds_all])


def dropping():
    return _crew(before_kickoff_callbacks=[drops_b])


def async_before():
    return _crew(before_kickoff_callbacks=[asynchronous])


def without_placeholders():
    """Nothing is lost where no text needs an input."""
    made = _crew(before_kickoff_callbacks=[returns_nothing])
    for number, one in enumerate(made.tasks):
        one.description, one.expected_output = f"say {number}", "anything"
    return made


def losing():
    return _crew(after_kickoff_callbacks=[loses])


def losing_async():
    return _crew(after_kickoff_callbacks=[loses_later])


def losing_stream():
    return _crew(after_kickoff_callbacks=[loses], stream=True)


def found_again():
    return _crew(after_kickoff_callbacks=[loses, text])


def async_after():
    return _crew(after_kickoff_callbacks=[later])


class MissingInFlow(Flow):
    """Its crew lacks an input, which no caller can give."""

    @start()
    def begin(self):
        return offline.make().kickoff(inputs={"A": "a"}).raw
