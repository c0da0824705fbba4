"""A folder that shows a project without an overlay: small files as copies, the rest as links. For kernels and sandboxes that allow no mounts."""

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

# What a project of usual size has is copied in a few milliseconds; what is beyond is linked, and told of.
_MAX_FILE_BYTES = 1 << 20
_MAX_BYTES = 16 << 20
_MAX_ENTRIES = 2_000
# The folder itself cannot be a link, so there are at most so many entries at its top.
MAX_TOP_ENTRIES = 10_000
_MAX_DEPTH = 32
# Folders in which no crew writes, and which are large.
_LINKED_WHOLE = frozenset({".git", ".hg", ".svn", ".venv", "venv", "node_modules", "site-packages", ".crewfleet"})
_NOT_SHOWN = frozenset({"__pycache__"})

# What tells that a file is still as it was: time of change, bytes, inode.
_State = tuple[int, int, int]


@dataclass
class Shown:
    """What was put into a folder: `copied` by relative path, `linked` by relative path with the file's state (None: a folder)."""

    copied: dict[str, _State] = field(default_factory=dict)
    linked: dict[str, _State | None] = field(default_factory=dict)
    bytes: int = 0

    def entries(self) -> int:
        """How many there are."""
        return len(self.copied) + len(self.linked)


def show(project: str, folder: str, hidden: str | None = None) -> Shown:
    """Makes `folder`, an existing empty one, look like `project`. `hidden`: a folder left out. A folder of which not all fits into the
    limits is a link as a whole. Raises OSError where the disk is full, and with EFBIG where `project` has too many entries at its top.
    """
    shown = Shown()
    queue = [""]
    while queue:  # breadth first: what is near the top matters most
        relative = queue.pop(0)
        room = MAX_TOP_ENTRIES if not relative else _MAX_ENTRIES - shown.entries()
        entries = _entries(os.path.join(project, relative), room) if relative.count("/") < _MAX_DEPTH else None
        if entries is None and not relative:
            raise OSError(errno.EFBIG, f"{project} cannot be read, or has more than {MAX_TOP_ENTRIES} entries at its top")
        if entries is None:
            os.rmdir(os.path.join(folder, relative))
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
            else:
                os.mkdir(os.path.join(folder, name))
                queue.append(name)
    return shown


def own(project: str, layer: str, hidden: str | None, over: str | None) -> Shown:
    """Puts what this user may not write of `project` into `layer`, the upper one of an overlay on it, as this user's: at home the
    crew's user owns the project. As far as the limits of `show` go. `over`: a layer between the two, whose files win. Raises OSError."""
    shown = Shown()
    queue, left = [""], _MAX_ENTRIES
    while queue:
        relative = queue.pop(0)
        for entry in _entries(os.path.join(project, relative), left) or ():
            left -= 1
            name = os.path.join(relative, entry.name)
            if entry.name in _NOT_SHOWN | _LINKED_WHOLE or entry.path == hidden or entry.is_symlink():
                continue
            with contextlib.suppress(PermissionError, FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    if os.access(entry.path, os.R_OK | os.X_OK) and relative.count("/") < _MAX_DEPTH:
                        os.mkdir(os.path.join(layer, name))
                        queue.append(name)
                elif not os.access(entry.path, os.W_OK) and not (over and os.path.lexists(os.path.join(over, name))):
                    _copy(entry, os.path.join(layer, name), name, shown)
    return shown


def changed(folder: str, shown: Shown) -> list[str]:
    """The regular files in `folder` that are new, or other than `show` made them, as relative paths."""
    return [name for name, state in regular_files(folder) if shown.copied.get(name) != state]


def written_through(project: str, shown: Shown) -> list[str]:
    """The files of the project itself that were changed by a link to them."""
    return [name for name, state in shown.linked.items() if state is not None and _state_of(os.path.join(project, name)) != state]


def regular_files(folder: str) -> Iterator[tuple[str, _State]]:
    """The regular files below `folder`, by relative path; links are not followed, compiled Python is left out."""
    for directory, names, files in os.walk(folder):
        names[:] = [name for name in names if name not in _NOT_SHOWN]
        for name in files:
            place = os.path.join(directory, name)
            state = _state_of(place)
            if state is not None:
                yield os.path.relpath(place, folder), state


def _show_file(entry: os.DirEntry, project: str, folder: str, name: str, shown: Shown) -> None:
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


def _copy(entry: os.DirEntry, place: str, name: str, shown: Shown) -> bool:
    """Whether it did: what is no regular file, or too large, is left alone."""
    about = entry.stat(follow_symlinks=False)
    too_much = about.st_size > _MAX_FILE_BYTES or shown.bytes + about.st_size > _MAX_BYTES or shown.entries() >= _MAX_ENTRIES
    if too_much or not stat.S_ISREG(about.st_mode):
        return False
    shutil.copyfile(entry.path, place)
    shutil.copymode(entry.path, place)
    os.utime(place, ns=(about.st_atime_ns, about.st_mtime_ns))
    state = _state_of(place)
    if state is not None:
        shown.copied[name] = state
        shown.bytes += about.st_size
    return True


def _link(target: str, place: str, name: str, shown: Shown) -> None:
    os.symlink(target, place)
    shown.linked[name] = _state_of(target)


def _entries(folder: str, most: int) -> list[os.DirEntry] | None:
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


def _state(about: os.stat_result) -> _State:
    return about.st_mtime_ns, about.st_size, about.st_ino
