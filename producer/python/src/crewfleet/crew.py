"""A crew, or a flow, of the fleet, with CrewAI's own signatures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .errors import InvalidKickoff
from .kickoff import Kickoff
from .output import CrewOutput, Model, output_of, value_of
from .request import Options

if TYPE_CHECKING:
    from .chain import Step
    from .reply import Reply
    from .session import Session
    from .webhooks import Webhooks

T = TypeVar("T")
R = TypeVar("R", bound="_Remote[Any]")


class _Remote(Generic[T]):
    """What is kicked off by its name."""

    def __init__(self, session: Session, name: str, output: Callable[[Reply], T], options: Options) -> None:
        self._session = session
        self._output = output
        self._options = options
        #: Its name: the one of the section `[crews.<name>]` of its workers.
        self.name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def with_options(
        self: R,
        *,
        timeout_s: float | None = None,
        deadline: datetime | None = None,
        meta: Any = None,
        priority: int | None = None,
        kickoff_id: str | None = None,
        idempotency_key: str | None = None,
        cancel_on_abandon: bool | None = None,
        webhooks: Webhooks | None = None,
        then: Sequence[Step] | None = None,
    ) -> R:
        """The same, whose kickoffs have these options, and those of before (see `Options`)."""
        given = {name: value for name, value in locals().items() if name != "self" and value is not None}
        return type(self)(self._session, self.name, self._output, replace(self._options, **given))

    def start(self, inputs: Mapping[str, Any] | None = None, input_files: Mapping[str, Any] | None = None, *, events: bool = False) -> Kickoff[T]:
        """Starts a kickoff, and returns at once: `await` it, or call `result()`. With `events`, `Kickoff.events` has them from the
        first one on.

        Raises `InvalidKickoff`; whatever else keeps it from being sent is raised where it is awaited."""
        return self._session.start(self.name, inputs, input_files, self._options, self._output, events=events)

    def _one(self, inputs: Mapping[str, Any] | None, input_files: Mapping[str, Any] | None, **refused: Any) -> Kickoff[T]:
        for name, value in refused.items():
            if value is not None:
                raise InvalidKickoff(f"{name} means a state that CrewAI has kept on this machine, and a worker does not see it: leave {name} out")
        return self.start(inputs, input_files)


class RemoteCrew(_Remote[T]):
    """A crew that the fleet runs: what `Fleet.crew` gives in place of a crew of CrewAI's."""

    def kickoff(self, inputs: Mapping[str, Any] | None = None, input_files: Mapping[str, Any] | None = None, from_checkpoint: None = None) -> T:
        """Runs it, and blocks until its output is here. `from_checkpoint` is CrewAI's; a fleet has none, and refuses it.

        Raises `KickoffError`, by how it ended; `NoSuchCrew`, `BrokerUnavailable`, `InvalidKickoff`, `OtherKickoff`."""
        return self._one(inputs, input_files, from_checkpoint=from_checkpoint).result()

    async def kickoff_async(self, inputs: Mapping[str, Any] | None = None, input_files: Mapping[str, Any] | None = None, from_checkpoint: None = None) -> T:
        """Runs it, and awaits its output. Raises as `kickoff`."""
        return await self._one(inputs, input_files, from_checkpoint=from_checkpoint)

    #: Here both are the same.
    akickoff = kickoff_async

    def kickoff_for_each(self, inputs: Iterable[Mapping[str, Any]], input_files: Mapping[str, Any] | None = None) -> list[T]:
        """Runs it for each of the inputs, as many at once as the fleet has room for, and blocks until all outputs are here.

        The first kickoff, in the order of the inputs, that did not succeed is raised; all others have run by then."""
        kickoffs = [self.start(one, input_files) for one in inputs]
        outputs: list[T] = []
        failures: list[Exception] = []
        for number, kickoff in enumerate(kickoffs):
            try:
                outputs.append(kickoff.result())
            except Exception as error:
                failures.append(error)
            except KeyboardInterrupt:
                # `result` has abandoned that one.
                for later in kickoffs[number + 1 :]:
                    later.abandon()
                raise
        if failures:
            raise failures[0]
        return outputs

    async def kickoff_for_each_async(self, inputs: Iterable[Mapping[str, Any]], input_files: Mapping[str, Any] | None = None) -> list[T]:
        """As `kickoff_for_each`, awaited."""
        kickoffs = [self.start(one, input_files) for one in inputs]
        outputs = await asyncio.gather(*kickoffs, return_exceptions=True)
        return [_or_raise(output) for output in outputs]

    #: Here both are the same.
    akickoff_for_each = kickoff_for_each_async


class RemoteFlow(_Remote[Any]):
    """A flow, or any other target, that the fleet runs: it gives what the flow returned, as JSON has it."""

    def kickoff(
        self,
        inputs: Mapping[str, Any] | None = None,
        input_files: Mapping[str, Any] | None = None,
        from_checkpoint: None = None,
        restore_from_state_id: None = None,
    ) -> Any:
        """Runs it, and blocks until its output is here. `from_checkpoint` and `restore_from_state_id` are CrewAI's; a fleet has neither,
        and refuses them.

        Raises `KickoffError`, by how it ended; `NoSuchCrew`, `BrokerUnavailable`, `InvalidKickoff`, `OtherKickoff`."""
        return self._one(inputs, input_files, from_checkpoint=from_checkpoint, restore_from_state_id=restore_from_state_id).result()

    async def kickoff_async(
        self,
        inputs: Mapping[str, Any] | None = None,
        input_files: Mapping[str, Any] | None = None,
        from_checkpoint: None = None,
        restore_from_state_id: None = None,
    ) -> Any:
        """Runs it, and awaits its output. Raises as `kickoff`."""
        return await self._one(inputs, input_files, from_checkpoint=from_checkpoint, restore_from_state_id=restore_from_state_id)

    #: Here both are the same.
    akickoff = kickoff_async


def crew(session: Session, name: str, options: Options, model: Model | None) -> RemoteCrew[CrewOutput]:
    """A crew of this name."""
    return RemoteCrew(session, name, lambda reply: output_of(reply, model), options)


def flow(session: Session, name: str, options: Options, model: Model | None) -> RemoteFlow:
    """A flow of this name."""
    return RemoteFlow(session, name, lambda reply: value_of(reply, model), options)


def _or_raise(output: T | BaseException) -> T:
    if isinstance(output, BaseException):
        raise output
    return output
