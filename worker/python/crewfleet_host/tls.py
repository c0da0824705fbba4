"""One TLS context for all HTTP clients of a process and its forks.

Every crew builds its models anew, so without this every kickoff would read the certificate bundle again, twice for each model.
Measured with crewai 1.15.30 and a crew that has two of OpenAI's: 169 ms of CPU a kickoff, and 388 without it.
"""

import os
import ssl
import sys
from typing import Any

_MARK = "_crewfleet_shared"


def share_contexts() -> None:
    """Makes httpx, if it is imported, reuse the context it makes for default settings; anything else stays its own."""
    for name in ("httpx._transports.default", "httpx2._transports.default"):
        transports: Any = sys.modules.get(name)
        create = getattr(transports, "create_ssl_context", None)
        if callable(create) and not hasattr(create, _MARK):
            transports.create_ssl_context = _sharing(create)


def _sharing(create: Any) -> Any:
    contexts: dict[tuple[Any, ...], Any] = {}

    def create_ssl_context(verify: Any = True, cert: Any = None, trust_env: bool = True) -> Any:
        # httpcore sets the protocols it offers on the context at each connection: with HTTP/2 about, they differ.
        if verify is not True or cert is not None or "h2" in sys.modules:
            return create(verify=verify, cert=cert, trust_env=trust_env)
        key = (str(trust_env), *_trusted())
        if key not in contexts:
            contexts[key] = create(verify=verify, cert=cert, trust_env=trust_env)
        return contexts[key]

    setattr(create_ssl_context, _MARK, True)
    return create_ssl_context


def _trusted() -> tuple[Any, ...]:
    """All that a context of default settings depends on, so that whoever changes some of it gets another one: variables, the
    files they name (a bundle may be renewed while we live), and what libraries put into their places (truststore, certifi)."""
    variables = tuple(os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"))
    where = getattr(sys.modules.get("certifi"), "where", None)
    bundle = where() if callable(where) else None
    files = tuple(_state(path) for path in (*variables[:2], bundle) if path)
    return (*variables, bundle, files, ssl.SSLContext, ssl.create_default_context)


def _state(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:  # httpx says so itself
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
