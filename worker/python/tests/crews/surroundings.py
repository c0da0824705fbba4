"""A target that tells its environment, after it said a word of its own."""

import os

if "STORAGE_BY_CODE" in os.environ:
    os.environ["CREWAI_STORAGE_DIR"] = os.environ["STORAGE_BY_CODE"]


class Teller:
    def kickoff(self, inputs: dict) -> dict:
        if "remember" in inputs:
            with open(os.path.join(os.environ["CREWAI_STORAGE_DIR"], inputs["remember"]), "w", encoding="ascii"):
                pass
        return {name: os.environ.get(name) for name in inputs["names"]}


def make() -> Teller:
    return Teller()
