"""Values that fit a JSON schema."""

import math
import re
from typing import Any

import jsonschema

try:
    from re import _constants as sre_constants  # type: ignore[attr-defined]
    from re import _parser as sre_parser  # type: ignore[attr-defined]
except ImportError:  # Python 3.10
    import sre_constants
    import sre_parse as sre_parser

# Below this depth only what a schema requires is made, so that a schema that holds itself ends.
_DEEP = 5
_TOO_DEEP = 40

_FORMATS = {
    "date": "2025-01-02",
    "date-time": "2025-01-02T03:04:05Z",
    "time": "03:04:05Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "binary": "AA==",
    "byte": "AA==",
}


class Unsatisfiable(ValueError):
    """No value for a schema was found."""


def value_for(schema: dict[str, Any], word: str) -> Any:
    """A value that `jsonschema` finds valid under `schema`, the same one each time. Free texts are made of the name of
    their field and `word`. Raises Unsatisfiable with the path and the reason where there is no such value, or none was
    found."""
    try:
        validator = jsonschema.validators.validator_for(schema)
        validator.check_schema(schema)
        value = _Maker(schema, word).make(schema, "value", 0)
        validator(schema).validate(value)
    except jsonschema.SchemaError as error:
        raise Unsatisfiable(f"not a JSON schema: {error.message}") from error
    except jsonschema.ValidationError as error:
        raise Unsatisfiable(f"no value found at {error.json_path}: {error.message}") from error
    return value


class _Maker:
    def __init__(self, root: dict[str, Any], word: str) -> None:
        self._root = root
        self._word = word

    def make(self, schema: Any, name: str, depth: int) -> Any:
        if schema is True or schema == {}:
            return f"{name} {self._word}"
        if not isinstance(schema, dict):
            raise Unsatisfiable(f"nothing fits {name}: its schema is {schema!r}")
        if depth > _TOO_DEEP:
            raise Unsatisfiable(f"{name} needs itself without end")
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return self._one_of(schema, choice, name, depth)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((one for one in kind if one != "null"), "null") if depth < _DEEP or "null" not in kind else "null"
        if kind is None:
            kind = _implied(schema)
        makers = {"object": self._object, "array": self._array, "string": self._string}
        if kind in makers:
            return makers[kind](schema, name, depth)
        if kind in ("integer", "number"):
            return _number(schema, kind)
        return True if kind == "boolean" else None

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The schema with its references and `allOf` merged into it."""
        seen = 0
        while "$ref" in schema or "allOf" in schema:
            seen += 1
            if seen > _TOO_DEEP:
                raise Unsatisfiable(f"{schema.get('$ref')} refers to itself")
            if "$ref" in schema:
                rest = {key: value for key, value in schema.items() if key != "$ref"}
                schema = _merged(self._referred(schema["$ref"]), rest)
            else:
                parts = schema["allOf"]
                schema = {key: value for key, value in schema.items() if key != "allOf"}
                for part in parts:
                    schema = _merged(schema, self._resolved(part))
        return schema

    def _referred(self, reference: str) -> dict[str, Any]:
        found: Any = self._root
        if not reference.startswith("#"):
            raise Unsatisfiable(f"{reference} is outside of the schema")
        for step in reference.lstrip("#/").split("/") if reference != "#" else ():
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or step not in found:
                raise Unsatisfiable(f"{reference} is not in the schema")
            found = found[step]
        return found

    def _one_of(self, schema: dict[str, Any], choice: str, name: str, depth: int) -> Any:
        """The first alternative that gives a value: not null while there is room, null below that."""
        rest = {key: value for key, value in schema.items() if key != choice}
        null_last = depth < _DEEP
        options = sorted(schema[choice], key=lambda option: self._is_null(option) == null_last)
        reasons = []
        for option in options:
            merged = _merged(rest, self._resolved(option)) if isinstance(option, dict) else option
            try:
                return self.make(merged, name, depth + 1)
            except Unsatisfiable as error:
                reasons.append(str(error))
        raise Unsatisfiable(f"no alternative fits {name}: {'; '.join(reasons)}")

    def _is_null(self, option: Any) -> bool:
        return isinstance(option, dict) and option.get("type") == "null"

    def _object(self, schema: dict[str, Any], name: str, depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        names = [key for key in properties if key in required or depth < _DEEP]
        names += [key for key in required if key not in properties]
        others = schema.get("additionalProperties", True)
        made = {key: self.make(properties.get(key, others), key, depth + 1) for key in names}
        limit = schema.get("maxProperties")
        for key in [key for key in made if key not in required]:
            if limit is not None and len(made) > limit:
                del made[key]
        # A free dictionary gets one entry, so that it shows.
        wanted = max(schema.get("minProperties", 0), 0 if properties or others is False or depth >= _DEEP else 1)
        while len(made) < wanted:
            key = f"{name}_{len(made) + 1}"
            made[key] = self.make(others, key, depth + 1)
        return made

    def _array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        first = schema.get("prefixItems", [])
        made = [self.make(item, name, depth + 1) for item in first]
        least = schema.get("minItems", 0)
        wanted = least if depth >= _DEEP or first else max(least, 2)
        wanted = min(wanted, schema.get("maxItems", wanted))
        items = schema.get("items", True)
        while len(made) < wanted:
            item = self.make(items, f"{name} {len(made) + 1}", depth + 1)
            if schema.get("uniqueItems") and item in made:
                item = self._another(items, made, name, depth, least)
                if item is None:
                    break
            made.append(item)
        return made

    def _another(self, items: Any, made: list[Any], name: str, depth: int, least: int) -> Any:
        """An item that isn't there yet: another of an enumeration, or a larger number."""
        item = self._resolved(items) if isinstance(items, dict) else {}
        for candidate in item.get("enum", ()):
            if candidate not in made:
                return candidate
        if item.get("type") in ("integer", "number"):
            return max(made) + item.get("multipleOf", 1)
        if len(made) < least:
            raise Unsatisfiable(f"{name} needs {least} different items, and only {len(made)} were found")
        return None

    def _string(self, schema: dict[str, Any], name: str, depth: int) -> str:
        if "pattern" in schema:
            return _matching(schema["pattern"], schema.get("minLength", 0))
        text = _FORMATS.get(schema.get("format", "")) or f"{name} {self._word}"
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        while len(text) < least:
            text += f" {name} {self._word}"
        return text if most is None or len(text) <= most else text[-most:] if most else ""


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    merged = {**one, **other}
    for key in ("properties", "$defs"):
        if key in one and key in other:
            merged[key] = {**one[key], **other[key]}
    if "required" in one and "required" in other:
        merged["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    return merged


def _implied(schema: dict[str, Any]) -> str:
    """The type that a schema without a `type` is about."""
    for kind, keys in {
        "object": ("properties", "required", "additionalProperties"),
        "array": ("items", "prefixItems", "minItems"),
        "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    }.items():
        if any(key in schema for key in keys):
            return kind
    return "string"


def _number(schema: dict[str, Any], kind: str) -> int | float:
    step = schema.get("multipleOf", 1 if kind == "integer" else 0.5)
    low = schema.get("minimum", -math.inf)
    high = schema.get("maximum", math.inf)
    above = schema.get("exclusiveMinimum", -math.inf)
    below = schema.get("exclusiveMaximum", math.inf)
    start = max(low, above)
    if start == -math.inf:
        value = min(7 * step, high)
        if value == high and high % step:
            value = math.floor(high / step) * step
        while value >= below or value > high:
            value -= max(step, 1)
    else:
        value = math.ceil(start / step) * step
        if value <= above:
            value += step
        if (value > high or value >= below) and kind == "number" and "multipleOf" not in schema:
            value = (start + min(high, below)) / 2
    return int(value) if kind == "integer" or float(value).is_integer() else value


def _matching(pattern: str, least: int) -> str:
    """A text in which `pattern` is found, of at least so many characters where its repetitions allow that."""
    try:
        parsed = sre_parser.parse(pattern)
    except re.error as error:
        raise Unsatisfiable(f"not a pattern that Python knows: {pattern!r}: {error}") from error
    for extra in (0, 1, least, 2 * least):
        text = _sample(parsed, extra, {})
        if len(text) >= least and re.search(pattern, text):
            return text
    raise Unsatisfiable(f"no text found for the pattern {pattern!r}")


def _sample(parsed: Any, extra: int, groups: dict[int, str]) -> str:
    return "".join(_sample_one(operation, argument, extra, groups) for operation, argument in parsed)


def _sample_one(operation: Any, argument: Any, extra: int, groups: dict[int, str]) -> str:
    kind = str(operation)
    if kind == "LITERAL":
        return chr(argument)
    if kind == "NOT_LITERAL":
        return next(sign for sign in "ab" if sign != chr(argument))
    if kind == "ANY":
        return "a"
    if kind == "IN":
        return _sample_set(argument)
    if kind == "BRANCH":
        return _sample(argument[1][0], extra, groups)
    if kind == "SUBPATTERN":
        text = _sample(argument[-1], extra, groups)
        if argument[0] is not None:
            groups[argument[0]] = text
        return text
    if kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, most, repeated = argument
        times = min(least + extra, most) if most != sre_constants.MAXREPEAT else least + extra
        return "".join(_sample(repeated, 0, groups) for _ in range(times))
    if kind == "GROUPREF":
        return groups.get(argument, "")
    if kind == "ATOMIC_GROUP":
        return _sample(argument, extra, groups)
    # Anchors and assertions take no room. Whether they hold is seen when the text is matched.
    return ""


def _sample_set(members: Any) -> str:
    candidates = "aA0 _-.@/!#" + "".join(map(chr, range(33, 127))) + "é\n\t"
    negated = str(members[0][0]) == "NEGATE"
    for candidate in [*_named(members), *candidates]:
        if any(_holds(member, candidate) for member in members) != negated:
            return candidate
    raise Unsatisfiable(f"no character fits {members!r}")


def _named(members: Any) -> list[str]:
    first = {"LITERAL": lambda argument: argument, "RANGE": lambda argument: argument[0]}
    return [chr(first[str(kind)](argument)) for kind, argument in members if str(kind) in first]


def _holds(member: Any, candidate: str) -> bool:
    kind, argument = str(member[0]), member[1]
    if kind == "LITERAL":
        return chr(argument) == candidate
    if kind == "RANGE":
        return argument[0] <= ord(candidate) <= argument[1]
    if kind == "CATEGORY":
        name = str(argument)
        classes = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}
        found = re.match(classes[name.rsplit("_", 1)[1]], candidate) is not None
        return found != ("_NOT_" in name)
    return False
