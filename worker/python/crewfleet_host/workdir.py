"""The place and the environment of one kickoff; what the crew changes in them ends with it."""

import os
import sys
from types import TracebackType
from typing import Any

from . import environment, files, storage
from .settings import Settings
from .workplace import Workplace

STORAGE = ".storage"


class WorkDir:
    """Within it, the process stands in the kickoff's place, whose folder is `path`, with CrewAI's storage there unless it is shared,
    or the user's own."""

    def __init__(self, path: str, kickoff_id: str, traceparent: str | None, settings: Settings, workplace: Workplace) -> None:
        self._path = path
        self._kickoff_id = kickoff_id
        self._traceparent = traceparent
        self._settings = settings
        self._workplace = workplace
        self._environ: dict[str, str] | None = None
        self._files = ""

    def __enter__(self) -> "WorkDir":
        """Raises OSError when the place cannot be made."""
        self._environ = dict(os.environ)
        os.makedirs(self._path, exist_ok=True)
        self._files = self._workplace.open(self._path)
        os.environ["CREWFLEET_KICKOFF_ID"] = self._kickoff_id
        if self._traceparent is not None:
            os.environ["TRACEPARENT"] = self._traceparent  # where OpenTelemetry looks for a context in an environment
        if self._settings.storage != "shared":
            environment.use_storage(os.path.join(self._path, STORAGE))
        if self._workplace.root is not None:
            environment.anchor_storage(self._workplace.root)
        storage.enter()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None) -> None:
        for name in self._workplace.written_through():
            sys.stderr.write(f"the kickoff changed {name} of the project itself: it is too large to be copied for each kickoff\n")

    def leave(self) -> None:
        """For another kickoff to come; not called while exit handlers may still want the place."""
        self._workplace.close()
        if self._environ is None:
            return
        for name in [name for name in os.environ if name not in self._environ]:
            del os.environ[name]
        for name, value in self._environ.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__

    def files(self) -> dict[str, Any]:
        """The fields "files" and "files_left_out" of a result."""
        found, left_out = files.describe(self._files, self._workplace.changed(), self._settings.max_files, self._settings.inline_files_bytes)
        return {"files": found, "files_left_out": left_out}

    def files_dir(self) -> str:
        """Where those files lie, for whoever is no part of this child."""
        return self._files
