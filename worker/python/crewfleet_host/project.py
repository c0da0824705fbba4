"""The project that a crew belongs to: the folder in which people start it at home."""

import importlib.util
import os
import sys

from .settings import Settings
from .targets.find import location

_MARK = "pyproject.toml"


def working_dir(settings: Settings) -> str | None:
    """The absolute folder in which the crew runs: the configured one, else the project of the target's file, else where the
    worker stands. None: the worker stands in "/", which is nobody's project. Raises OSError where that is gone."""
    if settings.working_dir:
        return os.path.realpath(settings.working_dir)
    standing = _standing()
    place = _place_of(settings)
    found = (place and _above(place)) or standing
    return None if found == "/" else found


def _above(place: str) -> str | None:
    """The folder at or above `place` that has a pyproject.toml."""
    folder = os.path.realpath(place)
    while True:
        if os.path.isfile(os.path.join(folder, _MARK)):
            return folder
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above


def _place_of(settings: Settings) -> str | None:
    """The file or folder of the target, found without importing it; None where nothing of that name is there."""
    return location(settings) or _place_of_module(settings.target.partition(":")[0].partition(".")[0], settings)


def _standing() -> str:
    """Where this process stands. Raises OSError where that has been removed."""
    try:
        return os.path.realpath(os.getcwd())
    except FileNotFoundError:
        raise OSError("the folder in which the worker was started is gone; start it elsewhere, or set the crew's working_dir") from None


def _place_of_module(name: str, settings: Settings) -> str | None:
    if not name.isidentifier():
        return None
    before = list(sys.path)
    sys.path[:0] = settings.path
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a module without a spec: already imported, in an odd way
        return None
    finally:
        sys.path[:] = before
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or ())
    return spec.origin if spec.origin and os.path.exists(spec.origin) else folders[0] if folders else None
