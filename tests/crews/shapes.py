"""Shapes of crews that import or build more than others before a kickoff's first event: for tests/benches/fleet/shapes.rs."""

import os

from crewai import Agent, Crew, Task
from crewai.flow.flow import Flow, start


def crew(**options):
    agent = Agent(role="Researcher", goal="Know about {TOPIC}", backstory="You read a lot.", llm="openai/gpt-4o-mini")
    task = Task(name="research", description="Research {TOPIC}", expected_output="A paragraph", agent=agent)
    return Crew(agents=[agent], tasks=[task], **options)


def remembering():
    """A crew with CrewAI's own memory."""
    return crew(memory=True)


class PlainFlow(Flow):
    """Any flow."""

    @start()
    def begin(self):
        return {"pid": os.getpid(), "topic": self.state["TOPIC"]}
