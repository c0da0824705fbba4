"""A folder that shows a project without an overlay: small files as copies, the rest as links. For kernels and sandboxes that allow no mounts."""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

# What a project of usual size has is copied in a few milliseconds; what is beyond is linked, and told of.
_MAX_FILE_BYTES = 1 << 20
_MAX_BYTES = 16 << 20
_MAX_ENTRIES = 2_000
# The folder itself cannot be a link, so there are at most so many entries at its top; and in the folders there, which are none while
# all of that fits.
MAX_TOP_ENTRIES = 10_000
# How much is looked at of what is never copied: a few tens of milliseconds.
_MAX_LOOKED_AT = 20_000
_MAX_DEPTH = 32
# Folders in which no crew writes, and which are large.
_LINKED_WHOLE = frozenset({".git", ".hg", ".svn", ".venv", "venv", "node_modules", "site-packages", ".crewfleet"})
_NOT_SHOWN = frozenset({"__pycache__"})
_FICLONE = 0x40049409
# As which a user namespace shows users and groups that it does not know, so that nobody cannot tell them from its own.
_UNKNOWN_ID = 65534

# What tells that a file is still as it was: time of change, bytes, inode.
_State = tuple[int, int, int]


@dataclass
class Shown:
    """What was put into a folder: `copied` by relative path; `linked` by relative path with the state of what is behind (None: nobody
    cares); `whole`, those of them that are folders too large to show; `since_ns`, when it was done."""

    copied: dict[str, _State] = field(default_factory=dict)
    linked: dict[str, _State | None] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)
    folders: int = 0
    bytes: int = 0
    since_ns: int = 0
    may_clone: bool = True

    def entries(self) -> int:
        """How many there are."""
        return len(self.copied) + len(self.linked) + self.folders


@dataclass
class _Budget:
    """How many entries may still be looked at."""

    left: int


def show(project: str, folder: str, hidden: str | None = None) -> Shown:
    """Makes `folder`, an existing empty one, look like `project`. `hidden`: a folder left out. A folder of which not all fits into the
    limits is a link as a whole. Raises OSError where the disk is full, and with EFBIG where `project` has too many entries at its top.
    """
    shown = Shown()
    queue = deque([""])
    while queue:  # breadth first: what is near the top matters most
        relative = queue.popleft()
        # New files are made in the folders at the top above all, so those are folders; what does not fit in them is linked.
        room = MAX_TOP_ENTRIES if "/" not in relative else _MAX_ENTRIES
        room -= shown.entries() if relative else 0
        entries = _entries(os.path.join(project, relative), room) if relative.count("/") < _MAX_DEPTH else None
        if entries is None and not relative:
            raise OSError(errno.EFBIG, f"{project} cannot be read, or has more than {MAX_TOP_ENTRIES} entries at its top")
        if entries is None:
            os.rmdir(os.path.join(folder, relative))
            shown.folders -= 1
            shown.whole.append(relative)
            _link(os.path.join(project, relative), os.path.join(folder, relative), relative, shown)
            continue
        for entry in entries:
            name = os.path.join(relative, entry.name)
            if entry.name in _NOT_SHOWN or entry.path == hidden:
                continue
            if not entry.is_dir(follow_symlinks=False):
                _show_file(entry, project, folder, name, shown)
            elif entry.name in _LINKED_WHOLE:
                _link(entry.path, os.path.join(folder, name), name, shown)
                if hidden and hidden.startswith(entry.path + "/"):  # the worker itself writes there
                    shown.linked[name] = None
            else:
                os.mkdir(os.path.join(folder, name))
                shown.folders += 1
                queue.append(name)
    shown.since_ns = os.stat(folder).st_ctime_ns
    return shown


def lay(seed: str, folder: str, shown: Shown) -> None:
    """Puts what is in `seed` into `folder`, in place of what `shown` has there: never through a link. Raises OSError."""
    for directory, _, files in os.walk(seed):
        relative = os.path.relpath(directory, seed)
        here = os.path.normpath(os.path.join(folder, relative))
        if os.path.islink(here) or not os.path.isdir(here):
            _clear(here)
            os.mkdir(here)
        for file in files:
            place, name = os.path.join(here, file), os.path.normpath(os.path.join(relative, file))
            _clear(place)
            shutil.copy2(os.path.join(directory, file), place, follow_symlinks=False)
            shown.linked.pop(name, None)
            state = _state_of(place)
            if state is not None:
                shown.copied[name] = state


def own(project: str, layer: str, hidden: str | None, over: str | None) -> Shown:
    """Puts what others own in `project` into `layer`, the upper one of an overlay on it, as this user's: at home the crew's user owns
    the project, and in a user namespace the kernel copies up nothing of others, whoever may write it. As far as the limits of `show`
    go. `over`: a layer between the two, whose files win. Raises OSError."""
    shown = Shown()
    for entry, name in islice(_walk(project, hidden), _MAX_ENTRIES):
        place = os.path.join(layer, name)
        with contextlib.suppress(PermissionError, FileNotFoundError):
            about = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(about.st_mode):
                os.mkdir(place)
                os.chmod(place, stat.S_IMODE(about.st_mode) | stat.S_IRWXU)
            elif _may_be_others(about) and not (over and os.path.lexists(os.path.join(over, name))):
                _copy(entry, place, name, shown)
    return shown


def others(project: str, hidden: str | None) -> tuple[bool, str | None]:
    """Whether others own anything in `project`, and the first of it that this user may write, but that `own` leaves as it is. Looks
    at so much only. For a process in no user namespace."""
    found, room = _is_others(os.stat(project)), _MAX_BYTES
    for number, (entry, name) in enumerate(islice(_walk(project, hidden), _MAX_LOOKED_AT)):
        with contextlib.suppress(FileNotFoundError):
            about = entry.stat(follow_symlinks=False)
            size = about.st_size if stat.S_ISREG(about.st_mode) else 0
            if number < _MAX_ENTRIES and size <= min(_MAX_FILE_BYTES, room):
                room -= size if _may_be_others(about) else 0
            elif _is_others(about) and os.access(entry.path, os.W_OK):
                return True, name
            found = found or _is_others(about)
    return found, None


def changed(folder: str, shown: Shown) -> list[str]:
    """The regular files in `folder` that are new, or other than `show` made them, as relative paths."""
    return [name for name, state in regular_files(folder) if shown.copied.get(name) != state]


def written_through(project: str, shown: Shown) -> list[str]:
    """What was changed of the project itself behind a link since `show`: files, and of each folder the first that is seen."""
    whole, looked_at = set(shown.whole), _Budget(_MAX_LOOKED_AT)
    known = ((name, state) for name, state in shown.linked.items() if state is not None and name not in whole)
    found = [name for name, state in known if _state_behind(os.path.join(project, name)) != state]
    newer = (_newer(os.path.join(project, name), shown.since_ns, looked_at) for name in shown.whole)
    return [*found, *(os.path.relpath(place, project) for place in newer if place is not None)]


def linked_files(project: str, shown: Shown) -> list[str]:
    """The regular files that are links because they are too large, or too many."""
    places = ((name, os.path.join(project, name)) for name, state in shown.linked.items() if state is not None)
    return [name for name, place in places if os.path.isfile(place) and os.access(place, os.R_OK)]


def regular_files(folder: str) -> Iterator[tuple[str, _State]]:
    """The regular files below `folder`, by relative path; links are not followed, compiled Python is left out."""
    for directory, names, files in os.walk(folder):
        names[:] = [name for name in names if name not in _NOT_SHOWN]
        for name in files:
            place = os.path.join(directory, name)
            state = _state_of(place)
            if state is not None:
                yield os.path.relpath(place, folder), state


def _show_file(entry: os.DirEntry[str], project: str, folder: str, name: str, shown: Shown) -> None:
    place = os.path.join(folder, name)
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        inside = target == project or target.startswith(project + "/")
        os.symlink(os.path.normpath(os.path.join(folder, os.path.relpath(target, project))) if inside else target, place)
        shown.linked[name] = None
        return
    try:
        if not _copy(entry, place, name, shown):
            _link(entry.path, place, name, shown)
    except FileNotFoundError:  # removed meanwhile
        return
    except OSError as error:  # above all what this user may not read: the link says so, as the file does at home
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place)
        _link(entry.path, place, name, shown)


def _copy(entry: os.DirEntry[str], place: str, name: str, shown: Shown) -> bool:
    """Whether it did: what is no regular file, or too large for a file system that cannot clone, is left alone."""
    about = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(about.st_mode) or shown.entries() >= _MAX_ENTRIES:
        return False
    if about.st_size <= min(_MAX_FILE_BYTES, _MAX_BYTES - shown.bytes):
        shutil.copyfile(entry.path, place)
        shown.bytes += about.st_size
    elif not _clone(entry.path, place, shown):
        return False
    shutil.copymode(entry.path, place)
    os.utime(place, ns=(about.st_atime_ns, about.st_mtime_ns))
    state = _state_of(place)
    if state is not None:
        shown.copied[name] = state
    return True


def _clone(source: str, place: str, shown: Shown) -> bool:
    """Whether it made a copy that shares the disk's blocks until one is written, and costs the same for any size."""
    if not shown.may_clone:
        return False
    with open(source, "rb") as given, open(place, "xb") as made:
        try:
            fcntl.ioctl(made.fileno(), _FICLONE, given.fileno())
        except OSError:  # another file system, or one that cannot
            shown.may_clone = False
    if not shown.may_clone:
        os.unlink(place)
    return shown.may_clone


def _link(target: str, place: str, name: str, shown: Shown) -> None:
    os.symlink(target, place)
    shown.linked[name] = _state_behind(target)


def _clear(place: str) -> None:
    """Removes a file, a link or a folder, where there is one."""
    if os.path.isdir(place) and not os.path.islink(place):
        shutil.rmtree(place)
    elif os.path.lexists(place):
        os.unlink(place)


def _walk(project: str, hidden: str | None) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Files and folders of a project, breadth first, with their relative paths; not what is linked as a whole, nor links."""
    queue = deque([""])
    while queue:
        relative = queue.popleft()
        for entry in _entries(os.path.join(project, relative), _MAX_LOOKED_AT) or ():
            if entry.name in _NOT_SHOWN | _LINKED_WHOLE or entry.path == hidden or entry.is_symlink():
                continue
            name = os.path.join(relative, entry.name)
            if entry.is_dir(follow_symlinks=False):
                if not os.access(entry.path, os.R_OK | os.X_OK) or relative.count("/") >= _MAX_DEPTH:
                    continue
                queue.append(name)
            yield entry, name


def _is_others(about: os.stat_result) -> bool:
    """Whether a user namespace of this user lacks its owner or its group."""
    return about.st_uid != os.geteuid() or about.st_gid != os.getegid()


def _may_be_others(about: os.stat_result) -> bool:
    """The same for a process that is in one already."""
    return _is_others(about) or _UNKNOWN_ID in (os.geteuid(), os.getegid())


def _newer(folder: str, since_ns: int, budget: _Budget) -> str | None:
    """What was made or changed in `folder` after `since_ns`: the first such file, else a folder from which something was removed."""
    queue, lost = deque([folder]), None
    while queue and budget.left > 0:
        at, compiled = queue.popleft(), False
        with contextlib.suppress(OSError), os.scandir(at) as entries:
            for entry in islice(entries, budget.left):
                budget.left -= 1
                if entry.name in _NOT_SHOWN:
                    compiled = True
                elif entry.is_dir(follow_symlinks=False):
                    queue.append(entry.path)
                elif entry.stat(follow_symlinks=False).st_ctime_ns > since_ns:
                    return entry.path
            if lost is None and not compiled and os.stat(at).st_mtime_ns > since_ns:
                lost = at
    return lost


def _entries(folder: str, most: int) -> list[os.DirEntry[str]] | None:
    """By name; None for more than `most`, and for a folder that this user may not read."""
    try:
        with os.scandir(folder) as found:
            entries = list(islice(found, max(most, 0) + 1))
    except OSError:
        return None
    return None if len(entries) > most else sorted(entries, key=lambda entry: entry.name)


def _state_of(place: str) -> _State | None:
    try:
        about = os.lstat(place)
    except OSError:  # removed meanwhile
        return None
    return _state(about) if stat.S_ISREG(about.st_mode) else None


def _state_behind(place: str) -> _State | None:
    """Of a file or a folder; a folder's changes with its entries."""
    try:
        about = os.lstat(place)
    except OSError:
        return None
    return _state(about) if stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode) else None


def _state(about: os.stat_result) -> _State:
    return about.st_mtime_ns, about.st_size, about.st_ino
