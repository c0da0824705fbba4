"""The memory that this process and its forks write together: shared maps, of files or of none, and POSIX semaphores."""

from dataclasses import dataclass

_DELETED = " (deleted)"


@dataclass(frozen=True)
class Mapping:
    """A shared map that can be written. `kind` is a key of `sharing.MAPPINGS`, `what` names it for people, `place` is its file as
    /proc has it, or what stands there instead of one."""

    kind: str
    what: str
    place: str


def written_together() -> dict[str, Mapping]:
    """identity → map, of all there are now. Costs some 2 ms in a process with CrewAI."""
    found = {}
    # By bytes: a name may be anything.
    with open("/proc/self/maps", "rb") as file:
        for line in file:
            fields = line.rstrip(b"\n").split(None, 5)
            if fields[1][3:4] == b"s" and b"w" in fields[1]:
                place = fields[5].decode("utf-8", "replace") if len(fields) > 5 else ""
                # Memory without a file has an inode of its own, too.
                found[f"{fields[3].decode()}:{fields[4].decode()} {place}"] = _mapping(place)
    return found


def _mapping(place: str) -> Mapping:
    name = place.removesuffix(_DELETED)
    if name.startswith("/dev/shm/sem."):
        return Mapping("semaphore", f"the semaphore {name.removeprefix('/dev/shm/sem.')} (a lock between processes)", place)
    if name in ("", "/dev/zero"):
        return Mapping("shared memory", "shared memory", place)
    if place.endswith(_DELETED) or name.startswith("/dev/shm/"):
        return Mapping("shared memory", f"the shared memory {name}", place)
    return Mapping("mapped file", f"the file {name}, which is mapped for writing", place)
