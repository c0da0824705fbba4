"""A project's folder as a target: `[tool.crewai]` of its pyproject.toml says what is in it, as it does to `crewai run`."""

import importlib
import os
from typing import Any

from ..target import TargetError
from .entry_points import used_in
from .nearest import definitions, instead
from .source import CREW_CLASS, FACTORY, FLOW, Candidate, Sources

PYPROJECT = "pyproject.toml"
# The scripts that `crewai run` starts, then those that older templates have.
_SCRIPTS = {"crew": ("run_crew", "run", "kickoff"), "flow": ("kickoff", "run_flow", "run_crew", "run")}
_KINDS = {"crew": (CREW_CLASS, FACTORY), "flow": (FLOW,)}


def roots_of(folder: str) -> list[str]:
    """The folders of a project that are in sys.path: src where there is one, and the folder itself."""
    source = os.path.join(folder, "src")
    return [source, folder] if os.path.isdir(source) else [folder]


def target_in(folder: str) -> str:
    """The target that the project in `folder` has: the path of a definition, or "package.module:Name".

    Raises TargetError, which names what may have been meant.
    """
    file = os.path.join(folder, PYPROJECT)
    if not os.path.isfile(file):
        forms = [os.path.join(folder, name) for name in definitions([folder])]
        if len(forms) == 1:
            return forms[0]
        raise TargetError(f'target "{folder}" is a folder without {PYPROJECT}{instead(forms)}')
    project = _read(file)
    settings = _table(_table(project, "tool"), "crewai")
    kind = settings.get("type")
    definition = settings.get("definition")
    if isinstance(definition, str) and definition.strip():
        return _definition(folder, file, definition.strip())
    sources = Sources(roots_of(folder))
    if kind not in _KINDS:
        said = "no [tool.crewai]" if not settings else f"[tool.crewai] with type = {kind!r}"
        forms = [candidate.form for candidate in sources.candidates()] or [os.path.join(folder, name) for name in definitions([folder])]
        raise TargetError(f'{file} has {said}; `type = "crew"` or `type = "flow"` there lets a folder be a target{instead(forms)}')
    found = _from_scripts(project, kind, sources)
    said = f"{file} says that this is a {kind}, and"
    if not found and sources.faults():
        raise TargetError(f"{said} its script leads to a file that cannot be read: {sources.faults()}")
    found = found or [candidate for candidate in sources.candidates() if candidate.kind in _KINDS[kind]]
    if not found and sources.faults():
        below = ", ".join(sources.roots)
        raise TargetError(f"{said} no {kind} is found below {below}, where a file cannot be read: {sources.faults()}")
    if not found:
        forms = [os.path.join(folder, name) for name in definitions([folder])]
        raise TargetError(f"{file} says that this is a {kind}, and no {kind} is found below {', '.join(sources.roots)}{instead(forms)}")
    if len(found) > 1:
        raise TargetError(f"{file} says that this is a {kind}, and there are {len(found)}{instead([candidate.form for candidate in found])}")
    return found[0].form


def _definition(folder: str, file: str, definition: str) -> str:
    place = os.path.normpath(os.path.join(folder, definition))
    if not os.path.isfile(place):
        forms = [os.path.join(folder, name) for name in definitions([folder])]
        raise TargetError(f'{file}: [tool.crewai] definition = "{definition}" names no file{instead(forms)}')
    return place


def _from_scripts(project: dict[str, Any], kind: str, sources: Sources) -> list[Candidate]:
    """What the project's own entry point runs: one crew, or nothing that is certain."""
    scripts = _table(_table(project, "project"), "scripts")
    for name in _SCRIPTS[kind]:
        module_name, _, function_name = str(scripts.get(name) or "").partition(":")
        module = sources.module(module_name) if module_name else None
        function = module.function(function_name) if module is not None else None
        if module is None or function is None:
            continue
        used = [candidate for candidate in used_in(module, function, sources) if candidate.kind in _KINDS[kind]]
        if len(used) == 1:
            return used
    return []


def _read(file: str) -> dict[str, Any]:
    parser = _toml()
    if parser is None:
        raise TargetError(f'{file} cannot be read: this Python has neither tomllib (3.11) nor the package tomli; install tomli, or name "package.module:Name"')
    try:
        with open(file, "rb") as opened:
            return parser.load(opened)
    except (OSError, ValueError) as error:
        raise TargetError(f"{file} cannot be read: {error}") from None


def _toml() -> Any:
    """Python's own parser, else the one that CrewAI depends on."""
    for name in ("tomllib", "tomli"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def _table(parent: Any, name: str) -> dict[str, Any]:
    table = parent.get(name) if isinstance(parent, dict) else None
    return table if isinstance(table, dict) else {}
