"""Runs the crew at home."""

from overlong.crew import build


def run() -> None:
    build().kickoff()
