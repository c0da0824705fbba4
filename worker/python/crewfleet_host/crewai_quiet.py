"""CrewAI made fit for a host of many processes: no console, no terminal, its own locks. Each feature only where this version has it.

Everything here does nothing when crewai is not imported: a target may live without it.
"""

import importlib
import sys
from typing import Any

from . import first_use, signatures, tls
from .locks import FileLocks, ThreadLocks
from .settings import Settings


def import_crewai() -> None:
    """Imports crewai, and what its first kickoff would import, so that forks share it. Raises what the import raises."""
    importlib.import_module("crewai")
    for name in _FIRST_USED:
        module(name)
    _quiet()


# What a process would import at its first kickoff (crewai 1.15.30), so with one kickoff a child at each: 460 ms of CPU, nearly
# all of it for OpenAI's client.
_FIRST_USED = (
    "crewai.hooks.contexts",
    "crewai.llms.cache",
    "crewai.skills.tool",
    "rich._emoji_codes",
    "openai.resources",
    "openai.resources.responses",
)


def settle(settings: Settings) -> None:
    """Once the target is imported: silence, locks that fit where the crew's storage is, and what forks are to share."""
    if "crewai" not in sys.modules:
        return
    _quiet()
    lock_store = module("crewai_core.lock_store") or module("crewai.utilities.lock_store")
    set_lock_backend = getattr(lock_store, "set_lock_backend", None)
    if set_lock_backend is not None:
        # CrewAI's own file locks poll every 250 ms, and every kickoff takes some.
        shared = settings.storage == "shared" and settings.storage_dir
        set_lock_backend(FileLocks(settings.storage_dir) if shared else ThreadLocks())
    tls.share_contexts()
    signatures.remember_signatures()
    first_use.do_what_is_done_once()


def version() -> str | None:
    """crewai's version, None where it is not imported."""
    return getattr(sys.modules.get("crewai"), "__version__", None)


def module(name: str) -> Any:
    """A module of crewai's, None where crewai is not imported or has no such module."""
    if "crewai" not in sys.modules:
        return None
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def clear_build_cache() -> None:
    """Empties the cache in which @CrewBase remembers what its methods made, by id(self)."""
    utils = module("crewai.project.utils")
    cache = getattr(getattr(utils, "cache", None), "_cache", None)
    if isinstance(cache, dict):
        cache.clear()


def is_flow(thing: Any) -> bool:
    """Whether `thing` is an instance of CrewAI's Flow."""
    flow = getattr(module("crewai.flow.flow"), "Flow", None)
    return flow is not None and isinstance(thing, flow)


def refuse_human_input() -> None:
    """In this context, a task with human_input=True fails with a clear error, instead of reading a terminal that is not there."""
    providers = module("crewai.core.providers.human_input")
    if providers is not None and hasattr(providers, "set_provider"):
        providers.set_provider(_NobodyThere())


class _NobodyThere:
    """A human input provider for a process without a human."""

    def setup_messages(self, _context: Any) -> bool:
        return False

    def post_setup_messages(self, _context: Any) -> None:
        return None

    def handle_feedback(self, _answer: Any, context: Any) -> Any:
        task = getattr(context, "task", None)
        message = (
            f'task "{getattr(task, "name", None) or "unnamed"}" asks for human input, and a kickoff in the background has nobody to ask; '
            "set human_input=False on it, and put the decision into a second kickoff"
        )
        dispatch = module("crewai.hooks.dispatch")
        # An agent tries again after any other exception, with model calls that cost money.
        raise getattr(dispatch, "HookAborted", RuntimeError)(message)

    async def handle_feedback_async(self, answer: Any, context: Any) -> Any:
        return self.handle_feedback(answer, context)


def _quiet() -> None:
    """No panels on stdout; what the crew itself prints goes through. A context variable: inherited by forks, not by threads."""
    formatter = module("crewai.events.utils.console_formatter")
    suppress = getattr(formatter, "set_suppress_console_output", None)
    if suppress is not None:
        suppress(True)
