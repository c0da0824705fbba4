"""Semantic Kernel's connector to CrewAI AMP, as a program uses it: by itself, and as a plugin of a kernel."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import aiohttp
from semantic_kernel import Kernel
from semantic_kernel.core_plugins.crew_ai import CrewAIEnterprise
from semantic_kernel.functions import KernelArguments, KernelParameterMetadata

HOOK = "https://example.org/hook?k=1"


def connector(crew: str, session: aiohttp.ClientSession) -> CrewAIEnterprise:
    """The connector to a crew. It opens a session of its own, if it is given any."""
    return CrewAIEnterprise(
        endpoint=f"{sys.argv[1]}/crews/{crew}",
        auth_token=os.environ["TOKEN"],
        polling_interval=0.1,
        polling_timeout=120.0,
        session=session,
    )


async def direct(crew: str, session: aiohttp.ClientSession, inputs: dict[str, Any] | None, **webhooks: str) -> str:
    """Kicks off, and waits."""
    async with connector(crew, session) as called:
        kickoff_id = await called.kickoff(inputs, **webhooks)
        result = await called.wait_for_crew_completion(kickoff_id)
        status = await called.get_crew_kickoff_status(kickoff_id)
        return f"{status.state.value}: {result}"


async def plugin(session: aiohttp.ClientSession, inputs: dict[str, str]) -> str:
    """Has a kernel call it, as a model would have it."""
    async with connector("marketing/", session) as called:
        parameters = [KernelParameterMetadata(name=name, description=name, type="string", is_required=True) for name in inputs]
        kernel = Kernel()
        kernel.add_plugin(called.create_kernel_plugin("marketing", "A crew of the fleet", parameters, crew_webhook_url=HOOK))
        return str(await kernel.invoke(plugin_name="marketing", function_name="kickoff_and_wait", arguments=KernelArguments(**inputs)))


async def main() -> None:
    """All of it."""
    marketing = {"BUSINESS_DETAILS": "a bakery", "PRODUCT_DESCRIPTION": "rye bread"}
    async with aiohttp.ClientSession() as session:
        said = {
            "succeeds": await direct("marketing", session, marketing),
            "plugin": await plugin(session, marketing),
            "nothing": await direct("echo", session, None),
            "lists": await direct("echo", session, {"TOPICS": ["bread", "milk"], "LIMITS": {"words": 7}}, task_webhook_url=HOOK, step_webhook_url=HOOK),
            "fails": await direct("fail", session, {"message": "no flour"}),
        }
    print(json.dumps(said))


asyncio.run(main())
