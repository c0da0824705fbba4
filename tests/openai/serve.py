"""Starts the server, prints its address as one line (http://127.0.0.1:PORT/v1), and serves until it is ended.

    python tests/openai/serve.py [--port N] [--journal FILE] [--script FILE] [--tools none|first|all] [--until-eof]

Needs starlette, uvicorn, jsonschema and numpy, all of which come with CrewAI."""

import argparse
import contextlib
import os
import socket
import sys
import threading

import uvicorn
from model_server.answers import POLICIES
from model_server.app import ModelServer
from model_server.journal import Journal
from model_server.rules import BadRule, Rules, read_script


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, address: str) -> None:
        super().__init__(config)
        self._address = address

    async def startup(self, sockets: "list[socket.socket] | None" = None) -> None:
        await super().startup(sockets)
        print(self._address, flush=True)


def main() -> None:
    """Runs until SIGTERM, SIGINT or, with --until-eof, the end of stdin."""
    options = _options()
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(open(options.journal, "a", encoding="utf-8")) if options.journal else None
        try:
            rules = Rules(read_script(options.script) if options.script else [])
        except (BadRule, OSError) as error:
            sys.exit(f"the script can't be used: {error}")
        listener = stack.enter_context(socket.create_server(("127.0.0.1", options.port), backlog=1024))
        application = ModelServer(Journal(journal), rules, options.tools).app
        config = uvicorn.Config(application, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        server = _Server(config, f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        if options.until_eof:
            threading.Thread(target=_end_at_eof, args=(server,), daemon=True).start()
        server.run(sockets=[listener])


def _end_at_eof(server: uvicorn.Server) -> None:
    while os.read(0, 4096):
        pass
    server.should_exit = True


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="An OpenAI-compatible server for tests.")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--journal", help="file that gets a JSON line for each request")
    parser.add_argument("--script", help="JSON file of rules: what to answer to which call")
    parser.add_argument("--tools", choices=POLICIES, default="none", help="which offered tools the model calls unasked")
    parser.add_argument("--until-eof", action="store_true", help="end when stdin ends, and so with who started it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
