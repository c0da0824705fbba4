"""What CrewAI's own models do at a call: events and counters, in whichever CrewAI this is. For models that need no network."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from crewai.events.event_bus import crewai_event_bus
from crewai.events.types.llm_events import LLMCallCompletedEvent, LLMCallStartedEvent, LLMCallType
from crewai.llms import base_llm

# Else the models and agents count.
EVENTS_HAVE_USAGE = "usage" in LLMCallCompletedEvent.model_fields
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


@contextmanager
def call_context() -> Iterator[None]:
    """One call: its events have one id, where they have any."""
    context = getattr(base_llm, "llm_call_context", nullcontext)
    with context():
        yield


def call_started(model, messages, from_task, from_agent) -> None:
    """Emits llm_call_started."""
    if hasattr(model, "_emit_call_started_event"):
        model._emit_call_started_event(messages=messages, from_task=from_task, from_agent=from_agent)
    else:
        _emit(model, LLMCallStartedEvent, messages=messages, from_task=from_task, from_agent=from_agent)


def call_completed(model, answer, from_task, from_agent, callbacks=None, usage=USAGE) -> None:
    """Emits llm_call_completed, with its usage where events have that."""
    fields = {"response": answer, "call_type": LLMCallType.LLM_CALL, "from_task": from_task, "from_agent": from_agent}
    if EVENTS_HAVE_USAGE:
        fields["usage"] = usage
    elif usage is None:
        pass
    elif hasattr(model, "_track_token_usage_internal"):
        model._track_token_usage_internal(usage)
    else:  # as litellm does with what an agent gives to its model
        for counter in (callback.token_cost_process for callback in callbacks or ()):
            counter.sum_prompt_tokens(usage["prompt_tokens"])
            counter.sum_completion_tokens(usage["completion_tokens"])
            counter.sum_successful_requests(1)
    if hasattr(model, "_emit_call_completed_event"):
        model._emit_call_completed_event(**fields)
    else:
        _emit(model, LLMCallCompletedEvent, messages=[], **fields)


def _emit(model, kind, **fields) -> None:
    crewai_event_bus.emit(model, event=kind(model=model.model, **fields))
