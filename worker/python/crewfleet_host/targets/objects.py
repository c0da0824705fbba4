"""What a name stands for: a class, a factory, a crew, a flow, an agent; or nothing that makes a crew."""

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..target import Target, TargetError, can_kick_off, has_crew_method
from . import crewai_types, entry_points
from .nearest import close, nearest
from .parameters import Parameters, parameters_of
from .source import AGENT, CREW, CREW_CLASS, FACTORY, FLOW, RANKS, Candidate, Sources


def target_of(name: str, found: Any, sources: Sources, holder: ModuleType | None) -> Target:
    """The target `name`, which is `found` in the module `holder`. Nothing that runs a crew is called.

    Raises TargetError.
    """
    if inspect.isclass(found):
        return _of_class(name, found, sources, holder)
    if inspect.ismodule(found):
        raise TargetError(f'target "{name}" is a module{_instead(name, sources, holder)}')
    if crewai_types.is_flow(found):
        kind = type(found)
        raise TargetError(f'target "{name}" is a flow that exists once, with the state of its last run; use its class, "{kind.__module__}:{kind.__qualname__}"')
    if can_kick_off(found):
        return Target(name, lambda: found, kept=True)
    made_by = found.crew if has_crew_method(found) else found
    if not callable(made_by):
        what = f"{type(found).__module__}.{type(found).__qualname__}"
        raise TargetError(f'target "{name}" is an object of {what}, which makes no crew{_instead(name, sources, holder)}')
    _refuse_a_run(name, made_by, sources, holder)
    return _factory(name, made_by, sources, holder)


def objects_in(module: ModuleType) -> list[Candidate]:
    """What an imported module has that may be a target: its own, and from its package; best first."""
    package = module.__name__.split(".", 1)[0]
    found: list[Candidate] = []
    for name, value in vars(module).items():
        kind = None if name.startswith("_") else _kind(value, module, package)
        if kind is not None:
            found.append(Candidate(_form(value, module, name), kind))
    own = [candidate for candidate in found if candidate.form.startswith(f"{module.__name__}:")]
    return sorted(dict.fromkeys(own or found), key=lambda candidate: RANKS[candidate.kind])


def object_of(candidate: Candidate) -> Any:
    """What a candidate of objects_in names; None if it is gone."""
    return getattr(sys.modules.get(candidate.form.partition(":")[0]), candidate.name, None)


def _form(value: Any, module: ModuleType, name: str) -> str:
    """The name of `value` as a target: where it is defined, if it is a class that is found there."""
    found = getattr(sys.modules.get(value.__module__), value.__name__, None) if inspect.isclass(value) else None
    if found is not None and found is value:
        return f"{value.__module__}:{value.__name__}"
    return f"{module.__name__}:{name}"


def _of_class(name: str, found: type, sources: Sources, holder: ModuleType | None) -> Target:
    if crewai_types.is_crewais_own(found):
        raise TargetError(f'target "{name}" is CrewAI\'s own class {found.__qualname__}{_instead(name, sources, holder)}')
    if not has_crew_method(found) and not can_kick_off(found):
        runs = [method for method, value in vars(found).items() if callable(value) and entry_points.run_in(value, sources)]
        hint = f"; it runs one in its method {runs[0]}(): give it a method crew() that returns the Crew, without kicking it off" if runs else ""
        raise TargetError(f'target "{name}" is a class without a crew() and without a kickoff() method{hint or _instead(name, sources, holder)}')
    for method in ("__init__", "crew"):
        own = vars(found).get(method)
        if own is not None:
            _refuse_a_run(name, own, sources, holder)
    return _factory(name, found, sources, holder, kept=False)


def _factory(name: str, made_by: Callable[..., Any], sources: Sources, holder: ModuleType | None, kept: bool | None = None) -> Target:
    parameters: Parameters = parameters_of(made_by)
    return Target(name, made_by, parameters=parameters, kept=kept, nearest=lambda: _instead(name, sources, holder, entry_points.used_by(made_by, sources)))


def _refuse_a_run(name: str, made_by: Any, sources: Sources, holder: ModuleType | None) -> None:
    run = entry_points.run_in(made_by, sources)
    if run is None:
        return
    used = entry_points.used_by(made_by, sources)
    raise TargetError(
        f'target "{name}" runs a crew itself ({run.method} in {run.file}, line {run.line}), and was not called;'
        f" a target makes a crew, and each kickoff runs it{_instead(name, sources, holder, used)}"
    )


def _instead(name: str, sources: Sources, holder: ModuleType | None, first: list[Candidate] | None = None) -> str:
    here = [candidate for candidate in (objects_in(holder) if holder is not None else []) if candidate.form != name and not _runs(candidate, sources)]
    best = first or close(name.rpartition(":")[2], here)
    return nearest(name, [candidate for candidate in best if candidate.form != name], sources)


def _runs(candidate: Candidate, sources: Sources) -> bool:
    return candidate.kind == FACTORY and entry_points.run_in(object_of(candidate), sources) is not None


def _kind(value: Any, module: ModuleType, package: str) -> str | None:
    if inspect.isclass(value):
        if value.__module__.split(".", 1)[0] != package:
            return None
        if crewai_types.is_flow_class(value):
            return FLOW
        makes = has_crew_method(value) or can_kick_off(value)
        return CREW_CLASS if makes and not crewai_types.is_model_class(value) else None
    if crewai_types.is_crew(value):
        return CREW
    if crewai_types.is_agent(value):
        return AGENT
    if inspect.isfunction(value) and value.__module__ == module.__name__ and _returns_a_crew(value):
        return FACTORY
    return None


def _returns_a_crew(function: Any) -> bool:
    annotation = function.__annotations__.get("return")
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return name.rpartition(".")[2] in ("Crew", "Flow") or crewai_types.is_flow_class(annotation)
