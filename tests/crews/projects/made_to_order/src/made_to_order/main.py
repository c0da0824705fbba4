"""Runs the crew at home."""

from made_to_order.crew import build_crew


def run() -> None:
    build_crew("how much is order-mark-4", customer="Ada").kickoff()
