"""Runs the crew at home."""

from judges.crew import Judges


def run() -> None:
    Judges().crew().kickoff(inputs={"entries": ["entry-mark-1", "entry-mark-2"]})
