"""The directory and the environment of one kickoff; what the crew changes in them ends with it."""

import os
import stat
import sys
from types import TracebackType

from .settings import Settings

STORAGE = ".storage"
# A crew's own files: what is more is a crew gone astray, and would make the frame too long.
_MAX_FILES = 10_000
_KNOWLEDGE = "knowledge"


class WorkDir:
    """Within it, the process stands in `path` (absolute, made if missing), with CrewAI's storage there unless it is shared."""

    def __init__(self, path: str, kickoff_id: str, traceparent: str | None, settings: Settings) -> None:
        self._path = path
        self._kickoff_id = kickoff_id
        self._traceparent = traceparent
        self._settings = settings
        self._environ: dict[str, str] = {}

    def __enter__(self) -> "WorkDir":
        """Raises OSError when the directory cannot be made."""
        self._environ = dict(os.environ)
        os.makedirs(self._path, exist_ok=True)
        os.chdir(self._path)
        os.environ["CREWFLEET_KICKOFF_ID"] = self._kickoff_id
        if self._traceparent is not None:
            os.environ["TRACEPARENT"] = self._traceparent  # where OpenTelemetry looks for a context in an environment
        if self._settings.storage != "shared":
            os.environ["CREWAI_STORAGE_DIR"] = os.path.join(self._path, STORAGE)
        self._link_knowledge()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None) -> None:
        os.chdir("/")
        for name in [name for name in os.environ if name not in self._environ]:
            del os.environ[name]
        for name, value in self._environ.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__

    def files(self) -> list[str]:
        """What the crew left: regular files, relative to `path`, sorted; without CrewAI's storage, symbolic links and their targets."""
        found: list[str] = []
        for directory, names, files in os.walk(self._path):
            at_top = directory == self._path
            if at_top and STORAGE in names:
                names.remove(STORAGE)
            for name in files:
                place = os.path.join(directory, name)
                if len(found) == _MAX_FILES:
                    sys.stderr.write(f"more than {_MAX_FILES} files in {self._path}; the others are not in the result\n")
                    return sorted(found)
                if _is_regular(place):
                    found.append(os.path.relpath(place, self._path))
        return sorted(found)

    def _link_knowledge(self) -> None:
        """CrewAI reads a project's knowledge/ relative to where it runs, which is usually the project's own directory."""
        for entry in self._settings.path:
            for project in (entry, os.path.dirname(entry.rstrip("/"))):
                place = os.path.join(project, _KNOWLEDGE)
                if os.path.isdir(place) and not os.path.lexists(_KNOWLEDGE):
                    os.symlink(place, _KNOWLEDGE)


def _is_regular(place: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(place).st_mode)
    except OSError:  # removed meanwhile
        return False
