"""The fleet, as a program uses it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from . import settings as read
from .client import BrokerClient
from .crew import RemoteCrew, RemoteFlow, crew, flow
from .ids import checked_crew, checked_id
from .kickoff import Kickoff
from .output import CrewOutput, Model, value_of
from .request import Options
from .session import Session

if TYPE_CHECKING:
    from .testing import TestingFleet

T = TypeVar("T")


class Fleet:
    """Workers that run crews, behind a RabbitMQ. It connects with the first kickoff.

        fleet = Fleet("amqp://…")
        crew_instance = fleet.crew("marketing")
        result = await crew_instance.kickoff_async(inputs={"PRODUCT_DESCRIPTION": "a lamp"})

    One fleet serves any number of kickoffs at once, over one connection and one reply queue, from any thread and event loop. Close
    it, or use it as a context manager; without that RabbitMQ deletes its reply queue after an hour.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        config: str | os.PathLike[str] | None = None,
        namespace: str | None = None,
        client_name: str | None = None,
        ca_file: str | None = None,
        client_cert_file: str | None = None,
        client_key_file: str | None = None,
        client_id: str | None = None,
        publish_timeout_s: float = 30.0,
    ) -> None:
        """Where its RabbitMQ is: `url`, else `CREWFLEET__BROKER__URL`, else `crewfleet.toml` (or `config`), as the programs have it.
        The other settings are those of the section `[broker]`.

        `client_id` names its reply queue: a program that comes back within an hour under the same id has the replies that came
        meanwhile. `publish_timeout_s` is how long a kickoff is sent again while RabbitMQ is away or refuses it.

        Raises `SettingsError`, a ValueError."""
        settings = read.load(
            url,
            config,
            namespace=namespace,
            client_name=client_name,
            ca_file=ca_file,
            client_cert_file=client_cert_file,
            client_key_file=client_key_file,
        )
        self._session = Session(lambda: BrokerClient(settings, publish_timeout_s, client_id), settings.max_request_bytes)

    def crew(self, name: str, *, output_pydantic: Model | None = None, options: Options | None = None) -> RemoteCrew[CrewOutput]:
        """The crew of this name, in place of a crew of CrewAI's: `kickoff`, `kickoff_async`, `akickoff`, `kickoff_for_each`, ….

        `output_pydantic` is the last task's: with it the output's `pydantic` is an object of that class."""
        return crew(self._session, checked_crew(name), options or Options(), output_pydantic)

    def flow(self, name: str, *, output_pydantic: Model | None = None, options: Options | None = None) -> RemoteFlow:
        """The flow of this name: its kickoffs give what the flow returns, as JSON has it."""
        return flow(self._session, checked_crew(name), options or Options(), output_pydantic)

    def attach(self, kickoff_id: str, *, output_pydantic: Model | None = None) -> Kickoff[Any]:
        """Waits for a kickoff that another program sent, or this one in another life; also where its reply has come already, as
        long as the results stream keeps it (a day by default)."""
        return self._session.attach(checked_id(kickoff_id), lambda reply: value_of(reply, output_pydantic))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine to its end, and blocks: `fleet.run(kickoff.cancel())`, where there is no event loop."""
        return self._session.background.wait(work)

    @staticmethod
    def testing(crews: Mapping[str, Any]) -> TestingFleet:
        """A fleet for tests, which runs these crews in this process, without a broker (see `crewfleet.testing`)."""
        from .testing import TestingFleet

        return TestingFleet(crews)

    def close(self) -> None:
        """Deletes its reply queue, unless it has a `client_id`, and disconnects. Kickoffs that run go on; their replies are to be had
        by `attach`."""
        self._session.close()

    async def aclose(self) -> None:
        """As `close`, awaited."""
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Fleet:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.aclose()
