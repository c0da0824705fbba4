"""Failures on demand, in one notation: in a model's name, in the header `x-fault`, in a prompt, or in a rule.

| notation | what happens |
|---|---|
| `fail-429`, `fail-500`, ... | that status, with OpenAI's error body; 429 and 503 with Retry-After |
| `fail-context` | 400, context_length_exceeded |
| `fail-quota` | 429, insufficient_quota, which no retry mends |
| `fail-timeout` | no answer, until the client goes |
| `fail-reset` | the connection is reset before an answer |
| `fail-cut` | the connection is reset in the middle of the answer |
| `fail-malformed` | an answer that isn't JSON |
| `fail-empty` | an answer without content |
| `hold` | no answer before `POST /control/release` |
| `slow-0.2` | so many seconds before each piece of a stream, and before a whole answer |
| `after-3` | the seconds of Retry-After, 1 unless said |

`fail-429-2` fails the first two times that a request is made, and then no more; each different request is counted by
itself. Several may be joined: `gpt-4o-slow-0.1-fail-cut-1`. In a prompt they stand in double brackets: `[[fail-500-1]]`.
"""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

_FAIL = re.compile(r"(?<![a-z0-9])fail-(\d{3}|[a-z]+)(?:-(\d+))?(?![\d.])")
_SLOW = re.compile(r"(?<![a-z0-9])slow-(\d+(?:\.\d+)?)")
_AFTER = re.compile(r"(?<![a-z0-9])after-(\d+(?:\.\d+)?)")
_HOLD = re.compile(r"(?<![a-z0-9])hold(?![a-z0-9])")
_MARKED = re.compile(r"\[\[([^\[\]]*)\]\]")

_WORDS = ("context", "quota", "timeout", "reset", "cut", "malformed", "empty")

# status: type, code and message of OpenAI's error body
_ERRORS = {
    400: ("invalid_request_error", None, "The request is invalid."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "unsupported_country_region_territory", "You may not use this model."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
    408: ("server_error", None, "The request timed out."),
    409: ("server_error", None, "The resource was changed by another request."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    500: ("server_error", None, "The server had an error while processing your request."),
    502: ("server_error", None, "Bad gateway."),
    503: ("service_unavailable", None, "The server is overloaded or not ready yet."),
    504: ("server_error", None, "Gateway timeout."),
    529: ("overloaded_error", "overloaded", "Overloaded."),
}


class UnknownFault(ValueError):
    """A notation that says nothing this server does."""


@dataclass(frozen=True)
class Fault:
    """What happens to one request. `kind` is None (nothing), a status or one of the words; `delay` and `retry_after` are
    seconds."""

    kind: int | str | None = None
    hold: bool = False
    delay: float = 0.0
    retry_after: float = 1.0

    @property
    def status(self) -> int:
        """The status that the client sees."""
        if isinstance(self.kind, int):
            return self.kind
        return {"context": 400, "quota": 429}.get(self.kind or "", 200)

    def error(self, model: str) -> dict[str, Any] | None:
        """The body of an error answer; None where this is no such answer."""
        if self.kind == "context":
            message = "This model's maximum context length is 8192 tokens. Please reduce the length of the messages."
            return error_body(message, "invalid_request_error", "context_length_exceeded", "messages")
        if self.kind == "quota":
            message = "You exceeded your current quota, please check your plan and billing details."
            return error_body(message, "insufficient_quota", "insufficient_quota")
        if isinstance(self.kind, int):
            kind, code, message = _ERRORS.get(self.kind, ("server_error", None, "As asked for."))
            return error_body(f"{message} ({model})", kind, code)
        return None

    def headers(self) -> dict[str, str]:
        """The headers of an error answer."""
        return {"retry-after": f"{self.retry_after:g}"} if self.kind in (429, 503, 529) else {}


def error_body(message: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """OpenAI's form of an error."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Faults:
    """Reads the notation, and counts what fails only so many times."""

    def __init__(self) -> None:
        self._failed: Counter[tuple[str, str]] = Counter()

    def of(self, model: str, header: str, prompt: str, digest: str) -> Fault:
        """The fault of a request: what its prompt says comes before its header, and that before its model's name."""
        marked = " ".join(_MARKED.findall(prompt))
        for notation in (marked, header, model):
            fault = self.read(notation, digest)
            if fault != Fault():
                return fault
        return Fault()

    def read(self, notation: str, digest: str) -> Fault:
        """The fault that a notation means for the request of this digest; raises UnknownFault."""
        slow, after = _SLOW.search(notation), _AFTER.search(notation)
        return Fault(
            kind=self._kind(notation, digest),
            hold=_HOLD.search(notation) is not None,
            delay=float(slow[1]) if slow else 0.0,
            retry_after=float(after[1]) if after else 1.0,
        )

    def _kind(self, notation: str, digest: str) -> int | str | None:
        for found in _FAIL.finditer(notation):
            word, times = found[1], found[2]
            if not word.isdigit() and word not in _WORDS:
                raise UnknownFault(f"{found[0]!r} is no fault: write fail- and a status or one of {', '.join(_WORDS)}")
            if times is not None:
                key = (found[0], digest)
                if self._failed[key] >= int(times):
                    continue
                self._failed[key] += 1
            return int(word) if word.isdigit() else word
        return None
