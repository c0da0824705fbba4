"""Runs the crew at home."""

from diarist.crew import diary


def run() -> None:
    diary.kickoff(inputs={"event": "the lamp-mark-7 broke"})
