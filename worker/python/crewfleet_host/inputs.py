"""What a crew needs of its inputs, and what cannot be given to it.

CrewAI itself runs with raw {PLACEHOLDERS} when given no inputs at all.
"""

import math
import re
from typing import TYPE_CHECKING, Any

from .callbacks import After, Before, CallbackError
from .frames import Unreadable

if TYPE_CHECKING:
    from .target import Target

# What CrewAI replaces; fetch_inputs() also names what stands in other braces, such as a JSON example in a task's text.
_PLACEHOLDER = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*")
_IN_TEXT = re.compile(r"\{([A-Za-z_][A-Za-z0-9_\-]*)\}")
_MAX_VALUE_TEXT = 60


class InvalidInputs(Exception):
    """Inputs that the target cannot be kicked off with; the message says why, and never what they are."""


class MissingInputs(InvalidInputs):
    """Inputs that the crew needs were not given; `names` are sorted."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        which = ", ".join(names)
        super().__init__(f"the crew needs {'inputs that are' if len(names) > 1 else 'an input that is'} missing: {which}; send it in the request's inputs")


class UnusableInput(Exception):
    """A value that no crew can take; `path` says where it is, as in `inputs.rows[3].price`."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        super().__init__(f"{path} {why}")


def input_names(crew: Any) -> list[str] | None:
    """The names of the inputs in the texts of `crew`, sorted; None for a Flow or anything else that cannot tell."""
    fetch = getattr(crew, "fetch_inputs", None)
    if not callable(fetch):
        return None
    names = {name for name in fetch() if _PLACEHOLDER.fullmatch(name)}
    for task in getattr(crew, "tasks", None) or ():
        # fetch_inputs() does not look there, and CrewAI fails in the midst of the kickoff.
        place = getattr(task, "output_file", None)
        names.update(_IN_TEXT.findall(place) if isinstance(place, str) else ())
    return sorted(names)


class CrewInputs:
    """The inputs of one kickoff of one crew, and what its callbacks make of them and of its result."""

    def __init__(self, crew: Any, inputs: dict[str, Any], lenient: bool) -> None:
        """Follows the callbacks of `crew`. `lenient`: what is missing stays in the texts as it is written.

        Raises MissingInputs, where no callback could add what is missing.
        """
        names = input_names(crew) or []
        before = list(getattr(crew, "before_kickoff_callbacks", None) or ())
        after = list(getattr(crew, "after_kickoff_callbacks", None) or ())
        self._after = After(after)
        if after:
            crew.after_kickoff_callbacks = self._after.wrapped
        if names and not before and not lenient:
            _check(names, inputs, None)
        elif names or before:
            crew.before_kickoff_callbacks = self._followed(before, names, lenient)

    def lost_result(self) -> CallbackError | None:
        """The error of the @after_kickoff function that lost the result, None when none did."""
        return self._after.blame()

    @staticmethod
    def _followed(before: list[Any], names: list[str], lenient: bool) -> list[Any]:
        followed = Before(before)

        def check_last(given: Any) -> Any:
            if lenient and (given is None or isinstance(given, dict)):
                error = followed.blame([name for name in names if name not in (given or {})])
                if error is not None:
                    raise error
                return {**{name: f"{{{name}}}" for name in names}, **(given or {})}
            if given is None or isinstance(given, dict):
                _check(names, given, followed)
            return given

        return [*followed.wrapped, check_last] if names else followed.wrapped


def with_defaults(target: "Target", inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a kickoff, completed by what the target itself gives."""
    return {**target.defaults, **inputs}


def require_usable(inputs: Any) -> None:
    """Raises UnusableInput for a value that JSON can write and no crew can take."""
    waiting: list[tuple[str, Any]] = [("inputs", inputs)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            for key, item in value.items():
                _require_text(f"a name in {path}", key)
                waiting.append((_member(path, key), item))
        elif isinstance(value, list):
            waiting.extend((f"{path}[{number}]", item) for number, item in enumerate(value))
        elif isinstance(value, Unreadable):
            raise UnusableInput(path, f"is a number that Python cannot take ({_short(value.text)}); send it as a string")
        elif isinstance(value, float) and not math.isfinite(value):
            raise UnusableInput(path, "is a number beyond what a float can hold; send it as a string")
        elif isinstance(value, str):
            _require_text(path, value)


def missing_in(error: BaseException) -> list[str] | None:
    """The missing inputs that `error` speaks of, None when it is about something else."""
    return error.names if isinstance(error, MissingInputs) else None


def _check(names: list[str], inputs: dict[str, Any] | None, followed: Before | None) -> None:
    missing = [name for name in names if name not in (inputs or {})]
    if not missing:
        return
    blamed = followed.blame(missing) if followed is not None else None
    raise blamed if blamed is not None else MissingInputs(missing)


def _require_text(path: str, text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X}"
        raise UnusableInput(path, f"has half of a character ({half}, at position {error.start}), which no text can hold; send whole characters") from None


def _member(path: str, key: str) -> str:
    return f"{path}.{key}" if _PLACEHOLDER.fullmatch(key) else f'{path}["{_short(key)}"]'


def _short(text: str) -> str:
    return text if len(text) <= _MAX_VALUE_TEXT else f"{text[:20]}… of {len(text)} characters"
