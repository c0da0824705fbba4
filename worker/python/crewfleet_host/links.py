"""A folder that shows a project without an overlay: small files as copies, the rest as links. For kernels and sandboxes that allow no mounts."""

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

# What a project of usual size has is copied in a few milliseconds; what is beyond is linked, and told of.
_MAX_FILE_BYTES = 1 << 20
_MAX_BYTES = 16 << 20
_MAX_ENTRIES = 2_000
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
    """Makes `folder`, an existing empty one, look like `project`. What cannot be read is not there. `hidden`: a folder left out."""
    shown = Shown()
    queue = [""]
    while queue:  # breadth first: what is near the top matters most
        relative = queue.pop(0)
        for entry in _entries(os.path.join(project, relative)):
            name = os.path.join(relative, entry.name)
            if entry.name in _NOT_SHOWN or entry.path == hidden:
                continue
            if not entry.is_dir(follow_symlinks=False):
                _show_file(entry, os.path.join(folder, name), name, shown)
            elif entry.name in _LINKED_WHOLE or shown.entries() >= _MAX_ENTRIES:
                os.symlink(entry.path, os.path.join(folder, name))
                shown.linked[name] = None
            else:
                os.mkdir(os.path.join(folder, name))
                queue.append(name)
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


def _show_file(entry: os.DirEntry, place: str, name: str, shown: Shown) -> None:
    try:
        if entry.is_symlink():
            os.symlink(os.path.realpath(entry.path), place)
            shown.linked[name] = None
            return
        about = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(about.st_mode):
            return
        if about.st_size > _MAX_FILE_BYTES or shown.bytes + about.st_size > _MAX_BYTES or shown.entries() >= _MAX_ENTRIES:
            os.symlink(entry.path, place)
            shown.linked[name] = _state(about)
            return
        shutil.copyfile(entry.path, place)
        shutil.copymode(entry.path, place)
        os.utime(place, ns=(about.st_atime_ns, about.st_mtime_ns))
        state = _state_of(place)
        if state is not None:
            shown.copied[name] = state
            shown.bytes += about.st_size
    except PermissionError:  # not for this user: at home the crew could not read it either
        return


def _entries(folder: str) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:
        return []


def _state_of(place: str) -> _State | None:
    try:
        about = os.lstat(place)
    except OSError:  # removed meanwhile
        return None
    return _state(about) if stat.S_ISREG(about.st_mode) else None


def _state(about: os.stat_result) -> _State:
    return about.st_mtime_ns, about.st_size, about.st_ino
