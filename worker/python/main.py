"""Entry point of the crew host; the worker starts it, people only by mistake.

    python main.py zygote STORAGE_DIR     fd 0 is the Unix stream socket to the worker
    python main.py child SETTINGS_JSON    exec'ed by a crew host whose isolation is "spawn"
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))

USAGE = """usage: python main.py zygote STORAGE_DIR
       python main.py child SETTINGS_JSON

This program is started by crewfleet-worker, which speaks frames with it over a Unix socket.
To run a crew by hand: crewfleet dev --target pkg.crew:MyCrew --path src
"""


def main(argv: list[str]) -> int:
    """Runs the role that the arguments name; returns the exit code (2: wrong usage)."""
    if len(argv) != 3 or argv[1] not in ("zygote", "child"):
        sys.stderr.write(USAGE)
        return 2
    sys.path.insert(0, HERE)
    from crewfleet_host.spawned import run_spawned_child
    from crewfleet_host.zygote import run_zygote

    # A crew that says `import main` means its own; the package finds its modules without sys.path.
    sys.path[:] = [entry for entry in sys.path if entry != HERE]
    return run_zygote(argv[2]) if argv[1] == "zygote" else run_spawned_child(argv[2])


if __name__ == "__main__":
    sys.exit(main(sys.argv))
