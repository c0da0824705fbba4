"""A mount namespace of a process's own, and an overlay in it: Linux 5.11 or later, without any privilege where the kernel allows it."""

import ctypes
import os
from collections.abc import Sequence

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 1 << 18
_MNT_DETACH = 2
_CAPABILITY_VERSION = 0x20080522  # version 3: two words of 32 capabilities each

_libc = ctypes.CDLL(None, use_errno=True)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityWords(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


class MountNamespace:
    """Entered once by a process that has one thread; threads and programs that it starts later are in it too.

    Root enters a mount namespace alone. Everybody else enters a user namespace with it, in which they are who they were.
    """

    def __init__(self) -> None:
        """Enters. Raises OSError where kernel or sandbox refuse."""
        self._user = not (os.geteuid() == 0 and _unshare(_CLONE_NEWNS))
        if self._user:
            _enter_user_namespace()
        try:
            _mount("none", "/", None, _MS_REC | _MS_PRIVATE, None)
        finally:
            self.lower_privileges()

    @property
    def is_users(self) -> bool:
        """Whether it is in a user namespace, where nobody may write what others own."""
        return self._user

    def try_attributes(self, upper: str) -> None:
        """Raises OSError where an upper layer cannot remember that a folder was removed and made again: the mount itself succeeds."""
        self._raise_privileges()
        try:
            os.setxattr(upper, "user.overlay.trial" if self._user else "trusted.overlay.trial", b"y")
        finally:
            self.lower_privileges()

    def overlay(self, place: str, lower: Sequence[str], upper: str, work: str) -> None:
        """Mounts an overlay on the folder `place`: reads from `upper`, then from `lower` in this order; writes go to `upper`.

        `work` is an empty folder beside `upper`. Nothing is synced: the folders are thrown away, or read, by the same boot.
        """
        fds = [os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for folder in (*lower, upper, work)]
        try:
            # By descriptor: a path may hold what separates options.
            *below, up, aside = (f"/proc/self/fd/{fd}" for fd in fds)
            options = f"volatile,lowerdir={':'.join(below)},upperdir={up},workdir={aside}"
            self._mount("overlay", place, "overlay", 0, options + (",userxattr" if self._user else ""))
        finally:
            for fd in fds:
                os.close(fd)

    def bind(self, folder: str, place: str) -> None:
        """Shows `folder`, with what is mounted below it, at `place` too."""
        self._mount(folder, place, None, _MS_BIND | _MS_REC, None)

    def unmount(self, place: str) -> None:
        """Takes the topmost mount on `place` away; what is open in it stays usable."""
        self._raise_privileges()
        try:
            _check(_libc.umount2(os.fsencode(place), _MNT_DETACH), f"umount {place}")
        finally:
            self.lower_privileges()

    def lower_privileges(self) -> None:
        """Crews run with the rights that they would have at home; a user namespace grants more to who makes it."""
        if self._user:
            _set_effective(False)

    def _raise_privileges(self) -> None:
        if self._user:
            _set_effective(True)

    def _mount(self, source: str, place: str, kind: str | None, flags: int, options: str | None) -> None:
        self._raise_privileges()
        try:
            _mount(source, place, kind, flags, options)
        finally:
            self.lower_privileges()


def file_system(folder: str) -> str:
    """The type of the file system on which `folder` (absolute, perhaps still to be made) lies, as "ext4"."""
    inside = ((place, kind) for place, kind in _mounts() if f"{folder}/".startswith(place.rstrip("/") + "/"))
    return max(enumerate(inside), key=lambda found: (len(found[1][0]), found[0]))[1][1]


def mounted_below(folder: str) -> list[str]:
    """The places below `folder` where something is mounted, outermost first and without those below another."""
    prefix = folder.rstrip("/") + "/"
    found: list[str] = []
    for place in sorted({place for place, _ in _mounts()}):
        if place.startswith(prefix) and not any(place.startswith(outer + "/") for outer in found):
            found.append(place)
    return found


def _mounts() -> list[tuple[str, str]]:
    """Where something is mounted, and the type of its file system; what is mounted later on the same place comes later."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split(" ") for line in file]
    # A varying number of fields stands before the dash.
    return [(_unescape(fields[4]), fields[fields.index("-", 6) + 1]) for fields in lines]


def _unescape(text: str) -> str:
    for escaped, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escaped, plain)
    return text


def _enter_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _set_effective(wanted: bool) -> None:
    header, words = _CapabilityHeader(_CAPABILITY_VERSION, 0), (_CapabilityWords * 2)()
    _check(_libc.capget(ctypes.byref(header), words), "capget")
    for word in words:
        word.effective = word.permitted if wanted else 0
    _check(_libc.capset(ctypes.byref(header), words), "capset")


def _unshare(flags: int) -> bool:
    return _libc.unshare(flags) == 0


def _mount(source: str, place: str, kind: str | None, flags: int, options: str | None) -> None:
    arguments = (os.fsencode(source), os.fsencode(place), kind and kind.encode(), ctypes.c_ulong(flags), options and os.fsencode(options))
    _check(_libc.mount(*arguments), f"mount {kind or 'bind'} on {place}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
