"""What Linux can do about processes: prctl, sessions, descendants, killing all of them."""

import ctypes
import errno
import os
import resource
import select
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# A process in uninterruptible sleep outlives SIGKILL; nobody may wait for it for ever.
KILL_WAIT_MS = 2000

# Of descriptors, here or in the whole system, or of memory: they tell nothing of what was looked for.
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")


def become_subreaper() -> None:
    """Orphaned descendants, daemonised ones too, become children of this process."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process when its parent `parent` ends; ends it now if that has happened already.

    Only for a parent with one thread: Linux sends the signal when the *thread* that forked ends.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def survive_parent() -> None:
    """Undoes `die_with_parent`."""
    _prctl(PR_SET_PDEATHSIG, 0)


def own_session() -> None:
    """A session and a process group of its own, so that killpg(pid) reaches the whole group."""
    try:
        os.setsid()
    except PermissionError:  # it leads a group already
        return


def prefer_for_oom_kill() -> None:
    """The kernel, out of memory, takes this process before the worker or its host."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("900")
    except OSError:  # a sandbox may forbid it; it is only a preference
        return


def limit_data(limit_bytes: int | None) -> None:
    """Sets the soft limit of private writable memory (RLIMIT_DATA), so that Python raises MemoryError; None: no limit.

    The hard limit stays, so that the limit can be lifted to report the error.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = hard if limit_bytes is None else limit_bytes
    if resource.RLIM_INFINITY not in (hard, soft):
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def flush_stdio() -> None:
    """Flushes Python's stdout and stderr and those of C libraries; a broken stream is ignored."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue
    _libc.fflush(None)


def has_children() -> bool:
    """Whether this process has any child, zombies included. In a subreaper: whether anything descends from it."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def parents() -> dict[int, tuple[int, str]]:
    """pid → (parent's pid, state letter) of every process, from /proc/<pid>/stat.

    /proc/<pid>/task/*/children would be quicker, but is missing from kernels built without it.
    """
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            state, parent = _stat(int(name)).split(None, 2)[:2]
        except OSError as error:
            if error.errno in _SHORTAGES:
                raise
            continue  # it ended meanwhile
        found[int(name)] = (int(parent), state.decode("ascii"))
    return found


def start_ticks(pid: int) -> int:
    """When `pid` started, as the kernel counts: with its number this names a process for ever."""
    return int(_stat(pid).split()[19])


def _stat(pid: int) -> bytes:
    """The fields of /proc/<pid>/stat from the third on, the state: the second, the command's name in parentheses, may hold anything,
    parentheses and blanks too."""
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        stat = file.read(4096)
    return stat[stat.rfind(b")") + 2 :]


def descendants(root: int) -> dict[int, str]:
    """pid → state letter of all processes below `root`."""
    below: dict[int, list[int]] = {}
    table = parents()
    for pid, (parent, _) in table.items():
        below.setdefault(parent, []).append(pid)
    found: dict[int, str] = {}
    queue = [root]
    while queue:
        for pid in below.get(queue.pop(), ()):
            if pid not in found:
                found[pid] = table[pid][1]
                queue.append(pid)
    return found


def children(root: int) -> dict[int, str]:
    """pid → state letter of the direct children of `root`."""
    return {pid: state for pid, (parent, state) in parents().items() if parent == root}


def kill_all(find: Callable[[], dict[int, str]]) -> int:
    """SIGKILLs and reaps what `find()` returns (pid → state), until it finds nothing; returns how many were alive.

    What survives SIGKILL for two seconds is left to the kernel. `find` may name processes that are no
    children of this one: they become so, or go, when those above them have gone. Where `find` cannot look, for want of
    descriptors say, what is left is left to the next look, or to the subreaper above.
    """
    killed: set[int] = set()
    given_up: set[int] = set()
    while True:
        try:
            found = {pid: state for pid, state in find().items() if pid not in given_up}
        except OSError as error:
            sys.stderr.write(f"process {os.getpid()} cannot look for what is left running: {error}\n")
            return len(killed)
        if not found:
            return len(killed)
        for pid, state in found.items():
            if state != "Z":
                killed.add(pid)
                _kill(pid)
        for pid in found:
            if not _gone(pid):
                given_up.add(pid)


def kill_descendants() -> int:
    """Kills everything below this process; returns how many were alive. This process must be a subreaper."""
    if not has_children():
        return 0
    me = os.getpid()
    return kill_all(lambda: descendants(me))


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # gone, or a setuid program that isn't ours to kill
        return


def _gone(pid: int) -> bool:
    """Waits for the end of `pid`, and reaps it if it is a child of this process."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except OSError:  # no descriptor is left: it is reaped another time
        return False
    try:
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        ended = bool(poll.poll(KILL_WAIT_MS))
    finally:
        os.close(watch)
    if ended:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:  # another's child: its parent reaps it, or it comes to us
            return True
    return ended
