"""The crew of the project."""

from crewai import Agent, Crew, Task
from crewai.project import CrewBase, agent, crew, task
from offline import Parrot


@CrewBase
class ShopCrew:
    @agent
    def clerk(self) -> Agent:
        return Agent(role="clerk", goal="say it back", backstory="a parrot", llm=Parrot(model="parrot-shop"))

    @task
    def sell(self) -> Task:
        return Task(description="say {goods}", expected_output="{goods}", agent=self.clerk())

    @crew
    def crew(self) -> Crew:
        return Crew(agents=self.agents, tasks=self.tasks)
