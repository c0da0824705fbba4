"""The end of a child, as an interpreter's own: its threads are awaited, then its exit handlers run. Exporters of traces rely on it."""

import atexit
import functools
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

from . import event_bus, process
from .frames import Channel, FrameError
from .threads import ThreadCensus
from .workdir import WorkDir

_MAX_NAMED = 10
_THREADS = "threads"


def end_after_kickoff(channel: Channel, grace_s: float, threads_left: int = 0) -> NoReturn:
    """Ends this process within `grace_s` seconds, in its main thread: joins its non-daemon threads, runs its exit handlers, kills
    what is left below it, says "ended" with what had to be cut. `threads_left` is for that frame."""
    watch = _Watch(channel, grace_s, threads_left)
    watch.start()
    _quietly(threading._shutdown)  # type: ignore[attr-defined]  # what an interpreter calls; it runs the end of executors, too
    watch.stage = "exit handlers"
    _quietly(atexit._run_exitfuncs)
    watch.end_process([])


def end_between_kickoffs(channel: Channel, place: WorkDir, census: ThreadCensus, grace_s: float) -> None:
    """What of an end makes sense while another kickoff may follow: lets exporters send what they hold, joins the non-daemon threads
    that the kickoff started, all within `grace_s` seconds. Says "ended" when nothing is left; otherwise this child takes no other
    kickoff, and ends. Exit handlers run at that end."""
    until = time.monotonic() + grace_s
    _flush_exporters(channel, until)
    for thread in census.working():
        thread.join(max(0.0, until - time.monotonic()))
    left = census.left()
    if left or process.has_children():
        end_after_kickoff(channel, max(0.0, until - time.monotonic()), left)
    place.leave()
    process.flush_stdio()
    _send(channel, {"type": "ended", "cut": [], "reusable": True, "killed_descendants": 0, "threads_left": 0})


class _Watch(threading.Thread):
    """Ends the process when its time is over, whatever it waits for. `stage` says in words what that is."""

    def __init__(self, channel: Channel, grace_s: float, threads_left: int) -> None:
        super().__init__(name="crewfleet-end", daemon=True)
        self.stage = _THREADS
        self._channel = channel
        self._grace_s = grace_s
        self._threads_left = threads_left
        self._over = threading.Event()
        self._decided = threading.Lock()

    def run(self) -> None:
        if not self._over.wait(self._grace_s) and self._decided.acquire(blocking=False):
            self._end_process(self._unfinished())

    def end_process(self, cut: list[str]) -> NoReturn:
        """Kills what is left below this process, says "ended"."""
        self._decide()
        self._end_process(cut)

    def call_off(self) -> None:
        """There was time enough."""
        self._decide()
        self._over.set()
        self.join()

    def _decide(self) -> None:
        if not self._decided.acquire(blocking=False):
            threading.Event().wait()  # the other thread ends this process

    def _end_process(self, cut: list[str]) -> NoReturn:
        process.flush_stdio()
        killed = process.kill_descendants()
        ended = {"type": "ended", "cut": cut[:_MAX_NAMED], "reusable": False, "killed_descendants": killed, "threads_left": self._threads_left}
        _send(self._channel, ended)
        os._exit(0)

    def _unfinished(self) -> list[str]:
        if self.stage == _THREADS:
            working = (thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread())
            return [_thread(thread) for thread in working] or [_THREADS]
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        return [f"{self.stage}, at {_place(frame)}"]


def _thread(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return f"thread {thread.name}, at {_place(frame)}"


def _place(frame: FrameType | None) -> str:
    """Where it waits, in the code of a library or the crew rather than of Python itself."""
    own = os.path.dirname(os.path.abspath(__file__))
    standard = os.path.dirname(threading.__file__)
    shown = frame
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((own, "<")) and (not file.startswith(standard) or "site-packages" in file):
            shown = frame
            break
        frame = frame.f_back
    return "an unknown place" if shown is None else f"{os.path.basename(shown.f_code.co_filename)}:{shown.f_lineno} ({shown.f_code.co_name})"


def _flush_exporters(channel: Channel, until: float) -> None:
    """All of them before `until`, or this process ends: they are told how long they may take, and not all care."""
    watch = _Watch(channel, max(0.0, until - time.monotonic()), 0)
    watch.stage = "exporters"
    watch.start()
    for stage, flush in _exporters():
        watch.stage = stage
        _quietly(functools.partial(flush, max(0.0, until - time.monotonic())))
        if time.monotonic() >= until:
            watch.end_process([stage])
    watch.call_off()


def _exporters() -> Iterator[tuple[str, Callable[[float], Any]]]:
    """CrewAI's listeners. OpenTelemetry's, by its public call: the one that has the same name and meaning in all its providers."""
    bus = event_bus.bus()
    if hasattr(bus, "flush"):
        yield "CrewAI's event listeners", lambda left_s: bus.flush(timeout=left_s)
    for name, getter in (("opentelemetry.trace", "get_tracer_provider"), ("opentelemetry.metrics", "get_meter_provider")):
        get = getattr(sys.modules.get(name), getter, None)
        flush = getattr(get() if callable(get) else None, "force_flush", None)
        if callable(flush):
            yield f"{name}'s exporters", _in_ms(flush)


def _in_ms(flush: Callable[[int], Any]) -> Callable[[float], Any]:
    return lambda left_s: flush(math.ceil(left_s * 1000))


def _quietly(function: Callable[[], Any]) -> None:
    """An interpreter that ends prints what its handlers raise, and goes on."""
    try:
        function()
    except BaseException:
        sys.excepthook(*sys.exc_info())


def _send(channel: Channel, frame: dict[str, Any]) -> None:
    try:
        channel.send(frame)
    except (OSError, FrameError):  # the worker has gone, and with it who would want to know
        return
