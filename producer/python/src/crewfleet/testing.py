"""Kickoffs in the process of a test, without a broker.

    async with Fleet.testing(crews={"marketing": MarketingCrew}) as fleet:
        output = await fleet.crew("marketing").kickoff_async(inputs={"TOPIC": "lamps"})
    assert fleet.requests[0].inputs == {"TOPIC": "lamps"}

A crew is what a worker's `target` may name: a crew, a flow, a class that makes one (`@CrewBase` among them), or a function, which
gets the inputs and may return a text, anything that JSON can hold, or a crew or flow to be kicked off. What the code under test
gets went through a reply, as from a fleet: what JSON cannot hold is told here already.

With pytest, the fixture `crewfleet_testing` makes such fleets and closes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import json
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any

from .client import KickoffStatus
from .errors import NoSuchCrew
from .events import Follower
from .fleet import Fleet
from .header import FINISHED
from .replies import Waiter, Waiting
from .reply import Event
from .request import Options, Request
from .session import Session
from .settings import Settings

_WORKER = "testing"


@dataclass(frozen=True)
class SentRequest:
    """A kickoff that the code under test started."""

    kickoff_id: str
    crew: str
    inputs: dict[str, Any]
    options: Options


class TestingFleet(Fleet):
    """A fleet whose crews run in this process."""

    #: No class of tests.
    __test__ = False

    def __init__(self, crews: Mapping[str, Any]) -> None:
        """With these crews, by name."""
        self._in_process = _InProcess(crews)
        self._session = Session(lambda: self._in_process, Settings().max_request_bytes)

    @property
    def requests(self) -> list[SentRequest]:
        """The kickoffs so far, in the order in which they were started."""
        return list(self._in_process.requests)

    async def __aenter__(self) -> TestingFleet:
        return self

    def __enter__(self) -> TestingFleet:
        return self


class _InProcess:
    """The transport that is none."""

    def __init__(self, crews: Mapping[str, Any]) -> None:
        self.requests: list[SentRequest] = []
        self._crews = dict(crews)
        self._waiting = Waiting()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._cancelled: dict[str, asyncio.Event] = {}
        self._replies: dict[str, bytes] = {}
        self._followers: dict[str, list[Follower]] = {}

    def wait(self, kickoff_id: str) -> Waiter:
        return self._waiting.wait(kickoff_id)

    async def send(self, request: Request, follow: bool) -> Follower | None:
        if request.crew not in self._crews:
            raise NoSuchCrew(f"no crew is named {request.crew!r}: this testing fleet has {', '.join(sorted(self._crews)) or 'none'}", request.crew)
        follower = await self.follow(request.kickoff_id) if follow else None
        # As by an idempotency key: one that is known is not run again.
        if request.kickoff_id not in self._running:
            self.requests.append(SentRequest(request.kickoff_id, request.crew, request.inputs, request.options))
            cancelled = self._cancelled.setdefault(request.kickoff_id, asyncio.Event())
            self._running[request.kickoff_id] = asyncio.ensure_future(self._run(request, cancelled))
        elif request.kickoff_id in self._replies:
            self._waiting.put(request.kickoff_id, self._replies[request.kickoff_id])
        return follower

    async def attach(self, waiter: Waiter, since: datetime | None = None) -> None:
        if waiter.kickoff_id in self._replies:
            waiter.put(self._replies[waiter.kickoff_id])
        await waiter.reply()

    async def follow(self, kickoff_id: str) -> Follower:
        follower = Follower(kickoff_id)
        self._followers.setdefault(kickoff_id, []).append(follower)
        if kickoff_id in self._replies:
            follower.end()
        return follower

    async def unfollow(self, follower: Follower) -> None:
        followers = self._followers.get(follower.kickoff_id, [])
        if follower in followers:
            followers.remove(follower)

    async def cancel(self, kickoff_id: str, own: bool) -> None:
        # The command may come before its kickoff.
        self._cancelled.setdefault(kickoff_id, asyncio.Event()).set()

    async def status(self, kickoff_id: str, waiter: Waiter) -> KickoffStatus:
        if kickoff_id in self._replies:
            waiter.put(self._replies[kickoff_id])
        if waiter.best is not None:
            return KickoffStatus(kickoff_id, "ended", _WORKER, 1, waiter.best)
        if kickoff_id in self._running:
            return KickoffStatus(kickoff_id, "running", _WORKER, 1, None)
        return KickoffStatus(kickoff_id, "unseen", None, None, None)

    async def close(self) -> None:
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _run(self, request: Request, cancelled: asyncio.Event) -> None:
        began = datetime.now(timezone.utc)
        self._tell(request, 1, "kickoff_started", {"worker": _WORKER})
        ended = await _ended(self._crews[request.crew], request, cancelled)
        reply = {
            "kickoff_id": request.kickoff_id,
            "crew": request.crew,
            "result": None,
            "error": None,
            "attempt": 1,
            "redrive": 0,
            "worker": _WORKER,
            "requested_at": began.isoformat(),
            "started_at": began.isoformat(),
            "finished_at": datetime.now(timezone.utc).isoformat(),
            "meta": request.options.meta,
            "executions": 1,
            "body_hash": request.body_hash,
            **ended,
        }
        if request.options.then:
            problem = "a testing fleet runs no steps of chains; its `requests` have them"
            reply["chain"] = {"id": request.kickoff_id, "parent": None, "step": 0, "next": None, "left_out": 0, "problem": problem}
        body = json.dumps(reply).encode()
        self._replies[request.kickoff_id] = body
        self._waiting.put(request.kickoff_id, body)
        self._tell(request, 2, FINISHED, {"status": reply["status"]})

    def _tell(self, request: Request, sequence: int, kind: str, data: dict[str, Any]) -> None:
        now = datetime.now(timezone.utc)
        for follower in self._followers.get(request.kickoff_id, ()):
            follower.put(Event(request.kickoff_id, request.crew, kind, data, 1, 0, sequence, now, request.options.meta))


async def _ended(target: Any, request: Request, cancelled: asyncio.Event) -> dict[str, Any]:
    """How it ended: the status, and the result or the error."""
    if cancelled.is_set():
        return _cancelled()
    limit, deadline = request.options.timeout_s, request.options.deadline
    if deadline is not None and deadline <= datetime.now(timezone.utc):
        return _without_result("expired", "expired", "its deadline had passed before it started")
    kicked_off = asyncio.ensure_future(_kicked_off(target, dict(request.inputs)))
    stop = asyncio.ensure_future(cancelled.wait())
    try:
        # A crew may raise a timeout of its own: that is none of ours.
        await asyncio.wait((kicked_off, stop), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if stop.done() and not kicked_off.done():
            return _cancelled()
        if not kicked_off.done():
            return _without_result("timed_out", "timed_out", f"it ran for more than {limit} s")
        return {"status": "succeeded", "result": _result(kicked_off.result())}
    except asyncio.CancelledError:
        return _cancelled()
    except Exception as error:
        detail = {"class": type(error).__qualname__, "traceback": "".join(traceback.format_exception(type(error), error, error.__traceback__))}
        return _without_result("failed", "exception", f"{type(error).__name__}: {error}", detail)
    finally:
        kicked_off.cancel()
        stop.cancel()


def _cancelled() -> dict[str, Any]:
    return _without_result("cancelled", "cancelled", "it was cancelled")


def _without_result(status: str, kind: str, message: str, detail: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"status": status, "error": {"kind": kind, "message": message, "retryable": False, "detail": detail}}


async def _kicked_off(target: Any, inputs: dict[str, Any]) -> Any:
    try:
        return await _called(target, inputs)
    except (SystemExit, KeyboardInterrupt) as error:
        # It would end the fleet's own event loop. On a worker it ends the crew's process.
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


async def _called(target: Any, inputs: dict[str, Any]) -> Any:
    runs: Any = target
    if inspect.isclass(runs):
        runs = await _aside(runs)
        # @CrewBase: the method that is its crew.
        runs = await _aside(runs.crew) if not hasattr(runs, "kickoff") and hasattr(runs, "crew") else runs
    elif not hasattr(runs, "kickoff") and callable(runs):
        given = (inputs,) if inspect.signature(runs).parameters else ()
        returned = await runs(*given) if inspect.iscoroutinefunction(runs) else await _aside(partial(runs, *given))
        returned = await returned if inspect.isawaitable(returned) else returned
        if not hasattr(returned, "kickoff"):
            return returned
        runs = returned
    elif hasattr(runs, "copy"):
        # Kickoffs of one crew at once would share its state.
        runs = runs.copy()
    if hasattr(runs, "kickoff_async"):
        return await runs.kickoff_async(inputs=inputs)
    return await _aside(partial(runs.kickoff, inputs=inputs))


async def _aside(call: Callable[[], Any]) -> Any:
    """Calls it in a thread of its own: what blocks there blocks no other kickoff, however many there are."""
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    done: asyncio.Future[Any] = loop.create_future()

    def tell(value: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(value)
        else:
            done.set_exception(error)

    def run() -> None:
        value, failure = None, None
        try:
            value = context.run(call)
        except Exception as error:
            # A future takes no StopIteration.
            failure = RuntimeError(f"StopIteration: {error}") if isinstance(error, StopIteration) else error
        except BaseException as error:
            failure = RuntimeError(f"{type(error).__name__}: {error}")
        # The fleet may have been closed meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, value, failure)

    threading.Thread(target=run, name="crewfleet-testing", daemon=True).start()
    return await done


def _result(output: Any) -> dict[str, Any]:
    """The result as a worker sends it (`KickoffResult` of the reply's schema)."""
    if hasattr(output, "raw") and hasattr(output, "tasks_output"):
        usage = getattr(output, "token_usage", None)
        tasks = [_task(number, task) for number, task in enumerate(output.tasks_output, 1)]
        return {
            "kind": "crew",
            "raw": output.raw,
            "json": _structured(output),
            "tasks": tasks,
            "usage": usage.model_dump() if usage is not None else None,
        }
    if output is None or isinstance(output, str):
        return {"kind": "value", "raw": output or "", "json": None, "tasks": []}
    value = _structured(output) if hasattr(output, "model_dump") else output
    return {"kind": "value", "raw": json.dumps(value, ensure_ascii=False), "json": value, "tasks": []}


def _task(number: int, task: Any) -> dict[str, Any]:
    form = getattr(task, "output_format", None)
    return {
        "name": task.name or f"task_{number}",
        "agent": task.agent,
        "description": task.description,
        "expected_output": getattr(task, "expected_output", None),
        "output_format": getattr(form, "value", form) or "raw",
        "raw": task.raw,
        "json": _structured(task),
    }


def _structured(output: Any) -> Any:
    model = getattr(output, "pydantic", None)
    if model is None and not hasattr(output, "json_dict"):
        model = output
    return model.model_dump(mode="json") if model is not None else output.json_dict
