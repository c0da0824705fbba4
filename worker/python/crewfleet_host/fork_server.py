"""The fork server (Chromium calls it a zygote): imports crewai once, forks a crew host for each crew, and probes that check a target."""

import contextlib
import fcntl
import gc
import os
import platform
import sys
import time
import traceback
from typing import Any, NoReturn

from . import crewai_setup, environment, features
from .frames import Channel
from .host import run_host
from .inspection import Unusable, inspect_target
from .probe import Report, ended, run_and_exit
from .process import own_session
from .settings import Settings, forget_workers_own_environment
from .signals import StopSignals
from .spawner import Spawner
from .targets.find import absolute
from .workplace import enter_workplace

# Above what programs use by number, so that a crew closing "its" fds 3 to 9 misses it.
_CHANNEL_FD_FROM = 100
_CHECK_TIMEOUT_S = 120.0
_VERBOSE = (
    "verbose=True has no effect here, so that prompts and answers stay out of logs and events; set verbose_output = true in the crew's section to print them"
)
# What crew hosts get to kill their own children, once the worker has gone.
_GRACE_S = 2.0


def run_fork_server(storage_dir: str) -> int:
    """Serves the worker on fd 0 until that ends; returns the exit code. `storage_dir` (absolute) is CrewAI's until a crew has one."""
    channel = Channel(_take_stdin())
    forget_workers_own_environment()
    environment.set_defaults(storage_dir)
    own_session()
    stop_signals = StopSignals()
    stop_signals.hold()
    spawner = Spawner(channel)
    if (too_old := features.unsupported()) is not None:
        return _refuse(channel, too_old)
    import_error = _import_crewai()
    if (too_old := features.unsupported()) is not None:  # a source tree, whose version only its import tells
        return _refuse(channel, too_old)
    stop_signals.hold()
    spawner.adopt_baseline()
    try:
        channel.send(
            {
                "type": "ready",
                "pid": os.getpid(),
                "crewai": crewai_setup.version(),
                "python": platform.python_version(),
                "import_error": import_error,
                "notes": features.notes(),
            }
        )
        spawner.serve(_ForkServer(spawner, stop_signals).handle)
    except ConnectionError:  # the worker went during the import
        pass
    finally:
        spawner.end_all(_GRACE_S)
    return 0


def _refuse(channel: Channel, error: dict[str, Any]) -> int:
    with contextlib.suppress(ConnectionError):  # the worker went
        channel.send({"type": "failed", "error": error})
    return 1


class _ForkServer:
    def __init__(self, spawner: Spawner, stop_signals: StopSignals) -> None:
        self._spawner = spawner
        self._stop_signals = stop_signals

    def handle(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "start":
            self._spawner.start(frame, 1, lambda fds, parent: self._host(frame, fds[0], parent))
        elif frame["type"] == "check":
            self._check(frame)

    def _host(self, frame: dict[str, Any], fd: int, parent: int) -> NoReturn:
        run_host(frame, fd, parent, self._stop_signals)

    def _check(self, frame: dict[str, Any]) -> None:
        """Forks a probe that imports and builds the target; its report, or how it died, is the answer."""
        try:
            report = Report()
        except OSError as error:
            self._cannot_look(frame, error)
            return

        def gone(status: int, _exited: dict[str, Any]) -> None:
            self._spawner.channel.send(_checked(frame, report.take(), status))

        def probe(parent: int) -> NoReturn:
            run_and_exit(lambda: _inspect(absolute(Settings.from_frame(frame["settings"]))), report, parent)

        try:
            managed = self._spawner.fork(probe, gone)
        except OSError as error:
            report.take()
            self._cannot_look(frame, error)
            return
        managed.deadline = time.monotonic() + float(frame.get("timeout_s") or _CHECK_TIMEOUT_S)

    def _cannot_look(self, frame: dict[str, Any], error: OSError) -> None:
        self._spawner.channel.send({**_answer(frame), **_import_failed(f"cannot fork to import it: {error}")})


def _inspect(settings: Settings) -> dict[str, Any]:
    """What "checked" says of a target, found where a host would import it."""
    try:
        workplace = enter_workplace(settings)
        found = {**inspect_target(settings), **workplace.about()}
        if found["ok"]:
            workplace.seal()  # as each host will
            found["notes"] = [*found["notes"], *workplace.notes()]
    except Unusable as unusable:
        return unusable.report()
    if found["ok"] and found["inputs"] is not None and crewai_setup.is_verbose() and not settings.verbose_output:
        found["notes"] = [*found.get("notes", ()), _VERBOSE]
    return found


def _answer(frame: dict[str, Any]) -> dict[str, Any]:
    return {"type": "checked", "id": frame.get("id"), "crew": frame.get("crew")}


def _checked(frame: dict[str, Any], report: dict[str, Any] | None, status: int) -> dict[str, Any]:
    if report is None:
        limit_s = float(frame.get("timeout_s") or _CHECK_TIMEOUT_S)
        message = f"the process that imported it ended before it could report: {ended(status)}; an import may take {limit_s:g} s"
        report = _import_failed(message)
    return {**_answer(frame), **report}


def _import_failed(message: str) -> dict[str, Any]:
    """The machine, or a server that does not answer, may be to blame: another try may go better."""
    return Unusable({"kind": "import_failed", "message": message, "retryable": False, "detail": None}, may_pass=True).report()


def _take_stdin() -> int:
    """Moves fd 0, the channel, out of the way, so that no crew ever reads from it; fd 0 becomes /dev/null."""
    fd = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, _CHANNEL_FD_FROM)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return fd


def _import_crewai() -> str | None:
    """Imports and quiets crewai, if it is there; returns the traceback when that failed."""
    gc.disable()  # an import makes no garbage to speak of, and collections cost a quarter of its time
    try:
        crewai_setup.import_crewai()
    except (Exception, SystemExit):  # a target may live without it: the worker decides
        return traceback.format_exc()
    finally:
        sys.stdout.flush()
        gc.enable()
        gc.collect()
        gc.freeze()  # a collection in a fork would else write to every shared page
    return None
