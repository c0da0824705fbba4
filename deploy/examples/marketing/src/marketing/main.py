"""Kicks the crew off in this process, as `crewai run` does."""

import asyncio

from marketing.crew import MarketingCrew

INPUTS = {
    "BUSINESS_DETAILS": "A bakery in Lisbon with three shops",
    "PRODUCT_DESCRIPTION": "A sourdough subscription, delivered weekly by bicycle",
}


def run() -> None:
    """Awaits one kickoff, and prints its result."""
    crew_instance = MarketingCrew().crew()
    result = asyncio.run(crew_instance.kickoff_async(inputs=INPUTS))
    print(result.raw)


if __name__ == "__main__":
    run()
