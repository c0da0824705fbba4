"""Imports a target and builds one crew of it, to learn what the worker must know before it serves that crew."""

from typing import Any

from . import crewai_setup, storage, tracebacks
from .chain import origins
from .guard import RanBeforeKickoff, nothing_runs
from .inputs import input_names
from .isolation import Isolation, observe_build
from .probe import run_in_fork
from .schema import inputs_schema
from .settings import Settings
from .target import Target, TargetError
from .targets.find import load, what_it_imports

# What is wrong with the code, or with what is installed: another try finds the same.
_MISTAKES = (ImportError, SyntaxError, NameError, AttributeError, TypeError, FileNotFoundError)


class Unusable(Exception):
    """A target that cannot be served; `error` is the object for the frame. `may_pass` says whether another try may go better,
    since a server was away, for one."""

    def __init__(self, error: dict[str, Any], may_pass: bool = False) -> None:
        super().__init__(error["message"])
        self.error = error
        self.may_pass = may_pass

    def report(self) -> dict[str, Any]:
        """The fields of the answer "checked"."""
        return {"ok": False, "error": self.error, "may_pass": self.may_pass}


def may_pass(error: BaseException | None) -> bool:
    """Whether what the crew's code raised may be over at another try. What is behind a mistake counts: a package may wrap what its
    server's absence raised."""
    if error is None:
        return False
    if not isinstance(error, _MISTAKES):
        return True
    return any(isinstance(cause, OSError) and not isinstance(cause, _MISTAKES) for cause in origins(error))


def inspect_target(settings: Settings) -> dict[str, Any]:
    """The fields of the answer "checked", for a process that is thrown away afterwards."""
    isolation = Isolation(settings)
    try:
        target = import_target(settings)
        isolation.look_at_import()
        crew, inputs = _sampled(target)
        required = _required(target, crew, inputs, settings)
        schema, left_out = inputs_schema(target, crew, inputs, required) if settings.tell_schema else (None, [])
        del crew
    except Unusable as unusable:
        return unusable.report()
    isolation.look_at_build()
    found = {"ok": True, "inputs": inputs, "required_inputs": required, "inputs_schema": schema, "crewai": crewai_setup.version(), **isolation.fields()}
    return {**found, "notes": [*found["notes"], *target.notes, *left_out]}


def import_target(settings: Settings) -> Target:
    """Applies `settings` and imports the target. Raises Unusable of kind "import_failed"."""
    settings.apply()
    storage.defer()
    try:
        with nothing_runs():
            target = load(settings)
        crewai_setup.settle(settings)
    except TargetError as error:
        raise Unusable(_error("import_failed", str(error), error.traceback), may_pass(error.raised)) from None
    except RanBeforeKickoff as ran:
        raise Unusable(_error("import_failed", _ran_at_import(settings.target, ran), None)) from None
    return target


def build_once(target: Target) -> list[str] | None:
    """Builds one crew, never kicks it off; returns the names of the inputs that are known to be needed, None where nothing is.

    Builds nothing where that takes inputs. Raises Unusable of kind "build_failed".
    """
    return _sampled(target)[1]


def rehearse(target: Target) -> dict[str, Any]:
    """Builds one crew in a fork that is thrown away; returns what `isolation.observe_build` saw. Raises Unusable of kind "build_failed"."""

    def rehearsal() -> dict[str, Any]:
        try:
            return observe_build(lambda: _sampled(target))
        except Unusable as unusable:
            return {"error": unusable.error, "may_pass": unusable.may_pass}

    report, ended = run_in_fork(rehearsal)
    if report is None:
        raise Unusable(_error("build_failed", f'target "{target.name}" was imported, but the process that built its crew died: {ended}', None), may_pass=True)
    if "error" in report:
        raise Unusable(report["error"], report["may_pass"])
    return report


def _sampled(target: Target) -> tuple[Any, list[str] | None]:
    """A crew, None where that takes inputs, and the names of the inputs. Raises Unusable."""
    try:
        with nothing_runs():
            sample = target.sample()
            own = input_names(sample) if sample is not None else None
            required = {*target.parameters.required, *(target.needs(sample, {}) if sample is not None else ())}
    except RanBeforeKickoff as ran:
        raise Unusable(_error("build_failed", _ran_at_build(target, ran), None)) from None
    except (Exception, SystemExit) as error:
        message = f'target "{target.name}" was imported, but building its crew raised {tracebacks.headline(error)}{what_it_imports(error)}'
        raise Unusable(_error("build_failed", message, tracebacks.formatted(error)), may_pass(error)) from None
    return sample, sorted({*(own or ()), *required}) if own is not None or required else None


def _required(target: Target, crew: Any, inputs: list[str] | None, settings: Settings) -> list[str] | None:
    """Those of `inputs` that only a request can give: no default does, and no callback before the kickoff might."""
    if inputs is None:
        return None
    left_as_written = settings.inputs == "lenient" or bool(getattr(crew, "before_kickoff_callbacks", None))
    in_texts = {*(input_names(crew) or ())} if crew is not None and left_as_written else set()
    to_build = {*target.parameters.required, *(target.needs(crew, {}) if crew is not None else ())}
    return [name for name in inputs if name not in target.defaults and (name in to_build or name not in in_texts)]


def _ran_at_import(target: str, ran: RanBeforeKickoff) -> str:
    importing = f"importing {ran.module}" if ran.module else f'importing the target "{target}"'
    did = "called a model" if ran.model else "ran a crew"
    return (
        f'{importing} {did}: {ran.place()} {ran.what} was called. Put that under `if __name__ == "__main__":`. Each check and each'
        " start would else do that; no model was reached"
    )


def _ran_at_build(target: Target, ran: RanBeforeKickoff) -> str:
    did = "called a model" if ran.model else "ran one"
    return (
        f'building the crew of the target "{target.name}" {did}: {ran.place()} {ran.what} was called. A factory only makes a crew, since'
        f" each check and each start calls it; no model was reached{target.nearest()}"
    )


def _error(kind: str, message: str, detail: str | None) -> dict[str, Any]:
    return {"kind": kind, "message": message, "retryable": False, "detail": detail}
