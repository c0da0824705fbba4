"""The JSON Schema of what a kickoff may send, where the target tells it: a flow by the model of its state, a factory or a class by the
types of its parameters, an agent since it takes one thing.

The names in a crew's texts have no types, so a crew that has only these tells no schema. What a caller cannot send is left out: fields
of CrewAI's own, such as the id of a state, and types that JSON cannot write. So is a default that may be a secret.
"""

import importlib
import inspect
import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from . import tracebacks
from .target import Target
from .targets import crewai_types
from .targets.agents import INPUTS_SCHEMA, AgentKickoff
from .targets.parameters import Parameters

# As MAX_BYTES of shared/protocol/src/inputs_schema.rs.
MAX_BYTES = 64 * 1024
_REFERENCE = "#/$defs/"
# Keywords with a value of an input, and those with schemas by names.
_VALUES = ("default", "example", "examples")
_BY_NAME = ("properties", "$defs", "patternProperties", "dependentSchemas")
# A shorter value of a variable is no secret, or stands in a longer text by chance.
_LEAST_SECRET, _LEAST_PART = 4, 8


def inputs_schema(target: Target, crew: Any, inputs: list[str] | None, required: list[str] | None) -> tuple[str | None, list[str]]:
    """The schema as JSON text, None where the target tells none; and what the operator should know of that, in sentences.

    `crew` is a sample of the target, None where that takes inputs; `inputs` and `required` are the names that are known besides.
    """
    remedy = "name a file with one by inputs_schema in the crew's section, if callers need it"
    try:
        schema = _schema(target, crew, inputs or [], required or [])
        if schema is None:
            return None, []
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except Exception as error:  # the types are the author's, and so are their hooks
        return None, [f"the JSON Schema of its inputs cannot be made, and is left out: {tracebacks.headline(error)}; {remedy}"]
    if size > MAX_BYTES:
        return None, [f"the JSON Schema of its inputs has {size} bytes, more than {MAX_BYTES}, and is left out; {remedy}"]
    return text, []


def _schema(target: Target, crew: Any, inputs: list[str], required: list[str]) -> dict[str, Any] | None:
    if isinstance(crew, AgentKickoff):
        return INPUTS_SCHEMA
    told = [schema for schema in (_of_parameters(target.parameters), _of_state(crew)) if schema is not None]
    if not told:
        return None
    schema: dict[str, Any] = {"type": "object"}
    for part in told:
        others = schema.get("$defs", {})
        if any(others.get(name, definition) != definition for name, definition in part.get("$defs", {}).items()):
            raise ValueError("a type of a parameter and another one of the state have the same name")
        for key, value in part.items():
            schema[key] = {**schema.get(key, {}), **value} if key in _BY_NAME else value
    schema["properties"] |= {name: {} for name in inputs if name not in schema["properties"]}
    needed = dict.fromkeys([*(name for part in told for name in part["required"]), *required])
    schema["required"] = [name for name in needed if name not in target.defaults]
    return _without_secrets(schema, [value for value in os.environ.values() if len(value) >= _LEAST_SECRET])


def _of_state(crew: Any) -> dict[str, Any] | None:
    """What the state of a flow takes that somebody else than CrewAI has declared, None where that is nothing."""
    # Some versions hand out a proxy of it.
    state = getattr(crew, "_state", None)
    model: Any = type(state)
    if not crewai_types.is_flow(crew) or not hasattr(model, "model_json_schema"):
        return None
    schema = _told(lambda generator: model.model_json_schema(schema_generator=generator))
    fields: Mapping[str, Any] = model.model_fields
    authors = [owner for owner in model.__mro__ if not _is_crewais_own(owner)]
    crewais = {name for name in fields if not any(name in _declared(owner) for owner in authors)}
    schema["properties"] = {name: value for name, value in schema["properties"].items() if name not in crewais}
    # A flow lays the inputs over the state that it has.
    given = {_name_outside(name, field) for name, field in fields.items() if name in vars(state)}
    schema["required"] = [name for name in schema.get("required", ()) if name not in given and name in schema["properties"]]
    author = next((owner for owner in authors if _declared(owner)), model)
    if schema.get("title") == model.__name__:
        schema["title"] = author.__name__
    if "description" not in schema and author.__doc__:
        schema["description"] = inspect.cleandoc(author.__doc__)
    return _without_unused(schema) if schema["properties"] else None


def _of_parameters(parameters: Parameters) -> dict[str, Any] | None:
    """What the types of parameters tell, None where no parameter has one."""
    signature = parameters.signature
    named = [signature.parameters[name] for name in (*parameters.required, *parameters.optional)] if signature is not None else []
    if all(parameter.annotation is parameter.empty for parameter in named):
        return None
    try:
        pydantic = importlib.import_module("pydantic")
    except ImportError:
        return None
    fields = {}
    # By aliases: a parameter may have a name that a model's field cannot have.
    for number, parameter in enumerate(named):
        annotation = Any if parameter.annotation is parameter.empty or isinstance(parameter.annotation, str) else parameter.annotation
        default = {} if parameter.default is parameter.empty else {"default": parameter.default}
        fields[f"p{number}"] = (annotation, pydantic.Field(alias=parameter.name, **default))
    model = pydantic.create_model("Inputs", __config__=pydantic.ConfigDict(arbitrary_types_allowed=True), **fields)
    schema = _told(lambda generator: model.model_json_schema(schema_generator=generator))
    del schema["title"]
    schema["required"] = [name for name in schema.get("required", ()) if name in schema["properties"]]
    return schema if schema["properties"] else None


def _told(make: Any) -> dict[str, Any]:
    """What `make` makes with a generator that leaves out what JSON cannot write, as a schema with properties."""
    from pydantic.json_schema import GenerateJsonSchema
    from pydantic_core import PydanticOmit

    class Told(GenerateJsonSchema):
        def handle_invalid_for_json_schema(self, _schema: Any, _error_info: str) -> Any:
            raise PydanticOmit

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a default that JSON cannot write: it is left out
        schema = make(Told)
    if "$ref" in schema:  # a model that is in itself
        schema = {**schema["$defs"][schema.pop("$ref").removeprefix(_REFERENCE)], **schema}
    schema.setdefault("properties", {})
    return schema


def _declared(owner: type) -> Any:
    return vars(owner).get("__annotations__", ())


def _is_crewais_own(owner: type) -> bool:
    """Whether a class is one of CrewAI's or of pydantic's, and none that they made of what the author wrote."""
    package = owner.__module__.split(".", 1)[0]
    return (package == "pydantic" or crewai_types.is_crewais_own(owner)) and getattr(sys.modules.get(owner.__module__), owner.__name__, None) is owner


def _name_outside(name: str, field: Any) -> str:
    return field.validation_alias if isinstance(field.validation_alias, str) else name


def _without_unused(schema: dict[str, Any]) -> dict[str, Any]:
    """Without definitions that nothing refers to."""
    definitions = schema.pop("$defs", {})
    used: dict[str, Any] = {}
    waiting = [_references(schema)]
    while waiting:
        for name in waiting.pop():
            if name in definitions and name not in used:
                used[name] = definitions[name]
                waiting.append(_references(definitions[name]))
    return {**schema, "$defs": used} if used else schema


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, str) and node.startswith(_REFERENCE):
        yield node.removeprefix(_REFERENCE)
    elif isinstance(node, (dict, list)):
        for each in node.values() if isinstance(node, dict) else node:
            yield from _references(each)


def _without_secrets(node: Any, secrets: list[str], by_name: bool = False) -> Any:
    """Without values that nobody should see, or that JSON cannot write: of a password, or with one of `secrets` in it."""
    if isinstance(node, list):
        return [_without_secrets(item, secrets) for item in node]
    if not isinstance(node, dict):
        return node
    told = {}
    for key, value in node.items():
        if by_name or key not in _VALUES:
            told[key] = _without_secrets(value, secrets, not by_name and key in _BY_NAME)
        elif not node.get("writeOnly") and node.get("format") != "password" and not _is_secret(value, secrets):
            told[key] = value
    return told


def _is_secret(value: Any, secrets: list[str]) -> bool:
    if isinstance(value, (dict, list)):
        return any(_is_secret(item, secrets) for item in (value.values() if isinstance(value, dict) else value))
    if isinstance(value, float):
        return not math.isfinite(value)
    if not isinstance(value, str):
        return False
    return any(value == secret or (len(secret) >= _LEAST_PART and secret in value) for secret in secrets)
