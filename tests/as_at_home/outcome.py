"""What a run of a project came to: in plain Python, or on the fleet."""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Made by Python, git, and `crewfleet dev` itself: no product of a project.
_IGNORED = {"__pycache__", ".git", ".crewfleet", ".venv"}

# Times and ids differ from run to run at home too.
_VOLATILE = re.compile(
    rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?"
    rb"|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    rb"|\b0x[0-9a-f]{6,16}\b"
)


@dataclass(frozen=True)
class File:
    """A file that a run made or changed. `steady` is the digest of its content without times and ids; None where the
    content isn't known."""

    sha256: str
    steady: "str | None"


@dataclass
class Outcome:
    """`status` is "succeeded" or "failed"; `returned` is what kind of thing the kickoff gave: "crew", "text", "value",
    "nothing"; `tasks` are `{"raw", "json"}`; `state` is a flow's, in the end; `files` are by their path in the project;
    `calls` has the digests of the model calls, sorted; `tokens` is what the model server counted, `usage` what the reply
    says. `inputs` are those of the kickoff. `shape` has the types of a crew's result. `touched` are the project's own files that the run changed in their place."""

    status: str
    error: "str | None" = None
    inputs: "dict[str, Any] | None" = None
    returned: str = "nothing"
    raw: "str | None" = None
    json: Any = None
    tasks: "list[dict[str, Any]]" = field(default_factory=list)
    state: Any = None
    files: "dict[str, File]" = field(default_factory=dict)
    calls: "list[str]" = field(default_factory=list)
    tokens: int = 0
    usage: "int | None" = None
    touched: "list[str]" = field(default_factory=list)
    shape: "dict[str, str] | None" = None


def file_of(content: bytes) -> File:
    """A file by its content."""
    return File(hashlib.sha256(content).hexdigest(), hashlib.sha256(_VOLATILE.sub(b"-", content)).hexdigest())


def snapshot(root: Path) -> "dict[str, File]":
    """All files below a folder, by their path in it; links count as what they point to."""
    found = {}
    for path in sorted(root.rglob("*")):
        within = path.relative_to(root)
        if path.is_file() and not _IGNORED & set(within.parts):
            found[within.as_posix()] = file_of(path.read_bytes())
    return found


def made(before: "dict[str, File]", after: "dict[str, File]") -> "dict[str, File]":
    """The files that are new or changed."""
    return {path: file for path, file in after.items() if before.get(path) != file}
