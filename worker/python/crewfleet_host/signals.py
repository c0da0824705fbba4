"""SIGTERM and SIGINT are the worker's to act on: a service manager or a terminal sends them to the whole group."""

import signal
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PYTHONS = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}


def _leave_to_worker(_number: int, _frame: FrameType | None) -> None:
    """Does nothing. SIG_IGN would be inherited by every program that a crew starts."""


class StopSignals:
    """Keeps SIGTERM and SIGINT from ending fork server and hosts, which end with their channel instead."""

    def __init__(self) -> None:
        self._replaced: dict[signal.Signals, Any] = dict(_PYTHONS)

    def hold(self) -> None:
        """Ignores both; a handler that an import installed is kept for `release`."""
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if handler is not None and handler is not _leave_to_worker:
                self._replaced[number] = handler
            signal.signal(number, _leave_to_worker)

    def release(self) -> None:
        """In a child: what the crew's import installed, else Python's default."""
        for number, handler in self._replaced.items():
            signal.signal(number, handler)
