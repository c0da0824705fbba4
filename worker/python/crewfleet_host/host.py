"""A crew host: imports one crew's target, then forks its children. It builds a crew, but never kicks one off:
after a kickoff in the parent, all forks hang, since CrewAI's threads do not come along."""

import gc
import json
import os
import sys
from typing import Any, NoReturn

from . import environment, process, storage
from .child import become_child, serve_kickoffs
from .errors import place_unavailable
from .frames import Channel
from .inspection import Unusable, build_once, import_target, rehearse
from .isolation import Isolation, import_ahead
from .settings import Settings
from .signals import StopSignals
from .spawner import Spawner
from .target import Target
from .targets.find import absolute
from .workplace import Workplace, enter_workplace

MAIN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "main.py")


def run_host(frame: dict[str, Any], channel_fd: int, parent: int, stop_signals: StopSignals) -> NoReturn:
    """In a fork of the fork server: serves the worker on `channel_fd` until that, or the fork server, ends."""
    process.die_with_parent(parent)  # until somebody watches
    process.own_session()
    channel = Channel(channel_fd)
    spawner = Spawner(channel)
    settings = absolute(Settings.from_frame(frame["settings"]))
    code = 1
    try:
        workplace = enter_workplace(settings)
        target, isolation, ready = _prepare(settings)
        workplace.seal()
        ready.update(workplace.about())
        stop_signals.hold()
        spawner.adopt_baseline()
        fork_server = _watch(parent)
        channel.send(ready)
        host = _Host(spawner, settings, target, workplace, isolation, stop_signals)
        spawner.serve(host.handle, until=(fork_server,))
        code = 0
    except Unusable as unusable:
        _tell(channel, {"type": "failed", "error": unusable.error})
    except ConnectionError:  # the worker went during the import
        pass
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        spawner.end_all(0)
        process.flush_stdio()
        os._exit(code)


class _Host:
    def __init__(
        self, spawner: Spawner, settings: Settings, target: Target | None, workplace: Workplace, isolation: Isolation, stop_signals: StopSignals
    ) -> None:
        self._spawner = spawner
        self._settings = settings
        self._target = target
        self._workplace = workplace
        self._isolation = isolation
        self._stop_signals = stop_signals

    def handle(self, frame: dict[str, Any]) -> None:
        if frame["type"] != "start":
            return
        self._spawner.start(frame, 3, self._begin, self._look_again)

    def _look_again(self, fds: list[int]) -> None:
        if self._isolation.kind == "fork" and self._isolation.became_unsafe(self._spawner.descriptors() | set(fds)):
            self._spawner.channel.send({"type": "isolation", **self._isolation.fields()})

    def _begin(self, fds: list[int], parent: int) -> NoReturn:
        (self._exec if self._isolation.kind == "spawn" else self._serve)(fds, parent)

    def _serve(self, fds: list[int], parent: int) -> NoReturn:
        channel_fd, stdout_fd, stderr_fd = fds
        become_child(stdout_fd, stderr_fd, parent)
        self._stop_signals.release()
        self._isolation.renew()
        channel = Channel(channel_fd)
        try:
            self._workplace.leave_parents()
        except OSError as error:
            _tell(channel, {"type": "failed", "error": place_unavailable(f"a fork gets no mounts of its own: {error}")})
            os._exit(1)
        assert self._target is not None  # only a host that has imported it forks
        serve_kickoffs(channel, self._target, self._settings, self._workplace)

    def _exec(self, fds: list[int], parent: int) -> NoReturn:
        channel_fd, stdout_fd, stderr_fd = fds
        become_child(stdout_fd, stderr_fd, parent)
        os.set_inheritable(channel_fd, True)
        arguments = {
            "settings": vars(self._workplace.settings_for_a_child(self._settings)),
            "channel_fd": channel_fd,
            "parent": parent,
            "defaults": environment.for_a_fresh_interpreter(),
        }
        os.execv(sys.executable, [sys.executable, MAIN, "child", json.dumps(arguments)])


def _prepare(settings: Settings) -> tuple[Target | None, Isolation, dict[str, Any]]:
    """Imports and builds, freezes the heap; returns the target, how its children start, and the frame "ready". Raises Unusable."""
    isolation = Isolation(settings)
    inputs, target = None, None
    if isolation.kind == "fork":  # or each child imports for itself, and what an import opens here would be in its way
        gc.disable()
        target = import_target(settings)
        isolation.look_at_import()
        if isolation.kind == "fork":
            inputs = _build(target, isolation)
        gc.enable()
        gc.collect()
        gc.freeze()  # a collection in a child would else write to every shared page
    return target, isolation, {"type": "ready", "pid": os.getpid(), "inputs": inputs, **isolation.fields()}


def _build(target: Target, isolation: Isolation) -> list[str] | None:
    """Builds a crew where that is safe, which warms what every child would else do first: TLS context, lazy imports, parsed files."""
    memory = storage.memories_made() > 0
    seen = rehearse(target)
    ahead = [*seen["modules"], *(storage.MEMORY_MODULES if memory or seen["memory"] else ())]
    import_ahead(ahead)
    if isolation.may_build_here(seen):
        build_once(target)
        isolation.look_at_build_here()
    return seen["inputs"]


def _watch(fork_server: int) -> int:
    """A pidfd of the fork server: from now on this process sees its end and cleans up, instead of being killed by the kernel."""
    watch = os.pidfd_open(fork_server)
    process.survive_parent()
    return watch


def _tell(channel: Channel, frame: dict[str, Any]) -> None:
    try:
        channel.send(frame)
    except ConnectionError:
        return
