"""CrewAI's own client of AMP, `InvokeCrewAIAutomationTool`, as a program uses it."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from crewai_tools import InvokeCrewAIAutomationTool
from pydantic import Field


def tool(crew: str, inputs: dict[str, Any]) -> InvokeCrewAIAutomationTool:
    """What an agent gets to call a crew with."""
    return InvokeCrewAIAutomationTool(
        crew_api_url=f"{sys.argv[1]}/crews/{crew}",
        crew_bearer_token=os.environ["TOKEN"],
        crew_name=f"The crew {crew}",
        crew_description="A crew of the fleet",
        max_polling_time=120,
        crew_inputs=inputs,
    )


marketing: dict[str, Any] = {"BUSINESS_DETAILS": Field(..., description="what we do"), "PRODUCT_DESCRIPTION": Field(..., description="what we sell")}
lists: dict[str, Any] = {"TOPICS": (list[str], Field(..., description="several")), "LIMITS": (dict[str, int], Field(..., description="nested"))}
one: dict[str, Any] = {"message": Field(..., description="what went wrong")}

said = {
    "succeeds": tool("marketing", marketing).run(BUSINESS_DETAILS="a bakery", PRODUCT_DESCRIPTION="rye bread"),
    # A base URL that ends with a slash, as it is copied out of a browser.
    "slash": tool("marketing/", marketing).run(BUSINESS_DETAILS="a bakery", PRODUCT_DESCRIPTION="rye bread"),
    "lists": tool("echo", lists).run(TOPICS=["bread", "milk"], LIMITS={"words": 7}),
    "fails": tool("fail", one).run(message="no flour"),
    "lacks": tool("marketing", one).run(message="rye bread"),
}
print(json.dumps(said))
