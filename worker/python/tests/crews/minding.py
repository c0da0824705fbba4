"""Flows that use the memory which CrewAI gives each, and that do not."""

import sys

from crewai.flow.flow import Flow, start
from offline import make


class Forgetful(Flow):
    """A flow that never uses the memory which CrewAI gives it."""

    @start()
    def begin(self):
        return {"lancedb": "lancedb" in sys.modules, "crew": make().kickoff(inputs={"A": "a", "B": "b"}).raw}


class Minded(Flow):
    """A flow that uses it."""

    @start()
    def begin(self):
        return {"lancedb": "lancedb" in sys.modules, "there": self.memory is not None}
