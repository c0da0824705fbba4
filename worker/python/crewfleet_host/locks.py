"""Lock backends for CrewAI (`crewai_core.lock_store.set_lock_backend`): called as backend(name, timeout=seconds)."""

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

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


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
