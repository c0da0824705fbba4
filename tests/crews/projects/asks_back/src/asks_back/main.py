"""A flow that asks a person."""

from crewai.flow.flow import Flow, start


class AsksBack(Flow):
    @start()
    def ask_them(self):
        answer = input("Which lamp? ")
        return f"the lamp is {answer}"


def kickoff() -> None:
    AsksBack().kickoff()
