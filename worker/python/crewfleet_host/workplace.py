"""Where kickoffs run: each sees the project as its own, and changes nothing of it, nor of its neighbours.

Two ways, of which the host chooses one at its start. "overlay": the project's own path, with an overlay on it in a mount namespace
of the child; its upper layer is the kickoff's folder. "links": a folder that shows the project by copies and links.
"""

import contextlib
import errno
import filecmp
import os
import shutil
from dataclasses import replace
from typing import Any

from . import environment, links
from .errors import place_unavailable
from .inspection import Unusable
from .mounts import MountNamespace, file_system, mounted_below
from .probe import run_in_fork
from .project import working_dir
from .settings import Settings

FILES = "files"
_WORK = "overlay"
_LOWER = "lower"
_SEED = "seed"


class Workplace:
    """`root` is the project's folder (None: there is none), `way` "overlay" or "links", `reason` why it is not an overlay."""

    def __init__(self, settings: Settings) -> None:
        """Finds the project and chooses the way, by trying it in a fork. Raises OSError where "overlay" is demanded and refused."""
        self._data_dir = os.path.realpath(settings.data_dir)
        self.root = self._usable(working_dir(settings), settings)
        self._scratch = os.path.join(settings.scratch_dir, str(os.getpid()))
        self._seed: str | None = None
        # A child of an overlaid host gets the host's: the host's own overlay would be one level more, of which the kernel allows two.
        self._lower = settings.working_dir_lower or os.path.join(self._scratch, _LOWER)
        self._is_child = settings.working_dir_lower is not None
        self._namespace: MountNamespace | None = None
        self._shown = links.Shown()
        self._files = ""
        self._mounted = False
        self._others = settings.working_dir_others
        self.reason: str | None = None
        self.env_file: environment.EnvFile | None = None
        self.way = "links"
        if self.root is None:
            where = '"/"' if os.getcwd() == "/" else "its data_dir"
            self.reason = f"the worker stands in {where} and the target belongs to no project (no pyproject.toml above it): the folder is empty"
        elif settings.working_dir_way == "links":
            self.reason = 'working_dir_way = "links"'
        else:
            self.reason = None if settings.working_dir_way == "decided" else self._refusal(settings)
            self.way = "links" if self.reason else "overlay"
        if settings.working_dir_way == "overlay" and self.way != "overlay":
            raise OSError(f'working_dir_way = "overlay": {self.reason}')

    def about(self) -> dict[str, Any]:
        """The fields of "checked" and "ready" that tell of it."""
        env_file = vars(self.env_file) if self.env_file is not None else None
        return {"working_dir": self.root, "files": self.way, "files_reason": self.reason, "env_file": env_file}

    def settings_for_a_child(self, settings: Settings) -> Settings:
        """For a fresh interpreter of the same crew: it need not find and try again."""
        settings = replace(settings, working_dir=self.root or settings.working_dir)
        if self.way == "links":
            return replace(settings, working_dir_way="links")
        return replace(settings, working_dir_way="decided", working_dir_lower=self._lower, working_dir_others=self._others)

    def enter(self) -> None:
        """For a process that imports and builds the crew: what that writes stays in a folder of its own. Raises OSError."""
        files = self._make(self._scratch, FILES)
        if self.way == "overlay" and self.root is not None:
            self._namespace = MountNamespace()
            if not self._is_child:
                os.makedirs(self._lower, exist_ok=True)
                self._namespace.bind(self.root, self._lower)
            self._mount(files, self._make(self._scratch, _WORK))
            os.chdir(self.root)
        else:
            self._show(files)
            os.chdir(files)
        self._files = files

    def notes(self) -> list[str]:
        """Once entered: what a kickoff shares with the project by links, and what that means, in sentences."""
        if self.way == "overlay" or self.root is None:
            return []
        notes = []
        if self._shown.whole:
            notes.append(
                f"{_listed(self._shown.whole, 'folder')} of the project: too large to be shown by copies and links, so each kickoff has a"
                " link to the whole. What it writes there changes the project, and is in no reply"
            )
        files = links.linked_files(self.root, self._shown)
        if files:
            notes.append(
                f"{_listed(files, 'file')} of the project: too large, or too many, to be copied, so each kickoff has a link. A write to"
                " one changes the project, and a tool that reads nothing outside the working directory (as crewai-tools from 1.15 on)"
                " refuses it"
            )
        return notes

    def seal(self) -> None:
        """After import and build: what they wrote is there for each kickoff, as at home. Raises Unusable."""
        names = self._written()
        if not names:
            return
        name = ""
        try:
            self._seed = self._make(self._scratch, _SEED)
            for name in names:
                _copy_entry(os.path.join(self._files, name), os.path.join(self._seed, name))
        except OSError as error:
            message = f"what importing the target wrote cannot be kept for its kickoffs: {os.path.join(self.root or '', name)}: {error}"
            raise Unusable(place_unavailable(message)) from None

    def leave_parents(self) -> None:
        """In a fork, while it has one thread: mounts of its own from now on. Raises OSError."""
        if self.way == "overlay":
            self._namespace = MountNamespace()
        self._mounted = False

    def open(self, folder: str) -> str:
        """Makes `folder` (absolute, made if missing) the place of a kickoff, and stands in it; returns where its files come to lie.

        Raises OSError.
        """
        self._files = self._make(folder, FILES)
        if self.way == "overlay" and self.root is not None:
            self._mount(self._files, self._make(folder, _WORK))
            self._mounted = True
            os.chdir(self.root)
        else:
            self._show(self._files)
            if self._seed is not None:
                links.lay(self._seed, self._files, self._shown)
            os.chdir(self._files)
        return self._files

    def close(self) -> None:
        """The kickoff is over; another may follow."""
        os.chdir("/")
        if self._mounted and self._namespace is not None and self.root is not None:
            self._namespace.unmount(self.root)
            self._mounted = False

    def changed(self) -> list[str]:
        """The regular files that the kickoff made or changed, relative to its files' folder."""
        found = links.changed(self._files, self._shown)
        if self.way != "overlay":
            return found
        # What is opened to be written is copied up, whether anything is written or not.
        layers = [self._lower] if self._seed is None else [self._seed, self._lower]
        return [name for name in found if not _untouched(self._files, name, layers)]

    def written_through(self) -> list[str]:
        """What was changed of the project itself, behind links, while the kickoff ran; nothing with an overlay."""
        return links.written_through(self.root, self._shown) if self.way == "links" and self.root is not None else []

    def _written(self) -> list[str]:
        """The files that this process changed, and the folders that it made."""
        folders = (os.path.join(at, name) for at, names, _ in os.walk(self._files) for name in names if name != "__pycache__")
        made = (os.path.relpath(folder, self._files) for folder in folders if not os.path.islink(folder))
        known = self._lower if self.way == "overlay" else self.root or os.devnull
        return [*(name for name in made if not os.path.isdir(os.path.join(known, name))), *self.changed()]

    def _is_inside(self, folder: str) -> bool:
        return self.root is not None and folder.startswith(self.root.rstrip("/") + "/")

    def _usable(self, root: str | None, settings: Settings) -> str | None:
        """`root`, or None where it is nobody's project. Raises OSError where that was configured."""
        if root not in ("/", self._data_dir):
            return root
        if settings.working_dir:
            what = "the whole machine" if root == "/" else "the worker's data_dir"
            raise OSError(f"working_dir = {settings.working_dir!r} is {what}; name the project's folder")
        return None

    def _show(self, files: str) -> None:
        self._shown = links.show(self.root, files, hidden=self._data_dir) if self.root is not None else links.Shown()

    def _mount(self, files: str, work: str) -> None:
        """An overlay on the project, with what is mounted in it, and the worker's own folder, as they are."""
        if self._namespace is None or self.root is None:
            return
        kept = [*mounted_below(self.root), *environment.storage_below(self.root)]
        if self._is_inside(self._data_dir):
            kept = [place for place in kept if not f"{place}/".startswith(f"{self._data_dir}/")] + [self._data_dir]
        opened = [(place, os.open(place, os.O_PATH | os.O_CLOEXEC)) for place in kept if os.path.exists(place)]
        lower = [self._lower]
        self._shown = links.Shown()
        try:
            if self._others and self._namespace.is_users:
                self._shown = links.own(self._lower, files, self._hidden(self._lower), self._seed)
            if self._seed is not None and self._is_inside(self._data_dir):
                links.lay(self._seed, files, self._shown)  # no layer of an overlay may lie in another
            elif self._seed is not None:
                lower = [self._seed, *lower]
            self._namespace.overlay(self.root, lower, files, work)
            for place, fd in opened:
                self._namespace.bind(f"/proc/self/fd/{fd}", place)
        finally:
            for _, fd in opened:
                os.close(fd)

    def _hidden(self, project: str) -> str:
        """The worker's own folder, were the project at `project`."""
        return os.path.normpath(os.path.join(project, os.path.relpath(self._data_dir, self.root)))

    def _refusal(self, settings: Settings) -> str | None:
        """Why there can be no overlay here, None where there can: tried, since no file of the kernel tells."""

        def attempt() -> dict[str, Any]:
            """What a spawned child does: a fork does less of the same."""
            try:
                self.enter()
                child = Workplace(replace(self.settings_for_a_child(settings), scratch_dir=self._scratch))
                child.enter()
                child.open(os.path.join(self._scratch, "trial"))
                assert child._namespace is not None
                child._namespace.try_attributes(child._files)
            except OSError as error:
                return {"refused": str(error), "errno": error.errno}
            return {"is_users": child._namespace.is_users}

        self.way = "overlay"
        report, ended = run_in_fork(attempt)
        told: dict[str, Any] = {"refused": ended} if report is None else report
        _remove(self._scratch)
        if "refused" in told:
            return self._explained(told["refused"], told.get("errno"))
        return self._refusal_by_owner() if told["is_users"] else None

    def _refusal_by_owner(self) -> str | None:
        """Why there can be no overlay in a user namespace, if that is for what others own in the project."""
        assert self.root is not None
        self._others, left = links.others(self.root, self._hidden(self.root))
        if left is None:
            return None
        return (
            f"there can be no overlay: {os.path.join(self.root, left)} is another user's or group's, may be written by this user, and is"
            " too much to be copied for each kickoff; the kernel copies it for its owner only. Give the project to the worker's user and"
            " group"
        )

    def _explained(self, refused: str, number: int | None) -> str:
        """With what is to be done, where that can be known."""
        kind, inside = file_system(self._data_dir), mounted_below(self.root or "/")
        if number == errno.EINVAL and kind in ("overlay", "aufs", "fuse.fuse-overlayfs"):
            why = f"data_dir {self._data_dir} lies on an overlay itself, as a container's root does; put it into a volume"
        elif number == errno.EINVAL and file_system(self.root or "/") in ("overlay", "aufs", "fuse.fuse-overlayfs") and not inside:
            why = f"{self.root} lies on overlays already, of which the kernel stacks two; put it into a volume"
        elif number == errno.EINVAL and inside:
            why = f"{inside[0]} is mounted inside the project, which the kernel lets nobody but root hide; mount it elsewhere"
        elif number == errno.EOPNOTSUPP:
            why = f"data_dir {self._data_dir} keeps no extended attributes ({kind}); put it on ext4, xfs, btrfs, or tmpfs from Linux 6.6 on"
        elif number == errno.ENOSPC and refused.startswith("[Errno 28] unshare"):
            why = "the kernel's limit of user or mount namespaces is reached (sysctl user.max_user_namespaces, user.max_mnt_namespaces)"
        elif number in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            why = "the sandbox of this container or unit, or the kernel's settings, allow no user namespaces or no mounts in them"
        else:
            return f"the kernel refuses an overlay: {refused}"
        return f"there can be no overlay: {why} ({refused})"

    @staticmethod
    def _make(folder: str, name: str) -> str:
        place = os.path.join(folder, name)
        os.makedirs(place, exist_ok=True)
        return place


def enter_workplace(settings: Settings) -> Workplace:
    """Reads the project's .env, and stands in the place where the crew is imported and built.

    Raises Unusable of kind "env_file_unreadable" or "working_dir_unavailable".
    """
    try:
        workplace = Workplace(settings)
        if settings.dotenv:
            workplace.env_file = environment.read_env_file(workplace.root)
        if workplace.root is not None:
            environment.anchor_storage(workplace.root)
        workplace.enter()
    except environment.UnreadableEnvFile as error:
        message = f"{error}; mend it, or set dotenv = false"
        raise Unusable({"kind": "env_file_unreadable", "message": message, "retryable": False, "detail": None}) from None
    except OSError as error:
        raise Unusable(place_unavailable(str(error))) from None
    return workplace


def _remove(folder: str) -> None:
    """Removes it, with the folder that an overlay keeps and nobody may read."""
    for at, names, _ in os.walk(folder):
        for place in (os.path.join(at, name) for name in names):
            with contextlib.suppress(OSError):
                if not os.path.islink(place):  # the project's own
                    os.chmod(place, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _copy_entry(source: str, destination: str) -> None:
    """A regular file or a folder; the folder alone. Nothing where it was removed meanwhile."""
    if os.path.isdir(source):
        os.makedirs(destination, exist_ok=True)
        return
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    try:
        shutil.copy2(source, destination, follow_symlinks=False)
    except FileNotFoundError:
        if os.path.lexists(source):
            raise


def _untouched(upper: str, name: str, layers: list[str]) -> bool:
    """Whether a file of the upper layer is as the first below that has it."""
    place = os.path.join(upper, name)
    for layer in layers:
        below = os.path.join(layer, name)
        try:
            was, now = os.lstat(below), os.lstat(place)
            same = (was.st_size, was.st_mode, was.st_mtime_ns) == (now.st_size, now.st_mode, now.st_mtime_ns)
            # Two writes within one tick of the kernel's clock have one time.
            return same and filecmp.cmp(place, below, shallow=False)
        except FileNotFoundError:
            continue
        except OSError:  # it may not be read
            return False
    return False


def _listed(names: list[str], what: str) -> str:
    """The first of some names, and how many others there are."""
    others = len(names) - 1
    return names[0] if not others else f"{names[0]} and {others} more {what}{'s' if others > 1 else ''}"
