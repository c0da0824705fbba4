"""What is to follow a kickoff. A worker makes the inputs of each step, and starts it; this package checks their form alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from .errors import InvalidKickoff
from .ids import checked_crew

When = Literal["succeeded", "failed", "ended"]

#: How many steps may follow a kickoff.
MAX_STEPS = 20


@dataclass(frozen=True)
class Step:
    """A kickoff that follows another."""

    #: Its crew.
    crew: str
    #: Its inputs. A text that begins with `$` is a JSONPath (RFC 9535) into the reply of the kickoff before, to which that kickoff's
    #: `inputs` are added; one that begins with `$$` is a text with one `$` less. All else stands for itself.
    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    #: For what end of the kickoff before it is meant. After another end it is left out, and the next step is looked at.
    when: When = "succeeded"
    #: Lowers its crew's own time limit, in seconds.
    timeout_s: float | None = None


def written(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """The steps as a request has them. `InvalidKickoff` names the first place that cannot be."""
    if len(steps) > MAX_STEPS:
        raise InvalidKickoff(f"then has {len(steps)} steps; at most {MAX_STEPS} are taken. Put branches and loops into a CrewAI Flow")
    return [_step(f"then[{index}]", step) for index, step in enumerate(steps)]


def _step(place: str, step: Step) -> dict[str, Any]:
    try:
        made: dict[str, Any] = {"crew": checked_crew(step.crew), "inputs": dict(step.inputs)}
    except InvalidKickoff as error:
        raise InvalidKickoff(f"{place}.crew is bad: {error}") from None
    if step.when not in get_args(When):
        raise InvalidKickoff(f"{place}.when is {step.when!r:.40}; give 'succeeded', 'failed' or 'ended'")
    made["when"] = step.when
    if step.timeout_s is not None:
        if not (math.isfinite(step.timeout_s) and step.timeout_s > 0):
            raise InvalidKickoff(f"{place}.timeout_s is {step.timeout_s}; it must be greater than 0 seconds, or be left out")
        made["timeout_s"] = step.timeout_s
    return made
