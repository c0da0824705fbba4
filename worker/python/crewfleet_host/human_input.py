"""Nobody sits before a kickoff: who asks a person fails the kickoff, and says who asked.

Standard input answers each read of a line with an exception. Where CrewAI itself reads it (`Flow.ask()`,
`@human_feedback`, a hook's `request_human_input()`), that exception goes through CrewAI's own `except Exception`, which
would make an answer of it. A tool of the crew's own gets an EOFError, as it would without a terminal; what it makes of
that is the crew's, but CrewAI may not swallow it.
"""

import contextvars
import io
import os
import sys
import threading
from types import FrameType
from typing import Any

from .chain import origins
from .optional import module

_FIX = "a kickoff in the background has nobody to ask; take the decision as an input, or put it into a second kickoff"
_CREWAI = ("crewai", "crewai_core")
# Who catches an exception for somebody else; a crew's own code catches its own.
_FRAMEWORKS = frozenset({"crewai", "crewai_core", "crewai_tools", "langchain", "langchain_core", "llama_index", "mcp", "anyio", "pydantic"})


class HumanInputNeeded(BaseException):
    """Somebody asks a person. No Exception: nothing between here and the kickoff's end may take it for an answer."""


class NobodyAnswers(EOFError):
    """The same for code that may expect an end of file."""


class Requests:
    """What was asked in the current kickoff. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._raised: list[HumanInputNeeded | NobodyAnswers] = []

    def forget(self) -> None:
        """A new kickoff begins."""
        with self._lock:
            self._raised.clear()

    def add(self, error: "HumanInputNeeded | NobodyAnswers") -> None:
        """`error` is about to be raised."""
        with self._lock:
            self._raised.append(error)

    def swallowed(self) -> "HumanInputNeeded | NobodyAnswers | None":
        """The first request that may not go unanswered: CrewAI's own, or one whose exception a framework caught."""
        with self._lock:
            return next((error for error in self._raised if isinstance(error, HumanInputNeeded) or _caught_by_framework(error)), None)


requests = Requests()


def begin() -> None:
    """A kickoff begins: nobody has asked yet, and standard input is taken away. Its file descriptor 0 stays /dev/null."""
    requests.forget()
    if not isinstance(sys.stdin, _NoStdin):
        sys.stdin = _NoStdin(open(os.devnull, "rb"), encoding="utf-8")  # noqa: SIM115


class _NoStdin(io.TextIOWrapper):
    """An empty standard input whose lines, which only a person could write, are not there to be read."""

    def readline(self, *_arguments: Any) -> str:  # type: ignore[override]
        caller = sys._getframe(1)
        message = f"{_asker(caller)} asks a person; {_FIX}"
        # CrewAI offers traces to a person too, and expects that nobody is there.
        crewais = _root(caller) in _CREWAI and "tracing" not in caller.f_globals.get("__name__", "")
        error = HumanInputNeeded(message) if crewais else NobodyAnswers(message)
        requests.add(error)
        raise error

    def __next__(self) -> str:  # type: ignore[override]
        return self.readline()


def needed_in(error: BaseException) -> str | None:
    """The message of the request for a person that caused `error`, None when it is about something else."""
    pending = _pending_type()
    for link in origins(error):
        if isinstance(link, (HumanInputNeeded, NobodyAnswers)):
            return str(link)
        if pending is not None and isinstance(link, pending):
            return pending_message(link)
        if isinstance(link, EOFError) and str(link) == "EOF when reading a line":  # a copy of input() from before
            return f"the crew asks a person (input()); {_FIX}"
    return None


def refuse_pending(output: Any) -> None:
    """Raises HumanInputNeeded when `output` is a flow that pauses for a person, or CrewAI swallowed a question."""
    pending = _pending_type()
    if pending is not None and isinstance(output, pending):
        raise HumanInputNeeded(pending_message(output))
    check_swallowed()


def check_swallowed() -> None:
    """Raises HumanInputNeeded when a question to a person was taken for a tool's failure, or lost in a thread."""
    error = requests.swallowed()
    if error is not None:
        raise HumanInputNeeded(str(error))


def refuse_tasks(crew: Any) -> None:
    """Raises HumanInputNeeded, before anything is paid for, when a task that will run has `human_input=True` and nobody but
    a terminal would be asked. Conditional tasks may be skipped."""
    providers = module("crewai.core.providers.human_input")
    provider = providers.get_provider() if hasattr(providers, "get_provider") else None
    if provider is not None and not isinstance(provider, _NobodyThere):
        return  # the crew's own, which may ask over a network
    for task in getattr(crew, "tasks", None) or ():
        if getattr(task, "human_input", False) is True and not hasattr(task, "should_execute"):
            raise HumanInputNeeded(task_message(task))


def task_message(task: Any) -> str:
    """That `task` asks a person."""
    return f"{_task(task)} has human_input=True; {_FIX}"


def pending_message(pending: Any) -> str:
    """What a paused flow (HumanFeedbackPending) waits for."""
    context = getattr(pending, "context", None)
    method = getattr(context, "method_name", None) or "unknown"
    flow = str(getattr(context, "flow_class", None) or "of this crew").rpartition(".")[2]
    return f'method "{method}" of flow {flow} waits for the feedback of a person; {_FIX}'


def default_provider() -> Any:
    """CrewAI's human input provider for a process without a human; for tasks with `human_input=True`."""
    return _NobodyThere()


class _NobodyThere:
    def setup_messages(self, _context: Any) -> bool:
        return False

    def post_setup_messages(self, _context: Any) -> None:
        return None

    def handle_feedback(self, _answer: Any, context: Any) -> Any:
        needed = HumanInputNeeded(task_message(getattr(context, "task", None)))
        # An agent tries again after any other Exception, with model calls that cost money.
        aborted = getattr(module("crewai.hooks.dispatch"), "HookAborted", None)
        if aborted is None:
            raise needed
        raise aborted(str(needed)) from needed

    async def handle_feedback_async(self, answer: Any, context: Any) -> Any:
        return self.handle_feedback(answer, context)


def _pending_type() -> type | None:
    kind = getattr(module("crewai.flow.async_feedback"), "HumanFeedbackPending", None)
    return kind if isinstance(kind, type) else None


def _task(task: Any) -> str:
    name = getattr(task, "name", None)
    agent = getattr(getattr(task, "agent", None), "role", None)
    return f'task "{name}"' if name else f'a task without a name, of agent "{str(agent).strip()}",'


def _asker(frame: FrameType) -> str:
    """Who reads standard input: a tool, a task, a flow's method, or a place in the code."""
    place = task = method = None
    link: FrameType | None = frame
    while link is not None:
        own, inside = link.f_locals.get("self"), _root(link) in _CREWAI
        if place is None and not inside and _root(link) not in sys.stdlib_module_names:
            place = f"{os.path.basename(link.f_code.co_filename)}:{link.f_lineno} ({link.f_code.co_name})"
        kinds, name = {kind.__name__ for kind in type(own).__mro__}, getattr(own, "name", None)
        if kinds & {"BaseTool", "CrewStructuredTool"} and isinstance(name, str):
            return f'tool "{name}"'
        if task is None and "Task" in kinds and hasattr(own, "expected_output"):
            task = own
        if method is None and inside and isinstance(link.f_locals.get("method_name"), str):
            method = link.f_locals["method_name"]
        link = link.f_back
    if task is not None:
        return _task(task)
    variable = getattr(module("crewai.flow.flow_context"), "current_flow_method_name", None)
    if isinstance(variable, contextvars.ContextVar) and method in (None, "unknown"):
        method = variable.get(None)
    if method not in (None, "unknown"):
        return f'method "{method}" of the flow'
    return f"the crew, in {place}," if place else "the crew"


def _root(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _caught_by_framework(error: BaseException) -> bool:
    """Whether the frame that caught `error` last is a framework's, or a thread's that nobody asked for its result."""
    if error.__traceback__ is None:
        return False
    root = _root(error.__traceback__.tb_frame)
    return root in _FRAMEWORKS or root in sys.stdlib_module_names
