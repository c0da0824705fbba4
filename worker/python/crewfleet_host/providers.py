"""The libraries by which a crew calls models without CrewAI, and where in each a request that is paid for goes out.

LangChain and most others call one of these.
"""

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

# Their clients come from one generator: each request, sync or async, streamed or not, goes through one method.
_CLIENTS = ("openai", "anthropic", "groq")
_LITELLM = "litellm"
_LITELLMS = (
    *("completion", "acompletion", "text_completion", "atext_completion", "responses", "aresponses"),
    *("image_generation", "aimage_generation", "transcription", "atranscription", "speech", "aspeech"),
)
LIBRARIES = (*_CLIENTS, _LITELLM)
# Not: embeddings, which knowledge sources make while they are built, and what only administers, such as files and threads.
_PAID = re.compile(
    r"/(?:completions|responses|responses/compact|v1/messages|v1/complete|batches|realtime/calls"
    r"|(?:images|audio)/\w+|videos|videos/.+|runs|run|submit_tool_outputs|fine_tuning/jobs)$"
)

# From the arguments of a call: what it is, in words; None for one that costs nothing.
Named = Callable[[tuple[Any, ...], dict[str, Any]], str | None]


def named(what: str) -> Named:
    """The same whatever a call is given."""
    return lambda _arguments, _named: what


def senders(library: str) -> Iterator[tuple[Any, str, Named]]:
    """Of one of LIBRARIES that has been imported: each owner and name of a function that sends requests, and what a call of it is."""
    if library in _CLIENTS:
        for name in ("SyncAPIClient", "AsyncAPIClient"):
            owner = getattr(sys.modules.get(f"{library}._base_client"), name, None)
            if owner is not None:
                yield owner, "request", _request
        return
    for module in filter(None, map(sys.modules.get, (_LITELLM, f"{_LITELLM}.main"))):
        for name in _LITELLMS:
            yield module, name, named(f"{_LITELLM}.{name}")


def _request(arguments: tuple[Any, ...], named: dict[str, Any]) -> str | None:
    options = named.get("options", arguments[2] if len(arguments) > 2 else None)
    path = str(getattr(options, "url", "")).partition("?")[0]
    if str(getattr(options, "method", "")).casefold() != "post" or not _PAID.search(path):
        return None
    return f'{type(arguments[0]).__name__}.post("{path}")'
