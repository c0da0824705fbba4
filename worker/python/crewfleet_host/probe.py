"""Runs a function in a fork that is thrown away: what it imports, opens or breaks stays there."""

import json
import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from . import process
from .jsonable import jsonable


class Report:
    """Where a probe leaves its report: memory that both processes see, so that nobody has to read while it is written."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("crewfleet-probe")

    def write(self, report: dict[str, Any]) -> None:
        """Stores `report`; the probe calls this, once."""
        with open(self._fd, "wb", closefd=False) as file:
            file.write(json.dumps(jsonable(report)).encode("ascii"))

    def take(self) -> dict[str, Any] | None:
        """The report, and closes the memory; None when the probe ended without one."""
        with open(self._fd, "rb") as file:
            file.seek(0)
            data = file.read()
        return json.loads(data) if data else None


def run_in_fork(function: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any] | None, str]:
    """Runs `function` in a fork and waits for it; returns its report (None if it died first) and how it ended, in words.

    The fork runs no cleanup of this process. What it leaves running is killed.
    """
    report = Report()
    parent = os.getpid()
    process.flush_stdio()
    pid = os.fork()
    if pid == 0:
        run_and_exit(function, report, parent)
    _, status = os.waitpid(pid, 0)
    return report.take(), ended(status)


def run_and_exit(function: Callable[[], dict[str, Any]], report: Report, parent: int) -> NoReturn:
    """The fork's side: writes what `function` returns to `report`, then ends this process."""
    code = 1
    try:
        process.die_with_parent(parent)
        process.become_subreaper()
        process.own_session()
        report.write(function())
        code = 0
    finally:
        process.flush_stdio()
        process.kill_descendants()
        os._exit(code)


def ended(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"it was killed by signal {number} ({signal.strsignal(number)})"
    return f"it exited with code {os.WEXITSTATUS(status)}"
