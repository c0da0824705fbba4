"""An agent as a target: it has no tasks, and is asked by messages."""

import inspect
from typing import Any

from ..inputs import InvalidInputs, MissingInputs

MESSAGES = "messages"
# What that may be; see _checked.
INPUTS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        MESSAGES: {
            "title": "Messages",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {
                    "type": "array",
                    "items": {"type": "object", "properties": {"role": {"type": "string"}, "content": {}}, "required": ["role", "content"]},
                    "minItems": 1,
                },
            ],
        }
    },
    "required": [MESSAGES],
}


class AgentKickoff:
    """Gives an Agent or a LiteAgent the form of a crew. Its one input is `messages`: a text, or a list of
    {"role": "user", "content": "..."}."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent

    def fetch_inputs(self) -> set[str]:
        """As a crew's method of that name."""
        return {MESSAGES}

    def kickoff(self, inputs: dict[str, Any], input_files: dict[str, Any] | None = None) -> Any:
        """Asks the agent; returns its output, or a coroutine that does. Raises MissingInputs and InvalidInputs."""
        if MESSAGES not in inputs:
            raise MissingInputs([MESSAGES])
        others = sorted(name for name in inputs if name != MESSAGES)
        if others:
            raise InvalidInputs(f"the target is an agent, which takes the input {MESSAGES} alone; leave out {', '.join(others)}, or make a crew of it")
        method = getattr(self.agent, "kickoff", None) or self.agent.kickoff_async
        if input_files is None:
            return method(_checked(inputs[MESSAGES]))
        if "input_files" not in inspect.signature(method).parameters:
            raise InvalidInputs(f"the {type(self.agent).__name__} of this CrewAI takes no input files; upgrade CrewAI, or make a crew of it")
        return method(_checked(inputs[MESSAGES]), input_files=input_files)


def _checked(messages: Any) -> Any:
    if isinstance(messages, str) and messages.strip():
        return messages
    if isinstance(messages, list) and messages and all(map(_is_message, messages)):
        return messages
    raise InvalidInputs(f'the input {MESSAGES} must be a text, or a list of {{"role": "user", "content": "..."}}; it is {_shape(messages)}')


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and isinstance(message.get("role"), str) and "content" in message


def _shape(value: Any) -> str:
    """What it is, never what it says."""
    if isinstance(value, (str, list)) and not value:
        return f"an empty {type(value).__name__}"
    if isinstance(value, list):
        return "a list with something else in it"
    return "a text of spaces" if isinstance(value, str) else f"of type {type(value).__name__}"
