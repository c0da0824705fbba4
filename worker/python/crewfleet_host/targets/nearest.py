"""The right form of a target, found in what is there, for every refusal."""

import difflib
import os
from collections.abc import Iterable

from .source import Candidate, Sources

FORMS = (
    'a target is "package.module:Name" (a crew class, Flow class, function that returns a crew, crew or agent), "package.module",'
    ' "path/to/file.py:Name", "crew.jsonc", "flow.yaml", or a folder with a pyproject.toml that has [tool.crewai]'
)
_MOST = 5
# Of files that define a crew or a flow.
EXTENSIONS = (".json", ".jsonc", ".yaml", ".yml")
_DEFINITIONS = ("crew.jsonc", "crew.json", "flow.yaml", "flow.yml", "flow.json")


def nearest(wanted: str, candidates: Iterable[Candidate], sources: Sources) -> str:
    """The end of a refusal of `wanted`: which target to name instead.

    The best of `candidates`, given best first; else what the package of `wanted` defines, else what there is below the roots,
    else which forms there are.
    """
    found = list(candidates)
    if not found and wanted.endswith(EXTENSIONS):
        return instead(definitions(sources.roots) or [candidate.form for candidate in sources.candidates()])
    if not found:
        name = wanted.rpartition(":")[2] if ":" in wanted else ""
        found = close(name, _around(wanted, sources))
    forms = [candidate.form for candidate in found] or definitions(sources.roots)
    if not forms and sources.faults():
        return f"; what may have been meant cannot be read: {sources.faults()}"
    return instead(forms)


def instead(forms: list[str]) -> str:
    """`; use "a:B"`, or the forms that there are."""
    if not forms:
        return f"; {FORMS}"
    if len(forms) == 1:
        return f'; use "{forms[0]}"'
    more = ", …" if len(forms) > _MOST else ""
    return "; use one of " + ", ".join(f'"{form}"' for form in forms[:_MOST]) + more


def close(name: str, candidates: list[Candidate]) -> list[Candidate]:
    """Those whose name is like `name`, if there are such; else all."""
    lower = {candidate.name.lower() for candidate in candidates}
    alike = difflib.get_close_matches(name.lower(), lower, n=_MOST, cutoff=0.75) if name else []
    return [candidate for candidate in candidates if candidate.name.lower() in alike] or candidates


def definitions(roots: list[str]) -> list[str]:
    """The files below the roots, and beside a root that is called src, that define a crew or a flow."""
    folders = dict.fromkeys(folder for root in roots for folder in (root, os.path.dirname(root) if os.path.basename(root) == "src" else root))
    return [name for folder in folders for name in _DEFINITIONS if os.path.isfile(os.path.join(folder, name))]


def _around(wanted: str, sources: Sources) -> list[Candidate]:
    module = wanted.partition(":")[0]
    if module.isidentifier() or all(part.isidentifier() for part in module.split(".")):
        for package in (module, module.split(".", 1)[0]):
            found = sources.candidates(package) if package else []
            if found:
                return found
    return sources.candidates()
