"""The server's routes: OpenAI's under `/v1`, and `/control` for a test that steers it."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from . import chat, responses
from .answers import POLICIES, Answer, answer_to
from .call import BadRequest, Call, read_chat, read_responses
from .embeddings import embeddings
from .faults import Fault, Faults, UnknownFault, error_body
from .journal import Journal
from .rules import BadRule, Rules
from .schema import Unsatisfiable
from .usage import counted, responses_usage

_MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1-mini", "text-embedding-3-small", "text-embedding-3-large")
_FORMS: dict[str, Any] = {"chat": (read_chat, chat), "responses": (read_responses, responses)}


class ModelServer:
    """The application and what it knows. `policy` is one of answers.POLICIES."""

    def __init__(self, journal: Journal, rules: Rules, policy: str = "none") -> None:
        self.journal = journal
        self.rules = rules
        self.policy = self._first_policy = policy
        self._faults = Faults()
        self._released = asyncio.Event()
        self._held = 0
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/responses", self._responses, methods=["POST"]),
                Route("/v1/responses/input_tokens", self._input_tokens, methods=["POST"]),
                Route("/v1/embeddings", self._embeddings, methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/v1/models/{model:path}", self._model),
                Route("/control/requests", self._requests),
                Route("/control/counts", self._counts),
                Route("/control/rules", self._set_rules, methods=["POST"]),
                Route("/control/policy", self._set_policy, methods=["POST"]),
                Route("/control/release", self._release, methods=["POST"]),
                Route("/control/reset", self._reset, methods=["POST"]),
            ],
            exception_handlers={
                BadRequest: _bad_request,
                BadRule: _bad_request,
                UnknownFault: _bad_request,
                Unsatisfiable: _bad_request,
                json.JSONDecodeError: _bad_request,
            },
        )

    async def _chat(self, request: Request) -> Response:
        return await self._answer(request, "chat")

    async def _responses(self, request: Request) -> Response:
        return await self._answer(request, "responses")

    async def _answer(self, request: Request, endpoint: str) -> Response:
        _authorized(request)
        read, form = _FORMS[endpoint]
        call: Call = read(await request.json())
        rule = self.rules.first(endpoint, call.model, call.text, call)
        if rule is not None and "fault" in rule.spec:
            fault = self._faults.read(rule.spec["fault"], call.digest)
        else:
            fault = self._faults.of(call.model, request.headers.get("x-fault", ""), call.text, call.digest)
        answer = answer_to(call, rule, self.policy)
        if fault.kind == "empty":
            answer = Answer("", (), "stop", "fault")
        self.journal.write(_entry(endpoint, call, answer, fault))
        stopped = await self._carried_out(request, fault, call.model)
        if stopped is not None:
            return stopped
        if call.stream:
            return StreamingResponse(_stream(request, form.pieces(call, answer), fault, endpoint), media_type="text/event-stream")
        await asyncio.sleep(fault.delay)
        if fault.kind == "cut":
            return StreamingResponse(_cut(request, json.dumps(form.whole(call, answer))), media_type="application/json")
        return JSONResponse(form.whole(call, answer), headers={"x-request-id": f"req_{call.digest}"})

    async def _carried_out(self, request: Request, fault: Fault, model: str) -> Response | None:
        """Lets happen what comes before an answer; returns the answer where it is that of a fault."""
        if fault.hold:
            self._held += 1
            await self._released.wait()
        if fault.kind == "timeout":
            while (await request.receive())["type"] != "http.disconnect":
                pass
            return Response(status_code=499)
        if fault.kind == "reset":
            _reset_connection(request)
            return Response(status_code=499)
        error = fault.error(model)
        if error is not None:
            await asyncio.sleep(fault.delay)
            return JSONResponse(error, status_code=fault.status, headers=fault.headers())
        if fault.kind == "malformed":
            return Response('{"id": "chatcmpl-', media_type="application/json")
        return None

    async def _input_tokens(self, request: Request) -> Response:
        _authorized(request)
        call = read_responses(await request.json())
        used = responses_usage(call, Answer("", (), "stop", "count"))["input_tokens"]
        return JSONResponse({"object": "response.input_tokens", "input_tokens": used})

    async def _embeddings(self, request: Request) -> Response:
        _authorized(request)
        body = await request.json()
        made = embeddings(body)
        model, given = made["model"], body["input"]
        said = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        rule = self.rules.first("embeddings", model, said)
        if rule is not None and "fault" not in rule.spec:
            raise BadRule(f"rule {rule.number} takes an embedding, which it can only let fail: give it a fault")
        notation = rule.spec["fault"] if rule is not None else ""
        header = request.headers.get("x-fault", "")
        fault = self._faults.read(notation, said) if rule else self._faults.of(model, header, "", said)
        usage = {"prompt": made["usage"]["prompt_tokens"], "completion": 0}
        entry = {"endpoint": "embeddings", "model": model, "status": fault.status, "fault": fault.kind, "usage": usage, "said": said}
        self.journal.write(entry)
        return await self._carried_out(request, fault, model) or JSONResponse(made)

    async def _models(self, request: Request) -> Response:
        _authorized(request)
        self.journal.write({"endpoint": "models", "model": None, "status": 200})
        return JSONResponse({"object": "list", "data": [_model_card(model) for model in _MODELS]})

    async def _model(self, request: Request) -> Response:
        _authorized(request)
        model = request.path_params["model"]
        fault = self._faults.of(model, request.headers.get("x-fault", ""), "", f"models {model}")
        self.journal.write({"endpoint": "models", "model": model, "status": fault.status, "fault": fault.kind})
        return await self._carried_out(request, fault, model) or JSONResponse(_model_card(model))

    async def _requests(self, request: Request) -> Response:
        since = int(request.query_params.get("since", "0"))
        return JSONResponse([entry for entry in self.journal.entries() if entry["n"] > since])

    async def _counts(self, _request: Request) -> Response:
        return JSONResponse({**self.journal.counts(), "held": self._held})

    async def _set_rules(self, request: Request) -> Response:
        self.rules.add((await request.json())["rules"])
        return JSONResponse({})

    async def _set_policy(self, request: Request) -> Response:
        policy = (await request.json())["tools"]
        if policy not in POLICIES:
            raise BadRequest(f"no policy is named {policy!r}: say one of {', '.join(POLICIES)}", "tools")
        self.policy = policy
        return JSONResponse({})

    async def _release(self, _request: Request) -> Response:
        """Lets go of all calls that are held now; what comes later is held again."""
        self._released.set()
        self._released = asyncio.Event()
        self._held = 0
        return JSONResponse({})

    async def _reset(self, _request: Request) -> Response:
        """Goes back to how the server was started: no requests, nothing counted, the script's rules, the first policy."""
        self.journal.clear()
        self.rules.reset()
        self.policy = self._first_policy
        self._faults = Faults()
        return JSONResponse({})


def _authorized(request: Request) -> None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise BadRequest("You didn't provide an API key.", code="invalid_api_key")


async def _bad_request(_request: Request, error: Exception) -> Response:
    code, param = getattr(error, "code", None), getattr(error, "param", None)
    status = 401 if code == "invalid_api_key" else 400
    return JSONResponse(error_body(str(error), "invalid_request_error", code, param), status_code=status)


def _entry(endpoint: str, call: Call, answer: Answer, fault: Fault) -> dict[str, Any]:
    prompt, completion = counted(call, answer)
    return {
        "endpoint": endpoint,
        "model": call.model,
        "digest": call.digest,
        "stream": call.stream,
        "tools": [tool.name for tool in call.tools],
        "status": fault.status,
        "fault": fault.kind,
        "why": answer.why,
        "calls": [name for name, _ in answer.calls],
        "usage": {"prompt": prompt, "completion": completion},
        "said": call.text,
        "answered": answer.text,
    }


async def _stream(request: Request, events: Iterator[dict[str, Any]], fault: Fault, endpoint: str) -> AsyncIterator[bytes]:
    """The events as server-sent events, up to where a fault ends them."""
    made = list(events)
    for index, event in enumerate(made):
        await asyncio.sleep(fault.delay)
        if fault.kind == "cut" and index >= len(made) // 2:
            _reset_connection(request)
            return
        name = f"event: {event['type']}\n" if endpoint == "responses" else ""
        yield f"{name}data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
    if endpoint == "chat":
        yield b"data: [DONE]\n\n"


async def _cut(request: Request, body: str) -> AsyncIterator[bytes]:
    yield body[: len(body) // 2].encode()
    # What was written must have gone before the reset takes it back.
    await asyncio.sleep(0)
    _reset_connection(request)


def _reset_connection(request: Request) -> None:
    """Ends the connection by a reset, as a host that dies does. Uvicorn has no public way to it: the receiving end of a
    request is a method of the object that has the connection's transport."""
    transport = request.receive.__self__.transport
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _model_card(model: str) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": chat.CREATED, "owned_by": "tests"}
