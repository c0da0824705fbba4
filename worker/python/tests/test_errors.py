"""Which failures are worth another attempt: exceptions as the providers' libraries and CrewAI raise them."""

import asyncio
import http.client
import os
import ssl
import sys
import unittest
from collections.abc import Callable
from typing import Any

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

from crewfleet_host import errors, jsonable
from crewfleet_host.transient import judge


def class_of(name: str, *bases: type, module: str = "provider", **fields: Any) -> type:
    """An exception class as a library that is not installed here has it."""
    return type(name, bases or (Exception,), {"__module__": module, **fields})


def client_error(code: str, status: int, headers: dict | None = None) -> Exception:
    """botocore's ClientError, whose response is a dict."""
    kind = class_of("ClientError", module="botocore.exceptions")
    error = kind(f"An error occurred ({code}) when calling the Converse operation")
    error.response = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers or {}}}
    return error


def with_status(name: str, status: int, **fields: Any) -> Exception:
    return class_of(name, status_code=status, **fields)(f"{status}")


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """`error` as it comes when it was raised from `cause`."""
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def raised_while_handling(handled: BaseException, error: BaseException, hide: bool = False) -> BaseException:
    try:
        try:
            raise handled
        except BaseException:
            if hide:
                raise error from None
            raise error  # noqa: B904
    except BaseException as caught:
        return caught


def openai_error(name: str, status: int, body: dict) -> Exception:
    import httpx
    import openai

    response = httpx.Response(status, request=httpx.Request("POST", "https://provider.example/v1"), headers={"retry-after-ms": "1500"})
    return getattr(openai, name)("no", response=response, body=body)


class TableTest(unittest.TestCase):
    def assert_retryable(self, expected: bool, error: BaseException) -> dict[str, Any]:
        described = errors.describe(error, False)
        self.assertEqual(described["retryable"], expected, described)
        return described

    def test_bedrock_as_crewai_wraps_it(self) -> None:
        cases = {
            "ThrottlingException": (RuntimeError("API throttled, please retry later: no"), 429),
            "ServiceQuotaExceededException": (RuntimeError("Service quota exceeded: no"), 400),
            "ModelNotReadyException": (RuntimeError("Model m not ready: no"), 429),
            "ModelTimeoutException": (TimeoutError("Model request timed out: no"), 408),
            "ModelErrorException": (RuntimeError("Model error: no"), 424),
            "InternalServerException": (RuntimeError("Internal server error: no"), 500),
            "ServiceUnavailableException": (RuntimeError("Service unavailable: no"), 503),
            "TooManyRequestsException": (RuntimeError("Bedrock API error (TooManyRequestsException): no"), 400),
        }
        for code, (wrapper, status) in cases.items():
            with self.subTest(code):
                described = self.assert_retryable(True, raised(wrapper, client_error(code, status, {"Retry-After": "3"})))
                self.assertEqual(described["detail"]["http_status"], status)
                self.assertEqual(described["detail"]["retry_after_s"], 3.0)
                # Only where the status says otherwise: the worker would go by that.
                self.assertIs(described["detail"].get("transient"), True if status in (400, 424) else None)
                self.assert_retryable(True, type(wrapper)(str(wrapper)))  # the text alone
        for code, wrapper in {
            "AccessDeniedException": PermissionError("Access denied to model m: no"),
            "ValidationException": ValueError("Request validation failed: no"),
            "ResourceNotFoundException": ValueError("Model m not found: no"),
            "ExpiredTokenException": RuntimeError("Bedrock API error (ExpiredTokenException): no"),
        }.items():
            with self.subTest(code):
                self.assert_retryable(False, raised(wrapper, client_error(code, 400)))
        no_key = class_of("NoCredentialsError", module="botocore.exceptions")("Unable to locate credentials")
        self.assert_retryable(False, raised(ConnectionError("Bedrock connection error: Unable to locate credentials"), no_key))
        closed = class_of("ConnectionClosedError", module="botocore.exceptions")("closed")
        self.assert_retryable(True, raised(ConnectionError("Bedrock connection error: closed"), closed))

    def test_azure_google_and_anthropic(self) -> None:
        for name in ("ServiceRequestError", "ServiceResponseError", "ServiceResponseTimeoutError", "IncompleteReadError"):
            self.assert_retryable(True, class_of(name, class_of("AzureError"), module="azure.core.exceptions")("no"))
        self.assert_retryable(True, with_status("HttpResponseError", 429))
        self.assert_retryable(False, with_status("HttpResponseError", 403))
        for name in ("ResourceExhausted", "DeadlineExceeded", "ServiceUnavailable", "InternalServerError", "TooManyRequests"):
            self.assert_retryable(True, class_of(name, module="google.api_core.exceptions")("no"))
        self.assert_retryable(False, class_of("PermissionDenied", module="google.api_core.exceptions")("no"))
        details = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"@type": "RetryInfo", "retryDelay": "27s"}]}}
        error = class_of("ClientError", module="google.genai.errors", code=429, status="RESOURCE_EXHAUSTED", details=details)
        described = self.assert_retryable(True, error("429 RESOURCE_EXHAUSTED. You exceeded your current quota"))
        self.assertEqual((described["detail"]["http_status"], described["detail"]["retry_after_s"]), (429, 27.0))
        self.assert_retryable(True, class_of("RpcError", module="grpc", code=lambda _: type("Status", (), {"name": "UNAVAILABLE"}))("no"))
        overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        self.assert_retryable(True, class_of("APIStatusError", module="anthropic", status_code=529, body=overloaded)("no"))
        self.assert_retryable(False, with_status("BadRequestError", 400, body={"error": {"type": "invalid_request_error"}}))

    def test_openai(self) -> None:
        import httpx
        import openai

        described = self.assert_retryable(True, openai_error("RateLimitError", 429, {"code": "rate_limit_exceeded", "type": "tokens"}))
        self.assertEqual(described["detail"]["retry_after_s"], 1.5)
        described = self.assert_retryable(False, openai_error("RateLimitError", 429, {"code": "insufficient_quota", "type": "insufficient_quota"}))
        self.assertIs(described["detail"]["transient"], False)  # or the worker would go by the status
        self.assert_retryable(True, openai_error("InternalServerError", 503, {}))
        self.assert_retryable(False, openai_error("AuthenticationError", 401, {}))
        request = httpx.Request("POST", "https://provider.example")
        self.assert_retryable(True, raised(openai.APIConnectionError(request=request), httpx.ConnectError("refused")))
        self.assert_retryable(True, openai.APITimeoutError(request=request))
        refused = raised(httpx.ConnectError("bad certificate"), ssl.SSLCertVerificationError("certificate has expired"))
        self.assert_retryable(False, raised(openai.APIConnectionError(request=request), refused))

    def test_litellm(self) -> None:
        for name in ("RateLimitError", "Timeout", "APIConnectionError", "ServiceUnavailableError", "InternalServerError", "BadGatewayError"):
            self.assert_retryable(True, class_of(name, module="litellm.exceptions")("no"))
        for name, status in (("AuthenticationError", 401), ("NotFoundError", 404), ("UnprocessableEntityError", 422)):
            self.assert_retryable(False, with_status(name, status, module_of="litellm"))

    def test_connections_of_http_libraries(self) -> None:
        import aiohttp
        import httpx
        import requests
        import urllib3

        for error in (
            httpx.ConnectError("no"),
            httpx.ReadError("no"),
            httpx.RemoteProtocolError("no"),
            httpx.PoolTimeout("no"),
            requests.exceptions.ConnectionError("no"),
            requests.exceptions.ChunkedEncodingError("no"),
            requests.exceptions.ReadTimeout("no"),
            urllib3.exceptions.ProtocolError("no"),
            urllib3.exceptions.MaxRetryError(None, "/", None),
            aiohttp.ServerDisconnectedError(),
            aiohttp.ClientPayloadError("no"),
            http.client.RemoteDisconnected("no"),
            http.client.IncompleteRead(b""),
            ConnectionResetError("no"),
            TimeoutError("no"),
            asyncio.TimeoutError(),
        ):
            with self.subTest(repr(error)):
                self.assert_retryable(True, error)
        for error in (httpx.UnsupportedProtocol("no"), requests.exceptions.InvalidURL("no"), ValueError("no"), FileNotFoundError("no")):
            with self.subTest(repr(error)):
                self.assert_retryable(False, error)

    def test_what_crewai_says_by_text_alone(self) -> None:
        for text in (
            "Invalid response from LLM call - None or empty.",
            "No content received from streaming response. Received empty chunks or failed to extract content.",
            "Failed to get streaming response: litellm.RateLimitError: slow down",
            "Task execution failed: 429 RESOURCE_EXHAUSTED",
            "Error code: 529 - {'type': 'error', 'error': {'type': 'overloaded_error'}}",
        ):
            self.assert_retryable(True, ValueError(text))
        self.assert_retryable(False, ValueError("Error code: 429 - {'error': {'code': 'insufficient_quota'}}, a rate limit"))
        self.assert_retryable(False, ValueError("the client's rate is too low"))

    def test_the_chain(self) -> None:
        limited = with_status("RateLimitError", 429)
        self.assert_retryable(True, raised(RuntimeError("Task execution failed"), raised(ValueError("wrapped"), limited)))
        self.assert_retryable(True, raised_while_handling(limited, ValueError("gave up")))
        self.assert_retryable(False, raised_while_handling(limited, ValueError("gave up"), hide=True))
        # The second model's answer counts, not the first's.
        self.assert_retryable(False, raised_while_handling(limited, with_status("AuthenticationError", 401)))
        described = self.assert_retryable(True, raised_while_handling(with_status("BadRequestError", 400), ConnectionResetError("no")))
        self.assertNotIn("http_status", described["detail"])
        if sys.version_info >= (3, 11):
            self.assert_retryable(True, ExceptionGroup("several", [ValueError("no"), limited]))  # noqa: F821
        endless = ValueError("a")
        endless.__cause__ = endless
        self.assertIsNone(judge(endless))

    def test_a_context_that_is_too_long(self) -> None:
        overflow = class_of("LLMContextLengthExceededError", module="crewai.utilities.exceptions")
        for error in (
            SystemExit("Context length exceeded and user opted not to summarize. Consider using smaller text"),
            raised(RuntimeError("Task execution failed"), overflow("LLM context length exceeded. Original error: 9 tokens")),
            class_of("ContextWindowExceededError", class_of("BadRequestError"), module="litellm.exceptions", status_code=400)("no"),
            openai_error("BadRequestError", 400, {"code": "context_length_exceeded"}),
            class_of("BadRequestError", module="anthropic", status_code=400)("prompt is too long: 201 tokens > 200 maximum"),
            raised(ValueError("Request validation failed"), self.with_text(client_error("ValidationException", 400), "Input is too long for requested model.")),
            class_of("ClientError", module="google.genai.errors", code=400)("The input token count (9) exceeds the maximum number of tokens allowed (8)."),
        ):
            with self.subTest(repr(error)):
                described = self.assert_retryable(False, error)
                self.assertEqual(described["kind"], "context_length_exceeded")
        self.assertEqual(errors.describe(ValueError("the title: input is too long"), False)["kind"], "exception")
        self.assertEqual(errors.describe(SystemExit("Context"), False)["kind"], "system_exit")
        throttled = self.with_text(client_error("ThrottlingException", 400), "Too many tokens, please wait before trying again.")
        self.assertEqual(self.assert_retryable(True, throttled)["kind"], "exception")

    @staticmethod
    def with_text(error: Exception, text: str) -> Exception:
        error.args = (text,)
        return error


class JsonableTest(unittest.TestCase):
    def test_numbers_that_readers_refuse(self) -> None:
        value: Callable[[Any], Any] = jsonable.jsonable
        self.assertEqual(value({"n": 10**5000})["n"], "1" + "0" * 5000)
        self.assertEqual(value([-(10**5000)])[0][:3], "-10")
        self.assertEqual(value([10**300, 1e308, float("inf")]), [10**300, 1e308, None])


if __name__ == "__main__":
    unittest.main()
