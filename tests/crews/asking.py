"""A crew that asks OpenAI's models, wherever the environment says that they are, with a tool. Its input: ORDER."""

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool


@tool("look_up")
def look_up(what: str) -> str:
    """Looks something up."""
    return f"all about {what}"


def asking() -> Crew:
    """The crew: one agent, one task. Its model's answers come in pieces."""
    agent = Agent(role="Asker", goal="find out", backstory="it asks", llm=LLM(model="openai/gpt-4o", stream=True), tools=[look_up], max_retry_limit=0)
    task = Task(description="Find out about {ORDER}.", expected_output="a sentence about {ORDER}", agent=agent)
    return Crew(agents=[agent], tasks=[task])
