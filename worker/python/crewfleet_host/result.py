"""What a crew returned, as the "result" object of a frame."""

import json
from typing import Any

from . import crewai_setup
from .jsonable import is_output, jsonable, structured
from .names import own_name

# Characters of a result that is not sent once more as the output of the task that made it. Smaller ones are, for plain readers.
SENT_ONCE_FROM = 1 << 20


def describe(crew: Any, output: Any, inputs: dict[str, Any], usage: dict[str, int]) -> dict[str, Any]:
    """The output of `crew` (raw, json, tasks), or whatever else a flow or a function returned, as text and as JSON.

    A flow whose last method returns nothing leaves its state, as at home `flow.state`.
    """
    if hasattr(output, "raw") and hasattr(output, "tasks_output"):
        tasks = [_task(number, task) for number, task in enumerate(output.tasks_output or (), 1)]
        return _once({"kind": "crew", "raw": _text(output.raw), "json": structured(output), "tasks": tasks, "usage": usage})
    if output is None and crewai_setup.is_flow(crew):
        output = _state(crew, inputs) or None
    if output is None or isinstance(output, str):
        return {"kind": "value", "raw": output or "", "json": None, "tasks": [], "usage": usage}
    if is_output(output):  # Agent.kickoff()'s
        return {"kind": "value", "raw": output.raw, "json": structured(output), "tasks": [], "usage": usage}
    value = jsonable(output)
    return {"kind": "value", "raw": _raw(output, value), "json": value, "tasks": [], "usage": usage}


def _once(result: dict[str, Any]) -> dict[str, Any]:
    """A large result without what its last task has said already: that task's `raw` and `json` are null."""
    last = result["tasks"][-1] if result["tasks"] else {}
    if len(result["raw"]) >= SENT_ONCE_FROM and (last.get("raw"), last.get("json")) == (result["raw"], result["json"]):
        last.update(raw=None, json=None)
    return result


def _raw(output: Any, value: Any) -> str:
    raw = getattr(output, "raw", None)
    return raw if isinstance(raw, str) else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _task(number: int, task: Any) -> dict[str, Any]:
    """A task's output, without its messages: those are whole prompts. So is the name that CrewAI gives a nameless one."""
    form = getattr(task, "output_format", None)
    return {
        "name": own_name(task) or f"task_{number}",
        "agent": _text(getattr(task, "agent", None)),
        "description": _text_or_none(getattr(task, "description", None)),
        "expected_output": _text_or_none(getattr(task, "expected_output", None)),
        "output_format": _text_or_none(getattr(form, "value", form)),
        "raw": _text(getattr(task, "raw", None)),
        "json": structured(task),
    }


def _state(flow: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """The state of a flow; without the `id` that CrewAI puts into each, unless somebody can use it."""
    state = getattr(flow, "_state", None)
    if state is None:
        state = getattr(flow, "state", None)
    value = jsonable(state)
    if not isinstance(value, dict):
        return {}
    persisted = any(getattr(flow, name, None) is not None for name in ("persistence", "_persistence"))  # the latter in older versions
    if "id" not in inputs and not persisted and not _declares_id(type(state)):
        value.pop("id", None)
    return value


def _declares_id(kind: type) -> bool:
    """Whether the crew's own model of the state has an `id`; CrewAI adds its own by FlowState."""
    return any("id" in vars(base).get("__annotations__", {}) and base.__name__ != "FlowState" for base in kind.__mro__)


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value)
