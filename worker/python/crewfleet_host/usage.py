"""Tokens and requests of one kickoff, by model: what CrewAI's events say, or its models' own counters where those say more.

An event may carry no usage (a call that ends in a tool's call, as in `Agent(reasoning=True)`; a model of the crew's own),
and a counter may miss a call or not exist. The crew's own `token_usage` adds a counter once for each agent that shares the
model (crewAI#7259), so here each counter is read once, as the difference since the kickoff began.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .optional import module

_FIELDS = ("prompt_tokens", "completion_tokens", "total_tokens", "successful_requests")
# Where crews and agents keep the models that they call.
_MODELS = ("llm", "function_calling_llm", "manager_llm", "planning_llm", "chat_llm")


@dataclass
class _Counter:
    """One counter of CrewAI's: `kind` "llm" or "agent" (older versions count by agent), its model, its value at the start."""

    kind: str
    model: str
    read: Callable[[], dict[str, int]]
    start: dict[str, int]
    owner: Any  # kept, so that no other object gets its id

    def since(self) -> dict[str, int]:
        now = self.read()
        return {name: max(0, now[name] - self.start[name]) for name in _FIELDS}


class Usage:
    """Thread-safe: agents may run in threads of their own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: dict[str, dict[str, int]] = {}
        self._calls: dict[str, set[str]] = {}
        self._counters: dict[int, _Counter] = {}
        self._fallback: dict[str, dict[str, int]] = {}

    def watch(self, *things: Any) -> None:
        """Remembers the counters of crews, agents and models, as they are now; those it knows already it leaves alone."""
        for thing in things:
            for holder in (thing, *_list(thing, "agents"), *(getattr(task, "agent", None) for task in _list(thing, "tasks"))):
                process = getattr(holder, "_token_process", None)
                if callable(getattr(process, "get_summary", None)):
                    self._add("agent", getattr(getattr(holder, "llm", None), "model", None), process, _summary_of(process))
                for model in (holder, *(getattr(holder, name, None) for name in _MODELS)):
                    counts = getattr(model, "_token_usage", None)
                    if isinstance(counts, dict):  # which a model has in common with its copies
                        self._add("llm", getattr(model, "model", None), counts, _counts_of(model))

    def add(self, event: Any, source: Any = None) -> None:
        """Counts an event "llm_call_completed". A call may complete twice, once for its tool: one request."""
        counts = tokens(getattr(event, "usage", None))
        model = str(getattr(event, "model", None) or getattr(source, "model", None) or "unknown")
        with self._lock:
            self._calls.setdefault(model, set()).add(str(getattr(event, "call_id", None) or id(event)))
            if counts is not None:
                _sum(self._events.setdefault(model, dict.fromkeys(_FIELDS, 0)), counts)

    def fall_back(self, output: Any) -> None:
        """Takes the output's own sum, if neither events nor counters told anything."""
        own = getattr(output, "token_usage", None) or getattr(output, "usage_metrics", None)
        dump = getattr(own, "model_dump", None)
        counts = tokens(dump() if callable(dump) else own)
        if counts is None or counts["total_tokens"] == 0 or any(told["total_tokens"] for told in self._by_model().values()):
            return
        with self._lock:
            models = list(self._calls)
            self._fallback = {models[0] if len(models) == 1 else "unknown": counts}

    def totals(self) -> dict[str, int]:
        """The object "usage" of a result."""
        sums = dict.fromkeys(_FIELDS, 0)
        for counts in self._by_model().values():
            _sum(sums, counts)
        return sums

    def by_model(self) -> dict[str, dict[str, int]]:
        """The object "tokens_by_model"."""
        told = {model: counts for model, counts in self._by_model().items() if counts["total_tokens"]}
        return {model: {"prompt": counts["prompt_tokens"], "completion": counts["completion_tokens"]} for model, counts in told.items()}

    def any(self) -> bool:
        """Whether any model call completed."""
        return any(counts["successful_requests"] or counts["total_tokens"] for counts in self._by_model().values())

    def _by_model(self) -> dict[str, dict[str, int]]:
        """The largest of the three sums of each model; of its requests too."""
        with self._lock:
            counted: dict[str, dict[str, dict[str, int]]] = {"llm": {}, "agent": {}}
            for counter in self._counters.values():
                _sum(counted[counter.kind].setdefault(counter.model, dict.fromkeys(_FIELDS, 0)), counter.since())
            calls = {model: len(calls) for model, calls in self._calls.items()}
            sources = [self._events, self._fallback, *counted.values()]
        # A model is "openai/gpt-4o" in one place and "gpt-4o" in another.
        short = _short_names([*calls, *(model for source in sources for model in source)])
        calls = _renamed_calls(calls, short)
        sources = [_renamed(source, short) for source in sources]
        models = dict.fromkeys([*calls, *(model for source in sources for model in source)])
        result = {}
        for model in models:
            sums = [source[model] for source in sources if model in source]
            largest = dict(max(sums, key=lambda counts: counts["total_tokens"], default=dict.fromkeys(_FIELDS, 0)))
            # An event counts no request by itself: its call does.
            largest["successful_requests"] = max([calls.get(model, 0), *(counts["successful_requests"] for counts in sums)])
            if any(largest.values()):
                result[model] = largest
        return result

    def _add(self, kind: str, model: Any, owner: Any, read: Callable[[], dict[str, int]]) -> None:
        with self._lock:
            if id(owner) not in self._counters:
                self._counters[id(owner)] = _Counter(kind, str(model or "unknown"), read, read(), owner)


def _short_names(models: list[str]) -> dict[str, str]:
    """Each model's name, and the shortest of them that it ends with after a slash, or itself."""
    return {model: min((other for other in models if model == other or model.endswith(f"/{other}")), key=len) for model in models}


def _renamed(source: dict[str, dict[str, int]], short: dict[str, str]) -> dict[str, dict[str, int]]:
    renamed: dict[str, dict[str, int]] = {}
    for model, counts in source.items():
        _sum(renamed.setdefault(short[model], dict.fromkeys(_FIELDS, 0)), counts)
    return renamed


def _renamed_calls(calls: dict[str, int], short: dict[str, str]) -> dict[str, int]:
    renamed: dict[str, int] = {}
    for model, count in calls.items():
        renamed[short[model]] = renamed.get(short[model], 0) + count
    return renamed


def tokens(usage: Any) -> dict[str, int] | None:
    """A provider's usage under CrewAI's own names; None when there is none."""
    if not isinstance(usage, dict) or not usage:
        return None
    metrics = getattr(module("crewai.types.usage_metrics"), "UsageMetrics", None)
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


def _list(thing: Any, name: str) -> list[Any]:
    found = getattr(thing, name, None)
    return list(found) if isinstance(found, (list, tuple)) else []


def _counts_of(model: Any) -> Callable[[], dict[str, int]]:
    return lambda: _known(getattr(model, "_token_usage", None))


def _summary_of(process: Any) -> Callable[[], dict[str, int]]:
    def read() -> dict[str, int]:
        try:
            return _known(process.get_summary().model_dump())
        except Exception:  # a class of the crew's own
            return _known(None)

    return read


def _known(counts: Any) -> dict[str, int]:
    values = counts if isinstance(counts, dict) else {}
    return {name: value if isinstance(value := values.get(name), int) else 0 for name in _FIELDS}


def _sum(into: dict[str, int], counts: dict[str, int]) -> None:
    for name in _FIELDS:
        into[name] += counts[name]
