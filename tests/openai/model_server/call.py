"""A model call, as both endpoints (chat completions, responses) understand it."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

# What differs from one run to the next, without another meaning: it must change neither a digest nor an answer.
_VOLATILE = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?"
    r"|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|\b[0-9a-f]{32}\b"
    r"|\b0x[0-9a-f]{6,16}\b"
)


class BadRequest(ValueError):
    """The request isn't one that OpenAI takes. `param` names the field, `code` is OpenAI's word for the fault."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


@dataclass(frozen=True)
class Message:
    """One message of a conversation: a role (system, user, assistant, tool) and its text. `calls` has the names and the
    arguments of the tools that an assistant called."""

    role: str
    text: str
    calls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Tool:
    """A function that the client offers. `parameters` is a JSON schema."""

    name: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A model call. `tool_choice` is "none", "auto", "required" or the name of the one tool to call; `schema` is what the
    answer must fit, `json_object` asks for any JSON object; `max_tokens` is None where the client sets no limit."""

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    tool_choice: str
    parallel: bool
    schema: dict[str, Any] | None
    json_object: bool
    max_tokens: int | None
    stop: tuple[str, ...]
    stream: bool
    stream_usage: bool

    @property
    def text(self) -> str:
        """All that was said, message by message."""
        return "\n".join(message.text for message in self.messages)

    @property
    def tool_results(self) -> int:
        """How many tools have answered in this conversation, also where the client puts that into the model's mouth."""
        said = sum(message.text.count("\nObservation:") for message in self.messages if message.role == "assistant")
        return said + sum(message.role == "tool" for message in self.messages)

    @property
    def digest(self) -> str:
        """12 hexadecimal digits that are the same for the same call, whatever the time and the ids in it."""
        said = [[message.role, message.text, message.calls] for message in self.messages]
        tools = [tool.name for tool in self.tools]
        whole = json.dumps([self.model, said, tools, self.tool_choice, self.schema, self.json_object], sort_keys=True)
        return hashlib.sha256(steady(whole).encode()).hexdigest()[:12]


def steady(text: str) -> str:
    """The text with a dash for each time, each id and each address of an object in memory."""
    return _VOLATILE.sub("-", text)


def count_tokens(text: str) -> int:
    """Words and signs: near enough to a tokenizer, and the same everywhere."""
    return len(tokens(text))


def tokens(text: str) -> list[str]:
    """The text in the pieces that a stream sends; joined they are the text again."""
    return re.findall(r"\s*(?:\w+|[^\w\s])|\s+$", text)


def read_chat(body: dict[str, Any]) -> Call:
    """Reads a request to `/v1/chat/completions`; raises BadRequest."""
    said = body.get("messages")
    if not isinstance(said, list) or not said:
        raise BadRequest("messages must be a list of at least one message", "messages")
    shape = body.get("response_format") or {}
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return Call(
        model=_model(body),
        messages=tuple(_chat_message(message) for message in said),
        tools=tuple(_tool(tool.get("function")) for tool in body.get("tools") or () if tool.get("type") == "function"),
        tool_choice=_tool_choice(body, lambda choice: (choice.get("function") or {}).get("name")),
        parallel=body.get("parallel_tool_calls") is not False,
        schema=(shape.get("json_schema") or {}).get("schema") if shape.get("type") == "json_schema" else None,
        json_object=shape.get("type") == "json_object",
        max_tokens=limit,
        stop=_stop(body.get("stop")),
        stream=bool(body.get("stream")),
        stream_usage=bool((body.get("stream_options") or {}).get("include_usage")),
    )


def read_responses(body: dict[str, Any]) -> Call:
    """Reads a request to `/v1/responses`; raises BadRequest."""
    given = body.get("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise BadRequest("input must be a text or a list of at least one item", "input")
    messages = [_response_item(item) for item in given]
    if body.get("instructions"):
        messages.insert(0, Message("system", _text(body["instructions"])))
    shape = (body.get("text") or {}).get("format") or {}
    return Call(
        model=_model(body),
        messages=tuple(messages),
        tools=tuple(_tool(tool) for tool in body.get("tools") or () if tool.get("type") == "function"),
        tool_choice=_tool_choice(body, lambda choice: choice.get("name")),
        parallel=body.get("parallel_tool_calls") is not False,
        schema=shape.get("schema") if shape.get("type") == "json_schema" else None,
        json_object=shape.get("type") == "json_object",
        max_tokens=body.get("max_output_tokens"),
        stop=(),
        stream=bool(body.get("stream")),
        stream_usage=True,
    )


def _model(body: dict[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("you must provide a model parameter", "model")
    return model


def _tool_choice(body: dict[str, Any], name: Any) -> str:
    choice = body.get("tool_choice") or "auto"
    if isinstance(choice, str):
        return choice
    named = name(choice)
    if not isinstance(named, str):
        raise BadRequest("tool_choice names no function", "tool_choice")
    return named


def _stop(stop: Any) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def _tool(function: Any) -> Tool:
    if not isinstance(function, dict) or not function.get("name"):
        raise BadRequest("a tool has no name", "tools")
    return Tool(function["name"], function.get("parameters") or {"type": "object", "properties": {}})


def _chat_message(message: Any) -> Message:
    if not isinstance(message, dict) or "role" not in message:
        raise BadRequest("a message has no role", "messages")
    made = [call.get("function") or {} for call in message.get("tool_calls") or ()]
    calls = tuple((call.get("name", ""), call.get("arguments", "")) for call in made)
    role = "system" if message["role"] == "developer" else message["role"]
    return Message(role, _text(message.get("content")), calls)


def _response_item(item: Any) -> Message:
    kind = item.get("type", "message")
    if kind == "function_call":
        return Message("assistant", "", ((item.get("name", ""), item.get("arguments", "")),))
    if kind == "function_call_output":
        return Message("tool", _text(item.get("output")))
    if "role" not in item:
        # Reasoning and the calls of OpenAI's own tools, which a client sends back as they came.
        return Message("assistant", "")
    role = "system" if item["role"] == "developer" else item["role"]
    return Message(role, _text(item.get("content")))


def _text(content: Any) -> str:
    """The text of a message's content: itself, or its parts; a picture or a file counts by what it is."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRequest("a message's content must be a text or a list of parts", "messages")
    return "\n".join(_part(part) for part in content)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part.get("text"), str):
        return part["text"]
    digest = hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:12]
    return f"[{part.get('type', 'part')} {digest}]"
