"""A crew that stands in its project's folder: each of its files is named by a relative path."""

import os
from pathlib import Path

from crewai import Agent, Crew, Task
from crewai.knowledge.source.text_file_knowledge_source import TextFileKnowledgeSource
from crewai.project import CrewBase, agent, crew, task
from crewai.tools import tool


@tool("read_prices")
def read_prices() -> str:
    """Reads the price list."""
    prices = Path("data/prices.csv").read_text()
    with open("data/read.log", "a") as log:
        log.write(f"read by {os.environ['SHOP_NAME']} in {os.environ['CURRENCY']}\n")
    return prices


@tool("count_words")
def count_words(text: str) -> int:
    """Counts the words of a text."""
    return len(text.split())


@CrewBase
class Reporter:
    """One agent, trained by trained_agents_data.pkl; two tasks."""

    @agent
    def reporter(self) -> Agent:
        return Agent(config=self.agents_config["reporter"], tools=[read_prices, count_words])

    @task
    def report(self) -> Task:
        return Task(config=self.tasks_config["report"])

    @task
    def summarise(self) -> Task:
        return Task(config=self.tasks_config["summarise"])

    @crew
    def crew(self) -> Crew:
        sources = [TextFileKnowledgeSource(file_paths=["customers.txt"])]
        return Crew(agents=self.agents, tasks=self.tasks, knowledge_sources=sources, output_log_file="logs/run.json", verbose=True)
