"""What a request's webhooks tell of tasks and of agents' steps: whole, as frames of their own, and only where it is asked for.

Made of CrewAI's events, so that the callbacks of a crew's author stay as they are.
"""

import json
import re
import threading
from collections.abc import Iterable
from typing import Any

from .frames import Channel
from .jsonable import jsonable, structured
from .names import Names

# A text of more characters makes a call larger than any may be (worker/src/webhooks/payload.rs).
_MOST = 256 * 1024
_ENDS_OF_STEPS = frozenset({"tool_usage_finished", "tool_usage_error"})
_ENDS_OF_AGENTS = frozenset({"agent_execution_completed", "lite_agent_execution_completed"})
# What follows a thought in the form that CrewAI asks of models.
_AFTER_THOUGHT = re.compile(r"(?:Action|Final Answer)[ \t]*:")


class Told:
    """Sends the frames "task" and "step", as far as `kinds` names them. Called with each event, in the thread that emits it."""

    def __init__(self, channel: Channel, kinds: Iterable[str], names: Names) -> None:
        self._channel = channel
        self._kinds = frozenset(kinds)
        self._names = names
        self._lock = threading.Lock()
        # By agent: what it was asked last, and what it thought.
        self._prompts: dict[str, str | None] = {}
        self._thoughts: dict[str, str | None] = {}

    def hear(self, event_type: str, event: Any) -> None:
        """Takes an event. Raises OSError when the worker has gone, and whatever the crew's own classes raise."""
        if event_type == "task_completed" and "task" in self._kinds:
            self._channel.send(self._task(event))
        if "step" not in self._kinds:
            return
        if event_type == "llm_call_started":
            with self._lock:
                self._prompts[_agent(event)] = _prompt(getattr(event, "messages", None))
        elif event_type == "llm_call_completed":
            with self._lock:
                self._thoughts[_agent(event)] = _thought(getattr(event, "response", None))
        elif event_type in _ENDS_OF_STEPS:
            came = getattr(event, "output", None) if event_type == "tool_usage_finished" else str(getattr(event, "error", ""))
            self._send_step(event, getattr(event, "tool_name", None), jsonable(getattr(event, "tool_args", None)), _text(came))
        elif event_type in _ENDS_OF_AGENTS:
            self._send_step(event, None, None, _text(getattr(event, "output", None)))

    def _task(self, event: Any) -> dict[str, Any]:
        output = getattr(event, "output", None)
        raw = _text(getattr(output, "raw", None))
        return _frame(
            "task",
            {
                "description": _text(getattr(output, "description", None)),
                "name": self._names.task(event),
                "expected_output": _text(getattr(output, "expected_output", None)),
                "summary": _text(getattr(output, "summary", None)),
                "agent": _text(getattr(output, "agent", None)),
                "output": raw,
                # What is too large as a text is too large as JSON.
                "output_json": None if raw is not None and len(raw) > _MOST else structured(output),
            },
        )

    def _send_step(self, event: Any, tool: str | None, tool_input: Any, result: str | None) -> None:
        agent = _agent(event)
        with self._lock:
            prompt, thought = self._prompts.get(agent), self._thoughts.get(agent)
        fields = {"prompt": prompt, "thought": thought, "tool": tool, "tool_input": tool_input, "result": result}
        self._channel.send(_frame("step", fields))


def _frame(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    large = [name for name, value in fields.items() if isinstance(value, str) and len(value) > _MOST]
    return {"type": kind, **fields, **dict.fromkeys(large), "truncated": bool(large)}


def _agent(event: Any) -> str:
    """What tells the agents of a kickoff apart, as far as an event says whose it is."""
    agent = getattr(event, "agent", None)
    info = getattr(event, "agent_info", None)
    known = getattr(agent, "id", None) or (info.get("id") if isinstance(info, dict) else None) or getattr(event, "agent_id", None)
    return str(known or "")


def _prompt(messages: Any) -> str | None:
    """The last that a model was asked by its user."""
    if not isinstance(messages, list):
        return _text(messages)
    asked = [message for message in messages if isinstance(message, dict)]
    of_user = [message for message in asked if message.get("role") == "user"] or asked
    content = of_user[-1].get("content") if of_user else None
    if isinstance(content, list):  # with pictures
        content = "\n".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return _text(content)


def _thought(response: Any) -> str | None:
    """What a model says before what it does, or answers; None where it says only that, or calls tools as its provider has them."""
    if not isinstance(response, str):
        return None
    found = _AFTER_THOUGHT.search(response)
    if found is None:
        return None
    return response[: found.start()].strip().removeprefix("Thought:").strip() or None


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    plain = jsonable(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
