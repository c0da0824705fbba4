"""Tasks without names, roles with inputs, and usage that events or counters alone tell."""

import json

from crewai import Agent, Crew, Task
from crewai.flow.flow import Flow, start

import offline
from scripted import Scripted


def nameless():
    """The second task has a name; the role of its agent has an input."""
    model = offline.Parrot(model="parrot")
    agent = Agent(role="{A} researcher", goal="answer", backstory="a parrot", llm=model)
    return Crew(
        agents=[agent],
        tasks=[
            Task(description="say the private words {A} aloud", expected_output="words", agent=agent),
            Task(name="named", description="say {A} twice", expected_output="words", agent=agent),
        ],
    )


def failing():
    made = nameless()
    made.agents[0].llm = Scripted.of(*[RuntimeError("cannot do: say the private words alpha aloud")] * 9)
    return made


def quoting():
    """A provider's error quotes every prompt of a task and its agent, as they are or as a library shows them."""
    made = nameless()
    task, agent = made.tasks[0], made.agents[0]
    task.description = 'say the private words\nof "{A}" aloud'
    task.expected_output = "private words of {A}, once"
    agent.goal, agent.backstory = "tell {A} private things", "a parrot that knows\nprivate things"
    quoted = (
        *('say the private words\nof "alpha" aloud', "private words of alpha, once", "private words of {A}, once"),
        *("tell alpha private things", agent.backstory),
    )
    agent.llm = Scripted.of(*[RuntimeError(f"refused: {quoted}, {json.dumps(quoted)}; " + "; ".join(quoted))] * 9)
    return made


def literal():
    """{first_name} is meant as it is."""
    model = offline.Parrot(model="parrot")
    agent = Agent(role="writer", goal="write", backstory="a parrot", llm=model)
    task = Task(name="write", description="write to {A}, greet by {first_name}", expected_output="a letter", agent=agent)
    return Crew(agents=[agent], tasks=[task])


def into_a_file():
    made = literal()
    made.tasks[0].description, made.tasks[0].output_file = "write", "{A}.md"
    return made


def counted(*told):
    """Two agents that share a model, four calls by the counter of the model, whatever the events say."""
    model = Scripted.of(model="shared", told=told)
    made = offline.make()
    for agent in made.agents:
        agent.llm = model
    return made


def counted_by_events():
    return counted("events")


def counted_by_counter():
    return counted("counter")


class CountedFlow(Flow):
    """A model that has been used before counts on."""

    @start()
    def begin(self):
        return counted("counter").kickoff(inputs={"A": "a", "B": "b"}).raw


def counted_by_copies():
    """Two agents with copies of a model, which count together."""
    made = counted("counter")
    for agent in made.agents:
        agent.llm = agent.llm.model_copy()
    return made
