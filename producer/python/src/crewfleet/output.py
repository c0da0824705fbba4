"""What a kickoff gives, in the shape of CrewAI's `CrewOutput`. Where crewai is installed, it is one."""

from __future__ import annotations

import importlib
import importlib.util
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .reply import Reply

if TYPE_CHECKING:
    from collections.abc import Callable


class Model(Protocol):
    """A class of pydantic's, as a task's `output_pydantic` is."""

    def model_validate(self, obj: Any) -> Any:
        """An object of the class."""


@dataclass
class UsageMetrics:
    """Tokens of a kickoff's model calls."""

    total_tokens: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cache_creation_tokens: int = 0
    successful_requests: int = 0

    def model_dump(self) -> dict[str, int]:
        """As a dict."""
        return asdict(self)


@dataclass
class _Output:
    raw: str = ""
    pydantic: Any = None
    json_dict: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The structured output; empty without one."""
        if self.json_dict:
            return dict(self.json_dict)
        return dict(self.pydantic.model_dump()) if self.pydantic else {}

    def __str__(self) -> str:
        structured = self.pydantic or self.json_dict
        return str(structured) if structured else self.raw


@dataclass
class TaskOutput(_Output):
    """The output of one task."""

    __str__ = _Output.__str__

    description: str = ""
    name: str | None = None
    expected_output: str | None = None
    agent: str = ""
    #: `raw`, `json` or `pydantic`.
    output_format: str = "raw"
    summary: str | None = None

    def __post_init__(self) -> None:
        self.summary = f"{' '.join(self.description.split(' ')[:10])}..."

    @property
    def json(self) -> str:
        """The JSON of a task with `output_json`."""
        if self.output_format != "json":
            raise ValueError("this task has no JSON output: set output_json in the task")
        return json.dumps(self.json_dict)


@dataclass
class CrewOutput(_Output):
    """The output of a crew: the class that you get where crewai is not installed."""

    __str__ = _Output.__str__

    tasks_output: list[TaskOutput] = field(default_factory=list[TaskOutput])
    token_usage: UsageMetrics = field(default_factory=UsageMetrics)

    @property
    def usage_metrics(self) -> dict[str, int]:
        """The tokens as a dict."""
        return self.token_usage.model_dump()

    @property
    def json(self) -> str:
        """The JSON of a crew whose last task has `output_json`."""
        if not self.tasks_output or self.tasks_output[-1].output_format != "json":
            raise ValueError("the last task has no JSON output: set output_json in the task")
        return json.dumps(self.json_dict)

    def __getitem__(self, key: str) -> Any:
        if self.pydantic and hasattr(self.pydantic, key):
            return getattr(self.pydantic, key)
        if self.json_dict and key in self.json_dict:
            return self.json_dict[key]
        raise KeyError(f"Key '{key}' not found in CrewOutput.")


def output_of(reply: Reply, model: Model | None = None) -> Any:
    """The output that a successful reply carries. `model` is the last task's `output_pydantic`.

    It imports crewai where that is installed, which takes seconds the first time."""
    result = reply.result or {}
    tasks: list[dict[str, Any]] = result.get("tasks") or []
    classes = _classes()
    structured = result.get("json")
    outputs: list[Any] = []
    for number, task in enumerate(tasks, 1):
        # A large output of the last task is sent only once.
        sent_once = task.get("raw") is None
        form = task.get("output_format") or "raw"
        # The class is the last task's.
        of_task = model if number == len(tasks) and form == "pydantic" else None
        outputs.append(
            classes.task(
                **_parts(result.get("raw") if sent_once else task["raw"], structured if sent_once else task.get("json"), form, of_task),
                description=task.get("description") or "",
                name=task.get("name"),
                expected_output=task.get("expected_output"),
                agent=task.get("agent") or "",
                output_format=classes.format(form),
            )
        )
    form = (tasks[-1].get("output_format") if tasks else None) or ("json" if structured is not None else "raw")
    counted: dict[str, Any] = result.get("usage") or {}
    usage = {name: value for name, value in counted.items() if isinstance(value, int)}
    known = set(asdict(UsageMetrics()))
    return classes.crew(
        **_parts(result.get("raw"), structured, form, model),
        tasks_output=outputs,
        token_usage=classes.usage(**{name: value for name, value in usage.items() if name in known}),
    )


def value_of(reply: Reply, model: Model | None = None) -> Any:
    """What a flow or a function returned: a crew's output, else its JSON, else its text; `None` for an empty one."""
    result = reply.result or {}
    if result.get("kind") == "crew" or result.get("tasks"):
        return output_of(reply, model)
    structured = result.get("json")
    if structured is not None:
        return model.model_validate(structured) if model is not None else structured
    return result.get("raw") or None


def _parts(raw: str | None, structured: Any, form: str, model: Model | None) -> dict[str, Any]:
    parts: dict[str, Any] = {"raw": raw or ""}
    if model is not None and structured is not None:
        parts["pydantic"] = model.model_validate(structured)
    elif isinstance(structured, dict):
        # Without its class, the fields of `output_pydantic` are to be had by name all the same.
        parts["json_dict"] = structured
    return parts


@dataclass(frozen=True)
class _Classes:
    crew: Callable[..., Any]
    task: Callable[..., Any]
    usage: Callable[..., Any]
    format: Callable[[str], Any]


_OURS = _Classes(CrewOutput, TaskOutput, UsageMetrics, str)


def _classes() -> _Classes:
    if importlib.util.find_spec("crewai") is None:
        return _OURS
    try:
        formats = importlib.import_module("crewai.tasks.output_format").OutputFormat
        return _Classes(
            importlib.import_module("crewai.crews.crew_output").CrewOutput,
            importlib.import_module("crewai.tasks.task_output").TaskOutput,
            importlib.import_module("crewai.types.usage_metrics").UsageMetrics,
            formats,
        )
    except ImportError:
        # One that is too old or broken: the shape is the same.
        return _OURS
