"""A process that has few file descriptors left."""

import os
import resource


class Short:
    """While entered, the process has `free` descriptors left."""

    def __init__(self, pid: int, free: int) -> None:
        self._pid, self._free = pid, free

    def __enter__(self) -> None:
        taken = {int(name) for name in os.listdir(f"/proc/{self._pid}/fd")}
        numbers = (number for number in range(1 << 16) if number not in taken)
        limit = [next(numbers) for _ in range(self._free + 1)][-1]
        self._before = resource.prlimit(self._pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self._pid, resource.RLIMIT_NOFILE, (limit, self._before[1]))

    def __exit__(self, *_: object) -> None:
        resource.prlimit(self._pid, resource.RLIMIT_NOFILE, self._before)
