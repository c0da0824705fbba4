"""Any Python object to something that every JSON reader takes."""

import base64
import dataclasses
import datetime
import decimal
import enum
import math
from collections.abc import Mapping, Set
from typing import Any

# Readers refuse deeper nesting (serde_json: 128), and a frame adds a few levels of its own.
MAX_DEPTH = 100
# Readers without whole numbers of any size take these for infinity, or refuse them; beyond 4,300 digits Python does too.
_LONGEST = 10**308


def jsonable(value: Any, _depth: int = 0, _above: frozenset[int] = frozenset()) -> Any:
    """`value` as JSON types: pydantic models and dataclasses become objects, outputs of crews what they say, NaN and infinities null, whole
    numbers beyond any float their digits as text, the unknown its str().

    What refers to itself, or is nested deeper than MAX_DEPTH, becomes its str() there. Never raises an
    Exception, except MemoryError.
    """
    if value is None or (isinstance(value, (bool, int, float, str)) and not isinstance(value, enum.Enum)):
        return _scalar(value)
    if _depth >= MAX_DEPTH or id(value) in _above:
        return _text(value)
    try:
        plain = _plain(value)
    except MemoryError:
        raise
    except Exception:  # the crew's own class may raise anything
        return _text(value)
    above = _above | {id(value)}
    if isinstance(plain, dict):
        return {_key(key): jsonable(item, _depth + 1, above) for key, item in plain.items()}
    if isinstance(plain, list):
        return [jsonable(item, _depth + 1, above) for item in plain]
    return _scalar(plain)


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return _whole(int(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return _text(value)


def _whole(value: int) -> Any:
    """A whole number, or its digits as text."""
    if abs(value) < _LONGEST:
        return value
    # Not str(), which refuses more than sys.get_int_max_str_digits().
    return str(decimal.Decimal(value))


def _plain(value: Any) -> Any:
    """A dict or list with the parts of `value`, or a scalar that stands for it."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (list, tuple, Set)):
        return list(value)
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, type):
        return _text(value)
    if is_output(value):
        said = structured(value)
        return value.raw if said is None else said
    if callable(getattr(value, "model_dump", None)):
        return _dumped(value)
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if callable(getattr(value, "tolist", None)):  # numpy arrays and numbers
        return value.tolist()
    return _text(value)


def is_output(value: Any) -> bool:
    """Whether `value` is an output of CrewAI's (of a crew, a task or an agent), which holds prompts beside its answer."""
    return isinstance(getattr(value, "raw", None), str) and (hasattr(value, "tasks_output") or hasattr(value, "messages"))


def structured(output: Any) -> Any:
    """The JSON of an output of CrewAI's, None where it is only text."""
    value = getattr(output, "json_dict", None)
    if value is None:
        value = getattr(output, "pydantic", None)
    return None if value is None else jsonable(value)


def _dumped(model: Any) -> Any:
    """A pydantic model's fields; those that pydantic cannot turn into JSON are left as they are."""
    try:
        return model.model_dump(mode="json")
    except MemoryError:
        raise
    except Exception:  # PydanticSerializationError, or what a serializer of the crew's own raises
        return model.model_dump(mode="python")


def _key(key: Any) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    return str.__str__(key) if isinstance(key, str) else _text(key)


def _text(value: Any) -> str:
    try:
        return str(value)
    except MemoryError:
        raise
    except Exception:  # a broken __str__, or recursion
        return f"<{type(value).__module__}.{type(value).__qualname__}>"
