"""Functions that run a crew, as `run` of a project's main.py does: known by what they say, without calling them."""

import ast
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from .source import FACTORY, FLOW, RANKS, Candidate, Function, Module, Sources, own_nodes

_KICKOFFS = frozenset(
    ("kickoff", "kickoff_async", "akickoff", "kickoff_for_each", "kickoff_for_each_async", "akickoff_for_each", "handle_turn", "execute_sync")
)
# Words that other libraries use too; they count in a function of that name alone.
_OTHERS = frozenset(("train", "test", "replay", "plot"))
# How many functions deep the way to a kickoff may be.
_DEPTH = 5


@dataclass(frozen=True)
class Run:
    """A place where a crew is run: `method` is "kickoff"."""

    method: str
    file: str
    line: int


def run_in(made_by: Callable[..., Any], sources: Sources) -> Run | None:
    """Where a function, method or functools.partial runs a crew, itself or in a function that it calls; None where it doesn't,
    or where its source is not there and its code has none of the names."""
    function = plain_function(made_by)
    if function is None:
        return None
    module, node = _source_of(function, sources)
    if module is not None and node is not None:
        return _runs(module, node, sources, set())
    return _in_code(function.__code__)


def run_in_module(module: Module, name: str, sources: Sources) -> Run | None:
    """As run_in, for the function `name` of a module that is not imported."""
    node = module.function(name)
    return _runs(module, node, sources, set()) if node is not None else None


def used_by(made_by: Callable[..., Any], sources: Sources) -> list[Candidate]:
    """The crews, flows and factories that a function names, best first."""
    function = plain_function(made_by)
    module, node = _source_of(function, sources) if function is not None else (None, None)
    return used_in(module, node, sources) if module is not None and node is not None else []


def used_in(module: Module, function: Function, sources: Sources, depth: int = _DEPTH) -> list[Candidate]:
    """As used_by, for a function of a module that is not imported."""
    found: list[Candidate] = []
    for name in dict.fromkeys(node.id for node in ast.walk(function) if isinstance(node, ast.Name)):
        resolved = sources.resolve(module, name)
        if resolved is None:
            continue
        there, original = resolved
        defined = next((candidate for candidate in there.candidates() if candidate.name == original), None)
        called = there.function(original)
        if defined is not None and not (defined.kind == FACTORY and run_in_module(there, original, sources)):
            found.append(defined)
        elif called is not None and called is not function and depth:
            found += used_in(there, called, sources, depth - 1)
    return sorted(dict.fromkeys(found), key=lambda candidate: RANKS[candidate.kind] - (candidate.kind == FLOW) * 0.5)


def plain_function(made_by: Any) -> FunctionType | None:
    """The function behind decorators, partials, bound methods and objects that can be called; None for what is written in C."""
    for _ in range(20):
        if isinstance(made_by, functools.partial):
            made_by = made_by.func
        elif inspect.ismethod(made_by):
            made_by = made_by.__func__
        elif hasattr(made_by, "__wrapped__"):
            made_by = made_by.__wrapped__
        elif isinstance(made_by, FunctionType) or inspect.isclass(made_by):
            break
        else:
            made_by = getattr(type(made_by), "__call__", None)  # noqa: B004  the function itself is wanted
    return made_by if isinstance(made_by, FunctionType) else None


def _source_of(function: FunctionType, sources: Sources) -> tuple[Module | None, Function | None]:
    file = function.__code__.co_filename
    module = sources.read(function.__module__ or "", file) if file.endswith(".py") else None
    return module, module.function_at(function.__code__.co_firstlineno) if module is not None else None


def _runs(module: Module, function: Function, sources: Sources, seen: set[int]) -> Run | None:
    if id(function) in seen or len(seen) > 10 * _DEPTH:
        return None
    seen.add(id(function))
    nodes = list(own_nodes(function))
    for node in nodes:
        if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
            continue
        if node.attr in _KICKOFFS or (node.attr in _OTHERS and node.attr in function.name):
            return Run(node.attr, module.file, node.lineno)
    for there, called in _called(module, function, nodes, sources):
        run = _runs(there, called, sources, seen)
        if run is not None:
            return run
    return None


def _called(module: Module, function: Function, nodes: list[ast.AST], sources: Sources) -> Iterator[tuple[Module, Function]]:
    """The functions and methods that a function calls, as far as their source is below the roots."""
    inner = {node.name: node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    of_class = {
        target.id: node.value.func.id
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            if node.func.id in inner:
                yield module, inner[node.func.id]
            else:
                yield from _functions_named(module, node.func.id, sources)
        elif isinstance(node.func, ast.Attribute):
            holder = node.func.value
            there = sources.imported(module, holder.id) if isinstance(holder, ast.Name) else None
            if there is not None:
                yield from _functions_named(there, node.func.attr, sources)
                continue
            if isinstance(holder, ast.Call):
                holder = holder.func
            if isinstance(holder, ast.Name):
                yield from _methods_named(module, of_class.get(holder.id, holder.id), node.func.attr, sources)


def _functions_named(module: Module, name: str, sources: Sources) -> Iterator[tuple[Module, Function]]:
    resolved = sources.resolve(module, name)
    found = resolved[0].function(resolved[1]) if resolved is not None else None
    if resolved is not None and found is not None:
        yield resolved[0], found


def _methods_named(module: Module, class_name: str, name: str, sources: Sources) -> Iterator[tuple[Module, Function]]:
    resolved = sources.resolve(module, class_name)
    if resolved is None:
        return
    holder, class_ = resolved[0], resolved[0].class_(resolved[1])
    for part in class_.body if class_ is not None else ():
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)) and part.name == name:
            yield holder, part


def _in_code(code: CodeType) -> Run | None:
    """By the names in compiled code, where there is no source."""
    method = next((name for name in code.co_names if name in _KICKOFFS), None)
    return Run(method, code.co_filename, code.co_firstlineno) if method is not None else None
