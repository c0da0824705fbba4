"""Targets without CrewAI: what a crew may do to its process, one method each."""

import datetime
import email.utils
import os
import signal
import subprocess
import sys
import threading


def make() -> "Plain":
    return Plain()


class Plain:
    """`kickoff` does what the input "do" names, with the input "with"."""

    def kickoff(self, inputs: dict) -> object:
        return getattr(self, inputs["do"])(inputs.get("with"))

    def echo(self, value: object) -> object:
        return value

    def where(self, _: object) -> dict:
        names = {"kickoff_id": "CREWFLEET_KICKOFF_ID", "storage": "CREWAI_STORAGE_DIR", "leaked": "LEAKED", "secret": "CREWFLEET__BROKER__URL"}
        return {"cwd": os.getcwd(), **{name: os.environ.get(variable) for name, variable in names.items()}}

    def leak(self, _: object) -> None:
        os.environ["LEAKED"] = "yes"
        os.chdir("/tmp")

    def exit(self, code: object) -> None:
        sys.exit(code)

    def hard_exit(self, code: int) -> None:
        os._exit(code)

    def eat(self, count: int) -> int:
        return len(bytearray(count))

    def shout(self, text: str) -> str:
        os.write(1, text.encode())
        sys.stderr.write("from stderr\n")
        return "shouted"

    def read_stdin(self, _: object) -> str:
        return sys.stdin.read()

    def big(self, count: int) -> str:
        return "x" * count

    def big_error(self, count: int) -> None:
        raise ValueError("y" * count)

    def strange(self, _: object) -> dict:
        me: list = []
        me.append(me)
        deep: list = []
        for _ in range(5000):
            deep = [deep]
        return {"nan": float("nan"), "set": {1}, "bytes": b"\xff", "lone": "a\ud800b", "cycle": me, "deep": deep, 3: object}

    def rate_limit(self, _: object) -> None:
        class RateLimitError(ConnectionError):
            status_code = 429
            response = type("Response", (), {"headers": {"retry-after": "7"}})

        raise RateLimitError("slow down") from KeyError("token")

    def dated_rate_limit(self, _: object) -> None:
        class RateLimitError(Exception):
            date = email.utils.format_datetime(datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1), usegmt=True)
            response = type("Response", (), {"headers": {"retry-after": date}})

        raise RateLimitError

    def write_files(self, _: object) -> str:
        os.makedirs("out")
        for name in ("report.md", "out/a.txt"):
            with open(name, "w", encoding="utf-8") as file:
                file.write("text")
        os.symlink("/etc/hostname", "link")
        return "written"

    def leave_thread(self, _: object) -> str:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        return "left"

    def daemonise(self, _: object) -> int:
        return daemonise()

    def daemonise_and_die(self, place: str) -> None:
        pid = daemonise()
        with open(place, "w", encoding="ascii") as file:
            file.write(str(pid))
        os.kill(os.getpid(), signal.SIGKILL)

    def hang(self, place: str) -> None:
        """Says (through the FIFO `place`) which processes it has, then never ends."""
        pids = os.getpid(), subprocess.Popen(["sleep", "1000000"]).pid, daemonise()
        with open(place, "w", encoding="ascii") as file:
            file.write(" ".join(map(str, pids)))
        threading.Event().wait()


def daemonise() -> int:
    """A process that has left session and parent; returns its pid."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            os.close(write)
            signal.pause()
        os.write(write, str(pid).encode())
        os._exit(0)
    os.wait()
    return int(os.read(read, 32))
