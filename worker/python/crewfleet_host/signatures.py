"""Signatures of builtin classes, parsed once for a process and its forks.

Pydantic asks for `inspect.signature(list)` at each field that defaults to a list, and CrewAI makes a Pydantic class for every agent
of every kickoff. For a builtin, inspect parses a text, and copies `sys.modules` to do so: a fork that copies it writes to the
reference count of every module, and so gets 6 MB of pages of its own.
"""

import contextlib
import functools
import inspect
from typing import Any

_MARK = "_crewfleet_remembers"


def remember_signatures() -> None:
    """Makes inspect parse the signature of a class implemented in C once. Does nothing where inspect works otherwise."""
    parse = getattr(inspect, "_signature_fromstr", None)
    if not callable(parse) or hasattr(parse, _MARK):
        return
    remembered = functools.cache(parse)  # a Signature is immutable

    @functools.wraps(parse)
    def signature_fromstr(cls: type, of: Any, text: str, *options: Any, **named: Any) -> inspect.Signature:
        # Classes alone: they live as long as their module, what else has such a signature may not.
        return (remembered if isinstance(of, type) else parse)(cls, of, text, *options, **named)

    setattr(signature_fromstr, _MARK, True)
    inspect._signature_fromstr = signature_fromstr  # type: ignore[attr-defined]
    with contextlib.suppress(ValueError):
        inspect.signature(list)  # for the forks
