"""What a crew returned, as the "result" object of a frame."""

import json
from typing import Any

from .jsonable import jsonable


def describe(output: Any, usage: dict[str, int]) -> dict[str, Any]:
    """A crew's output (raw, json, tasks), or whatever else a flow or a function returned, as text and as JSON."""
    if hasattr(output, "raw") and hasattr(output, "tasks_output"):
        return {"raw": _text(output.raw), "json": _structured(output), "tasks": [_task(task) for task in output.tasks_output or ()], "usage": usage}
    if output is None or isinstance(output, str):
        return {"raw": output or "", "json": None, "tasks": [], "usage": usage}
    value = jsonable(output)
    raw = getattr(output, "raw", None)
    return {
        "raw": raw if isinstance(raw, str) else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False),
        "json": value,
        "tasks": [],
        "usage": usage,
    }


def _task(task: Any) -> dict[str, Any]:
    """A task's output, without its messages: those are whole prompts."""
    name = getattr(task, "name", None)
    return {
        "name": name if isinstance(name, str) else None,
        "agent": _text(getattr(task, "agent", None)),
        "raw": _text(getattr(task, "raw", None)),
        "json": _structured(task),
    }


def _structured(output: Any) -> Any:
    value = getattr(output, "json_dict", None)
    if value is None:
        value = getattr(output, "pydantic", None)
    return None if value is None else jsonable(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value)
