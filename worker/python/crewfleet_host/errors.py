"""What a crew raised, as the "error" object of a frame."""

import re
import traceback
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from .inputs import missing_in

_MAX_MESSAGE = 4000
_MAX_CLASSES = 50
# Class names of what another try may cure, in whatever client library: a rate limit, a time limit, a connection.
_TRANSIENT = re.compile(r"RateLimit|Timeout|APIConnectionError|ConnectionError|InternalServerError|ServiceUnavailable|Overloaded")


def describe(error: BaseException, cancelled: bool) -> dict[str, Any]:
    """The error object. `cancelled` says that the worker asked for a stop; that counts if the stop caused `error`."""
    missing = missing_in(error)
    detail: dict[str, Any] = {"exception": _type_name(error), "traceback": _traceback(error)}
    retryable = False
    if missing is not None:
        kind, detail["missing_inputs"] = "invalid_inputs", missing
    elif cancelled:
        kind = "cancelled"
    elif any(_starved(link) for link in origins(error)):
        kind = "out_of_memory"
    elif isinstance(error, SystemExit):
        kind, detail["exit_code"] = "system_exit", error.code if isinstance(error.code, int) or error.code is None else str(error.code)
    else:
        kind, retryable = "exception", any(_transient(link) for link in causes(error))
        retry_after_s = next((seconds for link in causes(error) if (seconds := _retry_after_s(link)) is not None), None)
        if retry_after_s is not None:
            detail["retry_after_s"] = retry_after_s
        # What the crew's own retry policy is matched with.
        detail["exception_classes"] = _class_names(error)
        status = next((status for link in causes(error) if (status := _status(link)) is not None), None)
        if status is not None:
            detail["http_status"] = status
    return {"kind": kind, "message": _message(kind, error)[:_MAX_MESSAGE], "retryable": retryable, "detail": detail}


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, then what it was raised from, each once."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__


def origins(error: BaseException) -> Iterator[BaseException]:
    """`error`, then what it was raised from, or while handling which it was raised, each once."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _message(kind: str, error: BaseException) -> str:
    if kind == "system_exit":
        return f"the crew called sys.exit({'' if error.code is None else repr(error.code)}); raise an exception instead"
    if kind == "cancelled":
        return "the kickoff was cancelled, and the crew stopped at its next step"
    text = _str(error)
    if kind == "out_of_memory":
        return f"the crew needed more memory than its limit allows: {text or 'MemoryError'}"
    return text or type(error).__name__


def _str(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # the crew's own exception may have a broken __str__
        return ""


def _type_name(error: BaseException) -> str:
    return class_name(type(error))


def class_name(kind: type) -> str:
    """The whole name of a class; a builtin one has no module."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _class_names(error: BaseException) -> list[str]:
    """The classes of `error` and of what it was raised from, with their bases, most special first; `object` and the like left out."""
    kinds = (kind for link in causes(error) for kind in type(link).__mro__ if kind not in (object, BaseException, Exception))
    return list(dict.fromkeys(class_name(kind) for kind in kinds))[:_MAX_CLASSES]


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # a broken __str__ again
        return f"{_type_name(error)} (its traceback cannot be formatted)"


def _starved(error: BaseException) -> bool:
    """A MemoryError, or what the interpreter says when there is no room for a thread's stack."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and str(error) == "can't start new thread")


def _transient(error: BaseException) -> bool:
    return any(_TRANSIENT.search(kind.__name__) for kind in type(error).__mro__)


def _status(error: BaseException) -> int | None:
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "http_status"):
            status = getattr(holder, name, None)
            if isinstance(status, int) and not isinstance(status, bool):
                return status
    return None


def _retry_after_s(error: BaseException) -> float | None:
    """The Retry-After header of the provider's response, which is a number of seconds or a date, in seconds from now."""
    headers = getattr(getattr(error, "response", None), "headers", None)
    try:
        value = headers["retry-after"]
    except (KeyError, TypeError, AttributeError):
        return None
    try:
        return max(0.0, float(value))
    except (TypeError, ValueError):
        pass
    try:
        date = parsedate_to_datetime(value)
        return max(0.0, (date - datetime.now(date.tzinfo)).total_seconds())
    except (TypeError, ValueError, AttributeError):
        return None
