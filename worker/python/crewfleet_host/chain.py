"""The exceptions behind an exception."""

from collections.abc import Iterator

_MAX_LINKS = 200


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, then what it was raised from, each once."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__


def origins(error: BaseException) -> Iterator[BaseException]:
    """`error`, then everything behind it, nearest first, each once: what it was raised from, else what was being
    handled when it was raised (unless `raise … from None` hides that), and the members of exception groups."""
    seen: set[int] = set()
    waiting = [error]
    while waiting and len(seen) < _MAX_LINKS:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        waiting[:0] = behind(link)


def behind(error: BaseException) -> list[BaseException]:
    """What is directly behind `error`: its cause or its context, then its members where it is a group."""
    reason = error.__cause__ if error.__cause__ is not None else None if error.__suppress_context__ else error.__context__
    members = getattr(error, "exceptions", None)
    group = [member for member in members if isinstance(member, BaseException)] if isinstance(members, (tuple, list)) else []
    return ([reason] if reason is not None else []) + group


def text_of(error: BaseException) -> str:
    """str() of `error`; empty where the crew's own class has a broken `__str__`."""
    try:
        return str(error)
    except MemoryError:
        raise
    except Exception:
        return ""
