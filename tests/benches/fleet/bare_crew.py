"""The yardstick of CrewAI crews: the example crew as its documentation runs it, in one process.

bare_crew.py COUNT gather|one: COUNT kickoffs at once by asyncio.gather, or one kickoff. Prints a line of JSON: wall and CPU seconds
of the kickoffs (imports and one kickoff to warm up not counted), and the process's largest resident memory.
"""

import asyncio
import json
import os
import resource
import sys
import time

from marketing.crew import MarketingCrew


def inputs(number: int) -> dict[str, str]:
    return {"BUSINESS_DETAILS": f"business {number}", "PRODUCT_DESCRIPTION": f"product {number}"}


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def gather(count: int) -> None:
    results = await asyncio.gather(*(MarketingCrew().crew().kickoff_async(inputs=inputs(number)) for number in range(count)))
    assert all(result.raw for result in results)


def main() -> None:
    count = int(sys.argv[1])
    if sys.argv[2] == "gather":
        asyncio.run(gather(1))
    wall, before = time.monotonic(), cpu()
    asyncio.run(gather(count))
    took = {"wall_s": time.monotonic() - wall, "cpu_s": cpu() - before, "rss_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    print(json.dumps(took), flush=True)
    # CrewAI's threads would be waited for.
    os._exit(0)


main()
