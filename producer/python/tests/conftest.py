"""A real RabbitMQ, and real workers with the crews that every worker has."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from crewfleet import Fleet, Kickoff

ROOT = Path(__file__).parents[3]
PROGRAMS = Path(os.environ.get("CREWFLEET_BIN_DIR", ROOT / "target/debug"))
CREWS = ("echo", "sleep", "fail")


class Node:
    """A private RabbitMQ node, which ends with its owner."""

    def __init__(self) -> None:
        """Starts it, and waits until it answers."""
        self._owner = subprocess.Popen([str(PROGRAMS / "node-owner")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.folder, self.url = self._line(), self._line()

    def restart(self) -> None:
        """Stops it in order, starts it on the same data, and waits until it answers."""
        assert self._owner.stdin is not None
        self._owner.stdin.write("restart\n")
        self._owner.stdin.flush()
        assert self._line() == "restarted"

    def close(self) -> None:
        """Ends it."""
        self._owner.kill()
        self._owner.wait()

    def _line(self) -> str:
        assert self._owner.stdout is not None
        line = self._owner.stdout.readline().strip()
        if not line:
            raise AssertionError("the node's owner has ended: read the lines above")
        return line


class Worker:
    """A worker in a folder of its own, which is removed with it."""

    def __init__(self, url: str, namespace: str, crews: str = "", environ: dict[str, str] | None = None) -> None:
        """Starts it with `echo`, `sleep` and `fail`, and with these sections, and waits until it is ready."""
        self._folder = tempfile.TemporaryDirectory(prefix="crewfleet-client-test-")
        builtin = "".join(f'[crews.{name}]\nrunner = "builtin"\ntarget = "{name}"\nconcurrency = 10000\n' for name in CREWS)
        config = Path(self._folder.name, "crewfleet.toml")
        config.write_text(
            f'[broker]\nurl = "{url}"\nnamespace = "{namespace}"\n[worker]\nadmin_addr = "127.0.0.1:0"\ndata_dir = "{self._folder.name}/data"\n{builtin}{crews}'
        )
        command = [str(PROGRAMS / "crewfleet-worker"), "--config", str(config)]
        environment = {**os.environ, **(environ or {})}
        self._process = subprocess.Popen(command, cwd=self._folder.name, stderr=subprocess.PIPE, text=True, env=environment)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if re.search(r'"message":"ready"', line):
                break
        else:
            raise AssertionError(f"the worker has ended: {line}")
        # What it logs further is read, so that it never waits for us.
        self._drain = subprocess.Popen(["cat"], stdin=self._process.stderr, stdout=subprocess.DEVNULL)

    def close(self) -> None:
        """Ends it, and removes its folder."""
        self._process.terminate()
        self._process.wait()
        self._drain.wait()
        self._folder.cleanup()


@dataclass(frozen=True)
class Site:
    """A namespace with a worker."""

    url: str
    namespace: str

    def fleet(self, **settings: object) -> Fleet:
        """A fleet there."""
        return Fleet(self.url, namespace=self.namespace, **settings)  # type: ignore[arg-type]


async def started(kickoff: Kickoff[Any]) -> None:
    """Awaits that the crew runs, of a kickoff that was started with its events."""
    async for event in kickoff.events():
        if event.type == "kickoff_started":
            break


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """The node of all tests but those that harm it."""
    node = Node()
    yield node
    node.close()


@pytest.fixture(scope="session")
def site(node: Node) -> Iterator[Site]:
    """A namespace with a worker, for all tests that need no other."""
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    worker = Worker(node.url, namespace)
    yield Site(node.url, namespace)
    worker.close()


@pytest.fixture(scope="session")
def fleet(site: Site) -> Iterator[Fleet]:
    """A fleet for all tests that need no other."""
    with site.fleet() as fleet:
        yield fleet


@pytest.fixture
def start_worker() -> Iterator[Callable[..., Worker]]:
    """Starts workers that end with the test."""
    started: list[Worker] = []

    def start(url: str, namespace: str, crews: str = "", environ: dict[str, str] | None = None) -> Worker:
        started.append(Worker(url, namespace, crews, environ))
        return started[-1]

    yield start
    for worker in started:
        worker.close()
