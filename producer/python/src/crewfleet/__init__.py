"""crewfleet: run CrewAI crews on a fleet of workers behind RabbitMQ, and await them as if they ran here.

    from crewfleet import Fleet

    crew_instance = Fleet("amqp://…").crew("marketing")
    result = await crew_instance.kickoff_async(inputs={"PRODUCT_DESCRIPTION": "a lamp"})

| module | what it holds |
|---|---|
| `fleet` | `Fleet`: where the workers are |
| `crew`, `request` | `RemoteCrew`, `RemoteFlow`: CrewAI's own methods; `Options` of a kickoff |
| `chain` | `Step`: what is to follow a kickoff |
| `kickoff` | `Kickoff`: one that was started; await it, follow it, cancel it |
| `output`, `reply` | what a kickoff gives, in CrewAI's shape, and the reply that carried it |
| `errors` | why one did not |
| `testing`, `pytest_plugin` | kickoffs in the process of a test, without a broker |
| `settings` | `crewfleet.toml` and `CREWFLEET__BROKER__…` |
| `session`, `background` | what the kickoffs of a fleet share: an event loop of its own, in a thread |
| `client` | what that loop does over RabbitMQ; `broker`, `replies`, `events`, `following`, `stream`, `workers` are its parts |
"""

from .chain import Step
from .client import KickoffStatus
from .crew import RemoteCrew, RemoteFlow
from .errors import (
    BrokerUnavailable,
    CrewCancelled,
    CrewFailed,
    CrewTimedOut,
    FleetClosed,
    FleetError,
    InvalidKickoff,
    KickoffError,
    KickoffExpired,
    KickoffRejected,
    NoSuchCrew,
    OtherKickoff,
    ReplyTimeout,
    UnreadableReply,
)
from .fleet import Fleet
from .kickoff import Kickoff
from .output import CrewOutput, TaskOutput, UsageMetrics
from .reply import Event, Reply, ReplyError
from .request import Options
from .settings import SettingsError
from .webhooks import Webhooks

__all__ = [
    "BrokerUnavailable",
    "CrewCancelled",
    "CrewFailed",
    "CrewOutput",
    "CrewTimedOut",
    "Event",
    "Fleet",
    "FleetClosed",
    "FleetError",
    "InvalidKickoff",
    "Kickoff",
    "KickoffError",
    "KickoffExpired",
    "KickoffRejected",
    "KickoffStatus",
    "NoSuchCrew",
    "Options",
    "OtherKickoff",
    "RemoteCrew",
    "RemoteFlow",
    "Reply",
    "ReplyError",
    "ReplyTimeout",
    "SettingsError",
    "Step",
    "TaskOutput",
    "UnreadableReply",
    "UsageMetrics",
    "Webhooks",
]
