"""Embeddings of texts: the same text has the same vector, and texts that share words are near to each other."""

import base64
import hashlib
import re
from typing import Any

import numpy

from .call import BadRequest, count_tokens

# What OpenAI's models give; any other name gives as many as the first.
_DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}


def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """Answers a request to `/v1/embeddings`: vectors of length 1, as numbers or in base64 of little-endian 32-bit floats."""
    model, given = body.get("model"), body.get("input")
    if not isinstance(model, str):
        raise BadRequest("you must provide a model parameter", "model")
    texts = [_text(item) for item in ([given] if _is_one(given) else given or [])]
    if not texts or not all(texts):
        raise BadRequest("'$.input' is invalid: it must hold at least one text, and none that is empty", "input")
    dimensions = body.get("dimensions") or _DIMENSIONS.get(model, 1536)
    in_base64 = body.get("encoding_format") == "base64"
    data = [{"object": "embedding", "index": index, "embedding": _encoded(vector(text, dimensions), in_base64)} for index, text in enumerate(texts)]
    used = sum(count_tokens(text) for text in texts)
    return {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": used, "total_tokens": used}}


def vector(text: str, dimensions: int) -> "numpy.ndarray[Any, Any]":
    """The sum of a vector for each word, brought to length 1."""
    total = numpy.zeros(dimensions, dtype=numpy.float32)
    for word in re.findall(r"\w+", text.lower()) or [text]:
        bits = hashlib.shake_256(word.encode()).digest((dimensions + 7) // 8)
        total += numpy.unpackbits(numpy.frombuffer(bits, dtype=numpy.uint8))[:dimensions] * 2.0 - 1.0
    length = float(numpy.linalg.norm(total))
    if length == 0.0:
        total[0], length = 1.0, 1.0
    return (total / length).astype("<f4")


def _is_one(given: Any) -> bool:
    """Whether the input is one text, or one text in tokens."""
    return isinstance(given, str) or (isinstance(given, list) and bool(given) and isinstance(given[0], int))


def _text(item: Any) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, list) and all(isinstance(token, int) for token in item):
        return " ".join(f"token{token}" for token in item)
    raise BadRequest("'$.input' must hold texts or lists of tokens", "input")


def _encoded(numbers: "numpy.ndarray[Any, Any]", in_base64: bool) -> Any:
    return base64.b64encode(numbers.tobytes()).decode() if in_base64 else numbers.tolist()
