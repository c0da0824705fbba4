"""Which threads live in this process: a fork keeps only the one that forks, so others make it unsafe."""

import concurrent.futures.thread
import os
import threading
import time


def extra_threads() -> list[str]:
    """The threads besides the main one, named: Python's by their names, others by what /proc calls them.

    Call it after a throw-away fork: libraries that take care of forks (OpenBLAS) stop their threads at it, and
    what is left is in danger.
    """
    # By identity: a fork keeps the main thread's old native_id (Python 3.11).
    pythons = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    found = [thread.name for thread in pythons]
    known = {os.getpid(), *(thread.native_id for thread in pythons)}
    for task in sorted(int(name) for name in os.listdir("/proc/self/task")):
        if task not in known:
            found.append(f"{_comm(task)} (native thread {task})")
    return found


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
        waiting = concurrent.futures.thread._threads_queues  # type: ignore[attr-defined]
        return [thread for thread in threading.enumerate() if thread not in self._before and not thread.daemon and thread not in waiting]

    def left(self) -> int:
        """How many threads were started since and live on; those about to end get a tenth of a second for it."""
        until = time.monotonic() + self._PATIENCE_S
        left = [thread for thread in threading.enumerate() if thread not in self._before and not thread.name.startswith(self._RESIDENT)]
        for thread in left:
            thread.join(max(0.0, until - time.monotonic()))
        return sum(thread.is_alive() for thread in left)
