"""From the name of a target to a factory of crews: every kickoff gets a crew of its own."""

import asyncio
import importlib
import inspect
import os
import traceback
from collections.abc import Callable
from typing import Any

from . import crewai_quiet
from .settings import Settings

_SHAPE = 'a target is "package.module:Name" or the path of a JSON crew file'


class TargetError(Exception):
    """A target that cannot be imported, or is nothing that can be kicked off; `traceback` is None where it would say nothing."""

    def __init__(self, message: str, traceback_text: str | None = None) -> None:
        super().__init__(message)
        self.traceback = traceback_text


class Target:
    """An imported target. `name` is as configured, `defaults` are the inputs that the target itself gives."""

    def __init__(self, name: str, make: Callable[[], Any], defaults: dict[str, Any] | None = None, may_share: bool = False) -> None:
        self.name = name
        self.defaults = defaults or {}
        self._make = make
        self._may_share = may_share
        self._sample: Any = None

    def build(self) -> Any:
        """A new object with `kickoff`, as nobody else has it. Raises whatever the crew's code raises."""
        try:
            if self._may_share and self._sample is None:
                self._sample = self._made()
            made = self._made()
            # A function that keeps its crew would hand out one that has run, with old inputs in its texts.
            return _copy(made, self.name) if made is self._sample else made
        finally:
            # @CrewBase remembers methods by id(self), and ids come again: a later crew would get this one's agents.
            crewai_quiet.clear_build_cache()

    def _made(self) -> Any:
        made = self._make()
        if inspect.isawaitable(made):
            made = asyncio.run(_awaited(made))
        if callable(getattr(made, "crew", None)) and (getattr(made, "is_crew_class", False) or not _can_kick_off(made)):
            made = made.crew()
        if not _can_kick_off(made):
            raise TypeError(f'target "{self.name}" gave {_kind(made)}, which has no kickoff method; {_SHAPE} of a crew')
        return made


def load(settings: Settings) -> Target:
    """Imports `settings.target`. Raises TargetError."""
    name = settings.target
    try:
        if name.endswith((".json", ".jsonc")):
            return _json_crew(name, settings.path)
        return _python(name)
    except TargetError:
        raise
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}"
        raise TargetError(f'target "{name}" cannot be imported: {what}; sys.path begins with {list(settings.path)}', traceback.format_exc()) from None


def _python(name: str) -> Target:
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise TargetError(f'target "{name}" has no "module:name" form; {_SHAPE}')
    found: Any = importlib.import_module(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            where = getattr(found, "__file__", None) or repr(found)
            raise TargetError(f'target "{name}": {where} has no "{part}"; it has {_public_names(found)}')
        found = getattr(found, part)
    return _of_object(name, found)


def _of_object(name: str, found: Any) -> Target:
    if inspect.isclass(found):
        if not callable(getattr(found, "crew", None)) and not _can_kick_off(found):
            raise TargetError(f'target "{name}" is a class without a crew() and without a kickoff() method')
        return Target(name, found)
    if _can_kick_off(found):
        return Target(name, lambda: _copy(found, name))
    if callable(getattr(found, "crew", None)):
        return Target(name, found.crew, may_share=True)
    if callable(found):
        return Target(name, found, may_share=True)
    raise TargetError(f'target "{name}" is {_kind(found)}; it must be a class with crew(), a Flow class, a function that returns a crew, or a crew')


def _json_crew(name: str, path: tuple[str, ...]) -> Target:
    places = [os.path.abspath(os.path.join(entry, name)) for entry in (*path, "")]
    place = next((place for place in places if os.path.isfile(place)), None)
    if place is None:
        raise TargetError(f'target "{name}": no such file; looked for {", ".join(places)}')
    try:
        from crewai.project.crew_loader import load_crew
    except ImportError as error:
        raise TargetError(f'target "{name}": JSON crews need a crewai with crewai.project.crew_loader: {error}', traceback.format_exc()) from None
    _, defaults = load_crew(place)
    return Target(name, lambda: load_crew(place)[0], defaults)


def _can_kick_off(thing: Any) -> bool:
    return callable(getattr(thing, "kickoff", None)) or callable(getattr(thing, "kickoff_async", None))


def _copy(crew: Any, name: str) -> Any:
    """A copy of a crew that has never run. What is no CrewAI crew, and cannot be copied, is used as it is."""
    if crewai_quiet.is_flow(crew):
        raise TypeError(f'target "{name}" is a Flow that exists once, with the state of its last run; name its class, or a function that makes one')
    copy = getattr(crew, "copy", None)
    return copy() if callable(copy) else crew


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def _kind(thing: Any) -> str:
    return f"an object of {type(thing).__module__}.{type(thing).__qualname__}"


def _public_names(found: Any) -> str:
    names = [name for name in dir(found) if not name.startswith("_")]
    return ", ".join(names[:20]) + (" …" if len(names) > 20 else "") if names else "no public names"
