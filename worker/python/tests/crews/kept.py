"""Targets that make a memory while they are imported, as modules of projects do; they import LanceDB, which takes seconds."""

import os

from crewai import Agent, Crew, Task
from crewai.memory.unified_memory import Memory
from offline import Parrot

EVERYTHING = {"scope": "/", "categories": [], "importance": 0.5}


def embed(texts):
    """Vectors that are near each other, so that a search finds all there is."""
    return [[1.0, 0.001 * len(text), 0.0, 0.0] for text in texts]


memory = Memory(llm=Parrot(model="parrot-4"), embedder=embed)


def _remember(text):
    found = [match.record.content for match in memory.recall("anything", depth="shallow", limit=50)]
    memory.remember(text, **EVERYTHING)
    memory.drain_writes()
    return found


class Rememberer:
    """What it recalls, before it remembers what it was given."""

    def kickoff(self, inputs):
        return {"recalled": _remember(inputs["text"]), "pid": os.getpid(), "host": os.getppid()}


def _crew():
    agent = Agent(role="first", goal="say it back", backstory="a parrot", llm=Parrot(model="parrot-5"))
    return Crew(agents=[agent], tasks=[Task(name="one", description="say {A}", expected_output="{A}", agent=agent)], memory=memory)


crew = _crew()
