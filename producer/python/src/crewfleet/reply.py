"""A reply and an event, as the fleet's schemas have them (`kickoff.reply.v1`, `kickoff.event.v1`)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class ReplyError:
    """Why a kickoff did not succeed."""

    #: A short stable name: `exception`, `crashed`, `timed_out`, …
    kind: str
    #: One sentence for a person.
    message: str
    #: Whether another attempt may succeed.
    retryable: bool = False
    #: What else is known, by `kind`: exception class and traceback, signal, exit code, peak memory.
    detail: Any = None


@dataclass(frozen=True)
class Reply:
    """The one terminal reply of a kickoff."""

    kickoff_id: str
    crew: str
    #: `succeeded`, `failed`, `timed_out`, `cancelled`, `expired` or `rejected`.
    status: str
    #: The whole result, as JSON: `raw`, `json`, `tasks`, `usage`, `files`, …; `None` unless it succeeded.
    result: dict[str, Any] | None
    #: `None` if it succeeded.
    error: ReplyError | None
    #: Which attempt this was, from 1.
    attempt: int
    #: How often a person ran it again from the dead letters, from 0.
    redrive: int
    #: The id of the worker that answers.
    worker: str
    #: When the request was published, the attempt was started, and it ended.
    requested_at: datetime | None
    started_at: datetime | None
    finished_at: datetime
    #: The request's `meta`.
    meta: Any = None
    #: How often the crew was started: more than `attempt` where a worker died with it.
    executions: int | None = None
    #: The first 16 hexadecimal characters of the SHA-256 of the request's body.
    body_hash: str | None = None
    #: Where it stands in a chain, and what follows: `id`, `parent`, `step`, `next`, `left_out`, `problem`. `None` without a chain.
    chain: dict[str, Any] | None = None
    #: The whole reply, with what a later version has added.
    json: dict[str, Any] = field(default_factory=dict[str, Any], repr=False, compare=False)

    @property
    def succeeded(self) -> bool:
        """Whether the crew finished."""
        return self.status == "succeeded"

    @property
    def step(self) -> int:
        """Which kickoff of its chain it is, from 0; 0 without a chain."""
        return int((self.chain or {}).get("step", 0))

    @property
    def next_id(self) -> str | None:
        """The id of the kickoff that follows in its chain; `None` where none does."""
        following = (self.chain or {}).get("next")
        return _text(following["kickoff_id"]) if following else None


@dataclass(frozen=True)
class Event:
    """Something that happened during a kickoff. An event may get lost; a reply may not."""

    kickoff_id: str
    crew: str
    #: One of the fleet's own (`kickoff_started`, `kickoff_finished`, `log`, …), or CrewAI's name (`task_started`, …).
    type: str
    #: Slim facts, by type.
    data: dict[str, Any]
    attempt: int
    redrive: int
    #: Counts the events of one attempt on one worker, from 1.
    sequence: int
    time: datetime
    meta: Any = None
    #: Where its kickoff stands in a chain: `id`, `parent`, `step`. `None` without a chain.
    chain: dict[str, Any] | None = None


class WrongMessage(ValueError):
    """A message that its schema does not allow."""


def read_reply(body: bytes) -> Reply:
    """Reads a reply; `WrongMessage` says what is wrong with it."""
    try:
        said = json.loads(body)
        error = said.get("error")
        return Reply(
            kickoff_id=_text(said["kickoff_id"]),
            crew=_text(said["crew"]),
            status=_text(said["status"]),
            result=said.get("result"),
            error=ReplyError(error["kind"], error["message"], bool(error["retryable"]), error.get("detail")) if error else None,
            attempt=int(said["attempt"]),
            redrive=int(said["redrive"]),
            worker=_text(said["worker"]),
            requested_at=_moment(said.get("requested_at")),
            started_at=_moment(said.get("started_at")),
            finished_at=_required(_moment(said["finished_at"])),
            meta=said.get("meta"),
            executions=said.get("executions"),
            body_hash=said.get("body_hash"),
            chain=said.get("chain"),
            json=said,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WrongMessage(f"{type(error).__name__}: {error}") from error


def read_event(body: bytes) -> Event:
    """Reads an event; `WrongMessage` says what is wrong with it."""
    try:
        said = json.loads(body)
        return Event(
            kickoff_id=_text(said["kickoff_id"]),
            crew=_text(said["crew"]),
            type=_text(said["type"]),
            data=said["data"] if isinstance(said["data"], dict) else {},
            attempt=int(said["attempt"]),
            redrive=int(said.get("redrive", 0)),
            sequence=int(said["sequence"]),
            time=_required(_moment(said["time"])),
            meta=said.get("meta"),
            chain=said.get("chain"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WrongMessage(f"{type(error).__name__}: {error}") from error


def better(new: Reply, best: Reply | None) -> bool:
    """Whether this one is to be kept: the first reply of the highest redrive."""
    return best is None or new.redrive > best.redrive


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _moment(value: str | None) -> datetime | None:
    if value is None:
        return None
    # Python 3.10 knows neither the Z nor more than six digits of a second.
    whole, point, rest = value.replace("Z", "+00:00").partition(".")
    if point:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        whole += "." + rest[:digits][:6].ljust(6, "0") + rest[digits:]
    return datetime.fromisoformat(whole)


def _required(moment: datetime | None) -> datetime:
    if moment is None:
        raise TypeError("a moment is missing")
    return moment
