"""A crew that tells what its process need not do any more."""

import json

from crewai.agents.agent_executor import AgentExecutor
from crewai.events.types.agent_events import AgentExecutionCompletedEvent, AgentExecutionStartedEvent
from crewai.flow.runtime import FlowState
from openai.types.chat.chat_completion import ChatCompletion, Choice
from openai.types.chat.chat_completion_message import ChatCompletionMessage

MODELS = (AgentExecutionStartedEvent, AgentExecutionCompletedEvent, ChatCompletion, Choice, ChatCompletionMessage)


class Crew:
    def kickoff(self, inputs: dict) -> str:
        left = [model.__name__ for model in MODELS if not model.__pydantic_complete__]
        if not issubclass(AgentExecutor._initial_state_t, FlowState):
            left.append("AgentExecutor's state")
        return json.dumps(left)


def make() -> Crew:
    return Crew()
