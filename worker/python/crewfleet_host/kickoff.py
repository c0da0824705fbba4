"""One kickoff in a child: a crew of its own, its inputs, its events, its end, and nothing left over."""

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from . import errors, event_bus, human_input, input_files, process, result
from .cancel import Cancel
from .events import forwarded
from .frames import Channel
from .inputs import CrewInputs, require_usable, with_defaults
from .names import Names
from .settings import Settings
from .target import Target
from .usage import Usage
from .webhooks import Told
from .workdir import WorkDir


def run_kickoff(frame: dict[str, Any], target: Target, place: WorkDir, settings: Settings, channel: Channel, cancel: Cancel) -> dict[str, Any]:
    """Runs the kickoff of `frame` in `place`, within the memory of `settings`; returns the frame "result" or "error". Raises
    nothing that a crew can cause. The process stays in `place`, and what the kickoff started goes on: see ending.py."""
    usage, names = Usage(), Names()
    try:
        process.limit_data(settings.rlimit_data_bytes)
        with place:
            run = contextvars.copy_context().run
            crew, output, inputs = run(_build_and_run, frame, target, settings, channel, cancel, usage, names)
            usage.fall_back(output)
            described = {**result.describe(crew, output, inputs, usage.totals()), **place.files()}
            answer: dict[str, Any] = {"type": "result", "result": described, "files_dir": place.files_dir()}
    except BaseException as error:  # also SystemExit: only this kickoff ends
        process.limit_data(None)  # or there is no memory to say so
        described = errors.describe(error, cancel.caused(error), names.without_prompts)
        answer = {"type": "error", "error": described, "usage": usage.totals() if usage.any() else None}
    process.limit_data(None)
    process.flush_stdio()
    answer["tokens_by_model"] = usage.by_model()
    answer["warnings"] = place.warnings
    return answer


def _build_and_run(
    frame: dict[str, Any], target: Target, settings: Settings, channel: Channel, cancel: Cancel, usage: Usage, names: Names
) -> tuple[Any, Any, dict[str, Any]]:
    """Returns the crew that was built, what its kickoff gave, and the inputs."""
    cancel.check()
    human_input.begin()
    given = frame.get("inputs") or {}
    require_usable(given)
    inputs = with_defaults(target, given)
    crew = target.build(inputs)
    followed = CrewInputs(crew, inputs, lenient=settings.inputs == "lenient")
    human_input.refuse_tasks(crew)
    usage.watch(crew)
    kinds = frame.get("webhooks")
    told = Told(channel, kinds, names) if kinds else None
    with forwarded(frame["kickoff_id"], channel, usage, "traceparent" in frame, names, told), cancel.at_hook_points():
        try:
            output = _kick_off(crew, inputs)
        except BaseException as error:
            if cancel.caused(error):
                raise
            # A thread or a stream that lost its result says only that.
            human_input.check_swallowed()
            lost = followed.lost_result()
            if lost is not None:
                raise lost from error
            raise
        finally:
            _finish_events()
    human_input.refuse_pending(output)
    lost = followed.lost_result()
    if output is None and lost is not None:
        raise lost
    return crew, output, inputs


def _kick_off(crew: Any, inputs: dict[str, Any]) -> Any:
    """Calls kickoff, or kickoff_async where that is all there is, and waits for the whole output."""
    method = getattr(crew, "kickoff", None)
    method = method if callable(method) else crew.kickoff_async
    inputs, files = input_files.split(inputs)
    output = _with_inputs(method, inputs, input_files.for_crewai(files, method))
    if inspect.isawaitable(output):
        return asyncio.run(_whole_async(output))
    return _whole(output)


def _with_inputs(method: Callable[..., Any], inputs: dict[str, Any], files: dict[str, Any]) -> Any:
    if files:
        return method(inputs=inputs, input_files=files)
    try:
        parameters = inspect.signature(method).parameters
    except (TypeError, ValueError):  # a builtin
        return method(inputs)
    if "inputs" in parameters or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return method(inputs=inputs)
    return method(inputs)


def _whole(output: Any) -> Any:
    """The result of a streaming output, which has one only when it has been read to its end."""
    if not _streams(output):
        return output
    for _ in output:
        continue
    return output.result


async def _whole_async(awaitable: Awaitable[Any]) -> Any:
    output = await awaitable
    if not _streams(output):
        return output
    async for _ in output:
        continue
    return output.result


def _streams(output: Any) -> bool:
    return hasattr(type(output), "result") and hasattr(type(output), "is_completed")


def _finish_events() -> None:
    """Lets CrewAI's own listeners, which run in threads, finish with this kickoff's events."""
    bus = event_bus.bus()
    if hasattr(bus, "flush"):
        bus.flush(timeout=5.0)
