"""What each fork gets for itself, under the same file descriptors: event loops that wait for nothing, and positions in files."""

import asyncio
import fcntl
import functools
import gc
import os
import select
import selectors
import socket
import sys
from collections.abc import Callable


def of_event_loops() -> tuple[set[int], list[Callable[[], None]]]:
    """The descriptors of asyncio's event loops that do not run and wait for nothing, and what renews them in a fork.

    Those of LanceDB's and of CrewAI's loop are among the descriptors, for the table judges them by their threads.
    """
    descriptors: set[int] = set()
    steps: list[Callable[[], None]] = []
    own = (
        getattr(getattr(sys.modules.get("lancedb.background_loop"), "LOOP", None), "loop", None),
        getattr(getattr(sys.modules.get("crewai.events.event_bus"), "crewai_event_bus", None), "_loop", None),
    )
    for loop in _loops():
        parts = _parts(loop)
        if parts is None:
            continue
        if loop in own:
            descriptors.update(parts)
        elif not loop.is_running():
            descriptors.update(parts)
            steps.append(functools.partial(_renew, *parts))
    return descriptors, steps


def _loops() -> list[asyncio.AbstractEventLoop]:
    if "asyncio" not in sys.modules:
        return []
    return [found for found in gc.get_objects() if isinstance(found, asyncio.AbstractEventLoop)]


def _parts(loop: asyncio.AbstractEventLoop) -> tuple[int, int, int] | None:
    """epoll and the two ends of the pair that wakes the loop; None for a loop that is closed, of another kind, or has readers."""
    selector, read, write = (getattr(loop, name, None) for name in ("_selector", "_ssock", "_csock"))
    if loop.is_closed() or not isinstance(selector, selectors.EpollSelector) or read is None or write is None:
        return None
    waits_for = [key.fd for key in selector.get_map().values()]
    return (selector.fileno(), read.fileno(), write.fileno()) if waits_for == [read.fileno()] else None


def _renew(epoll: int, read: int, write: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, select.epoll() as fresh:
        ours.setblocking(False)
        theirs.setblocking(False)
        for new, old in ((fresh.fileno(), epoll), (ours.fileno(), read), (theirs.fileno(), write)):
            os.dup2(new, old, inheritable=False)
        # Through the old number, under which the loop knows it.
        with select.epoll.fromfd(os.dup(epoll)) as again:
            again.register(read, select.EPOLLIN)


def reopen(fd: int) -> None:
    """Gives this process a file description of its own for `fd`, a regular file, at the same position."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    keep = fcntl.fcntl(fd, fcntl.F_GETFD)
    position = os.lseek(fd, 0, os.SEEK_CUR)
    # By way of /proc, so that a file that was deleted or moved is the same one.
    fresh = os.open(f"/proc/self/fd/{fd}", (flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC)) | os.O_CLOEXEC)
    os.lseek(fresh, position, os.SEEK_SET)
    os.dup2(fresh, fd)
    os.close(fresh)
    fcntl.fcntl(fd, fcntl.F_SETFD, keep)
