"""A target that has been found: it makes a crew of its own for every kickoff."""

import asyncio
import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any

from . import crewai_setup
from .inputs import MissingInputs
from .targets import crewai_types
from .targets.agents import AgentKickoff
from .targets.parameters import Parameters


class TargetError(Exception):
    """A target that cannot be imported, or is nothing that can be kicked off; `traceback` is None where it would say nothing. `raised`
    is what the crew's own code raised, if it was that."""

    def __init__(self, message: str, traceback_text: str | None = None, raised: BaseException | None = None) -> None:
        super().__init__(message)
        self.traceback = traceback_text
        self.raised = raised


class Target:
    """A factory of crews.

    `name` is as configured. `parameters` are those of `make`, `defaults` the inputs that the target itself gives. `kept` says
    whether `make` gives the same crew each time: True for a crew that a module holds, False for a class, None where it must
    be found out. `needs` names the inputs that what was made lacks, besides those in a crew's texts. `nearest` tells which
    target may have been meant, "" if none.
    """

    def __init__(
        self,
        name: str,
        make: Callable[..., Any],
        *,
        parameters: Parameters | None = None,
        defaults: dict[str, Any] | None = None,
        kept: bool | None = False,
        needs: Callable[[Any, dict[str, Any]], list[str]] = lambda _made, _inputs: [],
        nearest: Callable[[], str] = str,
    ) -> None:
        self.name = name
        self.parameters = parameters or Parameters()
        self.defaults = defaults or {}
        self._make = make
        self._kept = kept
        self.needs = needs
        self.nearest = nearest
        self._sample: Callable[[], Any] | None = None  # a reference that keeps nothing alive: the crew may hold a connection
        self._handed_out: list[weakref.ref[Any]] = []

    @property
    def notes(self) -> list[str]:
        """What the operator should know of this target, one sentence each."""
        if not self.parameters.need_inputs:
            return []
        which = ", ".join(self.parameters.required) or "all of them, as one dict"
        return [
            f'the target "{self.name}" is built with inputs of the kickoff ({which}), so nothing was built to check it: an error of its'
            " factory, and inputs that its texts need besides, show in a kickoff"
        ]

    def sample(self) -> Any:
        """One crew, only to be looked at, and never kicked off; None where nothing can be built without inputs.

        Calls the factory once. Raises whatever the crew's code raises.
        """
        if self.parameters.need_inputs:
            return None
        try:
            made = self._made({})
            self._sample = _reference(made)
            return self._as_crew(made)
        finally:
            # @CrewBase remembers methods by id(self), and ids come again: a later crew would get this one's agents.
            crewai_setup.clear_build_cache()

    def build(self, inputs: dict[str, Any]) -> Any:
        """A new object with `kickoff`, as nobody else has it, for a kickoff with these inputs.

        Calls the factory once, but for the first time in a process that has built no sample: twice, to see whether it gives
        the same crew again. Raises MissingInputs, and whatever the crew's code raises.
        """
        _require(self.parameters.missing(inputs))
        try:
            made = self._made(inputs)
            _require(self.needs(made, inputs))
            if self._kept is None:
                self._kept = self._is_kept(made, inputs)
            if self._kept and not crewai_types.is_agent(made):
                # A crew that has run keeps the inputs of that run in its texts.
                return self._as_crew(_copy(made))
            self._hand_out(made)
            return self._as_crew(made)
        finally:
            crewai_setup.clear_build_cache()

    def _made(self, inputs: dict[str, Any]) -> Any:
        by_position, named = self.parameters.arguments(inputs)
        made = self._make(*by_position, **named)
        if inspect.isawaitable(made):
            made = asyncio.run(_awaited(made))
        if has_crew_method(made) and (crewai_types.is_crew_base(type(made)) or not can_kick_off(made)):
            made = made.crew()
        if not can_kick_off(made):
            raise TypeError(
                f'target "{self.name}" gave {_kind(made)}, which has no kickoff method; a factory must return a crew, a flow or an agent{self.nearest()}'
            )
        return made

    def _is_kept(self, made: Any, inputs: dict[str, Any]) -> bool:
        if _is_cached(self._make) or (self._sample is not None and self._sample() is made):
            return True
        if self._sample is not None or self.parameters.any:
            return False
        return self._made(inputs) is made

    def _hand_out(self, made: Any) -> None:
        """Remembers `made`. Raises TypeError if an earlier kickoff of this process has had it."""
        if crewai_types.is_agent(made) or not crewai_types.is_model_class(type(made)):
            return
        self._handed_out = [reference for reference in self._handed_out if reference() is not None]
        if any(reference() is made for reference in self._handed_out):
            raise TypeError(f'target "{self.name}" gave a crew that has run already, with the inputs of that run in its texts; build a new one at each call')
        self._handed_out.append(weakref.ref(made))

    def _as_crew(self, made: Any) -> Any:
        return AgentKickoff(made) if crewai_types.is_agent(made) else made


def _reference(thing: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(thing)
    except TypeError:  # of a class with slots
        return lambda: thing


def _require(missing: list[str]) -> None:
    if missing:
        raise MissingInputs(sorted(missing))


def can_kick_off(thing: Any) -> bool:
    """Whether `thing` has a kickoff method, sync or async."""
    return callable(getattr(thing, "kickoff", None)) or callable(getattr(thing, "kickoff_async", None))


def has_crew_method(thing: Any) -> bool:
    """Whether `thing` has a method `crew`, as a @CrewBase class has."""
    return callable(getattr(thing, "crew", None))


def _copy(crew: Any) -> Any:
    """A copy of a crew that has never run. What is no CrewAI crew, and cannot be copied, is used as it is."""
    if crewai_types.is_flow(crew):
        raise TypeError(f"a flow that exists once, with the state of its last run, cannot be kicked off again: name its class {type(crew).__qualname__}")
    copy = getattr(crew, "copy", None)
    return copy() if callable(copy) else crew


def _is_cached(make: Callable[..., Any]) -> bool:
    """Whether functools.cache or the like keeps what a factory made."""
    while isinstance(make, functools.partial):
        make = make.func
    return hasattr(make, "cache_info")


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def _kind(thing: Any) -> str:
    return "None" if thing is None else f"an object of {type(thing).__module__}.{type(thing).__qualname__}"
