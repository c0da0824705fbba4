"""A real RabbitMQ, workers with crews that need no CrewAI, and a gateway with its dashboard."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(os.environ.get("CREWFLEET_BIN_DIR", ROOT / "target/debug"))
HERE = Path(__file__).parent

CONFIG = """
[broker]
url = "{url}"
namespace = "{namespace}"

[worker]
id = "{worker}"
admin_addr = "127.0.0.1:0"
data_dir = "{folder}/{worker}"
drain_grace_s = 60

[gateway]
addr = "127.0.0.1:{port}"
admin_addr = "127.0.0.1:0"
tokens_file = "{folder}/tokens.json"
tokens_used_file = "{folder}/used.json"
lame_duck_s = 0

[gateway.store]
file = "{folder}/gateway.sqlite"
meta_keys = ["customer"]
full_text = true

[crews.bakery]
runner = "command"
command = ["{python}", "{here}/crew.py"]
inputs_schema = "{here}/inputs.json"
concurrency = 8

[crews.bakery.retry]
max_attempts = 2
delay_s = 0.2
max_delay_s = 0.2

[crews.echo]
runner = "builtin"
target = "echo"
concurrency = 4

[crews.sleep]
runner = "builtin"
target = "sleep"
concurrency = 2

[crews.fail]
runner = "builtin"
target = "fail"
concurrency = 4
retry.max_attempts = 1
"""


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Process:
    """A program whose log is read for as long as it lives."""

    def __init__(self, command: list[str], ready: str, folder: Path) -> None:
        """Starts it, and waits for this in its log."""
        self._process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        self.log = folder / f"{Path(command[0]).name}-{self._process.pid}.log"
        assert self._process.stderr is not None
        seen = []
        for line in self._process.stderr:
            seen.append(line)
            if re.search(ready, line):
                break
        else:
            raise AssertionError(f"{command[0]} has ended: {''.join(seen)}")
        self._drain = subprocess.Popen(["tee", "--append", str(self.log)], stdin=self._process.stderr, stdout=subprocess.DEVNULL)

    def close(self) -> None:
        """Ends it."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()
        self._drain.wait()


class Site:
    """All of it, in a namespace and a folder of its own."""

    def __init__(self, url: str) -> None:
        """Starts a worker and a gateway, with a token for each kind of reader."""
        self._folder = tempfile.TemporaryDirectory(prefix="crewfleet-ui-")
        self.folder = Path(self._folder.name)
        self._values = {
            "url": url,
            "namespace": f"ui-{uuid.uuid4().hex[:8]}",
            "folder": self.folder,
            "port": free_port(),
            "python": sys.executable,
            "here": HERE,
        }
        self.url = f"http://127.0.0.1:{self._values['port']}"
        self.workers = {"worker-a": self._worker("worker-a")}
        self.admin = self.token("alice", "--all-crews", "--scope", "admin,kickoff,read,operate")
        self.reader = self.token("rita", "--all-crews", "--scope", "read")
        self.tenant = self.token("acme", "--all-crews", "--tenant", "acme")
        self._gateway: Process | None = None
        self.start_gateway()

    def _config(self, worker: str) -> str:
        config = self.folder / f"{worker}.toml"
        config.write_text(CONFIG.format(worker=worker, **self._values))
        return str(config)

    def _worker(self, name: str) -> Process:
        command = [str(PROGRAMS / "crewfleet-worker"), "--config", self._config(name)]
        return Process(command, r'"message":"ready"', self.folder)

    def add_worker(self, name: str) -> None:
        """One more."""
        self.workers[name] = self._worker(name)

    def start_gateway(self) -> None:
        """Starts it, where it was before."""
        command = [str(PROGRAMS / "crewfleet"), "--config", self._config("worker-a"), "gateway"]
        self._gateway = Process(command, "the gateway listens", self.folder)
        self.log = self._gateway.log
        # It knows the workers when they have answered.
        for _ in range(600):
            try:
                self.call("/v1/workers")
                break
            except urllib.error.HTTPError as error:
                assert error.code == 503, error.read()
                time.sleep(0.05)

    def stop_gateway(self) -> None:
        """Ends it in order."""
        assert self._gateway is not None
        self._gateway.close()

    def cli(self, *arguments: str) -> str:
        """What the command prints."""
        command = [str(PROGRAMS / "crewfleet"), "--config", self._config("worker-a"), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=self.folder).stdout.strip()

    def token(self, name: str, *flags: str) -> str:
        """A new token."""
        return self.cli("token", "create", name, *flags)

    def call(self, path: str, body: Any = None, token: str | None = None) -> Any:
        """The answer of the API."""
        headers = {"Authorization": f"Bearer {token or self.admin}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def kickoff(self, crew: str, inputs: dict[str, Any], **fields: Any) -> str:
        """Starts one, and returns its id."""
        return str(self.call("/v1/kickoffs", {"crew": crew, "inputs": inputs, **fields})["kickoff_id"])

    def ended(self, kickoff_id: str) -> Any:
        """Waits for its end, and returns its reply."""
        return self.call(f"/v1/kickoffs/{kickoff_id}/result?wait=30")

    def letters(self, word: str, count: int) -> None:
        """Waits for so many dead letters with this word in their errors: a letter is put away after its reply is sent."""
        for _ in range(600):
            found = self.call("/v1/dead-letters?limit=1000")["items"]
            if len([letter for letter in found if word in (letter["error"] or "")]) >= count:
                return
            time.sleep(0.05)
        raise AssertionError(f"there are no {count} letters with {word}")

    def close(self) -> None:
        """Ends all of it."""
        self.stop_gateway()
        for worker in self.workers.values():
            worker.close()
        self._folder.cleanup()
