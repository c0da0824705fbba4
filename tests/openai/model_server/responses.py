"""Answers in the form of `/v1/responses`."""

from collections.abc import Iterator
from typing import Any

from .answers import Answer
from .call import Call, tokens
from .chat import CREATED, call_id
from .usage import responses_usage


def whole(call: Call, answer: Answer) -> dict[str, Any]:
    """One response."""
    cut = answer.finish == "length"
    return {
        **_head(call, "incomplete" if cut else "completed"),
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [*_items(call, answer)],
        "usage": responses_usage(call, answer),
    }


def pieces(call: Call, answer: Answer) -> Iterator[dict[str, Any]]:
    """The events of a stream, in their order."""
    for number, event in enumerate(_events(call, answer)):
        yield {**event, "sequence_number": number}


def _events(call: Call, answer: Answer) -> Iterator[dict[str, Any]]:
    begun = {**_head(call, "in_progress"), "incomplete_details": None, "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(_items(call, answer)):
        at = {"item_id": item["id"], "output_index": index}
        if item["type"] == "message":
            yield from _message_events(item, at)
        else:
            yield from _call_events(item, at)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    done = whole(call, answer)
    yield {"type": f"response.{done['status']}", "response": done}


def _message_events(item: dict[str, Any], at: dict[str, Any]) -> Iterator[dict[str, Any]]:
    part = item["content"][0]
    empty = {**item, "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "output_index": at["output_index"], "item": empty}
    at = {**at, "content_index": 0}
    yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
    for piece in tokens(part["text"]):
        yield {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []}
    yield {"type": "response.content_part.done", **at, "part": part}


def _call_events(item: dict[str, Any], at: dict[str, Any]) -> Iterator[dict[str, Any]]:
    empty = {**item, "status": "in_progress", "arguments": ""}
    yield {"type": "response.output_item.added", "output_index": at["output_index"], "item": empty}
    for piece in tokens(item["arguments"]):
        yield {"type": "response.function_call_arguments.delta", **at, "delta": piece}
    yield {"type": "response.function_call_arguments.done", **at, "name": item["name"], "arguments": item["arguments"]}


def _items(call: Call, answer: Answer) -> Iterator[dict[str, Any]]:
    for index, (name, arguments) in enumerate(answer.calls):
        item_id = f"fc_{call.digest}{index:02d}"
        yield {
            "id": item_id,
            "type": "function_call",
            "status": "completed",
            "call_id": call_id(call, index),
            "name": name,
            "arguments": arguments,
        }
    if not answer.calls:
        part = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        item_id = f"msg_{call.digest}"
        yield {"id": item_id, "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def _head(call: Call, status: str) -> dict[str, Any]:
    return {
        "id": f"resp_{call.digest}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "model": call.model,
        "error": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": call.parallel,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
    }
