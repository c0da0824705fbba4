"""Which failures another attempt may cure: the table of provider errors, and how it is read.

An exception is judged from the inside out: what it was raised from knows best, its wrapper next, and last what was
being handled when it was raised. Of one exception its error code is asked first, then its class, then its HTTP status,
then its text. The first that is in the table decides.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from .chain import behind, origins, text_of

# Statuses by which a provider says "not now".
RETRYABLE_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})

# Error codes of providers (AWS, Google, OpenAI, Anthropic, Azure, gRPC), compared without case, "_", "-" and ".".
RETRYABLE_CODES = (
    # AWS, botocore's response["Error"]["Code"]
    "ThrottlingException",
    "Throttling",
    "ThrottledException",
    "EC2ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "TooManyRequests",
    "RequestLimitExceeded",
    "ProvisionedThroughputExceededException",
    "ServiceQuotaExceededException",
    "ModelNotReadyException",
    "ModelTimeoutException",
    "ModelErrorException",
    "ModelStreamErrorException",
    "InternalServerException",
    "InternalServerError",
    "InternalFailure",
    "ServiceUnavailableException",
    "ServiceUnavailable",
    "ServiceException",
    "RequestTimeout",
    "RequestTimeoutException",
    "SlowDown",
    # Google and gRPC
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "ABORTED",
    # OpenAI, Azure, Anthropic
    "rate_limit_exceeded",
    "rate_limit_error",
    "overloaded_error",
    "server_error",
    "api_error",
    "timeout_error",
    "engine_overloaded",
    "model_overloaded",
)
FINAL_CODES = (
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_error",
    "invalid_api_key",
    "authentication_error",
    "permission_error",
    "invalid_request_error",
    "ValidationException",
    "AccessDeniedException",
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "ExpiredTokenException",
    "ResourceNotFoundException",
    "INVALID_ARGUMENT",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
)

# Class names, whatever the library: of openai, anthropic, litellm, google, azure, botocore, httpx, requests, urllib3,
# aiohttp, http.client and Python itself. Bases count.
RETRYABLE_CLASSES = re.compile(
    r"RateLimit|Throttl|TooManyRequests|ResourceExhausted|Overloaded"
    r"|Timeout|TimedOut|DeadlineExceeded"
    r"|InternalServerError|ServiceUnavailable|BadGateway|MidStreamFallback|ModelNotReady"
    r"|APIConnectionError|ConnectionError|ConnectionClosed|ConnectionReset|ClientConnect|ServerDisconnected"
    r"|^(?:ConnectError|ReadError|WriteError|CloseError|RemoteProtocolError|NetworkError|ProxyError"  # httpx, httpcore
    r"|ProtocolError|NewConnectionError|MaxRetryError|ChunkedEncodingError|IncompleteRead|IncompleteReadError|RemoteDisconnected"
    r"|ClientPayloadError|ServiceRequestError|ServiceResponseError|EndpointConnectionError|HTTPClientError)$"
)
# Whatever wraps them, these come again: a missing key, a bad certificate, a wrong address.
FINAL_CLASSES = re.compile(
    r"AuthenticationError|PermissionDenied|NoCredentials|PartialCredentials|CredentialRetrieval|TokenRetrieval|ProfileNotFound"
    r"|ParamValidation|CertificateError|CertVerification|UnsupportedProtocol|InvalidURL|InvalidSchema|MissingSchema"
)

# What CrewAI 1.15 and its providers raise with a text alone. The first that matches decides.
TEXTS = (
    (re.compile(r"insufficient_quota|billing_hard_limit_reached"), False),
    (re.compile(r"Invalid response from LLM call - None or empty|Empty response from LLM"), True),
    (re.compile(r"No content received from streaming response|No choices returned from Azure API"), True),
    (re.compile(r"API throttled, please retry later|Service quota exceeded|^Model request timed out|^Model \S+ not ready"), True),
    (re.compile(r"^(?:Model error|Internal server error|Service unavailable): |^Bedrock (?:streaming )?connection error"), True),
    (re.compile(r"^Failed to connect to \w+ API|rate limit exceeded\. Please retry later"), True),
    (
        re.compile(
            r"RESOURCE_EXHAUSTED|overloaded_error|\brate[ -]?limit(?:ed|s|error)?\b|too ?many ?requests|\bthrottl(?:ed|ing)|resource exhausted", re.IGNORECASE
        ),
        True,
    ),
)


@dataclass(frozen=True)
class Verdict:
    """`retryable`, and the HTTP `status` of the exception that decided."""

    retryable: bool
    status: int | None = None

    @property
    def against_status(self) -> bool:
        """Whether an error code says otherwise than the status: an empty account gets 429 too, and AWS throttles by 400."""
        return self.status is not None and self.retryable != (self.status in RETRYABLE_STATUSES)


def judge(error: BaseException) -> Verdict | None:
    """Whether another attempt may cure `error`; None where the table knows nothing of it or of what is behind it."""
    return _judge(error, set())


def _judge(error: BaseException, seen: set[int]) -> Verdict | None:
    if id(error) in seen or len(seen) > 200:
        return None
    seen.add(id(error))
    if error.__cause__ is not None:
        verdict = _judge(error.__cause__, seen)
        if verdict is not None:
            return verdict
    verdict = _own(error)
    if verdict is not None:
        return verdict
    verdicts = [verdict for link in behind(error) if (verdict := _judge(link, seen)) is not None]
    # Of a group, one member that comes again is enough.
    return next((verdict for verdict in verdicts if not verdict.retryable), verdicts[0] if verdicts else None)


def _own(error: BaseException) -> Verdict | None:
    status = status_of(error)
    for code in codes(error):
        if code in _FINAL:
            return Verdict(False, status)
        if code in _RETRYABLE:
            return Verdict(True, status)
    names = [kind.__name__ for kind in type(error).__mro__]
    if any(FINAL_CLASSES.search(name) for name in names):
        return Verdict(False, status)
    if status is not None and status >= 400:
        return Verdict(status in RETRYABLE_STATUSES, status)
    if any(RETRYABLE_CLASSES.search(name) for name in names):
        return Verdict(True)
    text = text_of(error)[:_MAX_TEXT]
    return next((Verdict(retryable) for pattern, retryable in TEXTS if pattern.search(text)), None)


_MAX_TEXT = 4000


def codes(error: BaseException) -> list[str]:
    """The error codes that `error` carries, made comparable; the most special first."""
    response = getattr(error, "response", None)
    bodies = [getattr(error, "body", None), getattr(error, "details", None), response]
    found: list[Any] = []
    for body in bodies:
        inner = body.get("Error") or body.get("error") or body if isinstance(body, dict) else None
        if isinstance(inner, dict):
            found += [inner.get("Code"), inner.get("code"), inner.get("type"), inner.get("status")]
    found += [getattr(error, "code", None), getattr(error, "status", None), getattr(error, "type", None), _grpc_code(error)]
    return [_comparable(code) for code in found if isinstance(code, str) and code]


def _grpc_code(error: BaseException) -> str | None:
    """The name of a gRPC status: `error.code()` or `error.grpc_status_code`."""
    code = getattr(error, "grpc_status_code", None)
    method = getattr(error, "code", None)
    if code is None and callable(method):
        try:
            code = method()
        except Exception:  # not gRPC's after all
            return None
    name = getattr(code, "name", None)
    return name if isinstance(name, str) else None


def status_of(error: BaseException) -> int | None:
    """The HTTP status of one exception, wherever its library keeps it."""
    response = getattr(error, "response", None)
    metadata = response.get("ResponseMetadata") if isinstance(response, dict) else None
    values = [getattr(holder, name, None) for holder in (error, response) for name in ("status_code", "status", "http_status")]
    # Anybody's exception may have a "code"; only these mean a status by it.
    if type(error).__module__.partition(".")[0] in ("google", "urllib"):
        values.append(getattr(error, "code", None))
    for holder in (metadata, response):
        if isinstance(holder, dict):
            values += [holder.get(name) for name in ("HTTPStatusCode", "status_code", "status")]
    return next((int(value) for value in values if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599), None)


def http_status(error: BaseException) -> int | None:
    """The first HTTP status in the chain of `error`."""
    return next((status for link in origins(error) if (status := status_of(link)) is not None), None)


def retry_after_s(error: BaseException) -> float | None:
    """How long a provider asks to wait, in seconds from now: `Retry-After` (a number or a date), `retry-after-ms`, or
    Google's RetryInfo. The first in the chain that says so."""
    return next((seconds for link in origins(error) if (seconds := _retry_after_s(link)) is not None), None)


def _retry_after_s(error: BaseException) -> float | None:
    response = getattr(error, "response", None)
    holders = [getattr(error, "headers", None), getattr(error, "litellm_response_headers", None), getattr(response, "headers", None)]
    if isinstance(response, dict):
        metadata = response.get("ResponseMetadata")
        holders += [response.get("headers"), metadata.get("HTTPHeaders") if isinstance(metadata, dict) else None]
    for headers in holders:
        milliseconds = _number(_header(headers, "retry-after-ms"))
        if milliseconds is not None:
            return milliseconds / 1000
        value = _header(headers, "retry-after")
        seconds = _number(value) if value is not None else None
        if seconds is None and value is not None:
            seconds = _until(value)
        if seconds is not None:
            return seconds
    return _google_delay_s(getattr(error, "details", None))


def _header(headers: Any, name: str) -> Any:
    try:
        if isinstance(headers, Mapping):
            return next((value for key, value in headers.items() if str(key).lower() == name), None)
        return headers[name]
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):
        return None


def _number(value: Any) -> float | None:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(seconds) else max(0.0, seconds)


def _until(value: Any) -> float | None:
    try:
        date = parsedate_to_datetime(value)
        return max(0.0, (date - datetime.now(date.tzinfo)).total_seconds())
    except (TypeError, ValueError, AttributeError):
        return None


def _google_delay_s(details: Any) -> float | None:
    """`retryDelay` ("27s") of the RetryInfo in the details of a google.genai error."""
    inner = details.get("error", details) if isinstance(details, dict) else None
    entries = inner.get("details") if isinstance(inner, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        delay = entry.get("retryDelay") if isinstance(entry, dict) else None
        if isinstance(delay, str) and delay.endswith("s"):
            return _number(delay[:-1])
    return None


def _comparable(code: str) -> str:
    return re.sub(r"[^a-z0-9]", "", code.lower())


_RETRYABLE = frozenset(map(_comparable, RETRYABLE_CODES))
_FINAL = frozenset(map(_comparable, FINAL_CODES))
