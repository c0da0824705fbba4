"""Each client of `deploy/examples/clients` runs, with a crew that every worker has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from threading import Thread

import pytest
from conftest import PROGRAMS, ROOT, Node, Worker
from crewfleet import CrewCancelled, Fleet

CLIENTS = ROOT / "deploy/examples/clients"
MADE = Path(os.environ.get("CREWFLEET_DIR", ROOT / ".crewfleet"))
PATIENCE_S = 120
BAKERY = "a bakery in Lisbon"


@pytest.fixture(scope="module")
def url(node: Node) -> Iterator[str]:
    """The broker, with a worker of the namespace that the examples write out."""
    worker = Worker(node.url, "kickoff")
    yield node.url
    worker.close()


def run(url: str, command: list[str], **environ: str) -> str:
    """The output of an example that ends well."""
    environment = {**os.environ, "CREWFLEET__BROKER__URL": url, "AMQP_URL": url, "PYTHONPATH": str(ROOT / "producer/python/src"), **environ}
    ended = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def listening(command: list[str], cwd: Path, environment: dict[str, str], found: Callable[[str], str | None]) -> Iterator[str]:
    """Starts a server, and gives what it says in the line of its log that is waited for."""
    with subprocess.Popen(command, cwd=cwd, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True) as server:
        said: Queue[str | None] = Queue()
        log: list[str] = []

        def read() -> None:
            assert server.stderr is not None
            for line in server.stderr:
                log.append(line)
                if (what := found(line)) is not None:
                    said.put(what)
            said.put(None)

        reader = Thread(target=read)
        reader.start()
        try:
            what = said.get(timeout=PATIENCE_S)
            assert what is not None, "".join(log)
            yield what
        finally:
            server.terminate()
            server.wait()
            reader.join()


def test_each_is_under_forty_lines() -> None:
    lines = {path.name: len(path.read_text().splitlines()) for path in CLIENTS.iterdir() if path.is_file()}
    assert len(lines) >= 6
    assert all(number < 40 for number in lines.values()), lines


def test_the_package(url: str) -> None:
    said = run(url, [sys.executable, str(CLIENTS / "with_crewfleet.py"), "echo"]).splitlines()
    assert (BAKERY in said[0], said[1]) == (True, "2 more")
    assert said[2:] == ["kickoff_started", "kickoff_finished", said[0]]


def test_what_was_a_celery_task(url: str) -> None:
    said = run(url, [sys.executable, str(CLIENTS / "from_celery.py"), "echo"]).splitlines()
    # The last one is cancelled, unless it was faster.
    assert len(said) in (4, 5)
    assert all(BAKERY in line for line in said[:4])
    # One that takes its time is.
    sleeps = (CLIENTS / "from_celery.py").read_text().replace('"BUSINESS_DETAILS"', '"seconds": 1, "BUSINESS_DETAILS"')
    assert run(url, [sys.executable, "-c", sleeps, "sleep"]).splitlines()[4:] == ["cancelled"]


def test_pika(url: str) -> None:
    said = run(url, [str(MADE / "test-python/bin/python"), str(CLIENTS / "with_pika.py"), "echo"])
    reply = json.loads(said)
    assert (reply["status"], BAKERY in reply["result"]["raw"]) == ("succeeded", True)


def test_amqplib(url: str) -> None:
    said = run(url, ["node", str(CLIENTS / "with_amqplib.js"), "echo"], NODE_PATH=str(MADE / "test-javascript/node_modules"))
    reply = json.loads(said)
    assert (reply["status"], BAKERY in reply["result"]["raw"]) == ("succeeded", True)


@pytest.fixture(scope="module")
def gateway(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URL of a gateway, and a token for `echo`."""
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "crewfleet.toml").write_text(
        f'[broker]\nurl = "{url}"\n[gateway]\naddr = "127.0.0.1:0"\nadmin_addr = "127.0.0.1:0"\ntokens_file = "{folder}/tokens.json"\n'
    )
    command = [str(PROGRAMS / "crewfleet"), "--config", str(folder / "crewfleet.toml")]
    token = subprocess.run([*command, "token", "create", "shop", "--crew", "echo"], check=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE_S)

    def address(line: str) -> str | None:
        said = json.loads(line) if line.startswith("{") else {}
        return f"http://{said['addr']}" if said.get("message") == "the gateway listens" else None

    for base in listening([*command, "gateway"], folder, {}, address):
        yield base, token.stdout.strip()


def test_curl(url: str, gateway: tuple[str, str]) -> None:
    base, token = gateway
    status = json.loads(run(url, [str(CLIENTS / "with_curl.sh")], GATEWAY_URL=base, GATEWAY_TOKEN=token))
    assert (status["state"], BAKERY in status["result"]) == ("SUCCESS", True)


@pytest.fixture(scope="module")
def service(url: str) -> Iterator[str]:
    """The URL of the FastAPI service."""
    environment = {"CREWFLEET__BROKER__URL": url, "PYTHONPATH": str(ROOT / "producer/python/src")}
    command = [sys.executable, "-m", "uvicorn", "--port", "0", "fastapi_service:app"]

    def address(line: str) -> str | None:
        return next((word for word in line.split() if word.startswith("http://")), None)

    yield from listening(command, CLIENTS, environment, address)


def ask(address: str, body: object = None) -> urllib.request.Request:
    """A call with a body of JSON."""
    data = None if body is None else json.dumps(body).encode()
    return urllib.request.Request(address, data, {"Content-Type": "application/json"})


def test_the_service_answers_202_and_gives_the_result(service: str) -> None:
    with urllib.request.urlopen(ask(f"{service}/crews/echo/kickoffs", {"topic": "tea"}), timeout=PATIENCE_S) as answer:
        assert answer.status == 202
        kickoff_id = json.load(answer)["kickoff_id"]
    with urllib.request.urlopen(ask(f"{service}/kickoffs/{kickoff_id}"), timeout=PATIENCE_S) as answer:
        assert "tea" in json.load(answer)["result"]


def test_the_service_cancels_the_crew_whose_caller_goes(service: str, url: str) -> None:
    with Fleet(url) as fleet:
        with urllib.request.urlopen(ask(f"{service}/crews/sleep/stream", {"seconds": 600}), timeout=PATIENCE_S) as answer:
            assert answer.readline() == b"kickoff_started\n"
            kickoff = fleet.attach(answer.headers["Kickoff-Id"])
        with pytest.raises(CrewCancelled):
            kickoff.result(timeout=PATIENCE_S)
