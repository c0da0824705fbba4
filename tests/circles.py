#!/usr/bin/env python3
"""Looks for circles among the files of a crate: files that import each other, directly or by way of others.

A file imports another one where a path that begins with `crate`, `self` or `super`, or with a module of its own, ends in
that file's module; a re-exported name is looked up where it stands. Tests at a file's end are left out.

    tests/circles.py [--edges] ROOT...      ROOT: a lib.rs or main.rs
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

WORD = r"[A-Za-z_][A-Za-z0-9_]*"
COMMENTS = re.compile(r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"', re.DOTALL)
TESTS = re.compile(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))?\s+)?mod\s+" + WORD + r"\s*\{")
MODULES = re.compile(r"^\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))?\s+)?mod\s+(" + WORD + r")\s*;", re.MULTILINE)
USES = re.compile(r"(pub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);")
VISIBILITY = re.compile(r"\bpub\(in [^)]*\)")
PATHS = re.compile(r"\b(?:crate|self|super)(?:\s*::\s*" + WORD + ")+")

Module = tuple[str, ...]


@dataclass
class File:
    """A file of a crate: its text, and the names that it re-exports."""

    path: Path
    text: str
    exports: dict[str, Module] = field(default_factory=dict)


def without_tests(text: str) -> str:
    """The text without comments, strings and inline test modules."""
    text = COMMENTS.sub(" ", text)
    while found := TESTS.search(text):
        depth, end = 1, found.end()
        while depth and end < len(text):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        text = text[: found.start()] + text[end:]
    return text


def read(root: Path) -> dict[Module, File]:
    """All files of the crate that begins with `root`, by their modules."""
    files: dict[Module, File] = {}
    todo: list[tuple[Module, Path, Path]] = [((), root, root.parent)]
    while todo:
        module, path, folder = todo.pop()
        text = without_tests(path.read_text(encoding="utf-8"))
        files[module] = File(path, text)
        for name in MODULES.findall(text):
            for child in (folder / f"{name}.rs", folder / name / "mod.rs"):
                if child.exists():
                    todo.append(((*module, name), child, folder / name))
    return files


def names(tree: str, prefix: Module = ()) -> Iterator[tuple[Module, str]]:
    """The paths of a `use`, each with the name that it gets."""
    tree = tree.strip()
    if tree.startswith("::"):
        return
    head, brace, rest = tree.partition("{")
    parts = tuple(part.strip() for part in head.split("::") if part.strip())
    if not brace:
        path, _, alias = tree.partition(" as ")
        parts = tuple(part.strip() for part in path.split("::"))
        if parts and parts[-1] == "self" and prefix:
            parts = parts[:-1]
        whole = prefix + parts
        if whole:
            yield whole, alias.strip() or whole[-1]
        return
    depth, start = 0, 0
    inner = rest[: rest.rindex("}")]
    for place, letter in enumerate(inner + ","):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            if inner[start:place].strip():
                yield from names(inner[start:place], prefix + parts)
            start = place + 1


def absolute(path: Module, module: Module, files: dict[Module, File]) -> Module | None:
    """A path from the crate's root; `None` for one of another crate."""
    first, rest = path[0], path[1:]
    if first == "crate":
        return rest
    if first == "self":
        return module + rest
    if first == "super":
        while rest and rest[0] == "super":
            module, rest = module[:-1], rest[1:]
        return module[:-1] + rest
    return module + path if (*module, first) in files else None


def target(path: Module, files: dict[Module, File], seen: frozenset[Module] = frozenset()) -> Module:
    """The module of the file that a path leads to."""
    module: Module = ()
    for place, name in enumerate(path):
        if (*module, name) in files:
            module = (*module, name)
            continue
        export = files[module].exports.get(name)
        if export is not None and export not in seen:
            return target(export + path[place + 1 :], files, seen | {export})
        break
    return module


def imports(files: dict[Module, File]) -> dict[Module, set[Module]]:
    """Which files import which."""
    used: dict[Module, list[Module]] = {}
    for module, file in files.items():
        used[module] = []
        for public, tree in USES.findall(file.text):
            for path, name in names(tree):
                if (whole := absolute(path, module, files)) is not None:
                    used[module].append(whole)
                    if public and name != "*":
                        file.exports[name] = whole
        for found in PATHS.findall(VISIBILITY.sub(" ", USES.sub(" ", file.text))):
            path = tuple(part.strip() for part in found.split("::"))
            if (whole := absolute(path, module, files)) is not None:
                used[module].append(whole)
    return {module: {end for path in paths if (end := target(path, files)) != module} for module, paths in used.items()}


def circles(edges: dict[Module, set[Module]]) -> list[list[Module]]:
    """The strongly connected components of more than one file (Tarjan)."""
    index: dict[Module, int] = {}
    low: dict[Module, int] = {}
    stack: list[Module] = []
    found: list[list[Module]] = []

    def visit(module: Module) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in edges[module]:
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            place = stack.index(module)
            if len(stack) - place > 1:
                found.append(sorted(stack[place:]))
            del stack[place:]

    for module in sorted(edges):
        if module not in index:
            visit(module)
    return found


def main() -> int:
    """Prints the circles of each crate; 1 where there is one."""
    arguments = sys.argv[1:]
    shows_edges = "--edges" in arguments
    failed = False
    for root in (Path(argument) for argument in arguments if argument != "--edges"):
        files = read(root)
        edges = imports(files)
        for circle in circles(edges):
            failed = True
            inside = set(circle)
            print(f"{root}: {len(circle)} files import each other:")
            for module in circle:
                others = sorted("::".join(other) or "(root)" for other in edges[module] & inside)
                print(f"  {files[module].path}" + (f" -> {', '.join(others)}" if shows_edges else ""))
    return int(failed)


if __name__ == "__main__":
    sys.setrecursionlimit(10_000)
    sys.exit(main())
