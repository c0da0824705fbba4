"""The settings of one crew, as the worker sends them, and what they change in a process."""

import os
import sys
from dataclasses import dataclass
from typing import Any

WORKERS_OWN = "CREWFLEET__"


@dataclass(frozen=True)
class Settings:
    """`target` and `path` name the crew; `storage_dir` is absolute; `rlimit_data_bytes` is a child's RLIMIT_DATA, None for no limit."""

    target: str
    path: tuple[str, ...]
    isolation: str
    storage_dir: str | None
    storage: str
    rlimit_data_bytes: int | None

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
        )

    def apply(self) -> None:
        """Puts `path` before sys.path, as PYTHONPATH would, and CrewAI's storage where it belongs."""
        sys.path[:0] = [entry for entry in self.path if entry not in sys.path]
        if self.storage_dir:
            os.environ["CREWAI_STORAGE_DIR"] = self.storage_dir


def forget_workers_own_environment() -> None:
    """Removes the worker's own configuration, secrets among it, from what crews can read."""
    for name in [name for name in os.environ if name.startswith(WORKERS_OWN)]:
        del os.environ[name]
