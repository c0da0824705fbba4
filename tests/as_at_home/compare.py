"""Runs a project at home and on the fleet, and prints what differs; exits with 1 where something does.

    python tests/as_at_home/compare.py FOLDER [--entry MODULE:FUNCTION] [--target TARGET] [--tools none|first|all]
                                       [--against fleet|python]

FOLDER has a pyproject.toml. The project runs in copies of it. --entry is what runs it at home, without it what
`crewai run` runs. The fleet gets the inputs that the kickoff at home had. --against python runs it at home twice, which
must be equal: what differs then is the project's own doing."""

import argparse
import dataclasses
import os
import signal
import sys
from pathlib import Path

from differences import differences
from outcome import Outcome
from project import Project, project_in
from runs import RunFailed, Tools, at_home, on_the_fleet

_CHECKOUT = Path(__file__).resolve().parent.parent.parent


def compare(project: Project, tools: Tools, against: str) -> "tuple[list[str], Outcome]":
    """The differences between a run at home and another, and what it was at home; raises RunFailed."""
    home = at_home(project, tools)
    if against == "fleet":
        other = on_the_fleet(project, tools, home.inputs if project.inputs is None else project.inputs)
    else:
        other = at_home(project, tools)
    found = differences(home, other)
    if against == "fleet" and project.error and project.error not in (other.error or ""):
        found.append(f"error: {project.error!r} is not in {other.error!r}")
    return [one for one in found if not any(known in one for known in project.known)], home


def default_tools() -> Tools:
    """The interpreter and the command of this checkout, or those that CREWFLEET_PYTHON and CREWFLEET_BIN_DIR name."""
    binaries = Path(os.environ.get("CREWFLEET_BIN_DIR", _CHECKOUT / "target" / "debug"))
    return Tools(Path(sys.executable), binaries / "crewfleet", os.environ.get("CREWFLEET_TEST_BROKER_URL"))


def main() -> None:
    """Compares one project."""
    parser = argparse.ArgumentParser(description="Compares a run at home with one on the fleet.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--entry")
    parser.add_argument("--target")
    parser.add_argument("--tools", choices=("none", "first", "all"))
    parser.add_argument("--against", choices=("fleet", "python"), default="fleet")
    options = parser.parse_args()
    # What ends this ends what it started, and removes the copies.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    given = {name: value for name in ("entry", "target", "tools") if (value := getattr(options, name)) is not None}
    project = dataclasses.replace(project_in(options.folder.resolve()), **given)
    try:
        found, home = compare(project, default_tools(), options.against)
    except RunFailed as error:
        sys.exit(str(error))
    for one in found:
        print(one)
    if found:
        sys.exit(1)
    print(f"{project.name}: the same ({home.status}, {len(home.calls)} model calls, {len(home.files)} files)")


if __name__ == "__main__":
    main()
