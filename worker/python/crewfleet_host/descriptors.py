"""What the open file descriptors of this process are, as far as Linux tells: sockets, pipes, files, anonymous inodes."""

import fcntl
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass

_HARMLESS_DEVICES = frozenset(os.makedev(1, minor) for minor in (3, 5, 7, 8, 9))  # null, zero, full, random, urandom
_TERMINAL_MAJORS = (4, 5, *range(136, 144))
# The first bytes of databases that are one file: a connection to one keeps it open.
_DATABASE_MAGIC = ((0, b"SQLite format 3\0"), (8, b"DUCK"), (16, b"\xde\xc0\xef\xbe"))  # the last: LMDB
_DATABASE_SUFFIXES = (".db", ".db3", ".sqlite", ".sqlite3", "-wal", "-shm", "-journal", ".mdb", ".duckdb")
_ANONYMOUS = ("eventpoll", "eventfd", "timerfd", "signalfd", "inotify", "fanotify", "io_uring", "pidfd", "userfaultfd", "perf_event")


@dataclass(frozen=True)
class Descriptor:
    """An open file description. `kind` is a key of `sharing.DESCRIPTORS`, `what` names it for people, without its fd.

    `identity` tells it from another that has the same number later.
    """

    fd: int
    kind: str
    what: str
    identity: str


def identities() -> dict[int, str]:
    """fd → identity of all that is open now. Costs some 10 µs a descriptor."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{name}")
            # All eventpolls share one inode, so only the name tells them apart: by their fd.
            found[int(name)] = link if ":[" in link and not link.startswith("anon_inode:") else f"{name} {link}"
        except FileNotFoundError:  # the one that listed them
            continue
    return found


def describe(fd: int, identity: str) -> Descriptor | None:
    """What `fd` is; None when it has been closed."""
    try:
        mode = os.fstat(fd)
    except OSError:
        return None
    link = identity.split(" ", 1)[-1]
    if stat.S_ISSOCK(mode.st_mode):
        kind, what = _socket(fd)
    elif stat.S_ISFIFO(mode.st_mode):
        kind, what = "pipe", f"a pipe ({link})"
    elif stat.S_ISDIR(mode.st_mode):
        kind, what = "directory", f"the directory {link}"
    elif stat.S_ISCHR(mode.st_mode) or stat.S_ISBLK(mode.st_mode):
        kind, what = _device(mode.st_rdev), f"the device {link}"
    elif link.startswith("anon_inode:"):
        kind, what = _anonymous(link)
    elif stat.S_ISREG(mode.st_mode):
        kind, what = _file(fd, mode, link)
    else:
        kind, what = "unknown", f"something of no known kind ({link})"
    return Descriptor(fd, kind, what, identity)


def _anonymous(link: str) -> tuple[str, str]:
    name = link.removeprefix("anon_inode:").strip("[]")
    return (name, f"a descriptor of {name}") if name in _ANONYMOUS else ("unknown", f"something of no known kind ({link})")


def _device(number: int) -> str:
    if number in _HARMLESS_DEVICES:
        return "harmless device"
    return "terminal" if os.major(number) in _TERMINAL_MAJORS else "device"


def _socket(fd: int) -> tuple[str, str]:
    family, kind = (_option(fd, option) for option in (socket.SO_DOMAIN, socket.SO_TYPE))
    name = {socket.AF_INET: "TCP", socket.AF_INET6: "TCP", socket.AF_UNIX: "Unix"}.get(family)  # type: ignore[call-overload]
    with socket.socket(fileno=os.dup(fd)) as found:
        own, peer = _address(found.getsockname), _address(found.getpeername)
    if name is None:
        return "other socket", f"a socket of address family {family}"
    if kind == socket.SOCK_DGRAM:
        place = peer or own
        what = f"a {'Unix' if name == 'Unix' else 'UDP'} datagram socket" + (f" ({place})" if place else "")
        return ("datagram socket" if own else "datagram socket without an address"), what
    if _option(fd, socket.SO_ACCEPTCONN):
        return "listening socket", f"a {name} socket that listens on {own or 'no address'}"
    if peer is None:
        return "unconnected socket", f"a {name} socket that is not connected"
    return "connection", f"a {name} connection" + (f" to {peer}" if peer else " or socket pair")


def _option(fd: int, option: int) -> int | None:
    with socket.socket(fileno=os.dup(fd)) as found:
        try:
            return found.getsockopt(socket.SOL_SOCKET, option)
        except OSError:
            return None


def _address(get: Callable[[], object]) -> str | None:
    """An address in words: "" for one without a name, None for none."""
    try:
        address = get()
    except OSError:
        return None
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}" if port else ""
    return address.decode(errors="replace").replace("\0", "@") if isinstance(address, bytes) else str(address).replace("\0", "@")


def _file(fd: int, mode: os.stat_result, link: str) -> tuple[str, str]:
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    name = link.removesuffix(" (deleted)")
    if flags & os.O_PATH:
        return "directory", f"a reference to {link}"
    if link.startswith("/memfd:"):
        return "memory file", f"the memory file {link}"
    if _is_database(fd, mode, name):
        return "database", f"the database {link}"
    if _is_locked(fd):
        return "locked file", f"the lock on {link}"
    access = flags & os.O_ACCMODE
    if access == os.O_WRONLY or (access == os.O_RDWR and flags & os.O_APPEND):
        return "file being written", f"the file {link}"
    if _is_mapped(mode, link):
        return "mapped file", f"the mapped file {link}"
    return ("file being read", f"the file {link}") if access == os.O_RDONLY else ("file read and written", f"the file {link}")


def _is_database(fd: int, mode: os.stat_result, name: str) -> bool:
    if name.endswith(_DATABASE_SUFFIXES):
        return True
    if mode.st_size == 0:
        return False
    try:
        # By this descriptor: SQLite's locks are the process's, and closing another one of the file would drop them.
        head = os.pread(fd, 32, 0)
    except OSError:  # opened for writing only
        return False
    return any(head[at : at + len(magic)] == magic for at, magic in _DATABASE_MAGIC)


def _is_locked(fd: int) -> bool:
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii", errors="replace") as file:
            return any(line.startswith("lock:") for line in file)
    except OSError:
        return False


def _is_mapped(mode: os.stat_result, name: str) -> bool:
    # By inode and path: the device differs between stat and maps on overlay file systems.
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        return any(fields[4:] == [str(mode.st_ino), name] for fields in (line.rstrip("\n").split(None, 5) for line in file))
