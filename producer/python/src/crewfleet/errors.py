"""What can go wrong, as classes. Each message says what was tried, on what, and what to do.

FleetError
├── KickoffError       the kickoff has ended, and not well: `reply` has all that the fleet says of it
│   ├── CrewFailed        status "failed"
│   ├── CrewTimedOut      status "timed_out"
│   ├── CrewCancelled     status "cancelled"
│   ├── KickoffRejected   status "rejected": it was never started
│   └── KickoffExpired    status "expired": its deadline passed before it started
├── InvalidKickoff     a ValueError: every worker would reject it; nothing was sent
├── OtherKickoff       another request has this id, or this idempotency key, already; nothing was sent
├── NoSuchCrew         no queue takes kickoffs of this crew
├── BrokerUnavailable  a ConnectionError: RabbitMQ cannot be reached, or does not take it
├── FleetClosed        a RuntimeError: this fleet was closed; what was sent goes on
├── ReplyTimeout       a TimeoutError: you gave up waiting; the kickoff goes on
└── UnreadableReply    a reply came that is none of version 1
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .reply import Reply


class FleetError(Exception):
    """Whatever the fleet says no to."""


class KickoffError(FleetError):
    """A kickoff that ended without success."""

    def __init__(self, reply: Reply) -> None:
        """The error of this reply."""
        super().__init__(_message(reply))
        self.reply = reply

    @property
    def kickoff_id(self) -> str:
        """The kickoff."""
        return self.reply.kickoff_id

    @property
    def kind(self) -> str | None:
        """The short stable name of what happened, as in `exception`, `crashed`, `memory_limit`."""
        return self.reply.error.kind if self.reply.error else None

    def __reduce__(self) -> tuple[Callable[[Reply], KickoffError], tuple[Reply]]:
        return type(self), (self.reply,)


class CrewFailed(KickoffError):
    """The crew failed or its process died, and no attempt is left."""


class CrewTimedOut(KickoffError):
    """The time limit passed, and the crew's processes were killed."""


class CrewCancelled(KickoffError):
    """Somebody cancelled it."""


class KickoffRejected(KickoffError):
    """The request could not be understood, or lacks an input; the crew never started."""


class KickoffExpired(KickoffError):
    """Its `deadline` passed before it started."""


class InvalidKickoff(FleetError, ValueError):
    """Every worker would reject it, so nothing was sent."""


class _OfKickoff(FleetError):
    """An error about one kickoff, of which there is no reply."""

    def __init__(self, message: str, kickoff_id: str) -> None:
        super().__init__(message)
        self.kickoff_id = kickoff_id

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return type(self), (str(self), self.kickoff_id)


class OtherKickoff(_OfKickoff):
    """Another request has this id already, so nothing was sent."""


class ReplyTimeout(_OfKickoff, TimeoutError):
    """The reply has not come in time. The kickoff goes on, and `Fleet.attach` finds its reply later."""


class UnreadableReply(_OfKickoff):
    """A reply came that is none of version 1."""


class NoSuchCrew(FleetError, LookupError):
    """No queue takes kickoffs of this crew: no worker that serves it was ever there."""

    def __init__(self, message: str, crew: str) -> None:
        """The crew that was asked for."""
        super().__init__(message)
        self.crew = crew

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return type(self), (str(self), self.crew)


class FleetClosed(FleetError, RuntimeError):
    """The fleet was closed, before or meanwhile. What was sent goes on, and another fleet can attach to it."""


class BrokerUnavailable(FleetError, ConnectionError):
    """RabbitMQ cannot be reached, lets nobody in, or does not take what is sent."""


_BY_STATUS: dict[str, type[KickoffError]] = {
    "failed": CrewFailed,
    "timed_out": CrewTimedOut,
    "cancelled": CrewCancelled,
    "rejected": KickoffRejected,
    "expired": KickoffExpired,
}


def error_of(reply: Reply) -> KickoffError:
    """The error of a reply that is no success; one of a status that a later version knows is a plain `KickoffError`."""
    return _BY_STATUS.get(reply.status, KickoffError)(reply)


def _message(reply: Reply) -> str:
    said = f": {reply.error.kind}: {reply.error.message}" if reply.error else ""
    return f"kickoff {reply.kickoff_id} of crew {reply.crew} {reply.status.replace('_', ' ')}{said}"
