"""Lock backends for CrewAI (`crewai_core.lock_store.set_lock_backend`): called as backend(name, timeout=seconds)."""

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

_DEFAULT_TIMEOUT_S = 120.0
_POLL_S = 0.005


class ThreadLocks:
    """Locks of this process alone: enough where each kickoff has a storage of its own."""

    def __init__(self) -> None:
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    @contextmanager
    def __call__(self, name: str, *, timeout: float = _DEFAULT_TIMEOUT_S) -> Iterator[None]:
        """Holds the lock `name`. Raises TimeoutError after `timeout` seconds."""
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
        if not lock.acquire(timeout=timeout):
            raise TimeoutError(f'lock "{name}" was not free within {timeout:g} s')
        try:
            yield
        finally:
            lock.release()


class FileLocks:
    """Locks between all processes that share one storage directory; the kernel frees those of a process that dies."""

    def __init__(self, storage_dir: str) -> None:
        """`storage_dir` is absolute; the lock files are made in its directory .locks."""
        self._dir = os.path.join(storage_dir, ".locks")
        self._threads = ThreadLocks()

    @contextmanager
    def __call__(self, name: str, *, timeout: float = _DEFAULT_TIMEOUT_S) -> Iterator[None]:
        """Holds the lock `name`. Raises TimeoutError after `timeout` seconds, OSError where no lock file can be made."""
        until = time.monotonic() + timeout
        with self._threads(name, timeout=timeout):
            os.makedirs(self._dir, exist_ok=True)
            path = os.path.join(self._dir, hashlib.sha256(name.encode()).hexdigest()[:32])
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                while not _try_lock(fd):
                    if time.monotonic() >= until:
                        raise TimeoutError(f'lock "{name}" ({path}) was not free within {timeout:g} s')
                    time.sleep(_POLL_S)
                yield
            finally:
                os.close(fd)


class KickoffLocks:
    """For crews whose kickoffs have a storage each: of this process alone for what is in it, between processes for all else.

    CrewAI's names are a kind, a colon and a path: "sqlite:/…/flow_states.db", "lancedb:/…/memory". One that is no path, and a database
    that a crew keeps where it likes, may be another kickoff's too.
    """

    def __init__(self, shared_dir: str | None) -> None:
        """`shared_dir` is where all processes of the crew find the lock files; None: there is no such place."""
        self._own = ThreadLocks()
        self._shared = FileLocks(shared_dir) if shared_dir else self._own

    def __call__(self, name: str, *, timeout: float = _DEFAULT_TIMEOUT_S) -> AbstractContextManager[None]:
        """Holds the lock `name`, as the others do."""
        storage, path = os.environ.get("CREWAI_STORAGE_DIR"), name.partition(":")[2]
        own = bool(storage) and os.path.isabs(path) and f"{path}/".startswith(f"{storage}/")
        return (self._own if own else self._shared)(name, timeout=timeout)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
