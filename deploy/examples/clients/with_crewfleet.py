"""Kicks off a crew of the fleet as if it ran here: pip install crewfleet; CREWFLEET__BROKER__URL says where RabbitMQ is."""

import asyncio
import sys

from crewfleet import CrewFailed, Fleet


async def main(crew: str) -> None:
    """Three ways to await a crew."""
    async with Fleet() as fleet:
        crew_instance = fleet.crew(crew)
        inputs = {"BUSINESS_DETAILS": "a bakery in Lisbon", "PRODUCT_DESCRIPTION": "a sourdough subscription"}

        # As in one process.
        result = await crew_instance.kickoff_async(inputs=inputs)
        print(result.raw)

        # Many at once: the fleet runs as many as it has room for.
        outputs = await crew_instance.kickoff_for_each_async(inputs=[inputs, inputs])
        print(len(outputs), "more")

        # With its events, a time limit and whatever shall come back with the reply.
        kickoff = crew_instance.with_options(timeout_s=300, meta={"order": 7}).start(inputs, events=True)
        async for event in kickoff.events():
            print(event.type)
        try:
            print((await kickoff).raw)
        except CrewFailed as error:
            print(error.kind, error.reply.error, file=sys.stderr)


asyncio.run(main(sys.argv[1]))
