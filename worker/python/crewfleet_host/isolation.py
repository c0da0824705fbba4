"""Fork or fresh interpreters for a crew's kickoffs: decided by what its import left in this process, with the reasons in words."""

import gc
import importlib
import os
import sys
from collections.abc import Callable, Set
from typing import Any

from . import storage
from .probe import run_in_fork
from .settings import Settings
from .sharing import Census, Findings


class Isolation:
    """Make one before the target is imported, in the process that imports it."""

    def __init__(self, settings: Settings) -> None:
        self._census = Census()
        self._configured = settings.isolation == "spawn"
        self.imported = Findings()
        self._left_by_build: list[str] = []

    @property
    def kind(self) -> str:
        """ "fork" or "spawn"."""
        return "spawn" if self._configured or not self.imported.clean else "fork"

    def look_at_import(self) -> None:
        """Once the target is imported."""
        gc.collect()  # older CrewAIs leave the closing of their databases to it
        self.imported = self._census.look(_fork_once)
        self._census.forget_news()

    def look_at_build(self) -> None:
        """Once a crew was built in a process that is thrown away."""
        gc.collect()  # what only the crew held is closed by it
        self._left_by_build = self._census.look(_fork_once).told

    def may_build_here(self, seen: dict[str, Any]) -> bool:
        """Whether forks may share what a build leaves, as `observe_build` saw it."""
        self._left_by_build = seen["told"]
        return not seen["left"]

    def look_at_build_here(self) -> None:
        """Once a crew was built here for the forks. What it did not leave in the rehearsal counts as if the import had."""
        gc.collect()
        found = self._census.look(_fork_once)
        self._census.forget_news()
        self.imported.unshareable += found.unshareable
        self.imported.notes += found.notes
        self.imported.renew += found.renew
        self.imported.lives_on |= found.lives_on

    def fields(self) -> dict[str, Any]:
        """Of the frames "checked" and "ready"."""
        return {"isolation": self.kind, "isolation_reasons": self.reasons(), "notes": list(self.imported.notes)}

    def reasons(self) -> list[str]:
        """Sentences; none where nothing is special."""
        if self._configured:
            return ['isolation = "spawn" is configured']
        if not self.imported.clean:
            return [f"importing the target left {thing}" for thing in self.imported.unshareable]
        return [f"building the crew leaves {thing}; each kickoff builds its crew in its own process" for thing in self._left_by_build]

    def renew(self) -> None:
        """In a fork, before anything else: gives it what it must have for itself."""
        for step in self.imported.renew:
            try:
                step()
            except OSError as error:  # it was closed since; whoever uses it will say so
                sys.stderr.write(f"crew child {os.getpid()}: a descriptor could not be renewed after the fork: {error}\n")

    def became_unsafe(self, ignore: Set[int]) -> bool:
        """In a host, before each fork: whether a thread of the import has opened since what forks must not share. `ignore`: the host's own fds."""
        if not self.imported.lives_on or not self._census.has_news(ignore):
            return False
        found = self._census.look(None, ignore)
        self._census.forget_news()
        self.imported.unshareable += [thing for thing in found.unshareable if thing not in self.imported.unshareable]
        return not self.imported.clean


def observe_build(build: Callable[[], tuple[Any, list[str] | None]]) -> dict[str, Any]:
    """Calls `build`, which gives a crew and the names of its inputs, in a fork that is thrown away, and lets go of the crew. Returns its `inputs`, `left` (what forks must not share),
    `told` (that of it which a user should know), `modules` (imported for it) and `memory` (whether its kickoffs use one). Raises what `build` raises.
    """
    census, before = Census(), set(sys.modules)
    crew, inputs = build()
    seen = {"inputs": inputs, "memory": crew is not None and storage.uses_memory(crew)}
    del crew
    gc.collect()  # a connection that only the crew held is closed now, as it will be in the host
    found = census.look(_fork_once)
    return {**seen, "left": found.unshareable, "told": found.told, "modules": _since(before)}


def import_ahead(names: list[str]) -> None:
    """Imports what every child would else import, unless that leaves here what forks must not share: a fork tries it first."""
    names = [name for name in names if name not in sys.modules]
    if not names:
        return

    def trial() -> dict[str, Any]:
        census = Census()
        _import(names)
        return {"clean": census.look(_fork_once).clean}

    report, _ = run_in_fork(trial)
    if report is not None and report["clean"]:
        _import(names)


def _import(names: list[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit):  # the kickoff that needs it will say so
            continue


def _since(before: set[str]) -> list[str]:
    """In the order of their import, which an import of each in turn can follow."""
    return [name for name, module in list(sys.modules.items()) if name not in before and getattr(module, "__spec__", None) is not None]


def _fork_once() -> None:
    run_in_fork(dict)
