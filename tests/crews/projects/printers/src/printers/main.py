"""A flow that runs crews in threads of its own, writes files, and returns nothing: its state is its result."""

import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from crewai import Agent, Crew, Task
from crewai.flow.flow import Flow, listen, start
from pydantic import BaseModel


class Pages(BaseModel):
    topics: list[str] = ["lamp-mark-1", "lamp-mark-2", "lamp-mark-3"]
    texts: dict[str, str] = {}


def write(topic: str) -> str:
    """A page, by a crew of its own."""
    writer = Agent(role="Writer", goal="write", backstory="You write pages.", llm="openai/gpt-4o")
    page = Task(description=f"Write a page on {topic}.", expected_output="A page.", agent=writer)
    return Crew(agents=[writer], tasks=[page]).kickoff().raw


class Printers(Flow[Pages]):
    @start()
    def write_pages(self):
        with ThreadPoolExecutor() as pool:
            self.state.texts = dict(zip(self.state.topics, pool.map(write, self.state.topics)))

    @listen(write_pages)
    def print_pages(self):
        folder = Path("output/pages")
        folder.mkdir(parents=True)
        for topic, text in self.state.texts.items():
            (folder / f"{topic}.md").write_text(text)
        packed = zlib.compress("".join(self.state.texts.values()).encode())
        (folder.parent / "pages ü.z").write_bytes(packed)


def kickoff() -> None:
    Printers().kickoff()
