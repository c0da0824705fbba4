"""The place and the environment of one kickoff; what the crew changes in them ends with it."""

import os
import sys
from types import TracebackType
from typing import Any

from . import environment, files, storage
from .errors import PlaceUnavailable
from .settings import Settings
from .workplace import Workplace

STORAGE = ".storage"
_MAX_WARNINGS = 20


class WorkDir:
    """Within it, the process stands in the kickoff's place, whose folder is `path`, with CrewAI's storage there unless it is shared,
    or the user's own. Afterwards `warnings` says what an operator should know, in sentences."""

    def __init__(self, path: str, kickoff_id: str, traceparent: str | None, settings: Settings, workplace: Workplace) -> None:
        self._path = path
        self._kickoff_id = kickoff_id
        self._traceparent = traceparent
        self._settings = settings
        self._workplace = workplace
        self._environ: dict[str, str] | None = None
        self._files = ""
        self.warnings: list[str] = []

    def __enter__(self) -> "WorkDir":
        """Raises PlaceUnavailable."""
        self._environ = dict(os.environ)
        try:
            os.makedirs(self._path, exist_ok=True)
            self._files = self._workplace.open(self._path)
        except OSError as error:
            raise PlaceUnavailable(f"the kickoff's folder cannot be made: {error}") from error
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
        changed = [files.printable(name) for name in self._workplace.written_through()]
        said = "of the project itself was changed while the kickoff ran, which has only a link to it"
        self.warnings = [f"{name} {said}" for name in changed[:_MAX_WARNINGS]]
        if len(changed) > _MAX_WARNINGS:
            self.warnings.append(f"{len(changed) - _MAX_WARNINGS} more files or folders of the project itself were changed")

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
