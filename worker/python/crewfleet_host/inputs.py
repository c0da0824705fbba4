"""Which inputs a crew needs, and which of them are missing: CrewAI itself runs with raw {PLACEHOLDERS} when given none."""

import re
from typing import Any

from .target import Target

# What CrewAI replaces; fetch_inputs() also names what stands in other braces, such as a JSON example in a task's text.
_PLACEHOLDER = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*")
_CREWAI_MISSING = re.compile(r"Template variable '([^']+)' not found in inputs")


class MissingInputs(Exception):
    """Inputs that the crew needs were not given; `names` are sorted."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        which = ", ".join(names)
        super().__init__(f"the crew needs {'inputs that are' if len(names) > 1 else 'an input that is'} missing: {which}; send it in the request's inputs")


def input_names(crew: Any) -> list[str] | None:
    """The names of the inputs in the texts of `crew`, sorted; None for a Flow or anything else that cannot tell."""
    fetch = getattr(crew, "fetch_inputs", None)
    if not callable(fetch):
        return None
    return sorted(name for name in fetch() if _PLACEHOLDER.fullmatch(name))


def require_inputs(crew: Any, inputs: dict[str, Any]) -> None:
    """Raises MissingInputs. Where @before_kickoff functions may add inputs, CrewAI is made to check after the last of them."""
    names = input_names(crew)
    if not names:
        return
    callbacks = getattr(crew, "before_kickoff_callbacks", None)
    if not callbacks:
        _check(names, inputs)
        return

    def check_last(given: dict[str, Any]) -> dict[str, Any]:
        _check(names, given)
        return given

    crew.before_kickoff_callbacks = [*callbacks, check_last]


def with_defaults(target: Target, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a kickoff, completed by what the target itself gives."""
    return {**target.defaults, **inputs}


def missing_in(error: BaseException) -> list[str] | None:
    """The missing inputs that `error` speaks of, None when it is about something else.

    fetch_inputs() does not see every text (output_file), so CrewAI may find one missing by itself.
    """
    if isinstance(error, MissingInputs):
        return error.names
    found = _CREWAI_MISSING.search(str(error)) if isinstance(error, (KeyError, ValueError)) else None
    return [found.group(1)] if found else None


def _check(names: list[str], inputs: dict[str, Any] | None) -> None:
    missing = [name for name in names if name not in (inputs or {})]
    if missing:
        raise MissingInputs(missing)
