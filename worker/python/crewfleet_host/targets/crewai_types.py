"""What CrewAI's own classes are, wherever this version has them."""

from typing import Any

from .. import optional

_CREWS = (("crewai.crew", "Crew"),)
_FLOWS = (("crewai.flow.flow", "Flow"),)
_AGENTS = (("crewai.agents.agent_builder.base_agent", "BaseAgent"), ("crewai.lite_agent", "LiteAgent"))


def is_crew(thing: Any) -> bool:
    """Whether `thing` is a Crew."""
    return isinstance(thing, _classes(_CREWS))


def is_flow(thing: Any) -> bool:
    """Whether `thing` is a Flow, not its class."""
    return isinstance(thing, _classes(_FLOWS))


def is_agent(thing: Any) -> bool:
    """Whether `thing` is an agent that can be asked without a task."""
    return isinstance(thing, _classes(_AGENTS)) and (callable(getattr(thing, "kickoff", None)) or callable(getattr(thing, "kickoff_async", None)))


def is_flow_class(thing: Any) -> bool:
    """Whether `thing` is a class of flows of the user's own."""
    return isinstance(thing, type) and issubclass(thing, _classes(_FLOWS)) and not is_crewais_own(thing)


def is_crew_base(thing: Any) -> bool:
    """Whether `thing` is a class decorated with @CrewBase."""
    return isinstance(thing, type) and bool(getattr(thing, "is_crew_class", False))


def is_model_class(thing: type) -> bool:
    """Whether `thing` is one of CrewAI's own models, or a subclass: its constructor takes CrewAI's fields, not inputs."""
    return issubclass(thing, _classes((*_CREWS, *_FLOWS, *_AGENTS)))


def is_crewais_own(thing: Any) -> bool:
    """Whether a class or a function comes with CrewAI. Older ones make of a class with @CrewBase a class of their own module."""
    if is_crew_base(thing):
        return False
    return str(getattr(thing, "__module__", "")).split(".", 1)[0] in ("crewai", "crewai_tools", "crewai_core")


def _classes(names: tuple[tuple[str, str], ...]) -> tuple[type, ...]:
    found = (getattr(optional.module(module), name, None) for module, name in names)
    return tuple(kind for kind in found if isinstance(kind, type))
