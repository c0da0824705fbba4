"""The differences between two runs of a project."""

from typing import Any

from outcome import File, Outcome

_LONGEST = 300


def differences(home: Outcome, fleet: Outcome) -> "list[str]":
    """One sentence for each difference that a user would see; none where the runs gave the same."""
    found = []
    if home.status != fleet.status:
        return [f"status: at home {_status(home)}, here {_status(fleet)}"]
    found += _results(home, fleet)
    found += _files(home.files, fleet.files)
    if home.calls != fleet.calls:
        found.append(_calls(home.calls, fleet.calls))
    for path in fleet.touched:
        found.append(f"the project's own {path} was changed in its place")
    if fleet.usage is not None and fleet.usage != fleet.tokens:
        found.append(f"usage: the reply says {fleet.usage} tokens, the model server counted {fleet.tokens}")
    return found


def _status(outcome: Outcome) -> str:
    return outcome.status if outcome.error is None else f"{outcome.status} ({outcome.error})"


def _results(home: Outcome, fleet: Outcome) -> "list[str]":
    if home.status == "failed":
        return []
    if home.returned == "nothing":
        # A flow that returns nothing has its state as its result; the id is the run's own.
        return _different("state", _without_id(home.state), _without_id(fleet.json if fleet.state is None else fleet.state))
    found = []
    if home.returned in ("crew", "text"):
        found += _different("text", home.raw, fleet.raw)
    if home.returned in ("crew", "value"):
        found += _different("json", home.json, fleet.json)
    if home.returned == "crew":
        found += _different("number of tasks", len(home.tasks), len(fleet.tasks))
        for number, (one, other) in enumerate(zip(home.tasks, fleet.tasks, strict=False), 1):
            for key in ("raw", "json"):
                found += _different(f"{key} of task {number}", one[key], other[key])
    return found


def _without_id(state: Any) -> Any:
    return {key: value for key, value in state.items() if key != "id"} if isinstance(state, dict) else state


def _different(what: str, one: Any, other: Any) -> "list[str]":
    return [] if one == other else [f"{what}: at home {_short(one)}, here {_short(other)}"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


def _files(home: "dict[str, File]", fleet: "dict[str, File]") -> "list[str]":
    found = [f"file {path}: made at home, missing here" for path in home.keys() - fleet.keys()]
    found += [f"file {path}: made here, not at home" for path in fleet.keys() - home.keys()]
    for path in home.keys() & fleet.keys():
        one, other = home[path], fleet[path]
        if one.sha256 != other.sha256 and (other.steady is None or one.steady != other.steady):
            found.append(f"file {path}: another content here")
    return sorted(found)


def _calls(home: "list[str]", fleet: "list[str]") -> str:
    only_home = [call for call in home if call not in fleet]
    only_fleet = [call for call in fleet if call not in home]
    return f"model calls: {len(home)} at home, {len(fleet)} here; only at home {only_home}, only here {only_fleet}"
