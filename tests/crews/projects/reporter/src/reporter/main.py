"""Runs the crew at home."""

from reporter.crew import Reporter


def run() -> None:
    Reporter().crew().kickoff(inputs={"topic": "lamps", "shop": "Lamps & More"})
