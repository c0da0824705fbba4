"""A flow that leaves files where it stands, as its inputs say."""

import os

from crewai.flow.flow import Flow, start


class Writes(Flow):
    """Writes `files`: paths and their texts."""

    @start()
    def write(self) -> str:
        for path, text in self.state["files"].items():
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return "done"
