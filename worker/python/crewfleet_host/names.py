"""Names for tasks and agents that hold nothing of a kickoff's inputs.

CrewAI names a task without a name by its whole description, which is a prompt, and puts inputs into the roles of agents.
Here such a task is `task_N`, N being its place in its crew from 1, and an agent has the role as its author wrote it.
"""

import json
import threading
from collections.abc import Iterator
from typing import Any

# A shorter text may be a word that a message needs.
_MIN_PROMPT = 12
# What of a task, and of an agent, is a prompt, and what stands in its place.
_OF_TASKS = {"description": "{}", "expected_output": "(the expected output of {})"}
_OF_AGENTS = {"goal": "(the goal of {})", "backstory": "(the backstory of {})"}
UNKNOWN_TASK = "task"


class Names:
    """What is known of the tasks and agents of one kickoff, all its crews among them. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[str, str] = {}
        self._roles: dict[str, str] = {}
        self._agents: dict[str, Any] = {}
        self._objects: dict[str, Any] = {}

    def learn(self, source: Any, event: Any = None) -> None:
        """Takes in the crew, the task and the agent that an event comes with."""
        for holder in (source, getattr(source, "crew", None), getattr(event, "crew", None)):
            tasks = getattr(holder, "tasks", None)
            if isinstance(tasks, list):
                self._learn_crew(holder, tasks)
        for task in (source, getattr(event, "task", None)):
            if hasattr(task, "expected_output"):
                self._learn_task(task, UNKNOWN_TASK)
        for agent in (source, getattr(event, "agent", None)):
            self._learn_agent(agent)

    def task(self, event: Any) -> str | None:
        """The name of the task that an event is about."""
        task = getattr(event, "task", None)
        task_id = _text(getattr(task, "id", None)) or _text(getattr(event, "task_id", None))
        if task_id is None and getattr(event, "task_name", None) is None:
            return None
        with self._lock:
            return self._tasks.get(task_id or "", UNKNOWN_TASK)

    def agent(self, event: Any) -> str | None:
        """The role, as its author wrote it, of the agent that an event is about."""
        agent = getattr(event, "agent", None)
        agent_id = _text(getattr(agent, "id", None)) or _text(getattr(event, "agent_id", None)) or ""
        role = _text(getattr(event, "agent_role", None))
        with self._lock:
            known = self._roles.get(agent_id)
            if known is None and role is not None:  # some events say only the role, with the inputs in it
                same = (agent_id for agent_id, agent in self._agents.items() if getattr(agent, "role", None) == role)
                known = self._roles.get(next(same, ""))
        return known or _role(agent) or role

    def without_prompts(self, text: str) -> str:
        """`text` with the prompts of known tasks and agents replaced by what they are, also where they are quoted as in JSON or Python."""
        with self._lock:
            known = [(task, _OF_TASKS, self._tasks[task_id]) for task_id, task in self._objects.items()]
            known += [(agent, _OF_AGENTS, self._roles[agent_id]) for agent_id, agent in self._agents.items()]
        prompts = {prompt: shown for thing, kinds, name in known for prompt, shown in _prompts(thing, kinds, name)}
        for prompt in sorted(prompts, key=len, reverse=True):
            for form in {prompt, json.dumps(prompt)[1:-1], json.dumps(prompt, ensure_ascii=False)[1:-1], repr(prompt)[1:-1]}:
                text = text.replace(form, prompts[prompt])
        return text

    def _learn_crew(self, crew: Any, tasks: list[Any]) -> None:
        for number, task in enumerate(tasks, 1):
            self._learn_task(task, f"task_{number}")
        agents = getattr(crew, "agents", None)
        for agent in [*(agents if isinstance(agents, list) else ()), *(getattr(task, "agent", None) for task in tasks)]:
            self._learn_agent(agent)

    def _learn_task(self, task: Any, otherwise: str) -> None:
        task_id = _text(getattr(task, "id", None))
        if task_id is None:
            return
        with self._lock:
            if self._tasks.get(task_id, UNKNOWN_TASK) == UNKNOWN_TASK:
                self._tasks[task_id] = own_name(task) or otherwise
                self._objects[task_id] = task

    def _learn_agent(self, agent: Any) -> None:
        agent_id, role = _text(getattr(agent, "id", None)), _role(agent)
        if agent_id is not None and role is not None:
            with self._lock:
                self._roles.setdefault(agent_id, role)
                self._agents.setdefault(agent_id, agent)


def _prompts(thing: Any, kinds: dict[str, str], name: str) -> Iterator[tuple[str, str]]:
    """Each prompt of `thing`, with the inputs in it and without, and what is shown instead."""
    for kind, shown in kinds.items():
        for attribute in (kind, f"_original_{kind}"):
            prompt = getattr(thing, attribute, None)
            if isinstance(prompt, str) and len(prompt.strip()) >= _MIN_PROMPT:
                yield prompt.strip(), shown.format(name)


def own_name(task: Any) -> str | None:
    """The name that its author gave a task or its output; None for one that CrewAI named by its description."""
    name = getattr(task, "name", None)
    return name if isinstance(name, str) and name and name != getattr(task, "description", None) else None


def _role(agent: Any) -> str | None:
    for name in ("_original_role", "role"):
        role = getattr(agent, name, None)
        if isinstance(role, str) and role:
            return role
    return None


def _text(value: Any) -> str | None:
    return str(value) if value is not None and str(value) else None
