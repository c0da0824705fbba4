"""What a process does once, at its first kickoff, done before the forks: with a child for each kickoff, every one would do it again.

Measured with crewai 1.15.30 and OpenAI's client: 93 ms of CPU of a child's first kickoff become 77, and with the state's class 70.
"""

import contextlib
import platform
import sys
from collections.abc import Iterator
from typing import Any

# Models that wait to be built until somebody makes one (pydantic's defer_build, names that were not known yet). CrewAI has six;
# of OpenAI's 1,700 those that an answer is made of.
_BUILT = ("crewai.", "openai.types.chat.chat_completion")


def prewarm() -> None:
    """Does it, where this crewai and this pydantic have it. What fails is left to the kickoff that needs it."""
    for step in (platform.processor, _build_models, _define_flows, _give_the_state_an_id):  # processor starts `uname`, for headers
        with contextlib.suppress(Exception):
            step()


def _build_models() -> None:
    pydantic = sys.modules.get("pydantic")
    if pydantic is None:
        return
    for model in _subclasses(pydantic.BaseModel):
        if str(model.__module__).startswith(_BUILT) and not model.__pydantic_complete__:
            with contextlib.suppress(Exception):
                model.model_rebuild(raise_errors=False)


def _define_flows() -> None:
    """CrewAI's agents are flows, and a flow reads its methods when its first instance is made."""
    _executor().flow_definition()


def _give_the_state_an_id() -> None:
    """For each instance of a flow CrewAI makes a class of its state with an id, unless the state has one."""
    executor, with_id = _executor(), sys.modules["crewai.flow.runtime"].FlowState
    state = executor._initial_state_t
    if isinstance(state, type) and not issubclass(state, with_id):

        class StateWithId(with_id, state):  # type: ignore[misc, valid-type]
            """As CrewAI makes it."""

        executor._initial_state_t = StateWithId


def _executor() -> Any:
    return sys.modules["crewai.agents.agent_executor"].AgentExecutor


def _subclasses(of: Any) -> Iterator[Any]:
    for subclass in of.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
