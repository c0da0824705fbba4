"""CrewAI made fit for a host of many processes: no console, no terminal, its own locks. Each feature only where this version has it.

Everything here does nothing when crewai is not imported: a target may live without it.
"""

import importlib
import os
import sys
from typing import Any

from . import context_defaults, environment, event_bus, prewarm, tls, tracing
from .locks import FileLocks, KickoffLocks
from .optional import module
from .settings import Settings


def import_crewai() -> None:
    """Imports crewai, and what its first kickoff would import, so that forks share it. Raises what the import raises."""
    importlib.import_module("crewai")
    for name in _FIRST_USED:
        module(name)
    _quiet(True)
    event_bus.park()


# What a process would import at its first kickoff (crewai 1.15.30), so with one kickoff a child at each: 460 ms of CPU, nearly
# all of it for OpenAI's client.
_FIRST_USED = (
    "crewai.hooks.contexts",
    "crewai.llms.cache",
    "crewai.skills.tool",
    "httpcore",
    "rich._emoji_codes",
    "openai.resources",
    "openai.resources.responses",
)


def settle(settings: Settings) -> None:
    """Once the target is imported: silence, locks that fit where the crew's storage is, and what forks are to share."""
    if "crewai" not in sys.modules:
        return
    _quiet(not settings.verbose_output)
    lock_store = module("crewai_core.lock_store") or module("crewai.utilities.lock_store")
    set_lock_backend = getattr(lock_store, "set_lock_backend", None)
    if set_lock_backend is not None:
        # CrewAI's own file locks poll every 250 ms, and every kickoff takes some.
        shared = _shared_storage(settings)
        set_lock_backend(FileLocks(shared) if shared else KickoffLocks(settings.storage_dir))
    tls.share_contexts()
    prewarm.prewarm()


def _shared_storage(settings: Settings) -> str | None:
    """The absolute folder of a storage that kickoffs share: the crew's, or one that the user named."""
    own = environment.own_storage()
    if own is None:
        return settings.storage_dir if settings.storage == "shared" else None
    paths = module("crewai_core.paths") or module("crewai.utilities.paths")
    # A bare name means a folder in the user's home to CrewAI.
    place = paths.db_storage_path() if hasattr(paths, "db_storage_path") else own
    return os.path.abspath(place)


def version() -> str | None:
    """crewai's version, None where it is not imported."""
    return getattr(sys.modules.get("crewai"), "__version__", None)


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


def is_verbose() -> bool:
    """Whether a crew that was built here says verbose=True."""
    listener = getattr(module("crewai.events.event_listener"), "event_listener", None)
    return bool(getattr(getattr(listener, "formatter", None), "verbose", False))


def _quiet(quiet: bool) -> None:
    """With `quiet`, no panels on stdout; and nobody who is asked: what CrewAI keeps for a process with a terminal. What the crew
    itself prints goes through."""
    if context_defaults.can_silence():
        context_defaults.silence(quiet)
    else:
        event_bus.silence(quiet)
    tracing.only_where_asked_for()
    context_defaults.widen()
