"""A crew whose agent uses a tool, and whose author has callbacks of its own."""

import json

from crewai import Agent, Crew, Task
from crewai.tools import tool
from scripted import Scripted


@tool("count")
def count(word: str) -> str:
    """Counts the letters of a word."""
    return f"{len(word)} letters"


def using_a_tool() -> Crew:
    """One agent, one task. What its callbacks get is in the result, as `called`."""
    called = {"step": 0, "task": 0}

    def step_callback(_step: object) -> None:
        called["step"] += 1

    def task_callback(output: object) -> None:
        called["task"] += 1

    def after(result):
        result.raw = json.dumps(called)
        return result

    agent = Agent(role="counter", goal="count", backstory="-", llm=Scripted.calling("count", '{"word": "abc"}'), tools=[count])
    task = Task(description="count the letters", expected_output="a number", agent=agent)
    crew = Crew(agents=[agent], tasks=[task], step_callback=step_callback, task_callback=task_callback)
    crew.after_kickoff_callbacks = [after]
    return crew
