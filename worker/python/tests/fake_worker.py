"""A worker as far as the crew host can tell: speaks the frames, passes fds, holds the other end of every channel."""

import atexit
import fcntl
import functools
import json
import os
import re
import select
import socket
import struct
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
CREWS = str(HERE / "crews")
MAIN = str(HERE.parent / "main.py")
# Nothing here waits for time to pass; a test that would wait for ever fails after this.
GIVE_UP_S = 60.0


# Set by `tests/run.sh --full`.
FULL = "CREWFLEET_TEST_FULL" in os.environ
# For a test of what changes seldom that imports CrewAI in an interpreter of its own.
seldom = unittest.skipUnless(FULL, "tests/run.sh --full runs it: it imports CrewAI anew")


class Peer:
    """The worker's end of one channel."""

    def __init__(self) -> None:
        self.socket, self.other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(GIVE_UP_S)
        self._buffer = bytearray()
        self.skipped: list[dict] = []
        self.ended: list[dict] = []
        self._exited: list[dict] = []

    def send(self, frame: dict, fds: tuple[int, ...] = ()) -> None:
        body = json.dumps(frame).encode()
        data = struct.pack(">I", len(body)) + body
        sent = socket.send_fds(self.socket, [data], list(fds)) if fds else 0
        self.socket.sendall(data[sent:])

    def receive(self) -> dict | None:
        """The next frame, None at the end."""
        header = self._exactly(4)
        if header is None:
            return None
        body = self._exactly(struct.unpack(">I", header)[0])
        return json.loads(body) if body is not None else None

    def expect(self, *types: str) -> dict:
        """The next frame of one of `types`; events and what is told whole are kept in `skipped`, "ended" in `ended`, "exited" for who
        asks for it."""
        if "exited" in types and self._exited:
            return self._exited.pop(0)
        while True:
            frame = self.receive()
            if frame is None:
                raise AssertionError(f"the channel ended; expected {types}, skipped {self.skipped}")
            if frame["type"] in types:
                return frame
            if frame["type"] == "ended":
                self.ended.append(frame)
            elif frame["type"] == "exited":
                self._exited.append(frame)
            elif frame["type"] in ("event", "task", "step"):
                self.skipped.append(frame)
            else:
                raise AssertionError(f"expected {types}, got {frame}")

    def event(self, event_type: str) -> dict:
        """The next event of that type."""
        while (frame := self.expect("event"))["event_type"] != event_type:
            self.skipped.append(frame)
        return frame

    def close(self) -> None:
        self.socket.close()
        self.other.close()

    def _exactly(self, count: int) -> bytes | None:
        while len(self._buffer) < count:
            data = self.socket.recv(1 << 20)
            if not data:
                return None
            self._buffer += data
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data


class FakeWorker:
    """Starts a fork server with `environ` beside its own; `with_crewai=False` starts it in an interpreter that cannot import crewai.
    `launcher` is a command that becomes the command after it."""

    def __init__(self, with_crewai: bool = True, environ: dict[str, str] | None = None, launcher: Sequence[str] = ()) -> None:
        self.dir = tempfile.TemporaryDirectory(prefix="crewfleet-test-")
        # Where the code of crews/shop leaves a line of what it does.
        self.marks = os.path.join(self.dir.name, "marks")
        self.peer = Peer()
        self.output = tempfile.TemporaryFile()
        environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": self.dir.name,
            "CREWFLEET__BROKER__URL": "secret",
            "SHOP_MARKS": self.marks,
            **(environ or {}),
        }
        flags = [] if with_crewai else ["-S"]
        command = [*launcher, sys.executable, *flags, MAIN, "fork-server", os.path.join(self.dir.name, "import-storage")]
        self.process = subprocess.Popen(command, stdin=self.peer.other.fileno(), stdout=self.output, stderr=self.output, env=environment)
        self.peer.other.close()
        self.ready = self.peer.expect("ready")
        self._ids = 0
        self.channels: list = []
        self._hosts: set[int] = set()

    def lacks(self, feature: str) -> bool:
        """Whether this CrewAI has no such feature, of those that crewfleet_host.features names."""
        return any(f" has no {feature}: " in note for note in self.ready["notes"])

    def require(self, *features: str) -> None:
        """Skips the test, or the class, where this CrewAI lacks one of them."""
        for feature in features:
            if self.lacks(feature):
                raise unittest.SkipTest(f"crewai {self.ready['crewai']} has no {feature}")

    def require_import(self, target: str, **more: object) -> None:
        """Skips the test where the CrewAI is an older one, and has not what the target's module imports or sets."""
        if not self.ready["notes"]:
            return
        message = (self.check(target, **more).get("error") or {}).get("message", "")
        if re.search(r"No module named 'crewai|cannot import name '\w+' from 'crewai|\"Crew\" object has no field", message):
            raise unittest.SkipTest(f"crewai {self.ready['crewai']}: {message}")

    def settings(self, target: str, **more: object) -> dict:
        settings = {"target": target, "path": [CREWS], "isolation": "fork", "storage_dir": os.path.join(self.dir.name, "storage")}
        folders = {"data_dir": self.dir.name, "scratch_dir": os.path.join(self.dir.name, "hosts")}
        return {**settings, **folders, "storage": "kickoff", "rlimit_data_bytes": None, **more}

    def check(self, target: str, **more: object) -> dict:
        self._ids += 1
        self.peer.send({"type": "check", "id": self._ids, "crew": "crew", "settings": self.settings(target, **more)})
        answer = self.peer.expect("checked")
        assert answer["id"] == self._ids, answer
        return answer

    def start_host(self, target: str, **more: object) -> "FakeHost":
        return FakeHost(self, self.settings(target, **more))

    def next_id(self) -> int:
        self._ids += 1
        return self._ids

    def begun(self, pid: int) -> None:
        """Says that a host was started."""
        self._hosts.add(pid)

    def exited(self) -> dict:
        """What is told of the next host that ends."""
        frame = self.peer.expect("exited")
        self._hosts.discard(frame["pid"])
        return frame

    def end_hosts(self) -> None:
        """Ends all hosts, and waits for it: the tests of another class have the fork server to themselves."""
        for channel in self.channels:
            channel.close()
        self.channels.clear()
        while self._hosts:
            self.exited()

    def host_output(self) -> str:
        """What fork server, hosts and probes wrote."""
        self.output.seek(0)
        return self.output.read().decode(errors="replace")

    def close(self) -> None:
        """Does what the death of a worker does: closes all channels. Waits for the zygote."""
        for channel in self.channels:
            channel.close()
        self.peer.close()
        self.process.wait(GIVE_UP_S)
        self.output.close()
        self.dir.cleanup()


@functools.cache
def shared_worker() -> FakeWorker:
    """A fork server with CrewAI for the tests of this interpreter that need none of their own: its import is what they cost most.
    A class that used it says so by `end_hosts` in tearDownClass."""
    # A test that would ask a real model fails, and what is exported nowhere may be tried.
    for name in ("OPENAI_API_KEY", "OTEL_SDK_DISABLED"):
        os.environ.pop(name, None)
    worker = FakeWorker()
    atexit.register(worker.close)
    return worker


class FakeHost:
    """A crew host, ready or failed (`first` is its first frame)."""

    def __init__(self, worker: FakeWorker, settings: dict) -> None:
        self.worker = worker
        self.peer = Peer()
        worker.channels.append(self.peer)
        self.start_id = worker.next_id()
        worker.peer.send({"type": "start", "id": self.start_id, "role": "host", "crew": "crew", "settings": settings}, (self.peer.other.fileno(),))
        self.peer.other.close()
        self.pid = worker.peer.expect("started")["pid"]
        worker.begun(self.pid)
        self.first = self.peer.expect("ready", "failed")

    def start_child(self) -> "FakeChild":
        return FakeChild(self)

    def exited(self) -> dict:
        return self.peer.expect("exited")


class FakeChild:
    """A child, ready or failed (`first` is its first frame)."""

    def __init__(self, host: FakeHost) -> None:
        self.host = host
        self.peer = Peer()
        host.worker.channels.append(self.peer)
        (read_stdout, stdout), (read_stderr, stderr) = os.pipe(), os.pipe()
        fcntl.fcntl(stdout, fcntl.F_SETPIPE_SZ, 1 << 20)  # nobody reads it before the end
        self._stdout, self._stderr = open(read_stdout, "rb"), open(read_stderr, "rb")
        host.worker.channels += [self._stdout, self._stderr]
        self.start_id = host.worker.next_id()
        host.peer.send({"type": "start", "id": self.start_id, "role": "child"}, (self.peer.other.fileno(), stdout, stderr))
        self.peer.other.close()
        os.close(stdout)
        os.close(stderr)
        self.pid = host.peer.expect("started")["pid"]
        self.first = self.peer.expect("hello", "failed")
        self._kickoffs = 0

    def kickoff(self, inputs: dict, **more: object) -> None:
        self._kickoffs += 1
        kickoff_id = f"k-{self.pid}-{self._kickoffs}"
        self.work_dir = os.path.join(self.host.worker.dir.name, kickoff_id)
        frame = {"type": "kickoff", "kickoff_id": kickoff_id, "attempt": 1, "redrive": 0, "inputs": inputs, "meta": None}
        self.peer.send({**frame, "work_dir": self.work_dir, "timeout_s": None, **more})

    def run(self, inputs: dict, **more: object) -> dict:
        """One kickoff to its answer, "result" or "error"."""
        self.kickoff(inputs, **more)
        return self.peer.expect("result", "error")

    def ended(self) -> dict:
        """What became of what the last kickoff left behind."""
        return self.peer.ended.pop(0) if self.peer.ended else self.peer.expect("ended")

    def do(self, what: str, value: object = None) -> dict:
        """One kickoff of crews/plain.py."""
        return self.run({"do": what, "with": value})

    def output(self) -> tuple[str, str]:
        """All that it wrote, to stdout and to stderr (less than a pipe holds); waits for its end."""
        return self._stdout.read().decode(errors="replace"), self._stderr.read().decode(errors="replace")

    def finish(self) -> dict:
        """Closes its channel; returns the frame "exited"."""
        self.peer.close()
        return self.host.exited()


class Fifo:
    """A FIFO for a crew that waits: `read` waits for its message, `release` lets one reader go on."""

    def __init__(self, directory: str, name: str) -> None:
        self.path = os.path.join(directory, name)
        os.mkfifo(self.path)

    def read(self) -> str:
        with open(self.path, encoding="ascii") as file:
            return file.read()

    def release(self) -> None:
        with open(self.path, "w", encoding="ascii") as file:
            file.write("go")


class Watched:
    """A process whose end can be awaited, whoever its parent is."""

    def __init__(self, pid: int) -> None:
        try:
            self._watch: int | None = os.pidfd_open(pid)
        except ProcessLookupError:
            self._watch = None

    def ended(self) -> bool:
        """Waits for the end."""
        if self._watch is None:
            return True
        poll = select.poll()
        poll.register(self._watch, select.POLLIN)
        ended = bool(poll.poll(GIVE_UP_S * 1000))
        os.close(self._watch)
        return ended
