"""A manager who delegates, an agent who reasons, structured output behind a guardrail, callbacks, and a model that streams."""

from pathlib import Path

from crewai import LLM, Agent, Crew, Process, Task
from crewai.project import CrewBase, after_kickoff, agent, before_kickoff, crew, task
from pydantic import BaseModel, Field


class Verdict(BaseModel):
    winner: str
    points: int = Field(ge=3)
    reasons: list[str]


def has_reasons(output):
    """A guardrail in Python."""
    return (True, output) if output.pydantic and output.pydantic.reasons else (False, "give reasons")


@CrewBase
class Judges:
    agents_config = None
    tasks_config = None

    @before_kickoff
    def count(self, inputs):
        return {**inputs, "number": len(inputs["entries"])}

    @after_kickoff
    def note(self, output):
        Path("verdict.json").write_text(output.pydantic.model_dump_json())
        return output

    @agent
    def weigher(self) -> Agent:
        return Agent(role="Weigher", goal="weigh", backstory="exact", llm=LLM(model="openai/gpt-4o", stream=True), reasoning=True)

    @task
    def judge(self) -> Task:
        return Task(
            description="Judge the entries {entries}, {number} in all.",
            expected_output="a verdict",
            output_pydantic=Verdict,
            guardrail=has_reasons,
        )

    @crew
    def crew(self) -> Crew:
        return Crew(agents=self.agents, tasks=self.tasks, process=Process.hierarchical, manager_llm="openai/gpt-4o")
