"""Crews and flows that a file defines: crew.jsonc, flow.yaml."""

import contextlib
import re
from pathlib import Path
from typing import Any

from .. import crewai_setup, optional, tracebacks
from ..target import Target, TargetError

# In YAML, and in JSON, which is YAML; "methods" only at the top of a block of YAML.
_FLOW = re.compile(r"""(?:^|[{,])\s*["']?schema["']?\s*:\s*["']?crewai\.flow/|^methods\s*:""", re.MULTILINE)


def target_of_file(name: str, place: str) -> Target:
    """The crew or flow that the file `place` defines. Raises TargetError, or whatever CrewAI says of the file."""
    with open(place, encoding="utf-8") as file:
        text = file.read()
    if _FLOW.search(text):
        return _flow(name, place)
    if place.endswith((".yaml", ".yml")):
        raise TargetError(
            f'target "{name}": {place} is no flow definition, which has `schema: crewai.flow/v1` and `methods:`; files such as agents.yaml and tasks.yaml'
            ' belong to a crew class: use "package.crew:Name"'
        )
    return _crew(name, place)


def _crew(name: str, place: str) -> Target:
    try:
        from crewai.project.crew_loader import load_crew
    except ImportError as error:
        raise TargetError(f'target "{name}": JSON crews need a newer CrewAI, with crewai.project.crew_loader: {error}', tracebacks.formatted(error)) from None
    return Target(name, lambda: load_crew(place)[0], defaults=_defaults(place))


def _defaults(place: str) -> dict[str, Any]:
    """The inputs that a JSON crew gives itself, without building it where this CrewAI can read it apart."""
    loader = optional.module("crewai.project.json_loader")
    read = getattr(loader, "load_json_crew_project", None)
    definition = getattr(read(Path(place)), "definition", None) if callable(read) else None
    if isinstance(definition, dict):
        return definition.get("inputs") or {}
    return optional.module("crewai.project.crew_loader").load_crew(place)[1]


def _flow(name: str, place: str) -> Target:
    with contextlib.suppress(ImportError):
        crewai_setup.import_crewai()
    flow: Any = getattr(optional.module("crewai.flow.flow"), "Flow", None)
    if not callable(getattr(flow, "from_declaration", None)):
        version = crewai_setup.version() or "not there"
        raise TargetError(f'target "{name}": flow definitions need a newer CrewAI, with Flow.from_declaration; this one is {version}')
    return Target(name, lambda: flow.from_declaration(path=place), needs=_needs)


def _needs(flow: Any, inputs: dict[str, Any]) -> list[str]:
    """The fields that the state of a defined flow must have, which neither the definition nor `inputs` give, sorted."""
    fields = getattr(type(getattr(flow, "state", None)), "model_fields", {})
    if "id" in inputs:  # of a kept state, which has them
        return []
    defaults = getattr(getattr(getattr(flow, "_definition", None), "state", None), "default", None) or {}
    return sorted(name for name, field in fields.items() if field.is_required() and name not in defaults and name not in inputs)
