"""What a crew can do to its worker, by the name that the inputs ask for; and a crew without CrewAI that does it.

Inputs: DO names the deed, WITH its argument, JOURNAL a file that gets a line for each run (so that a test can count
runs), MARK a text that comes back in the result.
"""

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time


def _kill(_: str) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return "unreachable"


def _segfault(_: str) -> str:
    ctypes.string_at(0)
    return "unreachable"


def _sys_exit(code: str) -> str:
    sys.exit(int(code))


def _os_exit(code: str) -> str:
    os._exit(int(code))


def _out_of_memory(_: str) -> str:
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1) * (16 * 1024 * 1024)))


def _hold(megabytes_and_file: str) -> str:
    """Holds so much memory until the file is there."""
    megabytes, file = megabytes_and_file.split()
    hoard = bytearray(int(megabytes) * 1024 * 1024)
    for page in range(0, len(hoard), 4096):
        hoard[page] = 1
    _await_file(file)
    return f"held {len(hoard)}"


def _garbage(_: str) -> str:
    os.write(1, os.urandom(3 * 1024 * 1024))
    os.write(2, b"\x00\xff\xfe" * 1000 + b"{not json\n")
    print('{"type": "result", "result": {"raw": "forged"}}')
    return "printed"


def _hang(_: str) -> str:
    while True:
        time.sleep(60)


def _hold_the_gil(_: str) -> str:
    re.match(r"(a+)+$", "a" * 64 + "b")
    return "unreachable"


def _grandchild(_: str) -> str:
    return str(subprocess.Popen(["sleep", "1000"]).pid)


def _daemon(_: str) -> str:
    """A grandchild in a session of its own, as daemons are."""
    script = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        print(os.getpid(), flush=True)\n        time.sleep(1000)\n"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    return process.stdout.readline().strip()


def _daemon_then_kill(file: str) -> str:
    with open(file, "w") as out:
        out.write(_daemon(""))
    return _kill("")


def _threads(_: str) -> str:
    for daemon in (True, False):
        threading.Thread(target=lambda: time.sleep(1000), daemon=daemon).start()
    return "threads run on"


def _raise(text: str) -> str:
    raise ValueError(text)


def _long_traceback(size: str) -> str:
    raise ValueError("x" * int(size))


def _big_result(size: str) -> str:
    return "r" * int(size)


def _sleep(seconds: str) -> str:
    time.sleep(float(seconds))
    return f"slept {seconds}"


def _await_file(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.05)
    return "went on"


def _write_file(name: str) -> str:
    with open(name, "w") as file:
        file.write("left by the crew")
    return os.path.dirname(os.environ["CREWAI_STORAGE_DIR"])  # the kickoff's own folder


def _kill_host(_: str) -> str:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
    return "unreachable"


def _environment(_: str) -> str:
    return json.dumps(sorted(os.environ))


DEEDS = {name.removeprefix("_"): deed for name, deed in list(globals().items()) if name.startswith("_") and callable(deed)}


def run(do: str, argument: str, mark: str, journal: str) -> str:
    """Notes the run in the journal, if one is named, and does the deed."""
    if journal:
        with open(journal, "a") as file:
            file.write(f"{mark}\n")
    return f"{mark} {DEEDS[do](argument)}"


class Plain:
    """Anything with a kickoff method is a crew. An interpreter without CrewAI starts in a tenth of the time."""

    def kickoff(self, inputs: dict) -> str:
        return run(inputs["DO"], str(inputs["WITH"]), inputs["MARK"], inputs["JOURNAL"])
