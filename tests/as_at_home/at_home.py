"""Runs a project as its user does at home, and writes down what its kickoff returned.

    python at_home.py --result FILE [--entry MODULE:FUNCTION] [--also MODULE:CLASS]

The working directory is the project's root. Without --entry it is what `crewai run` runs: the definition that
pyproject.toml names, else its script `run_crew`, `kickoff` or the one of the project's name. FILE gets
`{"status", "error", "kickoffs": [{"inputs", "returned", "raw", "json", "tasks", "state", "shape"}]}`, one kickoff
for each that runs in no other. --also names a class whose kickoffs count as those of CrewAI's classes do."""

import argparse
import importlib
import json
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import tomllib


class Recorder:
    """Wraps the kickoffs of crews and flows, and records those that run in no other of this process."""

    def __init__(self) -> None:
        self.kickoffs: list[dict[str, Any]] = []
        self._running = 0
        self._lock = threading.Lock()

    def install(self, also: "str | None") -> None:
        """Wraps the methods of CrewAI's classes, and of another one."""
        from crewai import Crew
        from crewai.flow.flow import Flow

        owners = [Crew, Flow]
        if also:
            module, _, name = also.partition(":")
            owners.append(getattr(importlib.import_module(module), name))
        for owner in owners:
            for name in ("kickoff", "kickoff_async", "akickoff"):
                method = getattr(owner, name)
                is_async = name != "kickoff"
                setattr(owner, name, self._awaited(method) if is_async else self._called(method))

    def _called(self, method: Any) -> Any:
        def kickoff(this: Any, *arguments: Any, **named: Any) -> Any:
            record = self._begin(this, arguments, named)
            try:
                return self._end(record, this, method(this, *arguments, **named))
            finally:
                self._leave()

        return kickoff

    def _awaited(self, method: Any) -> Any:
        async def kickoff(this: Any, *arguments: Any, **named: Any) -> Any:
            record = self._begin(this, arguments, named)
            try:
                return self._end(record, this, await method(this, *arguments, **named))
            finally:
                self._leave()

        return kickoff

    def _begin(self, _this: Any, arguments: Any, named: Any) -> "dict[str, Any] | None":
        inputs = named.get("inputs", arguments[0] if arguments else None)
        with self._lock:
            self._running += 1
            if self._running > 1:
                return None
            record: dict[str, Any] = {"inputs": _plain(inputs)}
            self.kickoffs.append(record)
            return record

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1

    def _end(self, record: "dict[str, Any] | None", this: Any, output: Any) -> Any:
        if record is not None:
            record.update(_described(output))
            record["state"] = _plain(getattr(this, "state", None))
        return output


def _described(output: Any) -> dict[str, Any]:
    if hasattr(output, "tasks_output"):
        tasks = [{"raw": task.raw, "json": _structured(task)} for task in output.tasks_output]
        return {"returned": "crew", "raw": output.raw, "json": _structured(output), "tasks": tasks, "shape": _shape(output)}
    if isinstance(output, str):
        return {"returned": "text", "raw": output, "json": None, "tasks": []}
    value = _plain(output)
    return {"returned": "nothing" if output is None else "value", "raw": None, "json": value, "tasks": []}


def _shape(output: Any) -> dict[str, str]:
    """The types of a result's parts. `pydantic` is left out: only who names the model has it."""
    first = output.tasks_output[0] if output.tasks_output else None
    parts = {
        "result": output,
        "raw": output.raw,
        "json_dict": output.json_dict,
        "tasks_output": output.tasks_output,
        "task": first,
        "agent of a task": getattr(first, "agent", None),
        "description of a task": getattr(first, "description", None),
        "expected_output of a task": getattr(first, "expected_output", None),
        "output_format of a task": getattr(first, "output_format", None),
        "token_usage": output.token_usage,
        "text": str(output),
    }
    return {name: f"{type(part).__module__}.{type(part).__qualname__}" for name, part in parts.items()}


def _structured(output: Any) -> Any:
    return _plain(output.json_dict if output.json_dict is not None else output.pydantic)


def _plain(value: Any) -> Any:
    """The value as JSON has it."""

    def other(thing: Any) -> Any:
        if hasattr(thing, "model_dump"):
            return thing.model_dump(mode="json")
        return sorted(thing, key=repr) if isinstance(thing, (set, frozenset)) else str(thing)

    return json.loads(json.dumps(value, default=other))


def main() -> None:
    """Runs the project; the exit code is 0 also where it failed, since FILE says that."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--result", required=True)
    parser.add_argument("--entry")
    parser.add_argument("--also")
    options = parser.parse_args()
    root = Path.cwd()
    # An installed project is on the path by its package's folder; `python -m` puts the working directory there too.
    sys.path[:0] = [str(root / "src"), str(root)]
    sys.argv = ["run"]
    recorder = Recorder()
    recorder.install(options.also)
    said: dict[str, Any] = {"status": "succeeded", "error": None}
    try:
        _run(root, options.entry)
    except SystemExit as error:
        if error.code not in (None, 0):
            said = {"status": "failed", "error": f"SystemExit: {error.code}"}
    except BaseException as error:
        traceback.print_exc()
        said = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    Path(options.result).write_text(json.dumps({**said, "kickoffs": recorder.kickoffs}, ensure_ascii=False))


def _run(root: Path, entry: "str | None") -> None:
    pyproject = tomllib.loads((root / "pyproject.toml").read_text())
    configured = pyproject.get("tool", {}).get("crewai", {})
    if entry is None and "definition" in configured:
        # What `crewai run` does inside of the project's environment, where it doesn't draw on a terminal.
        if configured.get("type") == "flow":
            from crewai_cli.run_declarative_flow import run_declarative_flow

            run_declarative_flow(definition=configured["definition"])
        else:
            from crewai_cli.run_crew import _run_json_crew

            _run_json_crew(crew_path=root / configured["definition"])
        return
    from dotenv import load_dotenv

    load_dotenv(root / ".env")
    module, _, function = (entry or _script(pyproject)).partition(":")
    getattr(importlib.import_module(module), function)()


def _script(pyproject: dict[str, Any]) -> str:
    scripts = pyproject["project"]["scripts"]
    names = ("run_crew", "kickoff", pyproject["project"]["name"].replace("-", "_"))
    return next(scripts[name] for name in names if name in scripts)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    # As an interpreter ends: joins threads, runs exit handlers.
    sys.exit(0)
