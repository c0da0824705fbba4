"""A crew host on a machine that a test arranges, without a worker: a process of its own, that tells what a kickoff there finds."""

import ctypes
import encodings.ascii  # noqa: F401  # while it can be read: an interpreter in root's home is not nobody's
import json
import os
import sys

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, PACKAGE)

from crewfleet_host.probe import run_in_fork  # noqa: E402
from crewfleet_host.settings import Settings  # noqa: E402
from crewfleet_host.workplace import Workplace  # noqa: E402

NEWNS, NEWUSER = 0x20000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


def host(settings: dict, do: str, before: str) -> dict:
    """What a host finds and a kickoff in it, that evaluates `do`: "way", "reason", "value", "changed", "entries", "whole", "warned",
    "notes"; or "refused". `before` is executed first, in the host; `settings` are names in it. "build" among them is done as by an import;
    with "spawned" the kickoff's place is found as by a fresh interpreter."""

    def run() -> dict:
        exec(before, {**globals(), **settings})
        try:
            return _host(settings, do)
        except OSError as error:
            return {"way": None, "value": None, "refused": str(error)}

    told, ended = run_in_fork(run)
    if told is None:
        raise AssertionError(f"the host ended: {ended}")
    return told


def _host(settings: dict, do: str) -> dict:
    data_dir = settings["data_dir"]
    frame = {"target": "nobodys:Crew", "scratch_dir": os.path.join(data_dir, "hosts"), **settings}
    given = Settings.from_frame(frame)
    workplace = Workplace(given)
    workplace.enter()
    eval(settings.get("build", "None"), globals())
    workplace.seal()

    def kickoff() -> dict:
        place = workplace
        if settings.get("spawned"):
            place = Workplace(workplace.settings_for_a_child(given))
            place.enter()
        else:
            place.leave_parents()
        place.open(os.path.join(data_dir, f"kickoff-{os.getpid()}"))
        value = eval(do, globals())
        shown = place._shown
        seen = {"entries": shown.entries(), "whole": shown.whole, "warned": place.written_through()}
        return {"value": value, "changed": place.changed(), **seen}

    found, ended = run_in_fork(kickoff)
    return {"way": workplace.way, "reason": workplace.reason, "notes": workplace.notes(), **(found or {"value": ended})}


def error(function) -> str | None:  # type: ignore[no-untyped-def]
    """The class of what it raises."""
    try:
        function()
    except Exception as raised:
        return type(raised).__name__
    return None


def make(folder: str, files: dict[str, str]) -> None:
    """Writes them below `folder`."""
    for name, text in files.items():
        place = os.path.join(folder, name)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "w", encoding="utf-8") as file:
            file.write(text)


def read(place: str) -> str:
    """What a file holds."""
    with open(place, encoding="utf-8") as file:
        return file.read()


def append(place: str, text: str) -> None:
    """Writes at the end of a file, perhaps a new one."""
    with open(place, "a", encoding="utf-8") as file:
        file.write(text)


def unshare(flags: int, map_root: bool = False) -> None:
    """Enters namespaces; changes of mounts stay in them."""
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if flags & NEWNS:
        mount("none", "/", None, MS_REC | MS_PRIVATE)
    if map_root:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)


def mount(source: str, place: str, kind: str | None, flags: int = 0, options: str | None = None) -> None:
    """mount(2)."""
    arguments = (source.encode(), place.encode(), kind and kind.encode(), ctypes.c_ulong(flags), options and options.encode())
    if _libc.mount(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"mount {place}")


def bind(place: str) -> None:
    """Makes it a mount of its own."""
    mount(place, place, None, MS_BIND)


def become_nobody(home: str, user: int = 65534, groups: tuple[int, ...] = ()) -> None:
    """Nobody, or another `user`, who may write in `home` alone; nothing happens where this is somebody already."""
    if os.geteuid() == 0:
        os.chmod(home, 0o777)
        os.setgroups(groups)
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        # The kernel takes these files from a process that changed its user: its own namespaces are written there.
        _libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE


if __name__ == "__main__":
    json.dump(host(**json.load(sys.stdin)), sys.stdout)
