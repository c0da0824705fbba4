"""What the fork server and the crew hosts share: fork with passed fds, watch by pidfd, reap, kill orphans, report."""

import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from . import process
from .frames import Channel, FrameError


@dataclass
class ManagedProcess:
    """A process that the spawner watches; `watch` is its pidfd, `start_ticks` when it started, `deadline` (on the monotonic clock) the time it is killed.

    `gone` is called with its wait status and the "exited" frame once it has ended.
    """

    pid: int
    watch: int
    start_ticks: int
    gone: Callable[[int, dict[str, Any]], None]
    deadline: float | None = None


class Spawner:
    """Forks processes, and tells the worker on `channel` how each ended. One thread only.

    This process is made a subreaper: what a managed process leaves behind becomes a child of this one, and is killed.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._managed: dict[int, ManagedProcess] = {}
        process.become_subreaper()
        self._baseline = set(process.children(os.getpid())) if process.has_children() else set()

    def adopt_baseline(self) -> None:
        """Spares the children this process has now: what the crew's import started belongs to the crew."""
        mine = process.children(os.getpid()) if process.has_children() else {}
        self._baseline = set(mine) - set(self._managed)

    def descriptors(self) -> set[int]:
        """The fds that are this spawner's own: its channel, what came over it, and the watches of its processes."""
        return {self.channel.fileno(), *self.channel.waiting_fds(), *(managed.watch for managed in self._managed.values())}

    def start(self, frame: dict[str, Any], fd_count: int, run: Callable[[list[int], int], NoReturn], before: Callable[[list[int]], None] | None = None) -> None:
        """Forks for the frame "start"; the child calls `run(fds, this process's pid)`, the parent answers "started" or "start_failed".

        `before(fds)` is called before the fork, which is not made when it raises OSError.
        """
        answer = {"id": frame.get("id")}
        fds: list[int] = []
        refusal: dict[str, Any] | None = None
        try:
            fds = self.channel.take_fds(fd_count)
            if before is not None:
                before(fds)
            managed = self.fork(lambda parent: run(fds, parent), lambda _, exited: self.channel.send({**exited, **answer}))
        except (OSError, FrameError) as error:  # of this one start: the next may find descriptors, or memory, again
            refusal = {"type": "start_failed", **answer, "message": f"cannot start a {frame.get('role')}: {error}"}
        finally:
            for fd in fds:
                os.close(fd)
        self.channel.send(refusal or {"type": "started", **answer, "pid": managed.pid, "start_ticks": managed.start_ticks})

    def fork(self, run: Callable[[int], NoReturn], gone: Callable[[int, dict[str, Any]], None]) -> ManagedProcess:
        """Forks a process that calls `run(this process's pid)`. Raises OSError, and leaves none, when the system allows no more processes or
        descriptors."""
        parent = os.getpid()
        process.flush_stdio()
        pid = os.fork()
        if pid == 0:
            self._leave(run, parent)
        watch = None
        try:
            watch = os.pidfd_open(pid)
            managed = ManagedProcess(pid, watch, process.start_ticks(pid), gone)
        except OSError:  # nobody would see its end, or could tell it from another
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if watch is not None:
                os.close(watch)
            raise
        self._managed[pid] = managed
        return managed

    def _leave(self, run: Callable[[int], NoReturn], parent: int) -> NoReturn:
        """In the fork: keeps nothing of the parent's, so that the worker sees the parent's end as an end."""
        try:
            self.channel.close()
            for managed in self._managed.values():
                os.close(managed.watch)
            run(parent)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            process.flush_stdio()
            os._exit(1)

    def serve(self, handle: Callable[[dict[str, Any]], None], until: tuple[int, ...] = ()) -> None:
        """Handles frames and ends until the channel ends, a frame is broken, or an fd in `until` becomes readable."""
        try:
            while self._turn(handle, until):
                continue
        except ConnectionError:  # a frame for a worker that has gone
            return
        except FrameError as error:
            sys.stderr.write(f"crew host {os.getpid()}: {error}; the channel to the worker is closed\n")

    def _turn(self, handle: Callable[[dict[str, Any]], None], until: tuple[int, ...]) -> bool:
        ready = self._poll((self.channel.fileno(), *until), self._next_deadline_s())
        self._kill_overdue()
        for fd in ready:
            if fd in until:
                return False
            if fd == self.channel.fileno():
                frames = self.channel.read()
                if frames is None:
                    return False
                for frame in frames:
                    handle(frame)
        return True

    def _poll(self, fds: tuple[int, ...], timeout_s: float | None) -> list[int]:
        """Waits for a readable fd of `fds` (returned) or the end of processes (reaped)."""
        poll = select.poll()
        by_watch = {managed.watch: managed for managed in self._managed.values()}
        for fd in (*fds, *by_watch):
            poll.register(fd, select.POLLIN)
        readable = []
        for fd, _ in poll.poll(None if timeout_s is None else max(0.0, timeout_s * 1000)):
            if fd in by_watch:
                self._reap(by_watch[fd])
            else:
                readable.append(fd)
        return readable

    def _next_deadline_s(self) -> float | None:
        deadlines = [managed.deadline for managed in self._managed.values() if managed.deadline is not None]
        return min(deadlines) - time.monotonic() if deadlines else None

    def _kill_overdue(self) -> None:
        for managed in self._managed.values():
            if managed.deadline is not None and managed.deadline <= time.monotonic():
                managed.deadline = None
                self.kill(managed)

    def _reap(self, managed: ManagedProcess) -> None:
        _, status, usage = os.wait4(managed.pid, 0)
        del self._managed[managed.pid]
        os.close(managed.watch)
        managed.gone(status, exited(managed.pid, status, usage, self._kill_orphans()))

    def _kill_orphans(self) -> int:
        """Kills the children of this process that nobody here started; returns how many were alive."""
        if not process.has_children():
            return 0
        return process.kill_all(self._orphans)

    def _orphans(self) -> dict[int, str]:
        mine = process.children(os.getpid())
        return {pid: state for pid, state in mine.items() if pid not in self._managed and pid not in self._baseline}

    def kill(self, managed: ManagedProcess) -> None:
        """SIGKILL for a process and its process group; its end is reported as any other."""
        for kill in (os.killpg, os.kill):
            try:
                kill(managed.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):  # not yet in its own group, or gone
                continue

    def end_all(self, grace_s: float) -> None:
        """Waits `grace_s` seconds for the processes to end by themselves, then kills them and everything below this process."""
        for managed in self._managed.values():
            managed.gone = lambda _status, _exited: None  # nobody is left to be told
        until = time.monotonic() + grace_s
        while self._managed and (left_s := until - time.monotonic()) > 0:
            self._poll((), left_s)
        for managed in self._managed.values():
            self.kill(managed)
        process.kill_descendants()


def exited(pid: int, status: int, usage: resource.struct_rusage, orphans_killed: int) -> dict[str, Any]:
    """The frame "exited"; the peak memory is in bytes, the CPU time, with that of reaped descendants, in seconds."""
    return {
        "type": "exited",
        "pid": pid,
        "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        "max_rss_bytes": usage.ru_maxrss * 1024,
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 6),
        "orphans_killed": orphans_killed,
    }
