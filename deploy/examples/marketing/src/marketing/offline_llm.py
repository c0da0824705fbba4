"""A model that needs no network and no key: for trying crewfleet out, and for tests. It understands nothing; it quotes."""

import re
import time
from typing import Any

from crewai.events.types.llm_events import LLMCallType
from crewai.llms.base_llm import BaseLLM, llm_call_context

_NOTICE = "[offline model: no real language model wrote this; set OPENAI_API_KEY to use one]"
_CHARACTERS_PER_TOKEN = 4


class OfflineLLM(BaseLLM):
    """Answers each call after `latency_s` seconds with a text that quotes the business and the product of the task."""

    llm_type: str = "offline"
    latency_s: float = 0.3

    def call(
        self,
        messages: str | list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        callbacks: list[Any] | None = None,
        available_functions: dict[str, Any] | None = None,
        from_task: Any = None,
        from_agent: Any = None,
        response_model: Any = None,
    ) -> str:
        """The answer, in the form in which CrewAI's agents end. Reports the call as real models do, with its tokens."""
        with llm_call_context():
            self._emit_call_started_event(messages, tools=tools, from_task=from_task, from_agent=from_agent)
            time.sleep(self.latency_s)
            prompt = _text(messages)
            answer = _answer(prompt, getattr(from_agent, "role", None) or "agent")
            self._emit_call_completed_event(answer, LLMCallType.LLM_CALL, from_task=from_task, from_agent=from_agent, usage=_usage(prompt, answer))
        return answer

    def get_input_tokens_count(self, messages: str | list[dict[str, Any]], tools: Any = None, response_model: Any = None) -> int:
        """CrewAI asks before each call, to keep within the model's window."""
        return len(_text(messages)) // _CHARACTERS_PER_TOKEN


def _answer(prompt: str, role: str) -> str:
    return (
        "Thought: I now can give a great answer\n"
        f"Final Answer: {_NOTICE}\n"
        f"The {role.strip().lower()} read about this business: “{_between(prompt, 'Business:', 'Product:')}”\n"
        f"and this product: “{_between(prompt, 'Product:', 'This is the expected')}”\n"
        "A real model would now say whom it is for, and why they would want it."
    )


def _between(prompt: str, label: str, following: str) -> str:
    """What stands between two labels at the beginnings of lines, as in config/tasks.yaml and CrewAI's own prompt."""
    found = re.search(rf"^\s*{label}(.*?)(?:^\s*{following}|\Z)", prompt, re.MULTILINE | re.DOTALL)
    return found.group(1).strip() if found else "nothing"


def _text(messages: str | list[dict[str, Any]]) -> str:
    if isinstance(messages, str):
        return messages
    return "\n\n".join(str(message.get("content") or "") for message in messages)


def _usage(prompt: str, answer: str) -> dict[str, int]:
    prompt_tokens, completion_tokens = len(prompt) // _CHARACTERS_PER_TOKEN, len(answer) // _CHARACTERS_PER_TOKEN
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": prompt_tokens + completion_tokens}
