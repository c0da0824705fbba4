"""The project's own entry points. Each would leave a mark if it were called, and a second one if it got to the model."""

import asyncio
import os
import sys

from shop import helpers
from shop.agency.desk import DeskFlow
from shop.crew import ShopCrew

INPUTS = {"goods": "apples"}


def _mark(what):
    with open(os.environ["SHOP_MARKS"], "a", encoding="ascii") as file:
        file.write(f"{what}\n")


def run():
    _mark("run")
    try:
        ShopCrew().crew().kickoff(inputs=INPUTS)
    except Exception as error:
        raise Exception(f"An error occurred while running the crew: {error}") from error


def train():
    _mark("train")
    ShopCrew().crew().train(n_iterations=int(sys.argv[1]), filename=sys.argv[2], inputs=INPUTS)


def plot():
    _mark("plot")
    DeskFlow().plot()


def through_a_helper():
    _mark("through_a_helper")
    return helpers.go(INPUTS)


def through_asyncio():
    _mark("through_asyncio")

    async def inner():
        return await DeskFlow().kickoff_async(inputs=INPUTS)

    return asyncio.run(inner())


def hidden_from_readers():
    """Only the guard sees this one."""
    crew = ShopCrew().crew()
    return getattr(crew, "kick" + "off")(inputs=INPUTS)


class Runner:
    def __init__(self):
        self.crew_of_it = ShopCrew()

    def start(self):
        return self.crew_of_it.crew().kickoff(inputs=INPUTS)


def by_a_method():
    _mark("by_a_method")
    return Runner().start()


if __name__ == "__main__":
    run()
