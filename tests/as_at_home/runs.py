"""Runs a project, in plain Python or on the fleet, against a model server of its own."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outcome import File, Outcome, file_of, made, snapshot
from project import Project

_HERE = Path(__file__).resolve().parent
_CHECKOUT = _HERE.parent.parent
# No run takes a tenth of it.
_PATIENCE_S = 240

# A port that nothing listens on: what asks the internet fails at once, at home and on the fleet in the same way.
_NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Tools:
    """What runs a project: the interpreter, the `crewfleet` command, and the broker's URL (None: one for each run)."""

    python: Path
    crewfleet: "Path | None" = None
    broker_url: "str | None" = None


class RunFailed(RuntimeError):
    """A run that gave no outcome at all; the message has the end of what it wrote."""


def at_home(project: Project, tools: Tools) -> Outcome:
    """Runs it as its user does."""
    with _place(project, tools) as place:
        result = place.folder / "result.json"
        command = [str(tools.python), str(_HERE / "at_home.py"), "--result", str(result)]
        if project.entry:
            command += ["--entry", project.entry]
        return place.outcome(command, result)


def on_the_fleet(project: Project, tools: Tools, inputs: "dict[str, Any] | None") -> Outcome:
    """Runs it by `crewfleet dev --once` in its folder."""
    with _place(project, tools) as place:
        given = place.folder / "inputs.json"
        given.write_text(json.dumps(inputs or {}))
        command = [str(tools.crewfleet), "dev", "--once", "--inputs", str(given)]
        if project.target:
            command += ["--target", project.target]
        output = place.run(command)
        lines = output.stdout.strip().splitlines()
        try:
            reply = json.loads(lines[-1])
        except (IndexError, json.JSONDecodeError) as error:
            raise RunFailed(f"{project.name} gave no reply on the fleet:\n{_tail(output)}") from error
        touched = [*place.files(), *place.gone()]
        return Outcome(**_replied(reply), inputs=inputs, touched=touched, **place.asked())


def by_client(project: Project, tools: Tools, module: str) -> Outcome:
    """Runs its own `main`, which imports its crew from `on_the_fleet`: that is `module`. A worker beside it serves the
    crew under the project's name."""
    with _place(project, tools) as place, place.worker():
        (place.root / "on_the_fleet.py").write_text(module)
        result = place.folder / "result.json"
        command = [str(tools.python), str(_HERE / "at_home.py"), "--result", str(result), "--also", "on_the_fleet:RemoteCrew"]
        return place.outcome(command, result)


def _replied(reply: "dict[str, Any]") -> "dict[str, Any]":
    """A reply as an outcome."""
    error = reply.get("error")
    if reply["status"] != "succeeded":
        said = f"{error.get('kind')}: {error.get('message')}" if error else None
        return {"status": "failed", "error": f"{reply['status']}: {said}"}
    result = reply["result"]
    return {
        "status": "succeeded",
        "raw": result["raw"],
        "json": result["json"],
        "tasks": [{"raw": task["raw"], "json": task["json"]} for task in result["tasks"]],
        "files": {file["path"]: _file(file) for file in result.get("files", ())},
        "usage": result["usage"].get("total_tokens", 0),
    }


def _file(file: "dict[str, Any]") -> File:
    content = file.get("content")
    if content is None:
        return File(file["sha256"], None)
    inline = file_of(base64.b64decode(content) if file.get("encoding") == "base64" else content.encode())
    if inline.sha256 != file["sha256"]:
        raise RunFailed(f"the reply's content of {file['path']} is not that of its sha256")
    return inline


class _Place:
    """A run's surroundings: a fresh home, a copy of the project always at the same path, and a model server."""

    def __init__(self, project: Project, tools: Tools, folder: Path, url: str) -> None:
        self.folder = folder
        self._project, self._tools, self._url = project, tools, url
        self.root = folder / "project"
        project.copy_to(self.root)
        self._before = snapshot(self.root)
        for name in ("home", "tmp"):
            (folder / name).mkdir()

    def run(self, command: "list[str]") -> "subprocess.CompletedProcess[str]":
        """Runs a command in the project's root."""
        try:
            return subprocess.run(
                command,
                cwd=self.root,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise RunFailed(f"{self._project.name} does not end: {' '.join(command)} ran for {_PATIENCE_S} s") from error

    def outcome(self, command: "list[str]", result: Path) -> Outcome:
        """Runs `at_home.py`, and reads what it has written down."""
        output = self.run(command)
        name = self._project.name
        if not result.exists():
            raise RunFailed(f"{name} gave no result at home:\n{_tail(output)}")
        said = json.loads(result.read_text())
        if said["status"] == "succeeded" and len(said["kickoffs"]) != 1:
            raise RunFailed(f"{name} has {len(said['kickoffs'])} kickoffs at home, not one:\n{_tail(output)}")
        kickoff = said["kickoffs"][-1] if said["kickoffs"] else {}
        return Outcome(said["status"], said["error"], files=self.files(), **kickoff, **self.asked())

    @contextmanager
    def worker(self) -> "Iterator[None]":
        """A worker that serves the project's crew under the project's name."""
        assert self._tools.crewfleet is not None
        config = self.folder / "crewfleet.toml"
        data = json.dumps(str(self.folder / "data"))
        crew = {"runner": "python", "python": str(self._tools.python), "target": self._project.target}
        lines = [f"{key} = {json.dumps(value)}" for key, value in crew.items()]
        config.write_text(
            f'[worker]\nadmin_addr = "127.0.0.1:0"\ndata_dir = {data}\n[crews.{self._project.name}]\n'
            + "\n".join([*lines, f"path = {json.dumps([str(self.root / 'src')])}", ""])
        )
        command = [str(self._tools.crewfleet.with_name("crewfleet-worker")), "--config", str(config)]
        with subprocess.Popen(command, cwd=self.root, env=self._environment(), stderr=subprocess.PIPE, text=True) as worker:
            assert worker.stderr is not None
            said = []
            for line in worker.stderr:
                said.append(line)
                if '"message":"ready"' in line:
                    break
            else:
                raise RunFailed(f"the worker of {self._project.name} ended:\n{''.join(said[-20:])}")
            # What it logs further is read, so that it never waits for us.
            rest = threading.Thread(target=worker.stderr.read)
            rest.start()
            try:
                yield
            finally:
                worker.terminate()
                rest.join()

    def files(self) -> "dict[str, File]":
        """What was made or changed below the root."""
        return made(self._before, snapshot(self.root))

    def gone(self) -> "list[str]":
        """What is no longer below the root."""
        return sorted(self._before.keys() - snapshot(self.root).keys())

    def asked(self) -> "dict[str, Any]":
        """What the model server was asked: the digests of the calls, and their tokens."""
        with urllib.request.urlopen(self._url[: -len("/v1")] + "/control/requests") as response:
            entries = [entry for entry in json.load(response) if entry["endpoint"] in ("chat", "responses")]
        answered = [entry["usage"] for entry in entries if entry["status"] == 200]
        tokens = sum(usage["prompt"] + usage["completion"] for usage in answered)
        return {"calls": sorted(entry["digest"] for entry in entries), "tokens": tokens}

    def _environment(self) -> "dict[str, str]":
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
        broker = {"CREWFLEET__BROKER__URL": self._tools.broker_url} if self._tools.broker_url else {}
        names = {"CREWFLEET__BROKER__NAMESPACE": f"home-{os.getpid()}-{self._project.name}"[:32].rstrip("-")} if broker else {}
        rabbitmq = {name: value for name, value in os.environ.items() if name == "CREWFLEET_RABBITMQ_BIN_DIR"}
        return {
            **kept,
            **broker,
            **names,
            **rabbitmq,
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "CREWFLEET_PYTHON": str(self._tools.python),
            "OPENAI_BASE_URL": self._url,
            "OPENAI_API_BASE": self._url,
            "OPENAI_API_KEY": "test",
            "SERPER_API_KEY": "test",
            "CREWAI_DISABLE_TELEMETRY": "true",
            "CREWAI_TRACING_ENABLED": "false",
            "CREWAI_DISABLE_VERSION_CHECK": "true",
            "CREWAI_DMN": "true",
            "OTEL_SDK_DISABLED": "true",
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), _NOWHERE),
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            **self._project.env,
        }


@contextmanager
def _place(project: Project, tools: Tools) -> "Iterator[_Place]":
    # The same path each time: it stands in prompts and in what tools answer.
    folder = Path(tempfile.gettempdir()) / f"as-at-home-{os.getpid()}-{project.name}"
    folder.mkdir()
    try:
        with _model_server(project, folder) as url:
            yield _Place(project, tools, folder, url)
    finally:
        shutil.rmtree(folder)


@contextmanager
def _model_server(project: Project, folder: Path) -> "Iterator[str]":
    script = folder / "script.json"
    script.write_text(json.dumps({"rules": project.script}))
    serve = _CHECKOUT / "tests" / "openai" / "serve.py"
    command = [sys.executable, str(serve), "--until-eof", "--script", str(script), "--tools", project.tools]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stdin is not None
        url = server.stdout.readline().strip()
        if not url:
            raise RunFailed(f"the model server for {project.name} did not start")
        try:
            yield url
        finally:
            server.stdin.close()


def _tail(output: "subprocess.CompletedProcess[str]") -> str:
    return "\n".join([*output.stdout.splitlines()[-20:], *output.stderr.splitlines()[-40:]])
