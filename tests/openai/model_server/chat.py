"""Answers in the form of `/v1/chat/completions`."""

from collections.abc import Iterator
from typing import Any

from .answers import Answer
from .call import Call, tokens
from .usage import chat_usage

# Not the time: the same call has the same answer.
CREATED = 1_735_787_045


def whole(call: Call, answer: Answer) -> dict[str, Any]:
    """One completion."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None}
    if answer.calls:
        message["tool_calls"] = [
            {"id": call_id(call, index), "type": "function", "function": {"name": name, "arguments": arguments}}
            for index, (name, arguments) in enumerate(answer.calls)
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish}
    return {**_head(call, "chat.completion"), "choices": [choice], "usage": chat_usage(call, answer)}


def pieces(call: Call, answer: Answer) -> Iterator[dict[str, Any]]:
    """The chunks of a stream, in their order."""
    yield _chunk(call, {"role": "assistant", "content": "" if not answer.calls else None})
    for piece in tokens(answer.text):
        yield _chunk(call, {"content": piece})
    for index, (name, arguments) in enumerate(answer.calls):
        opening = {"index": index, "id": call_id(call, index), "type": "function", "function": {"name": name, "arguments": ""}}
        yield _chunk(call, {"tool_calls": [opening]})
        for piece in tokens(arguments):
            yield _chunk(call, {"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield _chunk(call, {}, answer.finish)
    if call.stream_usage:
        yield {**_head(call, "chat.completion.chunk"), "choices": [], "usage": chat_usage(call, answer)}


def call_id(call: Call, index: int) -> str:
    """The id of a tool call: the same one for the same call."""
    return f"call_{call.digest}{index:02d}"


def _chunk(call: Call, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {**_head(call, "chat.completion.chunk"), "choices": [choice], "usage": None}


def _head(call: Call, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{call.digest}", "object": kind, "created": CREATED, "model": call.model}
