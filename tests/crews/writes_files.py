"""A crew without CrewAI that leaves files where it stands, as its inputs say."""

import os


class Writes:
    """Writes `files`: paths and their texts."""

    def kickoff(self, inputs: dict) -> str:
        for path, text in inputs["files"].items():
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return "done"
