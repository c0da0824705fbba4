"""One TLS context for all HTTP clients of a process and its forks: each costs some 40 ms of CPU and 1.8 MB, two to a model.

Every crew builds its models anew, so without this every kickoff would read the certificate bundle again.
"""

import os
import sys
from typing import Any

_MARK = "_crewfleet_shared"


def share_contexts() -> None:
    """Makes httpx, if it is imported, reuse the context it makes for default settings; anything else stays its own."""
    for name in ("httpx._transports.default", "httpx2._transports.default"):
        transports = sys.modules.get(name)
        create = getattr(transports, "create_ssl_context", None)
        if callable(create) and not hasattr(create, _MARK):
            transports.create_ssl_context = _sharing(create)


def _sharing(create: Any) -> Any:
    contexts: dict[tuple[str | None, ...], Any] = {}

    def create_ssl_context(verify: Any = True, cert: Any = None, trust_env: bool = True) -> Any:
        # httpcore sets the protocols it offers on the context at each connection: with HTTP/2 about, they differ.
        if verify is not True or cert is not None or "h2" in sys.modules:
            return create(verify=verify, cert=cert, trust_env=trust_env)
        key = (str(trust_env), os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"), os.environ.get("SSLKEYLOGFILE"))
        if key not in contexts:
            contexts[key] = create(verify=verify, cert=cert, trust_env=trust_env)
        return contexts[key]

    setattr(create_ssl_context, _MARK, True)
    return create_ssl_context
