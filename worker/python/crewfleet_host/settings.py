"""The settings of one crew, as the worker sends them, and what they change in a process."""

import os
import sys
from dataclasses import dataclass
from typing import Any

from . import environment

WORKERS_OWN = "CREWFLEET__"


@dataclass(frozen=True)
class Settings:
    """`target` and `path` name the crew; folders are absolute; `rlimit_data_bytes` is a child's RLIMIT_DATA, None for no limit.

    `working_dir`: the project's folder, None: to be found. `working_dir_way`: "auto", "overlay" or "links"; "decided" in a spawned
    child whose host has tried the overlay: it gets `working_dir_lower`, the project without the host's own overlay, and whether others
    own something in it. `data_dir`: where the worker keeps everything, `scratch_dir`: what hosts have of it.
    `dotenv`: whether the project's .env is read. `verbose_output`: whether CrewAI prints what verbose=True shows.
    `exit_grace_s`: how long a child may take to end after its answer. `inputs`: "strict" or "lenient": whether each {placeholder} in
    a text must be given. `tell_schema`: whether the JSON Schema of the inputs is wanted of the target.
    """

    target: str
    path: tuple[str, ...]
    isolation: str
    storage_dir: str | None
    storage: str
    rlimit_data_bytes: int | None
    working_dir: str | None
    working_dir_way: str
    data_dir: str
    scratch_dir: str
    dotenv: bool
    verbose_output: bool
    exit_grace_s: float
    inline_files_bytes: int
    max_files: int
    inputs: str = "strict"
    tell_schema: bool = True
    working_dir_lower: str | None = None
    working_dir_others: bool = False

    @classmethod
    def from_frame(cls, frame: dict[str, Any]) -> "Settings":
        """Reads the "settings" object of a frame; keys it does not know are left to others. Raises KeyError without a target."""
        return cls(
            target=frame["target"],
            path=tuple(frame.get("path") or ()),
            isolation=frame.get("isolation") or "fork",
            storage_dir=frame.get("storage_dir"),
            storage=frame.get("storage") or "kickoff",
            rlimit_data_bytes=frame.get("rlimit_data_bytes"),
            working_dir=frame.get("working_dir"),
            working_dir_way=frame.get("working_dir_way") or "auto",
            data_dir=frame["data_dir"],
            scratch_dir=frame["scratch_dir"],
            dotenv=bool(frame.get("dotenv", True)),
            verbose_output=bool(frame.get("verbose_output", False)),
            exit_grace_s=float(frame.get("exit_grace_s", 10.0)),
            inline_files_bytes=int(frame.get("inline_files_bytes", 65_536)),
            max_files=int(frame.get("max_files", 1_000)),
            inputs=frame.get("inputs") or "strict",
            tell_schema=bool(frame.get("tell_schema", True)),
            working_dir_lower=frame.get("working_dir_lower"),
            working_dir_others=bool(frame.get("working_dir_others", False)),
        )

    def apply(self) -> None:
        """Puts `path` before sys.path, as PYTHONPATH would, and CrewAI's storage where it belongs, unless the user says where."""
        sys.path[:0] = [entry for entry in self.path if entry not in sys.path]
        if self.storage_dir:
            environment.use_storage(self.storage_dir)


def forget_workers_own_environment() -> None:
    """Removes the worker's own configuration, secrets among it, from what crews can read."""
    for name in [name for name in os.environ if name.startswith(WORKERS_OWN)]:
        del os.environ[name]
