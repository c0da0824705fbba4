"""Nothing is kicked off, and no model is called, before a kickoff.

While a target is imported and built, CrewAI's own entry points refuse to run, and so do those of the libraries in
providers.py: a crew, flow, agent or task that is started there, or a model that is called, would be paid for at each check
and each start. The attempt is remembered, so that code
which catches every exception cannot hide it.
"""

import asyncio
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from . import optional, providers
from .after_import import AfterImport

# Class by class what would start work, in every version of CrewAI that has it.
_STARTS = {
    ("crewai.crew", "Crew"): (
        *("kickoff", "kickoff_async", "akickoff"),
        *("kickoff_for_each", "kickoff_for_each_async", "akickoff_for_each"),
        *("train", "test", "replay"),
    ),
    ("crewai.flow.flow", "Flow"): ("kickoff", "kickoff_async", "akickoff", "resume", "resume_async", "handle_turn", "stream_turn", "chat"),
    ("crewai.agent", "Agent"): ("kickoff", "kickoff_async", "akickoff", "execute_task", "aexecute_task"),
    ("crewai.lite_agent", "LiteAgent"): ("kickoff", "kickoff_async", "akickoff"),
    ("crewai.task", "Task"): ("execute_sync", "execute_async", "aexecute_sync"),
}
_MODEL = (("crewai.llms.base_llm", "BaseLLM"), ("crewai.llm", "LLM"))
_CALLS = ("call", "acall")
_CREWAI = "crewai"
# What stands between the line that a user wrote and the method that it reached.
_BETWEEN = frozenset(
    (
        *("asyncio", "concurrent", "contextvars", "functools", "importlib", "runpy", "threading", "uvloop"),
        *("crewai", "crewai_core", "crewai_tools", *providers.LIBRARIES),
        *("instructor", "tenacity", "langchain", "langchain_core", "langchain_openai", "langchain_anthropic", "langchain_groq"),
    )
)


class RanBeforeKickoff(BaseException):
    """A crew, flow or agent was started, or a model called, while a target was imported or built.

    No Exception, so that the usual `except Exception` around a kickoff lets it through. `what` is "Crew.kickoff", `model` says
    whether that called a model, `file` and
    `line` say where the user's code called it, None where only a thread of a library did; `module` is the module whose import
    did it, None where no import did.
    """

    def __init__(self, what: str, model: bool, file: str | None, line: int | None, module: str | None) -> None:
        self.what, self.model, self.file, self.line, self.module = what, model, file, line, module
        super().__init__(f"{what} was called {self.place()} before any kickoff")

    def place(self) -> str:
        """Where, in words."""
        return f"in {self.file}, line {self.line}," if self.file else "in a thread"


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Refuses every start of a crew, and every call of a model, in this process, in any thread, until the block ends.

    Raises RanBeforeKickoff at its end if there was one, whatever else the block raised. CrewAI may be imported before, or by
    the block itself.
    """
    guard = _Guard()
    guard.close()
    try:
        yield
    finally:
        guard.open()
        if guard.seen is not None:
            raise guard.seen from None


class _Guard:
    def __init__(self) -> None:
        self.seen: RanBeforeKickoff | None = None
        self._closed = False
        self._replaced: list[tuple[Any, str, Any]] = []
        of_libraries = {name: functools.partial(self._refuse_library, name) for name in providers.LIBRARIES}
        self._importing = AfterImport({_CREWAI: self._refuse_crewai, **of_libraries})

    def close(self) -> None:
        self._closed = True
        self._importing.watch()

    def _refuse_library(self, library: str) -> None:
        for owner, name, what in providers.senders(library):
            self._replace(owner, name, what, model=True)

    def _refuse_crewai(self) -> None:
        for (module, name), methods in _STARTS.items():
            for owner in _crewais(_class(module, name)):
                self._refuse(owner, methods, name)
        for module, name in _MODEL:
            base = _class(module, name)
            for model in _with_subclasses(base) if base is not None else ():
                self._refuse(model, _CALLS, model.__name__)
        base = _class(*_MODEL[0])
        if base is not None:
            self._refuse_later_models(base)

    def open(self) -> None:
        self._closed = False
        self._importing.forget()
        for owner, name, original in reversed(self._replaced):
            if original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)

    def _refuse(self, owner: type, methods: tuple[str, ...], shown: str) -> None:
        for name in methods:
            self._replace(owner, name, providers.named(f"{shown}.{name}"), model=methods is _CALLS)

    def _replace(self, owner: Any, name: str, what: providers.Named, model: bool) -> None:
        original = vars(owner).get(name)
        if callable(original):
            setattr(owner, name, self._refusing(original, what, model))
            self._replaced.append((owner, name, original))

    def _refuse_later_models(self, base: Any) -> None:
        """Models of the user's own are classes that the import itself makes."""
        original = vars(base).get("__init_subclass__")

        def init_subclass(cls: Any, /, **arguments: Any) -> None:
            if original is not None:
                original.__get__(None, cls)(**arguments)
            else:
                super(base, cls).__init_subclass__(**arguments)
            if self._closed:
                self._refuse(cls, _CALLS, cls.__name__)

        base.__init_subclass__ = classmethod(init_subclass)
        self._replaced.append((base, "__init_subclass__", original))

    def _refusing(self, original: Callable[..., Any], what: providers.Named, model: bool) -> Callable[..., Any]:
        """A stand-in that refuses; once the guard is open it is `original`, for those who kept it."""
        if asyncio.iscoroutinefunction(original):

            @functools.wraps(original)
            async def refused(*arguments: Any, **named: Any) -> Any:
                self._check(what(arguments, named), model)
                return await original(*arguments, **named)

        else:

            @functools.wraps(original)
            def refused(*arguments: Any, **named: Any) -> Any:
                self._check(what(arguments, named), model)
                return original(*arguments, **named)

        return refused

    def _check(self, what: str | None, model: bool) -> None:
        if self._closed and what is not None:
            error = _ran(what, model, sys._getframe(2))
            self.seen = self.seen or error
            raise error


def _ran(what: str, model: bool, frame: FrameType | None) -> RanBeforeKickoff:
    """`what` was called from `frame`: finds the user's own line, and the module that was being imported."""
    file, line, module = None, None, None
    while frame is not None:
        name = str(frame.f_globals.get("__name__") or "")
        package = name.split(".", 1)[0]
        if package == __package__.split(".", 1)[0]:
            break
        if package not in _BETWEEN and not name.startswith("_") and not frame.f_code.co_filename.startswith("<frozen"):
            if file is None:
                file, line = frame.f_code.co_filename, frame.f_lineno
            if frame.f_code.co_name == "<module>":
                module = name
                break
        frame = frame.f_back
    return RanBeforeKickoff(what, model, file, line, module)


def _class(module: str, name: str) -> type | None:
    found = getattr(optional.module(module), name, None)
    return found if isinstance(found, type) else None


def _crewais(kind: type | None) -> list[type]:
    """The classes of CrewAI's that a method of `kind` may come from."""
    return [base for base in kind.__mro__ if base.__module__.split(".", 1)[0] == "crewai"] if kind is not None else []


def _with_subclasses(base: Any) -> Iterator[type]:
    yield base
    for subclass in base.__subclasses__():
        yield from _with_subclasses(subclass)
