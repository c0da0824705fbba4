"""A CrewAI crew of which webhooks tell: an agent that looks something up and answers, and one that waits until somebody opens the
FIFO {GATE}, where there is one, before it answers."""

import os

from crewai import Agent, Crew, Task
from crewai.llms.base_llm import BaseLLM
from tool_user import Model, look_up


class Waiting(BaseLLM):
    """Answers once the gate is open."""

    gate: str = ""

    def call(self, messages, tools=None, callbacks=None, available_functions=None, from_task=None, from_agent=None, response_model=None):
        text = messages if isinstance(messages, str) else "\n".join(str(message["content"]) for message in messages)
        gate = text.split("GATE=", 1)[1].split()[0]
        if os.path.exists(gate):
            with open(gate, encoding="ascii") as file:
                file.read()
        return "Thought: the gate is open\nFinal Answer: written"


def telling() -> Crew:
    """The crew: two agents, two tasks."""
    finder = Agent(role="researcher", goal="find out", backstory="it has a tool", llm=Model(model="finder"), tools=[look_up])
    writer = Agent(role="writer", goal="write", backstory="it waits", llm=Waiting(model="waiting"))
    tasks = [
        Task(name="research", description="look up {TOPIC}, do: find", expected_output="a text", agent=finder),
        Task(name="write", description="write of {TOPIC}, GATE={GATE} ", expected_output="a text", agent=writer),
    ]
    return Crew(agents=[finder, writer], tasks=tasks)
