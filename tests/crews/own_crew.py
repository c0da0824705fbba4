"""What the README calls "your own crew": two functions of CrewAI's project decorators, and a model that needs no key."""

from crewai import Agent, BaseLLM, Crew, Task
from crewai.project import CrewBase, agent, crew, task


class Parrot(BaseLLM):
    """Says what it was asked."""

    def call(self, messages, *args, **kwargs) -> str:
        text = messages if isinstance(messages, str) else messages[-1]["content"]
        return f"Final Answer: asked about {'lamps' if 'lamps' in text else 'something else'}"


@CrewBase
class MyCrew:
    """One agent, one task, one input: TOPIC."""

    agents_config = None
    tasks_config = None

    @agent
    def writer(self) -> Agent:
        return Agent(role="Writer", goal="write", backstory="writes", llm=Parrot(model="parrot"))

    @task
    def write(self) -> Task:
        return Task(description="Write about {TOPIC}.", expected_output="a text", agent=self.writer())

    @crew
    def crew(self) -> Crew:
        return Crew(agents=self.agents, tasks=self.tasks)
