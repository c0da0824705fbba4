"""Makes the four projects of `crewai create`."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from project import Project, project_in

# The name of a project, and what `crewai create` takes for it. The JSON crew is what it makes unless told otherwise.
_TEMPLATES = {
    "classic_crew": ("crew", "--classic", "--skip-provider"),
    "json_crew": ("crew", "--skip-provider"),
    "python_flow": ("flow",),
    "declarative_flow": ("flow", "--declarative"),
}


def templates(folder: Path) -> "list[Project]":
    """Lets CrewAI's own command make them below `folder`, and returns them as they are."""
    environment = {
        **os.environ,
        "HOME": str(folder),
        "CREWAI_DMN": "true",
        "CREWAI_DISABLE_TELEMETRY": "true",
        "OTEL_SDK_DISABLED": "true",
    }
    made = []
    for name, (kind, *options) in _TEMPLATES.items():
        command = [sys.executable, "-c", "from crewai_cli.cli import crewai; crewai()", "create", kind, name, *options]
        subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True)
        made.append(replace(project_in(folder / name), name=f"template-{name}"))
    return made
