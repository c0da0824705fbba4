"""A flow whose state is kept by its class, which makes its storage while it is imported."""

import os

from crewai.flow.flow import Flow, start
from crewai.flow.persistence import persist


@persist()
class Counter(Flow):
    """Counts its kickoffs, as long as its state is kept under the id that it was given."""

    @start()
    def count(self):
        self.state["count"] = self.state.get("count", 0) + 1
        return {"count": self.state["count"], "pid": os.getpid()}
