"""Tokens and requests of one kickoff, summed from CrewAI's model-call events.

The crew's own `token_usage` counts a model twice when agents share it (crewAI#7259), so it is only used when no event
carried usage: a custom model without events.
"""

import threading
from typing import Any

from . import crewai_quiet


class Usage:
    """Thread-safe: agents may run in threads of their own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._prompt: dict[str, int] = {}
        self._completion: dict[str, int] = {}
        self._total = 0
        self._calls: set[str] = set()
        self._models: set[str] = set()
        self._seen = False

    def add(self, event: Any) -> None:
        """Counts an event "llm_call_completed". A call may complete twice, once for its tool: one request."""
        counts = tokens(getattr(event, "usage", None))
        model = str(getattr(event, "model", None) or "unknown")
        with self._lock:
            self._models.add(model)
            self._calls.add(str(getattr(event, "call_id", None) or id(event)))
            if counts is None:
                return
            self._seen = True
            self._prompt[model] = self._prompt.get(model, 0) + counts["prompt_tokens"]
            self._completion[model] = self._completion.get(model, 0) + counts["completion_tokens"]
            self._total += counts["total_tokens"]

    def fall_back(self, output: Any) -> None:
        """Takes the crew's own sum, if no event carried any usage."""
        own = getattr(output, "token_usage", None)
        dump = getattr(own, "model_dump", None)
        counts = tokens(dump() if callable(dump) else own)
        with self._lock:
            if self._seen or counts is None or counts["total_tokens"] == 0:
                return
            model = next(iter(self._models)) if len(self._models) == 1 else "unknown"
            self._prompt, self._completion, self._total = {model: counts["prompt_tokens"]}, {model: counts["completion_tokens"]}, counts["total_tokens"]
            if not self._calls:
                self._calls = {str(number) for number in range(counts["successful_requests"])}
            self._seen = True

    def totals(self) -> dict[str, int]:
        """The object "usage" of a result."""
        with self._lock:
            return {
                "prompt_tokens": sum(self._prompt.values()),
                "completion_tokens": sum(self._completion.values()),
                "total_tokens": self._total,
                "successful_requests": len(self._calls),
            }

    def by_model(self) -> dict[str, dict[str, int]]:
        """The object "tokens_by_model"."""
        with self._lock:
            return {model: {"prompt": self._prompt[model], "completion": self._completion.get(model, 0)} for model in self._prompt}

    def any(self) -> bool:
        """Whether any model call completed."""
        with self._lock:
            return bool(self._calls)


def tokens(usage: Any) -> dict[str, int] | None:
    """A provider's usage under CrewAI's own names; None when there is none."""
    if not isinstance(usage, dict) or not usage:
        return None
    metrics = getattr(crewai_quiet.module("crewai.types.usage_metrics"), "UsageMetrics", None)
    normalise = getattr(metrics, "from_provider_dict", None)
    if callable(normalise) and "total_tokens" not in usage:
        normal = normalise(usage)
        usage = usage if normal is None else {**usage, **normal.model_dump()}
    prompt = _first(usage, "prompt_tokens", "prompt_token_count", "input_tokens")
    completion = _first(usage, "completion_tokens", "candidates_token_count", "output_tokens")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": _first(usage, "total_tokens", "total_token_count") or prompt + completion,
        "successful_requests": _first(usage, "successful_requests"),
    }


def _first(usage: dict[str, Any], *names: str) -> int:
    for name in names:
        value = usage.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            return int(value)
    return 0
