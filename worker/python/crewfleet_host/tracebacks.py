"""What is shown of an exception: what it is, where the crew's own code raised it, and a traceback without our frames."""

import importlib
import os
import sysconfig
import traceback

from .chain import origins, text_of

_HERE = os.path.dirname(os.path.abspath(__file__))
_OURS = (os.path.join(_HERE, ""), os.path.join(os.path.dirname(_HERE), "main.py"))
_IMPORTLIB = os.path.join(os.path.dirname(importlib.__file__), "")
_FROZEN = "<frozen importlib"
_LIBRARIES = tuple(os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib"))
_PACKAGES = frozenset(("site-packages", "dist-packages"))
_MARK = "pyproject.toml"


def formatted(error: BaseException) -> str:
    """The traceback of `error` and of all behind it, without frames of this package and of the machinery of imports."""
    whole = traceback.TracebackException.from_exception(error, compact=True)
    waiting: list[traceback.TracebackException | None] = [whole]
    seen: set[int] = set()
    while waiting:
        link = waiting.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        _leave_out(link.stack)
        waiting += [link.__cause__, link.__context__, *(getattr(link, "exceptions", None) or ())]
    return "".join(whole.format())


def headline(error: BaseException) -> str:
    """As in "ValueError: my model went away (src/poet/crew.py, line 10)"."""
    # A SyntaxError's own text has a place, too: the name of the file without its folder.
    text = error.msg if isinstance(error, SyntaxError) else text_of(error)
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    where = place(error)
    return f"{said} ({where})" if where else said


def place(error: BaseException) -> str | None:
    """The last line of the crew's own code in the traceback of `error`, else of what is behind it, as in
    "src/poet/crew.py, line 10"; None where there is none."""
    for link in origins(error):
        if isinstance(link, SyntaxError) and link.filename and link.lineno:
            return line_of(link.filename, link.lineno)
        lines = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(link.__traceback__)]
        own = [line for line in lines if _is_crews(line[0])]
        if own:
            return line_of(*own[-1])
    return None


def line_of(file: str, line: int | None) -> str:
    """A line of a file, whose path is the one below the project's folder, or the working directory, where there is one."""
    return f"{_below_project(file)}, line {line}" if line else _below_project(file)


def _leave_out(stack: traceback.StackSummary) -> None:
    """Where this package itself raised something, and was called by nobody else, that frame stays."""
    raised_here = [frame for frame in stack[-1:] if frame.filename.startswith(_OURS)]
    others = [frame for frame in stack if not frame.filename.startswith((*_OURS, _IMPORTLIB, _FROZEN))]
    stack[:] = others or raised_here


def _is_crews(file: str) -> bool:
    if file.startswith(("<", *_OURS)):
        return False
    return not file.startswith(_LIBRARIES) and not _PACKAGES & set(file.split(os.sep))


def _below_project(file: str) -> str:
    file = os.path.abspath(file)
    folder = os.path.dirname(file)
    while folder != os.path.dirname(folder):
        if os.path.isfile(os.path.join(folder, _MARK)):
            return os.path.relpath(file, folder)
        folder = os.path.dirname(folder)
    try:
        here = os.path.join(os.getcwd(), "")
    except OSError:  # the folder is gone
        return file
    return file[len(here) :] if len(here) > 1 and file.startswith(here) else file
