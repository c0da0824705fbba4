"""Rules: what to answer to which call. A script is a JSON file `{"rules": [...]}`; the first rule that fits a call counts."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from .call import Call

_CONDITIONS = {"match", "model", "endpoint", "tool_results", "offers", "nth", "times"}
_ANSWERS = {"say", "json", "call", "fault"}


class BadRule(ValueError):
    """A rule that this server doesn't understand; the message names it."""


@dataclass
class Rule:
    """When (all that is given must hold) and what.

    - `match`: a regular expression found in what was said; `model`: one found in the model's name
    - `endpoint`: "chat", "responses" or "embeddings"
    - `tool_results`: how many tools have answered in the conversation; `offers`: the name of a tool that is offered
    - `nth`: only the n-th call, from 1, of those for which the rest holds; `times`: only the first so many of them

    - `say`: a text, `json`: a value to be sent as text, `call`: a list of `{"name", "arguments"}`, `fault`: see faults.py
    """

    number: int
    spec: dict[str, Any]
    seen: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        unknown = set(self.spec) - _CONDITIONS - _ANSWERS - {"comment"}
        if unknown:
            known = ", ".join(sorted(_CONDITIONS | _ANSWERS))
            raise BadRule(f"rule {self.number} has {', '.join(sorted(unknown))}: known are {known}")
        if len(_ANSWERS & set(self.spec)) != 1:
            raise BadRule(f"rule {self.number} must have exactly one of {', '.join(sorted(_ANSWERS))}")
        for key in ("match", "model"):
            try:
                re.compile(self.spec.get(key, ""))
            except re.error as error:
                raise BadRule(f"{key} of rule {self.number} is no regular expression: {error}") from error

    def takes(self, endpoint: str, model: str, text: str, call: Call | None) -> bool:
        """Whether this call is this rule's, and counts it."""
        if self.spec.get("endpoint", endpoint) != endpoint or not re.search(self.spec.get("model", ""), model):
            return False
        if not re.search(self.spec.get("match", ""), text, re.DOTALL):
            return False
        if "tool_results" in self.spec and (call is None or call.tool_results != self.spec["tool_results"]):
            return False
        if "offers" in self.spec and (call is None or self.spec["offers"] not in [tool.name for tool in call.tools]):
            return False
        self.seen += 1
        return self.seen == self.spec.get("nth", self.seen) and self.seen <= self.spec.get("times", self.seen)


class Rules:
    """The rules in force, in their order."""

    def __init__(self, script: list[dict[str, Any]] | None = None) -> None:
        self._script = script or []
        self.reset()

    def add(self, specs: list[dict[str, Any]]) -> None:
        """Adds rules behind those that are there; raises BadRule and adds none."""
        start = len(self._rules) + 1
        self._rules += [Rule(start + index, spec) for index, spec in enumerate(specs)]

    def reset(self) -> None:
        """Goes back to the script's rules, none of them used."""
        self._rules: list[Rule] = []
        self.add(self._script)

    def first(self, endpoint: str, model: str, text: str, call: Call | None = None) -> Rule | None:
        """The rule for a call."""
        return next((rule for rule in self._rules if rule.takes(endpoint, model, text, call)), None)


def read_script(path: str) -> list[dict[str, Any]]:
    """The rules of a script; raises OSError, BadRule."""
    with open(path, encoding="utf-8") as file:
        try:
            script = json.load(file)
        except json.JSONDecodeError as error:
            raise BadRule(f"{path} is not JSON: {error}") from error
    if not isinstance(script, dict) or not isinstance(script.get("rules"), list):
        raise BadRule(f'{path} must hold {{"rules": [...]}}')
    return script["rules"]
