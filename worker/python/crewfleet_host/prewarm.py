"""What a process does once, at its first kickoff, done before the forks: with a child for each kickoff, every one would do it again.

Measured with crewai 1.15.30, a crew of two agents and OpenAI's client, as the median of 20 kickoffs with a child each: 166 ms of
CPU with both steps, 199 without the models, 181 without the state's class. What gained less than 5 ms is not done.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

# Models that wait to be built until somebody makes one (pydantic's defer_build, names that were not known yet). CrewAI has six;
# of OpenAI's 1,700 those that an answer is made of.
_BUILT = ("crewai.", "openai.types.chat.chat_completion")


def prewarm() -> None:
    """Does it, where this crewai and this pydantic have it. What fails is left to the kickoff that needs it."""
    for step in (_build_models, _give_the_state_an_id):
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


def _give_the_state_an_id() -> None:
    """CrewAI's agents are flows. For each instance of a flow it makes a class of its state with an id, unless the state has one."""
    executor, with_id = sys.modules["crewai.agents.agent_executor"].AgentExecutor, sys.modules["crewai.flow.runtime"].FlowState
    state = executor._initial_state_t
    if isinstance(state, type) and not issubclass(state, with_id):

        class StateWithId(with_id, state):  # type: ignore[misc, valid-type]
            """As CrewAI makes it."""

        executor._initial_state_t = StateWithId


def _subclasses(of: Any) -> Iterator[Any]:
    for subclass in of.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
