"""Finds a target by the form of its name. The grammar is in __init__.py."""

import importlib
import os
import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

from .. import tracebacks
from ..settings import Settings
from ..target import Target, TargetError
from . import folder
from .definitions import target_of_file
from .nearest import EXTENSIONS, close, instead, nearest
from .objects import object_of, objects_in, target_of
from .source import RANKS, Sources


def load(settings: Settings) -> Target:
    """Imports `settings.target`. Raises TargetError; what stops more than an import (RanBeforeKickoff) goes through."""
    try:
        return _Finder(settings).find(settings.target)
    except TargetError:
        raise
    except (Exception, SystemExit) as error:
        what = f"{tracebacks.headline(error)}{what_it_imports(error)}"
        raise TargetError(f'target "{settings.target}" cannot be imported: {what}', tracebacks.formatted(error), error) from None


def what_it_imports(error: BaseException) -> str:
    """What to do about a module that is not there; "" for any other error."""
    if not isinstance(error, ModuleNotFoundError):
        return ""
    return f"; check target and path, and that {sys.executable} has what it imports"


def location(settings: Settings) -> str | None:
    """The absolute path of the file or folder that the target is in, without importing anything; None where it is not below
    `path` or the working directory, as a module of an installed package is."""
    finder = _Finder(settings)
    place, _ = _split(settings.target)
    found = finder.place_of(place)
    if found is None and not _is_path(place):
        module = finder.sources.module(place)
        found = module.file if module is not None else None
    return os.path.abspath(found) if found is not None else None


def absolute(settings: Settings) -> Settings:
    """`settings` with the target's path, if it is one, made absolute: for a process that will stand elsewhere."""
    place, attribute = _split(settings.target)
    found = _Finder(settings).place_of(place)
    return replace(settings, target=os.path.abspath(found) + attribute) if found is not None else settings


class _Finder:
    def __init__(self, settings: Settings) -> None:
        self._name = settings.target
        entries = [os.path.abspath(entry) for entry in settings.path]
        above = [os.path.dirname(entry) for entry in entries if os.path.basename(entry) == "src"]
        self._bases = list(dict.fromkeys([*entries, *above, os.getcwd()]))
        self.sources = Sources(list(dict.fromkeys(entries)))

    def find(self, target: str) -> Target:
        """The target that a name of any form names."""
        if not target.strip():
            raise TargetError(f"the target is empty{self._nearest('')}")
        if target.endswith(EXTENSIONS):
            return target_of_file(self._name, self._place(target, "file"))
        place, colon, attribute = target.partition(":")
        if _is_path(place):
            found = self._place(place, "file or folder")
            if os.path.isdir(found):
                if colon:
                    raise TargetError(f'target "{self._name}" names something in a folder{self._nearest(attribute)}')
                return self._in_folder(found)
            if not found.endswith(".py"):
                raise TargetError(f'target "{self._name}": {found} is no Python file{self._nearest(attribute)}')
            place = self._module_of(found)
        elif not place or (colon and not attribute) or not all(part.isidentifier() for part in place.split(".")):
            raise TargetError(f'target "{self._name}" has none of the forms that a target has{self._nearest(target)}')
        elif not colon and self.sources.module(place) is None and (named := self._folder(place)) is not None:
            return self._in_folder(named)
        module = self._import(place, attribute)
        return self._attribute(module, attribute) if attribute else self._only_one(module)

    def place_of(self, path: str) -> str | None:
        """The file or folder that a path names; None where there is none, or `path` is the name of a module."""
        if not _is_path(path) and not path.endswith(EXTENSIONS):
            return self._folder(path) if self.sources.module(path) is None else None
        return next((place for place in self._places(path) if os.path.exists(place)), None)

    def _places(self, path: str) -> list[str]:
        expanded = os.path.expanduser(path)
        # A folder is the working directory's, as a shell would have it.
        bases = [os.getcwd(), *self._bases] if not path.endswith((*EXTENSIONS, ".py")) else self._bases
        return list(dict.fromkeys(os.path.normpath(os.path.join(base, expanded)) for base in bases))

    def _place(self, path: str, what: str) -> str:
        places = self._places(path)
        found = next((place for place in places if os.path.isfile(place) or (os.path.isdir(place) and "folder" in what)), None)
        if found is None:
            raise TargetError(f'target "{self._name}": no such {what}; looked for {", ".join(places)}{self._nearest("")}')
        return found

    def _folder(self, name: str) -> str | None:
        """A folder with a pyproject.toml whose name could be a module's."""
        return next((place for place in self._places(name) if os.path.isfile(os.path.join(place, folder.PYPROJECT))), None) if name else None

    def _in_folder(self, place: str) -> Target:
        inner = folder.target_in(place)
        roots = folder.roots_of(place)
        sys.path[:0] = [root for root in roots if root not in sys.path]
        self._bases = [*roots, *self._bases]
        self.sources = Sources(list(dict.fromkeys([*roots, *self.sources.roots])))
        return self.find(inner)

    def _module_of(self, file: str) -> str:
        """The name of the module in `file`; puts its root into sys.path where it is not."""
        roots = [root for root in self.sources.roots if file.startswith(os.path.join(root, ""))]
        root = max(roots, key=len, default=os.path.dirname(file))
        source = os.path.join(root, "src")
        if file.startswith(os.path.join(source, "")) and not os.path.isfile(os.path.join(source, "__init__.py")):
            root = source
        top = os.path.dirname(file)
        while os.path.isfile(os.path.join(top, "__init__.py")) and len(top) > len(root):
            top = os.path.dirname(top)
        parts = os.path.splitext(os.path.relpath(file, root))[0].split(os.sep)
        if not all(part.isidentifier() for part in parts):
            root, parts = top, os.path.splitext(os.path.relpath(file, top))[0].split(os.sep)
        if not all(part.isidentifier() for part in parts):
            raise TargetError(f'target "{self._name}": {file} cannot be imported, since "{".".join(parts)}" is no name of a module; rename it')
        if root not in sys.path:
            sys.path.insert(0, root)
        if root not in self.sources.roots:
            self.sources = Sources([root, *self.sources.roots])
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def _import(self, module: str, attribute: str) -> ModuleType:
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            # What the module itself misses is another matter.
            if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
                raise
            message = f'target "{self._name}": there is no module "{error.name}" in {", ".join(self.sources.roots) or "sys.path"}'
            raise TargetError(f"{message}{self._nearest(attribute)}") from None

    def _attribute(self, module: ModuleType, attribute: str) -> Target:
        found: Any = module
        for part in attribute.split("."):
            if not hasattr(found, part):
                where = getattr(found, "__file__", None) or repr(found)
                best = close(part, objects_in(module))
                raise TargetError(f'target "{self._name}": {where} has no "{part}"{nearest(self._name, best, self.sources)}')
            found = getattr(found, part)
        return target_of(self._name, found, self.sources, module)

    def _only_one(self, module: ModuleType) -> Target:
        candidates = objects_in(module)
        best = [candidate for candidate in candidates if RANKS[candidate.kind] == RANKS[candidates[0].kind]]
        if not best:
            written = self.sources.module(module.__name__)
            best = [candidate for candidate in written.candidates() if hasattr(module, candidate.name)] if written is not None else []
        if len(best) == 1:
            return target_of(self._name, object_of(best[0]), self.sources, module)
        if best:
            forms = instead([candidate.form for candidate in best])
            raise TargetError(f'target "{self._name}" is a module with {len(best)} that could be kicked off{forms}')
        raise TargetError(f'target "{self._name}" is a module without a crew, flow or agent{nearest(self._name, [], self.sources)}')

    def _nearest(self, attribute: str) -> str:
        wanted = self._name if ":" in self._name or self._name.endswith(EXTENSIONS) else f":{attribute}"
        return nearest(wanted, [], self.sources)


def _split(target: str) -> tuple[str, str]:
    """The file, folder or module of a target, and ":Name" or ""."""
    if target.endswith(EXTENSIONS):
        return target, ""
    place, colon, attribute = target.partition(":")
    return place, colon + attribute


def _is_path(name: str) -> bool:
    return os.sep in name or name in (".", "..") or name.endswith(".py")
