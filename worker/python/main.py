"""Entry point of the crew host; the worker starts it, people only by mistake.

    python main.py fork-server STORAGE_DIR     fd 0 is the Unix stream socket to the worker
    python main.py child SETTINGS_JSON    exec'ed by a crew host whose isolation is "spawn"

This file alone runs in any Python, also in one that is too old for the package: it has to say so.
"""

import json
import os
import platform
import struct
import sys

LOWEST_PYTHON = (3, 10)  # the lowest that tests/versions.sh tries

HERE = os.path.dirname(os.path.abspath(__file__))

USAGE = """usage: python main.py fork-server STORAGE_DIR
       python main.py child SETTINGS_JSON

This program is started by crewfleet-worker, which speaks frames with it over a Unix socket.
To run a crew by hand: crewfleet dev --target pkg.crew:MyCrew --path src
"""


def main(argv):  # type: (list[str]) -> int
    """Runs the role that the arguments name; returns the exit code (1: this Python is too old, 2: wrong usage)."""
    if len(argv) != 3 or argv[1] not in ("fork-server", "child"):
        sys.stderr.write(USAGE)
        return 2
    if sys.version_info[:2] < LOWEST_PYTHON:
        return refuse_python()
    sys.path.insert(0, HERE)
    from crewfleet_host.fork_server import run_fork_server
    from crewfleet_host.spawned import run_spawned_child

    # A crew that says `import main` means its own; the package finds its modules without sys.path.
    sys.path[:] = [entry for entry in sys.path if entry != HERE]
    return run_fork_server(argv[2]) if argv[1] == "fork-server" else run_spawned_child(argv[2])


def refuse_python():  # type: () -> int
    """Tells the worker, in the frame "failed", that this Python is too old; returns the exit code."""
    message = "Python {} is too old: kickoffs need Python {}.{} or later; name a newer interpreter, best that of a virtual environment".format(
        platform.python_version(), *LOWEST_PYTHON
    )
    error = {"kind": "unsupported_version", "message": message, "retryable": False, "detail": None}
    body = json.dumps({"type": "failed", "error": error}).encode("ascii")
    try:
        os.write(0, struct.pack(">I", len(body)) + body)
    except OSError:  # nobody listens any more
        sys.stderr.write(message + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
