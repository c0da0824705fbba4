"""Runs the four templates of `crewai create`, the shapes of tests/crews/projects and, where CREWFLEET_EXAMPLES names a
checkout of github.com/crewAIInc/crewAI-examples, the public projects of projects.toml: at home and on the fleet, each
against a model server of its own. Prints what differs; exits with 1 where something does.

    python tests/as_at_home/check.py [--against fleet|python] [--jobs N] [NAME...]

The public projects import crewai-tools: run this with an interpreter that has it (tests/as_at_home/python-env.sh)."""

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from compare import compare, default_tools
from project import Project, WrongEdit, project_in, public_projects
from runs import RunFailed, Tools
from templates import templates

_HERE = Path(__file__).resolve().parent


def main() -> None:
    """Runs the check."""
    parser = argparse.ArgumentParser(description="Compares projects at home and on the fleet.")
    parser.add_argument("--against", choices=("fleet", "python"), default="fleet")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="projects at once")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these projects")
    options = parser.parse_args()
    # What ends this ends what it started, and removes the copies.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as folder:
        projects = _projects(Path(folder))
        known = {project.name for project in projects}
        wrong = set(options.names) - known
        if wrong:
            sys.exit(f"no project is named {', '.join(sorted(wrong))}: there are {', '.join(sorted(known))}")
        wanted = [project for project in projects if not options.names or project.name in options.names]
        with with_broker(default_tools(), options.against) as tools, ThreadPoolExecutor(options.jobs) as pool:
            passed = list(pool.map(lambda project: _passes(project, tools, options.against), wanted))
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed", flush=True)
    sys.exit(0 if all(passed) else 1)


def _projects(folder: Path) -> "list[Project]":
    shapes = sorted(path.parent for path in (_HERE.parent / "crews" / "projects").glob("*/pyproject.toml"))
    projects = [*templates(folder), *(project_in(shape) for shape in shapes)]
    examples = os.environ.get("CREWFLEET_EXAMPLES")
    if not examples:
        print("the public projects were not run: CREWFLEET_EXAMPLES names no checkout of crewAI-examples", flush=True)
    elif importlib.util.find_spec("crewai_tools") is None:
        sys.exit(f"{sys.executable} has no crewai_tools, which the public projects import: run tests/as_at_home/python-env.sh")
    else:
        projects += public_projects(_HERE / "projects.toml", Path(examples))
    return projects


@contextmanager
def with_broker(tools: Tools, against: str) -> "Iterator[Tools]":
    """One broker for all projects, with a namespace for each."""
    if against != "fleet" or tools.broker_url is not None or tools.crewfleet is None:
        yield tools
        return
    owner = tools.crewfleet.parent / "node-owner"
    with subprocess.Popen([str(owner)], stdout=subprocess.PIPE, text=True) as broker:
        assert broker.stdout is not None
        lines = [broker.stdout.readline().strip() for _ in ("its folder", "its URL")]
        try:
            if not lines[1]:
                sys.exit(f"{owner} started no broker: read the lines above")
            yield replace(tools, broker_url=lines[1])
        finally:
            broker.terminate()


def _passes(project: Project, tools: Tools, against: str) -> bool:
    """Runs one project, and says in one piece what came of it."""
    start = time.monotonic()
    try:
        found, home = compare(project, tools, against)
        what = f"{home.status} at home, {len(home.calls)} model calls, {len(home.files)} files"
    except (RunFailed, WrongEdit) as error:
        found, what = [str(error)], "not run to its end"
    verdict = "the same" if not found else "DIFFERENT"
    lines = [f"{project.name}: {verdict} ({what}; {time.monotonic() - start:.0f} s)", *(f"    {one}" for one in found)]
    print("\n".join(lines), flush=True)
    return not found


if __name__ == "__main__":
    main()
