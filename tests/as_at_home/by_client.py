"""Runs a project's own `main.py` twice: as it is, in one process; and with the import of its crew changed, on the fleet. Says
what differs in the result's content, types and model calls; exits with 1 where something does.

    python tests/as_at_home/by_client.py

The projects are the example crew and, where CREWFLEET_EXAMPLES names a checkout of github.com/crewAIInc/crewAI-examples,
three of CrewAI's public ones. Files are not compared: those of a crew on the fleet are in its reply."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from check import with_broker
from compare import default_tools
from differences import differences
from outcome import Outcome
from project import Edit, Project, WrongEdit, project_in, public_projects
from runs import RunFailed, Tools, at_home, by_client

_HERE = Path(__file__).resolve().parent
_CHECKOUT = _HERE.parent.parent
_PUBLIC = ("game-builder", "job-posting", "surprise-trip")

# What the changed import brings: a class of the crew's name, whose crew is the fleet's.
_CREW = """
import sys

sys.path.append({source!r})
sys.path.append({packages!r})

from crewfleet import Fleet, RemoteCrew


class {name}:
    def crew(self):
        return Fleet().crew({crew!r})
"""


def main() -> None:
    """Runs the check."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with with_broker(default_tools(), "fleet") as tools:
        passed = [_passes(project, tools) for project in _projects()]
    sys.exit(0 if all(passed) else 1)


def _projects() -> "list[Project]":
    example = replace(project_in(_CHECKOUT / "deploy/examples/marketing"), target="marketing.crew:MarketingCrew")
    examples = os.environ.get("CREWFLEET_EXAMPLES")
    if not examples:
        print("the public projects were not run: CREWFLEET_EXAMPLES names no checkout of crewAI-examples", flush=True)
        return [example]
    public = public_projects(_HERE / "projects.toml", Path(examples))
    return [example, *(project for project in public if project.name in _PUBLIC)]


def _with_changed_import(project: Project) -> Project:
    assert project.target is not None
    module, _, name = project.target.partition(":")
    package = module.split(".")[0]
    main = f"src/{package}/main.py"
    change = Edit(main, f"from {module} import {name}", f"from on_the_fleet import {name}")
    return replace(project, edits=(*project.edits, change))


def _passes(project: Project, tools: Tools) -> bool:
    try:
        home = _without_files(at_home(project, tools))
        fleet = _without_files(by_client(_with_changed_import(project), tools, _crew(project)))
    except (RunFailed, WrongEdit) as error:
        print(f"{project.name}: {error}", flush=True)
        return False
    found = differences(home, fleet)
    shapes = ((part, kind, (fleet.shape or {}).get(part)) for part, kind in (home.shape or {}).items())
    found += [f"{part}: at home a {one}, here a {other}" for part, one, other in shapes if one != other]
    if home.status != "succeeded" or home.shape is None:
        found.append(f"it {home.status} at home: {home.error}")
    what = f"{len(home.calls)} model calls, {len(home.tasks)} tasks"
    print(f"{project.name}: {'DIFFERENT' if found else 'the same'} with the import changed ({what})", flush=True)
    for one in found:
        print(f"    {one}", flush=True)
    return not found


def _crew(project: Project) -> str:
    assert project.target is not None
    packages = next((Path(os.environ.get("CREWFLEET_DIR", _CHECKOUT / ".crewfleet")) / "test-client/lib").glob("python3*/site-packages"))
    source = _CHECKOUT / "producer/python/src"
    return _CREW.format(source=str(source), packages=str(packages), name=project.target.partition(":")[2], crew=project.name)


def _without_files(outcome: Outcome) -> Outcome:
    return replace(outcome, files={}, touched=[])


if __name__ == "__main__":
    main()
