"""The names that become routing keys: kickoff ids and crews' names."""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from datetime import datetime, timezone

from .errors import InvalidKickoff

_KICKOFF_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MADE = re.compile(r"(step|batch)-[0-9a-fA-F]{40}")
_CREW = re.compile(r"[a-z0-9_-]{1,64}")


def new_id() -> str:
    """A new UUIDv7: ordered by time, so that kept replies can be read from the id's own moment on."""
    moment = time.time_ns() // 1_000_000
    value = (moment & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    # The version, 7, and the variant of RFC 9562.
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def created_at(kickoff_id: str) -> datetime | None:
    """When a UUIDv7 was made; `None` for any other id."""
    try:
        value = uuid.UUID(kickoff_id)
    except ValueError:
        return None
    if value.version != 7:
        return None
    return datetime.fromtimestamp((value.int >> 80) / 1000, timezone.utc)


def id_of_key(crew: str, idempotency_key: str) -> str:
    """The kickoff id that an idempotency key stands for. It is the same for the same crew and key, everywhere and always."""
    digest = hashlib.sha256(f"{crew}\0{idempotency_key}".encode()).hexdigest()
    return f"key-{digest[:40]}"


def id_of_step(parent: str, step: int) -> str:
    """The id of what follows a kickoff in a chain, as the step of this number. Workers make the same."""
    digest = hashlib.sha256(f"{parent}\0{step}".encode()).hexdigest()
    return f"step-{digest[:40]}"


def checked_id(kickoff_id: str) -> str:
    """The id, where it is one."""
    if not _KICKOFF_ID.fullmatch(kickoff_id):
        raise InvalidKickoff(f"kickoff_id {kickoff_id[:80]!r} is not allowed: it must be 1 to 128 characters of A-Z, a-z, 0-9, _ and -")
    return kickoff_id


def chosen_id(kickoff_id: str) -> str:
    """The id, where somebody may choose it: what follows a kickoff or a batch has ids of its own form."""
    if _MADE.fullmatch(checked_id(kickoff_id)):
        raise InvalidKickoff(f"kickoff_id {kickoff_id!r} is not allowed: what follows a kickoff or a batch has ids of this form")
    return kickoff_id


def checked_crew(name: str) -> str:
    """The crew's name, where it is one."""
    if not _CREW.fullmatch(name) or name == "unroutable":
        raise InvalidKickoff(f"crew {name[:80]!r} is not allowed: it must be 1 to 64 characters of a-z, 0-9, _ and -, and not unroutable")
    return name
