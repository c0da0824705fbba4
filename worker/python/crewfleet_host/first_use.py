"""What a process does once, at its first kickoff, done before the forks: with a child for each kickoff, every one would do it again.

Measured with crewai 1.15.30 and OpenAI's client: 19 ms of CPU of a child that takes some 100.
"""

import platform
import sys
from collections.abc import Iterator
from typing import Any

# Models that wait to be built until somebody makes one (pydantic's defer_build, names that were not known yet). CrewAI has six;
# of OpenAI's 1,700 those that an answer is made of.
_BUILT = ("crewai.", "openai.types.chat.chat_completion")


def do_what_is_done_once() -> None:
    """Does it, where this crewai and this pydantic have it."""
    platform.processor()  # starts `uname`; OpenAI's client asks, for its headers
    _build_models()
    _define_flows()


def _build_models() -> None:
    pydantic = sys.modules.get("pydantic")
    if pydantic is None:
        return
    for model in set(_subclasses(pydantic.BaseModel)):
        if model.__module__.startswith(_BUILT) and not getattr(model, "__pydantic_complete__", True):
            model.model_rebuild(raise_errors=False)


def _define_flows() -> None:
    """CrewAI's agents are flows since 1.10, and a flow reads its methods when its first instance is made."""
    executor = getattr(sys.modules.get("crewai.agents.agent_executor"), "AgentExecutor", None)
    define = getattr(executor, "flow_definition", None)
    if callable(define):
        define()


def _subclasses(of: Any) -> Iterator[Any]:
    for subclass in of.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
