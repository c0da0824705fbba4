"""A project that is run at home and on the fleet."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomllib


class WrongEdit(ValueError):
    """An edit of projects.toml that doesn't fit the project's source."""


@dataclass(frozen=True)
class Edit:
    """A replacement in a source: what CrewAI itself refuses, and what it takes in its place."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Project:
    """`folder` holds the source, which stays as it is: it's copied for each run. `entry` runs it at home (None: as
    `crewai run`), `target` on the fleet (None: `crewfleet dev` finds it). `script` are rules for the model server, `tools`
    its policy. `inputs` are the fleet's where those of the kickoff at home aren't it: a factory's. `error` is what the fleet
    must say of a failure. `known` are the differences that are right, each a part of its sentence."""

    name: str
    folder: Path
    entry: "str | None" = None
    target: "str | None" = None
    tools: str = "none"
    edits: "tuple[Edit, ...]" = ()
    script: "tuple[dict[str, Any], ...]" = ()
    env: "dict[str, str]" = field(default_factory=dict)
    inputs: "dict[str, Any] | None" = None
    error: "str | None" = None
    known: "tuple[str, ...]" = ()

    def copy_to(self, folder: Path) -> None:
        """Copies the project, with its edits, into a folder that isn't there; raises WrongEdit."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("__pycache__", ".git"))
        for edit in self.edits:
            file = folder / edit.file
            text = file.read_text() if file.is_file() else ""
            if edit.old not in text:
                raise WrongEdit(f"{self.name}: {edit.file} has no {edit.old!r}: correct the edit in projects.toml")
            file.write_text(text.replace(edit.old, edit.new))


def project_in(folder: Path) -> Project:
    """The project of a folder, by the `[tool.crewfleet-tests]` of its pyproject.toml, where there is one."""
    pyproject = tomllib.loads((folder / "pyproject.toml").read_text())
    return _project(folder.name, folder, pyproject.get("tool", {}).get("crewfleet-tests", {}))


def public_projects(table: Path, examples: Path) -> "list[Project]":
    """The projects of projects.toml, in the checkout of CrewAI's examples."""
    entries = tomllib.loads(table.read_text())["projects"]
    return [_project(name, examples / entry.pop("folder"), entry) for name, entry in entries.items()]


def _project(name: str, folder: Path, entry: "dict[str, Any]") -> Project:
    edits = tuple(Edit(**edit) for edit in entry.pop("edits", ()))
    script, known = tuple(entry.pop("script", ())), tuple(entry.pop("known", ()))
    return Project(name, folder, edits=edits, script=script, known=known, **entry)
