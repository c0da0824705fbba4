"""Something that is done once a module has been imported, before whoever imports it goes on."""

import contextlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Mapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class AfterImport(MetaPathFinder):
    """`actions`: what to do, by the whole name of a module. Begins with watch(), ends with forget()."""

    def __init__(self, actions: Mapping[str, Callable[[], None]]) -> None:
        self._actions = actions
        self._asking = threading.local()

    def watch(self) -> None:
        """Does at once what is to be done for modules that are there, and waits for the others."""
        sys.meta_path.insert(0, self)
        for name, action in self._actions.items():
            if name in sys.modules:
                action()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec as others find it, with a loader that calls back; None for a module that nobody waits for."""
        # Who only asks whether it could be imported, as CrewAI does, may import it later.
        if name not in self._actions or getattr(self._asking, "name", None) == name:
            return None
        self._asking.name = name
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._asking.name = None
        if spec is not None and spec.loader is not None:
            spec.loader = _Calling(spec.loader, self._actions[name])
        return spec

    def forget(self) -> None:
        """Takes it out of the way of imports."""
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self)


class _Calling(Loader):
    def __init__(self, loader: Any, then: Callable[[], None]) -> None:
        self._loader = loader
        self._then = then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Those who ask the module for its files find its own loader.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._then()
