"""The end of a child, as an interpreter's own: its threads are awaited, then its exit handlers run. Exporters of traces rely on it."""

import atexit
import os
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

from . import crewai_quiet, process
from .frames import Channel, FrameError
from .threads import ThreadCensus
from .workdir import WorkDir

_MAX_NAMED = 10


def end_after_kickoff(channel: Channel, grace_s: float, threads_left: int = 0) -> NoReturn:
    """Ends this process within `grace_s` seconds, in its main thread: joins its non-daemon threads, runs its exit handlers, kills
    what is left below it, says "ended" with what had to be cut. `threads_left` is for that frame."""
    watch = _Watch(channel, grace_s, threads_left)
    watch.start()
    _quietly(threading._shutdown)  # type: ignore[attr-defined]  # what an interpreter calls; it runs the end of executors, too
    watch.stage = "exit handlers"
    _quietly(atexit._run_exitfuncs)
    watch.say_ended([])
    os._exit(0)


def end_between_kickoffs(channel: Channel, place: WorkDir, census: ThreadCensus, grace_s: float) -> None:
    """What of an end makes sense while another kickoff may follow: lets exporters send what they hold, joins the non-daemon threads
    that the kickoff started. Says "ended" when nothing is left; otherwise this child takes no other kickoff, and ends. Exit handlers
    run at that end."""
    until = time.monotonic() + grace_s
    _flush_exporters(grace_s)
    for thread in census.working():
        thread.join(max(0.0, until - time.monotonic()))
    left = census.left()
    if left or process.has_children():
        end_after_kickoff(channel, max(0.0, until - time.monotonic()), left)
    place.leave()
    process.flush_stdio()
    _send(channel, {"type": "ended", "cut": [], "reusable": True, "killed_descendants": 0, "threads_left": 0})


class _Watch(threading.Thread):
    """Ends the process when its time is over, whatever it waits for."""

    def __init__(self, channel: Channel, grace_s: float, threads_left: int) -> None:
        super().__init__(name="crewfleet-end", daemon=True)
        self.stage = "threads"
        self._channel = channel
        self._grace_s = grace_s
        self._threads_left = threads_left
        self._over = threading.Event()
        self._said = threading.Lock()

    def run(self) -> None:
        if not self._over.wait(self._grace_s):
            self.say_ended(self._unfinished())
            os._exit(0)

    def say_ended(self, cut: list[str]) -> None:
        """Once: whoever is first. Kills what is left below this process."""
        if not self._said.acquire(blocking=False):
            threading.Event().wait()  # the other one ends this process
        self._over.set()
        process.flush_stdio()
        killed = process.kill_descendants()
        _send(self._channel, {"type": "ended", "cut": cut[:_MAX_NAMED], "reusable": False, "killed_descendants": killed, "threads_left": self._threads_left})

    def _unfinished(self) -> list[str]:
        if self.stage == "threads":
            working = (thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread())
            return [_thread(thread) for thread in working] or ["threads"]
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        return [f"exit handlers, at {_place(frame)}"]


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


def _flush_exporters(grace_s: float) -> None:
    """OpenTelemetry's, by its public call: the one that has the same name and meaning in all its providers. CrewAI's listeners."""
    bus = getattr(crewai_quiet.module("crewai.events.event_bus"), "crewai_event_bus", None)
    if hasattr(bus, "flush"):
        _quietly(lambda: bus.flush(timeout=grace_s))
    for name, getter in (("opentelemetry.trace", "get_tracer_provider"), ("opentelemetry.metrics", "get_meter_provider")):
        get = getattr(sys.modules.get(name), getter, None)
        flush = getattr(get() if callable(get) else None, "force_flush", None)
        if callable(flush):
            _quietly(lambda flush=flush: flush(int(grace_s * 1000)))


def _quietly(function) -> None:  # type: ignore[no-untyped-def]
    """An interpreter that ends prints what its handlers raise, and goes on."""
    try:
        function()
    except BaseException:
        sys.excepthook(*sys.exc_info())


def _send(channel: Channel, frame: dict) -> None:
    try:
        channel.send(frame)
    except (OSError, FrameError):  # the worker has gone, and with it who would want to know
        return

