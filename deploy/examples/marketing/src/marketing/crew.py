"""The marketing crew: a researcher looks at the market, a copywriter writes from what was found."""

import os

from crewai import LLM, Agent, Crew, Process, Task
from crewai.llms.base_llm import BaseLLM
from crewai.project import CrewBase, agent, crew, task

from marketing.offline_llm import OfflineLLM


def model() -> BaseLLM:
    """The model of both agents: OpenAI's with a key, else the offline one."""
    if os.environ.get("OPENAI_API_KEY"):
        return LLM(model=os.environ.get("MODEL") or "openai/gpt-4o-mini")
    return OfflineLLM(model="offline", latency_s=float(os.environ.get("OFFLINE_LLM_LATENCY_S") or 0.3))


@CrewBase
class MarketingCrew:
    """Needs the inputs BUSINESS_DETAILS and PRODUCT_DESCRIPTION; they stand in config/agents.yaml and config/tasks.yaml."""

    agents: list[Agent]
    tasks: list[Task]

    @agent
    def market_researcher(self) -> Agent:
        return Agent(config=self.agents_config["market_researcher"], llm=model())

    @agent
    def copywriter(self) -> Agent:
        return Agent(config=self.agents_config["copywriter"], llm=model())

    @task
    def market_research(self) -> Task:
        return Task(config=self.tasks_config["market_research"])

    @task
    def marketing_copy(self) -> Task:
        return Task(config=self.tasks_config["marketing_copy"])

    @crew
    def crew(self) -> Crew:
        return Crew(agents=self.agents, tasks=self.tasks, process=Process.sequential)
