"""What a crew raised, as the "error" object of a frame."""

import re
from collections.abc import Callable
from typing import Any

from . import human_input, tracebacks, transient
from .chain import causes, origins, text_of
from .inputs import InvalidInputs, UnusableInput, missing_in

_MAX_MESSAGE = 4000
_MAX_CLASSES = 50
# What CrewAI says by SystemExit where an agent has respect_context_window=False.
_CONTEXT_EXIT = "Context length exceeded and user opted not to summarize"
_CONTEXT_CLASSES = frozenset({"LLMContextLengthExceededError", "LLMContextLengthExceededException", "ContextWindowExceededError"})
_CONTEXT_TEXTS = re.compile(
    r"context_length_exceeded|maximum context length|context length exceeded|context window (?:full|exceeded)|too many tokens"
    r"|prompt is too long|input is too long|exceeds token limit|exceeds the maximum number of tokens|exceed context limit"
    r"|expected a string with maximum length",
    re.IGNORECASE,
)


class PlaceUnavailable(Exception):
    """A kickoff has no place to run in, through no fault of the crew's."""


def place_unavailable(message: str) -> dict[str, Any]:
    """The error object; a full disk, and a limit of namespaces, may be another's tomorrow."""
    return {"kind": "working_dir_unavailable", "message": message[:_MAX_MESSAGE], "retryable": True, "detail": None}


def describe(error: BaseException, cancelled: bool, without_prompts: Callable[[str], str] = str) -> dict[str, Any]:
    """The error object. `cancelled` says that the worker asked for a stop; that counts if the stop caused `error`.

    `without_prompts` takes the texts of tasks out of a message.
    """
    if isinstance(error, PlaceUnavailable):
        return place_unavailable(str(error))
    detail: dict[str, Any] = {"exception": class_name(type(error)), "traceback": without_prompts(_traceback(error))}
    missing, asked = missing_in(error), human_input.needed_in(error)
    verdict = None
    if missing is not None:
        kind, detail["missing_inputs"] = "invalid_inputs", missing
    elif isinstance(error, UnusableInput):
        kind, detail["path"] = "invalid_inputs", error.path
    elif isinstance(error, InvalidInputs):
        kind = "invalid_inputs"
    elif cancelled:
        kind = "cancelled"
    elif any(_starved(link) for link in origins(error)):
        kind = "out_of_memory"
    elif asked is not None:
        kind = "human_input_needed"
    elif _context_exceeded(error):
        kind = "context_length_exceeded"
    elif isinstance(error, SystemExit):
        kind, detail["exit_code"] = "system_exit", error.code if isinstance(error.code, int) or error.code is None else str(error.code)
    else:
        kind, verdict = "exception", transient.judge(error)
        retry_after_s = transient.retry_after_s(error)
        if retry_after_s is not None:
            detail["retry_after_s"] = retry_after_s
        if verdict is not None and verdict.against_status:
            detail["transient"] = verdict.retryable
    if kind in ("exception", "system_exit") and (place := tracebacks.place(error)) is not None:
        detail["place"] = place
    if kind in ("exception", "context_length_exceeded"):
        # What the crew's own retry policy is matched with.
        detail["exception_classes"] = _class_names(error)
        status = transient.http_status(error) if verdict is None else verdict.status
        if status is not None:
            detail["http_status"] = status
    message = asked if kind == "human_input_needed" and asked else without_prompts(_message(kind, error))
    return {"kind": kind, "message": message[:_MAX_MESSAGE], "retryable": verdict is not None and verdict.retryable, "detail": detail}


def _message(kind: str, error: BaseException) -> str:
    if kind == "system_exit":
        code = getattr(error, "code", None)
        return f"the crew called sys.exit({'' if code is None else repr(code)}); raise an exception instead"
    if kind == "cancelled":
        return "the kickoff was cancelled, and the crew stopped at its next step"
    text = text_of(error)
    if kind == "context_length_exceeded":
        return f"a prompt is longer than the model's context; give the crew less to read, or leave respect_context_window on: {text}"
    if kind == "out_of_memory":
        return f"the crew needed more memory than its limit allows: {text or 'MemoryError'}"
    return text or type(error).__name__


def class_name(kind: type) -> str:
    """The whole name of a class; a builtin one has no module."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _class_names(error: BaseException) -> list[str]:
    """The classes of `error` and of what it was raised from, with their bases, most special first; `object` and the like left out."""
    kinds = (kind for link in causes(error) for kind in type(link).__mro__ if kind not in (object, BaseException, Exception))
    return list(dict.fromkeys(class_name(kind) for kind in kinds))[:_MAX_CLASSES]


def _traceback(error: BaseException) -> str:
    try:
        return tracebacks.formatted(error)
    except Exception:  # a broken __str__ again
        return f"{class_name(type(error))} (its traceback cannot be formatted)"


def _starved(error: BaseException) -> bool:
    """A MemoryError, or what the interpreter says when there is no room for a thread's stack."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and str(error) == "can't start new thread")


def _context_exceeded(error: BaseException) -> bool:
    """Whether a prompt was longer than the model's context, as CrewAI or a provider says it."""
    if isinstance(error, SystemExit):
        return isinstance(error.code, str) and error.code.startswith(_CONTEXT_EXIT)
    for link in origins(error):
        if _CONTEXT_CLASSES & {kind.__name__ for kind in type(link).__mro__}:
            return True
        if "contextlengthexceeded" in transient.codes(link):
            return True
        # By text only where a provider refused the request; a rate limit may speak of "too many tokens" too.
        if transient.status_of(link) in (400, 413) and _CONTEXT_TEXTS.search(text_of(link)):
            verdict = transient.judge(link)
            return verdict is None or not verdict.retryable
    return False
