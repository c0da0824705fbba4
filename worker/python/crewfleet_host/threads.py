"""Which threads live in this process, and what they are: a fork keeps only the thread that forks."""

import concurrent.futures.thread
import os
import sys
import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Found:
    """A thread besides the main one. `kind` is a key of `sharing.THREADS`; `native`: Python did not start it."""

    name: str
    kind: str
    native: bool


def extra_threads() -> list[Found]:
    """The threads besides the main one: Python's by their names, others by what /proc calls them."""
    # By identity: a fork keeps the main thread's old native_id (Python 3.11).
    pythons = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    found = [Found(thread.name, _kind(thread), native=False) for thread in pythons]
    known = {os.getpid(), *(thread.native_id for thread in pythons)}
    for task in sorted(int(name) for name in os.listdir("/proc/self/task")):
        if task not in known:
            comm = _comm(task)
            found.append(Found(f"{comm} (native thread {task})", "jemalloc" if comm == "jemalloc_bg_thd" else "unknown", native=True))
    return found


def _kind(thread: threading.Thread) -> str:
    """By identity or by the code that it runs, never by its name alone, which anybody may give."""
    bus = getattr(sys.modules.get("crewai.events.event_bus"), "crewai_event_bus", None)
    bus_threads = (getattr(bus, "_loop_thread", None), *getattr(getattr(bus, "_sync_executor", None), "_threads", ()))
    loop = getattr(sys.modules.get("lancedb.background_loop"), "LOOP", None)
    if loop is not None and getattr(loop, "thread", None) is thread:
        return "lancedb"
    if thread in bus_threads:
        return "crewai events"
    runs = getattr(thread, "_target", None)  # until it ends
    owner = getattr(runs, "__self__", None)
    # Its metric reader's thread exports once a minute whatever happens, over connections that forks would share.
    if type(owner).__module__ == "opentelemetry.sdk._shared_internal" and hasattr(owner, "_at_fork_reinit"):
        return "opentelemetry"
    return "unknown"


def _comm(task: int) -> str:
    try:
        with open(f"/proc/self/task/{task}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


class ThreadCensus:
    """Counts the Python threads that a kickoff leaves behind in a child."""

    # CrewAI's event bus keeps its own threads for the life of the process; they run no code of a crew by themselves.
    _RESIDENT = ("CrewAI",)
    _PATIENCE_S = 0.1

    def __init__(self) -> None:
        """Takes the threads alive now as those that belong here."""
        self._before = set(threading.enumerate())

    def working(self) -> list[threading.Thread]:
        """The threads started since that end by themselves, and that an interpreter awaits when it ends: no daemons, and none of
        an executor's, which wait for work until then."""
        waiting = concurrent.futures.thread._threads_queues
        return [thread for thread in threading.enumerate() if thread not in self._before and not thread.daemon and thread not in waiting]

    def left(self) -> int:
        """How many threads were started since and live on; those about to end get a tenth of a second for it."""
        until = time.monotonic() + self._PATIENCE_S
        left = [thread for thread in threading.enumerate() if thread not in self._before and not thread.name.startswith(self._RESIDENT)]
        for thread in left:
            thread.join(max(0.0, until - time.monotonic()))
        return sum(thread.is_alive() for thread in left)
