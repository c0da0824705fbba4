"""What this CrewAI lacks of what kickoffs use, found by looking, not by its version; and which versions are refused.

tests/versions.sh runs the crew host's tests with a CrewAI of each kind.
"""

import importlib.metadata
import inspect
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import context_defaults, crewai_setup
from .event_bus import bus
from .optional import module

LOWEST_CREWAI = (0, 177, 0)
# The newest that the tests were run with: of a later one nobody knows yet what it changes.
NEWEST_CREWAI = (1, 15, 30)
NEWEST_PYTHON = (3, 13)


@dataclass(frozen=True)
class Feature:
    """Something of CrewAI's that a kickoff uses. `lost`: what the user has not without it, to be read after "crewai X has no NAME: ".
    `since`: the first CrewAI that has it."""

    name: str
    since: str
    lost: str
    is_there: Callable[[], bool]


def _has(module_name: str, *names: str) -> Callable[[], bool]:
    return lambda: all(hasattr(module(module_name), name) for name in names)


def _field(module_name: str, model: str, field: str) -> Callable[[], bool]:
    return lambda: field in getattr(getattr(module(module_name), model, None), "model_fields", {})


def _events() -> bool:
    return hasattr(module("crewai.events.stream_context"), "add_stream_sink") or callable(getattr(bus(), "emit", None))


def _input_files() -> bool:
    kickoff = getattr(getattr(module("crewai.crew"), "Crew", None), "kickoff", None)
    return callable(kickoff) and "input_files" in inspect.signature(kickoff).parameters


def _storage() -> bool:
    memory, flows = module("crewai.memory.storage.factory"), module("crewai.flow.persistence.factory")
    return hasattr(memory, "set_memory_storage_factory") and hasattr(flows, "set_flow_persistence_factory")


FEATURES = (
    Feature(
        "event bus",
        "0.177.0",
        "kickoffs have no live events, and usage is the crew's own sum",
        _events,
    ),
    Feature(
        "cancel hooks",
        "1.15.3",
        "a cancelled kickoff is killed after cancel_grace_s instead of stopping at its next step",
        _has("crewai.hooks.dispatch", "InterceptionPoint", "HookAborted", "register"),
    ),
    Feature(
        "event ids",
        "1.10.1",
        "events have no duration_s, and traces have no spans within a kickoff",
        _field("crewai.events.base_events", "BaseEvent", "started_event_id"),
    ),
    Feature(
        "usage in its events",
        "1.13.0",
        "tokens are counted by CrewAI's agents and models, so models of your own that don't count report none",
        _field("crewai.events.types.llm_events", "LLMCallCompletedEvent", "usage"),
    ),
    Feature(
        "input files",
        "1.9.0",
        "a kickoff with input files fails",
        _input_files,
    ),
    Feature(
        "JSON crews",
        "1.15.0",
        "a target crew.json or crew.jsonc is refused",
        _has("crewai.project.crew_loader", "load_crew"),
    ),
    Feature(
        "flow definitions",
        "1.15.0",
        "a target flow.yaml is refused",
        lambda: callable(getattr(getattr(module("crewai.flow.flow"), "Flow", None), "from_declaration", None)),
    ),
    Feature(
        "storage of an application's own",
        "1.14.7",
        "a crew with memory=True, or a flow with @persist, that a module makes while it is imported has one storage for all kickoffs; "
        "make it in a function or in a @CrewBase class",
        _storage,
    ),
    Feature(
        "switch for its console",
        "1.10.1",
        "its panels are kept from stdout by other means, which may miss some: use verbose=False where prompts are secret",
        context_defaults.can_silence,
    ),
)


def missing() -> list[Feature]:
    """What the imported crewai lacks; nothing where none is imported."""
    return [feature for feature in FEATURES if not feature.is_there()] if "crewai" in sys.modules else []


def notes() -> list[str]:
    """A sentence for each missing feature, and for versions that are newer than the tests know."""
    version = crewai_setup.version()
    found = [f"crewai {version} has no {feature.name}: {feature.lost} (CrewAI {feature.since} and later has it)" for feature in missing()]
    if version is not None and _numbers(version) > NEWEST_CREWAI:
        found.append(f"crewai {version} is newer than {_text(NEWEST_CREWAI)}, the newest that this worker is tested with")
    if sys.version_info[:2] > NEWEST_PYTHON:
        found.append(f"Python {platform.python_version()} is newer than {_text(NEWEST_PYTHON)}, the newest that this worker is tested with")
    return found


def unsupported() -> dict[str, Any] | None:
    """The error "unsupported_version" when the installed crewai is too old. Does not import it: what is too old may fail at that."""
    try:
        version: str | None = importlib.metadata.version("crewai")
    except importlib.metadata.PackageNotFoundError:  # a source tree in sys.path, or no crewai
        version = crewai_setup.version()
    if version is None or _numbers(version) >= LOWEST_CREWAI:
        return None
    message = (
        f"crewai {version} is too old: kickoffs need {_text(LOWEST_CREWAI)} or later; upgrade it: "
        f"{sys.executable} -m pip install --upgrade 'crewai>={_text(LOWEST_CREWAI)}'"
    )
    return {"kind": "unsupported_version", "message": message, "retryable": False, "detail": None}


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version, "1.15.30rc1" as (1, 15, 30); one that begins otherwise counts as the newest."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else NEWEST_CREWAI


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
