"""What a process does once, at its first kickoff, done before the forks: with a child for each kickoff, every one would do it again.

Measured with crewai 1.15.30 and OpenAI's client: 93 ms of CPU of a child's first kickoff become 77, and with the state's class 70.
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
    """CrewAI's agents are flows. A flow reads its methods when its first instance is made; and for each instance it makes a class
    of its state with an id, unless the state has one."""
    executor = getattr(sys.modules.get("crewai.agents.agent_executor"), "AgentExecutor", None)
    define = getattr(executor, "flow_definition", None)
    if callable(define):
        define()
    with_id = getattr(sys.modules.get("crewai.flow.runtime"), "FlowState", None)
    state = getattr(executor, "_initial_state_t", None)
    if isinstance(with_id, type) and isinstance(state, type) and not issubclass(state, with_id):

        class StateWithId(with_id, state):  # type: ignore[misc, valid-type]
            """As CrewAI makes it."""

        executor._initial_state_t = StateWithId  # type: ignore[union-attr]


def _subclasses(of: Any) -> Iterator[Any]:
    for subclass in of.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
