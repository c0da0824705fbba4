"""What the model answers: the same to the same call, and recognisable in whatever the client makes of it.

An answer names the digest of its call, repeats the marks in what the user said (words like `order-mark-17`, so that one
kickoff's words in another's result are seen), and begins the question again."""

import json
import re
from dataclasses import dataclass
from typing import Any

from .call import Call, steady, tokens
from .rules import Rule
from .schema import value_for

# Which offered tools are called where a client leaves the choice: none, the first, or each of them at once.
POLICIES = ("none", "first", "all")

_MARK = re.compile(r"\w+-mark-[\w-]+")
_REACT_TOOLS = re.compile(r"(?:only one name of|should be one of) \[([^\]]*)\]")
_REACT_TOOL = re.compile(r"Tool Name: *(.+?)\s*\nTool Arguments: *(?=\{)")
_SCHEMA_IN_PROMPT = re.compile(r"(?:OpenAPI|JSON) [Ss]chema:\s*(?=\{)")
_OUTCOMES = re.compile(r"Possible outcomes: *([^\n]+)")
_READY = re.compile(r"(?:state|with) READY or NOT READY")
_QUOTED_WORDS = 30


@dataclass(frozen=True)
class Answer:
    """A text, or tools to call as (name, arguments in JSON). `finish` is OpenAI's finish_reason, `why` what made it."""

    text: str
    calls: tuple[tuple[str, str], ...]
    finish: str
    why: str


def answer_to(call: Call, rule: Rule | None, policy: str) -> Answer:
    """The answer to a call: that of the rule, else what the call asks for; raises schema.Unsatisfiable."""
    if rule is not None and "fault" not in rule.spec:
        return _scripted(call, rule)
    # What the client forces it to call comes before the shape of an answer.
    if call.tools and call.tool_choice != "none":
        wanted = _wanted_tools(call, policy)
        if wanted:
            made = [(tool.name, _arguments(tool.parameters, call)) for tool in call.tools if tool.name in wanted]
            return Answer("", tuple(made), "tool_calls", "tools")
    if call.schema is not None:
        return _text(json.dumps(value_for(call.schema, call.digest), ensure_ascii=False), call, "schema")
    if call.json_object:
        return _text(json.dumps({"answer": _words(call)}, ensure_ascii=False), call, "json_object")
    return _in_words(call, policy)


def _wanted_tools(call: Call, policy: str) -> list[str]:
    names = [tool.name for tool in call.tools]
    if call.tool_choice in names:
        return [call.tool_choice]
    if call.tool_results or policy == "none":
        return names[:1] if call.tool_choice == "required" else []
    return names if policy == "all" and call.parallel else names[:1]


def _arguments(parameters: dict[str, Any], call: Call) -> str:
    return json.dumps(value_for(parameters, call.digest), ensure_ascii=False)


def _in_words(call: Call, policy: str) -> Answer:
    """An answer to a client that put into words what it could have asked for: tools, a schema, a choice."""
    asked = "\n".join(message.text for message in call.messages if message.role != "assistant")
    outcomes = _OUTCOMES.search(asked)
    if outcomes:
        return _text(outcomes[1].split(",")[0].strip(" '\"[]"), call, "outcome")
    named = _REACT_TOOLS.search(asked)
    if named and policy != "none" and not call.tool_results:
        tools = [name.strip(" '\"") for name in named[1].split(",") if name.strip(" '\"")]
        if tools:
            return _text(_action(tools[0], _react_arguments(asked, tools[0], call)), call, "react")
    schema = _json_after(_SCHEMA_IN_PROMPT.search(asked), asked)
    said = _words(call)
    if schema is not None:
        inner = schema.get("json_schema", schema)
        said = json.dumps(value_for(inner.get("schema", inner), call.digest), ensure_ascii=False)
    if _READY.search(asked):
        # CrewAI asks an agent that reasons for a plan until it says this; by default it asks without end.
        said += "\nREADY: I am ready to execute the task."
    if "Final Answer:" in asked:
        said = f"Thought: I now can give a great answer\nFinal Answer: {said}"
    return _text(said, call, "text" if schema is None else "schema in words")


def _scripted(call: Call, rule: Rule) -> Answer:
    spec, why = rule.spec, f"rule {rule.number}"
    if "call" in spec:
        made = [(one["name"], json.dumps(one.get("arguments", {}), ensure_ascii=False)) for one in spec["call"]]
        if call.tools:
            return Answer("", tuple((name, _filled(arguments, call)) for name, arguments in made), "tool_calls", why)
        return _text(_filled(_action(*made[0]), call), call, why)
    said = spec["say"] if "say" in spec else json.dumps(spec["json"], ensure_ascii=False)
    return _text(_filled(said, call), call, why)


def _action(tool: str, arguments: str) -> str:
    return f"Thought: I use a tool\nAction: {tool}\nAction Input: {arguments}"


def _filled(text: str, call: Call) -> str:
    return text.replace("{digest}", call.digest).replace("{marks}", " ".join(marks(call)))


def _react_arguments(asked: str, tool: str, call: Call) -> str:
    for found in _REACT_TOOL.finditer(asked):
        if found[1] == tool:
            schema = _json_after(found, asked)
            if schema is not None:
                if "properties" in schema:
                    return _arguments(schema, call)
                # The older form: {"name": {"description", "type"}}
                return json.dumps({name: f"{name} {call.digest}" for name in schema}, ensure_ascii=False)
    return "{}"


def _json_after(found: "re.Match[str] | None", text: str) -> dict[str, Any] | None:
    if found is None:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text, found.end())
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def marks(call: Call) -> list[str]:
    """The marks in what was said but by the model, each once, in their order."""
    said = "\n".join(message.text for message in call.messages if message.role != "assistant")
    return list(dict.fromkeys(_MARK.findall(said)))


def _words(call: Call) -> str:
    asked = next((message.text for message in reversed(call.messages) if message.role == "user"), "")
    quoted = " ".join(re.findall(r"\w+", steady(asked))[:_QUOTED_WORDS])
    kept = marks(call)
    return f"Answer {call.digest}" + (f" about {' '.join(kept)}" if kept else "") + f". You asked: {quoted}."


def _text(text: str, call: Call, why: str) -> Answer:
    """The text up to what stops it: a word that the client gave, or the limit in tokens."""
    for stop in call.stop:
        text = text.partition(stop)[0]
    pieces = tokens(text)
    if call.max_tokens is not None and len(pieces) > call.max_tokens:
        return Answer("".join(pieces[: call.max_tokens]), (), "length", why)
    return Answer(text, (), "stop", why)
