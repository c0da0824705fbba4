"""A crew's environment variables: its project's `.env`, and what we set where nobody says otherwise.

Who says what, the first wins: the crew's `env`, its `env_file`, the worker's own environment, `.env`, DEFAULTS.
"""

import importlib
import importlib.util
import os
from dataclasses import dataclass
from typing import Any

STORAGE = "CREWAI_STORAGE_DIR"
# With telemetry on and no network an exit takes 11 s longer; tracing asks at a terminal; a version check needs the network.
DEFAULTS = {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false", "CREWAI_DISABLE_VERSION_CHECK": "true"}
_FILE = ".env"
_YES = frozenset({"1", "true", "t", "yes", "y"})
# What this process set because nobody else had, by name: a file may still say otherwise.
_ours: dict[str, set[str]] = {}
# What a `.env` set here, by the file's real path: who reads it again reads it as for the first time.
_read_before: dict[str, dict[str, str]] = {}


class UnreadableEnvFile(Exception):
    """A `.env` that cannot be read; the message names the file, and nothing of what is in it."""


@dataclass(frozen=True)
class EnvFile:
    """A `.env` that was read: its absolute path, the names of the variables that it set, sorted, and of those that it says and
    the environment has already."""

    path: str
    set: tuple[str, ...]
    outranked: tuple[str, ...]


def set_defaults(storage_dir: str) -> None:
    """In the fork server, before crewai is imported, which makes `storage_dir` (absolute) where the user names no storage."""
    _obey_switch()
    _read_what_crewai_reads()
    for name, value in {**DEFAULTS, STORAGE: storage_dir}.items():
        if name not in os.environ:
            _set(name, value)


def read_env_file(folder: str | None) -> EnvFile | None:
    """Reads `.env` of the project's folder, as load_dotenv() does: what is set stays, but for what we set ourselves.

    None: there is none, PYTHON_DOTENV_DISABLED says no, or this interpreter has no python-dotenv, as crewai has. Raises
    UnreadableEnvFile.
    """
    path = os.path.join(folder, _FILE) if folder else ""
    return _read(path) if os.path.isfile(path) else None


def _read(path: str) -> EnvFile | None:
    dotenv = _python_dotenv()
    if dotenv is None or _disabled():
        return None
    ours = {name: os.environ.pop(name) for name in list(_ours) if is_ours(name)}
    for name, value in _read_before.pop(os.path.realpath(path), {}).items():
        if os.environ.get(name) == value:
            del os.environ[name]
    before = dict(os.environ)
    try:
        dotenv.load_dotenv(path, encoding="utf-8")
        said = [name for name, value in dotenv.dotenv_values(path, encoding="utf-8", interpolate=False).items() if value is not None]
    except UnicodeDecodeError as error:
        raise UnreadableEnvFile(f"{path} cannot be read: it is no UTF-8 text, from its byte {error.start} on") from None
    except OSError as error:
        raise UnreadableEnvFile(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:  # the environment's, which names nothing
        raise UnreadableEnvFile(f'{path} cannot be read: a NUL in a value, or "=" in a name') from None
    finally:
        _read_before[os.path.realpath(path)] = {name: value for name, value in os.environ.items() if name not in before}
        for name, value in ours.items():
            os.environ.setdefault(name, value)
    names = tuple(sorted(name for name in said if name not in before))
    return EnvFile(path, names, tuple(sorted(name for name in said if name in before)))


def is_ours(name: str) -> bool:
    """Whether the variable has the value that we gave it: neither the user nor the crew's own code has said another."""
    return os.environ.get(name) in _ours.get(name, ())


def use_storage(storage_dir: str) -> bool:
    """Makes `storage_dir` (absolute) CrewAI's storage, unless the user or the crew's code named another; returns whether it did."""
    if STORAGE in os.environ and not is_ours(STORAGE):
        return False
    _set(STORAGE, storage_dir)
    return True


def own_storage() -> str | None:
    """The storage that the user or the crew's code named, as CrewAI is told it; None: it is ours."""
    return None if is_ours(STORAGE) else os.environ.get(STORAGE)


def storage_below(root: str) -> list[str]:
    """The absolute folder of the storage that the user named, made where it is missing, if it lies in the project's folder `root`:
    what is in it is to last, so no overlay may hide it. Raises OSError."""
    own = own_storage()
    place = os.path.realpath(os.path.join(root, own)) if own else root
    # A bare name means a folder in the user's home to CrewAI.
    if own is None or "/" not in own or not place.startswith(root.rstrip("/") + "/"):
        return []
    os.makedirs(place, exist_ok=True)
    return [place]


def anchor_storage(root: str) -> None:
    """A relative path of the user's starts at the project's folder `root`, wherever the process stands."""
    own = own_storage()
    if own and "/" in own and not os.path.isabs(own):
        os.environ[STORAGE] = os.path.normpath(os.path.join(root, own))


def for_a_fresh_interpreter() -> list[str]:
    """The names of what is ours in this process, for adopt() in one that inherits its environment."""
    return sorted(name for name in _ours if is_ours(name))


def adopt(names: list[str]) -> None:
    """Takes over what for_a_fresh_interpreter() said in the process before."""
    _obey_switch()
    for name in names:
        _set(name, os.environ[name])


def _set(name: str, value: str) -> None:
    os.environ[name] = value
    _ours.setdefault(name, set()).add(value)


def _read_what_crewai_reads() -> None:
    """crewai's import reads the `.env` above its own files: that of the project, whose .venv they are in. What that says comes
    before our defaults, so it is read first."""
    spec = importlib.util.find_spec("crewai")
    folder = os.path.dirname(os.path.abspath(spec.origin)) if spec is not None and spec.origin else "/"
    while folder != "/":
        if os.path.isfile(path := os.path.join(folder, _FILE)):
            try:
                _read(path)
            except UnreadableEnvFile:  # crewai's import says it, too
                return
            return
        folder = os.path.dirname(folder)


def _disabled() -> bool:
    return os.environ.get("PYTHON_DOTENV_DISABLED", "").casefold() in _YES


def _obey_switch() -> None:
    """Before anything calls it: a python-dotenv before 1.2 does not know PYTHON_DOTENV_DISABLED, and CrewAI's import calls it."""
    dotenv = _python_dotenv() if _disabled() else None
    if dotenv is not None and not hasattr(dotenv.main, "_load_dotenv_disabled"):

        def load_dotenv(*_arguments: Any, **_named: Any) -> bool:
            return False

        dotenv.load_dotenv = dotenv.main.load_dotenv = load_dotenv


def _python_dotenv() -> Any:
    try:
        return importlib.import_module("dotenv") if importlib.util.find_spec("dotenv") else None
    except ImportError:
        return None
